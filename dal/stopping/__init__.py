"""Stopping rules: pure functions of the figures recorded each round, composable with `&` and `|`."""

from dal.config.moved import renamed_attributes
from dal.stopping.backtest import Backtest, backtest
from dal.stopping.budget_rules import Dollars, Hours, Labels
from dal.stopping.measurement import Measurement
from dal.stopping.prediction_rules import ClassificationChange, OverallUncertainty, StabilizingPredictions
from dal.stopping.rule import AllOf, AnyOf, History, Observe, StoppingRule, Verdict
from dal.stopping.score_rules import Plateau, TargetScore

__all__ = [
    "AllOf",
    "AnyOf",
    "Backtest",
    "ClassificationChange",
    "Dollars",
    "History",
    "Hours",
    "Labels",
    "Measurement",
    "Observe",
    "OverallUncertainty",
    "Plateau",
    "StabilizingPredictions",
    "StoppingRule",
    "TargetScore",
    "Verdict",
    "backtest",
]

#: Names of version 0.1: `All`, `Any`.
__getattr__ = renamed_attributes(__name__)
