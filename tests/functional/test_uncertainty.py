import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from reference import uncertainty as reference

from dal.functional import blocks
from dal.functional.uncertainty import entropy, least_confidence, margin

FUNCTIONS = [(least_confidence, reference.least_confidence), (margin, reference.margin), (entropy, reference.entropy)]
SHAPES = st.tuples(st.integers(1, 20), st.integers(2, 12), st.integers(0, 2**31))


def random_probs(N: int, C: int, seed: int, dtype: torch.dtype = torch.float32) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    return (4 * torch.randn(N, C, generator=generator, dtype=dtype)).softmax(-1)


@pytest.mark.parametrize(("function", "slow"), FUNCTIONS)
@pytest.mark.parametrize("C", [2, 3, 20, 150])
def test_equals_the_slow_reference(function, slow, C):
    probs = random_probs(30, C, seed=C, dtype=torch.float64)
    expected = torch.tensor([slow(row) for row in probs.tolist()], dtype=torch.float64)
    torch.testing.assert_close(function(probs), expected)


@pytest.mark.parametrize(("function", "slow"), FUNCTIONS)
@pytest.mark.parametrize("C", [1, 2, 9])
def test_multilabel_is_the_mean_of_the_binary_quantity(function, slow, C):
    probs = torch.rand(30, C, dtype=torch.float64, generator=torch.Generator().manual_seed(C))
    expected = torch.tensor([reference.mean_of_binary(slow, row) for row in probs.tolist()], dtype=torch.float64)
    torch.testing.assert_close(function(probs, multilabel=True), expected)


def test_entropy_of_hand_computed_rows_is_in_nats():
    probs = torch.tensor([[0.70, 0.20, 0.07, 0.03], [0.45, 0.40, 0.10, 0.05], [0.25, 0.25, 0.25, 0.25]])
    # 0.70*0.35667 + 0.20*1.60944 + 0.07*2.65926 + 0.03*3.50656 = 0.24967 + 0.32189 + 0.18615 + 0.10520
    # 0.45*0.79851 + 0.40*0.91629 + 0.10*2.30259 + 0.05*2.99573 = 0.35933 + 0.36652 + 0.23026 + 0.14979
    torch.testing.assert_close(entropy(probs), torch.tensor([0.86291, 1.10589, math.log(4)]), atol=2e-5, rtol=0)
    bits = entropy(probs) / math.log(2)
    torch.testing.assert_close(bits[:2], torch.tensor([1.2449, 1.5955]), atol=1e-4, rtol=0)


def test_margin_and_least_confidence_of_hand_computed_rows():
    probs = torch.tensor([[0.70, 0.20, 0.07, 0.03], [0.45, 0.40, 0.10, 0.05]])
    torch.testing.assert_close(margin(probs), torch.tensor([0.50, 0.05]))
    torch.testing.assert_close(least_confidence(probs), torch.tensor([0.30, 0.55]))


def test_multilabel_entropy_of_a_hand_computed_row():
    probs = torch.tensor([[0.5, 1.0, 0.0, 0.25]])
    # log 2 + 0 + 0 + (0.25 log 4 + 0.75 log 4/3) = 0.69315 + 0.56234
    torch.testing.assert_close(entropy(probs, multilabel=True), torch.tensor([(0.693147 + 0.562335) / 4]))


def test_margin_of_tied_top_classes_is_zero():
    assert margin(torch.tensor([[0.4, 0.4, 0.2], [0.2, 0.4, 0.4]])).tolist() == [0, 0]


def test_certain_and_impossible_classes_have_no_entropy():
    assert entropy(torch.tensor([[1.0, 0.0, 0.0]])).tolist() == [0]
    assert entropy(torch.tensor([[1.0, 0.0, 0.0]]), multilabel=True).tolist() == [0]


