"""Metrics, calibration, learning curves, what can be automated, and accuracy without a test set."""

from dal.evaluation.automation import Automation, RiskCoverage, risk_coverage, threshold
from dal.evaluation.curves import Band, Comparison, Curve, area, band, compare, curve, labels_to_reach
from dal.evaluation.efficiency import Efficiency, label_efficiency
from dal.evaluation.metrics import brier_score, calibration_error, evaluate
from dal.evaluation.statistics import holm, paired_p, tally
from dal.evaluation.unbiased import Drawn, Estimate, draw, estimate

__all__ = [
    "Automation",
    "Band",
    "Comparison",
    "Curve",
    "Drawn",
    "Efficiency",
    "Estimate",
    "RiskCoverage",
    "area",
    "band",
    "brier_score",
    "calibration_error",
    "compare",
    "curve",
    "draw",
    "estimate",
    "evaluate",
    "holm",
    "label_efficiency",
    "labels_to_reach",
    "paired_p",
    "risk_coverage",
    "tally",
    "threshold",
]
