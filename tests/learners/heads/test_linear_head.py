"""The posterior of a linear head is fitted when it is first read, once, and is what it would have been at the fit."""

from pathlib import Path
from types import SimpleNamespace

import material
import pytest
import torch

from dal.learners.committee_learner import CommitteeLearner
from dal.learners.heads import linear_head
from dal.learners.heads.linear_head import shifted
from dal.learners.probe_learner import ProbeLearner

KINDS = ("laplace", "bootstrap")


@pytest.fixture
def fits(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Kinds of the posteriors that are fitted."""
    found: list[str] = []
    fit = linear_head.fit_posterior

    def counted(*arguments, drawn_by, **options):
        found.append(drawn_by)
        return fit(*arguments, drawn_by=drawn_by, **options)

    monkeypatch.setattr(linear_head, "fit_posterior", counted)
    return found


def fitted(kind: str, multilabel: bool = False):
    inputs, labels = material.clusters(80, spread=2.0)
    truth = torch.nn.functional.one_hot(labels, 4).bool() if multilabel else labels
    learner = ProbeLearner(model=None, posterior=kind, samples=6, device="cpu")
    data = learner.prepare(
        SimpleNamespace(inputs=inputs, classes=tuple("abcd"), multilabel=multilabel, fingerprint="80")
    )
    return learner, data, learner.fit(data, torch.arange(30), truth[:30], seed=2)


def samples(predictor, data) -> torch.Tensor:
    return predictor.outputs(data, names={"mc_logits"}, seed=5).mc_logits


@pytest.mark.parametrize("kind", KINDS)
def test_posterior_is_fitted_for_samples_only_and_once(kind: str, fits: list[str]) -> None:
    _, data, predictor = fitted(kind)
    predictor.outputs(data, names={"logits", "features", "grads", "embeddings"})
    assert fits == []
    first = samples(predictor, data)
    assert fits == [kind]
    assert torch.equal(samples(predictor, data), first)
    predictor.outputs(data, names={"mutual_information", "joint_mc_logits"})
    assert fits == [kind]


@pytest.mark.parametrize("multilabel", [False, True])
@pytest.mark.parametrize("kind", KINDS)
def test_saved_folder_holds_the_posterior(kind: str, multilabel: bool, fits: list[str], tmp_path: Path) -> None:
    learner, data, predictor = fitted(kind, multilabel)
    predictor.save(tmp_path / "model")
    assert fits == [kind]
    loaded = learner.load(tmp_path / "model", data)
    assert torch.equal(samples(loaded, data), samples(predictor, data))
    loaded.save(tmp_path / "again")
    assert fits == [kind]
    files = [(tmp_path / name / "head.safetensors").read_bytes() for name in ("model", "again")]
    assert files[0] == files[1]


@pytest.mark.parametrize("kind", KINDS)
def test_shifted_heads_share_one_fit(kind: str, fits: list[str]) -> None:
    _, data, predictor = fitted(kind, multilabel=True)
    shift = torch.tensor([0.5, -1.0, 0.0, 2.0])
    moved = shifted(shifted(predictor.head, shift), -0.5 * shift)
    assert fits == []
    before = samples(predictor, data)
    predictor.head = moved
    torch.testing.assert_close(samples(predictor, data), before + 0.5 * shift, rtol=1e-5, atol=1e-5)
    assert fits == [kind]


def test_members_of_a_committee_fit_no_posterior(fits: list[str]) -> None:
    learner, data, _ = fitted("bootstrap")
    committee = CommitteeLearner(learner, members=3, bootstrap=True)
    predictor = committee.fit(data, torch.arange(30), material.clusters(80, spread=2.0)[1][:30], seed=0)
    assert samples(predictor, data).shape == (80, 3, 4)
    assert fits == []
