"""Class shares of labels in the decisions of a classifier: logit adjustment, and thresholds of several labels."""

import torch
from jaxtyping import Float
from torch import Tensor

from dal.functional.checked_tensors import floats
from dal.functional.checking import number
from dal.functional.points import as_points, check_finite


@torch.no_grad()
def logit_adjustment(counts: Float[Tensor, " C"], strength: float, *, smoothing: float = 0.5) -> Float[Tensor, " C"]:
    """Shift of the logits that takes the class shares of the training labels out of the decision, in nats.

    `-strength * log((n_c + smoothing) / (n + C * smoothing))`. At strength 1 a classifier that was trained on shares
    `n_c / n` decides as for equal shares; 0 leaves it as it is. Menon et al. 2021, "Long-tail Learning via Logit
    Adjustment", applied after training.

    Args:
        counts: number, or total weight, of the labels of each class.
        strength: from 0 (none) to 1 (equal shares).
        smoothing: pseudo-count of every class, above 0: a class without a label has a finite shift.

    Raises:
        ValueError: a count is negative or not finite, or the strength or the smoothing is out of range.

    >>> logit_adjustment(torch.tensor([8.0, 2.0]), 1.0).diff()  # log((8 + .5) / (2 + .5))
    tensor([1.2238])
    """
    counts = floats(counts, "counts", 1)
    strength = number(strength, "strength", 0, 1)
    smoothing = number(smoothing, "smoothing", above=0)
    check_finite(as_points(counts[:, None]))
    if bool((counts < 0).any()):
        raise ValueError("counts must not be negative")
    smoothed = counts.double() + smoothing
    return (-strength * (smoothed / smoothed.sum()).log()).float()


@torch.no_grad()
def share_thresholds(logits: Float[Tensor, "N C"], shares: Float[Tensor, " C"]) -> Float[Tensor, " C"]:
    """Threshold of the logits of each class above which the given share of the rows lies.

    A multi-label classifier that was trained on few labels has hardly any probability above 1/2. With these thresholds
    it assigns every class as often as the labels say ("proportional cut", Yang 2001, "A Study of Thresholding
    Strategies for Text Categorization"). A threshold lies halfway between the last row above and the first below.

    Args:
        logits: of N >= 1 rows, usually of the pool.
        shares: wanted share of each class, 0 to 1.

    Raises:
        ValueError: there are no rows, a logit is not finite, or a share is not between 0 and 1.

    >>> share_thresholds(torch.tensor([[3.0], [1.0], [0.0], [-2.0]]), torch.tensor([0.25]))
    tensor([2.])
    """
    logits, shares = floats(logits, "logits", 2), floats(shares, "shares", 1)
    check_finite(as_points(logits))
    N = len(logits)
    if not N:
        raise ValueError("logits must have at least one row")
    if not bool(((shares >= 0) & (shares <= 1)).all()):
        raise ValueError("shares must be from 0 to 1")
    ordered = logits.sort(0, descending=True).values  # (N, C)
    above = (shares.double() * N).round().long()  # rows above the threshold
    first = ordered.gather(0, (above - 1).clamp_min(0)[None])[0]
    last = ordered.gather(0, above.clamp_max(N - 1)[None])[0]
    halfway = (first + last) / 2
    return torch.where(above == 0, ordered[0] + 1, torch.where(above == N, ordered[-1] - 1, halfway))
