"""AllOf, AnyOf and Observe: what they stop at, what they read and what they say."""

from dataclasses import dataclass
from itertools import product

import pytest

from dal.errors import ConfigError
from dal.stopping import (
    AllOf,
    AnyOf,
    History,
    Labels,
    Observe,
    OverallUncertainty,
    Plateau,
    StabilizingPredictions,
    StoppingRule,
    Verdict,
)


@dataclass(frozen=True)
class Fixed(StoppingRule):
    """Says the same after every round."""

    stop: bool
    name: str = "x"

    def judge(self, history: History) -> Verdict:
        return Verdict(self.stop, f"{self.name} says {'stop' if self.stop else 'go'}", {"figure": float(self.stop)})


@pytest.mark.parametrize(("a", "b"), list(product([False, True], repeat=2)))
def test_truth_table(a: bool, b: bool) -> None:
    assert (Fixed(a) & Fixed(b)).judge(History()).stop is (a and b)
    assert (Fixed(a) | Fixed(b)).judge(History()).stop is (a or b)
    assert Observe((Fixed(a), Fixed(b))).judge(History()).stop is False


@pytest.mark.parametrize(("a", "b", "c"), list(product([False, True], repeat=3)))
def test_truth_table_of_three(a: bool, b: bool, c: bool) -> None:
    assert bool((Fixed(a) & Fixed(b) | Fixed(c)).judge(History())) is ((a and b) or c)
    assert bool((Fixed(a) & (Fixed(b) | Fixed(c))).judge(History())) is (a and (b or c))


def test_operators_make_flat_rules() -> None:
    a, b, c = Labels(1), Labels(2), Labels(3)
    assert a | b | c == AnyOf((a, b, c))
    assert a & (b & c) == AllOf((a, b, c))
    assert a & b | c == AnyOf((AllOf((a, b)), c))


def test_any_says_why_it_stops_and_nothing_of_the_others() -> None:
    assert (Fixed(True, "a") | Fixed(False, "b")).judge(History()).text == "a says stop"
    assert (Fixed(False, "a") | Fixed(False, "b")).judge(History()).text == "a says go; b says go"


def test_all_says_what_is_still_missing() -> None:
    assert (Fixed(True, "a") & Fixed(False, "b")).judge(History()).text == "b says go"
    assert (Fixed(True, "a") & Fixed(True, "b")).judge(History()).text == "a says stop; b says stop"


def test_figures_of_the_same_name_are_all_kept() -> None:
    three = Fixed(True) | Fixed(False) | Fixed(True)
    assert three.judge(History()).notes == {"figure": 1, "figure_2": 0, "figure_3": 1}


def test_what_the_parts_read_is_recorded() -> None:
    rule = Labels(100) | Plateau() & StabilizingPredictions(size=700) & OverallUncertainty(size=300)
    assert rule.needs == {"spent", "validation", "stop_set"}
    assert rule.stop_set == 700


def test_what_is_no_rule_is_refused() -> None:
    with pytest.raises(ConfigError, match="AnyOf takes a list of at least one stopping rule, got none"):
        AnyOf(())
    with pytest.raises(ConfigError, match=r"AllOf takes .* got 3 among them"):
        AllOf((Labels(1), 3))  # type: ignore[arg-type]
    with pytest.raises(TypeError):
        Labels(1) | 3  # type: ignore[operator]


def test_round_that_was_recorded_twice_counts_once_and_as_recorded_last() -> None:
    lines = ({"round": 1, "x": 1}, {"round": 2, "x": 2}, {"round": 2, "x": 3}, {"round": 3})
    assert [line["x"] for line in History(lines).having("x")] == [1, 3]
