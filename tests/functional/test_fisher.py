import numpy as np
import pytest
import torch
from reference import fisher as reference

from dal.functional import blocks, fisher
from dal.functional.fisher import FisherFactors, bait, fisher_factors
from functional.made import normal, seeded


def made(N, C, D, seed=0, scale=1.0, **options):
    logits = scale * normal(N, C, seed)
    probs = logits.sigmoid() if options.get("multilabel") else logits.softmax(1)
    return fisher_factors(probs, normal(N, D, seed + 1), generator=seeded(), **options)


def informations(factors: FisherFactors) -> list[np.ndarray]:
    rows = zip(factors.probs.numpy(), factors.features.numpy(), strict=True)
    return [reference.information(p, h, factors.multilabel) for p, h in rows]


@pytest.mark.parametrize("multilabel", [False, True])
@pytest.mark.parametrize("C", [2, 3, 8])
def test_factors_multiply_to_the_expected_outer_product_of_the_gradient(C, multilabel):
    factors = made(6, C, 3, multilabel=multilabel)
    v = factors.dense()
    assert v.shape == (6, C if multilabel else C - 1, 3 * C)
    np.testing.assert_allclose(v.mT @ v, informations(factors), atol=1e-5)


def test_a_row_that_is_certain_tells_nothing():
    factors = fisher_factors(torch.tensor([[0.0, 1.0, 0.0]]), torch.ones(1, 2), generator=seeded())
    assert not factors.dense().any()
    assert not factors.traces().any()


@pytest.mark.parametrize("multilabel", [False, True])
@pytest.mark.parametrize("C", [4, 20])
def test_a_lower_rank_keeps_the_trace(C, multilabel):
    factors = made(10, C, 3, rank=2, multilabel=multilabel)
    v = factors.dense()
    assert v.shape[1] == 2
    torch.testing.assert_close(v.square().sum((1, 2)), factors.traces().float())
    np.testing.assert_allclose(factors.traces(), [np.trace(i) for i in informations(factors)])


def test_a_lower_rank_keeps_the_most_probable_classes():
    probs = torch.tensor([[0.01, 0.6, 0.38, 0.01]], dtype=torch.float64)
    v = fisher_factors(probs, torch.ones(1, 1, dtype=torch.float64), generator=seeded(), rank=1).dense()[0, 0]
    assert v.abs().argsort(descending=True)[:2].tolist() == [1, 2]


def test_random_signs_keep_inner_products_on_average():
    exact = made(5, 10, 12, rank=3).dense().flatten(0, 1)
    kept = torch.stack(
        [
            fisher_factors(
                normal(5, 10).softmax(1), normal(5, 12, 1), generator=seeded(seed), rank=3, dimensions=60
            ).dense()
            for seed in range(200)
        ]
    ).flatten(1, 2)  # (200, 15, 60)
    products = kept @ kept.mT
    error = products.std(0) / 200**0.5
    assert ((products.mean(0) - exact @ exact.T).abs() < 5 * error + 1e-6).all()


def test_nothing_is_drawn_where_nothing_is_projected():
    generator = seeded()
    fisher_factors(normal(5, 4).softmax(1), normal(5, 3), generator=generator)
    assert torch.equal(generator.get_state(), seeded().get_state())


@pytest.mark.parametrize("multilabel", [False, True])
@pytest.mark.parametrize("n", [1, 4, 9, 12])
def test_choices_equal_those_by_direct_inverses(n, multilabel):
    rows, labeled = made(12, 3, 3, multilabel=multilabel), made(4, 3, 3, seed=5, multilabel=multilabel)
    design = bait(rows, n, labeled=labeled, oversampling=2.0)
    each = informations(rows)
    known = np.eye(9) + sum(informations(labeled))
    picks, gains, left = reference.bait(each, n, known, np.mean(each, axis=0), 2.0)
    assert design.positions.tolist() == picks
    np.testing.assert_allclose(design.gains, gains, rtol=1e-4)
    assert design.objective == pytest.approx(left, rel=1e-5)


def test_target_rows_other_than_the_pool_decide_what_counts():
    rows, target = made(15, 3, 3), made(6, 3, 3, seed=9)
    design = bait(rows, 5, target=target, regularisation=0.5, oversampling=1.5)
    wanted = np.mean(informations(target), axis=0)
    picks, _, left = reference.bait(informations(rows), 5, 0.5 * np.eye(9), wanted, 1.5)
    assert design.positions.tolist() == picks
    assert design.objective == pytest.approx(left, rel=1e-5)


def test_a_copy_of_a_chosen_row_is_worth_less_than_a_row_of_its_own():
    probs = torch.full((3, 2), 0.5)
    features = torch.tensor([[3.0, 0.0], [3.0, 0.0], [0.0, 2.0]])
    design = bait(fisher_factors(probs, features, generator=seeded()), 2, oversampling=1.0)
    assert design.positions.tolist() == [0, 2]


def test_long_features_leave_no_negative_gain():
    rows = fisher_factors(normal(30, 3).softmax(1), 1e4 * normal(30, 4, 1), generator=seeded())
    design = bait(rows, 10)
    assert (design.gains >= 0).all()
    assert len(design.positions.unique()) == 10
    each = informations(rows)
    left = reference.objective(np.eye(12), each, design.positions.tolist(), np.mean(each, axis=0))
    assert design.objective == pytest.approx(left, rel=1e-3)


@pytest.mark.parametrize("multilabel", [False, True])
def test_eigenvalues_where_rounding_decides_choose_as_cholesky_factors_do(monkeypatch, multilabel):
    rows = made(40, 4, 5, multilabel=multilabel)
    quick = bait(rows, 8)
    monkeypatch.setattr(fisher, "_CLEAR", torch.inf)  # nothing is
    careful = bait(rows, 8)
    assert torch.equal(quick.positions, careful.positions)
    torch.testing.assert_close(quick.gains, careful.gains)
    assert quick.objective == pytest.approx(careful.objective)


def test_only_what_is_nearly_singular_is_left_to_eigenvalues(monkeypatch):
    asked = []
    eigh = torch.linalg.eigh
    monkeypatch.setattr(torch.linalg, "eigh", lambda matrices: asked.append(1) or eigh(matrices))
    bait(made(30, 3, 4), 10)
    assert not asked
    bait(fisher_factors(normal(6, 3).softmax(1), 1e5 * normal(6, 40, 1), generator=seeded()), 2)  # each on its own
    assert asked


def test_the_size_of_blocks_changes_nothing(monkeypatch):
    rows = made(40, 4, 5)
    whole = bait(rows, 8)
    monkeypatch.setattr(blocks, "ELEMENTS", 200)
    assert torch.equal(bait(rows, 8).positions, whole.positions)


def test_more_rows_than_there_are_cannot_be_chosen():
    with pytest.raises(ValueError, match="4 of 3"):
        bait(made(3, 2, 2), 4)
