import numpy as np
import pytest
import torch
from reference import contrast as reference

from dal.errors import ConfigError
from dal.strategies.contrastive import CAL, FALCUN
from dal.strategy import choose
from dal.testing import check_strategy
from strategies.queries import of, query


@pytest.mark.parametrize("multilabel", [False, True])
@pytest.mark.parametrize("k", [1, 4, 100])
def test_cal_scores_equal_the_slow_reference(k, multilabel):
    asked = query(1, rows=30, multilabel=multilabel)
    expected = reference.contrastive_scores(
        asked.pool.features.double().numpy(),
        asked.pool.probs.double().numpy(),
        asked.labeled.features.double().numpy(),
        asked.labeled.probs.double().numpy(),
        min(k, 10),
        multilabel,
    )
    np.testing.assert_allclose(CAL(neighbors=k).score(asked), expected, rtol=1e-4, atol=1e-6)


def test_cal_asks_for_the_row_predicted_unlike_its_labeled_neighbour():
    pool = {
        "logits": torch.tensor([[3.0, 0.0], [0.0, 3.0], [0.0, 3.0]]),
        "features": torch.tensor([[0.0], [0.1], [9.0]]),
    }
    labeled = {"logits": torch.tensor([[3.0, 0.0], [0.0, 3.0]]), "features": torch.tensor([[0.0], [9.1]])}
    selection = choose(CAL(neighbors=1), of(pool, 3, labeled=labeled, labels=[0, 1]))
    assert selection.positions[0] == 1
    assert selection.scores[1:].abs().max() < 1e-6


def test_cal_seeks_neighbours_in_the_chosen_space():
    assert CAL(space="embeddings").needs == CAL(space="embeddings").labeled_needs == {"log_probs", "embeddings"}


def test_cal_is_a_random_choice_with_nothing_labeled():
    first, second = query(10, labeled=0), query(10, labeled=0, seed=0)
    second.generator.manual_seed(99)
    assert not choose(CAL(), first).scores.any()
    assert set(choose(CAL(), query(10, labeled=0)).positions.tolist()) != set(choose(CAL(), second).positions.tolist())


def test_falcun_prefers_unsure_rows_of_different_predictions():
    unsure = torch.tensor([[1.0, 1.0, -9.0], [-9.0, 1.0, 1.0], [1.0, -9.0, 1.0]]).repeat_interleave(5, 0)
    logits = torch.cat([unsure, torch.tensor([[9.0, 0.0, 0.0]]).repeat(30, 1)])
    picks = choose(FALCUN(gamma=50.0), of({"logits": logits}, 4)).positions
    kinds = {int(p) // 5 if p < 15 else 3 for p in picks}
    assert kinds == {0, 1, 2, 3}  # once each kind of unsure row is drawn, the sure ones are the farthest


def test_falcun_reads_predictions_alone():
    assert FALCUN().needs == {"probs"}
    assert not FALCUN().labeled_needs


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: CAL(neighbors=0), "neighbors of CAL must be at least 1, not 0"),
        (lambda: FALCUN(gamma=-1.0), "gamma of FALCUN must be 0 or more, not -1.0"),
    ],
)
def test_senseless_options_are_refused(make, message):
    with pytest.raises(ConfigError, match=message):
        make()


@pytest.mark.parametrize(
    "strategy", [CAL(), CAL(neighbors=1, space="embeddings"), FALCUN(), FALCUN(gamma=0.0)], ids=str
)
def test_keeps_the_contract(strategy):
    check_strategy(strategy)
