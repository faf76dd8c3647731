"""Acquisition strategies, one file per family."""

from dal.strategies.composition import Phases
from dal.strategies.disagreement import BALD
from dal.strategies.diversity import ClusterCenters, CoreSet
from dal.strategies.gradient import BADGE
from dal.strategies.random import Random
from dal.strategies.uncertainty import Entropy, LeastConfidence, Margin

__all__ = [
    "BADGE",
    "BALD",
    "ClusterCenters",
    "CoreSet",
    "Entropy",
    "LeastConfidence",
    "Margin",
    "Phases",
    "Random",
]
