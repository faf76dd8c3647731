"""The contract a strategy fulfils: a small immutable value with one pure method over tensors."""

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass, field

import torch
from torch import Tensor

from dal.errors import LearnerError, NeedError, SelectionError
from dal.functional.blocks import out_of_memory
from dal.functional.k_center import Bounds
from dal.functional.points import OuterPoints
from dal.functional.ranking import top
from dal.outputs import Outputs


class Memory:
    """What a query remembers. This one keeps nothing; the session's does."""

    def bounds(self, name: str, pool: Outputs, labeled: Outputs) -> Bounds | None:
        """Upper bounds of the squared distance of every pool row to the nearest labeled rows, in the space `name`.

        The labeled rows that they do not account for are marked as new. None when nothing is known.

        Args:
            name: of the outputs that are points.
            pool: as the query has it. A part of it, or other rows, is unknown here.
            labeled: likewise.
        """
        return None

    def keep(self, name: str, pool: Outputs, labeled: Outputs, squared: Tensor, chosen: Tensor) -> None:
        """Keep bounds (N,) of the squared distances to the nearest of the labeled and the chosen rows.

        Args:
            name, pool, labeled: as for `bounds`.
            squared: (N,), not negative, infinite where nothing is known.
            chosen: (n,) positions in the pool.
        """


@dataclass(frozen=True, eq=False)
class Query:
    """Everything a strategy may look at.

    Attributes:
        pool: outputs of the N rows without a label.
        labeled: outputs of the L rows with one; L may be 0.
        target: outputs of the rows the answers should serve: a seeded sample of the pool by default, never the test.
        labels: (L,) int64; (L, C) bool when multi-label.
        n: how many to choose, 1 <= n <= N.
        generator: on the CPU; the only randomness a strategy may use.
        memory: what is known from earlier rounds of the same session. It may save work, but must change no choice.
    """

    pool: Outputs
    n: int
    generator: torch.Generator
    labeled: Outputs = field(default_factory=lambda: Outputs(length=0))
    target: Outputs = field(default_factory=lambda: Outputs(length=0))
    labels: Tensor = field(default_factory=lambda: torch.zeros(0, dtype=torch.int64))
    memory: Memory = field(default_factory=Memory)

    def rand(self, *shape: int) -> Tensor:
        """Uniform numbers in [0, 1) from the generator, on the device of the outputs."""
        return torch.rand(*shape, generator=self.generator).to(self.pool.device)

    def randn(self, *shape: int) -> Tensor:
        """Standard normal numbers from the generator, on the device of the outputs."""
        return torch.randn(*shape, generator=self.generator).to(self.pool.device)

    def gumbel(self, *shape: int) -> Tensor:
        """Standard Gumbel numbers from the generator, on the device of the outputs."""
        uniform = torch.rand(*shape, generator=self.generator, dtype=torch.float64)
        return -(-uniform.clamp_min(1e-300).log()).log().float().to(self.pool.device)


@dataclass(frozen=True, eq=False)
class Selection:
    """What a strategy chose.

    Attributes:
        positions: (n,) int64 in the pool, distinct, best first.
        scores: (n,) what made them win, shown to the person who answers; None when nothing did.
        notes: figures about the whole choice, such as core-set's coverage radius.
        why: in words, why the choice was made in this way, where the strategy could have made it in another. The run's
            log shows it when it changes.
    """

    positions: Tensor
    scores: Tensor | None = None
    notes: Mapping[str, float] = field(default_factory=dict)
    why: str = ""


@dataclass(frozen=True)
class RoundState:
    """What is known before a round, in numbers only.

    Attributes:
        round: batches ever asked.
        labels: rows with a label.
        per_class: labels per class, (C,).
        budget: labels left to ask for, None when unlimited.
        metrics: the metrics of past rounds, oldest first.
    """

    round: int = 0
    labels: int = 0
    per_class: tuple[int, ...] = ()
    budget: int | None = None
    metrics: tuple[Mapping[str, float], ...] = ()


class Strategy(ABC):
    """Chooses which rows to ask next. Subclasses are frozen dataclasses: their fields are their options.

    Class attributes (plain and unannotated, or properties, so that they do not become options):
        needs: names read from `query.pool`.
        labeled_needs: names read from `query.labeled`.
        target_needs: names read from `query.target`.
        multilabel: whether the strategy is right for multi-label outputs.
        rowwise: whether a row's score depends on that row alone, so that the best rows of a pass in reduced precision
            can be rescored exactly by themselves.
        delegates: whether it only hands its query over to other strategies, by `choose`, which checks what those read.
        paper: where the method was published.
        advice: one line: when it wins and when it loses.
    """

    needs = frozenset()  # type: ignore[var-annotated]
    labeled_needs = frozenset()  # type: ignore[var-annotated]
    target_needs = frozenset()  # type: ignore[var-annotated]
    multilabel = False
    rowwise = False
    delegates = False
    paper = ""
    advice = ""

    @property
    def title(self) -> str:
        """What tables, reports and folders call it: the class name, or the parts of a schedule."""
        return type(self).__name__

    def resolve(self, state: RoundState) -> "Strategy":
        """The strategy that acts in this round: itself, unless it is a schedule such as `Phases`."""
        return self

    def why(self, state: RoundState) -> str:
        """In words, why `resolve` gives the strategy that it gives; empty where there is nothing to say."""
        return ""

    @abstractmethod
    def select(self, query: Query) -> Tensor | Selection:
        """n distinct positions in the pool, best first, (n,) int64."""


