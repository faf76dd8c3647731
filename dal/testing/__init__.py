"""Conformance kit: checks that a strategy or a learner fulfils its contract, for this package and for plugin authors.

    from dal.testing import check_strategy

    def test_my_strategy_keeps_the_contract():
        check_strategy(MyStrategy(weight=2.0))

On the command line: `dal check my_package:MyStrategy`.
"""

from dal.testing.conformance_report import Check, CheckFailure, CheckSkipped, ConformanceError, Report, Result
from dal.testing.learners import LEARNER_CHECKS, check_learner, default_rows, learner_report
from dal.testing.strategies import STRATEGY_CHECKS, check_strategy, strategy_report
from dal.testing.synthetic import Extra, Setting, synthetic

__all__ = [
    "LEARNER_CHECKS",
    "STRATEGY_CHECKS",
    "Check",
    "CheckFailure",
    "CheckSkipped",
    "ConformanceError",
    "Extra",
    "Report",
    "Result",
    "Setting",
    "check_learner",
    "check_strategy",
    "default_rows",
    "learner_report",
    "strategy_report",
    "synthetic",
]
