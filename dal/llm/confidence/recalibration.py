"""Recalibration: map the confidence of a model to its probability of being correct, fitted on labeled rows."""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from dal.evaluation.calibration_measures import Temperature
from dal.llm.confidence.answer_consistency import consistency

_EDGE = 1e-3  # confidences are clipped to [_EDGE, 1 - _EDGE] before taking the log-odds


@dataclass(frozen=True, eq=False)
class ModelUncertainty:
    """Predictions of a model for N rows, with their confidence.

    Attributes:
        predicted: (N,) int64, predicted classes, -1 for rows without a label.
        confidence: (N,), confidence in the prediction, 0 to 1.
        logits: (N, C), required for temperature scaling only.
    """

    predicted: Tensor
    confidence: Tensor
    logits: Tensor | None = None

    @classmethod
    def of_votes(cls, votes: Tensor, classes: Sequence[str]) -> "ModelUncertainty":
        """Return the mode of K answers to each of N texts, and its share as the confidence.

        A row whose most frequent answer is unparsed has no label and confidence 0.

        Args:
            votes: (N, K) class codes, -1 for answers that could not be parsed.
            classes: C class names.
        """
        answers = consistency(votes, classes)
        labeled = answers.mode < len(classes)
        return cls(answers.mode.where(labeled, -1), answers.consistency.where(labeled, 0.0))

    def __len__(self) -> int:
        return len(self.predicted)

    def take(self, rows: Tensor) -> "ModelUncertainty":
        """Return a subset of the rows."""
        logits = None if self.logits is None else self.logits[rows]
        return ModelUncertainty(self.predicted[rows], self.confidence[rows], logits)

    def right(self, labels: Tensor) -> np.ndarray:
        """Return whether each prediction is correct, (N,) bool."""
        correct: np.ndarray = (self.predicted == labels).numpy()
        return correct


#: A fitted recalibration, which returns the probability of being correct, (N,).
Recalibrator = Callable[[ModelUncertainty], np.ndarray]


def isotonic(uncertainty: ModelUncertainty, labels: Tensor) -> Recalibrator:
    """Fit a non-decreasing step function of the confidence by isotonic regression.

    Zadrozny and Elkan 2002, "Transforming Classifier Scores into Accurate Multiclass Probability Estimates".
    """
    from sklearn.isotonic import IsotonicRegression

    fitted = IsotonicRegression(y_min=0, y_max=1, out_of_bounds="clip")
    fitted.fit(uncertainty.confidence.double().numpy(), uncertainty.right(labels))
    return lambda other: np.asarray(fitted.predict(other.confidence.double().numpy()))


def platt(uncertainty: ModelUncertainty, labels: Tensor) -> Recalibrator:
    """Fit a logistic regression on the log-odds of the confidence (Platt scaling).

    Platt 1999, "Probabilistic Outputs for Support Vector Machines".
    """
    from sklearn.linear_model import LogisticRegression

    fitted = LogisticRegression(C=1e3, max_iter=1000).fit(_log_odds(uncertainty), uncertainty.right(labels))
    return lambda other: np.asarray(fitted.predict_proba(_log_odds(other))[:, 1])


def temperature(uncertainty: ModelUncertainty, labels: Tensor) -> Recalibrator:
    """Fit the divisor of the logits that maximises the likelihood of the labels (temperature scaling).

    Guo et al. 2017, "On Calibration of Modern Neural Networks".
    """
    assert uncertainty.logits is not None
    # Wider limits than for a classifier: a logit may be the log-likelihood of an answer, summed over its tokens, and
    # the logits of two classes are then far apart.
    divisor = Temperature.fit(uncertainty.logits, labels, limits=(math.exp(-4), math.exp(8))).value
    return lambda other: _at_predicted(other, divisor)


#: Recalibration methods by name.
METHODS: Mapping[str, Callable[[ModelUncertainty, Tensor], Recalibrator]] = {
    "isotonic": isotonic,
    "platt": platt,
    "temperature": temperature,
}


def cross_validated(
    method: str, uncertainty: ModelUncertainty, labels: Tensor, *, folds: int = 5, seed: int = 0
) -> np.ndarray | None:
    """Return out-of-fold probabilities of being correct, (N,), by stratified cross-validation.

    Returns None if the method cannot be fitted: temperature scaling without logits, or fewer than two correct or two
    incorrect rows.
    """
    from sklearn.model_selection import StratifiedKFold

    right = uncertainty.right(labels)
    rarer = int(min(right.sum(), len(right) - right.sum()))
    if rarer < 2 or (method == "temperature" and uncertainty.logits is None):
        return None
    out = np.empty(len(right))
    splits: Any = StratifiedKFold(min(folds, rarer), shuffle=True, random_state=seed).split(right, right)
    for train, test in splits:
        fitted = METHODS[method](uncertainty.take(torch.from_numpy(train)), labels[torch.from_numpy(train)])
        out[test] = fitted(uncertainty.take(torch.from_numpy(test)))
    return out


def _log_odds(uncertainty: ModelUncertainty) -> np.ndarray:
    confidence = uncertainty.confidence.double().clamp(_EDGE, 1 - _EDGE)
    odds: np.ndarray = confidence.logit()[:, None].numpy()
    return odds


def _at_predicted(uncertainty: ModelUncertainty, divisor: float) -> np.ndarray:
    """The probability of the predicted label (N,); 0 for rows without a label."""
    assert uncertainty.logits is not None
    probs = (uncertainty.logits.double() / divisor).softmax(-1)
    top = probs.gather(-1, uncertainty.predicted.clamp_min(0)[:, None]).squeeze(-1)
    at_predicted: np.ndarray = top.where(uncertainty.predicted >= 0, 0.0).numpy()
    return at_predicted
