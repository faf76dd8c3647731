"""Candidate generation: subsets of a large pool that are drawn before the model pass, which then covers only them."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from dal.config.moved import accepts_old_options
from dal.errors import ConfigError, NeedError, SelectionError
from dal.functional.checking import as_integer, number, shown
from dal.functional.neighbors import k_nearest
from dal.functional.seeding import kmeans_plusplus
from dal.learner import Learner
from dal.outputs import Outputs, closure

#: Number of rows whose embeddings are held at once.
BLOCK = 32_768


@accepts_old_options
@dataclass(frozen=True, eq=False)
class CandidateQuery:
    """The complete input of a candidate generator.

    Attributes:
        unlabeled: (M,) int64, rows of the data that can be drawn, ascending.
        labeled: (L,) int64, labeled rows, ascending; L may be 0.
        labels: (L,) int64 labels of these rows, or (L, C) bool when multi-label.
        n: number of rows that will be selected from the candidates, 1 <= n <= M.
        generator: generator on the CPU; the only source of randomness that a generator may use.
        size: number of rows of the data.
        read: function from rows to their declared outputs, computed by an untrained model.
        memory: values kept between the rounds of a session in one process. A resumed session starts with an empty one
            and must produce the same candidates.
        read_kept: function from rows to the outputs `keeps` of the generator, as the trained model of the latest pass
            over the whole pool computed them, in half precision; None for a generator without `keeps`.
    """

    unlabeled: Tensor
    labeled: Tensor
    labels: Tensor
    n: int
    generator: torch.Generator
    size: int
    read: Callable[[Tensor], Outputs]
    memory: dict[Any, Any] = field(default_factory=dict)
    read_kept: Callable[[Tensor], Outputs] | None = None

    def sample(self, count: int) -> Tensor:
        """Draw `count` of the unasked rows at random, ascending; all of them if there are no more than that."""
        if count >= len(self.unlabeled):
            return self.unlabeled
        drawn = torch.randperm(len(self.unlabeled), generator=self.generator)[:count]
        return self.unlabeled[drawn.sort().values]


class Candidates(ABC):
    """Candidate generator: draws the rows that are scored in a round. Subclasses are frozen dataclasses.

    Class attributes (plain and unannotated, so that they do not become options):
        needs: names of the outputs that the generator reads; all must be `label_free` in the learner.
        keeps: names of the outputs of the trained model that the generator reads in later rounds, a vector per row.
            Some rounds then score the whole pool and keep these outputs, and the others score what `choose` draws by
            them. Each pass over the whole pool measures the recall of the candidates that it replaces, and with it the
            number of rounds to the next one goes up or down by one: see `min_recall` and `every`.
        min_recall: recall, above 0 and up to 1, from which the passes become rarer. May be an option of the same name.
        every: maximum number of rounds from one pass over the whole pool to the next, at least 2. May be an option of
            the same name.
        paper: reference of the method.
        advice: one line of guidance: when to use the generator and when not.
    """

    needs = frozenset()  # type: ignore[var-annotated]
    keeps = frozenset()  # type: ignore[var-annotated]
    min_recall = 0.8
    every = 5
    paper = ""
    advice = ""

    @abstractmethod
    def choose(self, query: CandidateQuery) -> Tensor:
        """Draw K of the unasked rows, (K,) int64. If K < n, the caller adds random rows."""


@dataclass(frozen=True)
class RandomSubset(Candidates):
    """A random subset of the unasked rows, drawn again in every round.

    Args:
        size: number of candidates; raised to the batch size if that is larger.
    """

    size: int = 10_000

    advice = "The cheapest option for a large pool. A rare class stays rare among the candidates: see AnchorAL."

    def __post_init__(self) -> None:
        at_least(self, "size", 1)

    def choose(self, query: CandidateQuery) -> Tensor:
        """Draw `size` rows at random."""
        return query.sample(max(self.size, query.n))


@dataclass(frozen=True)
class SEALS(Candidates):
    """The nearest neighbours of the labeled rows: the cost of a round grows with the labels instead of the pool.

    For each labeled row, the `neighbors` rows at the smallest angle in `embeddings`. Those that were never asked are
    the candidates, at most L * neighbors. The neighbours of a row do not depend on the other labels, so a session
    computes them once per new label with N * E operations and keeps L * neighbors numbers. While nothing is labeled,
    the candidates are n * neighbors random rows.

    Coleman et al. 2022, "Similarity Search for Efficient Active Learning and Search of Rare Concepts".

    Args:
        neighbors: number of neighbours of each labeled row.
    """

    neighbors: int = 100

    needs = frozenset({"embeddings"})
    paper = "Coleman et al. 2022"
    advice = "Rare classes in huge pools, once each has a label. Ignores rows far from all labels: start broadly."

    def __post_init__(self) -> None:
        at_least(self, "neighbors", 1)

    def choose(self, query: CandidateQuery) -> Tensor:
        """Return the neighbours of labeled rows that were never asked."""
        if not len(query.labeled):
            return query.sample(query.n * self.neighbors)
        near = torch.zeros(query.size, dtype=torch.bool)
        near[self._neighbors(query).flatten()] = True
        return query.unlabeled[near[query.unlabeled]]

    def _neighbors(self, query: CandidateQuery) -> Tensor:
        """Neighbours of each labeled row, (L, k) rows of the data, nearest first; computed for new labels only."""
        cache: dict[int, Tensor] = query.memory.setdefault(self, {})
        new = [row for row in query.labeled.tolist() if row not in cache]
        if new:
            rows = _nearest_rows(query, torch.tensor(new), min(self.neighbors, query.size - 1))
            cache.update(zip(new, rows.cpu(), strict=True))
        return torch.stack([cache[row] for row in query.labeled.tolist()])


@dataclass(frozen=True)
class AnchorAL(Candidates):
    """The rows most similar to the labeled rows of each class, equally many for rare and for common classes.

    k-means++ draws up to `anchors` anchors from the labeled rows of each class. The score of a row for a class is its
    mean cosine similarity to these anchors in `embeddings`. Candidates are the best row of every class, then the second
    best, and so on, until there are `size` distinct rows. Anchors are drawn again in every round, so that the
    candidates do not concentrate in one region. While nothing is labeled, the candidates are `size` random rows. The
    cost is one matrix product of the unasked rows with C vectors; memory is C * size scores.

    Lesci and Vlachos 2024, "AnchorAL: Computationally Efficient Active Learning for Large and Imbalanced Datasets".

    Args:
        anchors: maximum number of anchors per class.
        size: number of candidates; raised to the batch size if that is larger.
    """

    anchors: int = 10
    size: int = 1000

    needs = frozenset({"embeddings"})
    paper = "Lesci and Vlachos 2024"
    advice = "Large pools with rare classes that all have a few labels. A class without a label gets no candidates."

    def __post_init__(self) -> None:
        at_least(self, "anchors", 1)
        at_least(self, "size", 1)

    def choose(self, query: CandidateQuery) -> Tensor:
        """Return the best rows of all classes in turn."""
        size = min(max(self.size, query.n), len(query.unlabeled))
        labels = query.labels
        members = labels.T if labels.dim() == 2 else [labels == code for code in labels.unique()]
        rows_of = [mask.nonzero().flatten() for mask in members if bool(mask.any())]  # positions among the labeled
        if not rows_of:
            return query.sample(size)
        points = _unit(query.read(query.labeled))
        centers = []
        for rows in rows_of:
            anchors = points[rows.to(points.device)]
            if len(anchors) > self.anchors:
                anchors = anchors[kmeans_plusplus(anchors, self.anchors, generator=query.generator, first="uniform")]
            centers.append(anchors.mean(0))  # the inner product with the mean is the mean similarity to the anchors
        best = _most_similar(query, torch.stack(centers), size).cpu()  # (C, size), positions among the unasked
        # Read class by class in turn, `best` may name a row several times: its first occurrence decides its rank.
        order = torch.arange(best.numel())
        first = torch.full((len(query.unlabeled),), best.numel()).scatter_reduce(0, best.T.flatten(), order, "amin")
        return query.unlabeled[first.argsort(stable=True)[:size]]


def as_candidates(given: int | Candidates | None) -> Candidates | None:
    """Convert the `candidates` option of a session: a number of random rows, a generator, or `None` for all rows.

    Raises:
        ConfigError: a number below 1.
    """
    if given is None or isinstance(given, Candidates):
        return given
    count = as_integer(given)
    if count is None:
        raise ConfigError(
            f"candidates must be a number of rows, a generator such as RandomSubset or null, not {shown(given)}"
        )
    if count < 1:
        raise ConfigError(f"candidates must be at least 1, got {shown(given)}")
    return RandomSubset(count)


def check_candidates(candidates: Candidates | None, learner: Learner) -> None:
    """Check at the start of a session that the learner provides what the generator reads.

    Raises:
        ConfigError: the generator keeps outputs, and its `every` or `min_recall` is out of range.
        NeedError: an output is missing.
    """
    offered = closure(learner.label_free)
    missing = sorted(frozenset() if candidates is None else frozenset(candidates.needs) - offered)
    if missing:
        raise NeedError(
            f"{type(candidates).__name__} reads {', '.join(missing)} before anything is trained, which "
            f"{type(learner).__name__} does not offer; it offers {', '.join(sorted(offered)) or 'nothing'}. Set "
            "candidates to a number for a random subset, or use another learner"
        )
    if candidates is None or not candidates.keeps:
        return
    check_schedule(candidates)
    other = "LinearProxy or " if "embeddings" in offered else ""
    if absent := sorted(frozenset(candidates.keeps) - closure(learner.provides)):
        raise NeedError(
            f"{type(candidates).__name__} keeps {', '.join(absent)} of the trained model, which "
            f"{type(learner).__name__} does not offer: set candidates to {other}a number for a random subset, or use "
            "another learner"
        )


def candidate_rows(candidates: Candidates, query: CandidateQuery) -> Tensor:
    """Run a candidate generator, validate its rows and add random rows up to n; ascending, (K,) int64.

    Raises:
        SelectionError: the result does not consist of distinct unasked rows.
    """
    if len(query.unlabeled) <= query.n:
        return query.unlabeled
    rows, name = candidates.choose(query), type(candidates).__name__
    if not isinstance(rows, Tensor) or rows.dtype != torch.int64 or rows.dim() != 1:
        raise SelectionError(f"{name} must return int64 rows of shape (K,)")
    free = torch.zeros(query.size, dtype=torch.bool)
    free[query.unlabeled] = True
    rows = rows.cpu()
    inside = (rows >= 0) & (rows < query.size)
    if not bool(inside.all()) or not bool(free[rows].all()):
        raise SelectionError(f"{name} returned rows that are not among the unasked ones")
    taken = torch.zeros_like(free)
    taken[rows] = True
    if int(taken.sum()) < len(rows):
        raise SelectionError(f"{name} returned a row twice")
    if len(rows) < query.n:  # a batch must be full even if the generator finds too few
        left = (free & ~taken).nonzero().flatten()
        taken[left[torch.randperm(len(left), generator=query.generator)[: query.n - len(rows)]]] = True
    return taken.nonzero().flatten()


def at_least(candidates: Candidates, name: str, least: int) -> None:
    """Raise `ConfigError` if an attribute of a generator is not a whole number from `least`."""
    value = getattr(candidates, name)
    given = as_integer(value)
    if given is None or given < least:
        raise ConfigError(
            f"{name} of {type(candidates).__name__} must be a whole number of at least {least}, got {shown(value)}"
        )


def check_schedule(candidates: Candidates) -> None:
    """Raise `ConfigError` if `every` or `min_recall` of a generator is out of range."""
    at_least(candidates, "every", 2)
    number(candidates.min_recall, f"min_recall of {type(candidates).__name__}", above=0, most=1, error=ConfigError)


def _unit(outputs: Outputs) -> Tensor:
    """Embeddings at unit length, (R, E)."""
    return F.normalize(outputs.embeddings, dim=1)


def row_blocks(rows: Tensor) -> Iterator[tuple[int, Tensor]]:
    """Yield blocks of up to `BLOCK` rows, each after the position of its first row."""
    for start in range(0, len(rows), BLOCK):
        yield start, rows[start : start + BLOCK]


def _nearest_rows(query: CandidateQuery, rows: Tensor, k: int) -> Tensor:
    """The k other rows at the smallest angle to each of R rows, (R, k), nearest first; ties go to the lower row."""
    points = _unit(query.read(rows))
    distances = points.new_empty(len(rows), 0)
    indices = torch.empty(len(rows), 0, dtype=torch.int64, device=points.device)
    own = rows.to(points.device)[:, None]
    for start, block in row_blocks(torch.arange(query.size)):
        near = k_nearest(points, min(k + 1, len(block)), among=_unit(query.read(block)))  # one may be the row itself
        neighbors = near.indices + start
        distances = torch.cat([distances, near.distances.masked_fill(neighbors == own, torch.inf)], 1)
        indices = torch.cat([indices, neighbors], 1)
        order = distances.argsort(dim=1, stable=True)[:, :k]
        distances, indices = distances.gather(1, order), indices.gather(1, order)
    return indices


def _most_similar(query: CandidateQuery, centers: Tensor, count: int) -> Tensor:
    """Positions among the unasked of the `count` rows most similar to each of C centers, (C, count), best first."""
    scores = centers.new_empty(len(centers), 0)
    positions = torch.empty(len(centers), 0, dtype=torch.int64, device=centers.device)
    for start, block in row_blocks(query.unlabeled):
        similarity = centers @ _unit(query.read(block)).T  # (C, B)
        at = torch.arange(start, start + len(block), device=centers.device).expand(len(centers), -1)
        scores, positions = torch.cat([scores, similarity], 1), torch.cat([positions, at], 1)
        kept = scores.topk(min(count, scores.shape[1]), 1)
        scores, positions = kept.values, positions.gather(1, kept.indices)
    return positions
