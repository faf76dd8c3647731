"""Whether a space knows anything about the labels."""

import math

import torch
from jaxtyping import Float, Int64
from torch import Tensor

from dal.functional.checking import aligned, integers
from dal.functional.neighbors import k_nearest
from dal.functional.points import Points, as_points, check_finite


@torch.no_grad()
def neighbor_agreement(points: Points | Float[Tensor, "L D"], labels: Int64[Tensor, " L"]) -> tuple[float, float]:
    """How often the nearest other point has the same label, from 0 to 1, and how many standard errors that is above
    chance.

    Chance is two different points drawn at random, sum_c L_c (L_c - 1) / (L (L - 1)), and its standard error that of
    L such draws. About 0 where the space tells nothing about the labels; 0 too where all labels are equal or all
    differ, or there are fewer than 2 points.

    Cover and Hart 1967, "Nearest neighbor pattern classification", for what the nearest neighbour knows.

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
