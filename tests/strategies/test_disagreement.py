import pytest
import torch
from reference import uncertainty as reference

from dal.errors import NeedError
from dal.functional import mutual_information
from dal.outputs import Outputs
from dal.strategies.disagreement import BALD, ConsensusEntropy, KLDivergence, MeanStd, VariationRatio, VoteEntropy
from dal.strategy import Query, choose
from dal.testing import check_strategy
from strategies.queries import of, query

ALL = [BALD(), VariationRatio(), MeanStd(), VoteEntropy(), ConsensusEntropy(), KLDivergence()]
SLOW = [
    (BALD(), reference.mutual_information),
    (VariationRatio(), lambda samples: reference.least_confidence(reference.vote_shares(samples))),
    (MeanStd(), reference.mean_std),
    (VoteEntropy(), lambda samples: reference.entropy(reference.vote_shares(samples))),
    (ConsensusEntropy(), lambda samples: reference.entropy(reference.consensus(samples))),
    (KLDivergence(), reference.mean_divergence),
]


@pytest.mark.parametrize("strategy", ALL, ids=str)
def test_keeps_the_contract(strategy):
    check_strategy(strategy, rows=1000)


@pytest.mark.parametrize(("strategy", "slow"), SLOW, ids=[str(strategy) for strategy, _ in SLOW])
def test_scores_are_those_of_the_slow_reference(strategy, slow):
    asked = query(60)
    expected = torch.tensor([slow(samples) for samples in asked.pool.mc_log_probs.double().exp().tolist()])
    torch.testing.assert_close(strategy.score(asked), expected, atol=2e-6, rtol=1e-5)


@pytest.mark.parametrize(("strategy", "slow"), SLOW, ids=[str(strategy) for strategy, _ in SLOW])
def test_multilabel_scores_are_the_mean_of_the_binary_quantity(strategy, slow):
    asked = query(60, multilabel=True)
    p = asked.pool.mc_logits.double().sigmoid()  # (N, K, C)
    binary = torch.stack([p, 1 - p], -1).transpose(1, 2).tolist()  # N of C of (K, 2)
    expected = torch.tensor([sum(slow(samples) for samples in classes) / len(classes) for classes in binary])
    torch.testing.assert_close(strategy.score(asked), expected, atol=2e-6, rtol=1e-5)


def test_votes_of_hand_computed_samples():
    first, second, third = [5.0, 0.0, 0.0], [0.0, 5.0, 0.0], [0.0, 0.0, 5.0]
    pool = {"mc_logits": torch.tensor([[first] * 4, [first, first, first, second], [first, first, second, third]])}
    ratio, votes = (choose(strategy, of(pool, 3)) for strategy in (VariationRatio(), VoteEntropy()))
    assert ratio.positions.tolist() == votes.positions.tolist() == [2, 1, 0]
    torch.testing.assert_close(ratio.scores, torch.tensor([0.5, 0.25, 0.0]))
    torch.testing.assert_close(votes.scores, torch.tensor([1.0397, 0.5623, 0.0]), atol=1e-4, rtol=0)  # 3/2 log 2, ...


@pytest.mark.parametrize("strategy", ALL, ids=str)
def test_samples_that_agree_on_a_sure_row_score_nothing(strategy):
    pool = {"mc_logits": torch.tensor([[[90.0, 0.0], [90.0, 0.0]], [[90.0, 0.0], [0.0, 90.0]]])}
    selection = choose(strategy, of(pool, 2))
    assert selection.positions.tolist() == [1, 0]
    assert float(selection.scores[1]) == pytest.approx(0, abs=1e-6)


@pytest.mark.parametrize("strategy", ALL, ids=str)
def test_reads_a_fold_and_so_needs_no_samples_held(strategy):
    asked = query(7)
    folded = Outputs({name: asked.pool[name] for name in strategy.needs})
    assert "mc_logits" not in strategy.needs
    chosen = choose(strategy, Query(folded, 7, torch.Generator().manual_seed(0))).positions
    assert torch.equal(chosen, choose(strategy, asked).positions)


def test_asks_where_samples_disagree_not_where_all_are_unsure():
    sure, unsure = [4.0, -4.0], [0.0, 0.0]
    mc_logits = torch.tensor([[unsure, unsure], [sure, sure[::-1]], [sure, sure]])
    selection = choose(BALD(), of({"mc_logits": mc_logits}, 3))
    assert selection.positions[0] == 1
    torch.testing.assert_close(selection.scores[1:], torch.zeros(2), atol=1e-6, rtol=0)


@pytest.mark.parametrize("multilabel", [False, True])
def test_scores_are_the_mutual_information_in_nats(multilabel):
    asked = query(60, multilabel=multilabel)
    selection = choose(BALD(), asked)
    expected = mutual_information(asked.pool.mc_log_probs, multilabel=multilabel)
    torch.testing.assert_close(selection.scores, expected[selection.positions])


def test_reads_the_fold_so_that_samples_need_not_be_held():
    folded = Outputs({"mutual_information": torch.tensor([0.1, 0.6, 0.3])})
    assert choose(BALD(), Query(folded, 2, torch.Generator().manual_seed(0))).positions.tolist() == [1, 2]


def test_multilabel_samples_are_bernoullis():
    agreed = [[9.0, 9.0], [9.0, 9.0]]
    opposed = [[9.0, 9.0], [9.0, -9.0]]  # a softmax would call the first sample unsure
    pool = Outputs({"mc_logits": torch.tensor([agreed, opposed])}, multilabel=True)
    selection = choose(BALD(), Query(pool, 2, torch.Generator().manual_seed(0)))
    assert selection.positions.tolist() == [1, 0]
    assert float(selection.scores[0]) == pytest.approx(0.6931 / 2, abs=2e-3)


def test_a_model_without_samples_is_refused():
    with pytest.raises(NeedError, match="mutual_information"):
        choose(BALD(), of({"logits": torch.zeros(3, 2)}, 1))
