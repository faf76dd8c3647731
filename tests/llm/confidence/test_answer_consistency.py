"""Shares, bits and votes of repeated answers equal hand-computed ones."""

import math

import pytest
import torch
from strategies.queries import of

from dal.llm.confidence.answer_consistency import (
    UNKNOWN,
    class_logits,
    columns_of,
    consistency,
    entropy_bits,
    vote_logits,
)
from dal.outputs import Outputs
from dal.strategies import BALD, ConsensusEntropy, KLDivergence, MeanStd, VariationRatio, VoteEntropy
from dal.strategy import choose


def votes(*counts):
    """One text whose answers are so many of class 0, 1, ..."""
    return torch.tensor([[code for code, count in enumerate(counts) for _ in range(count)]])


@pytest.mark.parametrize(
    ("counts", "bits"),
    # 0.7 log2(1/0.7) + 0.2 log2 5 + 0.07 log2(1/0.07) + 0.03 log2(1/0.03) = 0.36020 + 0.46439 + 0.26856 + 0.15177
    # 0.45 log2(1/0.45) + 0.4 log2 2.5 + 0.1 log2 10 + 0.05 log2 20 = 0.51840 + 0.52877 + 0.33219 + 0.21610
    [((70, 20, 7, 3), 0.36020 + 0.46439 + 0.26856 + 0.15177), ((45, 40, 10, 5), 0.51840 + 0.52877 + 0.33219 + 0.21610)],
)
def test_the_entropy_is_in_bits_and_normalised_by_that_of_all_classes_alike(counts, bits):
    found = consistency(votes(*counts), ["a", "b", "c", "d"])
    assert found.bits.item() == pytest.approx(bits, abs=2e-5)
    assert found.normalized.item() == pytest.approx(bits / 2, abs=1e-5)
    assert found.mode.item() == 0
    assert found.consistency.item() == pytest.approx(counts[0] / 100)
    assert found.columns == ("a", "b", "c", "d")


def test_answers_that_cannot_be_read_have_a_named_column_which_the_normaliser_counts():
    found = consistency(torch.tensor([[0, 0, -1, -1], [1, 1, 1, 1]]), ["no", "yes"])
    assert found.columns == ("no", "yes", UNKNOWN)
    assert found.shares.tolist() == [[0.5, 0, 0.5], [0, 1, 0]]
    assert found.bits.tolist() == [1, 0]
    assert found.normalized[0].item() == pytest.approx(1 / math.log2(3))


def test_a_class_that_is_called_unknown_keeps_its_name():
    assert columns_of(["unknown", "b"], 3) == ("unknown", "b", "unknown (no answer)")
    assert columns_of(["unknown", "b"], 2) == ("unknown", "b")


def test_votes_are_finite_logits_of_which_each_sample_has_one_at_0():
    logits = vote_logits(torch.tensor([[0, 1, -1]]), 2)
    assert logits.shape == (1, 3, 3)
    assert bool(torch.isfinite(logits).all())
    assert logits.argmax(-1).tolist() == [[0, 1, 2]]
    assert vote_logits(torch.tensor([[0, 1, 1]]), 2).shape == (1, 3, 2)


def test_the_classes_alone_share_what_could_not_be_read():
    probs = class_logits(torch.tensor([[0, 0, -1, -1], [1, 1, 1, 1], [-1, -1, -1, -1]]), 2).softmax(1)
    torch.testing.assert_close(probs, torch.tensor([[0.75, 0.25], [0.0, 1.0], [0.5, 0.5]]), atol=2e-6, rtol=0)


def test_disagreement_strategies_read_the_votes_as_they_are():
    said = torch.tensor([[0, 0, 0, 0, 0], [0, 0, 0, 0, 1], [0, 0, 1, 1, 2], [0, 0, 1, 1, -1]])
    outputs = Outputs({"mc_logits": vote_logits(said, 3)})
    assert outputs.vote_counts.tolist() == [[5, 0, 0, 0], [4, 1, 0, 0], [2, 2, 1, 0], [2, 2, 0, 1]]
    entropies = [0.0, 0.5004, 1.0549, 1.0549]  # nats, by hand
    query = of({"mc_logits": vote_logits(said, 3)}, 4)
    for strategy in (VoteEntropy(), ConsensusEntropy(), BALD(), KLDivergence()):
        torch.testing.assert_close(strategy.score(query), torch.tensor(entropies), atol=1e-4, rtol=0)
    torch.testing.assert_close(VariationRatio().score(query), torch.tensor([0, 0.2, 0.6, 0.6]))
    for strategy in (VoteEntropy(), VariationRatio(), MeanStd(), BALD()):
        assert choose(strategy, query).positions[-2:].tolist() == [1, 0]


def test_bits_are_nats_over_log_2():
    assert entropy_bits(torch.tensor([[0.25] * 4])).item() == pytest.approx(2)
