"""What a run reads from the cache, computed ahead of it."""

import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from dal.data import Rows, Splits
from dal.experiments.console import Quiet, reading
from dal.experiments.experiment import Experiment
from dal.experiments.interrupts import interruptible
from dal.learner import Learner

_PARTS = ("pool", "test", "validation")


@dataclass(frozen=True)
class CachedPart:
    """A part of the data whose values are in the cache.

    Attributes:
        part: "pool", "test" or "validation".
        learner: name of the learner that reads them.
        rows: number of its rows.
        computed: number of values that were computed for it, by kind.
        seconds: duration, tokenizing included.
    """

    part: str
    learner: str
    rows: int
    computed: Mapping[str, int]
    seconds: float


def cached_kinds(experiment: Experiment) -> frozenset[str]:
    """Kinds of values that the learners of an experiment keep in the cache."""
    return experiment.learner.caches | (experiment.successor.caches if experiment.successor else frozenset())


def fill_cache(experiment: Experiment, reporter: Quiet, again: str) -> Iterator[CachedPart]:
    """Compute and store what a run reads from the cache, part by part of its data.

    Args:
        experiment: the experiment.
        reporter: reporter of the progress.
        again: advice for going on, for the message after an interruption.

    Yields:
        Each part when its values are stored.

    Raises:
        DalError: the experiment could not be run, a model cannot be loaded, or the cache cannot be written to.
        Interrupted: Ctrl-C was pressed, or a scheduler asked for the end. What was computed is stored.
    """
    reporter.stage(reading(experiment.data))
    splits = experiment.load()
    experiment.check_rows(splits.pool)
    work = list(_work(experiment, splits))
    reporter.plan(len(work), "parts")
    for learner, part, rows, names in work:
        start = time.perf_counter()
        reporter.stage(f"reading the tokens of the {part}, {len(rows):,} texts")
        prepared = learner.prepare(rows)  # stores segment by segment, and may be interrupted at any time
        reporter.stage(f"filling the cache for the {part}")
        with interruptible(None, again=again) as check:
            computed = learner.fill_cache(prepared, names, monitor=reporter.monitor(check))
        reporter.part_done()
        yield CachedPart(part, type(learner).__name__, len(rows), computed, time.perf_counter() - start)


def _work(experiment: Experiment, splits: Splits) -> Iterator[tuple[Learner, str, Rows, frozenset[str]]]:
    """Each learner and part of the data, and the outputs of all of its rows that a run may read."""
    scored = frozenset({"logits"})
    # With candidates, which rows a pass reads is decided in the run.
    passed = scored if experiment.candidates is None else frozenset[str]()
    names = {
        "learner": {"pool": passed | {"embeddings"}, "test": scored, "validation": scored},
        "successor": {"pool": frozenset[str](), "test": scored},  # trained on labeled rows only
    }
    for role, learner in (("learner", experiment.learner), ("successor", experiment.successor)):
        if learner is None or not learner.caches:
            continue
        for part in _PARTS:
            rows = getattr(splits, part)
            if part in names[role] and rows is not None and len(rows):
                yield learner, part, rows, names[role][part]
