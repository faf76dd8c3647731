"""The estimate without a test set: exactly unbiased, and its interval true to what it states."""

from fractions import Fraction

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from reference import unbiased as reference
from reference.drawing import drawing_law

from dal.evaluation.unbiased import accuracy, draw, estimate, lure_weights

LAWS = st.lists(st.integers(1, 9), min_size=2, max_size=5).map(lambda w: [Fraction(x, sum(w)) for x in w])


@settings(max_examples=40, deadline=None)
@given(LAWS, st.data())
def test_mean_over_all_draws_is_the_truth_exactly(law: list[Fraction], data: st.DataObject) -> None:
    N = len(law)
    losses = data.draw(st.lists(st.fractions(0, 3, max_denominator=4), min_size=N, max_size=N))
    n = data.draw(st.integers(1, N))
    mean = Fraction(0)
    for order, steps, probability in reference.draws(law, n):
        drawn = [losses[row] for row in order]
        exact = reference.lure(drawn, steps, N)
        mean += probability * exact
        ours = estimate([float(x) for x in drawn], [float(q) for q in steps], N)
        assert ours.value == pytest.approx(float(exact), abs=1e-9)
    assert mean == sum(losses) / Fraction(N)


@settings(max_examples=20, deadline=None)
@given(LAWS, st.data())
def test_deviation_squared_has_the_variance_as_its_mean_where_the_mean_is_known(
    law: list[Fraction], data: st.DataObject
) -> None:
    N = len(law)
    losses = data.draw(st.lists(st.fractions(0, 3, max_denominator=4), min_size=N, max_size=N))
    n, mean = data.draw(st.integers(1, N - 1)), sum(losses) / Fraction(N)
    spread, expected = Fraction(0), Fraction(0)
    for order, steps, probability in reference.draws(law, n):
        drawn = [losses[row] for row in order]
        value = reference.lure(drawn, steps, N)
        spread += probability * (value - mean) ** 2
        expected += probability * reference.variance_of_steps(drawn, steps, N, mean)
        ours = estimate([float(x) for x in drawn], [float(q) for q in steps], N).deviation
        assert ours**2 == pytest.approx(float(reference.variance_of_steps(drawn, steps, N, value)), abs=1e-9)
    assert spread == expected


def test_rows_are_drawn_as_often_as_their_probabilities_say() -> None:
    proposal, generator = torch.tensor([1.0, 0.0, 3.0]), torch.Generator().manual_seed(0)
    law = drawing_law([0.5 / 3 + 0.5 * w / 4 for w in (1, 0, 3)], 2)
    counts: dict[tuple[int, ...], int] = {}
    for _ in range(6000):
        drawn = draw(proposal, 2, generator)
        order = tuple(drawn.positions.tolist())
        counts[order] = counts.get(order, 0) + 1
        assert drawn.probabilities.prod().item() == pytest.approx(law[order])
    for order, p in law.items():
        assert abs(counts[order] - 6000 * p) <= 4 * (6000 * p * (1 - p)) ** 0.5


def test_every_row_can_be_drawn_and_the_last_is_certain() -> None:
    drawn = draw(torch.cat([torch.zeros(99), torch.ones(1)]), 100, torch.Generator().manual_seed(1))
    assert sorted(drawn.positions.tolist()) == list(range(100))
    assert drawn.probabilities[-1] == 1
    assert bool((drawn.probabilities > 0).all())


@pytest.mark.parametrize("proposal", [torch.zeros(8), torch.ones(8)])
def test_a_proposal_without_a_preference_draws_uniformly(proposal: torch.Tensor) -> None:
    drawn = draw(proposal, 5, torch.Generator())
    assert drawn.probabilities.tolist() == pytest.approx([1 / (8 - i) for i in range(5)])
    assert lure_weights(drawn.probabilities, 8).tolist() == pytest.approx([1.0] * 5)


def test_all_rows_give_the_truth_and_no_doubt() -> None:
    right = torch.arange(40) % 4 > 0
    drawn = draw(torch.rand(40, generator=torch.Generator().manual_seed(2)), 40, torch.Generator())
    found = accuracy(right[drawn.positions], drawn.probabilities, 40)
    assert (found.value, found.low, found.high) == pytest.approx((0.75, 0.75, 0.75))