class ScoreStrategy(Strategy):
    """A strategy that scores every row by itself and asks for the highest.

    Class attributes (plain and unannotated, or properties, so that they do not become options):
        lowest: the lowest value that a score can take, minus infinity where there is none. What turns scores into
            weights, such as `Stochastic`, measures them from there.
    """

    lowest = 0.0

    @abstractmethod
    def score(self, query: Query) -> Tensor:
        """One finite number per pool row, (N,). The highest is asked first; ties are broken by the generator."""

    def select(self, query: Query) -> Selection:
        """The n highest scores."""
        scores = self.checked_score(query)
        positions = top(scores, query.n, generator=query.generator)
        return Selection(positions, scores[positions])

    def checked_score(self, query: Query) -> Tensor:
        """`score`, once it is sure that it is one finite number per row (`SelectionError`)."""
        scores = self.score(query)
        if scores.shape != (len(query.pool),):
            raise SelectionError(
                f"{name_of(self)}.score returned shape {tuple(scores.shape)}, expected ({len(query.pool)},)"
            )
        _refuse_non_finite(scores, f"a score of {name_of(self)}")
        return scores


def name_of(strategy: Strategy) -> str:
    """Its title, as errors, tables and reports show it."""
    return strategy.title


def all_needs(strategy: Strategy) -> frozenset[str]:
    """Every name the strategy reads from any of its outputs."""
    return frozenset(strategy.needs) | frozenset(strategy.labeled_needs) | frozenset(strategy.target_needs)


def choose(strategy: Strategy, query: Query) -> Selection:
    """The strategy's checked selection: the one boundary between the engine and anybody's strategy.

    The outputs are restricted to the names that the strategy declares, and checked to be finite. The result must be n
    distinct positions within the pool.

    Raises:
        NeedError: it read a name that it did not declare, or it is not right for multi-label outputs.
        SelectionError: it returned something else, or a value it reads is NaN or infinite.
        LearnerError: it ran out of memory.
    """
    name = name_of(strategy)
    if not 1 <= query.n <= len(query.pool):
        raise SelectionError(f"{query.n} rows were asked of {name}, but the pool has {len(query.pool)}")
    if query.pool.multilabel and not strategy.multilabel:
        raise NeedError(f"{name} is not defined for multi-label outputs; `dal list` shows which strategies are")
    check = not strategy.delegates
    query = Query(
        pool=_declared(query.pool, strategy.needs, "pool", check),
        labeled=_declared(query.labeled, strategy.labeled_needs, "labeled rows", check),
        target=_declared(query.target, strategy.target_needs, "target rows", check),
        labels=query.labels,
        n=query.n,
        generator=query.generator,
        memory=query.memory,
    )
    chosen = _selected(strategy, query)
    selection = chosen if isinstance(chosen, Selection) else Selection(chosen)
    return _checked(selection, query, name)


def _selected(strategy: Strategy, query: Query) -> Tensor | Selection:
    try:
        return strategy.select(query)
    except (RuntimeError, MemoryError) as error:
        if not out_of_memory(error):
            raise
        raise LearnerError(
            f"{name_of(strategy)} ran out of memory on {query.pool.device} with {len(query.pool):,} rows to choose "
            "from: set `candidates` to choose from a part of the pool, or set the learner's device to cpu"
        ) from error


def _declared(outputs: Outputs, names: frozenset[str], where: str, check: bool) -> Outputs:
    restricted = outputs.declare(names)
    if check and len(outputs):
        for need in sorted(names):
            value = restricted[need]
            for tensor in (value.a, value.b) if isinstance(value, OuterPoints) else (value,):
                _refuse_non_finite(tensor, f"{need!r} that the model computed", where)
    return restricted


def _refuse_non_finite(tensor: Tensor, what: str, where: str = "pool") -> None:
    if bool(torch.isfinite(tensor.sum())):
        return
    bad = (~torch.isfinite(tensor)).flatten(1).any(1) if tensor.dim() > 1 else ~torch.isfinite(tensor)
    rows = bad.nonzero().flatten().tolist()
    if rows:
        shown = ", ".join(map(str, rows[:5])) + (", ..." if len(rows) > 5 else "")
        raise SelectionError(f"{what} is NaN or infinite at {len(rows)} positions of the {where}: {shown}")


def _checked(selection: Selection, query: Query, name: str) -> Selection:
    positions, n, size = selection.positions, query.n, len(query.pool)
    if not isinstance(positions, Tensor) or positions.dtype != torch.int64 or positions.shape != (n,):
        tensor = isinstance(positions, Tensor)
        got = f"{positions.dtype} {tuple(positions.shape)}" if tensor else type(positions).__name__
        raise SelectionError(f"{name} returned {got}, expected int64 positions of shape ({n},)")
    if int(positions.min()) < 0 or int(positions.max()) >= size:
        raise SelectionError(f"{name} chose positions outside its pool of {size}")
    if len(positions.unique()) != n:
        raise SelectionError(f"{name} chose a position twice")
    if selection.scores is not None and selection.scores.shape != (n,):
        raise SelectionError(f"{name} returned scores of shape {tuple(selection.scores.shape)}, expected ({n},)")
    return selection
