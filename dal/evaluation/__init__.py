"""Metrics, calibration, batch quality, label noise, learning curves, automation and accuracy without a test set."""

from dal.config.moved import renamed_attributes
from dal.evaluation.automation import Automation, RiskCoverage, risk_coverage, threshold
from dal.evaluation.batch_quality import (
    balance,
    coverage,
    mean_uncertainty,
    novelty,
    overlap,
    redundancy,
    typical_distance,
)
from dal.evaluation.breakdown import per_class, per_group
from dal.evaluation.calibration import Temperature, adaptive_calibration_error, calibration_error, reliability
from dal.evaluation.cost import Prices, RecordedWork, RecordGroup, costs, sources
from dal.evaluation.curves import Band, Curve, CurveComparison, area, band, compare, curve, labels_to_reach
from dal.evaluation.efficiency import Efficiency, label_efficiency
from dal.evaluation.encoder_scores import EncoderScore, neighbor_hits, score_encoders
from dal.evaluation.map_projection import principal_plane
from dal.evaluation.metrics import auroc, brier_score, calibration, evaluate
from dal.evaluation.noise import LabelIssues, confident_joint, estimated_joint, label_issues
from dal.evaluation.own_metrics import Metric, metric
from dal.evaluation.ranked_metrics import average_precision, recall_at_precision
from dal.evaluation.statistics import holm, paired_p, tally
from dal.evaluation.unbiased import Estimate, WeightedSample, draw, estimate

__all__ = [
    "Automation",
    "Band",
    "Curve",
    "CurveComparison",
    "Efficiency",
    "EncoderScore",
    "Estimate",
    "LabelIssues",
    "Metric",
    "Prices",
    "RecordGroup",
    "RecordedWork",
    "RiskCoverage",
    "Temperature",
    "WeightedSample",
    "adaptive_calibration_error",
    "area",
    "auroc",
    "average_precision",
    "balance",
    "band",
    "brier_score",
    "calibration",
    "calibration_error",
    "compare",
    "confident_joint",
    "costs",
    "coverage",
    "curve",
    "draw",
    "estimate",
    "estimated_joint",
    "evaluate",
    "holm",
    "label_efficiency",
    "label_issues",
    "labels_to_reach",
    "mean_uncertainty",
    "metric",
    "neighbor_hits",
    "novelty",
    "overlap",
    "paired_p",
    "per_class",
    "per_group",
    "principal_plane",
    "recall_at_precision",
    "redundancy",
    "reliability",
    "risk_coverage",
    "score_encoders",
    "sources",
    "tally",
    "threshold",
    "typical_distance",
]


#: Names of version 0.1.
__getattr__ = renamed_attributes(__name__)
