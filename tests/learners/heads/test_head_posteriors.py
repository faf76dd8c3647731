"""Draws of a last layer: the closed form, the bootstrap, and both on networks without any dropout."""

import copy
import dataclasses
import functools
from pathlib import Path

import material
import numpy as np
import pytest
import torch
from reference import heads as reference
from sklearn.linear_model import LogisticRegression
from torch import nn
from torch.nn import functional as F

from dal.data import Rows
from dal.errors import ConfigError, LearnerError
from dal.learners.heads.head_posteriors import (
    FLOOR,
    Bootstrap,
    Laplace,
    fit_heads,
    fit_posterior,
    resamples,
    with_unseen,
)
from dal.learners.heads.last_layer import DrawnNetwork, answer_weights, fit_last_layer
from dal.learners.module_learner import ModuleLearner
from dal.learners.probe_learner import ProbeLearner
from dal.learners.transformer_learner import TransformerLearner
from dal.modules.active_module import ActiveModule
from dal.testing import check_learner

pytestmark = pytest.mark.filterwarnings("ignore:`isinstance.treespec, LeafSpec.` is deprecated")


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def problem(rows: int, classes: int = 3, width: int = 4, multilabel: bool = False, seed: int = 0):
    """Features (L, D + 1), logits (L, C), targets (L, C) and weights (L,), float64."""
    generator = seeded(seed)
    features = F.pad(torch.randn(rows, width, generator=generator, dtype=torch.float64), (0, 1), value=1.0)
    logits = torch.randn(rows, classes, generator=generator, dtype=torch.float64)
    codes = torch.arange(rows) % classes
    targets = F.one_hot(codes, classes).double()
    if multilabel:
        targets = (torch.rand(rows, classes, generator=generator) < 0.5).double()
    return features, logits, targets, 0.5 + torch.rand(rows, generator=generator, dtype=torch.float64)


def posterior(features, logits, targets, weights, drawn_by="laplace", **options):
    settings = {"precision": 0.7, "samples": 4, "seed": 0, "multilabel": False} | options
    return fit_posterior(features, logits, targets, weights, drawn_by=drawn_by, **settings)


def covariance(laplace: Laplace) -> np.ndarray:
    """What the draws' linear map makes of standard normal noise."""
    shape = len(laplace.class_basis), len(laplace.feature_basis)
    units = torch.eye(shape[0] * shape[1]).view(-1, *shape)
    columns = laplace.shift(units).flatten(1).double().numpy()  # (noise, parameters)
    return columns.T @ columns


# Laplace


@pytest.mark.parametrize("multilabel", [False, True])
@pytest.mark.parametrize("rows", [1, 3, 30])
def test_laplace_is_the_inverse_of_the_kronecker_precision(rows, multilabel):
    features, logits, targets, weights = problem(rows, multilabel=multilabel)
    probs = logits.sigmoid() if multilabel else logits.softmax(1)
    found = covariance(posterior(features, logits, targets, weights, multilabel=multilabel))
    expected = reference.kronecker_covariance(features.numpy(), probs.numpy(), weights.numpy(), 0.7, multilabel)
    np.testing.assert_allclose(found, expected, atol=1e-4)


def test_laplace_of_rows_that_are_alike_is_exact():
    features, logits, targets, weights = problem(5)
    features, logits = features[:1].expand(5, -1), logits[:1].expand(5, -1)
    found = covariance(posterior(features, logits, targets, weights))
    expected = reference.whole_covariance(
        features.numpy(), logits.softmax(1).numpy(), weights.numpy(), 0.7, multilabel=False
    )
    np.testing.assert_allclose(found, expected, atol=1e-4)


