"""One choice of rows: from a model and a strategy, in one pass, to the questions to ask."""

import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from enum import IntEnum
from typing import Any

import numpy as np
import torch
from torch import Tensor

from dal.errors import ConfigError, NeedError, shortened
from dal.learner import Learner, Monitor, Predictor, Prepared
from dal.memory import SessionMemory
from dal.outputs import Outputs, closure, listing
from dal.strategy import Query, Selection, Strategy, all_needs, choose, name_of

_RECHECKED = 4  # times n: the rows of a pass in reduced precision that are scored again exactly
_TARGETS = 1000  # rows that stand for the pool where a strategy reads a target


class Stream(IntEnum):
    """What a random seed is for: the third part of (seed, round, stream)."""

    FIT = 0
    PASS = 1
    SELECT = 2
    CANDIDATES = 3
    TARGET = 4
    EVALUATE = 5
    DUPLICATES = 6


@dataclass(frozen=True)
class Seeds:
    """The random numbers of one round: `seed` and `round` decide all of them, a stream of its own for each use."""

    seed: int
    round: int

    def number(self, stream: Stream) -> int:
        """A 32-bit seed, different for every (seed, round, stream)."""
        return int(np.random.SeedSequence((self.seed, self.round, int(stream))).generate_state(1)[0])

    def generator(self, stream: Stream) -> torch.Generator:
        """A generator on the CPU, at the start of its stream."""
        return torch.Generator().manual_seed(self.number(stream))

    def sample(self, size: int, count: int, stream: Stream) -> Tensor:
        """`count` of the numbers below `size`, ascending; all of them when there are no more."""
        if count >= size:
            return torch.arange(size)
        return torch.randperm(size, generator=self.generator(stream))[:count].sort().values


@dataclass(frozen=True, eq=False)
class Asked:
    """A batch of questions and what is known of the choice.

    Attributes:
        round: which batch it was, counted from 1.
        rows: (n,) int64 in the pool, best first.
        scores: (n,) float64, what made them win; None when nothing did.
        notes: the strategy's figures about the whole choice.
        strategy: the class name of the strategy that acted.
        candidates: how many rows it could choose from.
        near_duplicates: share of the batch, 0 to 1, that has a near-duplicate within the batch.
        seconds: of this choice, for "pass" and "select", and "measure" for what was measured of it.
        why: in words, why the strategy that acted did, or acted in this way; empty where there was no other.
        uncertainty: how unsure the model of that moment was of the rows, 0 to 1; None where that was not measured.
    """

    round: int
    rows: Tensor
    scores: Tensor | None
    notes: Mapping[str, float] = field(default_factory=dict)
    strategy: str = ""
    candidates: int = 0
    near_duplicates: float = 0.0
    seconds: Mapping[str, float] = field(default_factory=dict)
    why: str = ""
    uncertainty: float | None = None

    @property
    def details(self) -> dict[str, Any]:
        """What the store keeps besides rows, scores and strategy, by name, as JSON can hold it."""
        return {
            "notes": dict(self.notes),
            "candidates": self.candidates,
            "near_duplicates": self.near_duplicates,
            "seconds": dict(self.seconds),
            "why": self.why,
            "uncertainty": self.uncertainty,
        }

    @classmethod
    def restored(
        cls, round: int, rows: Tensor, scores: Tensor | None, strategy: str, details: Mapping[str, Any]
    ) -> "Asked":
        """The batch whose `details` these are, as the store kept them.

        Raises:
            ValueError: they are those of no batch.
        """
        asked = cls(round, rows, scores, strategy=strategy)
        for name, value in details.items():
            kinds = _DETAILS.get(name)
            if kinds is None or isinstance(value, bool) or not isinstance(value, kinds):
                raise ValueError(f"its detail {name!r} is {shortened(repr(value))}")
            if isinstance(value, dict) and not all(isinstance(each, int | float | None) for each in value.values()):
                raise ValueError(f"its detail {name!r} holds more than numbers")
        return replace(asked, **details)


#: What the details of a batch are, by name.
_DETAILS: dict[str, tuple[type, ...]] = {
    "notes": (dict,),
    "candidates": (int,),
    "near_duplicates": (int, float),
    "seconds": (dict,),
    "why": (str,),
    "uncertainty": (int, float, type(None)),
}


@dataclass(frozen=True, eq=False)
class Chosen:
    """What a strategy chose among the candidates, and what it saw of them.

    Attributes:
        selection: positions among the candidates, on the CPU.
        pool: the outputs of the candidates.
        seconds: for "pass" and "select".
    """

    selection: Selection
    pool: Outputs
    seconds: Mapping[str, float]


