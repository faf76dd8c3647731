"""Metrics, calibration and learning curves."""

from dal.evaluation.metrics import brier_score, calibration_error, evaluate

__all__ = ["brier_score", "calibration_error", "evaluate"]
