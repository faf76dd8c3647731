"""Pure tensor functions without state, files or progress bars; usable on their own, on tensors on any device."""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from dal.functional.central import central_rows
    from dal.functional.class_shares import logit_adjustment, share_thresholds
    from dal.functional.clustering import Clusters, distinct_medoids, kmeans, medoids
    from dal.functional.consistency import inconsistency
    from dal.functional.contrast import falcun, neighbor_divergence
    from dal.functional.coverage import Coverage, max_coverage, pure_radius
    from dal.functional.disagreement import consensus, mean_std, mutual_information
    from dal.functional.drawing import draw_without_replacement, lightweight_coreset_distribution
    from dal.functional.exchange import Comm, Shard
    from dal.functional.fisher import Design, FisherFactors, bait, fisher_factors
    from dal.functional.gradients import expected_gradient_length
    from dal.functional.herding import HerdingState, closest_distance, max_herding
    from dal.functional.hierarchy import average_linkage, round_robin
    from dal.functional.joint import JointBatch, batch_bald, epig, greedy_batch
    from dal.functional.k_center import Bounds, Cover, k_center_greedy
    from dal.functional.logistic import Plane, separate
    from dal.functional.neighbors import Neighbors, k_nearest, nearest_distance
    from dal.functional.points import DensePoints, OuterPoints, Points, as_points
    from dal.functional.ranking import top
    from dal.functional.row_source import PointSource, RowSource
    from dal.functional.seeding import distances_at_selection, kmeans_plusplus
    from dal.functional.similarity import mean_similarity
    from dal.functional.typical import typicality
    from dal.functional.uncertainty import entropy, least_confidence, margin

__all__ = [
    "Bounds",
    "Clusters",
    "Comm",
    "Cover",
    "Coverage",
    "DensePoints",
    "Design",
    "FisherFactors",
    "HerdingState",
    "JointBatch",
    "Neighbors",
    "OuterPoints",
    "Plane",
    "PointSource",
    "Points",
    "RowSource",
    "Shard",
    "as_points",
    "average_linkage",
    "bait",
    "batch_bald",
    "central_rows",
    "closest_distance",
    "consensus",
    "distances_at_selection",
    "distinct_medoids",
    "draw_without_replacement",
    "entropy",
    "epig",
    "expected_gradient_length",
    "falcun",
    "fisher_factors",
    "greedy_batch",
    "inconsistency",
    "k_center_greedy",
    "k_nearest",
    "kmeans",
    "kmeans_plusplus",
    "least_confidence",
    "lightweight_coreset_distribution",
    "logit_adjustment",
    "margin",
    "max_coverage",
    "max_herding",
    "mean_similarity",
    "mean_std",
    "medoids",
    "mutual_information",
    "nearest_distance",
    "neighbor_divergence",
    "pure_radius",
    "round_robin",
    "separate",
    "share_thresholds",
    "top",
    "typicality",
]

#: Names of the package by module. They are imported when they are first read, so that a module without tensors can be
#: imported without torch.
_MODULES = {
    "central": ("central_rows",),
    "class_shares": ("logit_adjustment", "share_thresholds"),
    "clustering": ("Clusters", "distinct_medoids", "kmeans", "medoids"),
    "consistency": ("inconsistency",),
    "contrast": ("falcun", "neighbor_divergence"),
    "coverage": ("Coverage", "max_coverage", "pure_radius"),
    "disagreement": ("consensus", "mean_std", "mutual_information"),
    "drawing": ("draw_without_replacement", "lightweight_coreset_distribution"),
    "exchange": ("Comm", "Shard"),
    "fisher": ("Design", "FisherFactors", "bait", "fisher_factors"),
    "gradients": ("expected_gradient_length",),
    "herding": ("HerdingState", "closest_distance", "max_herding"),
    "hierarchy": ("average_linkage", "round_robin"),
    "joint": ("JointBatch", "batch_bald", "epig", "greedy_batch"),
    "k_center": ("Bounds", "Cover", "k_center_greedy"),
    "logistic": ("Plane", "separate"),
    "neighbors": ("Neighbors", "k_nearest", "nearest_distance"),
    "points": ("DensePoints", "OuterPoints", "Points", "as_points"),
    "ranking": ("top",),
    "row_source": ("PointSource", "RowSource"),
    "seeding": ("distances_at_selection", "kmeans_plusplus"),
    "similarity": ("mean_similarity",),
    "typical": ("typicality",),
    "uncertainty": ("entropy", "least_confidence", "margin"),
}

_HOMES = {name: module for module, names in _MODULES.items() for name in names}


def __getattr__(name: str) -> Any:
    """Import a name of the package, or what version 0.1 called `name`, on first access."""
    if name not in _HOMES:
        from dal.config.moved import renamed_attributes  # here, since `dal.config` imports this package

        return renamed_attributes(__name__)(name)
    value = globals()[name] = getattr(import_module(f"{__name__}.{_HOMES[name]}"), name)
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
