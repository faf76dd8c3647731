"""Strategies made of strategies."""

from abc import abstractmethod
from dataclasses import dataclass, field, replace

import torch

from dal.errors import ConfigError, SelectionError
from dal.functional.checking import Options, as_number, shown
from dal.strategies.random import Random
from dal.strategies.uncertainty import Margin
from dal.strategy import Query, RoundState, ScoreStrategy, Selection, Strategy, choose


class ComposedStrategy(Strategy):
    """A strategy made of `parts`: it reads what they read, and is right for multi-label outputs when all are."""

    delegates = True

    @property
    @abstractmethod
    def parts(self) -> tuple[Strategy, ...]:
        """The strategies that it is made of."""

    @property
    def needs(self) -> frozenset[str]:  # type: ignore[override]
        """What any of them reads."""
        return frozenset(name for part in self.parts for name in part.needs)

    @property
    def labeled_needs(self) -> frozenset[str]:  # type: ignore[override]
        """What any of them reads."""
        return frozenset(name for part in self.parts for name in part.labeled_needs)

    @property
    def target_needs(self) -> frozenset[str]:  # type: ignore[override]
        """What any of them reads."""
        return frozenset(name for part in self.parts for name in part.target_needs)

    @property
    def multilabel(self) -> bool:  # type: ignore[override]
        """Whether all of them are right for multi-label outputs."""
        return all(part.multilabel for part in self.parts)


@dataclass(frozen=True)
class Phases(ComposedStrategy):
    """`first` until there are labels enough, then `then`: the way to write a cold start.

    `then` acts once `until` rows have a label and at least `classes` classes have one; when multi-label, a row counts
    for each of its classes. Where the classes are not counted (`RoundState.per_class` is empty), `until` alone decides.
    Either may be `Phases` itself.

    Args:
        first: acts at the start; one that needs no trained model, such as `ClusterCenters` or `Random`.
        then: acts afterwards.
        until: labeled rows from which on `then` acts.
        classes: classes that must have a label by then.
    """

    first: Strategy
    then: Strategy
    until: int = 20
    classes: int = 2
    advice = "A cold start: a label-free strategy until there are labels enough to train on, then another."

    def __post_init__(self) -> None:
        Options(self).whole("until", "classes", least=0)

    @property
    def parts(self) -> tuple[Strategy, ...]:
        """Both."""
        return self.first, self.then

    @property
    def title(self) -> str:
        """Both titles, such as "ClusterCenters+Margin"."""
        return f"{self.first.title}+{self.then.title}"

    def resolve(self, state: RoundState) -> Strategy:
        """The strategy that acts in this round."""
        seen = sum(count > 0 for count in state.per_class)
        ready = state.labels >= self.until and (not state.per_class or seen >= self.classes)
        return (self.then if ready else self.first).resolve(state)

    def select(self, query: Query) -> Selection:
        """The choice of the strategy that acts for as many labels as the query holds."""
        return choose(self.resolve(state_of(query)), query)


@dataclass(frozen=True)
class Mixture(ComposedStrategy):
    """n split over several strategies, which all read one pass: half by margin and half at random, say.

    Each gets its share of n, rounded by largest remainder (of equal ones the first is rounded up; a share below 1/n may
    get nothing), and chooses among the rows that those before it have not taken. The batch is dealt in turn, so that
    any first part of it holds all shares. Scores are those of the strategy that chose the row, where all give some;
    those of two strategies cannot be compared. A note `radius` of `CoreSet` becomes `CoreSet.radius`.

    Args:
        strategies: at least one, in the order in which they choose.
        shares: one positive number for each, in any unit; equal shares when null.
    """

    strategies: tuple[Strategy, ...] = (Margin(), Random())
    shares: tuple[float, ...] | None = None
    advice = "To hedge: a share at random or for coverage costs little where the other is right, and saves where not."

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
        """All of them."""
        return self.strategies

    @property
    def title(self) -> str:
        """All titles, such as "Margin&Random"."""
        return "&".join(part.title for part in self.strategies)

    def resolve(self, state: RoundState) -> Strategy:
        """The mixture of those that act in this round."""
        acting = tuple(part.resolve(state) for part in self.strategies)
        return self if acting == self.strategies else replace(self, strategies=acting)

    def select(self, query: Query) -> Selection:
        """n positions, dealt in turn from the choices of all."""
        left = torch.arange(len(query.pool), device=query.pool.device)
        chosen: list[Selection] = []
        notes: dict[str, float] = {}
        for part, n in zip(self.strategies, split(query.n, self.shares or (1.0,) * len(self.strategies)), strict=True):
            if not n:
                continue
            pool = query.pool if len(left) == len(query.pool) else query.pool.take(left)
            found = choose(part, replace(query, pool=pool, n=n))
            at = found.positions.to(left.device)
            chosen.append(Selection(left[at], found.scores))
            notes |= {f"{part.title}.{name}": value for name, value in found.notes.items()}
            kept = torch.ones_like(left, dtype=torch.bool)
            kept[at] = False
            left = left[kept]
        return _dealt(chosen, notes)


