"""What may be automated: against exact references, and against the guarantee in simulated draws."""

from collections.abc import Callable
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray
from reference import automation as reference

from dal.evaluation.automation import labels_needed, promising, quantiles, risk_coverage, threshold
from dal.evaluation.binomial import upper_bound

Floats = NDArray[np.float64]
ROWS = st.lists(st.tuples(st.sampled_from([0.1, 0.25, 0.5, 0.75, 1.0]), st.booleans()), min_size=1, max_size=12)


def columns(rows: list[tuple[float, bool]]) -> tuple[list[float], list[bool]]:
    return [c for c, _ in rows], [ok for _, ok in rows]


@given(ROWS)
def test_curve_and_area_are_those_of_the_reference_with_ties(rows: list[tuple[float, bool]]) -> None:
    confidence, right = columns(rows)
    curve = risk_coverage(confidence, right)
    assert curve.area == pytest.approx(float(reference.area(confidence, right)))
    for share, risk, t in zip(curve.coverage, curve.risk, curve.thresholds, strict=True):
        assert share == pytest.approx(sum(c >= t for c in confidence) / len(rows))
        assert risk == pytest.approx(float(reference.risk(confidence, right, t)))


@given(ROWS, st.randoms())
def test_curve_does_not_depend_on_the_order_of_rows(rows: list[tuple[float, bool]], random: object) -> None:
    shuffled = list(rows)
    random.shuffle(shuffled)  # type: ignore[attr-defined]
    first, second = risk_coverage(*columns(rows)), risk_coverage(*columns(shuffled))
    assert first.area == pytest.approx(second.area)
    assert first.risk.tolist() == second.risk.tolist()


def test_area_of_confidences_that_say_nothing_is_the_error_rate() -> None:
    assert risk_coverage([0.5] * 10, [True] * 7 + [False] * 3).area == pytest.approx(0.3)


@pytest.mark.parametrize(("confidence", "right"), [([], []), ([np.nan], [True]), ([0.5, 0.5], [True])])
def test_what_makes_no_curve_is_refused(confidence: list[float], right: list[bool]) -> None:
    with pytest.raises(ValueError, match=r"row|finite|\(N,\)"):
        risk_coverage(confidence, right)


@pytest.mark.parametrize("max_error", [0.5, 0.2, 0.1, 0.05, 0.01, 0.001])
@pytest.mark.parametrize("delta", [0.2, 0.05, 0.01])
def test_labels_needed_are_the_fewest(max_error: float, delta: float) -> None:
    n = labels_needed(max_error, delta)
    assert upper_bound(0, n, delta) <= max_error
    assert upper_bound(0, n - 1, delta) > max_error


@given(
    st.lists(st.tuples(st.sampled_from([0.1, 0.25, 0.5, 0.75, 1.0]), st.booleans()), max_size=40),
    st.sampled_from([Fraction(1, 10), Fraction(1, 4), Fraction(1, 2)]),
)
def test_threshold_is_that_of_the_reference(rows: list[tuple[float, bool]], max_error: Fraction) -> None:
    grid, delta = [1.0, 0.75, 0.6, 0.25, 0.0], Fraction(1, 5)
    found = threshold(*columns(rows), float(max_error), grid=grid, delta=float(delta))
    assert found.threshold == reference.threshold(*columns(rows), max_error, grid, delta)
    if found.threshold is not None:
        assert found.bound <= max_error


def test_a_threshold_below_one_that_failed_is_not_taken() -> None:
    confidence, right = [0.9] * 20 + [0.1] * 1000, [False] * 20 + [True] * 1000
    assert threshold(confidence, right, 0.1, grid=[0.9, 0.1]).threshold is None
    assert threshold(confidence, right, 0.1, grid=[0.1]).threshold == 0.1


def test_too_few_labels_automate_nothing_and_say_how_many_it_takes() -> None:
    found = threshold([0.9] * 58, [True] * 58, 0.05, grid=[0.9])
    assert (found.threshold, found.needed, found.rows, found.errors) == (None, 59, 58, 0)
    assert "at least 59 held-out labels" in found.text
    enough = threshold([0.9] * 59, [True] * 59, 0.05, grid=[0.9])
    assert enough.threshold == 0.9
    assert "at most 0.0495" in enough.text


@pytest.mark.parametrize(("max_error", "delta"), [(0, 0.05), (1, 0.05), (0.05, 0), (0.05, 1), (np.nan, 0.05)])
def test_shares_that_are_none_are_refused(max_error: float, delta: float) -> None:
    with pytest.raises(ValueError, match="between 0 and 1"):
        threshold([0.5], [True], max_error, grid=[0.5], delta=delta)


