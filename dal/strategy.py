"""The strategy interface: an immutable value with one pure method over tensors."""

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

import torch
from torch import Tensor

from dal.config.moved import accepts_old_options
from dal.errors import LearnerError, NeedError, SelectionError
from dal.functional.blocks import blocks, out_of_memory
from dal.functional.exchange import Shard
from dal.functional.k_center import Bounds
from dal.functional.points import OuterPoints
from dal.functional.ranking import top, top_of_all
from dal.functional.row_source import PointSource, RowSource
from dal.outputs import Outputs, Value


class Memory:
    """Distances kept between the rounds of a session. This base class keeps nothing; the session's subclass does."""

    def bounds(self, name: str, pool: Outputs, labeled: Outputs) -> Bounds | None:
        """Return upper bounds of the squared distance from each pool row to its nearest labeled row.

        Labeled rows that the bounds do not cover are marked as new. Returns `None` when nothing is known.

        Args:
            name: name of the output whose values are the points, such as `embeddings`.
            pool: pool of the query, whole; nothing is known about a subset of it or about other rows.
            labeled: labeled rows of the query, whole.
        """
        return None

    def keep(self, name: str, pool: Outputs, labeled: Outputs, squared: Tensor, chosen: Tensor) -> None:
        """Store upper bounds of the squared distances to the nearest labeled or chosen row.

        Args:
            name, pool, labeled: as for `bounds`.
            squared: (N,) upper bounds, not negative; infinite where nothing is known.
            chosen: (n,) positions in the pool.
        """


@dataclass(frozen=True)
class RoundState:
    """What is known before a round.

    `budget` and `metrics` are `None` and empty where nothing is known: in a query made outside a session.

    Attributes:
        round: number of batches asked so far.
        labels: number of labeled rows.
        per_class: number of labels per class, (C,); empty when classes are not counted.
        budget: number of labels left to ask for, at least 0: the session's `budget` minus the answered and the pending
            rows; `None` when unlimited.
        metrics: the numbers at the top level of each recorded line of `metrics.jsonl`, oldest first. If the last line
            has no scores, the scores of the current model follow: they are computed when the metrics are first read,
            on the labeled validation rows, or on the test rows without any.
    """

    round: int = 0
    labels: int = 0
    per_class: tuple[int, ...] = ()
    budget: int | None = None
    metrics: Sequence[Mapping[str, float]] = ()


@dataclass(frozen=True, eq=False)
class Query:
    """The complete input of a strategy.

    Attributes:
        pool: outputs of the N unlabeled rows.
        labeled: outputs of the L labeled rows; L may be 0.
        target: outputs of the rows on which predictions should improve: a seeded sample of the pool by default, never
            the test set.
        labels: (L,) int64; (L, C) bool when multi-label.
        n: number of rows to select, 1 <= n <= N.
        generator: generator on the CPU; the only source of randomness that a strategy may use.
        memory: distances from earlier rounds of the same session. They may save work but must not change the selection.
        state: state of the round, as `Strategy.resolve` gets it.
        shard: the rows of this rank, if the pool is distributed over several. `pool` has these rows only; everything
            else is the same on all ranks, and positions are those among the rows of all ranks.
    """

    pool: Outputs
    n: int
    generator: torch.Generator
    labeled: Outputs = field(default_factory=lambda: Outputs(length=0))
    target: Outputs = field(default_factory=lambda: Outputs(length=0))
    labels: Tensor = field(default_factory=lambda: torch.zeros(0, dtype=torch.int64))
    memory: Memory = field(default_factory=Memory)
    state: RoundState = field(default_factory=RoundState)
    shard: Shard | None = None

    @property
    def size(self) -> int:
        """Number of rows in the pool, on all ranks."""
        return len(self.pool) if self.shard is None else self.shard.total

    def rand(self, *shape: int) -> Tensor:
        """Uniform random numbers in [0, 1), drawn from the generator, on the device of the outputs."""
        return torch.rand(*shape, generator=self.generator).to(self.pool.device)

    def randn(self, *shape: int) -> Tensor:
        """Standard normal random numbers, drawn from the generator, on the device of the outputs."""
        return torch.randn(*shape, generator=self.generator).to(self.pool.device)

    def gumbel(self, *shape: int) -> Tensor:
        """Standard Gumbel random numbers, drawn from the generator, on the device of the outputs."""
        uniform = torch.rand(*shape, generator=self.generator, dtype=torch.float64)
        return -(-uniform.clamp_min(1e-300).log()).log().float().to(self.pool.device)


