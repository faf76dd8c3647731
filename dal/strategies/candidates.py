"""Which rows are worth a pass of the model: candidates for a strategy to choose from, drawn before the pass is paid."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from dal.errors import ConfigError, NeedError, SelectionError
from dal.functional.checking import as_whole, shown
from dal.functional.neighbors import k_nearest
from dal.functional.seeding import kmeans_plusplus
from dal.learner import Learner
from dal.outputs import Outputs, closure

#: Rows whose embeddings are held at once.
BLOCK = 32_768


@dataclass(frozen=True, eq=False)
class CandidateQuery:
    """Everything a candidate generator may look at.

    Attributes:
        unasked: (M,) int64, the rows of the data to draw from, ascending.
        labeled: (L,) int64, the rows with a label, ascending; L may be 0.
        labels: theirs, (L,) int64, or (L, C) bool when multi-label.
        n: how many rows will be chosen among the candidates, 1 <= n <= M.
        generator: on the CPU; the only randomness it may use.
        size: rows of the data.
        read: the declared outputs of some rows, from a model that nothing was trained for.
        memory: kept from round to round as long as the session lives. A session made again starts without it, and must
            come to the same candidates.
    """

    unasked: Tensor
    labeled: Tensor
    labels: Tensor
    n: int
    generator: torch.Generator
    size: int
    read: Callable[[Tensor], Outputs]
    memory: dict[Any, Any] = field(default_factory=dict)

    def sample(self, count: int) -> Tensor:
        """So many of the unasked rows at random, ascending; all when there are no more."""
        if count >= len(self.unasked):
            return self.unasked
        drawn = torch.randperm(len(self.unasked), generator=self.generator)[:count]
        return self.unasked[drawn.sort().values]


class Candidates(ABC):
    """Draws the rows that are scored in a round. Subclasses are frozen dataclasses: their fields are their options.

    Class attributes (plain and unannotated, so that they do not become options):
        needs: names that it reads of any row; they must be among the learner's `label_free` ones.
        paper: where the method was published.
        advice: one line: when it wins and when it loses.
    """

    needs = frozenset()  # type: ignore[var-annotated]
    paper = ""
    advice = ""

    @abstractmethod
    def choose(self, query: CandidateQuery) -> Tensor:
        """Some of the unasked rows, (K,) int64. Where they are fewer than n, random ones are added."""


@dataclass(frozen=True)
class RandomSubset(Candidates):
    """A random subset of the unasked rows, another one in every round.

    Args:
        size: how many rows; a request for more rows makes as many candidates.
    """

    size: int = 10_000

    advice = "The cheap way to a large pool. A rare class is as rare among the candidates: see AnchorAL."

    def __post_init__(self) -> None:
        _at_least_one(self, "size")

    def choose(self, query: CandidateQuery) -> Tensor:
        """So many at random."""
        return query.sample(max(self.size, query.n))


@dataclass(frozen=True)
class SEALS(Candidates):
    """The nearest neighbours of the labeled rows, so that a round costs what the labels make of it, not the pool.

    For each labeled row the `neighbors` rows with the smallest angle to it in `embeddings`; those that were never asked
    are the candidates: at most L * neighbors. The neighbours of a row do not depend on what is labeled: a session finds
    them once, for each round's new labels, by N * E operations per label, and keeps L * neighbors numbers. While
    nothing is labeled, n * neighbors random rows.

    Coleman et al. 2022, "Similarity Search for Efficient Active Learning and Search of Rare Concepts".

    Args:
        neighbors: k, of each labeled row.
    """

    neighbors: int = 100

    needs = frozenset({"embeddings"})
    paper = "Coleman et al. 2022"
    advice = "Rare classes in huge pools, once each has a label. Far from all labels it sees nothing: start broadly."

    def __post_init__(self) -> None:
        _at_least_one(self, "neighbors")

    def choose(self, query: CandidateQuery) -> Tensor:
        """The neighbours that were never asked."""
        if not len(query.labeled):
            return query.sample(query.n * self.neighbors)
        near = torch.zeros(query.size, dtype=torch.bool)
        near[self._neighbors(query).flatten()] = True
        return query.unasked[near[query.unasked]]

    def _neighbors(self, query: CandidateQuery) -> Tensor:
        """Rows of the data (L, k), nearest first: those that are known, and those of the new labels."""
        known: dict[int, Tensor] = query.memory.setdefault(self, {})
        new = [row for row in query.labeled.tolist() if row not in known]
        if new:
            found = _nearest_rows(query, torch.tensor(new), min(self.neighbors, query.size - 1))
            known.update(zip(new, found.cpu(), strict=True))
        return torch.stack([known[row] for row in query.labeled.tolist()])


@dataclass(frozen=True)
class AnchorAL(Candidates):
    """The rows most like the labeled rows of each class, as many for a rare class as for a common one.

    Each class with a label gets up to `anchors` of its labeled rows as anchors, drawn by k-means++. A row's score for
    the class is its mean cosine similarity to these in `embeddings`; the candidates are the best of every class, the
    second best, and so on, until there are `size` different ones. Anchors are drawn again in every round, which spares
    the choice a look at one corner only. While nothing is labeled, `size` random rows. Costs one matrix product of the
    unasked rows with C vectors, and holds C * size scores.

    Lesci and Vlachos 2024, "AnchorAL: Computationally Efficient Active Learning for Large and Imbalanced Datasets".

    Args:
        anchors: labeled rows that stand for a class.
        size: how many candidates; a request for more rows makes as many.
    """

    anchors: int = 10
    size: int = 1000

    needs = frozenset({"embeddings"})
    paper = "Lesci and Vlachos 2024"
    advice = (
        "Large pools with rare classes, of each of which a few rows are labeled. A class never seen gets no anchor."
    )

    def __post_init__(self) -> None:
        _at_least_one(self, "anchors")
        _at_least_one(self, "size")

    def choose(self, query: CandidateQuery) -> Tensor:
        """The best of all classes in turn."""
        size = min(max(self.size, query.n), len(query.unasked))
        rows_of = _rows_of_classes(query.labels)
        if not rows_of:
            return query.sample(size)
        points = _unit(query.read(query.labeled))
        centers = torch.stack([self._center(points[rows.to(points.device)], query.generator) for rows in rows_of])
        best = _most_similar(query, centers, size).cpu()  # (C, size), positions among the unasked
        turn = torch.arange(best.numel())
        first = torch.full((len(query.unasked),), best.numel()).scatter_reduce(0, best.T.flatten(), turn, "amin")
        return query.unasked[first.argsort(stable=True)[:size]]

    def _center(self, points: Tensor, generator: torch.Generator) -> Tensor:
        """The mean (E,) of the anchors of a class: a product with it is the mean similarity."""
        if len(points) > self.anchors:
            points = points[kmeans_plusplus(points, self.anchors, generator=generator, first="uniform")]
        return points.mean(0)


def as_candidates(given: int | Candidates | None) -> Candidates | None:
    """What a session is given: a number of random rows, a generator, or None for all rows.

    Raises:
        ConfigError: a number below 1.
    """
    if given is None or isinstance(given, Candidates):
        return given
    count = as_whole(given)
    if count is None:
        raise ConfigError(
            f"candidates must be a number of rows, a generator such as RandomSubset or null, not {shown(given)}"
        )
    if count < 1:
        raise ConfigError(f"candidates must be at least 1, got {shown(given)}")
    return RandomSubset(count)


def check_candidates(candidates: Candidates | None, learner: Learner) -> None:
    """Make sure that the learner offers what the generator reads without training, before any time is spent.

    Raises:
        NeedError: it does not.
    """
    offered = closure(learner.label_free)
    missing = sorted(frozenset() if candidates is None else frozenset(candidates.needs) - offered)
    if missing:
        raise NeedError(
            f"{type(candidates).__name__} reads {', '.join(missing)} before anything is trained, which "
            f"{type(learner).__name__} does not offer; it offers {', '.join(sorted(offered)) or 'nothing'}. Give "
            "candidates a number for a random subset, or another learner"
        )


def candidate_rows(candidates: Candidates, query: CandidateQuery) -> Tensor:
    """The generator's rows, checked, with random ones added up to n, ascending, (K,) int64.

    Raises:
        SelectionError: it returned something else than different unasked rows.
    """
    if len(query.unasked) <= query.n:
        return query.unasked
    rows, name = candidates.choose(query), type(candidates).__name__
    if not isinstance(rows, Tensor) or rows.dtype != torch.int64 or rows.dim() != 1:
        raise SelectionError(f"{name} must return int64 rows of shape (K,)")
    free = torch.zeros(query.size, dtype=torch.bool)
    free[query.unasked] = True
    rows = rows.cpu()
    inside = (rows >= 0) & (rows < query.size)
    if not bool(inside.all()) or not bool(free[rows].all()):
        raise SelectionError(f"{name} returned rows that are not among the unasked ones")
    taken = torch.zeros_like(free)
    taken[rows] = True
    if int(taken.sum()) < len(rows):
        raise SelectionError(f"{name} returned a row twice")
    if len(rows) < query.n:
        left = (free & ~taken).nonzero().flatten()
        taken[left[torch.randperm(len(left), generator=query.generator)[: query.n - len(rows)]]] = True
    return taken.nonzero().flatten()


def _at_least_one(candidates: Candidates, name: str) -> None:
    value = getattr(candidates, name)
    if (as_whole(value) or 0) < 1:
        raise ConfigError(f"{name} of {type(candidates).__name__} must be at least 1, got {shown(value)}")


def _rows_of_classes(labels: Tensor) -> list[Tensor]:
    """Where the rows of each class that has a label stand among the labeled ones."""
    if labels.dim() == 2:
        return [column.nonzero().flatten() for column in labels.T if bool(column.any())]
    return [(labels == code).nonzero().flatten() for code in labels.unique()]


def _unit(outputs: Outputs) -> Tensor:
    """Embeddings at unit length, (R, E)."""
    return F.normalize(outputs.embeddings, dim=1)


def _blocks(rows: Tensor) -> Iterator[tuple[int, Tensor]]:
    for start in range(0, len(rows), BLOCK):
        yield start, rows[start : start + BLOCK]


def _nearest_rows(query: CandidateQuery, rows: Tensor, k: int) -> Tensor:
    """For each of R rows the k others at the smallest angle, (R, k), nearest first, the first of equals."""
    points = _unit(query.read(rows))
    distances = points.new_empty(len(rows), 0)
    indices = torch.empty(len(rows), 0, dtype=torch.int64, device=points.device)
    own = rows.to(points.device)[:, None]
    for start, block in _blocks(torch.arange(query.size)):
        found = k_nearest(points, min(k + 1, len(block)), among=_unit(query.read(block)))  # one may be the row itself
        at = found.indices + start
        distances = torch.cat([distances, found.distances.masked_fill(at == own, torch.inf)], 1)
        indices = torch.cat([indices, at], 1)
        order = distances.argsort(dim=1, stable=True)[:, :k]
        distances, indices = distances.gather(1, order), indices.gather(1, order)
    return indices


def _most_similar(query: CandidateQuery, centers: Tensor, count: int) -> Tensor:
    """For each of C centers the positions among the unasked of the most similar, (C, count), best first."""
    scores = centers.new_empty(len(centers), 0)
    positions = torch.empty(len(centers), 0, dtype=torch.int64, device=centers.device)
    for start, block in _blocks(query.unasked):
        similarity = centers @ _unit(query.read(block)).T  # (C, B)
        at = torch.arange(start, start + len(block), device=centers.device).expand(len(centers), -1)
        scores, positions = torch.cat([scores, similarity], 1), torch.cat([positions, at], 1)
        kept = scores.topk(min(count, scores.shape[1]), 1)
        scores, positions = kept.values, positions.gather(1, kept.indices)
    return positions
