"""The prior mean from class descriptions: the fit against an optimiser of another library, and the choice by hand."""

import numpy as np
import pytest
import torch
from scipy.optimize import minimize
from torch.nn import functional as F

from dal.learners.heads.described_head import STRENGTHS, choose_strength, class_directions
from dal.learners.heads.head_posteriors import PrincipalAxes, fit_heads, fit_posterior


def objective(beta: np.ndarray, features, targets, weights, mean, penalty: float, multilabel: bool) -> float:
    """The penalised loss, one row at a time."""
    layer = beta.reshape(mean.shape)
    total = penalty / 2 * float(((layer - mean) ** 2).sum())
    for x, y, w in zip(features, targets, weights, strict=True):
        z = layer @ x
        if multilabel:
            total += w * float((np.logaddexp(0, z) - y * z).sum())
        else:
            total += w * float(np.logaddexp.reduce(z) - y @ z)
    return total


@pytest.mark.parametrize("multilabel", [False, True])
@pytest.mark.parametrize("width", [3, 20])
def test_head_with_a_prior_mean_is_the_minimum_of_its_loss(width: int, multilabel: bool) -> None:
    generator = torch.Generator().manual_seed(0)
    features = F.pad(torch.randn(12, width, generator=generator, dtype=torch.float64), (0, 1), value=1.0)
    targets = F.one_hot(torch.arange(12) % 3, 3).double()
    weights = 0.5 + torch.rand(12, generator=generator, dtype=torch.float64)
    mean = torch.randn(3, width + 1, generator=generator, dtype=torch.float64)
    [found] = fit_heads(features, targets, weights[None], penalty=0.4, multilabel=multilabel, prior_mean=mean)
    arguments = (features.numpy(), targets.numpy(), weights.numpy(), mean.numpy(), 0.4, multilabel)
    theirs = minimize(objective, mean.numpy().ravel(), arguments, method="BFGS", options={"gtol": 1e-7})
    torch.testing.assert_close(found, torch.from_numpy(theirs.x.reshape(3, -1)), atol=1e-4, rtol=1e-3)


def test_bootstrap_heads_have_the_prior_mean_where_a_class_was_not_drawn() -> None:
    features = F.pad(torch.randn(6, 4, generator=torch.Generator().manual_seed(0)), (0, 1), value=1.0)
    targets = F.one_hot(torch.tensor([0, 0, 1, 1, 0, 2]), 3).float()
    mean = torch.arange(15.0).view(3, 5)
    drawn = fit_posterior(
        features, features @ mean.T, targets, torch.ones(6), drawn_by="bootstrap", precision=0.5, samples=20, seed=0,
        multilabel=False, prior_mean=mean,
    )  # fmt: skip
    unseen = ~drawn.seen[:, 2]  # type: ignore[union-attr]
    assert 0 < int(unseen.sum()) < 20
    torch.testing.assert_close(drawn.weight[unseen, 2], mean[2, :-1].expand(int(unseen.sum()), -1))  # type: ignore[union-attr]


def test_directions_are_means_of_a_class_s_descriptions_with_norm_1() -> None:
    vectors = torch.tensor([[1.0, 0.0], [0.0, 1.0], [0.0, -1.0]])
    found = class_directions(vectors, torch.tensor([0, 0, 2]), 3, multilabel=False)
    half = 0.5**0.5
    torch.testing.assert_close(found, torch.tensor([[half, half], [0.0, 0.0], [0.0, -1.0]]))
    centred = class_directions(vectors, torch.tensor([0, 0, 2]), 3, multilabel=True)
    torch.testing.assert_close(centred[0] + centred[2], torch.zeros(2))
    assert centred[1].tolist() == [0.0, 0.0]


def task(rows: int, seed: int, multilabel: bool = False):
    """Noisy features of norm 1 around three orthogonal directions, with the targets, and the directions."""
    generator = torch.Generator().manual_seed(seed)
    directions = torch.eye(3, 16)
    codes = torch.randint(3, (rows,), generator=generator)
    features = F.normalize(directions[codes] + 0.35 * torch.randn(rows, 16, generator=generator), dim=1)
    targets = F.one_hot(codes, 3).float()
    return F.pad(features, (0, 1), value=1.0), targets, torch.ones(rows), directions


@pytest.mark.parametrize("multilabel", [False, True])
def test_right_descriptions_are_used_and_exchanged_ones_are_not(multilabel: bool) -> None:
    """A property of the choice: over twelve tasks, never the wrong way."""
    for seed in range(6):
        for rows in (10, 30):
            features, targets, weights, directions = task(rows, seed)
            options = {"penalty": 0.1, "multilabel": multilabel}
            right = choose_strength(features, targets, weights, directions, **options)
            wrong = choose_strength(features, targets, weights, directions.roll(1, 0), **options)
            assert right.strength > 0
            assert wrong.strength == 0
            assert "not used" in wrong.text
            assert f"at strength {right.strength:g}" in right.text


def test_choice_is_that_of_folds_fitted_one_by_one() -> None:
    from dal.learners.heads.held_out import stratified_folds

    features, targets, weights, directions = task(14, 3)
    weights = torch.linspace(0.5, 1.5, 14)
    choice = choose_strength(features, targets, weights, directions, penalty=0.2, multilabel=False, seed=5)
    fold = stratified_folds(targets.argmax(1), 10, 5)
    for strength in STRENGTHS:
        total, correct = 0.0, 0
        for number in range(10):
            inside = fold != number
            mean = F.pad(strength * directions, (0, 1))
            [head] = fit_heads(
                features[inside], targets[inside], weights[None, inside], penalty=0.2, multilabel=False, prior_mean=mean
            )
            logits = features[~inside].double() @ head.T
            each = (logits.log_softmax(1) * targets[~inside]).sum(1)
            total += float((weights[~inside] * each).sum())
            correct += int((logits.argmax(1) == targets[~inside].argmax(1)).sum())
        assert choice.log_likelihoods[strength] == pytest.approx(total / float(weights.sum()), abs=1e-3)
        assert choice.correct[strength] == correct


@pytest.mark.parametrize("rows", [14, 30])
def test_features_are_decomposed_once_for_all_strengths(rows: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Fewer and more rows than features; a choice without the shared decomposition is the same to the last bit."""
    found, of = [], PrincipalAxes.of
    monkeypatch.setattr(PrincipalAxes, "of", lambda features: found.append(of(features)) or found[-1])
    arguments = task(rows, 2)
    once = choose_strength(*arguments, penalty=0.1, multilabel=False)
    assert len(found) == 1
    assert found[0].axes.shape == (min(rows, 17), 17)

    def apart(*arguments, principal, **options):
        return fit_heads(*arguments, **options)

    monkeypatch.setattr("dal.learners.heads.described_head.fit_heads", apart)
    each = choose_strength(*arguments, penalty=0.1, multilabel=False)
    assert len(found) == 2 + len(STRENGTHS)
    assert (each.log_likelihoods, each.correct) == (once.log_likelihoods, once.correct)


def test_more_confidence_alone_is_not_a_reason_for_descriptions() -> None:
    """Exchanged descriptions of one pair among many classes: a likelihood that rises for the others is not enough."""
    choice = choose_strength(*task(20, 1)[:3], torch.zeros(3, 16), penalty=0.1, multilabel=False)
    assert len(set(choice.log_likelihoods.values())) == 1
    assert choice.strength == 0
