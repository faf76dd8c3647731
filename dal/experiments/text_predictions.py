"""Predictions of a model for new texts: from texts to rows, and from the model's outputs to classes."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from dal.data.columns import TextColumn, TextPairs
from dal.data.rows import Rows
from dal.errors import DataError
from dal.evaluation.confidence import answers
from dal.learner import UNPARSED_SHARE
from dal.outputs import Outputs

#: N texts, or N pairs of texts.
Texts = Sequence[str] | Sequence[tuple[str, str]] | TextColumn | TextPairs


@dataclass(frozen=True, eq=False)
class Predictions:
    """Predictions of a model for N texts.

    Attributes:
        classes: N class names, None where a language model's response could not be parsed; N lists of names when
            multi-label.
        confidence: (N,) float64, probability of the predicted class; when multi-label that of the least certain of the
            C decisions, which may be below 1/2 where a class is assigned at a lower threshold.
        probs: (N, C) float64, class probabilities, in the order of the model's classes.
        logits: (N, C) float64, from which they are computed, before the calibration.
    """

    classes: list[Any]
    confidence: Tensor
    probs: Tensor
    logits: Tensor

    def __len__(self) -> int:
        return len(self.classes)


def rows_like(pool: Rows, texts: Texts) -> Rows:
    """New texts as unlabeled rows with the classes of a pool, and everything that a learner may read of these.

    Args:
        pool: rows that the model was trained on, or rows with the same classes and the same kind of inputs.
        texts: a list, a column of a table, or any other sequence.

    Raises:
        DataError: these are not texts, or not pairs where the model needs pairs.
    """
    given = Rows.from_inputs(texts, source="the texts")
    shape, blank = (len(given), *pool.labels.shape[1:]), False if pool.multilabel else -1
    labels = pool.labels.new_full(shape, blank)
    columns = {"inputs": given.inputs, "ids": given.ids, "labels": labels, "known": given.known, "groups": None}
    rows = replace(pool, **columns, source=given.source)
    if len(rows) and isinstance(pool.inputs, TextPairs) and not isinstance(rows.inputs, TextPairs):
        raise DataError("this model predicts pairs of texts: give a list of (str, str)")
    if len(rows) and not isinstance(pool.inputs, TextPairs) and not isinstance(rows.inputs, TextColumn):
        raise DataError("this model predicts texts: give a list of str")
    return rows


def no_predictions(classes: int) -> Predictions:
    """The predictions for no texts."""
    none = torch.zeros(0, dtype=torch.float64)
    return Predictions([], none, none.reshape(0, classes), none.reshape(0, classes))


def predictions_of(outputs: Outputs, rows: Rows, *, temperature: float, thresholds: Tensor | None) -> Predictions:
    """Classes and calibrated confidences of N rows.

    Args:
        outputs: outputs with the finite logits (N, C) of the rows.
        rows: the rows, for the names of their classes.
        temperature: divisor of the logits.
        thresholds: (C,), logits above which classes are assigned when multi-label; None for 0.
    """
    logits = outputs.logits.cpu().double()
    decided = answers(logits, multilabel=rows.multilabel, thresholds=thresholds)
    classes = rows.names_of(decided)
    if UNPARSED_SHARE in outputs.names:
        unparsed = (outputs[UNPARSED_SHARE] >= 1).tolist()
        classes = [None if lost else name for name, lost in zip(classes, unparsed, strict=True)]
    scaled = logits / temperature
    probs = scaled.sigmoid() if rows.multilabel else scaled.softmax(-1)
    confidence = torch.where(decided, probs, 1 - probs).amin(-1) if rows.multilabel else probs.amax(-1)
    return Predictions(classes, confidence, probs, logits)