@given(SHAPES)
def test_stays_within_its_bounds(shape):
    probs = random_probs(*shape)
    C = probs.shape[1]
    slack = 1e-6
    assert torch.all((least_confidence(probs) >= 0) & (least_confidence(probs) <= 1 - 1 / C + slack))
    assert torch.all((margin(probs) >= 0) & (margin(probs) <= 1))
    assert torch.all((entropy(probs) >= 0) & (entropy(probs) <= math.log(C) + slack))
    assert torch.all(least_confidence(probs, multilabel=True) <= 0.5)
    assert torch.all(entropy(probs, multilabel=True) <= math.log(2) + slack)


@given(SHAPES)
def test_follows_a_permutation_of_the_rows(shape):
    probs = random_probs(*shape)
    order = torch.randperm(len(probs), generator=torch.Generator().manual_seed(shape[2]))
    for function, _ in FUNCTIONS:
        torch.testing.assert_close(function(probs[order]), function(probs)[order])


@given(SHAPES)
def test_does_not_depend_on_the_order_of_the_classes(shape):
    probs = random_probs(*shape)
    for function, _ in FUNCTIONS:
        torch.testing.assert_close(function(probs.flip(1)), function(probs))


@pytest.mark.parametrize(("function", "slow"), FUNCTIONS)
@pytest.mark.parametrize("multilabel", [False, True])
def test_does_not_depend_on_the_size_of_blocks(function, slow, multilabel, monkeypatch):
    probs = random_probs(101, 7, seed=0)
    whole = function(probs, multilabel=multilabel)
    monkeypatch.setattr(blocks, "ELEMENTS", 50)
    torch.testing.assert_close(function(probs, multilabel=multilabel), whole)


@pytest.mark.parametrize(("function", "slow"), FUNCTIONS)
def test_no_rows_give_no_scores(function, slow):
    assert function(torch.zeros(0, 3)).shape == (0,)


@pytest.mark.parametrize("C", [2, 3, 10, 150])
def test_margin_of_tied_rows_and_of_certain_ones_is_exact(C):
    probs = torch.zeros(3, C)
    probs[0], probs[1, -1], probs[2, 0], probs[2, -1] = 1 / C, 1.0, 0.5, 0.5
    assert margin(probs).tolist() == [0, 1, 0]


@pytest.mark.parametrize(("function", "slow"), FUNCTIONS)
@pytest.mark.parametrize("multilabel", [False, True])
def test_single_precision_is_within_a_few_roundings(function, slow, multilabel):
    probs = random_probs(5000, 20, seed=3)
    exact = function(probs.double(), multilabel=multilabel)
    torch.testing.assert_close(function(probs, multilabel=multilabel).double(), exact, atol=2e-6, rtol=0)


@pytest.mark.parametrize(("function", "slow"), FUNCTIONS)
@pytest.mark.parametrize("multilabel", [False, True])
def test_the_probabilities_are_not_written_to(function, slow, multilabel):
    probs = random_probs(50, 4, seed=5)
    before = probs.clone()
    function(probs, multilabel=multilabel)
    assert torch.equal(probs, before)


@pytest.mark.parametrize(("function", "slow"), FUNCTIONS)
@pytest.mark.parametrize("multilabel", [False, True])
@pytest.mark.parametrize("value", [torch.nan, torch.inf, -torch.inf])
def test_values_that_are_not_finite_are_refused_by_their_rows(function, slow, value, multilabel, monkeypatch):
    monkeypatch.setattr(blocks, "ELEMENTS", 2)
    probs = random_probs(9, 4, seed=6)
    probs[[3, 7], 2] = value
    with pytest.raises(ValueError, match="probs must be finite; 2 rows are not: 3, 7"):
        function(probs, multilabel=multilabel)


def test_one_class_leaves_no_doubt():
    probs = torch.ones(4, 1)
    assert margin(probs).tolist() == [1.0] * 4
    assert least_confidence(probs).tolist() == entropy(probs).tolist() == [0.0] * 4
