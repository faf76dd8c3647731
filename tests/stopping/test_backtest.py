"""Where a rule would have stopped a stored run."""

import pytest
from stopping import recorded

from dal.errors import DataError
from dal.stopping import Labels, StabilizingPredictions, TargetScore, backtest


def lines(scores: list[float]) -> list[dict]:
    return [{**line, "accuracy": s - 0.1} for line, s in zip(recorded.scores(scores).lines, scores, strict=True)]


def test_labels_saved_and_score_lost() -> None:
    found = backtest(lines([0.5, 0.7, 0.8, 0.85]), TargetScore(value=0.7))
    assert (found.stopped, found.labels, found.labels_saved) == (True, 40, 40)
    assert (found.score, found.loss) == pytest.approx((0.6, 0.15))
    assert found.verdict.text == "validation accuracy was 0.7 (at least 0.7 wanted)"


def test_gain_by_stopping_is_a_negative_loss() -> None:
    assert backtest(lines([0.9, 0.8]), TargetScore(value=0.9)).loss == pytest.approx(-0.1)


def test_loss_in_a_metric_where_less_is_better() -> None:
    run = [{"labels": 20, "log_loss": 0.5}, {"labels": 40, "log_loss": 0.4}]
    assert backtest(run, Labels(20), metric="log_loss").loss == pytest.approx(0.1)


def test_rule_that_does_not_stop_saves_and_loses_nothing() -> None:
    found = backtest(lines([0.5, 0.6]), TargetScore(value=0.9))
    assert (found.stopped, found.labels, found.labels_saved, found.loss) == (False, 40, 0, 0)


def test_stop_after_the_last_round_is_a_stop() -> None:
    found = backtest(lines([0.5, 0.9]), TargetScore(value=0.9))
    assert (found.stopped, found.labels_saved) == (True, 0)


def test_run_that_cannot_be_tested_is_refused() -> None:
    with pytest.raises(DataError, match="StabilizingPredictions reads stop_set, which this run did not record"):
        backtest(lines([0.5, 0.6]), StabilizingPredictions())
    with pytest.raises(DataError, match="without rounds"):
        backtest([], Labels(1))
    with pytest.raises(DataError, match="has no macro_f1"):
        backtest(lines([0.5]), Labels(1), metric="macro_f1")
