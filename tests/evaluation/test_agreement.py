"""Kappa, its variance, and the bound on F-measures, against loops and against published numbers."""

import numpy as np
import pytest
from reference import stopping as reference

from dal.evaluation.agreement import f_change_bound, kappa, kappa_variance

# The worked table of Fleiss, Cohen and Everitt (1969), 200 rows: kappa .429 with a standard error of .0537.
PUBLISHED = 200 * np.array([[0.53, 0.05, 0.02], [0.11, 0.14, 0.05], [0.01, 0.06, 0.03]])


def tables(count: int, classes: int, seed: int = 0) -> list[np.ndarray]:
    random = np.random.default_rng(seed)
    return [random.integers(0, 30, (classes, classes)) + 40 * np.eye(classes, dtype=int) for _ in range(count)]


def test_kappa_by_hand() -> None:
    # 20 + 15 of 50 agree; by chance .5 * .6 + .5 * .4 = .5 would: (.7 - .5) / .5
    assert kappa([[20, 5], [10, 15]]) == pytest.approx(0.4)


def test_published_table_gives_the_published_figures() -> None:
    assert round(kappa(PUBLISHED), 3) == 0.429
    assert round(kappa_variance(PUBLISHED) ** 0.5, 4) == 0.0537


@pytest.mark.parametrize("classes", [2, 3, 7])
def test_kappa_and_its_variance_equal_the_loops(classes: int) -> None:
    for table in tables(20, classes):
        assert kappa(table) == pytest.approx(reference.kappa_of_shares(table / table.sum()), abs=1e-12)
        assert kappa_variance(table) == pytest.approx(reference.kappa_variance(table), rel=1e-5)


def test_variance_is_that_of_repeated_draws() -> None:
    table = tables(1, 3)[0]
    draws = np.random.default_rng(0).multinomial(500, (table / table.sum()).ravel(), size=4000).reshape(-1, 3, 3)
    seen = np.var([kappa(draw) for draw in draws])
    assert kappa_variance(table * 500 / table.sum()) == pytest.approx(seen, rel=0.1)


def test_perfect_agreement_is_one_without_variance() -> None:
    assert kappa([[7, 0], [0, 3]]) == 1
    assert kappa_variance([[7, 0], [0, 3]]) == 0


def test_agreement_on_a_single_class_is_no_evidence() -> None:
    assert np.isnan(kappa([[10]]))
    assert np.isnan(kappa_variance([[10, 0], [0, 0]]))


def test_one_classifier_with_a_single_class_agrees_by_chance_alone() -> None:
    assert kappa([[10, 30], [0, 0]]) == 0


@pytest.mark.parametrize("table", [[[1, 2]], [[0, 0], [0, 0]], [[1, -1], [0, 2]], [1, 2]])
def test_what_is_no_table_of_counts_is_refused(table: list) -> None:
    with pytest.raises(ValueError, match="a square table of counts"):
        kappa(table)


def test_f_measures_are_never_further_apart_than_the_bound() -> None:
    random = np.random.default_rng(1)
    close = 0
    for _ in range(3000):
        first = random.integers(0, 2, 40)
        second = np.where(random.random(40) < random.choice([0.02, 0.05, 0.1]), 1 - first, first)
        truth = np.where(random.random(40) < random.random(), 1 - first, first)
        agreement = kappa(np.bincount(2 * first + second, minlength=4).reshape(2, 2))
        if not agreement > 0:
            continue
        apart = abs(reference.f_measure(first, truth) - reference.f_measure(second, truth))
        assert apart <= f_change_bound(agreement) + 1e-12
        close += apart > 0.25 * f_change_bound(agreement)
    assert close > 0


def test_bound_of_the_paper_for_its_threshold() -> None:
    assert f_change_bound(0.99) == pytest.approx(4 * 0.01 / 0.99)
    assert f_change_bound(0.0) == float("inf")
