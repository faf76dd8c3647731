import math
from functools import partial

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from reference import uncertainty as reference

from dal.functional import blocks
from dal.functional.disagreement import consensus, mean_std, mutual_information
from dal.outputs import log_probs, reduce_samples


def random_logits(N: int, K: int, C: int, seed: int = 0, dtype: torch.dtype = torch.float32) -> torch.Tensor:
    return 3 * torch.randn(N, K, C, generator=torch.Generator().manual_seed(seed), dtype=dtype)


@pytest.mark.parametrize(("K", "C"), [(1, 3), (2, 2), (10, 5), (7, 150)])
def test_equals_the_slow_reference(K, C):
    mc_log_probs = random_logits(20, K, C, dtype=torch.float64).log_softmax(-1)
    expected = [reference.mutual_information(samples) for samples in mc_log_probs.exp().tolist()]
    torch.testing.assert_close(mutual_information(mc_log_probs), torch.tensor(expected, dtype=torch.float64))


@pytest.mark.parametrize("C", [1, 4])
def test_multilabel_is_the_mean_of_the_binary_quantity(C):
    p = random_logits(20, 6, C, dtype=torch.float64).sigmoid()
    binary = torch.stack([p, 1 - p], -1)  # (N, K, C, 2)
    expected = [
        sum(reference.mutual_information(binary[i, :, c].tolist()) for c in range(C)) / C for i in range(len(p))
    ]
    actual = mutual_information(p.log(), multilabel=True)
    torch.testing.assert_close(actual, torch.tensor(expected, dtype=torch.float64))


def test_hand_computed_rows():
    mc_probs = torch.tensor(
        [
            [[1.0, 0.0], [0.0, 1.0]],  # each sure, opposed: log 2 - 0
            [[0.5, 0.5], [0.5, 0.5]],  # both unsure, agreed: log 2 - log 2
            [[0.9, 0.1], [0.5, 0.5]],  # H(.7, .3) - (H(.9, .1) + H(.5, .5)) / 2 = .610864 - (.325083 + .693147) / 2
        ]
    )
    expected = torch.tensor([math.log(2), 0.0, 0.101749])
    torch.testing.assert_close(mutual_information(mc_probs.clamp_min(1e-30).log()), expected, atol=1e-6, rtol=0)


@given(st.integers(1, 8), st.integers(1, 8), st.integers(2, 8), st.integers(0, 2**31))
def test_lies_between_zero_and_the_log_of_samples_and_classes(N, K, C, seed):
    information = mutual_information(random_logits(N, K, C, seed).log_softmax(-1))
    assert torch.all(information >= 0)
    assert torch.all(information <= math.log(min(K, C)) + 1e-5)


def test_samples_that_agree_have_none():
    one = random_logits(50, 1, 6).log_softmax(-1)
    torch.testing.assert_close(mutual_information(one.expand(-1, 9, -1)), torch.zeros(50), atol=1e-6, rtol=0)


@given(st.integers(0, 2**31))
def test_does_not_depend_on_the_order_of_samples_or_classes(seed):
    mc_log_probs = random_logits(5, 4, 3, seed).log_softmax(-1)
    whole = mutual_information(mc_log_probs)
    torch.testing.assert_close(mutual_information(mc_log_probs.flip(1)), whole, atol=1e-6, rtol=1e-5)
    torch.testing.assert_close(mutual_information(mc_log_probs.flip(2)), whole, atol=1e-6, rtol=1e-5)


@pytest.mark.parametrize("multilabel", [False, True])
def test_does_not_depend_on_the_size_of_blocks(multilabel, monkeypatch):
    mc_log_probs = log_probs(random_logits(101, 5, 4), multilabel)
    whole = mutual_information(mc_log_probs, multilabel=multilabel)
    monkeypatch.setattr(blocks, "ELEMENTS", 100)
    torch.testing.assert_close(mutual_information(mc_log_probs, multilabel=multilabel), whole)


@pytest.mark.parametrize("multilabel", [False, True])
def test_extreme_logits_stay_finite(multilabel):
    logits = torch.tensor([[[1e4, -1e4], [-1e4, 1e4]], [[1e4, -1e4], [1e4, -1e4]]])
    information = mutual_information(log_probs(logits, multilabel), multilabel=multilabel)
    torch.testing.assert_close(information, torch.tensor([math.log(2), 0.0]))


@pytest.mark.parametrize("multilabel", [False, True])
def test_single_precision_is_within_a_few_roundings(multilabel):
    spread = torch.tensor([1.0, 1e-1, 1e-3]).repeat_interleave(200)[:, None, None]
    logits = random_logits(600, 1, 20) + spread * random_logits(600, 50, 20, seed=1)  # samples apart, near and nearer
    mc_log_probs = log_probs(logits, multilabel)
    exact = mutual_information(log_probs(logits.double(), multilabel), multilabel=multilabel)
    torch.testing.assert_close(
        mutual_information(mc_log_probs, multilabel=multilabel).double(), exact, atol=1e-6, rtol=1e-5
    )