def test_laplace_variance_by_hand():
    """One label at x = (2, 1), logits 0 and 0: B = [[1, -1], [-1, 1]] / 4 has eigenvalues 0 and 1/2, A has 0 and 5."""
    features, logits = torch.tensor([[2.0, 1.0]]), torch.zeros(1, 2)
    laplace = posterior(features, logits, torch.tensor([[1.0, 0.0]]), torch.ones(1), precision=0.5)
    difference = torch.tensor([1.0, -1.0]) / 2**0.5
    found = torch.from_numpy(covariance(laplace)).float().view(2, 2, 2, 2)

    def variance(row):
        return float(torch.einsum("c,d,cdef,e,f->", difference, row, found, difference, row))

    assert variance(torch.tensor([2.0, 1.0]) / 5**0.5) == pytest.approx(1 / (2.5 + 0.5), rel=1e-5)
    assert variance(torch.tensor([1.0, -2.0]) / 5**0.5) == pytest.approx(1 / 0.5, rel=1e-5)  # no label says anything


def test_laplace_variance_grows_away_from_the_labels():
    generator = seeded()
    known = torch.cat([torch.randn(40, 2, generator=generator), torch.zeros(40, 2), torch.ones(40, 1)], 1)
    laplace = posterior(known, torch.zeros(40, 2), torch.eye(2)[torch.arange(40) % 2], torch.ones(40))
    draws = laplace.draw(500, seed=1)
    along, across = torch.tensor([[3.0, 0, 0, 0]]), torch.tensor([[0, 0, 3.0, 0]])
    drawn = [draws.logits(row, torch.zeros(1, 2))[0] for row in (along / 3, along, across)]
    spread = [float((each[:, 0] - each[:, 1]).std()) for each in drawn]
    assert spread[0] < spread[1] < spread[2] / 2


def test_laplace_draws_have_the_closed_form_variance_around_the_trained_logits():
    features, logits, targets, weights = problem(6)
    laplace = posterior(features, logits, targets, weights)
    rows, trained = features[:, :-1].float(), logits.float()
    drawn = laplace.draw(20_000, seed=3).logits(rows, trained).double()  # (6, K, 3)
    blocks = torch.from_numpy(covariance(laplace)).view(3, 5, 3, 5)
    expected = torch.einsum("nd,cdef,nf->nce", features, blocks, features)
    deviation = expected.diagonal(dim1=1, dim2=2).sqrt()
    assert bool(((drawn.mean(1) - logits).abs() < 5 * deviation / 20_000**0.5).all())
    centred = drawn - drawn.mean(1, keepdim=True)
    found = torch.einsum("nkc,nke->nce", centred, centred) / 20_000
    scale = deviation[:, :, None] * deviation[:, None]
    assert bool(((found - expected).abs() < 5 * 2**0.5 * scale / 20_000**0.5).all())


def test_laplace_draws_follow_their_seed():
    laplace = posterior(*problem(6))
    one, same, other = (laplace.draw(3, seed).weight for seed in (1, 1, 2))
    assert torch.equal(one, same)
    assert not torch.allclose(one, other)


def test_rows_that_weigh_nothing_teach_laplace_nothing():
    features, logits, targets, weights = problem(8)
    weights[5:] = 0.0
    every, some = (
        covariance(posterior(*(part[:stop] for part in (features, logits, targets, weights)))) for stop in (8, 5)
    )
    np.testing.assert_allclose(every, some, atol=1e-5)


# Bootstrap


def test_layers_of_a_bootstrap_are_logistic_regressions_on_repeated_rows():
    features, _, targets, _ = problem(30, seed=4)
    counts = resamples(targets, 3, seeded(), multilabel=False)
    found = fit_heads(features, targets, counts, penalty=0.5, multilabel=False)
    for layer, count in zip(found, counts, strict=True):
        rows = torch.arange(30).repeat_interleave(count)
        theirs = LogisticRegression(C=2.0, fit_intercept=False, tol=1e-9, max_iter=1000)
        theirs.fit(features[rows].numpy(), targets[rows].argmax(1).numpy())
        torch.testing.assert_close(layer, torch.from_numpy(theirs.coef_), atol=1e-4, rtol=1e-3)


