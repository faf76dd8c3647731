"""Rows that are tensors of one fixed shape, such as vectors and images."""

from collections.abc import Sequence
from functools import cached_property
from typing import Any

import torch
from torch import Tensor

from dal.data.class_descriptions import DESCRIPTIONS
from dal.errors import DataError
from dal.functional.blocks import blocks
from dal.learner import Prepared


class TensorPrepared(Prepared):
    """Rows as one tensor, all of the same length 1. A batch is `{"inputs": (B, ...)}`.

    Args:
        inputs: (N, ...) rows, or (M, ...) of which `index` selects N, in memory or memory-mapped.
        classes: class names.
        multilabel: whether rows may have several classes.
        index: (N,) int64, row of `inputs` of each row; None if they are the rows.
    """

    #: Embeddings (M, D) of class descriptions, and the class of each, (M,) int64; None for rows that are no embeddings
    #: of texts.
    described: tuple[Tensor, Tensor] | None = None
    #: What these are, for display.
    described_by = DESCRIPTIONS

    def __init__(
        self, inputs: Tensor, classes: Sequence[str], multilabel: bool = False, index: Tensor | None = None
    ) -> None:
        self._inputs, self._index = inputs, index
        self.classes = tuple(classes)
        self.multilabel = multilabel
        self.lengths = torch.ones(len(inputs) if index is None else len(index), dtype=torch.int64)

    def __len__(self) -> int:
        return len(self.lengths)

    @property
    def inputs(self) -> Tensor:
        """All rows, (N, ...); copied to memory if an index selects them or they are halves, unlike by `take`."""
        return _singles(self._inputs if self._index is None else self._inputs[self._index])

    @property
    def shape(self) -> torch.Size:
        """Shape (N, ...) of the rows."""
        return torch.Size((len(self), *self._inputs.shape[1:]))

    @property
    def width(self) -> int:
        """Size of the last dimension."""
        return self._inputs.shape[-1]

    def take(self, rows: Tensor | slice) -> Tensor:
        """Select rows, (n, ...); float32 if they are stored as halves."""
        return _singles(self._inputs[rows if self._index is None else self._index[rows]])

    def batch(self, rows: Sequence[int]) -> dict[str, Any]:
        """Return the rows as `{"inputs": (B, ...)}`."""
        return {"inputs": self.take(torch.as_tensor(rows, dtype=torch.int64))}

    @cached_property
    def moments(self) -> tuple[Tensor, Tensor]:
        """Mean and scale (D,) that standardise vectors (N, D) to mean 0 and a mean squared norm of 1.

        All coordinates with a variance contribute equally to the norm; constant coordinates are scaled by 0. The rows
        are read once, block by block, and the sums of blocks are combined in float64 (Chan, Golub and LeVeque 1983,
        "Algorithms for Computing the Sample Variance").
        """
        return self._moments()

    def _moments(self) -> tuple[Tensor, Tensor]:
        """Compute `moments`."""
        size, width = len(self), self.width
        total, squares = torch.zeros(2, width, dtype=torch.float64)  # squares of the distances from the mean so far
        seen = 0
        for rows in blocks(size, 2 * width, self._inputs.device):
            block = self.take(rows)
            part = block.sum(0, dtype=torch.float64)
            squares += (block - part / len(block)).square_().sum(0)
            if seen:
                apart = total / seen - part / len(block)
                squares += apart.square_() * (seen * len(block) / (seen + len(block)))
            total, seen = total + part, seen + len(block)
        mean = total / max(1, size)
        deviation = (squares / max(1, size)).sqrt()
        floor = 1e-6 * deviation.max().clamp_min(1e-30) if width else 0.0
        varies = deviation > floor
        return mean.float(), torch.where(varies, 1 / (deviation * varies.sum().sqrt()), 0.0).float()


def _singles(x: Tensor) -> Tensor:
    """The tensor in float32 if it is float16 or bfloat16."""
    return x.float() if x.dtype in (torch.float16, torch.bfloat16) else x


def prepare_tensors(rows: Any) -> TensorPrepared:
    """Convert the inputs of a `dal.data.Rows` to one tensor: float32, or the integer type of the inputs.

    Float16 and bfloat16 stay as they are, in a memory-mapped file perhaps, and become float32 as they are read.

    Raises:
        DataError: the inputs are not numeric arrays of one shape.
    """
    inputs = rows.inputs
    if not isinstance(inputs, Tensor):
        try:
            inputs = torch.as_tensor(inputs)
        except (TypeError, ValueError, RuntimeError) as error:
            raise DataError(
                "this learner reads numeric rows of one shape, but the inputs are not: give a tensor (N, ...), or use "
                "a learner that reads text"
            ) from error
    if inputs.dtype == torch.float64:
        inputs = inputs.float()
    return TensorPrepared(inputs, rows.classes, rows.multilabel)
