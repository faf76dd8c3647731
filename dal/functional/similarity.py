"""Mean similarity of each row to all rows, in linear time."""

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional as F

from dal.functional.blocks import blocks, by_blocks
from dal.functional.checked_tensors import finite, floats


@torch.no_grad()
def mean_similarity(x: Float[Tensor, "N D"]) -> Float[Tensor, " N"]:
    """Mean cosine similarity of every row to all rows, itself included, (N,), between -1 and 1.

    `1/N sum_j cos(x_i, x_j) = <x_i / |x_i|, u>` with u the mean of all rows scaled to unit length, so two passes of N*D
    operations suffice. The similarity of a row of zeros is 0. Extra memory: O(N + D) numbers and a block.

    Settles and Craven 2008, "An Analysis of Active Learning Strategies for Sequence Labeling Tasks", which uses it as
    the information density.

    >>> mean_similarity(torch.tensor([[2.0, 0.0], [1.0, 0.0], [0.0, 5.0]]))
    tensor([0.6667, 0.6667, 0.3333])
    """
    x = finite(floats(x, "x", 2), "x")
    total = x.new_zeros(x.shape[1], dtype=torch.float64)
    for rows in blocks(len(x), x.shape[1], x.device):
        total += F.normalize(x[rows].double(), dim=1).sum(0)
    mean = total / max(1, len(x))
    return by_blocks(
        lambda rows: (F.normalize(x[rows].double(), dim=1) @ mean).to(x.dtype), len(x), x.shape[1], x.device
    )
