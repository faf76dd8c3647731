import pytest
import torch
from torch.nn import functional as F

from dal.errors import ConfigError
from dal.functional import k_center_greedy, kmeans_plusplus
from dal.strategies import BADGE
from dal.strategies.gradient import ExpectedGradientLength
from dal.strategy import choose
from dal.testing import check_strategy
from strategies.queries import of, query


def autograd_gradients(logits, features):
    """The gradient of the cross-entropy at the predicted label with respect to a last layer's weight, row by row."""
    rows = []
    for z, h in zip(logits, features, strict=True):
        weight = (z[:, None] * h / h.dot(h)).requires_grad_()  # a layer whose output at h is z
        loss = F.cross_entropy((weight @ h)[None], z.argmax()[None])
        rows.append(torch.autograd.grad(loss, weight)[0].flatten())
    return torch.stack(rows)


def test_is_k_means_plus_plus_on_the_gradients_of_autograd():
    asked = query(20)
    gradients = autograd_gradients(asked.pool.logits, asked.pool.features)
    expected = kmeans_plusplus(gradients.double(), 20, generator=torch.Generator().manual_seed(0))
    assert torch.equal(choose(BADGE(), asked).positions, expected)


def test_the_first_is_the_row_with_the_longest_gradient():
    asked = query(3)
    gradients = autograd_gradients(asked.pool.logits, asked.pool.features)
    selection = choose(BADGE(), asked)
    assert selection.positions[0] == gradients.norm(dim=1).argmax()
    assert float(selection.scores[0]) == pytest.approx(float(gradients.norm(dim=1).max()), rel=1e-5)


def test_scores_are_the_distances_at_selection():
    asked = query(10)
    gradients = autograd_gradients(asked.pool.logits, asked.pool.features)
    selection = choose(BADGE(), asked)
    chosen = gradients[selection.positions]
    expected = torch.stack([(chosen[:t] - chosen[t]).norm(dim=1).min() for t in range(1, 10)])
    torch.testing.assert_close(selection.scores[1:], expected, rtol=1e-4, atol=1e-5)


def test_two_classes_still_spread_over_the_features():
    logits = torch.tensor([[0.1, 0.0]]).repeat(40, 1)  # all equally unsure
    features = F.one_hot(torch.arange(40) % 4, 4).float()
    positions = choose(BADGE(), of({"logits": logits, "features": features}, 4)).positions
    assert sorted((positions % 4).tolist()) == [0, 1, 2, 3]


def test_of_many_sure_rows_at_most_one_is_chosen():
    logits = torch.tensor([[30.0, 0.0]] * 50 + [[0.1, 0.0]] * 10)
    features = torch.randn(60, 8, generator=torch.Generator().manual_seed(0))
    positions = choose(BADGE(), of({"logits": logits, "features": features}, 8)).positions
    assert (positions < 50).sum() <= 1  # their gradients are all about 0: once one is chosen, the others have no mass


def test_multilabel_gradients_are_those_of_the_binary_cross_entropy():
    asked = query(10, multilabel=True)
    rows = []
    for z, h in zip(asked.pool.logits, asked.pool.features, strict=True):
        weight = (z[:, None] * h / h.dot(h)).requires_grad_()
        loss = F.binary_cross_entropy_with_logits(weight @ h, (z > 0).float(), reduction="sum")
        rows.append(torch.autograd.grad(loss, weight)[0].flatten())
    expected = kmeans_plusplus(torch.stack(rows).double(), 10, generator=torch.Generator().manual_seed(0))
    assert torch.equal(choose(BADGE(), asked).positions, expected)


def test_k_center_starts_from_the_labeled_rows_gradients():
    asked = query(10)
    pool = autograd_gradients(asked.pool.logits, asked.pool.features)
    labeled = autograd_gradients(asked.labeled.logits, asked.labeled.features)
    cover = k_center_greedy(pool, 10, centers=labeled)
    selection = choose(BADGE(seeding="k-center"), asked)
    assert torch.equal(selection.positions, cover.positions)
    torch.testing.assert_close(selection.scores, cover.distances, rtol=1e-4, atol=1e-5)
    assert selection.notes["radius"] == pytest.approx(cover.radius, rel=1e-4)


def test_only_k_center_reads_the_labeled_rows():
    assert not BADGE().labeled_needs
    assert BADGE(seeding="k-center").labeled_needs == {"grads"}


def test_an_unknown_seeding_is_refused_with_those_there_are():
    with pytest.raises(ConfigError, match=r"seeding of BADGE must be 'kmeans\+\+' or 'k-center', not 'random'"):
        BADGE(seeding="random")


def test_reduced_precision_keeps_most_picks():
    logits = torch.randn(2000, 6, generator=torch.Generator().manual_seed(0))
    features = torch.randn(2000, 64, generator=torch.Generator().manual_seed(1))
    exact = choose(BADGE(), of({"logits": logits, "features": features}, 50)).positions.tolist()
    rounded = {"logits": logits.bfloat16().float(), "features": features.bfloat16().float()}
    assert len(set(exact) & set(choose(BADGE(), of(rounded, 50)).positions.tolist())) >= 40


def test_expected_gradient_length_is_that_of_autograd_over_the_labels():
    asked = query(1, rows=12)
    expected = []
    for z, h in zip(asked.pool.logits, asked.pool.features, strict=True):
        total = 0.0
        for label, probability in enumerate(z.softmax(0)):
            weight = (z[:, None] * h / h.dot(h)).requires_grad_()
            bias = torch.zeros(len(z), requires_grad=True)
            loss = F.cross_entropy((weight @ h + bias)[None], torch.tensor([label]))
            gradient = torch.cat([part.flatten() for part in torch.autograd.grad(loss, [weight, bias])])
            total += float(probability * gradient.norm())
        expected.append(total)
    torch.testing.assert_close(ExpectedGradientLength().score(asked), torch.tensor(expected), rtol=1e-4, atol=1e-5)


def test_of_equally_unsure_rows_the_longest_is_expected_to_change_most():
    pool = {"logits": torch.zeros(3, 2), "features": torch.tensor([[1.0, 0.0], [0.0, 4.0], [2.0, 0.0]])}
    assert choose(ExpectedGradientLength(), of(pool, 3)).positions.tolist() == [1, 2, 0]


def test_expected_gradient_length_takes_no_sure_row_before_an_unsure_one():
    pool = {"logits": torch.tensor([[40.0, 0.0], [0.1, 0.0]]), "features": torch.tensor([[100.0], [0.0]])}
    assert choose(ExpectedGradientLength(), of(pool, 1)).positions.tolist() == [1]


@pytest.mark.parametrize("strategy", [ExpectedGradientLength(), BADGE()], ids=str)
def test_keeps_the_contract(strategy):
    check_strategy(strategy)
