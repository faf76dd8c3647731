import numpy as np
import pytest
import torch
from reference import fisher as reference

from dal.errors import ConfigError
from dal.outputs import Outputs
from dal.strategies.fisher import BAIT
from dal.strategy import Query, choose
from dal.testing import check_strategy
from strategies.queries import of, query


def informations(outputs: Outputs) -> list[np.ndarray]:
    rows = zip(outputs.probs.double().numpy(), outputs.features.double().numpy(), strict=True)
    return [reference.information(p, h, outputs.multilabel) for p, h in rows]


@pytest.mark.parametrize("multilabel", [False, True])
@pytest.mark.parametrize("labeled", [0, 10])
def test_equals_direct_inverses_of_the_labeled_and_the_chosen(labeled, multilabel):
    asked = query(6, rows=20, labeled=labeled, classes=3, multilabel=multilabel)
    pool, known = informations(asked.pool), np.eye(24)
    known = known + sum(informations(asked.labeled), np.zeros((24, 24)))
    picks, gains, left = reference.bait(pool, 6, known, np.mean(pool, axis=0), 2.0)
    selection = choose(BAIT(), asked)
    assert selection.positions.tolist() == picks
    np.testing.assert_allclose(selection.scores, gains, rtol=1e-3)
    assert selection.notes["objective"] == pytest.approx(left, rel=1e-4)


def test_a_direction_that_is_labeled_already_is_left_alone():
    features = torch.tensor([[3.0, 0.0], [0.0, 2.5]])
    pool, labeled = ({"logits": torch.zeros(len(x), 2), "features": x} for x in (features, features[:1].repeat(5, 1)))
    assert choose(BAIT(oversampling=1.0), of(pool, 1)).positions.tolist() == [0]
    asked = of(pool, 1, labeled=labeled, labels=[0, 1, 0, 1, 0])
    assert choose(BAIT(oversampling=1.0), asked).positions.tolist() == [1]


def test_only_the_rows_that_tell_most_can_be_chosen_of_a_large_pool():
    asked = query(5, rows=60)
    p, h = asked.pool.probs, asked.pool.features
    traces = (1 - p.square().sum(1)) * h.square().sum(1)
    chosen = choose(BAIT(candidates=15), asked).positions
    assert set(chosen.tolist()) <= set(traces.topk(15).indices.tolist())


def test_more_rows_than_candidates_can_be_asked():
    assert len(choose(BAIT(candidates=5), query(30)).positions.unique()) == 30


def test_projected_gradients_choose_almost_as_well_as_whole_ones():
    left = {}
    for dimensions in (120, 10_000):
        asked = query(10, rows=80, classes=20)  # 160 parameters
        picks = choose(BAIT(dimensions=dimensions, rank=20), asked).positions.tolist()
        pool = informations(asked.pool)
        known = np.eye(160) + sum(informations(asked.labeled), np.zeros((160, 160)))
        left[dimensions] = reference.objective(known, pool, picks, np.mean(pool, axis=0))
        left["random"] = reference.objective(known, pool, list(range(10)), np.mean(pool, axis=0))
    assert left[10_000] <= left[120] < (left[10_000] + left["random"]) / 2


def test_removing_rows_again_leaves_no_more_than_adding_alone():
    asked = query(8, rows=60)
    alone, both = (choose(BAIT(oversampling=by), query(8, rows=60)).notes["objective"] for by in (1.0, 2.0))
    assert both <= alone * (1 + 1e-6)
    assert len(asked.pool) == 60


def test_the_choice_does_not_depend_on_the_order_of_the_pool():
    asked = query(15)
    order = torch.randperm(60, generator=torch.Generator().manual_seed(5))
    shuffled = Query(asked.pool.take(order), 15, torch.Generator().manual_seed(3), asked.labeled, labels=asked.labels)
    assert torch.equal(order[choose(BAIT(), shuffled).positions], choose(BAIT(), asked).positions)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"candidates": 0}, "candidates of BAIT must be at least 1, not 0"),
        ({"rank": 0}, "rank of BAIT must be at least 1"),
        ({"oversampling": 0.5}, "oversampling of BAIT must be at least 1"),
        ({"regularisation": 0.0}, "regularisation of BAIT must be from 1e-16 to"),
    ],
)
def test_senseless_options_are_refused(options, message):
    with pytest.raises(ConfigError, match=message):
        BAIT(**options)


def test_keeps_the_contract():
    check_strategy(BAIT(dimensions=64, rank=3, candidates=200), rows=2_000)