@accepts_old_options
@dataclass(frozen=True, eq=False)
class Selection:
    """The rows that a strategy selected.

    Attributes:
        positions: (n,) int64, distinct positions in the pool, best first.
        scores: (n,) score of each selected row, shown to the annotator; `None` when the strategy has no scores.
        notes: named figures about the whole selection, such as the coverage radius of core-set.
        reason: why the strategy selected in this way, in words, where it could have acted in another way. The run logs
            it when it changes.
    """

    positions: Tensor
    scores: Tensor | None = None
    notes: Mapping[str, float] = field(default_factory=dict)
    reason: str = ""


class Strategy(ABC):
    """Acquisition strategy: selects the rows to label next. Subclasses are frozen dataclasses; fields are options.

    Class attributes (plain and unannotated, or properties, so that they do not become options):
        needs: names of the outputs read from `query.pool`.
        labeled_needs: names of the outputs read from `query.labeled`.
        target_needs: names of the outputs read from `query.target`.
        multilabel: whether the strategy supports multi-label outputs.
        rowwise: whether a row's score depends on that row alone. The best rows of a pass in reduced precision can then
            be rescored exactly without the rest of the pool.
        exact_on_shards: whether the strategy reads `query.shard` and makes the selection of one process when the pool
            is distributed over ranks (`choose_on_shards`).
        delegates: whether the strategy only forwards its query to other strategies through `choose`, which checks
            their inputs.
        paper: reference of the method.
        advice: one line of guidance: when to use the strategy and when not.
    """

    needs = frozenset()  # type: ignore[var-annotated]
    labeled_needs = frozenset()  # type: ignore[var-annotated]
    target_needs = frozenset()  # type: ignore[var-annotated]
    multilabel = False
    rowwise = False
    exact_on_shards = False
    delegates = False
    paper = ""
    advice = ""

    @property
    def title(self) -> str:
        """Name in tables, reports and folder names: the class name, or the parts of a schedule."""
        return type(self).__name__

    def resolve(self, state: RoundState) -> "Strategy":
        """Return the strategy that acts in this round: itself, unless it is a schedule such as `Phases`."""
        return self

    def why(self, state: RoundState) -> str:
        """Explain the result of `resolve` in words; empty when there is nothing to explain."""
        return ""

    @abstractmethod
    def select(self, query: Query) -> Tensor | Selection:
        """Select n distinct positions in the pool, best first, (n,) int64."""


class ScoreStrategy(Strategy):
    """Strategy that assigns one score to each row and selects the n highest.

    Class attributes (plain and unannotated, or properties, so that they do not become options):
        lowest: greatest lower bound of the scores; minus infinity when they are unbounded. Strategies that turn scores
            into weights, such as `Stochastic`, subtract it first.
    """

    lowest = 0.0

    @property
    def exact_on_shards(self) -> bool:  # type: ignore[override]
        """Whether the scores of a shard are those of the whole pool: true where a score depends on its row alone."""
        return self.rowwise and type(self).select is ScoreStrategy.select

    @abstractmethod
    def score(self, query: Query) -> Tensor:
        """Finite score of each pool row, (N,). The highest is selected first; the generator breaks ties."""

    def select(self, query: Query) -> Selection:
        """Select the rows with the n highest scores."""
        scores = self.checked_score(query)
        if query.shard is not None:
            positions, values = top_of_all(scores, query.n, query.generator, query.shard)
            return Selection(positions, values.to(scores.dtype))
        positions = top(scores, query.n, generator=query.generator)
        return Selection(positions, scores[positions])

    def checked_score(self, query: Query) -> Tensor:
        """Return `score` after checking that it is one finite number per row (`SelectionError`)."""
        if not len(query.pool):  # a rank without rows
            return torch.zeros(0, device=query.pool.device)
        scores = self.score(query)
        if scores.shape != (len(query.pool),):
            raise SelectionError(
                f"{name_of(self)}.score returned shape {tuple(scores.shape)}, expected ({len(query.pool)},)"
            )
        _refuse_non_finite(scores, f"a score of {name_of(self)}")
        return scores


def name_of(strategy: Strategy) -> str:
    """Return the strategy's title, as errors, tables and reports show it."""
    return strategy.title


def all_needs(strategy: Strategy) -> frozenset[str]:
    """Names of all outputs that the strategy reads, from the pool, the labeled and the target rows."""
    return frozenset(strategy.needs) | frozenset(strategy.labeled_needs) | frozenset(strategy.target_needs)


def choose(strategy: Strategy, query: Query) -> Selection:
    """Run a strategy on a query and validate its inputs and its selection.

    This is the only boundary between the engine and a strategy. Outputs are restricted to the names that the strategy
    declares and must be finite. The selection must consist of n distinct positions in the pool.

    Raises:
        NeedError: the strategy read an undeclared name, or does not support multi-label outputs.
        SelectionError: the selection is invalid, or an input of the strategy is NaN or infinite.
        LearnerError: the strategy ran out of memory.
    """
    return _chosen(strategy, _restricted(strategy, query))


