"""Metrics, calibration and learning curves."""

from dal.evaluation.curves import Band, Comparison, Curve, area, band, compare, curve, labels_to_reach
from dal.evaluation.efficiency import Efficiency, label_efficiency
from dal.evaluation.metrics import brier_score, calibration_error, evaluate
from dal.evaluation.statistics import holm, paired_p, tally

__all__ = [
    "Band",
    "Comparison",
    "Curve",
    "Efficiency",
    "area",
    "band",
    "brier_score",
    "calibration_error",
    "compare",
    "curve",
    "evaluate",
    "holm",
    "label_efficiency",
    "labels_to_reach",
    "paired_p",
    "tally",
]
