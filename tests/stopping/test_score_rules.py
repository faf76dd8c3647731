"""TargetScore and Plateau on scores that are known."""

from collections.abc import Callable

import numpy as np
import pytest
from stopping import recorded

from dal.errors import ConfigError
from dal.evaluation.extrapolation import predicted_gain
from dal.stopping import History, Plateau, TargetScore


def test_target_that_is_reached_stops() -> None:
    assert not TargetScore(value=0.9).judge(recorded.scores([0.7, 0.899]))
    verdict = TargetScore(value=0.9).judge(recorded.scores([0.7, 0.912]))
    assert (verdict.stop, verdict.text) == (True, "validation accuracy was 0.912 (at least 0.9 wanted)")
    assert verdict.notes == {"validation_accuracy": 0.912}


def test_patience_wants_several_rounds_in_a_row() -> None:
    rule = TargetScore(value=0.8, patience=3)
    assert not rule.judge(recorded.scores([0.9, 0.9]))
    assert not rule.judge(recorded.scores([0.9, 0.9, 0.7, 0.9, 0.9]))
    verdict = rule.judge(recorded.scores([0.7, 0.9, 0.85, 0.9]))
    assert verdict.stop
    assert verdict.text == "validation accuracy was 0.85 at worst in the last 3 rounds of 3 (at least 0.8 wanted)"


def test_loss_must_fall_to_the_target() -> None:
    rule = TargetScore("log_loss", 0.3)
    assert not rule.judge(recorded.scores([0.31], "log_loss"))
    verdict = rule.judge(recorded.scores([0.5, 0.29], "log_loss"))
    assert (verdict.stop, verdict.text) == (True, "validation log loss was 0.29 (at most 0.3 wanted)")


def test_confidence_wants_the_lower_end_at_the_target() -> None:
    rule = TargetScore(value=0.9, confidence=0.95)
    assert not rule.judge(recorded.scores([0.93], rows=270))
    verdict = rule.judge(recorded.scores([0.93], rows=271))
    assert verdict.stop
    assert verdict.text.startswith("validation accuracy was at least, with 95% confidence, 0.9")


def test_nothing_is_concluded_without_a_score() -> None:
    assert TargetScore().judge(History()).text == "no model has been scored on validation rows yet"
    assert not Plateau().judge(History())


def test_figure_that_was_not_recorded_is_named() -> None:
    with pytest.raises(ConfigError, match="no label_accuracy; recorded are accuracy, rows"):
        TargetScore("label_accuracy").judge(recorded.scores([0.9]))


def law(a: float, b: float, c: float, rounds: int) -> list[float]:
    return [a - b * (20.0 * (i + 1)) ** -c for i in range(rounds)]


def test_plateau_waits_for_its_rounds() -> None:
    verdict = Plateau(min_rounds=8).judge(recorded.scores(law(0.9, 1, 1, 7)))
    assert (verdict.stop, verdict.text) == (False, "7 scores on validation rows so far, 8 are needed")


def test_plateau_stops_on_a_flat_curve_and_not_on_a_rising_one() -> None:
    assert Plateau().judge(recorded.scores(law(0.9, 1, 1, 40)))
    assert not Plateau().judge(recorded.scores(law(0.9, 1, 0.4, 8)))


def test_plateau_tells_its_prediction_and_interval() -> None:
    values = (np.array(law(0.9, 1.2, 0.8, 12)) + np.random.default_rng(0).normal(0, 0.004, 12)).tolist()
    verdict = Plateau(labels=50).judge(recorded.scores(values))
    gain = predicted_gain([20 * (i + 1) for i in range(12)], values, 50)
    assert verdict.notes == {
        "predicted_gain": gain.value,
        "gain_low": gain.low,
        "gain_high": gain.high,
        "ceiling": gain.curve.ceiling,
    }
    assert verdict.text == (
        f"the next 50 labels are predicted to add {gain.value:.4f} to the validation accuracy, {gain.low:.4f} to "
        f"{gain.high:.4f} with 90% confidence (at least 0.005 wanted)"
    )


def test_plateau_stops_where_the_upper_end_is_too_little() -> None:
    values = (np.array(law(0.9, 1.2, 0.8, 12)) + np.random.default_rng(0).normal(0, 0.004, 12)).tolist()
    high = Plateau().judge(recorded.scores(values)).notes["gain_high"]
    assert Plateau(min_gain=high * 1.01).judge(recorded.scores(values))
    assert not Plateau(min_gain=high * 0.99).judge(recorded.scores(values))


def test_plateau_judges_the_metric_it_is_told() -> None:
    assert Plateau(metric="macro_f1").judge(recorded.scores([0.8] * 6, "macro_f1"))


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: TargetScore(patience=0), "patience of TargetScore must be at least 1, not 0"),
        (lambda: TargetScore(value=1.5), "value of TargetScore must be between 0 and 1, not 1.5"),
        (lambda: TargetScore(confidence=0.4), "confidence of TargetScore must be above 0.5 and below 1, not 0.4"),
        (lambda: TargetScore("macro_f1", confidence=0.9), "the metric accuracy alone, not for macro_f1"),
        (lambda: Plateau(min_gain=0), "min_gain of Plateau must be positive, not 0"),
        (lambda: Plateau(labels=0), "labels of Plateau must be at least 1, not 0"),
        (lambda: Plateau(confidence=1), "confidence of Plateau must be between 0 and 1, not 1"),
        (lambda: Plateau(min_rounds=4), "min_rounds of Plateau must be at least 5, not 4"),
        (lambda: Plateau(samples=10), "samples of Plateau must be at least 100, not 10"),
        (lambda: Plateau(seed=-1), "seed of Plateau must be at least 0, not -1"),
    ],
)
def test_options_that_make_no_sense_are_refused(make: Callable, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        make()
