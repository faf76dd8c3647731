"""Checked inputs of all metrics: probabilities and labels that fit each other."""

import torch
from torch import Tensor

from dal.errors import DataError
from dal.outputs import Outputs, log_probs

#: Probabilities are clamped to at least this, so that one confident mistake leaves the log loss finite.
_FLOOR = torch.finfo(torch.float32).tiny


def distributions(outputs: Outputs) -> tuple[Tensor, Tensor]:
    """Log-probabilities and probabilities (N, C), float64, on the CPU, where sums are deterministic.

    Multi-label: the log-probabilities are those of yes and of no, (N, C, 2).
    """
    outputs = outputs.to("cpu")
    if "logits" in outputs.names:
        logs: Tensor = log_probs(outputs.logits.float(), outputs.multilabel)
        logits = outputs.logits.double()
        # From logits, since log(1 - p) of a probability rounded to 1 would be minus infinity.
        if outputs.multilabel:
            return torch.stack([logs, log_probs(-outputs.logits.float(), True)], -1).double(), logits.sigmoid()
        return logs.double(), logits.softmax(-1)
    probs = outputs.probs.double()
    both = torch.stack([probs, 1 - probs], -1) if outputs.multilabel else probs
    return both.clamp_min(_FLOOR).log(), probs


def checked(labels: Tensor, probs: Tensor, multilabel: bool, what: str = "test rows") -> Tensor:
    """Check that labels fit the probabilities, and return them as (N,) int64 or (N, C) bool on the same device.

    Args:
        labels: (N,), or (N, C) when multi-label, of any number type.
        probs: (N, C) probabilities of the same rows.
        multilabel: whether a row may have several classes.
        what: name of the rows in error messages.

    Raises:
        DataError: there are no rows, a row has no label, the shapes do not fit, or a probability is not finite.
    """
    rows, classes = probs.shape
    if not rows:
        raise DataError(f"there are no {what} to evaluate on: give a test split, or hold a share out")
    expected = (rows, classes) if multilabel else (rows,)
    if tuple(labels.shape) != expected:
        raise DataError(f"labels have shape {tuple(labels.shape)}, expected {expected} for {rows} rows of outputs")
    if not bool(torch.isfinite(probs).all()):
        bad = int((~torch.isfinite(probs)).any(1).sum())
        raise DataError(f"the model's outputs are NaN or infinite for {bad} of {rows} {what}")
    labels = labels.to(probs.device)
    if not bool((labels == labels.round() if labels.is_floating_point() else torch.ones(())).all()):
        raise DataError(f"labels of {what} must be whole numbers, but some are not")
    if multilabel:
        if not bool(((labels == 0) | (labels == 1)).all()):
            raise DataError(f"labels of {what} must be zeros and ones, or bools, where a row may have several classes")
        return labels.bool()
    outside = int(((labels < 0) | (labels >= classes)).sum())
    if outside:
        raise DataError(f"{outside} of {rows} {what} have no label, or one outside the {classes} classes")
    return labels.long()
