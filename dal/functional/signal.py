"""Statistical test of whether a space is informative about the labels."""

import math

import torch
from jaxtyping import Float, Int64
from torch import Tensor

from dal.functional.checking import aligned, integers
from dal.functional.neighbors import k_nearest
from dal.functional.points import Points, as_points, check_finite


@torch.no_grad()
def neighbor_agreement(points: Points | Float[Tensor, "L D"], labels: Int64[Tensor, " L"]) -> tuple[float, float]:
    """Share of points whose nearest other point has the same label, and its z-score relative to chance.

    The share is between 0 and 1. By chance, two distinct points drawn at random agree with probability
    `sum_c L_c (L_c - 1) / (L (L - 1))`; the z-score is the excess over it in standard errors of L such draws. It is
    about 0 if the space is uninformative about the labels, and 0 if all labels are equal, all differ, or there are
    fewer than 2 points.

    Cover and Hart 1967, "Nearest neighbor pattern classification".

    >>> neighbor_agreement(torch.tensor([[0.0], [0.1], [5.0], [5.1]]), torch.tensor([0, 0, 1, 1]))[0]
    1.0
    """
    points, labels = as_points(points), integers(labels, "labels")
    aligned(points=points, labels=labels)
    check_finite(points)
    L = len(labels)
    if L < 2:
        return 0.0, 0.0
    nearest = k_nearest(points, 1).indices.squeeze(1)  # (L,)
    agreement = float((labels[nearest] == labels).double().mean())
    sizes = torch.bincount(labels).double()
    chance = float((sizes * (sizes - 1)).sum()) / (L * (L - 1))
    error = math.sqrt(chance * (1 - chance) / L)
    return agreement, (agreement - chance) / error if error > 0 else 0.0
