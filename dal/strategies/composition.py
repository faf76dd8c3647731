"""Strategies composed of other strategies."""

from abc import abstractmethod
from dataclasses import dataclass, field, replace

import torch

from dal.errors import ConfigError, SelectionError
from dal.functional.checking import Options, as_number, shown
from dal.strategies.random import Random
from dal.strategies.uncertainty import Margin
from dal.strategy import Query, RoundState, ScoreStrategy, Selection, Strategy, choose


class ComposedStrategy(Strategy):
    """Strategy composed of `parts`: it needs what any part needs, and supports multi-label outputs if all parts do."""

    delegates = True

    @property
    @abstractmethod
    def parts(self) -> tuple[Strategy, ...]:
        """Component strategies."""

    @property
    def needs(self) -> frozenset[str]:  # type: ignore[override]
        """Union of the needs of the parts."""
        return frozenset(name for part in self.parts for name in part.needs)

    @property
    def labeled_needs(self) -> frozenset[str]:  # type: ignore[override]
        """Union of the labeled needs of the parts."""
        return frozenset(name for part in self.parts for name in part.labeled_needs)

    @property
    def target_needs(self) -> frozenset[str]:  # type: ignore[override]
        """Union of the target needs of the parts."""
        return frozenset(name for part in self.parts for name in part.target_needs)

    @property
    def multilabel(self) -> bool:  # type: ignore[override]
        """Whether all parts support multi-label outputs."""
        return all(part.multilabel for part in self.parts)


@dataclass(frozen=True)
class Phases(ComposedStrategy):
    """Use `first` until there are enough labels, then `then`, for example for a cold start.

    `then` acts once at least `until` rows are labeled and at least `classes` classes have a label; when multi-label, a
    row counts for each of its classes. If classes are not counted (`RoundState.per_class` is empty), only `until`
    applies. Both strategies can be `Phases` themselves.

    Args:
        first: strategy of the first rounds; usually one without a trained model, such as `ClusterCenters` or `Random`.
        then: strategy of the later rounds.
        until: number of labeled rows required for `then`.
        classes: number of classes with a label required for `then`.
    """

    first: Strategy
    then: Strategy
    until: int = 20
    classes: int = 2
    advice = "A cold start: a label-free strategy until there are enough labels to train on, then another."

    def __post_init__(self) -> None:
        Options(self).whole("until", "classes", least=0)

    @property
    def parts(self) -> tuple[Strategy, ...]:
        """Both strategies."""
        return self.first, self.then

    @property
    def title(self) -> str:
        """Both titles, such as "ClusterCenters+Margin"."""
        return f"{self.first.title}+{self.then.title}"

    def resolve(self, state: RoundState) -> Strategy:
        """Return the strategy that acts in this round."""
        seen = sum(count > 0 for count in state.per_class)
        ready = state.labels >= self.until and (not state.per_class or seen >= self.classes)
        return (self.then if ready else self.first).resolve(state)

    def select(self, query: Query) -> Selection:
        """Return the selection of the strategy that acts for the labels of the query."""
        return choose(self.resolve(state_of(query)), query)


@dataclass(frozen=True)
class Mixture(ComposedStrategy):
    """Split each batch over several strategies that read the same pass, for example half margin and half random.

    Each strategy gets its share of n, rounded by largest remainder (ties round up the first; a share below 1/n may get
    nothing), and selects from the rows that the strategies before it have left. Their selections are interleaved, so
    that every prefix of the batch holds all shares. The score of a row is that of the strategy that selected it,
    provided that all strategies have scores; scores of different strategies are not comparable. The note `radius` of
    `CoreSet` becomes `CoreSet.radius`.

    Args:
        strategies: at least one strategy, in the order in which they select.
        shares: one positive number per strategy, in any unit; equal shares when `None`.
    """

    strategies: tuple[Strategy, ...] = (Margin(), Random())
    shares: tuple[float, ...] | None = None
    advice = "To hedge: a share of random or coverage sampling costs little, and protects where the other part fails."

    def __post_init__(self) -> None:
        if not isinstance(self.strategies, list | tuple):
            raise ConfigError(f"Mixture takes a list of strategies, got {shown(self.strategies)}")
        wrong = [part for part in self.strategies if not isinstance(part, Strategy)]
        if wrong or not self.strategies:
            raise ConfigError(f"Mixture takes a list of strategies, got {shown(wrong[0]) if wrong else 'none'}")
        object.__setattr__(self, "strategies", tuple(self.strategies))
        if self.shares is not None:
            listed = isinstance(self.shares, list | tuple)
            shares = tuple(as_number(share) or 0.0 for share in self.shares) if listed else ()
            if len(shares) != len(self.strategies) or not all(0 < share < float("inf") for share in shares):
                raise ConfigError(
                    f"shares of Mixture must be {len(self.strategies)} positive numbers, one for each strategy, not "
                    f"{shown(self.shares)}"
                )
            object.__setattr__(self, "shares", shares)

    @property
    def parts(self) -> tuple[Strategy, ...]:
        """All strategies."""
        return self.strategies

    @property
    def title(self) -> str:
        """All titles, such as "Margin&Random"."""
        return "&".join(part.title for part in self.strategies)

    def resolve(self, state: RoundState) -> Strategy:
        """Return the mixture of the strategies that act in this round."""
        acting = tuple(part.resolve(state) for part in self.strategies)
        return self if acting == self.strategies else replace(self, strategies=acting)

    def select(self, query: Query) -> Selection:
        """Select n positions, interleaved from the selections of all strategies."""
        left = torch.arange(len(query.pool), device=query.pool.device)
        chosen: list[Selection] = []
        notes: dict[str, float] = {}
        for part, n in zip(self.strategies, split(query.n, self.shares or (1.0,) * len(self.strategies)), strict=True):
            if not n:
                continue
            pool = query.pool if len(left) == len(query.pool) else query.pool.take(left)
            selection = choose(part, replace(query, pool=pool, n=n))
            positions = selection.positions.to(left.device)
            chosen.append(Selection(left[positions], selection.scores))
            notes |= {f"{part.title}.{name}": value for name, value in selection.notes.items()}
            kept = torch.ones_like(left, dtype=torch.bool)
            kept[positions] = False
            left = left[kept]
        return _interleaved(chosen, notes)


