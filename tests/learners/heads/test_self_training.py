"""Self-training of a linear head: one pass against a slow reference, and when it is not used."""

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from dal import ProbeLearner, Rows
from dal.learners.heads import self_training
from dal.learners.heads.self_training import HeadFit, _Judged, _worse, self_train, student_layer
from dal.learners.probe_learner import adjustment_strength
from dal.learners.training.tensor_rows import prepare_tensors
from tests.reference import self_training as reference


def clusters(rows: int, seed: int, width: int = 6, classes: int = 3, noise: float = 0.6) -> tuple[Tensor, Tensor]:
    """Rows around one axis for each class, of norm 1 with a last column of ones, and their classes."""
    generator = torch.Generator().manual_seed(seed)
    labels = torch.arange(rows) % classes
    points = F.one_hot(labels, width).double() + noise * torch.randn(rows, width, generator=generator).double()
    return F.pad(F.normalize(points, dim=1), (0, 1), value=1.0), labels


def fit_of(prior: Tensor | None = None, final: float = 0.25) -> HeadFit:
    return HeadFit(0.1, prior, 0.5, final)


@pytest.mark.parametrize("final", [0.0, 0.25, 0.75])
def test_student_is_that_of_a_loop_over_the_rows(final: float) -> None:
    features, labels = clusters(12, 0)
    pool, _ = clusters(41, 1)
    targets = F.one_hot(labels, 3).double()
    generator = torch.Generator().manual_seed(2)
    weights = 0.5 + torch.rand(12, generator=generator).double()
    prior = torch.randn(3, 7, generator=generator).double()
    fit = fit_of(prior, final)
    teacher = fit.layer(features, targets, weights)
    found = student_layer(features, targets, weights, teacher, pool, fit)
    theirs = reference.student(*(t.numpy() for t in (features, targets, weights, pool)), 0.1, prior.numpy(), final)
    torch.testing.assert_close(found, torch.from_numpy(theirs), atol=2e-3, rtol=1e-3)


def test_student_is_more_accurate_where_the_classes_are_clusters() -> None:
    pool, truth = clusters(600, 1)
    gained = []
    for seed in range(5):
        features, labels = clusters(9, 10 + seed)
        targets, weights = F.one_hot(labels, 3).double(), torch.ones(9).double()
        teacher = fit_of().layer(features, targets, weights)
        trained = self_train(features, targets, weights, teacher, pool, fit_of())
        assert trained.layer is not None
        accuracies = [((pool @ layer.T).argmax(1) == truth).double().mean() for layer in (teacher, trained.layer)]
        gained.append(float(accuracies[1] - accuracies[0]))
    assert min(gained) > -0.01, gained
    assert sum(gained) / 5 > 0.02, gained


def test_student_is_as_sure_as_its_teacher() -> None:
    features, labels = clusters(12, 0)
    pool, _ = clusters(600, 1)
    targets, weights = F.one_hot(labels, 3).double(), torch.ones(12).double()
    teacher = fit_of().layer(features, targets, weights)
    trained = self_train(features, targets, weights, teacher, pool, fit_of())
    assert trained.layer is not None
    before, after = ((pool @ layer.T).softmax(1).amax(1).mean() for layer in (teacher, trained.layer))
    assert abs(float(before - after)) < 0.05


def test_small_pool_is_not_used() -> None:
    features, labels = clusters(12, 0)
    targets, weights = F.one_hot(labels, 3).double(), torch.ones(12).double()
    teacher = fit_of().layer(features, targets, weights)
    trained = self_train(features, targets, weights, teacher, clusters(49, 1)[0], fit_of(), always=True)
    assert trained.layer is None
    assert "50 are needed" in trained.text


def judged(right: str, likelihood: float) -> _Judged:
    return _Judged(torch.tensor([letter == "1" for letter in right]), likelihood)


