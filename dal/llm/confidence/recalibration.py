"""From a stated confidence to the probability of being right, learnt on rows whose label is known."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from dal.llm.confidence.answer_consistency import consistency

_EDGE = 1e-3  # stated 0 and 1 are read as this far from it, where a logarithm is taken


@dataclass(frozen=True, eq=False)
class ModelUncertainty:
    """What a model says of N rows.

    Attributes:
        predicted: (N,) int64 codes, -1 where it gave no label.
        confidence: (N,) in that label, 0 to 1.
        logits: (N, C), where temperature scaling shall be possible.
    """

    predicted: Tensor
    confidence: Tensor
    logits: Tensor | None = None

    @classmethod
    def of_votes(cls, votes: Tensor, classes: Sequence[str]) -> "ModelUncertainty":
        """That of K answers to each of N texts, (N, K) codes and -1: the mode and its share of them.

        Where most could not be read there is no label, and the confidence is 0 whatever their share.
        """
        found = consistency(votes, classes)
        given = found.mode < len(classes)
        return cls(found.mode.where(given, -1), found.consistency.where(given, 0.0))

    def __len__(self) -> int:
        return len(self.predicted)

    def take(self, rows: Tensor) -> "ModelUncertainty":
        """Some of the rows."""
        logits = None if self.logits is None else self.logits[rows]
        return ModelUncertainty(self.predicted[rows], self.confidence[rows], logits)

    def right(self, labels: Tensor) -> np.ndarray:
        """(N,) bool: whether the label is the true one."""
        found: np.ndarray = (self.predicted == labels).numpy()
        return found


#: What was learnt: the probability of being right, (N,), of any rows' doubt.
Recalibrator = Callable[[ModelUncertainty], np.ndarray]


def isotonic(doubt: ModelUncertainty, labels: Tensor) -> Recalibrator:
    """A step function that never falls, by isotonic regression on the confidence.

    Zadrozny and Elkan 2002, "Transforming Classifier Scores into Accurate Multiclass Probability Estimates".
    """
    from sklearn.isotonic import IsotonicRegression

    fitted = IsotonicRegression(y_min=0, y_max=1, out_of_bounds="clip")
    fitted.fit(doubt.confidence.double().numpy(), doubt.right(labels))
    return lambda other: np.asarray(fitted.predict(other.confidence.double().numpy()))


def platt(doubt: ModelUncertainty, labels: Tensor) -> Recalibrator:
    """A logistic regression on the log-odds of the confidence.

    Platt 1999, "Probabilistic Outputs for Support Vector Machines".
    """
    from sklearn.linear_model import LogisticRegression

    fitted = LogisticRegression(C=1e3, max_iter=1000).fit(_log_odds(doubt), doubt.right(labels))
    return lambda other: np.asarray(fitted.predict_proba(_log_odds(other))[:, 1])


def temperature(doubt: ModelUncertainty, labels: Tensor) -> Recalibrator:
    """The logits divided by the one number that makes the true labels most probable.

    Guo et al. 2017, "On Calibration of Modern Neural Networks".
    """
    from scipy.optimize import minimize_scalar

    assert doubt.logits is not None
    logits = doubt.logits.double()

    def loss(log_temperature: float) -> float:
        return float(torch.nn.functional.cross_entropy(logits / np.exp(log_temperature), labels))

    divisor = float(np.exp(minimize_scalar(loss, bounds=(-4, 8), method="bounded").x))
    return lambda other: _at_predicted(other, divisor)


#: Name -> how it is learnt.
METHODS: Mapping[str, Callable[[ModelUncertainty, Tensor], Recalibrator]] = {
    "isotonic": isotonic,
    "platt": platt,
    "temperature": temperature,
}


def cross_validated(
    method: str, doubt: ModelUncertainty, labels: Tensor, *, folds: int = 5, seed: int = 0
) -> np.ndarray | None:
    """The probability of being right, (N,), each row's by what was learnt on the other folds.

    None where the method cannot be learnt: without logits (temperature), or with fewer than two rows that are right,
    or wrong.
    """
    from sklearn.model_selection import StratifiedKFold

    right = doubt.right(labels)
    least = int(min(right.sum(), len(right) - right.sum()))
    if least < 2 or (method == "temperature" and doubt.logits is None):
        return None
    out = np.empty(len(right))
    splits: Any = StratifiedKFold(min(folds, least), shuffle=True, random_state=seed).split(right, right)
    for others, own in splits:
        learn, apply = torch.from_numpy(others), torch.from_numpy(own)
        out[own] = METHODS[method](doubt.take(learn), labels[learn])(doubt.take(apply))
    return out


def _log_odds(doubt: ModelUncertainty) -> np.ndarray:
    confidence = doubt.confidence.double().clamp(_EDGE, 1 - _EDGE)
    odds: np.ndarray = confidence.logit()[:, None].numpy()
    return odds


def _at_predicted(doubt: ModelUncertainty, divisor: float) -> np.ndarray:
    """The probability of the predicted label; 0 where none was given."""
    assert doubt.logits is not None
    probs = (doubt.logits.double() / divisor).softmax(-1)
    found = probs.gather(-1, doubt.predicted.clamp_min(0)[:, None]).squeeze(-1)
    given: np.ndarray = found.where(doubt.predicted >= 0, 0.0).numpy()
    return given
