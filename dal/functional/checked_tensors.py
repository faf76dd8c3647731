"""Validation of the tensors that kernels read.

Tensors of integers, bools and half precision become float32. Tensors that require grad are detached. Complex tensors, a
wrong number of dimensions, tensors without columns, and NaN or infinite values are refused; errors about values name
the rows.
"""

from typing import Any

import torch
from torch import Tensor

from dal.errors import SelectionError

#: Maximum number of rows named in an error.
_NAMED = 5


class NotFiniteError(SelectionError, ValueError):
    """Input values are NaN or infinite. The message names the rows."""


def floats(x: Any, name: str, dimensions: int | None = None, *, columns: bool = True) -> Tensor:
    """Validate a real tensor and return it detached, in float32 or float64.

    Args:
        x: argument to validate.
        name: name of the parameter in the error message.
        dimensions: required number of dimensions; `None` for any.
        columns: whether all dimensions except the first must be non-empty.

    Raises:
        ValueError: not a dense tensor of real numbers, or of another shape.

    >>> floats(torch.tensor([1, 2]), "scores", 1)
    tensor([1., 2.])
    """
    given = dense(x, name, dimensions)
    if columns and 0 in given.shape[1:]:
        raise ValueError(f"{name} must have columns, but its shape is {tuple(given.shape)}")
    return given if given.dtype in (torch.float32, torch.float64) else given.float()


def dense(x: Any, name: str, dimensions: int | None = None) -> Tensor:
    """Validate a dense tensor of real numbers (`ValueError`) and return it detached, with its dtype."""
    if not isinstance(x, Tensor):
        raise ValueError(f"{name} must be a tensor, not {type(x).__name__}")
    if x.is_complex() or x.layout is not torch.strided or x.is_quantized:
        raise ValueError(f"{name} must be a dense tensor of real numbers, not {x.dtype} in layout {x.layout}")
    if dimensions is not None and x.dim() != dimensions:
        raise ValueError(f"{name} must have {dimensions} dimensions, but its shape is {tuple(x.shape)}")
    return x.detach() if x.requires_grad else x


def integers(x: Any, name: str, low: int = 0, high: int | None = None, dimensions: int = 1) -> Tensor:
    """Validate a tensor of integers from `low` to below `high` (`ValueError`) and return it as int64.

    >>> integers(torch.tensor([0, 2]), "labels", 0, 3)
    tensor([0, 2])
    """
    given = dense(x, name, dimensions)
    if given.is_floating_point() or given.dtype == torch.bool:
        raise ValueError(f"{name} must be whole numbers, not {given.dtype}")
    whole_numbers = given.long()
    if not given.numel():
        return whole_numbers
    lowest, highest = torch.stack(whole_numbers.aminmax()).tolist()
    if lowest < low or (high is not None and highest >= high):
        limit = f"at least {low}" if high is None else f"from {low} to {high - 1}"
        raise ValueError(f"{name} must be {limit}, but range from {lowest} to {highest}")
    return whole_numbers


def aligned(**tensors: Any) -> None:
    """Check that tensors have the same number of rows (`ValueError`)."""
    rows = {name: len(tensor) for name, tensor in tensors.items()}
    if len(set(rows.values())) > 1:
        listed_rows = ", ".join(f"{name} {count}" for name, count in rows.items())
        raise ValueError(f"{' and '.join(rows)} must have as many rows as each other, but have: {listed_rows}")


def finite(x: Tensor, name: str) -> Tensor:
    """Check that all values of a tensor are finite (`ValueError`), and return it."""
    if not bool(torch.isfinite(x.sum())):
        refuse_rows(x, name)
    return x


def not_negative(x: Any, name: str, dimensions: int = 1) -> Tensor:
    """Validate as `floats`, and check that all values are finite and non-negative (`ValueError`)."""
    given = floats(x, name, dimensions)
    wrong = ~(torch.isfinite(given) & (given >= 0))
    if bool(wrong.any()):
        rows = (wrong.flatten(1).any(1) if wrong.dim() > 1 else wrong).nonzero().flatten().tolist()
        raise ValueError(f"{name} must be finite and not negative; {len(rows)} rows are not: {listed(rows)}")
    return given


def refuse_rows(x: Tensor, name: str) -> None:
    """Raise a `ValueError` that names the rows with NaN or infinite values, if there are any."""
    bad = ~torch.isfinite(x)
    rows = (bad.flatten(1).any(1) if bad.dim() > 1 else bad).nonzero().flatten().tolist()
    if rows:
        raise NotFiniteError(f"{name} must be finite; {len(rows)} rows are not: {listed(rows)}")


def listed(rows: list) -> str:
    """Format row numbers for a message, abbreviated after five.

    >>> listed([1, 2, 3, 4, 5, 6])
    '1, 2, 3, 4, 5, ...'
    """
    return ", ".join(map(str, rows[:_NAMED])) + (", ..." if len(rows) > _NAMED else "")
