import pytest
import torch

from dal.errors import ConfigError, NeedError
from dal.functional.disagreement import mutual_information
from dal.functional.joint import epig, greedy_batch
from dal.outputs import Outputs, log_probs
from dal.strategies.joint import EPIG, BatchBALD
from dal.strategy import Query, choose
from dal.testing import check_strategy


def joint(N: int, *, K: int = 5, C: int = 3, seed: int = 0, multilabel: bool = False) -> Outputs:
    logits = 2 * torch.randn(N, K, C, generator=torch.Generator().manual_seed(seed))
    return Outputs({"joint_mc_logits": logits}, multilabel=multilabel)


def query(pool: Outputs, n: int, target: Outputs | None = None, seed: int = 0) -> Query:
    none = Outputs(length=0, multilabel=pool.multilabel)
    return Query(pool, n, torch.Generator().manual_seed(seed), target=target or none)


@pytest.mark.parametrize(
    "strategy", [BatchBALD(configurations=300), BatchBALD(candidates=8, configurations=10)], ids=str
)
def test_batch_bald_keeps_the_contract(strategy):
    check_strategy(strategy, rows=1000)


@pytest.mark.parametrize("strategy", [EPIG(), EPIG(targets=5, candidates=10)], ids=str)
def test_epig_keeps_the_contract(strategy):
    check_strategy(strategy, rows=1000)


def test_batch_bald_asks_for_what_tells_most_together_and_says_how_much():
    pool = joint(40)
    selection = choose(BatchBALD(), query(pool, 5))
    batch = greedy_batch(pool.joint_mc_log_probs, 5, generator=torch.Generator().manual_seed(0))
    assert torch.equal(selection.positions, batch.positions)
    torch.testing.assert_close(selection.scores, batch.gains)
    assert selection.notes == {"information": pytest.approx(float(batch.gains.sum()))}


def test_batch_bald_considers_the_rows_of_highest_information_only():
    pool = joint(60)
    best = mutual_information(pool.joint_mc_log_probs).topk(6).indices
    positions = choose(BatchBALD(candidates=6), query(pool, 4)).positions
    assert set(positions.tolist()) <= set(best.tolist())
    assert len(choose(BatchBALD(candidates=6), query(pool, 9)).positions) == 9  # at least n of them


def test_batch_bald_does_not_ask_for_the_copies_that_bald_would():
    first, second = [[9.0, -9.0]] * 2 + [[-9.0, 9.0]] * 2, [[9.0, -9.0], [-9.0, 9.0]] * 2
    pool = Outputs({"joint_mc_logits": torch.tensor([first] * 20 + [second])})
    assert 20 in choose(BatchBALD(), query(pool, 2)).positions.tolist()


def test_batch_bald_is_refused_for_multilabel_outputs():
    with pytest.raises(NeedError, match="BatchBALD is not defined for multi-label outputs"):
        choose(BatchBALD(), query(joint(5, multilabel=True), 1))


@pytest.mark.parametrize("strategy", [BatchBALD(), EPIG()])
def test_samples_drawn_anew_for_every_row_are_refused(strategy):
    pool = Outputs({"mc_logits": torch.zeros(3, 4, 2)})
    with pytest.raises(NeedError, match="joint_mc_log"):
        choose(strategy, query(pool, 1, pool))


@pytest.mark.parametrize("multilabel", [False, True])
def test_epig_scores_are_the_information_about_the_target(multilabel):
    pool, target = joint(30, multilabel=multilabel), joint(9, seed=1, multilabel=multilabel)
    selection = choose(EPIG(), query(pool, 30, target))
    expected = epig(pool.joint_mc_log_probs, target.joint_mc_log_probs, multilabel=multilabel)
    torch.testing.assert_close(selection.scores, expected[selection.positions])
    assert torch.all(selection.scores.diff() <= 0)


def test_epig_asks_for_what_matters_to_the_target_where_bald_asks_for_anything():
    # samples are two independent bits: rows 0 and 1 tell the first, row 2 (less clearly) the second
    bit = torch.tensor([1.0, 1.0, -1.0, -1.0]), torch.tensor([1.0, -1.0, 1.0, -1.0])
    logits = torch.stack([9 * bit[0], 9 * bit[0], 2 * bit[1]])
    pool = Outputs({"joint_mc_logits": torch.stack([logits, -logits], -1)})
    target = Outputs({"joint_mc_logits": torch.stack([9 * bit[1], -9 * bit[1]], -1)[None]})
    assert mutual_information(pool.joint_mc_log_probs).argmin() == 2
    assert choose(EPIG(), query(pool, 1, target)).positions.tolist() == [2]


def test_epig_scores_the_candidates_and_leaves_the_others_at_zero():
    pool = joint(60)
    scores = EPIG(candidates=6).score(query(pool, 4, joint(9, seed=1)))
    best = mutual_information(pool.joint_mc_log_probs).topk(6).indices
    assert set(scores.nonzero().flatten().tolist()) == set(best.tolist())


def test_epig_draws_as_many_targets_as_it_is_told_to():
    pool, target = joint(20), joint(50, seed=1)
    scores = [EPIG(targets=7).score(query(pool, 1, target, seed=seed)) for seed in (0, 1)]
    drawn = torch.randperm(50, generator=torch.Generator().manual_seed(0))[:7]
    expected = epig(pool.joint_mc_log_probs, target.joint_mc_log_probs[drawn])
    torch.testing.assert_close(scores[0], expected)
    assert not torch.allclose(*scores)


def test_epig_without_target_rows_serves_the_pool():
    pool = joint(20)
    expected = epig(log_probs(pool.joint_mc_logits), log_probs(pool.joint_mc_logits))
    torch.testing.assert_close(EPIG().score(query(pool, 1)), expected)


@pytest.mark.parametrize(
    ("strategy", "option"),
    [(BatchBALD, "candidates"), (BatchBALD, "configurations"), (EPIG, "targets"), (EPIG, "candidates")],
)
def test_numbers_below_one_are_refused(strategy, option):
    with pytest.raises(ConfigError, match=f"{option} of {strategy.__name__} must be 1 or more, not 0"):
        strategy(**{option: 0})