@dataclass(frozen=True, eq=False)
class Reader:
    """What a strategy may see in one round: a model's outputs for the candidates and the labeled rows.

    Attributes:
        predictor: whom to read; None when nothing is read.
        prepared: the pool as the predictor takes it; None when nothing is read.
        labeled: (L,) int64 rows of the pool.
        labels: theirs, (L,) int64 or (L, C) bool.
        seeds: this round's random numbers.
        monitor: watches the pass.
        memory: what strategies keep from round to round; None when nothing is kept.
        watched: names that are read in the same pass for the record, and that no strategy sees.
    """

    predictor: Predictor | None
    prepared: Prepared | None
    labeled: Tensor
    labels: Tensor
    seeds: Seeds
    monitor: Monitor
    memory: SessionMemory | None = None
    watched: frozenset[str] = frozenset()

    @property
    def multilabel(self) -> bool:
        """Whether a row may have several classes."""
        return self.labels.dim() == 2

    def choose(self, acting: Strategy, candidates: Tensor, n: int) -> Chosen:
        """The n rows that the strategy wants of the candidates, after one pass over these.

        A pass in reduced precision shifts scores a little: where the strategy scores row by row, the best 4n rows are
        computed again exactly, and the choice is made among those.
        """
        seconds: dict[str, float] = {}
        reduced = self.predictor is not None and self.predictor.approximate and acting.rowwise
        few = _RECHECKED * n >= len(candidates)
        with timed(seconds, "pass"):
            pool, labeled = self._outputs(acting, candidates, exact=reduced and few)
        with timed(seconds, "select"):
            if reduced and not few:
                selection = self._recheck(acting, candidates, pool, labeled, n)
            else:
                query = self._query(acting, pool, labeled, n)
                if self.memory is not None:
                    query = replace(query, memory=self.memory.of(candidates, self.labeled, pool, labeled))
                selection = choose(acting, query)
            selection = replace(selection, positions=selection.positions.cpu())
        return Chosen(selection, pool, seconds)

    def _outputs(self, acting: Strategy, candidates: Tensor, exact: bool) -> tuple[Outputs, Outputs]:
        """Outputs of the candidates and of the labeled rows, from one pass over both where both are read."""
        unread = Outputs(length=len(self.labeled), multilabel=self.multilabel)
        if self.predictor is None:
            return Outputs(length=len(candidates), multilabel=self.multilabel), unread
        if not acting.labeled_needs:
            return self._pass(candidates, all_needs(acting) | self.watched, exact), unread
        outputs = self._pass(torch.cat([candidates, self.labeled]), all_needs(acting) | self.watched, exact)
        return outputs.take(slice(len(candidates))), outputs.take(slice(len(candidates), None))

    def _pass(self, rows: Tensor, names: Iterable[str], exact: bool) -> Outputs:
        assert self.predictor is not None
        assert self.prepared is not None
        seed = self.seeds.number(Stream.PASS)
        return self.predictor.outputs(self.prepared, rows, names, seed=seed, exact=exact, monitor=self.monitor)

    def _query(self, acting: Strategy, pool: Outputs, labeled: Outputs, n: int) -> Query:
        target = Outputs(length=0, multilabel=self.multilabel)
        if acting.target_needs:
            target = pool.take(self.seeds.sample(len(pool), _TARGETS, Stream.TARGET))
        labels = self.labels.to(pool.device)
        return Query(pool, n, self.seeds.generator(Stream.SELECT), labeled, target, labels)

    def _recheck(self, acting: Strategy, candidates: Tensor, pool: Outputs, labeled: Outputs, n: int) -> Selection:
        best = choose(acting, self._query(acting, pool, labeled, _RECHECKED * n)).positions.cpu().sort().values
        exact = self._pass(candidates[best], all_needs(acting), exact=True).to(pool.device)
        chosen = choose(acting, self._query(acting, exact, labeled, n))
        return replace(chosen, positions=best[chosen.positions.cpu()])


def check_needs(strategy: Strategy, learner: Learner, *, multilabel: bool = False) -> None:
    """Make sure that the learner provides what the strategy reads, before an hour of training is spent.

    Raises:
        NeedError: it does not, or the strategy is not right for multi-label outputs.
    """
    name, model = name_of(strategy), type(learner).__name__
    if multilabel and not strategy.multilabel:
        raise NeedError(f"{name} is not defined for multi-label outputs; `dal list` shows which strategies are")
    provided = closure(learner.provides)
    missing = all_needs(strategy) - provided
    if missing:
        raise NeedError(
            f"{name} needs {listing(missing)}, which {model} does not provide; it provides {listing(provided)}"
        )


def require_classes(classes: Sequence[str]) -> None:
    """Raises `ConfigError` for data without classes: no label is there to take them from, and none are given."""
    if not classes:
        raise ConfigError("the data names no classes: give `classes`, the names that answers may have")


def require_kind(value: Any, kind: Any, name: str, example: str) -> None:
    """Make sure that an argument is of its kind.

    Args:
        value: what was given.
        kind: the class that it must be an instance of, or a union of some.
        name: of the argument.
        example: of what would do.

    Raises:
        ConfigError: it is something else.
    """
    if isinstance(value, kind):
        return
    got = type(value).__name__
    if isinstance(value, type):
        got = f"the class {value.__name__}" + (f": give {value.__name__}()" if issubclass(value, kind) else "")
    wanted = " or ".join(each.__name__ for each in getattr(kind, "__args__", (kind,)))
    raise ConfigError(f"{name} must be {wanted}, such as {example}, got {got}")


def is_whole(value: Any) -> bool:
    """Whether a value is a whole number, which True is not."""
    return isinstance(value, int) and not isinstance(value, bool)


def reads_trained(strategy: Strategy, learner: Learner) -> bool:
    """Whether the strategy reads something that only a trained model offers."""
    return not all_needs(strategy) <= closure(learner.label_free)


@contextmanager
def timed(seconds: dict[str, float], name: str) -> Iterator[None]:
    """Note how long the block took, in seconds, under this name."""
    start = time.perf_counter()
    yield
    seconds[name] = time.perf_counter() - start