def test_grid_automates_the_stated_shares_and_no_threshold_twice() -> None:
    pool = np.random.default_rng(0).permutation(1000) / 1000
    grid = quantiles(pool, steps=10)
    assert [(pool >= t).sum() for t in grid] == [100 * i for i in range(1, 11)]
    assert quantiles([0.5, 0.5, 0.5, 1.0]).tolist() == [1.0, 0.5]
    assert quantiles([]).tolist() == []


def test_testing_begins_where_other_labels_say_it_pays() -> None:
    sure = np.arange(1000) / 1000
    grid = quantiles(sure, steps=20)
    started = promising(grid, sure, sure > 0.4, 0.05, rows=1000)
    assert started[0] == pytest.approx(0.4, abs=0.051)
    assert started.tolist() == grid[-len(started) :].tolist()
    assert len(promising(grid, [], [], 0.05, rows=10)) == len(grid)


# -- the guarantee ---------------------------------------------------------------------------------------------------


def calibrated(x: Floats) -> tuple[Floats, Floats]:
    """Confidences that are the probabilities of being right."""
    return 0.5 + 0.5 * x**0.3, 0.5 + 0.5 * x**0.3


def overconfident(x: Floats) -> tuple[Floats, Floats]:
    p = 0.8 + 0.2 * x**0.5
    return 1 - (1 - p) ** 3, p


def tied(x: Floats) -> tuple[Floats, Floats]:
    """Five confidences, each of which many rows share."""
    level = np.floor(5 * x)
    return level / 5, 0.8 + 0.049 * level


def perverse(x: Floats) -> tuple[Floats, Floats]:
    """The surest rows are often wrong, so that the error rate falls and rises with the threshold."""
    return x, np.where(x > 0.97, 0.9, np.where(x > 0.3, 0.985, 0.7))


def borderline(x: Floats) -> tuple[Floats, Floats]:
    """Wrong just a little more often than allowed, at any confidence."""
    return x, np.full_like(x, 0.949)


LAWS: list[Callable[[Floats], tuple[Floats, Floats]]] = [calibrated, overconfident, tied, perverse, borderline]


def simulated(law: Callable[[Floats], tuple[Floats, Floats]], labels: int, draws: int) -> tuple[int, list[float]]:
    """In how many draws the true error of the automated part is too high, and the share automated in each."""
    random = np.random.default_rng(7)
    sure, p = law((np.arange(100_000) + 0.5) / 100_000)
    order = np.argsort(-sure, kind="stable")
    sure, true_error = sure[order], np.cumsum(1 - p[order]) / np.arange(1, len(p) + 1)
    wrong, shares = 0, []
    for _ in range(draws):
        pool, _ = law(random.random(1000))
        confidence, chance = law(random.random(labels))
        right, other = random.random(labels) < chance, labels // 4
        grid = promising(quantiles(pool), confidence[:other], right[:other], 0.05, rows=labels - other)
        found = threshold(confidence[other:], right[other:], 0.05, grid=grid, delta=0.05)
        kept = 0 if found.threshold is None else int((sure >= found.threshold).sum())
        shares.append(kept / len(sure))
        wrong += bool(kept) and true_error[kept - 1] > 0.05
    return wrong, shares


@pytest.mark.parametrize("law", LAWS, ids=lambda law: law.__name__)
def test_error_of_the_automated_part_is_too_high_in_at_most_the_stated_share_of_draws(
    law: Callable[[Floats], tuple[Floats, Floats]],
) -> None:
    """5 % of 1,000 draws, plus three standard errors of that count: at most 70."""
    wrong, _ = simulated(law, 400, 1000)
    assert wrong <= 1000 * 0.05 + 3 * (1000 * 0.05 * 0.95) ** 0.5


def test_each_single_test_is_exact_and_not_merely_careful() -> None:
    """One threshold, always the same: at the highest rate that is too high, it passes as often as the binomial says."""
    random, passed = np.random.default_rng(3), 0
    for _ in range(1000):
        right = random.random(300) < 0.95 - 1e-9
        passed += threshold(np.ones(300), right, 0.05, grid=[0.5]).threshold is not None
    stated = float(reference.binomial_cdf(8, 300, Fraction(1, 20)))  # 8 of 300 pass, 9 do not
    assert upper_bound(8, 300) <= 0.05 < upper_bound(9, 300)
    assert stated > 0.03
    assert abs(passed - 1000 * stated) <= 3 * (1000 * stated * (1 - stated)) ** 0.5


@pytest.mark.parametrize(
    ("law", "labels", "least"), [(calibrated, 1000, 0.1), (overconfident, 1000, 0.2), (tied, 2000, 0.2)]
)
def test_something_is_automated_where_it_can_be(
    law: Callable[[Floats], tuple[Floats, Floats]], labels: int, least: float
) -> None:
    _, shares = simulated(law, labels, 100)
    assert np.mean(shares) > least
