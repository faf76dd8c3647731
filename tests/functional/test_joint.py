import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from reference import joint as reference

from dal.functional import blocks, joint
from dal.functional.disagreement import mutual_information
from dal.functional.joint import batch_bald, epig, greedy_batch
from dal.outputs import log_probs
from functional.made import seeded


def samples(N: int, K: int, C: int, seed: int = 0, dtype: torch.dtype = torch.float64, spread: float = 1.0):
    """Log-probabilities of K functions on N rows: a part they share and a part of each."""
    generator = seeded(seed)
    shared = 1.5 * torch.randn(N, 1, C, generator=generator, dtype=torch.float64)
    own = spread * torch.randn(N, K, C, generator=generator, dtype=torch.float64)
    return (shared + own).log_softmax(-1).to(dtype)


def assert_greedy(log_p: torch.Tensor, positions: torch.Tensor, gains: torch.Tensor, slack: float = 1e-9) -> None:
    """Each pick is the best by enumeration, and its gain is what enumeration gives."""
    rows = log_p.double().exp().tolist()
    chosen: list = []
    for pick, claimed in zip(positions.tolist(), gains.tolist(), strict=True):
        left = [i for i in range(len(rows)) if i not in positions[: len(chosen)].tolist()]
        best = max(reference.gain(chosen, rows[i]) for i in left)
        own = reference.gain(chosen, rows[pick])
        assert own >= best - slack
        assert claimed == pytest.approx(own, abs=slack)
        chosen.append(rows[pick])


@pytest.mark.parametrize(("N", "K", "C", "n"), [(12, 4, 3, 4), (10, 6, 2, 6), (6, 1, 3, 3), (9, 3, 5, 3), (4, 5, 2, 4)])
def test_picks_are_the_greedy_ones_of_brute_force(N, K, C, n):
    log_p = samples(N, K, C, seed=N)
    batch = greedy_batch(log_p, n, generator=seeded())
    assert_greedy(log_p, batch.positions, batch.gains, slack=1e-6 if K == 1 else 1e-9)


def test_single_precision_finds_as_good_picks():
    log_p = samples(15, 5, 3, seed=1, dtype=torch.float32)
    batch = greedy_batch(log_p, 4, generator=seeded())
    assert_greedy(log_p, batch.positions, batch.gains, slack=3e-5)


@given(st.integers(0, 2**31), st.integers(2, 8), st.integers(2, 4), st.sampled_from([0.3, 1.0, 4.0, 30.0]))
@settings(max_examples=12, deadline=None)
def test_lazy_picks_are_the_exhaustive_ones_while_labelings_are_listed(seed, K, C, spread):
    distinct = samples(60, K, C, seed, torch.float32, spread)
    log_p = log_probs(torch.cat([distinct, distinct[:20], distinct[:20]]))  # duplicates tie
    n = int(math.log(1024, C) + 1e-9)
    lazy = greedy_batch(log_p, n, generator=seeded(seed), configurations=1024)
    every = greedy_batch(log_p, n, generator=seeded(seed), configurations=1024, exhaustive=True)
    assert torch.equal(lazy.positions, every.positions)
    torch.testing.assert_close(lazy.gains, every.gains, atol=1e-5, rtol=0)


def test_lazy_search_leaves_most_rows_alone(monkeypatch):
    evaluated = []
    original = joint._expected_entropy

    def counted(log_p, posterior, weights):
        evaluated.append(len(log_p))
        return original(log_p, posterior, weights)

    monkeypatch.setattr(joint, "_expected_entropy", counted)
    monkeypatch.setattr(blocks, "ELEMENTS", 2**12)
    log_p = samples(3000, 10, 3, dtype=torch.float32)
    greedy_batch(log_p, 6, generator=seeded())
    lazy, evaluated[:] = sum(evaluated), []
    greedy_batch(log_p, 6, generator=seeded(), exhaustive=True)
    assert sum(evaluated) == 3000 * 5 - (1 + 2 + 3 + 4 + 5)
    assert lazy < sum(evaluated) / 2


def test_drawn_labelings_estimate_the_exact_gains():
    log_p = samples(200, 8, 3, seed=2, dtype=torch.float32)
    exact = greedy_batch(log_p, 6, generator=seeded(), configurations=3**6)
    drawn = greedy_batch(log_p, 6, generator=seeded(), configurations=200)  # drawn from the fifth label on
    assert torch.equal(drawn.positions[:5], exact.positions[:5])
    assert float(drawn.gains[:5].sub(exact.gains[:5]).abs().max()) < 1e-5
    for seed in range(3):
        few = greedy_batch(log_p, 6, generator=seeded(seed), configurations=2)  # drawn from the first label on
        many = greedy_batch(log_p, 6, generator=seeded(seed), configurations=240)
        assert few.gains[0] == exact.gains[0]
        assert float(many.gains.sub(exact.gains).abs().max()) < 0.03


