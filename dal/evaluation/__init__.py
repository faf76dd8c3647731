"""Metrics, calibration and learning curves."""

from dal.evaluation.curves import Band, Comparison, Curve, area, band, compare, curve, labels_to_reach
from dal.evaluation.metrics import brier_score, calibration_error, evaluate

__all__ = [
    "Band",
    "Comparison",
    "Curve",
    "area",
    "band",
    "brier_score",
    "calibration_error",
    "compare",
    "curve",
    "evaluate",
    "labels_to_reach",
]