@dataclass(frozen=True)
class Fallback(ComposedStrategy):
    """Use `first` if it can distinguish rows, otherwise `then`.

    `then` replaces `first`

    - when nothing is labeled, or fewer than two classes have a label: no model is fitted if `then` needs none;
    - when `first` fails with a `SelectionError`, because its inputs or scores are NaN or infinite;
    - when `first` cannot distinguish rows: a `ScoreStrategy` that gives all rows of the pool the same score (if there
      is more than one row), or any other strategy whose selected rows all have score 0, such as BADGE with a model
      that is certain of every row.

    In the last two cases the note `fell_back` is 1. Training errors are not caught.

    Args:
        first: preferred strategy.
        then: fallback strategy; best one without a trained model.
    """

    first: Strategy = field(default_factory=Margin)
    then: Strategy = field(default_factory=Random)
    advice = "For strategies that rely on the model: takes over when it has seen one class or scores all rows alike."

    @property
    def parts(self) -> tuple[Strategy, ...]:
        """Both strategies."""
        return self.first, self.then

    @property
    def title(self) -> str:
        """Both titles, such as "Margin-else-Random"."""
        return f"{self.first.title}-else-{self.then.title}"

    def resolve(self, state: RoundState) -> Strategy:
        """Return `then` while the labels cannot train a model; afterwards both, as they act in this round."""
        seen = sum(count > 0 for count in state.per_class)
        if not state.labels or (state.per_class and seen < 2):
            return self.then.resolve(state)
        acting = replace(self, first=self.first.resolve(state), then=self.then.resolve(state))
        return self if acting == self else acting

    def select(self, query: Query) -> Selection:
        """Return the selection of `first`, or that of `then` if `first` fails."""
        acting = self.resolve(state_of(query))
        if not isinstance(acting, Fallback):
            return choose(acting, query)
        state = query.generator.get_state()
        try:
            selection = choose(acting.first, query)
        except SelectionError:
            selection = None
        if selection is not None and _distinguishes_rows(acting.first, query, selection):
            return selection
        query.generator.set_state(state)  # so that the fallback selects as if `first` had drawn nothing
        fallback = choose(acting.then, query)
        return replace(fallback, notes={**fallback.notes, "fell_back": 1.0})


def split(n: int, shares: tuple[float, ...]) -> list[int]:
    """Split n into integers proportional to the shares, by largest remainder; ties go to the first.

    >>> split(10, (1, 1, 1)), split(1, (0.2, 0.8))
    ([4, 3, 3], [0, 1])
    """
    exact = [n * share / sum(shares) for share in shares]
    whole = [int(part) for part in exact]
    order = sorted(range(len(shares)), key=lambda i: whole[i] - exact[i])
    for i in order[: n - sum(whole)]:
        whole[i] += 1
    return whole


def _interleaved(selections: list[Selection], notes: dict[str, float]) -> Selection:
    """Merge selections into one, with each of them spread evenly over it."""
    positions = torch.cat([each.positions for each in selections])
    rank = torch.cat([(torch.arange(n) + 0.5) / n for n in (len(each.positions) for each in selections)])
    order = rank.argsort(stable=True).to(positions.device)
    scores = [each.scores for each in selections if each.scores is not None]
    complete = len(scores) == len(selections)
    return Selection(positions[order], torch.cat([s.float() for s in scores])[order] if complete else None, notes)


def _distinguishes_rows(strategy: Strategy, query: Query, selection: Selection) -> bool:
    """Whether the scores behind a selection differ between rows."""
    if selection.scores is None:
        return True
    if not isinstance(strategy, ScoreStrategy):
        return bool((selection.scores != 0).any())
    if len(query.pool) == 1 or bool((selection.scores != selection.scores[0]).any()):
        return True
    scores = strategy.score(query)  # the selected rows tie: the rest of the pool may still differ
    return bool((scores != scores[0]).any())


def state_of(query: Query) -> RoundState:
    """The query's round state, with the counts of its labels."""
    labels = query.labels
    counts = torch.bincount(labels, minlength=1) if labels.dim() == 1 else labels.sum(0)  # (L,) indices or (L, C) bool
    return replace(query.state, labels=len(labels), per_class=tuple(counts.tolist()))
