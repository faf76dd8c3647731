"""Rules on the predictions of successive models, on predictions made by hand."""

from collections.abc import Callable

import numpy as np
import pytest
from reference import stopping as reference
from stopping import recorded

from dal.errors import ConfigError
from dal.stopping import ClassificationChange, History, OverallUncertainty, StabilizingPredictions

HALVES = [0] * 50 + [1] * 50


def flipped(*rows: int) -> list[int]:
    return [1 - value if i in rows else value for i, value in enumerate(HALVES)]


def history(*rounds: list[int]) -> History:
    return recorded.predicted(*(recorded.stop_set(predictions) for predictions in rounds))


def test_mean_kappa_of_the_window_decides() -> None:
    # against halves of 50, one flip leaves A_o = .99 and A_e = .5: kappa .98; no flip: 1
    rounds = history(HALVES, flipped(3), flipped(3), flipped(3))
    verdict = StabilizingPredictions(threshold=0.993, size=100).judge(rounds)
    assert verdict.stop
    assert verdict.text == "kappa was 0.9933 on average over the last 3 rounds (at least 0.993 wanted)"
    assert verdict.notes["kappa"] == pytest.approx((0.98 + 1 + 1) / 3)
    assert not StabilizingPredictions(threshold=0.994, size=100).judge(rounds)


def test_kappa_that_falls_just_short_is_not_rounded_up_to_the_threshold() -> None:
    rounds = history(HALVES, flipped(3), HALVES, flipped(3), flipped(3))
    close = StabilizingPredictions(threshold=0.98667, size=100).judge(rounds)  # the mean is .986667
    assert not close
    assert close.text == "kappa was 0.986667 on average over the last 3 rounds (at least 0.98667 wanted)"


def test_threshold_and_window_of_the_paper_are_the_defaults() -> None:
    rule = StabilizingPredictions()
    assert (rule.threshold, rule.window, rule.size) == (0.99, 3, 2000)


def test_older_rounds_do_not_count() -> None:
    assert StabilizingPredictions().judge(history(flipped(*range(50)), HALVES, HALVES, HALVES, HALVES))


def test_four_models_are_needed_for_three_pairs() -> None:
    verdict = StabilizingPredictions().judge(history(HALVES, HALVES, HALVES))
    assert (verdict.stop, verdict.text) == (False, "2 pairs of models to compare so far, 3 are needed")


@pytest.mark.parametrize("classes", [2, 5])
def test_kappa_equals_the_loops(classes: int) -> None:
    random = np.random.default_rng(classes)
    first = random.integers(0, classes, 300)
    second = np.where(random.random(300) < 0.2, random.integers(0, classes, 300), first)
    found = StabilizingPredictions(window=1).judge(history(first.tolist(), second.tolist())).notes
    assert found["kappa"] == pytest.approx(reference.kappa(first.tolist(), second.tolist()))
    table = np.array([[np.sum((first == i) & (second == j)) for j in range(classes)] for i in range(classes)])
    assert found["kappa_deviation"] == pytest.approx(reference.kappa_variance(table) ** 0.5, rel=1e-5)
    assert ("f_change_bound" in found) is (classes == 2)


def test_several_classes_per_row_are_compared_decision_by_decision() -> None:
    random = np.random.default_rng(0)
    first = random.random((150, 11)) < 0.3
    second = first ^ (random.random((150, 11)) < 0.05)
    bits = [[sum(int(on) << c for c, on in enumerate(row)) for row in made] for made in (first, second)]
    rounds = recorded.predicted(*(recorded.stop_set(b, multilabel=True, classes=11) for b in bits))
    found = StabilizingPredictions(window=1).judge(rounds).notes["kappa"]
    assert found == pytest.approx(reference.kappa(first.ravel().tolist(), second.ravel().tolist()))


def test_single_class_is_no_agreement() -> None:
    verdict = StabilizingPredictions().judge(history(*[[0] * 100] * 6))
    assert not verdict
    assert verdict.text == "successive models put every row of the stop set into the same class"


def test_round_without_a_new_label_is_no_evidence() -> None:
    lines = history(HALVES, flipped(*range(40)), flipped(*range(40)), flipped(*range(40))).lines
    same = tuple({**line, "labels": min(line["labels"], 40)} for line in lines)
    assert StabilizingPredictions(window=2).judge(History(lines))
    assert not StabilizingPredictions(window=2).judge(History(same))


