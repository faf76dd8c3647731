"""Checks of an experiment's settings, before it runs and when its data is loaded."""

import dataclasses
import math
import os
from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING, Any

from dal.data import Rows, Splits
from dal.data.class_descriptions import is_code
from dal.errors import ConfigError, DataError, printable, shortened
from dal.experiments.candidate_text import size_text
from dal.experiments.folder_config import PRICES
from dal.learner import Learner
from dal.objective import Objective, RecallOf, check_objective
from dal.oracle import Oracle
from dal.oracles.weak_labels import LLMWeakLabels
from dal.session.checked_arguments import is_whole, loaded, require_kind
from dal.stopping.rule import StoppingRule
from dal.strategies.candidates import Candidates, as_candidates
from dal.strategy import Strategy

if TYPE_CHECKING:
    from dal.experiments.experiment import Experiment

#: Maximum number of seeds; each is a cell with a folder of its own.
MAX_SEEDS = 10_000


def check_settings(experiment: "Experiment") -> list[int]:
    """Check the types and ranges of all settings, so that no error appears in the middle of a run; return the seeds.

    Raises:
        ConfigError: a setting is of another type or out of range.
    """
    _check_kinds(experiment)
    at_least_0 = ("rounds", "pool_sample", "recall_every", "successor_every", "successor_sample")
    for name, least in (("start", 1), ("batch", 1), *((name, 0) for name in at_least_0)):
        value = getattr(experiment, name)
        if not is_whole(value) or value < least:
            raise ConfigError(f"{name} must be at least {least}, got {value!r}")
    for name in PRICES:
        price = getattr(experiment, name)
        if price is not None and not (isinstance(price, int | float) and 0 <= price < math.inf):
            raise ConfigError(f"{name} must be at least 0, got {price!r}")
    as_candidates(experiment.candidates)
    given = experiment.seeds
    seeds = list(given) if isinstance(given, Iterable) and not isinstance(given, str) else []
    if len(seeds) > MAX_SEEDS:
        raise ConfigError(f"seeds: {len(seeds):,} are more than the {MAX_SEEDS:,} that a run may have")
    if not seeds or not all(map(is_whole, seeds)) or min(seeds) < 0 or len(set(seeds)) != len(seeds):
        raise ConfigError(
            f"seeds must be distinct numbers that are not negative, at least one, got {shortened(repr(given))}"
        )
    return seeds


def _check_kinds(experiment: "Experiment") -> None:
    """Check the types of all parts."""
    data: Any = experiment.data
    if isinstance(data, type) or not (hasattr(data, "load") or hasattr(data, "pool")):
        loaded(data)  # raises the error
    require_kind(experiment.learner, Learner, "learner", "ProbeLearner()")
    require_kind(experiment.strategy, Strategy, "strategy", "Margin()")
    require_kind(experiment.cold_start, Strategy, "cold_start", "Random()")
    optional: tuple[tuple[str, Any, str], ...] = (
        ("baseline", Strategy, "Random()"),
        ("oracle", Oracle, "Simulated()"),
        ("weak_labels", LLMWeakLabels, "LLMWeakLabels(labeler)"),
        ("stop", StoppingRule, "Labels(max_labels=200)"),
        ("successor", Learner, "TfidfLearner()"),
        ("candidates", int | Candidates, "1000"),
        ("folder", str | os.PathLike, "'my-run'"),
    )
    for name, kind, example in optional:
        value = getattr(experiment, name)
        if value is not None:
            require_kind(value, kind, name, example)
    if experiment.folder is not None and not str(experiment.folder):
        raise ConfigError("folder is empty: name a folder, or leave it out to keep everything in memory")


def check_pool_size(experiment: "Experiment", pool: Rows, oracle: Oracle) -> None:
    """Check that the pool has enough rows to query.

    Raises:
        DataError: it has fewer rows than the labels to ask for.
    """
    advice = "lower start, batch or rounds, or give more rows"
    if oracle.hides_labels:
        wanted = experiment.start + experiment.rounds * experiment.batch
        if len(pool) < wanted:
            raise DataError(f"{pool.source} has {len(pool)} rows, fewer than the {wanted} labels asked for: {advice}")
        return
    given = int(pool.known.sum())
    wanted, left = experiment.rounds * experiment.batch + (0 if given else experiment.start), len(pool) - given
    if left >= wanted:
        return
    answerer = type(oracle).__name__
    if not left:
        raise DataError(
            f"all {len(pool)} rows of {pool.source} have a label already, and {answerer} is only asked for rows "
            f"without one: give rows without a label, hide the labels (hide_labels: true, where {answerer} has "
            "it), or leave out the oracle, so that the labels in the data are hidden and answer"
        )
    raise DataError(
        f"{pool.source} has {left} rows without a label, fewer than the {wanted} labels asked for of {answerer}: "
        f"{advice}"
    )


