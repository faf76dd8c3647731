"""Figures about the answers of a project: accuracy by cross-validation, what more answers would bring, class counts."""

from typing import Any

import torch

from dal.evaluation.extrapolation import predicted_gain
from dal.experiments.known_accuracy import FOLDS, cross_validated, share_right
from dal.learner import Monitor
from dal.session import Session

#: Number of further labels whose gain is predicted.
MORE = 100

_SHARES = (0.2, 0.4, 0.6, 0.8, 1.0)  # of the training folds: the points of the learning curve
_MIN_LABELS = 50  # fewer labels give no learning curve
_MAX_FIT_SECONDS = 1.0  # longest fit that is repeated for the accuracy, so that a ranking is not delayed for long
_MAX_CURVE_SECONDS = 0.2  # longest fit that is repeated for the learning curve


def class_counts(session: Session) -> dict[str, int]:
    """Number of labels of each class, by name."""
    return dict(zip(session.pool.classes, session.state.per_class, strict=True))


def measured_accuracy(session: Session, monitor: Monitor) -> dict[str, Any]:
    """Accuracy on held-out answers, and the predicted gain of the next `MORE`, as JSON values.

    "accuracy": {"value", "low", "high", "labels"}, by cross-validation with a 95 % interval; None where it is not
    known: few labels, or a model whose fit takes longer than a second. Texts that a strategy selects tend to be harder
    than others, so it may be too low.

    "gain": {"more", "value", "low", "high"}, from a power law fitted to the accuracy after random parts of the labels,
    with a 90 % interval; None where it is not known.

    Args:
        session: session with the labels.
        monitor: receives the progress.
    """
    right = cross_validated(session, monitor, max_fit_seconds=_MAX_FIT_SECONDS)
    if right is None:
        return {"accuracy": None, "gain": None}
    labels = len(right)
    value, low, high = share_right(right)
    figures: dict[str, Any] = {"accuracy": {"value": value, "low": low, "high": high, "labels": labels}, "gain": None}
    if labels < _MIN_LABELS or session.fit_seconds > _MAX_CURVE_SECONDS:
        return figures
    scores = []
    for share in _SHARES[:-1]:
        part = cross_validated(session, monitor, max_fit_seconds=_MAX_FIT_SECONDS, share=share)
        if part is None:
            return figures
        scores.append(part.to(torch.float64).mean().item())
    trained_on = [share * labels * (FOLDS - 1) / FOLDS for share in _SHARES]
    gain = predicted_gain(trained_on, [*scores, value], MORE, start=labels)
    return figures | {"gain": {"more": MORE, "value": gain.value, "low": gain.low, "high": gain.high}}
