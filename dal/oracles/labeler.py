"""Use a learner that needs no training as an annotator: its most probable class and its confidence."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from dal.errors import ConfigError, LearnerError, printable
from dal.learner import UNPARSED_SHARE, Learner
from dal.outputs import closure

_ROUNDING = 1e-4  # tolerance by which a probability may exceed 1


@dataclass(frozen=True)
class LabelerAnswers:
    """Answers of a labeler to n rows.

    Attributes:
        codes: (n,) int64, or (n, C) bool when multi-label: the most probable classes.
        confidence: (n,) in [0, 1]: confidence stated by the labeler, otherwise the probability of `codes` (multi-label:
            of the least certain decision). 0 for rows without a parsed answer.
        dollars: (n,), cost of each answer in dollars; None if the labeler does not report it.
        unparsed: (n,) bool, True for rows without a parsed answer.
        verbatim: index among the n rows -> verbatim reply that could not be parsed.
    """

    codes: Tensor
    confidence: Tensor
    dollars: Tensor | None
    unparsed: Tensor
    verbatim: Mapping[int, str] = field(default_factory=dict)


def check_labeler(labeler: Learner, who: str) -> None:
    """Check that the learner can label without training.

    Args:
        labeler: the learner.
        who: name of the class that uses it, for the error message.

    Raises:
        ConfigError: the learner needs labels to compute logits.
    """
    if "logits" not in closure(labeler.label_free):
        name = type(labeler).__name__
        raise ConfigError(f"{who} needs a labeler that answers without training, such as LLMLearner; {name} does not")


def label_rows(labeler: Learner, data: Any, rows: Tensor) -> LabelerAnswers:
    """Return the labeler's answers to some rows, from a single pass over these rows only.

    Args:
        labeler: a learner that needs no training.
        data: a `dal.data.Rows`.
        rows: (n,) int64, indices into `data`.

    Raises:
        LearnerError: a probability, confidence or price is NaN or out of range.
    """
    part = labeler.prepare(data.take(rows))
    names = {"logits"} | ({"confidence", "dollars", UNPARSED_SHARE} & closure(labeler.label_free))
    predictor = labeler.untrained(part)
    outputs = predictor.outputs(part, None, names).to("cpu")
    probs: Tensor = outputs.probs
    if outputs.multilabel:
        codes, top = probs > 0.5, torch.maximum(probs, 1 - probs).amin(-1)
    else:
        top, codes = probs.max(-1)
    confidence = outputs["confidence"] if "confidence" in names else top
    unread = outputs[UNPARSED_SHARE] >= 1 if UNPARSED_SHARE in names else torch.zeros(len(rows), dtype=torch.bool)
    dollars = outputs["dollars"] if "dollars" in names else None
    ids = [data.ids[row] for row in rows.tolist()]
    _check_range(labeler, ids, "probability", probs.flatten(1), 1.0)
    _check_range(labeler, ids, "confidence", confidence, 1.0)
    if dollars is not None:
        _check_range(labeler, ids, "price", dollars, math.inf)
    return LabelerAnswers(codes, confidence, dollars, (confidence <= 0) | unread, predictor.unparsed_responses)


def _check_range(labeler: Learner, ids: Sequence[str], what: str, values: Tensor, most: float) -> None:
    """Check that the values (n,) or (n, C) of a labeler, which may be a plugin, are in [0, most]."""
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
