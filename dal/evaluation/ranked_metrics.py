"""Metrics of a ranking, which thresholds and decisions do not change: recall at a precision, average precision."""

import torch
from torch import Tensor

from dal.errors import DataError
from dal.functional.checking import number


def recall_at_precision(scores: Tensor, positive: Tensor, precision: float = 0.9) -> float | None:
    """Highest recall among the thresholds with at least this precision, 0 to 1; None without a positive row.

    A threshold t claims the rows with `scores >= t`, so that rows with equal scores are claimed together. Its precision
    is the share of positive rows among the claimed ones, its recall the share of claimed rows among the positive ones.
    0 where no threshold reaches the precision.

    Args:
        scores: (N,), higher for rows that are more likely positive, usually the probabilities of a class.
        positive: (N,) bool.
        precision: smallest precision, above 0 and at most 1.

    Raises:
        DataError: a score is not finite, or the shapes differ.

    Example:
        >>> recall_at_precision(torch.tensor([0.9, 0.8, 0.7, 0.2]), torch.tensor([True, False, True, True]), 0.6)
        1.0
    """
    precision = number(precision, "precision", above=0, most=1)
    scores, positive = scores.detach().cpu().double(), positive.cpu().bool()
    if scores.shape != positive.shape or scores.dim() != 1:
        raise DataError(f"scores {tuple(scores.shape)} and positive {tuple(positive.shape)} must both be (N,)")
    if not bool(torch.isfinite(scores).all()):
        raise DataError("scores must be finite")
    if not bool(positive.any()):
        return None
    order = scores.argsort(descending=True)
    ranked, found = scores[order], positive[order].cumsum(0)  # (N,), (N,) positive rows down to each rank
    complete = torch.ones(len(ranked), dtype=torch.bool)
    complete[:-1] = ranked[1:] < ranked[:-1]  # the last row of each group of equal scores
    claimed = torch.arange(1, len(ranked) + 1)
    # A quotient of whole numbers is the float next to it, as the stated decimal is: 9 of 10 reach 0.9.
    enough = complete & (found.double() / claimed >= precision)
    return int(found[enough].max()) / int(found[-1]) if bool(enough.any()) else 0.0


def average_precision(probs: Tensor, labels: Tensor) -> float | None:
    """Mean average precision, 0 to 1: the average precision of a class, averaged over the classes that some row has.

    The average precision sums the precision at each distinct probability of the class, weighted by the recall that is
    gained there; it is the share of rows with the class for a constant probability. None where no row has a class.

    Args:
        probs: (N, C).
        labels: (N, C) bool.

    Example:
        >>> average_precision(torch.tensor([[0.9], [0.8], [0.7]]), torch.tensor([[True], [False], [True]]))
        0.8333333333333333
    """
    from sklearn.metrics import average_precision_score  # imported late: it takes a second

    occurs = labels.any(0).nonzero().flatten().tolist()
    scores, true = probs.detach().cpu().double().numpy(), labels.cpu().numpy()
    found = [float(average_precision_score(true[:, code], scores[:, code])) for code in occurs]
    return sum(found) / len(found) if found else None