@dataclass(frozen=True)
class Fallback(ComposedStrategy):
    """`first` where it has something to go by, else `then`.

    `then` acts in the place of `first`

    - when nothing is labeled, or fewer than two classes have a label: no model is fitted, where `then` needs none;
    - when `first` cannot choose, because what it reads or what it makes of it is NaN or infinite (`SelectionError`);
    - when `first` finds no difference: a `ScoreStrategy` that scores all rows of the pool alike (if there are several),
      or any other whose scores for the rows that it chose are all 0, as those of BADGE for a model that is sure of
      everything.

    In the last two cases the note `fell_back` is 1. A learner that cannot be trained is refused as ever.

    Args:
        first: acts by preference.
        then: acts else; best one that needs no trained model.
    """

    first: Strategy = field(default_factory=Margin)
    then: Strategy = field(default_factory=Random)
    advice = "Around a strategy that leans on the model: for when that has seen one class or finds no difference."

    @property
    def parts(self) -> tuple[Strategy, ...]:
        """Both."""
        return self.first, self.then

    @property
    def title(self) -> str:
        """Both titles, such as "Margin-else-Random"."""
        return f"{self.first.title}-else-{self.then.title}"

    def resolve(self, state: RoundState) -> Strategy:
        """`then` while the labels can train nothing; afterwards both, as they act in this round."""
        seen = sum(count > 0 for count in state.per_class)
        if not state.labels or (state.per_class and seen < 2):
            return self.then.resolve(state)
        acting = replace(self, first=self.first.resolve(state), then=self.then.resolve(state))
        return self if acting == self else acting

    def select(self, query: Query) -> Selection:
        """The choice of `first`, or of `then` where there is none."""
        acting = self.resolve(state_of(query))
        if not isinstance(acting, Fallback):
            return choose(acting, query)
        state = query.generator.get_state()
        try:
            found = choose(acting.first, query)
        except SelectionError:
            found = None
        if found is not None and _tells(acting.first, query, found):
            return found
        query.generator.set_state(state)
        instead = choose(acting.then, query)
        return replace(instead, notes={**instead.notes, "fell_back": 1.0})


def split(n: int, shares: tuple[float, ...]) -> list[int]:
    """n in whole parts as near to the shares as can be: largest remainders are rounded up, the first of equals.

    >>> split(10, (1, 1, 1)), split(1, (0.2, 0.8))
    ([4, 3, 3], [0, 1])
    """
    exact = [n * share / sum(shares) for share in shares]
    whole = [int(part) for part in exact]
    order = sorted(range(len(shares)), key=lambda i: whole[i] - exact[i])
    for i in order[: n - sum(whole)]:
        whole[i] += 1
    return whole


def _dealt(chosen: list[Selection], notes: dict[str, float]) -> Selection:
    """The choices as one, each spread evenly over it."""
    positions = torch.cat([found.positions for found in chosen])
    place = torch.cat([(torch.arange(n) + 0.5) / n for n in (len(found.positions) for found in chosen)])
    order = place.argsort(stable=True).to(positions.device)
    scores = [found.scores for found in chosen if found.scores is not None]
    alike = len(scores) == len(chosen)
    return Selection(positions[order], torch.cat([s.float() for s in scores])[order] if alike else None, notes)


def _tells(strategy: Strategy, query: Query, found: Selection) -> bool:
    """Whether a choice rests on any difference between rows."""
    if found.scores is None:
        return True
    if not isinstance(strategy, ScoreStrategy):
        return bool((found.scores != 0).any())
    if len(query.pool) == 1 or bool((found.scores != found.scores[0]).any()):
        return True
    scores = strategy.score(query)
    return bool((scores != scores[0]).any())


def state_of(query: Query) -> RoundState:
    """What the query itself tells of the round."""
    labels = query.labels
    counts = torch.bincount(labels, minlength=1) if labels.dim() == 1 else labels.sum(0)  # (L,) indices or (L, C) bool
    return RoundState(labels=len(labels), per_class=tuple(counts.tolist()))