def test_predictions_for_another_pool_are_not_compared() -> None:
    rounds = recorded.predicted(*(recorded.stop_set(HALVES, of=pool) for pool in "aabbb"))
    assert not StabilizingPredictions(window=3).judge(rounds)
    assert StabilizingPredictions(window=2).judge(rounds)


def test_smaller_stop_set_is_the_beginning_of_a_larger_one() -> None:
    longer = HALVES + [0] * 50 + [1] * 50
    rounds = history(longer, flipped() + [1] * 50 + [0] * 50)
    assert StabilizingPredictions(window=1, size=100).judge(rounds)
    assert not StabilizingPredictions(window=1, size=200).judge(rounds)


def test_classification_change_stops_when_nothing_changes() -> None:
    verdict = ClassificationChange().judge(history(HALVES, flipped(7), flipped(7)))
    assert (verdict.stop, verdict.text) == (True, "0 of 100 predictions changed in the last round (at most 0 wanted)")
    verdict = ClassificationChange().judge(history(HALVES, flipped(7)))
    assert (verdict.stop, verdict.text) == (False, "1 of 100 predictions changed in the last round (at most 0 wanted)")
    assert verdict.notes == {"share_changed": 0.01}


def test_classification_change_leaves_out_rows_that_have_a_label_by_now() -> None:
    rounds = recorded.predicted(recorded.stop_set(HALVES), recorded.stop_set(flipped(7, 9), labeled=[7, 9]))
    assert ClassificationChange().judge(rounds)
    rounds = recorded.predicted(recorded.stop_set(HALVES), recorded.stop_set(flipped(7, 9), labeled=[7]))
    assert ClassificationChange().judge(rounds).text.startswith("1 of 99 predictions changed")


def test_classification_change_may_allow_a_share_and_want_a_window() -> None:
    rounds = history(flipped(*range(9)), flipped(1), HALVES)
    assert ClassificationChange(max_change=0.01).judge(rounds)
    assert not ClassificationChange(max_change=0.01, window=2).judge(rounds)
    assert ClassificationChange(max_change=0.08, window=2).judge(rounds)


def test_model_that_knows_one_class_is_not_stable() -> None:
    verdict = ClassificationChange().judge(history([1] * 100, [1] * 100))
    assert not verdict
    assert verdict.text.endswith("but the model puts every row into the same class")


def test_classification_change_concludes_nothing_from_one_model_or_an_exhausted_pool() -> None:
    assert not ClassificationChange().judge(history(HALVES))
    done = recorded.stop_set(HALVES, labeled=list(range(100)))
    assert not ClassificationChange().judge(recorded.predicted(done, done))


def test_overall_uncertainty_stops_below_its_threshold() -> None:
    rounds = recorded.predicted(*(recorded.stop_set(HALVES, uncertainty=value) for value in (0.2, 0.06, 0.04)))
    verdict = OverallUncertainty().judge(rounds)
    assert (verdict.stop, verdict.text) == (True, "the mean uncertainty was 0.04 (at most 0.05 wanted)")
    assert verdict.notes == {"uncertainty": 0.04}
    verdict = OverallUncertainty(window=2).judge(rounds)
    assert not verdict
    assert verdict.text == "the mean uncertainty was 0.06 at most in the last 2 rounds (at most 0.05 wanted)"


def test_overall_uncertainty_concludes_nothing_without_a_model_or_an_open_row() -> None:
    assert not OverallUncertainty().judge(History())
    assert not OverallUncertainty().judge(recorded.predicted(recorded.stop_set(HALVES, uncertainty=None)))


@pytest.mark.parametrize("rule", [StabilizingPredictions, ClassificationChange, OverallUncertainty])
def test_stop_set_that_says_nothing_is_refused(rule: Callable) -> None:
    with pytest.raises(ConfigError, match=r"size of .* must be at least 100, not 99"):
        rule(size=99)
    with pytest.raises(ConfigError, match=r"window of .* must be at least 1, not 0"):
        rule(window=0)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: StabilizingPredictions(threshold=0), "threshold of StabilizingPredictions must be above 0 and"),
        (
            lambda: ClassificationChange(max_change=1),
            "max_change of ClassificationChange must be at least 0 and below 1, not 1",
        ),
        (lambda: OverallUncertainty(threshold=1), "threshold of OverallUncertainty must be between 0 and 1, not 1"),
    ],
)
def test_options_that_make_no_sense_are_refused(make: Callable, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        make()