def test_no_error_among_the_rows_drawn_still_leaves_doubt() -> None:
    drawn = draw(torch.ones(1000), 100, torch.Generator())
    found = accuracy([True] * 100, drawn.probabilities, 1000)
    assert (found.value, found.high) == (1, 1)
    assert found.low == pytest.approx(0.9638, abs=1e-3)  # Clopper and Pearson for 0 of 100
    none = accuracy([False] * 100, drawn.probabilities, 1000)
    assert (none.value, none.low) == pytest.approx((0, 0))


@pytest.mark.parametrize("loss", [0.0, 1.0])
def test_a_single_row_tells_next_to_nothing(loss: float) -> None:
    found = estimate([loss], [0.9], 100)
    assert found.high - found.low > 0.9


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: draw(torch.tensor([-1.0]), 1, torch.Generator()), "negative"),
        (lambda: draw(torch.tensor([torch.nan]), 1, torch.Generator()), "finite"),
        (lambda: draw(torch.ones(2), 3, torch.Generator()), "3 of 2 rows"),
        (lambda: draw(torch.ones(2), 1, torch.Generator(), uniform=0), "uniform share"),
        (lambda: lure_weights([0.5, 0.0], 4), "above 0"),
        (lambda: lure_weights([0.5] * 5, 4), "1 to 4 probabilities"),
        (lambda: estimate([np.nan], [0.5], 4), "finite"),
        (lambda: estimate([1, 0], [0.5], 4), "one for each"),
    ],
)
def test_what_cannot_be_is_refused(call: object, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        call()  # type: ignore[operator]


# -- in simulated draws ----------------------------------------------------------------------------------------------

N = 2000


def world(name: str) -> tuple[torch.Tensor, torch.Tensor]:
    """Whether each of N rows is wrong, and the expected error that a model gives it."""
    generator = torch.Generator().manual_seed(11)
    x = torch.rand(N, generator=generator)
    chance, expected = {
        "calibrated": (0.5 * x**1.5, 0.5 * x**1.5),
        "accurate": (0.6 * x**9, 0.6 * x**9),
        "overconfident": (0.5 * x**1.5, (0.5 * x**1.5) ** 2.5),
        "clueless": (torch.full((N,), 0.1), 0.6 * x**4.5),
        "inverted": (0.6 * (1 - x) ** 4.5, 0.6 * x**4.5),
    }[name]
    return torch.rand(N, generator=generator) < chance, expected


WORLDS = ["calibrated", "accurate", "overconfident", "clueless", "inverted"]
DRAWS = 400


def simulated(name: str, n: int) -> tuple[float, np.ndarray, int]:
    """The truth, the estimate of each draw, and how many intervals held the truth."""
    wrong, expected = world(name)
    truth, generator = 1 - wrong.double().mean().item(), torch.Generator().manual_seed(5)
    values, held = [], 0
    for _ in range(DRAWS):
        drawn = draw(expected, n, generator)
        found = accuracy(~wrong[drawn.positions], drawn.probabilities, N)
        values.append(found.value)
        held += found.low <= truth <= found.high
    return truth, np.array(values), held


@pytest.mark.parametrize("name", WORLDS)
def test_estimate_has_no_bias_and_its_interval_holds_the_truth(name: str) -> None:
    """In .95 of 400 draws of 100 rows, less .01 as the docstring states, less three standard errors (.033)."""
    truth, values, held = simulated(name, 100)
    assert abs(values.mean() - truth) <= 4 * values.std() / DRAWS**0.5
    assert held >= DRAWS * (0.94 - 3 * (0.95 * 0.05 / DRAWS) ** 0.5)


@pytest.mark.parametrize("name", ["calibrated", "accurate"])
def test_rows_drawn_where_errors_are_expected_tell_more_than_uniform_ones(name: str) -> None:
    truth, values, _ = simulated(name, 100)
    uniform = truth * (1 - truth) / 100 * (N - 100) / (N - 1)
    assert values.var() < 0.95 * uniform


def test_plain_averaging_is_biased() -> None:
    wrong, expected = world("calibrated")
    generator = torch.Generator().manual_seed(5)
    plain = []
    for _ in range(100):
        drawn = draw(expected, 100, generator)
        plain.append(accuracy(~wrong[drawn.positions], drawn.probabilities, N).plain)
    assert np.mean(plain) < 1 - wrong.double().mean().item() - 0.05