def test_gains_add_up_to_the_information_of_the_batch_by_enumeration():
    log_p = samples(20, 4, 3, seed=3)
    batch = greedy_batch(log_p, 5, generator=seeded())
    together = reference.joint_information(log_p[batch.positions].exp().tolist())
    assert float(batch.gains.sum()) == pytest.approx(together, abs=1e-8)


def test_no_batch_tells_more_than_the_log_of_the_number_of_samples():
    log_p = samples(100, 4, 3, dtype=torch.float32, spread=30.0)
    batch = greedy_batch(log_p, 40, generator=seeded())
    assert float(batch.gains.sum()) <= math.log(4) + 1e-3
    assert torch.all(batch.gains >= 0)


def test_copies_of_the_best_row_wait_for_rows_that_tell_something_new():
    # samples are sure: row 0 and its copies tell samples {0, 1} from {2, 3}, row 9 tells {0, 2} from {1, 3}
    one, other = [[1.0, 0.0]] * 2 + [[0.0, 1.0]] * 2, [[1.0, 0.0], [0.0, 1.0]] * 2
    p = torch.tensor([one] * 9 + [other])
    positions = batch_bald(p.clamp_min(1e-30).log(), 2, generator=seeded())
    assert 9 in positions.tolist()


def test_once_nothing_is_left_to_learn_informative_rows_fill_the_batch_and_sure_ones_come_last():
    opposed, agreed = [[1.0, 0.0], [0.0, 1.0]], [[1.0, 0.0], [1.0, 0.0]]
    log_p = torch.tensor([agreed] * 5 + [opposed] * 4).clamp_min(1e-30).log()
    batch = greedy_batch(log_p, 6, generator=seeded())
    assert sorted(batch.positions[:4].tolist()) == [5, 6, 7, 8]
    torch.testing.assert_close(batch.gains, torch.tensor([math.log(2), 0, 0, 0, 0, 0]))


def test_ties_are_drawn():
    log_p = samples(1, 3, 3, dtype=torch.float32).expand(50, -1, -1)
    chosen = {tuple(batch_bald(log_p, 3, generator=seeded(seed)).tolist()) for seed in range(5)}
    assert len(chosen) == 5


@pytest.mark.parametrize("configurations", [1, 7, 10_000])
@pytest.mark.parametrize(("N", "n"), [(1, 1), (7, 1), (7, 7), (80, 30)])
def test_picks_are_as_many_as_asked_for_and_distinct(N, n, configurations):
    log_p = samples(N, 3, 4, dtype=torch.float32)
    positions = batch_bald(log_p, n, generator=seeded(), configurations=configurations)
    assert positions.shape == (n,)
    assert len(set(positions.tolist())) == n


@pytest.mark.parametrize("exhaustive", [False, True])
def test_follows_a_permutation_of_the_rows_while_exact(exhaustive):
    log_p = samples(50, 5, 3, dtype=torch.float32)
    order = torch.randperm(50, generator=seeded(4))
    positions = batch_bald(log_p[order], 5, generator=seeded(), exhaustive=exhaustive)
    assert torch.equal(order[positions], batch_bald(log_p, 5, generator=seeded(), exhaustive=exhaustive))


def test_does_not_depend_on_the_size_of_blocks(monkeypatch):
    log_p = samples(150, 5, 3, dtype=torch.float32)
    whole = greedy_batch(log_p, 12, generator=seeded(), configurations=300)
    monkeypatch.setattr(blocks, "ELEMENTS", 500)
    small = greedy_batch(log_p, 12, generator=seeded(), configurations=300)
    assert torch.equal(small.positions, whole.positions)
    torch.testing.assert_close(small.gains, whole.gains, atol=1e-5, rtol=0)


def test_a_model_sure_of_everything_gives_finite_gains():
    log_p = log_probs(1000 * torch.randn(40, 6, 5, generator=seeded()))
    gains = greedy_batch(log_p, 20, generator=seeded(), configurations=500).gains
    assert torch.isfinite(gains).all()
    assert float(gains.sum()) == pytest.approx(math.log(6), abs=1e-3)


@pytest.mark.parametrize(("n", "configurations", "message"), [(0, 9, "0 of 5"), (6, 9, "6 of 5"), (2, 0, "configura")])
def test_what_cannot_be_is_refused(n, configurations, message):
    with pytest.raises(ValueError, match=message):
        batch_bald(samples(5, 3, 2), n, generator=seeded(), configurations=configurations)


@pytest.mark.parametrize("bad", [torch.nan, -torch.inf])
def test_impossible_outcomes_that_were_not_floored_are_refused(bad):
    log_p = samples(5, 3, 2)
    log_p[2, 1, 0] = bad
    with pytest.raises(ValueError, match="must be finite"):
        batch_bald(log_p, 2, generator=seeded())