def test_a_layer_decides_among_the_classes_that_it_has_seen():
    features, _, targets, _ = problem(30, seed=4)
    counts = torch.ones(2, 30, dtype=torch.int64)
    counts[1, targets[:, 1] > 0] = 0  # the second has not seen class 1
    seen = torch.tensor([[True, True, True], [True, False, True]])
    found = fit_heads(features, targets, counts, penalty=0.5, multilabel=False, seen=seen)
    rows = (targets[:, 1] == 0).nonzero().flatten()
    # each of two classes carries half of the difference, so both together pay half the penalty for it
    theirs = LogisticRegression(C=2 / 0.5, fit_intercept=False, tol=1e-9, max_iter=1000)
    theirs.fit(features[rows].numpy(), targets[rows].argmax(1).numpy())
    difference = found[1, 2] - found[1, 0]
    torch.testing.assert_close(difference, torch.from_numpy(theirs.coef_)[0], atol=1e-4, rtol=1e-3)
    assert bool((found[1, 1] == 0).all())
    alone = fit_heads(features, targets, counts[:1], penalty=0.5, multilabel=False)[0]
    torch.testing.assert_close(found[0], alone, atol=1e-4, rtol=1e-3)


def test_multilabel_layers_are_one_regression_per_class():
    features, _, targets, _ = problem(30, multilabel=True, seed=2)
    found = fit_heads(features, targets, torch.ones(1, 30), penalty=0.5, multilabel=True)[0]
    for code in range(3):
        theirs = LogisticRegression(C=2.0, fit_intercept=False, tol=1e-9, max_iter=1000)
        theirs.fit(features.numpy(), targets[:, code].numpy())
        torch.testing.assert_close(found[code], torch.from_numpy(theirs.coef_)[0], atol=1e-4, rtol=1e-3)


def test_fewer_rows_than_features_and_blocks_of_layers_change_nothing(monkeypatch: pytest.MonkeyPatch):
    features, _, targets, _ = problem(12, width=20)
    counts = resamples(targets, 5, seeded(), multilabel=False)
    together = fit_heads(features, targets, counts, penalty=0.5, multilabel=False)
    monkeypatch.setattr("dal.learners.heads.head_posteriors._BLOCK", 1)
    torch.testing.assert_close(
        fit_heads(features, targets, counts, penalty=0.5, multilabel=False), together, atol=1e-5, rtol=1e-4
    )


def test_a_class_that_a_member_has_not_seen_keeps_its_place_and_a_floor():
    """Member 0 knows classes 0 and 2 with odds 1 : 3, member 1 knows all."""
    logits = torch.tensor([[[0.0, 99.0, np.log(3.0)], [1.0, 2.0, 3.0]]])
    seen = torch.tensor([[True, False, True], [True, True, True]])
    found = with_unseen(logits, seen)
    assert torch.equal(found[:, 1], logits[:, 1])
    expected = np.array([0.25, FLOOR, 0.75]) / (1 + FLOOR)
    np.testing.assert_allclose(found[0, 0].softmax(-1).numpy(), expected, rtol=1e-5)
    written = reference.aligned(np.array([0.0, np.log(3.0)]), [0, 2], 3, FLOOR)
    np.testing.assert_allclose(written, expected, rtol=1e-6)


def test_members_without_a_class_are_aligned_with_those_that_have_it():
    features, logits, targets, _ = problem(20)
    rare = torch.cat([(targets[:, 0] > 0).nonzero()[:1], (targets[:, 0] == 0).nonzero()]).flatten()
    bootstrap = posterior(features[rare], logits[rare], targets[rare], torch.ones(len(rare)), "bootstrap", samples=30)
    assert isinstance(bootstrap, Bootstrap)
    without = ~bootstrap.seen[:, 0]
    assert 5 <= int(without.sum()) <= 20  # a row is missing from 37 % of all resamples
    drawn = bootstrap.draw(30, 0).logits(features[:, :-1].float(), logits.float()).softmax(-1)
    torch.testing.assert_close(drawn[:, without, 0], torch.full_like(drawn[:, without, 0], FLOOR / (1 + FLOOR)))
    assert bool((drawn[:, ~without, 0] > 10 * FLOOR).any(0).all())
    raw = features[:, :-1].float() @ bootstrap.weight[without][0].T + bootstrap.bias[without][0]
    written = [reference.aligned(row[1:].numpy(), [1, 2], 3, FLOOR) for row in raw.double()]
    np.testing.assert_allclose(drawn[:, without][:, 0].numpy(), np.array(written), atol=1e-6)


