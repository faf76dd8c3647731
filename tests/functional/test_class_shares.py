"""Logit adjustment and thresholds against the definitions written out."""

import pytest
import torch
from reference import class_shares as reference

from dal.functional import logit_adjustment, share_thresholds


@pytest.mark.parametrize("strength", [0.0, 0.5, 1.0])
def test_adjustment_is_the_logarithm_of_the_smoothed_shares(strength: float) -> None:
    counts = [7.0, 0.0, 2.5, 90.0]
    found = logit_adjustment(torch.tensor(counts), strength, smoothing=0.3)
    torch.testing.assert_close(found, torch.tensor(reference.adjustment(counts, strength, 0.3)))


def test_full_adjustment_turns_posteriors_of_the_shares_into_those_of_equal_shares() -> None:
    """Bayes' rule: p(c | x) / p(c) is proportional to the posterior under equal shares."""
    generator = torch.Generator().manual_seed(0)
    likelihoods, counts = torch.rand(50, 3, generator=generator), torch.tensor([60.0, 30.0, 10.0])
    posterior = (likelihoods * counts).log()
    adjusted = (posterior + logit_adjustment(counts, 1.0, smoothing=1e-6)).softmax(1)
    torch.testing.assert_close(adjusted, likelihoods / likelihoods.sum(1, keepdim=True), atol=1e-5, rtol=1e-5)


def test_thresholds_decide_as_many_rows_as_the_shares_say() -> None:
    logits = torch.randn(41, 5, generator=torch.Generator().manual_seed(1))
    shares = torch.tensor([0.0, 0.1, 0.48, 0.93, 1.0])  # 0, 4.1, 19.68, 38.13 and 41 of 41 rows
    decided = logits > share_thresholds(logits, shares)
    assert decided.tolist() == reference.decisions(logits.tolist(), shares.tolist())


def test_a_single_row_is_decided() -> None:
    logits = torch.tensor([[2.0, -3.0]])
    assert (logits > share_thresholds(logits, torch.tensor([1.0, 0.0]))).tolist() == [[True, False]]


@pytest.mark.parametrize(
    ("call", "said"),
    [
        (lambda: logit_adjustment(torch.tensor([1.0, -1.0]), 1.0), "counts must not be negative"),
        (lambda: logit_adjustment(torch.tensor([1.0, torch.nan]), 1.0), "must be finite"),
        (lambda: logit_adjustment(torch.tensor([1.0]), 1.5), "strength must be"),
        (lambda: logit_adjustment(torch.tensor([1.0]), 1.0, smoothing=0.0), "smoothing must be"),
        (lambda: share_thresholds(torch.zeros(0, 2), torch.tensor([0.5, 0.5])), "at least one row"),
        (lambda: share_thresholds(torch.full((2, 1), torch.nan), torch.tensor([0.5])), "must be finite"),
        (lambda: share_thresholds(torch.zeros(2, 1), torch.tensor([1.1])), "shares must be from 0 to 1"),
    ],
)
def test_wrong_arguments_are_refused(call, said: str) -> None:
    with pytest.raises(ValueError, match=said):
        call()
