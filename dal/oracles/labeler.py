"""A learner that needs no training as somebody who answers: its most probable class, and how sure it is."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from dal.errors import ConfigError, LearnerError, printable
from dal.learner import UNREAD, Learner
from dal.outputs import closure

_ROUNDING = 1e-4  # by which a probability may exceed 1


@dataclass(frozen=True)
class LabelerAnswers:
    """What a labeler thinks of n rows.

    Attributes:
        codes: (n,) int64, or (n, C) bool when multi-label: the most probable classes.
        confidence: (n,) in [0, 1]: as the labeler states it, else the probability of the codes (multi-label: of the
            least sure decision). 0 where it gave no answer that can be read.
        dollars: (n,), what each cost; None where the labeler does not say.
        silent: (n,) bool, where it gave no answer that can be read.
        verbatim: place among the n rows -> what it gave there instead.
    """

    codes: Tensor
    confidence: Tensor
    dollars: Tensor | None
    silent: Tensor
    verbatim: Mapping[int, str] = field(default_factory=dict)


def check_labeler(labeler: Learner, who: str) -> None:
    """Make sure that the learner can label without training.

    Raises:
        ConfigError: it cannot.
    """
    if "logits" not in closure(labeler.label_free):
        name = type(labeler).__name__
        raise ConfigError(f"{who} needs a labeler that answers without training, such as LLMLearner; {name} does not")


def opinions(labeler: Learner, data: Any, rows: Tensor) -> LabelerAnswers:
    """What the labeler thinks of the rows of a `dal.data.Rows`, from one pass over them alone.

    Raises:
        LearnerError: it gives numbers that are NaN or out of range.
    """
    part = labeler.prepare(data.take(rows))
    names = {"logits"} | ({"confidence", "dollars", UNREAD} & closure(labeler.label_free))
    predictor = labeler.untrained(part)
    outputs = predictor.outputs(part, None, names).to("cpu")
    probs: Tensor = outputs.probs
    if outputs.multilabel:
        codes, sure = probs > 0.5, torch.maximum(probs, 1 - probs).amin(-1)
    else:
        sure, codes = probs.max(-1)
    confidence = outputs["confidence"] if "confidence" in names else sure
    unread = outputs[UNREAD] >= 1 if UNREAD in names else torch.zeros(len(rows), dtype=torch.bool)
    dollars = outputs["dollars"] if "dollars" in names else None
    ids = [data.ids[row] for row in rows.tolist()]
    _check_range(labeler, ids, "probability", probs.flatten(1), 1.0)
    _check_range(labeler, ids, "confidence", confidence, 1.0)
    if dollars is not None:
        _check_range(labeler, ids, "price", dollars, math.inf)
    return LabelerAnswers(codes, confidence, dollars, (confidence <= 0) | unread, predictor.unreadable)


def _check_range(labeler: Learner, ids: Sequence[str], what: str, values: Tensor, most: float) -> None:
    """Make sure that the numbers (n,) or (n, C) of a labeler, which may be anybody's, lie between 0 and `most`."""
    if len(values) != len(ids):
        raise LearnerError(f"{type(labeler).__name__} gave {len(values)} numbers as {what} of {len(ids)} rows")
    bad = ~((values >= 0) & (values <= most + _ROUNDING) & torch.isfinite(values))
    rows = (bad.any(1) if bad.dim() > 1 else bad).nonzero().flatten().tolist()
    if rows:
        value = values[rows[0]][bad[rows[0]]][0] if bad.dim() > 1 else values[rows[0]]
        raise LearnerError(
            f"{type(labeler).__name__} gave row {printable(ids[rows[0]])!r} a {what} of {float(value):g} "
            f"({len(rows)} of {len(ids)} rows): it must be {'from 0 to 1' if most == 1 else 'finite and not negative'}"
        )
