"""A learner that needs no training as somebody who answers: its most probable class, and how sure it is."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from dal.errors import ConfigError
from dal.learner import UNREAD, Learner
from dal.outputs import closure


@dataclass(frozen=True)
class Opinions:
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


def opinions(labeler: Learner, data: Any, rows: Tensor) -> Opinions:
    """What the labeler thinks of the rows of a `dal.data.Rows`, from one pass over them alone."""
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
    return Opinions(codes, confidence, dollars, (confidence <= 0) | unread, predictor.unreadable)