def choose_on_shards(strategy: Strategy, query: Query) -> Selection:
    """Run a strategy on a pool that is distributed over ranks; the selection is that of `choose` in one process.

    Every rank calls it with the same strategy and a query that differs only in `pool` and `shard`; in particular, all
    generators are in the same state. Every rank gets the same selection, of positions among the rows of all ranks.
    Inputs are checked on all ranks before any rank selects, in one collective, so that an error is raised on all of
    them. An error after that, such as a lack of memory, ends one rank; the others fail in their next collective.

    Raises:
        NeedError: as `choose`, or the strategy needs all rows on one rank.
        SelectionError: as `choose`; NaN or infinite inputs of any rank are refused on all ranks.
        LearnerError: the strategy ran out of memory.
    """
    shard = query.shard
    if shard is None:
        raise SelectionError("choose_on_shards needs query.shard, the rows of this rank")
    refused: NeedError | SelectionError | None = None
    try:
        if len(query.pool) != len(shard):
            raise SelectionError(f"a shard of {len(shard)} rows does not fit a pool of {len(query.pool)}")
        query = replace(_restricted(strategy, query), memory=Memory())  # distances of a session are of its whole pool
    except (NeedError, SelectionError) as error:
        refused = error
    flag = torch.tensor([refused is not None], dtype=torch.uint8, device=query.pool.device)
    failed = [rank for rank, each in enumerate(shard.comm.all_gather(flag)) if bool(each)]
    if refused is not None:
        raise refused
    if failed:
        raise SelectionError(f"the inputs of {name_of(strategy)} were refused on rank {failed[0]}, which says why")
    return _chosen(strategy, query)


def _restricted(strategy: Strategy, query: Query) -> Query:
    """The query restricted to the declared names, after checking its values."""
    name = name_of(strategy)
    if not 1 <= query.n <= query.size:
        raise SelectionError(f"{query.n} rows were asked of {name}, but the pool has {query.size}")
    if query.pool.multilabel and not strategy.multilabel:
        raise NeedError(f"{name} is not defined for multi-label outputs; `dal list` shows which strategies are")
    if query.shard is not None and not strategy.exact_on_shards:
        raise NeedError(f"{name} needs all rows on one rank, and its pool is distributed over {query.shard.comm.size}")
    check = not strategy.delegates
    return replace(
        query,
        pool=_declared(query.pool, strategy, "needs", "pool", check),
        labeled=_declared(query.labeled, strategy, "labeled_needs", "labeled rows", check),
        target=_declared(query.target, strategy, "target_needs", "target rows", check),
    )


def _chosen(strategy: Strategy, query: Query) -> Selection:
    chosen = _selected(strategy, query)
    selection = chosen if isinstance(chosen, Selection) else Selection(chosen)
    return _checked(selection, query, name_of(strategy))


def _selected(strategy: Strategy, query: Query) -> Tensor | Selection:
    try:
        return strategy.select(query)
    except (RuntimeError, MemoryError) as error:
        if not out_of_memory(error):
            raise
        raise LearnerError(
            f"{name_of(strategy)} ran out of memory on {query.pool.device} with {query.size:,} rows to choose "
            "from: set `candidates` to choose from a part of the pool, or set the learner's device to cpu"
        ) from error


def _declared(outputs: Outputs, strategy: Strategy, attribute: str, where: str, check: bool) -> Outputs:
    names = getattr(strategy, attribute)
    restricted = outputs.declare(names, f"{type(strategy).__name__}.{attribute}")
    if check and len(outputs):
        for need in sorted(names):
            for part in _parts(restricted.blockwise(need)):
                _refuse_non_finite(part, f"{need!r} that the model computed", where)
    return restricted


def _parts(value: Value) -> tuple[Tensor | RowSource, ...]:
    """The tensor or source, or both factors of outer products."""
    if isinstance(value, OuterPoints):
        return value.a, value.b
    if isinstance(value, PointSource):
        return (value.b,) if value.a is None else (value.a, value.b)
    return (value,)


def _refuse_non_finite(values: Tensor | RowSource, what: str, where: str = "pool") -> None:
    parts = [slice(None)]
    if isinstance(values, RowSource):
        parts = list(blocks(len(values), values.width, values.device))
    if all(bool(torch.isfinite(values[part].sum())) for part in parts):
        return
    bad = torch.cat([(~torch.isfinite(values[part])).reshape(len(values[part]), -1).any(1) for part in parts])
    rows = bad.nonzero().flatten().tolist()
    if rows:
        shown = ", ".join(map(str, rows[:5])) + (", ..." if len(rows) > 5 else "")
        raise SelectionError(f"{what} is NaN or infinite at {len(rows)} positions of the {where}: {shown}")


def _checked(selection: Selection, query: Query, name: str) -> Selection:
    positions, n, size = selection.positions, query.n, query.size
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