@pytest.mark.parametrize(("K", "C"), [(1, 3), (2, 2), (10, 5), (7, 150)])
def test_equals_the_mean_divergence_of_the_members_from_their_mean(K, C):
    mc_log_probs = random_logits(20, K, C, dtype=torch.float64).log_softmax(-1)
    expected = [reference.mean_divergence(samples) for samples in mc_log_probs.exp().tolist()]
    torch.testing.assert_close(mutual_information(mc_log_probs), torch.tensor(expected, dtype=torch.float64))


@pytest.mark.parametrize("function", [mutual_information, consensus, mean_std])
def test_the_samples_are_not_written_to(function):
    mc_log_probs = random_logits(50, 4, 3).log_softmax(-1)
    before = mc_log_probs.clone()
    function(mc_log_probs)
    assert torch.equal(mc_log_probs, before)


@pytest.mark.parametrize(("function", "slow"), [(consensus, reference.consensus), (mean_std, reference.mean_std)])
@pytest.mark.parametrize(("K", "C"), [(1, 3), (2, 2), (10, 5), (7, 150)])
def test_mean_and_spread_equal_the_slow_reference(function, slow, K, C, monkeypatch):
    monkeypatch.setattr(blocks, "ELEMENTS", 3 * K * C)
    mc_log_probs = random_logits(20, K, C, dtype=torch.float64).log_softmax(-1)
    expected = [slow(samples) for samples in mc_log_probs.exp().tolist()]
    torch.testing.assert_close(function(mc_log_probs), torch.tensor(expected, dtype=torch.float64))


def test_mean_and_spread_of_hand_computed_samples():
    mc_log_probs = torch.tensor([[[0.9, 0.1], [0.5, 0.5], [0.1, 0.9]]]).log()
    torch.testing.assert_close(consensus(mc_log_probs), torch.tensor([[0.5, 0.5]]))
    torch.testing.assert_close(mean_std(mc_log_probs), torch.tensor([(0.32 / 3) ** 0.5]))  # (.16 + 0 + .16) / 3


def test_no_rows_give_no_figures():
    nothing = torch.zeros(0, 4, 3)
    assert mutual_information(nothing).shape == mean_std(nothing).shape == (0,)
    assert consensus(nothing).shape == (0, 3)


@pytest.mark.parametrize("K", [1, 2, 7, 20, 50])
@pytest.mark.parametrize("kind", [torch.float32, torch.float64, torch.float16])
def test_samples_that_are_all_the_same_disagree_by_exactly_nothing(K, kind):
    same = random_logits(500, 1, 6).log_softmax(-1).to(kind).repeat(1, K, 1)
    differ = random_logits(500, K, 6, seed=1).log_softmax(-1).to(kind)
    for function in (mutual_information, mean_std, partial(mutual_information, multilabel=True)):
        assert (function(same) == 0).all()
        assert (function(torch.cat([differ, same]))[500:] == 0).all()  # whatever else is in the block
        assert K == 1 or (function(differ) > 0).all()


def test_samples_that_differ_in_the_last_place_are_not_taken_for_the_same():
    log_p = random_logits(200, 1, 4, dtype=torch.float64).log_softmax(-1).repeat(1, 5, 1)
    log_p[:, 3] += 1e-7
    assert (mean_std(log_p) > 0).all()


@pytest.mark.parametrize("multilabel", [False, True])
@pytest.mark.parametrize("name", ["mutual_information", "mean_std"])
def test_folded_samples_that_are_all_the_same_disagree_by_exactly_nothing(name, multilabel):
    logits = random_logits(301, 1, 5).repeat(1, 9, 1)
    assert (reduce_samples(name, logits, multilabel) == 0).all()
    assert (reduce_samples(name, logits * torch.tensor([1e5]), multilabel) == 0).all()


@pytest.mark.parametrize("value", [torch.nan, torch.inf, -torch.inf])
@pytest.mark.parametrize("function", [mutual_information, consensus, mean_std])
def test_values_that_are_not_finite_are_refused_by_their_rows(function, value, monkeypatch):
    monkeypatch.setattr(blocks, "ELEMENTS", 40)
    log_p = random_logits(50, 4, 3).log_softmax(-1)
    log_p[[17, 40], 1, 2] = value
    with pytest.raises(ValueError, match="mc_log_probs must be finite; 2 rows are not: 17, 40"):
        function(log_p)
