"""Agglomerative clustering, and round-robin selection from clusters."""

import torch
from jaxtyping import Float, Int64
from torch import Tensor

from dal.functional.blocks import blocks
from dal.functional.checked_tensors import integers
from dal.functional.checking import chosen, whole
from dal.functional.clustering import kmeans
from dal.functional.points import DensePoints, checked, vectors

#: Maximum number of rows whose pairwise distances are held, with a copy: 16 bytes for each of 4,000^2 / 2, 128 MB.
PAIRED = 4_000

#: Number of k-means clusters that summarise larger numbers of rows.
SUMMARIES = 2_000


@torch.no_grad()
def average_linkage(
    x: Float[Tensor, "N D"],
    k: int,
    *,
    generator: torch.Generator,
    paired: int = PAIRED,
    summaries: int = SUMMARIES,
) -> Int64[Tensor, " N"]:
    """Agglomerative clustering with average linkage into k clusters: cluster index of each row, (N,), from 0 to k - 1.

    The distance between two clusters is the mean distance between their members. There are fewer than k clusters if
    fewer rows are distinct, or if ties prevent exactly k. More than `paired` rows are first summarised by `summaries`
    k-means clusters, whose centers are then clustered with equal weights; this is an approximation. (If k is at least
    `summaries`, the clusters are those of k-means.) The linkage runs on the CPU and holds 16 bytes for each of
    min(N, paired)^2 / 2 pairs.

    Sokal and Michener 1958, "A statistical method for evaluating systematic relationships"; for active learning
    Citovsky et al. 2021, "Batch Active Learning at Scale".

    Raises:
        ValueError: k is not within 1..N, or a row is not finite.
        TypeError: the rows are not plain vectors.

    >>> average_linkage(torch.tensor([[0.0], [9.0], [1.0]]), 2, generator=torch.Generator()).tolist()
    [0, 1, 0]
    """
    x = vectors(checked(x, k, "k"), "average linkage")
    paired, summaries = whole(paired, "paired", 0), whole(summaries, "summaries", 1)
    if len(x) <= paired or k == len(x):
        return _numbered(_joined(x, k))
    if k >= summaries:
        return _numbered(kmeans(x, k, generator=generator).assignment)
    summary = kmeans(x, summaries, generator=generator)
    return _numbered(_joined(summary.centers, k)[summary.assignment])


def _joined(x: Tensor, k: int) -> Tensor:
    """Cluster of each row by average linkage, (N,)."""
    from scipy.cluster.hierarchy import fcluster, linkage  # imported here because it is slow

    if k >= len(x):  # k of 1 and of N need no linkage, and a linkage of a single row is an error
        return torch.arange(len(x), device=x.device)
    if k == 1:
        return torch.zeros(len(x), dtype=torch.int64, device=x.device)
    tree = linkage(_pairs(x).numpy(), "average")
    return torch.from_numpy(fcluster(tree, k, "maxclust")).long().to(x.device)


def _pairs(x: Tensor) -> Tensor:
    """Condensed distance matrix: distances of all pairs i < j, row by row, (N (N - 1) / 2,) float64 on the CPU."""
    points = DensePoints(x)
    index = torch.arange(len(x), device=x.device)
    pairs, filled = torch.empty(len(x) * (len(x) - 1) // 2, dtype=torch.float64), 0
    for rows in blocks(len(x), len(x), x.device):
        distances = points[rows].squared_distances(points).sqrt()  # (B, N)
        later = distances[index > index[rows, None]].cpu()
        pairs[filled : filled + len(later)] = later
        filled += len(later)
    return pairs


def _numbered(clusters: Tensor) -> Tensor:
    """Renumber clusters from 0, in the order of first appearance."""
    _, inverse = clusters.unique(return_inverse=True)
    first = torch.full((int(inverse.max()) + 1,), len(clusters), device=clusters.device)
    first = first.scatter_reduce(0, inverse, torch.arange(len(clusters), device=clusters.device), "amin")
    return first.argsort().argsort()[inverse]


@torch.no_grad()
def round_robin(assignment: Int64[Tensor, " N"], n: int) -> Int64[Tensor, " n"]:
    """Positions of n rows taken from their clusters in round-robin order, the smallest cluster first, (n,).

    Within a cluster, rows are taken in order of position, so the best should come first. Clusters of equal size are
    ordered by their first rows.

    Citovsky et al. 2021, "Batch Active Learning at Scale".

    Raises:
        ValueError: n is not within 1..N.

    >>> round_robin(torch.tensor([0, 0, 0, 1, 0, 1]), 4)
    tensor([3, 0, 5, 1])
    """
    assignment = integers(assignment, "assignment", torch.iinfo(torch.int64).min)
    n = chosen(n, len(assignment), "rows")
    assignment = _numbered(assignment)
    sizes = torch.bincount(assignment)
    turn = sizes.argsort(stable=True).argsort()[assignment]  # (N,) rank of the row's cluster within a round
    grouped = assignment.argsort(stable=True)
    starts = sizes.cumsum(0) - sizes
    rounds = torch.empty_like(grouped)
    rounds[grouped] = torch.arange(len(grouped), device=grouped.device) - starts.repeat_interleave(sizes)
    return (rounds * len(sizes) + turn).argsort(stable=True)[:n]
