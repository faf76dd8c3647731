"""Gradients of the loss with respect to the last layer: gradient embeddings as factors, and expected length."""

from typing import overload

import torch
from jaxtyping import Float
from torch import Tensor

from dal.functional.blocks import by_blocks
from dal.functional.checked_tensors import aligned, finite, floats
from dal.functional.points import OuterPoints
from dal.functional.row_source import PointSource, RowSource


@overload
def gradient_factors(logits: Tensor, features: Tensor, multilabel: bool = False) -> OuterPoints: ...
@overload
def gradient_factors(logits: Tensor, features: RowSource, multilabel: bool = False) -> PointSource: ...
def gradient_factors(
    logits: Tensor, features: Tensor | RowSource, multilabel: bool = False
) -> OuterPoints | PointSource:
    """Gradients of the cross-entropy at the predicted labels with respect to the last layer's weight, as factors.

    Row i is vec((p_i - y_i) (x) h_i), with y_i one-hot at the most probable class (multi-label: 1 where p > 1/2).
    Shapes: logits (N, C), features (N, D). Ash et al. 2020, "Deep Batch Active Learning by Diverse, Uncertain
    Gradient Lower Bounds".
    """
    if multilabel:
        a = logits.sigmoid() - (logits > 0).to(logits.dtype)
    else:
        a, predicted = logits.softmax(-1), logits.argmax(-1, keepdim=True)  # (N, C), (N, 1)
        a.scatter_(-1, predicted, a.gather(-1, predicted) - 1)
    return PointSource(features, a) if isinstance(features, RowSource) else OuterPoints(a, features)


@torch.no_grad()
def expected_gradient_length(
    probs: Float[Tensor, "N C"], features: Float[Tensor, "N D"], *, multilabel: bool = False
) -> Float[Tensor, " N"]:
    """Expected Euclidean length of the last layer's gradient under the predicted label distribution, (N,).

    The cross-entropy at label c has the gradient `(p - e_c) (x) [h; 1]` with respect to the last layer's weight and
    bias, so its expected length has the closed form `sum_c p_c |p - e_c| |[h; 1]|`. With `multilabel`, probs are C
    independent Bernoullis and the expected length would be a sum over 2^C label sets. It is replaced by the root of the
    expected square, an upper bound with a closed form: `sqrt(sum_c p_c (1 - p_c)) |[h; 1]|`. Extra memory: O(N) numbers
    and a block.

    Settles, Craven and Ray 2007, "Multiple-Instance Active Learning".

    >>> import torch
    >>> expected_gradient_length(torch.tensor([[0.5, 0.5], [1.0, 0.0]]), torch.zeros(2, 3))
    tensor([0.7071, 0.0000])
    """
    probs, features = floats(probs, "probs", 2), floats(features, "features", 2)
    aligned(probs=probs, features=features)

    def lengths(rows: slice) -> Tensor:
        p, h = probs[rows].double(), features[rows].double()
        if multilabel:
            expected = (p * (1 - p)).sum(1).sqrt()
        else:  # sum_c p_c |p - e_c|, (B,)
            likely = p.argmax(1, keepdim=True)
            length = (_of_others(p, likely).square() + _of_others(p.square(), likely)).sqrt()  # (B, C)
            expected = (p * length).sum(1)
        return (expected * (h.square().sum(1) + 1).sqrt()).to(features.dtype)

    # Both are checked as a whole afterwards: a NaN only makes its own row NaN.
    result = by_blocks(lengths, len(features), 2 * (features.shape[1] + probs.shape[1]), features.device)
    finite(probs, "probs")
    finite(features, "features")
    return result


def _of_others(values: Tensor, largest: Tensor) -> Tensor:
    """Sum of all other values, (B, C), without cancellation where one value is almost the whole sum."""
    rest = values.scatter(1, largest, 0).sum(1, keepdim=True)
    return (values.sum(1, keepdim=True) - values).scatter(1, largest, rest)