def check_labels_known(pool: Rows) -> None:
    """Check that the data can answer for every row of the pool.

    Raises:
        ConfigError: a row has no label.
    """
    missing = int((~pool.known).sum())
    if missing:
        raise ConfigError(
            f"{missing} of {len(pool)} rows of the pool have no label, so nobody can answer for them: give "
            "an oracle, or let a person answer with `dal ask` and `dal tell`"
        )


def with_objective(learner: Learner, objective: Objective) -> Learner:
    """Return the learner with an objective, as far as it and the learners inside it take one and have none."""
    changed: dict[str, Any] = {}
    fields: tuple[Any, ...] = dataclasses.fields(learner) if dataclasses.is_dataclass(learner) else ()
    for field in fields:
        value = getattr(learner, field.name)
        if field.name == "objective" and value is None:
            changed[field.name] = objective
        elif isinstance(value, Learner):  # that of the members of a committee
            changed[field.name] = with_objective(value, objective)
    return dataclasses.replace(learner, **changed) if changed else learner  # type: ignore[type-var]


def check_objectives(experiment: "Experiment", pool: Rows) -> None:
    """Check that the objectives of an experiment and of its learners are defined for the data.

    Raises:
        ConfigError: one is not, for example because there is no such class.
    """
    for objective in (
        experiment.objective,
        *(getattr(each, "objective", None) for each in _learners([experiment.learner, experiment.successor])),
    ):
        check_objective(objective, pool.classes, multilabel=pool.multilabel)


def start_notes(experiment: "Experiment", data: Splits) -> list[str]:
    """The lines at the start of a run or a comparison about settings that are valid but may not be meant."""
    notes = (
        undescribed_codes(experiment, data.pool),
        unmeasured_objective(experiment, data),
        size_text(experiment.candidates, len(data.pool) - experiment.start),
    )
    return [note for note in notes if note]


def unmeasured_objective(experiment: "Experiment", data: Splits) -> str | None:
    """A line about an objective whose class no test row has, so that it is undefined in every round; else None."""
    objective, test = experiment.objective, data.test
    if not isinstance(objective, RecallOf) or test is None:
        return None
    code, labels = test.classes.index(objective.recall_of), test.labels[test.known]
    if bool((labels[:, code] if test.multilabel else labels == code).any()):
        return None
    return (
        f"no test row has the class {printable(objective.recall_of)}, so the {objective.name} is not measured: give "
        "data.test rows of it, or choose another objective"
    )


def undescribed_codes(experiment: "Experiment", pool: Rows) -> str | None:
    """A line about class names that are codes without a description, if a learner reads descriptions; else None.

    Learners inside the oracle and the weak labels count, too.
    """
    answering = _learners([experiment.learner, experiment.oracle, experiment.weak_labels])
    own_descriptions = [getattr(each, "descriptions", {}) for each in answering if each.reads_descriptions]
    codes = [
        name
        for name, texts in zip(pool.classes, pool.described, strict=True)
        if not texts and is_code(name) and not all(name in own for own in own_descriptions)
    ]
    if not codes:
        return None
    some = ", ".join(printable(name, 20) for name in codes[:3]) + (", ..." if len(codes) > 3 else "")
    problem, them, what = f"the names of {len(codes)} classes ({some}) say nothing", "them", "descriptions"
    if len(codes) == 1:
        problem, them, what = f"the name of 1 class ({some}) says nothing", "it", "description"
    return (
        f"{problem}: describe {them} (data.descriptions), and the model starts from the {what}; see "
        "docs/descriptions.md"
    )


def _learners(part: Any) -> Iterator[Learner]:
    """A part itself and the parts inside it, as far as they are learners."""
    if isinstance(part, Learner):
        yield part
    elif isinstance(part, list | tuple):
        for each in part:
            yield from _learners(each)
    elif dataclasses.is_dataclass(part) and not isinstance(part, type):
        for field in dataclasses.fields(part):
            yield from _learners(getattr(part, field.name))
