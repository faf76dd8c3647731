"""Pure tensor mathematics: no state, no files, no progress bars. Usable alone, on any tensors and any device."""

from dal.functional.clustering import Clusters, kmeans
from dal.functional.disagreement import mutual_information
from dal.functional.k_center import Cover, k_center_greedy
from dal.functional.neighbors import Neighbors, k_nearest, nearest_distance
from dal.functional.points import DensePoints, OuterPoints, Points, as_points
from dal.functional.ranking import top
from dal.functional.seeding import distances_at_selection, kmeans_plusplus
from dal.functional.uncertainty import entropy, least_confidence, margin

__all__ = [
    "Clusters",
    "Cover",
    "DensePoints",
    "Neighbors",
    "OuterPoints",
    "Points",
    "as_points",
    "distances_at_selection",
    "entropy",
    "k_center_greedy",
    "k_nearest",
    "kmeans",
    "kmeans_plusplus",
    "least_confidence",
    "margin",
    "mutual_information",
    "nearest_distance",
    "top",
]