@pytest.mark.parametrize(("K", "C"), [(1, 3), (2, 2), (6, 4), (3, 20)])
def test_epig_equals_the_slow_reference(K, C, monkeypatch):
    monkeypatch.setattr(blocks, "ELEMENTS", 512 * C * 3)  # three rows at once, and the targets in parts
    pool, target = samples(10, K, C, seed=1), samples(7, K, C, seed=2)
    expected = reference.epig(pool.exp().tolist(), target.exp().tolist())
    torch.testing.assert_close(epig(pool, target), torch.tensor(expected, dtype=torch.float64))


@pytest.mark.parametrize("C", [1, 4])
def test_multilabel_epig_is_the_mean_over_the_classes_of_the_binary_quantity(C):
    pool, target = (torch.rand(8, 5, C, generator=seeded(seed), dtype=torch.float64) for seed in (1, 2))
    binary = [torch.stack([p, 1 - p], -1) for p in (pool, target)]  # (N, K, C, 2)
    each = [reference.epig(binary[0][:, :, c].tolist(), binary[1][:, :, c].tolist()) for c in range(C)]
    expected = torch.tensor(each, dtype=torch.float64).mean(0)
    torch.testing.assert_close(epig(pool.log(), target.log(), multilabel=True), expected)


def test_epig_of_hand_computed_rows():
    sure, opposed = [[1.0, 0.0], [1.0, 0.0]], [[1.0, 0.0], [0.0, 1.0]]
    log_p = torch.tensor([sure, opposed]).clamp_min(1e-30).log()
    # the label of the opposed row tells that of an opposed target, and nothing of a sure one
    torch.testing.assert_close(epig(log_p, log_p), torch.tensor([0.0, math.log(2) / 2]), atol=1e-6, rtol=0)


@pytest.mark.parametrize("multilabel", [False, True])
@pytest.mark.parametrize("spread", [0.01, 1.0, 1000.0])
def test_epig_lies_between_zero_and_what_the_label_tells_of_the_model(spread, multilabel):
    logits = spread * torch.randn(60, 6, 4, generator=seeded())
    log_p = log_probs(logits, multilabel)
    information = epig(log_p[:40], log_p[40:], multilabel=multilabel)
    assert torch.all(information >= 0)
    assert torch.all(information <= mutual_information(log_p[:40], multilabel=multilabel) + 1e-5)


def test_epig_in_single_precision_is_within_a_few_roundings():
    pool, target = samples(50, 10, 6, seed=1), samples(30, 10, 6, seed=2)
    small = samples(50, 10, 6, seed=1, spread=0.01)  # samples that agree: an information of about 1e-8
    for one in (pool, small):
        torch.testing.assert_close(epig(one.float(), target.float()).double(), epig(one, target), atol=3e-7, rtol=1e-4)


def test_targets_that_do_not_fit_the_pool_are_refused():
    pool = samples(5, 4, 3)
    for wrong in (samples(5, 3, 3), samples(5, 4, 2), samples(5, 4, 3)[:0]):
        with pytest.raises(ValueError, match="same samples and classes"):
            epig(pool, wrong)


@pytest.mark.parametrize("multilabel", [False, True])
def test_rows_and_targets_whose_samples_are_the_same_tell_exactly_nothing(multilabel):
    same = samples(400, 1, 4, dtype=torch.float32).repeat(1, 12, 1)
    differ = samples(100, 12, 4, 1, dtype=torch.float32)
    found = epig(torch.cat([differ, same]), torch.cat([same[:5], differ[:3]]), multilabel=multilabel)
    assert (found[100:] == 0).all()
    assert (found[:100] > 0).all()
    assert (epig(differ, same[:7], multilabel=multilabel) == 0).all()


def test_the_same_samples_everywhere_are_a_batch_by_chance_alone():
    log_p = samples(30, 1, 3, dtype=torch.float32).repeat(1, 20, 1)
    counts = torch.zeros(30)
    for seed in range(900):
        found = greedy_batch(log_p, 2, generator=seeded(seed))
        assert (found.gains == 0).all()
        counts[found.positions] += 1
    assert ((counts - 60) ** 2 / 60).sum() < 58.3  # chi-square with 29 degrees of freedom, p = 0.001


@pytest.mark.parametrize("value", [torch.nan, torch.inf, -torch.inf])
def test_values_that_are_not_finite_are_refused_by_their_rows(value):
    log_p, broken = samples(20, 3, 2), samples(20, 3, 2)
    broken[[3, 19], 1] = value
    for call in (
        lambda: greedy_batch(broken, 2, generator=seeded()),
        lambda: epig(broken, log_p),
        lambda: epig(log_p, broken),
    ):
        with pytest.raises(ValueError, match=r"(joint_mc_log_probs|target) must be finite; 2 rows are not: 3, 19"):
            call()