def test_members_of_a_bootstrap_differ_and_follow_the_seed_of_the_fit():
    parts = problem(20)
    one, same, other = (posterior(*parts, "bootstrap", seed=seed) for seed in (1, 1, 2))
    assert torch.equal(one.weight, same.weight)
    assert not torch.allclose(one.weight, other.weight)
    assert len(one.weight.unique(dim=0)) == 4
    assert torch.equal(one.draw(4, 0).weight, one.draw(4, 1).weight)


def test_resamples_are_drawn_with_replacement_and_hold_two_classes():
    targets = F.one_hot(torch.tensor([0] * 9 + [1]), 3).float()
    counts = resamples(targets, 200, seeded(), multilabel=False)
    assert counts.shape == (200, 10)
    assert bool((counts.sum(1) == 10).all())
    assert bool((counts[:, 9] > 0).all())  # the only row of its class
    assert not torch.equal(counts[0], counts[1])
    free = resamples(targets, 2000, seeded(), multilabel=True)
    assert float((free == 0).float().mean()) == pytest.approx(0.9**10, abs=0.02)


def test_resamples_of_rows_of_which_all_but_one_weigh_nothing_hold_that_one():
    targets, weights = F.one_hot(torch.tensor([0, 1, 1, 0]), 2).float(), torch.tensor([0.0, 0.0, 2.0, 0.0])
    for multilabel in (False, True):
        counts = resamples(targets, 20, seeded(), multilabel=multilabel, weights=weights)
        assert bool((counts[:, 2] > 0).all())


def test_a_bootstrap_of_one_class_is_sure_of_it_and_finite():
    features, logits, _, weights = problem(4)
    targets = F.one_hot(torch.ones(4, dtype=torch.int64), 3).double()
    drawn = posterior(features, logits, targets, weights, "bootstrap").draw(4, 0)
    probs = drawn.logits(features[:, :-1].float(), logits.float()).softmax(-1)
    assert bool(torch.isfinite(probs).all())
    assert bool((probs[..., 1] > 0.999).all())


# The probe


def vectors(multilabel=False):
    x, y = material.clusters(120, spread=3.0)
    labels = torch.stack([y == code for code in range(4)], 1) if multilabel else y
    return Rows.from_inputs(x, labels, ("a", "b", "c", "d"), multilabel=multilabel)


@pytest.mark.parametrize("multilabel", [False, True])
def test_the_probe_offers_bootstrap_members_and_keeps_them(multilabel, tmp_path: Path):
    rows = vectors(multilabel)
    learner = ProbeLearner(model=None, posterior="bootstrap", samples=6, device="cpu")
    data = learner.prepare(rows)
    predictor = learner.fit(data, torch.arange(40), rows.labels[:40], seed=0)
    names = {"mc_logits", "joint_mc_logits", "mutual_information", "logits"}
    outputs = predictor.outputs(data, names=names, seed=1)
    assert outputs.mc_logits.shape == (120, 6, 4)
    assert torch.equal(outputs.mc_logits, outputs.joint_mc_logits)
    assert float(outputs.mutual_information.mean()) > 0
    assert torch.equal(outputs.mc_logits, predictor.outputs(data, names=names, seed=2).mc_logits)
    predictor.save(tmp_path / "model")
    again = learner.load(tmp_path / "model", data).outputs(data, names=names)
    assert torch.equal(again.mc_logits, outputs.mc_logits)
    plain = dataclasses.replace(learner, posterior="laplace").fit(data, torch.arange(40), rows.labels[:40], seed=5)
    assert torch.equal(plain.outputs(data).logits, outputs.logits)


@pytest.mark.parametrize("multilabel", [False, True])
def test_the_bootstrapped_probe_conforms(multilabel):
    assert check_learner(ProbeLearner(model=None, posterior="bootstrap", samples=5), vectors(multilabel)).ok


# Networks


