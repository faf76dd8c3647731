"""Conformance checks for candidate generators: one function per requirement."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from dal.errors import ConfigError, NeedError, SelectionError
from dal.outputs import Outputs, closure
from dal.strategies.candidates import CandidateQuery, Candidates, candidate_rows, check_schedule
from dal.testing.conformance_report import Check, CheckFailure, Report, error_summary, run_checks
from dal.testing.real_loop import CLASSES, LABELED, ROWS, check_loop, small_learner, small_task
from dal.testing.values import (
    check_names,
    check_plain,
    check_untouched,
    check_value,
    drawn_from,
    global_randomness,
    report_on,
    state_of,
)


@dataclass(frozen=True, eq=False)
class Pool:
    """A pool of vectors, part of which is labeled.

    Attributes:
        rows: number of rows of the data.
        labeled: number of labeled rows, which come first.
        n: number of rows that will be selected.
        classes: number of classes among the labels.
        multilabel: whether the labels are sets of classes.
    """

    rows: int = ROWS
    labeled: int = LABELED
    n: int = 5
    classes: int = CLASSES
    multilabel: bool = False

    def query(self, generator: Candidates, seed: int = 1, memory: dict[Any, Any] | None = None) -> CandidateQuery:
        """A new query for the generator, with the same rows in each call."""
        data = small_task(max(self.rows, CLASSES))
        learner = small_learner()
        prepared = learner.prepare(data.pool)
        names, declaration = frozenset(generator.needs), f"{type(generator).__name__}.needs"
        kept = frozenset(generator.keeps)
        known = torch.arange(min(LABELED, self.rows))  # a pass is kept in rounds with a trained model only
        trained = learner.fit(prepared, known, data.pool.labels[known], seed=0) if kept else None

        def read_kept(rows: Tensor) -> Outputs:
            assert trained is not None
            outputs = trained.outputs(prepared, rows, kept)
            half = {name: outputs[name].half().float() for name in kept}
            return Outputs(half, length=len(rows)).declare(kept, f"{type(generator).__name__}.keeps")

        labels: Tensor = torch.arange(self.labeled) % self.classes
        if self.multilabel:
            labels = torch.nn.functional.one_hot(labels, CLASSES).bool()
        return CandidateQuery(
            unlabeled=torch.arange(self.labeled, self.rows),
            labeled=torch.arange(self.labeled),
            labels=labels,
            n=self.n,
            generator=torch.Generator().manual_seed(seed),
            size=self.rows,
            read=lambda rows: learner.untrained(prepared).outputs(prepared, rows, names).declare(names, declaration),
            memory={} if memory is None else memory,
            read_kept=read_kept if kept else None,
        )


def drawn(generator: Candidates, query: CandidateQuery, where: str) -> Tensor:
    """The validated rows that a generator drew, or a `CheckFailure` that names the case."""
    try:
        return candidate_rows(generator, query)
    except (NeedError, SelectionError) as error:
        raise CheckFailure(f"{error} ({where})") from error
    except Exception as error:
        raise CheckFailure(f"{error_summary(error)} ({where})") from error


def check_generator_declaration(generator: Candidates) -> None:
    """`needs` is a plain set of names that need no training, `keeps` one of vectors of a trained model."""
    check_plain(generator, ("needs", "keeps", "paper", "advice"))
    check_names(generator, ("needs", "keeps"))
    offered = closure(small_learner().label_free) | {"surprisal"}
    if unknown := sorted(frozenset(generator.needs) - offered):
        raise CheckFailure(f"needs has {', '.join(unknown)}: only {', '.join(sorted(offered))} need no training")
    vectors = {"features", "embeddings", "logits", "probs", "log_probs"}
    if unknown := sorted(frozenset(generator.keeps) - vectors):
        raise CheckFailure(f"keeps has {', '.join(unknown)}: a vector for each row have {', '.join(sorted(vectors))}")
    if generator.keeps:
        try:
            check_schedule(generator)
        except ConfigError as error:
            raise CheckFailure(str(error)) from None


def check_cases(generator: Candidates) -> None:
    """Distinct int64 rows of those that can be asked, for every kind of pool."""
    cases = {
        "an ordinary pool": Pool(),
        "nothing labeled": Pool(labeled=0),
        "one labeled": Pool(labeled=1),
        "n = 1": Pool(n=1),
        "n rows left": Pool(rows=20, n=8),
        "one row more than n": Pool(rows=18, n=5),
        "labels of one class": Pool(classes=1),
        "multi-label": Pool(multilabel=True),
    }
    for name, pool in cases.items():
        query = pool.query(generator)
        count = len(drawn(generator, query, name))
        if count < pool.n:
            raise CheckFailure(f"{count} rows for a batch of {pool.n} ({name})")


def check_generator_seed(generator: Candidates) -> None:
    """The same query draws the same rows, with and without a memory; the global generators are not used."""
    memory: dict[Any, Any] = {}
    first = drawn(generator, Pool().query(generator, memory=memory), "a query")
    drawn(generator, Pool(labeled=6).query(generator, seed=9, memory=memory), "another query in between")
    for label, kept in (("with the memory of other rounds", memory), ("with an empty memory", {})):
        if not torch.equal(first, drawn(generator, Pool().query(generator, memory=kept), label)):
            raise CheckFailure(f"the same query drew other rows {label}: use query.generator, and memory to save work")
    for seed in (3, 4):
        query = Pool().query(generator)
        with global_randomness(seed):
            before = drawn_from()
            rows = drawn(generator, query, "a query")
            check_untouched(before, "choose")
        if not torch.equal(rows, first):
            raise CheckFailure("the rows depend on the global random state: draw from query.generator only")


def check_generator_loop(generator: Candidates) -> None:
    """A real session with the generator repeats its choices after it is opened again."""
    from dal.strategies.uncertainty import Margin

    check_loop(Margin(), candidates=generator)


def check_generator_value(generator: Candidates) -> None:
    """A frozen dataclass, equal by value, which drawing does not change."""
    check_value(generator)
    before = state_of(generator)
    drawn(generator, Pool().query(generator), "a query")
    if state_of(generator) != before:
        raise CheckFailure("choose changed the generator itself: keep what lasts in query.memory")


#: Name -> check, in order of execution.
CANDIDATE_CHECKS: Mapping[str, Check] = {
    "declaration": check_generator_declaration,
    "every kind of pool": check_cases,
    "same seed, same rows": check_generator_seed,
    "real loop": check_generator_loop,
    "value": check_generator_value,
}


def candidate_report(generator: Candidates | type[Candidates]) -> Report:
    """Run all checks on a candidate generator and return the report. Failed checks do not raise.

    Args:
        generator: instance, or class that can be created without arguments.
    """

    def run(subject: str, made: Candidates) -> Report:
        return run_checks(subject, CANDIDATE_CHECKS, made, first=("declaration",))

    return report_on(generator, Candidates, "dal.Candidates", run)


def check_candidate_generator(generator: Candidates | type[Candidates]) -> Report:
    """Run `candidate_report` and raise if a check failed.

    Raises:
        ConformanceError: a check failed; the message lists the failures, `error.report` holds all results.
    """
    return candidate_report(generator).require()
