import pytest
import torch

from dal.errors import NeedError
from dal.functional import mutual_information
from dal.outputs import Outputs
from dal.strategies import BALD
from dal.strategy import Query, choose
from strategies.queries import of, query


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
