"""Conformance kit: checks that a plugin fulfils the contract of its base class, for this package and plugin authors.

    from dal.testing import check_strategy

    def test_my_strategy_keeps_the_contract():
        check_strategy(MyStrategy(weight=2.0))

On the command line: `dal check my_package:MyStrategy`.
"""

from dal.testing.candidate_checks import CANDIDATE_CHECKS, candidate_report, check_candidate_generator
from dal.testing.client_checks import CLIENT_CHECKS, check_client, client_report
from dal.testing.conformance_report import Check, CheckFailure, CheckSkipped, ConformanceError, Report, Result
from dal.testing.learners import LEARNER_CHECKS, check_learner, default_rows, learner_report
from dal.testing.metric_checks import METRIC_CHECKS, check_metric, metric_report
from dal.testing.oracle_checks import ORACLE_CHECKS, check_oracle, oracle_report
from dal.testing.stopping_checks import STOPPING_CHECKS, check_stopping_rule, stopping_report
from dal.testing.strategies import STRATEGY_CHECKS, check_strategy, strategy_report
from dal.testing.synthetic import Extra, Setting, synthetic

__all__ = [
    "CANDIDATE_CHECKS",
    "CLIENT_CHECKS",
    "LEARNER_CHECKS",
    "METRIC_CHECKS",
    "ORACLE_CHECKS",
    "STOPPING_CHECKS",
    "STRATEGY_CHECKS",
    "Check",
    "CheckFailure",
    "CheckSkipped",
    "ConformanceError",
    "Extra",
    "Report",
    "Result",
    "Setting",
    "candidate_report",
    "check_candidate_generator",
    "check_client",
    "check_learner",
    "check_metric",
    "check_oracle",
    "check_stopping_rule",
    "check_strategy",
    "client_report",
    "default_rows",
    "learner_report",
    "metric_report",
    "oracle_report",
    "stopping_report",
    "strategy_report",
    "synthetic",
]
