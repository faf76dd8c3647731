"""Labels, money and hours."""

from collections.abc import Callable

import pytest
from stopping import recorded

from dal.errors import ConfigError
from dal.stopping import Dollars, History, Hours, Labels


def test_labels_stop_at_the_budget() -> None:
    before, at = Labels(50).judge(recorded.spent(answers=49)), Labels(50).judge(recorded.spent(answers=50))
    assert (before.stop, before.text) == (False, "49 of 50 labels were bought")
    assert (at.stop, at.text, at.notes) == (True, "50 of 50 labels were bought", {"labels_bought": 50})


def test_labels_that_came_with_the_data_are_not_bought() -> None:
    line = {**recorded.spent(answers=5).lines[0], "labels": 500}
    assert not Labels(10).judge(History((line,)))


def test_line_of_an_older_run_counts_its_labels() -> None:
    assert Labels(40).judge(History(({"labels": 40},)))
    assert Dollars(2, per_label=0.05).judge(History(({"labels": 40},)))


def test_nothing_recorded_is_nothing_spent() -> None:
    for rule in (Labels(1), Dollars(1, per_label=1), Hours(1, per_label=1)):
        assert not rule.judge(History())


def test_dollars_are_costs_and_prices() -> None:
    # 4.50 stored, 10 answers without a cost at .25, 1.5 hours at 20
    verdict = Dollars(37, per_label=0.25, per_hour=20).judge(recorded.spent(dollars=4.5, unpriced=10, hours=1.5))
    assert (verdict.stop, verdict.text, verdict.notes) == (True, "37 of 37 dollars were spent", {"dollars": 37})
    assert not Dollars(37.01, per_label=0.25, per_hour=20).judge(recorded.spent(dollars=4.5, unpriced=10, hours=1.5))


def test_hours_are_stored_times_and_an_assumed_one() -> None:
    verdict = Hours(2, per_label=30).judge(recorded.spent(hours=1.5, untimed=60))
    assert (verdict.stop, verdict.text) == (True, "2 of 2 hours were spent")
    assert not Hours(2, per_label=29).judge(recorded.spent(hours=1.5, untimed=60))


def test_unknown_costs_and_times_are_named() -> None:
    found = Dollars(5).judge(recorded.spent(dollars=1.25, unpriced=3))
    assert found.text == "1.25 of 5 dollars were spent (3 answers without a cost: give per_label)"
    found = Hours(5).judge(recorded.spent(untimed=1))
    assert found.text == "0 of 5 hours were spent (1 answer without a time: give per_label)"


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Labels(0), "max_labels of Labels must be at least 1, not 0"),
        (lambda: Dollars(0), "max_dollars of Dollars must be positive, not 0"),
        (lambda: Dollars(1, per_label=-1), "per_label of Dollars must be at least 0, not -1"),
        (lambda: Dollars(1, per_hour=-1), "per_hour of Dollars must be at least 0, not -1"),
        (lambda: Hours(-2), "max_hours of Hours must be positive, not -2"),
        (lambda: Hours(1, per_label=-2), "per_label of Hours must be at least 0, not -2"),
    ],
)
def test_budgets_that_make_no_sense_are_refused(make: Callable, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        make()
