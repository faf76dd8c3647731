"""Statistical test of whether a space is informative about the labels."""

import torch
from jaxtyping import Float, Int64
from torch import Tensor

from dal.functional.checked_tensors import aligned, integers
from dal.functional.neighbors import k_nearest
from dal.functional.points import Points, as_points, check_finite


@torch.no_grad()
def neighbor_agreement(points: Points | Float[Tensor, "L D"], labels: Int64[Tensor, " L"]) -> tuple[float, float]:
    """Share of points whose nearest other point has the same label, mean over classes, and its z-score against chance.

    The share of class c is that among its L_c points; classes with fewer than two points have none and do not count.
    By chance, the nearest other point of a point of class c has label c with probability `p_c = (L_c - 1) / (L - 1)`.
    The z-score is the excess of the mean over that of the p_c, in units of `sqrt(sum_c p_c (1 - p_c) / L_c) / C`. It is
    about 0 if the space is uninformative about the labels, and 0 if all labels are equal or all differ. A mean
    over the points would hide what the space tells about rare classes: where one class has nine in ten points, chance
    alone agrees in four of five cases.

    Cover and Hart 1967, "Nearest neighbor pattern classification".

    >>> neighbor_agreement(torch.tensor([[0.0], [0.1], [5.0], [5.1]]), torch.tensor([0, 0, 1, 1]))[0]
    1.0
    """
    points, labels = as_points(points), integers(labels, "labels")
    aligned(points=points, labels=labels)
    check_finite(points)
    sizes = torch.bincount(labels).double()
    repeated = sizes > 1  # (C,)
    if not bool(repeated.any()):
        return 0.0, 0.0
    nearest = k_nearest(points, 1).indices.squeeze(1)  # (L,)
    same = torch.zeros_like(sizes).index_add_(0, labels, (labels[nearest] == labels).double())
    sizes, same = sizes[repeated], same[repeated]
    chance = (sizes - 1) / (len(labels) - 1)
    agreement, by_chance = float((same / sizes).mean()), float(chance.mean())
    error = float((chance * (1 - chance) / sizes).sum().sqrt()) / len(sizes)
    return agreement, (agreement - by_chance) / error if error > 0 else 0.0
