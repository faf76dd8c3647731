"""Predictions of linear classifiers that were each fitted without a part of the labels."""

import torch
from jaxtyping import Float, Int64
from torch import Tensor
from torch.nn import functional as F

from dal.functional.blocks import blocks
from dal.functional.checked_tensors import aligned, integers
from dal.functional.checking import number, whole
from dal.functional.points import DensePoints, Points, as_points, check_finite, vectors

#: The bias is the weight of a constant feature of this value, so that the penalty hardly holds it back.
_CONSTANT = 10.0


@torch.no_grad()
def fold_predictions(
    points: Points | Float[Tensor, "L D"],
    labels: Int64[Tensor, " L"],
    targets: DensePoints | Float[Tensor, "M D"],
    *,
    folds: int = 5,
    penalty: float = 1.0,
) -> Int64[Tensor, "K M"]:
    """Predict the targets by a classifier on all labels, and by one without each fold of them.

    Row 0 is the prediction of the classifier on all L labels, row k that without fold k. The classifiers are ridge
    regressions on indicators of the classes, which have a closed form: few labels that change many predictions show
    here at a small part of the cost of training a model. The folds are stratified: the points of a class, in their
    order, go to the folds in turn.

    The cost is that of K solutions of a system of R = min(L, D + 1) equations. Extra memory: 2 L D + R^2 + K R C
    float64 numbers.

    Args:
        points: L labeled points.
        labels: their classes.
        targets: M points to predict.
        folds: number of folds, at least 2.
        penalty: penalty on the squared weights.

    Returns:
        (folds + 1, M) predicted classes.

    Raises:
        ValueError: there are fewer points than folds, the penalty is not above 0, or a number is not finite.

    >>> x = torch.tensor([[0.0], [0.1], [0.2], [1.0], [1.1], [1.2]])
    >>> labels, targets = torch.tensor([0, 0, 0, 1, 1, 1]), torch.tensor([[0.1], [0.62], [1.1]])
    >>> fold_predictions(x, labels, targets, folds=3, penalty=0.01)
    tensor([[0, 1, 1],
            [0, 0, 1],
            [0, 1, 1],
            [0, 1, 1]])
    """
    x, y = vectors(as_points(points), "ridge regression"), vectors(as_points(targets), "ridge regression")
    labels = integers(labels, "labels")
    aligned(points=x, labels=labels)
    folds, penalty = whole(folds, "folds", 2), number(penalty, "penalty", above=0)
    if len(x) < folds:
        raise ValueError(f"{folds} folds need at least as many points, not {len(x)}")
    check_finite(DensePoints(x))
    check_finite(DensePoints(y))
    x = F.pad(x.double(), (0, 1), value=_CONSTANT)
    basis = None
    if len(x) < x.shape[1]:  # solutions lie in the span of the points
        values, directions = torch.linalg.eigh(x @ x.T)
        kept = values > values[-1] * 1e-12
        basis = x.T @ (directions[:, kept] / values[kept].sqrt())  # (D + 1, R), orthonormal
        x = x @ basis
    order = labels.argsort(stable=True)
    fold = torch.empty_like(labels).index_copy_(0, order, torch.arange(len(x), device=x.device) % folds)
    onehot = F.one_hot(labels).double()  # (L, C)
    ridge = penalty * torch.eye(x.shape[1], dtype=x.dtype, device=x.device)
    gram, moments = x.T @ x + ridge, x.T @ onehot
    weights = [torch.linalg.solve(gram, moments)]
    for left_out in ((fold == left).nonzero().flatten() for left in range(folds)):
        part = x[left_out]
        weights.append(torch.linalg.solve(gram - part.T @ part, moments - part.T @ onehot[left_out]))
    stacked = torch.stack(weights)  # (K, R, C)
    predicted = torch.empty(folds + 1, len(y), dtype=torch.int64, device=x.device)
    for rows in blocks(len(y), stacked.shape[0] * stacked.shape[2] + y.shape[1], y.device):
        block = F.pad(y[rows].double(), (0, 1), value=_CONSTANT)
        predicted[:, rows] = ((block if basis is None else block @ basis) @ stacked).argmax(2)
    return predicted
