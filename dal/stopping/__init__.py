"""When to stop asking: rules over the numbers that the rounds recorded, which compose with `&` and `|`."""

from dal.stopping.backtest import Backtest, backtest
from dal.stopping.budget_rules import Dollars, Hours, Labels
from dal.stopping.composition import All, Any, Observe
from dal.stopping.prediction_rules import ClassificationChange, OverallUncertainty, StabilizingPredictions
from dal.stopping.rule import History, StoppingRule, Verdict
from dal.stopping.score_rules import Plateau, TargetScore

__all__ = [
    "All",
    "Any",
    "Backtest",
    "ClassificationChange",
    "Dollars",
    "History",
    "Hours",
    "Labels",
    "Observe",
    "OverallUncertainty",
    "Plateau",
    "StabilizingPredictions",
    "StoppingRule",
    "TargetScore",
    "Verdict",
    "backtest",
]
