import pytest
import torch

from dal.outputs import Outputs
from dal.strategies import Entropy, LeastConfidence, Margin
from dal.strategy import Query, choose
from strategies.queries import of, query

PROBS = torch.tensor([[0.50, 0.49, 0.01], [0.40, 0.30, 0.30], [0.98, 0.01, 0.01], [0.45, 0.45, 0.10]])


@pytest.mark.parametrize(
    ("strategy", "order"),
    [
        (LeastConfidence(), [1, 3, 0, 2]),  # top probabilities .40, .45, .50, .98
        (Margin(), [3, 0, 1, 2]),  # margins 0, .01, .10, .97
        (Entropy(), [1, 3, 0, 2]),  # 1.089, 0.949, 0.742, 0.112 nats
    ],
)
def test_order_of_hand_computed_rows(strategy, order):
    assert choose(strategy, of({"logits": PROBS.log()}, 4)).positions.tolist() == order


def test_scores_are_those_of_the_paper_with_the_highest_first():
    asked = of({"logits": PROBS.log()}, 2)
    torch.testing.assert_close(choose(Margin(), asked).scores, torch.tensor([0.0, -0.01]))
    torch.testing.assert_close(choose(LeastConfidence(), asked).scores, torch.tensor([0.6, 0.55]))
    torch.testing.assert_close(choose(Entropy(), asked).scores, torch.tensor([1.0889, 0.9489]), atol=1e-4, rtol=0)


@pytest.mark.parametrize("strategy", [LeastConfidence(), Margin(), Entropy()])
def test_two_classes_rank_alike_under_all_three(strategy):
    positions = choose(strategy, query(30, classes=2)).positions
    assert torch.equal(positions, choose(Margin(), query(30, classes=2)).positions)


@pytest.mark.parametrize("strategy", [LeastConfidence(), Margin(), Entropy()])
def test_multilabel_asks_for_the_row_with_the_least_decided_classes(strategy):
    # sigmoids, not a softmax: row 0 is sure of both classes (a softmax would tie), row 1 of one, row 2 of none
    logits = torch.tensor([[9.0, 9.0], [9.0, 0.0], [0.1, -0.1]])
    asked = Query(Outputs({"logits": logits}, multilabel=True), 3, torch.Generator().manual_seed(0))
    assert choose(strategy, asked).positions.tolist() == [2, 1, 0]


def test_ties_are_broken_by_the_seed():
    pool = {"logits": torch.zeros(50, 3)}
    first, second = (choose(Entropy(), of(pool, 5, seed=seed)).positions.tolist() for seed in (0, 1))
    assert first != second


@pytest.mark.parametrize("multilabel", [False, True])
@pytest.mark.parametrize("strategy", [LeastConfidence(), Margin(), Entropy()])
def test_no_score_is_below_the_lowest_stated_and_a_sure_row_has_it(strategy, multilabel):
    logits = torch.cat(
        [torch.tensor([[200.0, -200.0, -200.0]]), torch.randn(50, 3, generator=torch.Generator().manual_seed(0))]
    )
    asked = Query(Outputs({"logits": logits}, multilabel=multilabel), 1, torch.Generator())
    scores = strategy.score(asked)
    assert torch.all(scores >= strategy.lowest)
    assert scores[0] == strategy.lowest
