"""Quality of a query batch: redundancy, novelty, class balance, uncertainty, and coverage of the pool."""

import math
from collections.abc import Iterable

import numpy as np
import torch
from torch import Tensor

from dal.functional.blocks import blocks
from dal.functional.checked_tensors import finite, integers
from dal.functional.checking import number, whole
from dal.functional.neighbors import nearest_distance
from dal.functional.points import DensePoints, check_finite
from dal.functional.uncertainty import entropy
from dal.outputs import Outputs

#: Number of points whose nearest-neighbour distances estimate the typical distance of a pool.
QUERIES = 500


def typical_distance(points: Tensor, *, queries: int = QUERIES) -> float | None:
    """Median distance of pool points to their nearest neighbour.

    Taken over the first `queries` points, with neighbours among all points. Points with an exact duplicate are left
    out, since many duplicates would make the median 0. None where no point is left.

    Args:
        points: (N, D), in random order.
        queries: number of points to search the neighbours of.

    Raises:
        ValueError: a point is not finite.

    Example:
        >>> typical_distance(torch.tensor([[0.0], [1.0], [5.0]]))
        1.0
    """
    queries = whole(queries, "queries", 1)
    if len(points) < 2:
        check_finite(DensePoints(points))
        return None
    few = points[:queries]
    if len(few) == len(points):
        near = nearest_distance(points)
    else:  # the nearest among the other points, or among the query points themselves
        rest = nearest_distance(few, among=points[queries:])
        near = torch.minimum(rest, nearest_distance(few)) if queries > 1 else rest
    apart = near[near > 0]
    return float(np.median(apart.double().cpu().numpy())) if len(apart) else None


def redundancy(batch: Tensor, before: Tensor, typical: float | None) -> float | None:
    """Share of a batch, 0 to 1, within the typical distance of an earlier selection.

    Earlier selections are those before it in the batch and the rows labeled before. None for an empty batch; with
    `typical` None only exact duplicates count.

    Args:
        batch: (n, D), in the order of selection.
        before: (L, D), rows labeled before.
        typical: the `typical_distance` of the pool.

    Raises:
        ValueError: a point is not finite.

    Example:
        >>> redundancy(torch.tensor([[0.0], [0.5], [9.0]]), torch.zeros(0, 1), 1.0)
        0.3333333333333333
    """
    typical = None if typical is None else number(typical, "typical", 0)
    check_finite(DensePoints(batch))
    if not len(batch):
        return None
    nearest = nearest_distance(batch, among=before) if len(before) else torch.full((len(batch),), torch.inf)
    nearest = torch.minimum(nearest.to(batch.device), _to_earlier(batch))
    return (nearest <= (typical or 0.0)).double().mean().item()


def _to_earlier(batch: Tensor) -> Tensor:
    """Distance of every point to the nearest one before it, (n,); infinite for the first."""
    points = DensePoints(batch)
    nearest = batch.new_full((len(batch),), torch.inf)
    number = torch.arange(len(batch), device=batch.device)
    for rows in blocks(len(batch), len(batch), batch.device):
        squared = points[rows].squared_distances(points)
        at = squared.masked_fill_(number >= number[rows, None], torch.inf).argmin(1)
        # Differences instead of the expanded square: that would cancel for near duplicates.
        nearest[rows] = points.pair_distances(points, number[rows], at).sqrt()
    nearest[:1] = torch.inf  # the first row has no earlier one; its argmin was that of infinite values
    return nearest


def novelty(batch: Tensor, before: Tensor, typical: float | None) -> float | None:
    """Mean distance of a batch's rows to the nearest row labeled before, in units of the typical distance.

    1 is as close as neighbours in the pool are. None where nothing was labeled before, the batch is empty or there is
    no typical distance. Shapes and errors as for `redundancy`.
    """
    typical = None if typical is None else number(typical, "typical", above=0)
    if not len(batch) or not len(before) or typical is None:
        return None
    return nearest_distance(batch, among=before).double().mean().item() / typical


def coverage(distances: Tensor) -> tuple[float, float] | None:
    """Mean and 95th percentile of the distances (N,) of pool rows to their nearest labeled row; None for N = 0."""
    if not len(distances):
        return None
    finite(distances, "distances")
    values = distances.double().cpu().numpy()
    return float(values.mean()), float(np.percentile(values, 95))


def balance(labels: Tensor, classes: int) -> float | None:
    """Class balance of the labels, 0 to 1: the entropy of the class counts divided by its maximum.

    1 when min(n, C) classes have equally many of the n labels. None for fewer than two labels or classes.

    Args:
        labels: (n,) int64; (n, C) bool when multi-label, where every class of a row counts.
        classes: number of classes C.

    Example:
        >>> balance(torch.tensor([0, 1, 0, 1]), 2)
        1.0
    """
    classes = whole(classes, "classes", 1)
    if labels.dim() == 1:
        labels = integers(labels, "labels", 0, classes)
    counts = labels.sum(0) if labels.dim() == 2 else torch.bincount(labels, minlength=classes)
    total = int(counts.sum())
    if min(total, classes) < 2:
        return None
    shares = counts[counts > 0].double() / total
    # The largest entropy that so few labels can have: one label for each of them if there are fewer than classes.
    value = -(shares * shares.log()).sum().item() / math.log(min(total, classes))
    return min(1.0, max(0.0, value))


def mean_uncertainty(outputs: Outputs) -> float | None:
    """Mean entropy of the predictions divided by its maximum, 0 to 1.

    None without rows, and where a probability is NaN or infinite.
    """
    if not len(outputs) or not bool(torch.isfinite(outputs.probs).all()):
        return None
    greatest = math.log(2 if outputs.multilabel else max(2, outputs.probs.shape[1]))
    return min(1.0, entropy(outputs.probs, multilabel=outputs.multilabel).double().mean().item() / greatest)


def overlap(first: Iterable[str], second: Iterable[str]) -> float | None:
    """Jaccard index of two selections, 0 to 1 (Jaccard 1912); None where both are empty.

    Example:
        >>> overlap(["a", "b"], ["b", "c"])
        0.3333333333333333
    """
    one, other = set(first), set(second)
    return len(one & other) / len(one | other) if one | other else None
