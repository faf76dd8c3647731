"""Acquisition strategies, one file per family."""

from dal.strategies.auto import Auto
from dal.strategies.batches import ClassBalanced, Diversified
from dal.strategies.composition import Fallback, Mixture, Phases
from dal.strategies.contrastive import CAL, FALCUN
from dal.strategies.covering import ProbCover
from dal.strategies.disagreement import BALD, ConsensusEntropy, KLDivergence, MeanStd, VariationRatio, VoteEntropy
from dal.strategies.discriminative import Discriminative
from dal.strategies.diversity import ClusterCenters, CoreSet
from dal.strategies.fisher import BAIT
from dal.strategies.gradient import BADGE, ExpectedGradientLength
from dal.strategies.herding import MaxHerding, UHerding
from dal.strategies.hybrid import CLUE, ClusterMargin, DropQuery, InformationDensity
from dal.strategies.joint import EPIG, BatchBALD
from dal.strategies.random import Random
from dal.strategies.sampling import LightweightCoreset
from dal.strategies.stochastic import PowerBALD, Stochastic
from dal.strategies.text import ALPS, LikelyPerClass
from dal.strategies.typicality import TypiClust
from dal.strategies.uncertainty import Entropy, LeastConfidence, LowestConfidence, Margin

__all__ = [
    "ALPS",
    "BADGE",
    "BAIT",
    "BALD",
    "CAL",
    "CLUE",
    "EPIG",
    "FALCUN",
    "Auto",
    "BatchBALD",
    "ClassBalanced",
    "ClusterCenters",
    "ClusterMargin",
    "ConsensusEntropy",
    "CoreSet",
    "Discriminative",
    "Diversified",
    "DropQuery",
    "Entropy",
    "ExpectedGradientLength",
    "Fallback",
    "InformationDensity",
    "KLDivergence",
    "LeastConfidence",
    "LightweightCoreset",
    "LikelyPerClass",
    "LowestConfidence",
    "Margin",
    "MaxHerding",
    "MeanStd",
    "Mixture",
    "Phases",
    "PowerBALD",
    "ProbCover",
    "Random",
    "Stochastic",
    "TypiClust",
    "UHerding",
    "VariationRatio",
    "VoteEntropy",
]
