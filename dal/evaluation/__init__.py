"""Metrics, calibration, batch quality, label noise, learning curves, automation and accuracy without a test set."""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from dal.config.moved import renamed_attributes

if TYPE_CHECKING:
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
    from dal.evaluation.calibration_measures import (
        Temperature,
        adaptive_calibration_error,
        calibration_error,
        reliability,
    )
    from dal.evaluation.cost import Prices, RecordedWork, RecordGroup, costs, sources
    from dal.evaluation.curves import Band, Curve, CurveComparison, area, band, compare, curve, labels_to_reach
    from dal.evaluation.efficiency import Efficiency, label_efficiency
    from dal.evaluation.encoder_scores import EncoderScore, neighbor_hits, score_encoders
    from dal.evaluation.inter_annotator import (
        Agreement,
        Coefficient,
        annotator_agreement,
        class_agreement,
        gwet_ac1,
        krippendorff_alpha,
        raw_agreement,
    )
    from dal.evaluation.map_projection import principal_plane
    from dal.evaluation.metrics import auroc, brier_score, calibration, evaluate
    from dal.evaluation.noise import LabelIssues, confident_joint, estimated_joint, label_issues
    from dal.evaluation.own_metrics import Metric, metric
    from dal.evaluation.ranked_metrics import average_precision, recall_at_precision
    from dal.evaluation.statistics import holm, paired_p, tally
    from dal.evaluation.unbiased import Estimate, WeightedSample, draw, estimate

__all__ = [
    "Agreement",
    "Automation",
    "Band",
    "Coefficient",
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
    "annotator_agreement",
    "area",
    "auroc",
    "average_precision",
    "balance",
    "band",
    "brier_score",
    "calibration",
    "calibration_error",
    "class_agreement",
    "compare",
    "confident_joint",
    "costs",
    "coverage",
    "curve",
    "draw",
    "estimate",
    "estimated_joint",
    "evaluate",
    "gwet_ac1",
    "holm",
    "krippendorff_alpha",
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
    "raw_agreement",
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

#: Names of the package by module. They are imported when they are first read, so that a module without tensors can be
#: imported without torch.
_MODULES = {
    "automation": ("Automation", "RiskCoverage", "risk_coverage", "threshold"),
    "batch_quality": (
        "balance",
        "coverage",
        "mean_uncertainty",
        "novelty",
        "overlap",
        "redundancy",
        "typical_distance",
    ),
    "breakdown": ("per_class", "per_group"),
    "calibration_measures": ("Temperature", "adaptive_calibration_error", "calibration_error", "reliability"),
    "cost": ("Prices", "RecordedWork", "RecordGroup", "costs", "sources"),
    "curves": ("Band", "Curve", "CurveComparison", "area", "band", "compare", "curve", "labels_to_reach"),
    "efficiency": ("Efficiency", "label_efficiency"),
    "encoder_scores": ("EncoderScore", "neighbor_hits", "score_encoders"),
    "inter_annotator": (
        "Agreement",
        "Coefficient",
        "annotator_agreement",
        "class_agreement",
        "gwet_ac1",
        "krippendorff_alpha",
        "raw_agreement",
    ),
    "map_projection": ("principal_plane",),
    "metrics": ("auroc", "brier_score", "calibration", "evaluate"),
    "noise": ("LabelIssues", "confident_joint", "estimated_joint", "label_issues"),
    "own_metrics": ("Metric", "metric"),
    "ranked_metrics": ("average_precision", "recall_at_precision"),
    "statistics": ("holm", "paired_p", "tally"),
    "unbiased": ("Estimate", "WeightedSample", "draw", "estimate"),
}

_HOMES = {name: module for module, names in _MODULES.items() for name in names}


def __getattr__(name: str) -> Any:
    """Import a name of the package, or what version 0.1 called `name`, on first access."""
    if name not in _HOMES:
        return renamed_attributes(__name__)(name)
    value = globals()[name] = getattr(import_module(f"{__name__}.{_HOMES[name]}"), name)
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