class Plain(ActiveModule):
    """Two layers and no dropout at all."""

    def __init__(self, classes: int, multilabel: bool) -> None:
        super().__init__(classes, multilabel=multilabel, learning_rate=1e-2)
        self.body = nn.Sequential(nn.Linear(16, 8), nn.Tanh())
        self.last = nn.Linear(8, classes)

    def features(self, batch):
        return self.body(batch["inputs"])

    def head(self, features):
        with torch.autocast("cpu", enabled=False):
            return self.last(features.float())


MODES = ("laplace", "bootstrap")
NAMES = {"logits", "features", "mc_logits", "joint_mc_logits", "mutual_information"}


@functools.cache
def network(mode, multilabel=False, **options):
    rows = vectors(multilabel)
    learner = ModuleLearner(
        Plain, min_steps=30, epochs=1, samples=5, mc_mode=mode, precision="float32", device="cpu", **options
    )
    data = learner.prepare(rows)
    return learner, data, learner.fit(data, torch.arange(40), rows.labels[:40], seed=0)


def own_network(mode):
    """One to write to."""
    _, data, predictor = network(mode)
    return data, copy.deepcopy(predictor)


@pytest.mark.parametrize("multilabel", [False, True])
@pytest.mark.parametrize("mode", MODES)
def test_a_network_without_dropout_gets_samples_that_are_one_function_for_all_rows(mode, multilabel, tmp_path: Path):
    learner, data, predictor = network(mode, multilabel)
    outputs = predictor.outputs(data, names=NAMES, seed=1)
    assert outputs.mc_logits.shape == (120, 5, 4)
    assert float(outputs.mc_logits.std(1).mean()) > 0
    some = predictor.outputs(data, torch.tensor([7, 3, 7]), NAMES, seed=1)
    torch.testing.assert_close(some.mc_logits, outputs.mc_logits[[7, 3, 7]])
    torch.testing.assert_close(some.joint_mc_logits, some.mc_logits)
    predictor.save(tmp_path / "model")
    again = learner.load(tmp_path / "model", data).outputs(data, names=NAMES, seed=1)
    assert torch.equal(again.mc_logits, outputs.mc_logits)


@pytest.mark.parametrize("mode", ["head", "full", None])
def test_dropout_is_refused_with_the_last_layer_as_a_way_out(mode):
    _, data, predictor = network(mode)
    with pytest.raises(LearnerError, match=r"no dropout.*mc_mode='laplace' or 'bootstrap'.*committee"):
        predictor.outputs(data, names={"mc_logits"})


def test_laplace_samples_of_a_network_surround_its_logits_and_follow_the_seed_of_the_pass():
    data, predictor = own_network("laplace")
    predictor._samples = 3000
    outputs = predictor.outputs(data, torch.arange(10), {"logits", "mc_logits"}, seed=1)
    error = outputs.mc_logits.std(1) / 3000**0.5
    assert bool(((outputs.mc_logits.mean(1) - outputs.logits).abs() < 5 * error).all())
    assert not torch.equal(
        predictor.outputs(data, torch.arange(10), {"mc_logits"}, seed=2).mc_logits, outputs.mc_logits
    )


def test_a_network_runs_once_per_row_whatever_the_samples():
    _, data, predictor = network("laplace")
    seen = []
    handle = predictor.module.body.register_forward_hook(lambda module, args, out: seen.append(len(out)))
    predictor.outputs(data, names=NAMES)
    handle.remove()
    assert sum(seen) == len(data)


def test_the_scale_of_features_does_not_matter_to_draws():
    data, predictor = own_network("laplace")
    module, rows = predictor.module, vectors()

    def spread():
        layer = fit_last_layer(
            module,
            data,
            torch.arange(40),
            F.one_hot(rows.labels[:40], 4).float(),
            drawn_by="laplace",
            precision=0.1,
            samples=5,
            seed=0,
            weights=None,
            class_weights=None,
            token_budget=100,
        )
        drawn = DrawnNetwork(module, layer, 5, 0)
        return drawn.compute(data.batch(range(120)), {"mc_logits"}, samples=5, generator=seeded())["mc_logits"].std(1)

    with torch.no_grad():
        before = spread()
        module.last.weight /= 100.0
        module.body.append(nn.Linear(8, 8, bias=True))
        module.body[-1].weight.copy_(100 * torch.eye(8))
        module.body[-1].bias.zero_()
        torch.testing.assert_close(spread(), before, rtol=1e-3, atol=1e-3)