@pytest.mark.parametrize(
    ("teacher", "student", "worse"),
    [
        (judged("1111100000", -5), judged("0000000000", -6), True),  # 5 lost, more than sqrt(5)
        (judged("1111100000", -5), judged("0000000000", -4), False),  # more likely all the same
        (judged("1100000000", -5), judged("1000000000", -6), False),  # one label may be chance
        (judged("1111111000", -5), judged("0000000111", -6), True),  # 7 lost, 3 won: 4 are more than sqrt(10)
        (judged("1111111000", -5), judged("0000001111", -6), False),  # 6 lost, 3 won: 3 are the standard error
        (judged("0000000000", -5), judged("1111100000", -6), False),
    ],
)
def test_held_out_labels_speak_against_a_student(teacher: _Judged, student: _Judged, worse: bool) -> None:
    assert _worse(teacher, student) is worse


def test_a_student_that_unlearns_rare_cases_is_not_used(monkeypatch: pytest.MonkeyPatch) -> None:
    features, labels = clusters(60, 0, noise=0.3)
    pool, _ = clusters(300, 1)
    targets, weights = F.one_hot(labels, 3).double(), torch.ones(60).double()
    teacher = fit_of().layer(features, targets, weights)
    monkeypatch.setattr(self_training, "student_layer", lambda f, t, w, layer, *rest, **options: layer.roll(1, 0))
    assert self_train(features, targets, weights, teacher, pool, fit_of()).layer is None
    assert self_train(features, targets, weights, teacher, pool, fit_of(), always=True).layer is not None
    few = self_train(features[:19], targets[:19], weights[:19], teacher, pool, fit_of())
    assert few.layer is not None  # too few labels to judge it


# In the probe


def described_vectors(labels: Tensor | None = None):
    """300 vectors around three axes with a description for each class, as `ProbeLearner` reads them."""
    points, truth = clusters(300, 3)
    data = Rows.from_inputs(points[:, :-1].float().numpy(), (truth if labels is None else labels).tolist())
    prepared = prepare_tensors(data)
    prepared.described = torch.eye(6)[:3], torch.arange(3)
    return prepared, truth


def test_probe_learns_from_the_pool_and_says_so() -> None:
    prepared, truth = described_vectors()
    rows = torch.arange(24)
    fitted = ProbeLearner(None).fit(prepared, rows, truth[rows], seed=0)
    alone = ProbeLearner(None, self_training=None).fit(prepared, rows, truth[rows], seed=0)
    notes = fitted.training_notes
    assert notes["self_training"] is True
    assert "self-training on 276 rows of the pool" in notes["text"]
    assert "self_training" not in alone.training_notes
    assert not torch.equal(fitted.head.weight, alone.head.weight)
    # Pseudo-labels are no evidence: the posterior is that of the labels.
    for name, value in vars(fitted.head.posterior).items():
        torch.testing.assert_close(value, getattr(alone.head.posterior, name))


def test_probe_does_not_read_the_labels_of_the_pool() -> None:
    prepared, truth = described_vectors()
    other, _ = described_vectors(torch.zeros(300, dtype=torch.int64).index_fill(0, torch.arange(3), 1) + truth % 2)
    other.classes = prepared.classes
    rows = torch.arange(24)
    first, second = (ProbeLearner(None).fit(data, rows, truth[rows], seed=0) for data in (prepared, other))
    torch.testing.assert_close(first.head.weight, second.head.weight)


def test_several_classes_a_row_are_not_self_trained() -> None:
    points, truth = clusters(300, 3)
    data = prepare_tensors(Rows.from_inputs(points[:, :-1].float().numpy(), [[int(c)] for c in truth], multilabel=True))
    data.described = torch.eye(6)[:3], torch.arange(3)
    rows = torch.arange(24)
    fitted = ProbeLearner(None).fit(data, rows, F.one_hot(truth[rows], 3).bool(), seed=0)
    assert "self_training" not in fitted.training_notes


def test_config_without_the_option_is_that_of_before() -> None:
    assert ProbeLearner.earlier_values["self_training"] is None
    assert ProbeLearner(None).self_training == "auto"


@pytest.mark.parametrize("objective", ["accuracy", "micro_f1", "macro_f1", "balanced_accuracy"])
def test_student_is_adjusted_less_than_a_head_of_labels(objective: str) -> None:
    strengths = [adjustment_strength(objective, self_trained=trained) for trained in (True, False)]  # type: ignore[arg-type]
    assert 0 < strengths[0] < strengths[1]
    assert adjustment_strength("log_loss", self_trained=True) == 0
