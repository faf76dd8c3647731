"""Two-dimensional projection of the pool."""

import torch
from torch import Tensor

from dal.functional.checked_tensors import finite


def principal_plane(points: Tensor) -> Tensor:
    """Project points onto their first two principal components, (N, 2) float64, centred.

    The sign of each component is such that its entry of largest magnitude is positive, so that the map does not flip
    between runs. Coordinates along a component without variance are 0.

    Pearson 1901, "On Lines and Planes of Closest Fit to Systems of Points in Space".

    Args:
        points: (N, D).

    Example:
        >>> principal_plane(torch.tensor([[0.0, 0.0], [2.0, 0.0], [4.0, 0.0]])).tolist()
        [[-2.0, 0.0], [0.0, 0.0], [2.0, 0.0]]
    """
    projected = torch.zeros(len(points), 2, dtype=torch.float64)
    if len(points) < 2 or not points.shape[1]:
        return projected
    finite(points, "points")
    centred = points.detach().cpu().double()
    centred = centred - centred.mean(0)
    N, D = centred.shape
    if N < D:  # the eigenvectors of (N, N) dot products give the same plane: (D, D) is slow at D = 4096
        variances, positions = torch.linalg.eigh(centred @ centred.T)  # ascending
        directions = torch.nn.functional.normalize(centred.T @ positions[:, -2:], dim=0)
    else:
        variances, directions = torch.linalg.eigh(centred.T @ centred)
    # Components of rounding errors only are set to 0, or they would be drawn as if they were structure.
    kept = variances[-2:].flip(0) > 1e-12 * variances[-1].clamp_min(torch.finfo(torch.float64).tiny)
    best = directions[:, -2:].flip(1)  # (D, up to 2)
    # The sign of an eigenvector is arbitrary: its largest entry is made positive, on every machine alike.
    best = best * best.gather(0, best.abs().argmax(0, keepdim=True)).sign() * kept
    projected[:, : best.shape[1]] = centred @ best
    return projected