def test_features_that_are_all_alike_give_finite_samples():
    data, predictor = own_network("laplace")
    for parameter in predictor.module.body.parameters():
        parameter.data.zero_()
    for mode in MODES:
        predictor.layer = fit_last_layer(
            predictor.module,
            data,
            torch.arange(40),
            F.one_hot(vectors().labels[:40], 4).float(),
            drawn_by=mode,
            precision=0.1,
            samples=5,
            seed=0,
            weights=None,
            class_weights=None,
            token_budget=100,
        )
        assert bool(torch.isfinite(predictor.outputs(data, names={"mc_logits"}).mc_logits).all())


def test_heads_follow_the_weights_of_the_training():
    targets = torch.tensor([[1.0, 0.0], [0.0, 1.0], [0.0, 1.0]])
    weights, by_class = torch.tensor([1.0, 2.0, 3.0]), torch.tensor([4.0, 0.5])
    assert answer_weights(targets, weights, None, False).tolist() == [1.0, 2.0, 3.0]
    assert answer_weights(targets, weights, by_class, False).tolist() == [4.0, 1.0, 1.5]
    assert answer_weights(targets, None, by_class, True).tolist() == [[4.0, 1.0], [1.0, 0.5], [1.0, 0.5]]
    assert bool(torch.isfinite(network("bootstrap", True, class_weights="balanced")[2].layer.posterior.weight).all())
    rows = vectors()
    learner, data, _ = network("bootstrap")
    blind = learner.fit(data, torch.arange(40), rows.labels[:40], seed=0, weights=(rows.labels[:40] != 2).float())
    assert not bool(blind.layer.posterior.seen[:, 2].any())


def test_a_network_with_draws_conforms():
    learner = ModuleLearner(Plain, min_steps=3, max_steps=3, samples=4, mc_mode="laplace", device="cpu")
    assert check_learner(learner, vectors()).ok


def test_a_folder_without_draws_is_refused_where_they_are_wanted(tmp_path: Path):
    learner, data, predictor = network(None)
    predictor.save(tmp_path / "model")
    with pytest.raises(LearnerError, match="without samples of its last layer"):
        dataclasses.replace(learner, mc_mode="laplace").load(tmp_path / "model", data)


@pytest.mark.parametrize("fields", [{"prior_precision": 0.0}, {"samples": 1}])
def test_senseless_options_are_refused(fields):
    with pytest.raises(ConfigError):
        ModuleLearner(Plain, **fields)


@pytest.mark.parametrize("mode", MODES)
def test_a_transformer_draws_its_last_layer_and_its_folder_stays_a_hugging_face_one(
    mode, tiny_bert: Path, tmp_path: Path
):
    from transformers import pipeline

    rows = Rows.from_inputs(*material.tickets(60))
    learner = TransformerLearner(
        str(tiny_bert), min_steps=4, max_steps=4, samples=4, mc_mode=mode, dropout=0.0, precision="float32"
    )
    data = learner.prepare(rows)
    predictor = learner.fit(data, torch.arange(30), rows.labels[:30], seed=0)
    outputs = predictor.outputs(data, names=NAMES, seed=1)
    assert outputs.joint_mc_logits.shape == (60, 4, 4)
    predictor.save(tmp_path / "model")
    predictor.save(tmp_path / "model")
    assert [path.name for path in tmp_path.iterdir()] == ["model"]
    again = learner.load(tmp_path / "model", data).outputs(data, names=NAMES, seed=1)
    torch.testing.assert_close(again.mc_logits, outputs.mc_logits, atol=1e-5, rtol=1e-5)
    answer = pipeline("text-classification", str(tmp_path / "model"), device="cpu")(rows.texts()[0])[0]
    assert answer["label"] == rows.classes[int(outputs.logits[0].argmax())]
    lowered = dataclasses.replace(learner, precision="bfloat16")._predictor(predictor.module, predictor.layer)
    assert lowered.outputs(data, names=NAMES).mc_logits.dtype == torch.float32
