"""A committee of any learner: K seeds or K resamples, one pass each, and nothing that does not hang together."""

import dataclasses
from pathlib import Path

import material
import numpy as np
import pytest
import torch
from reference import heads as reference
from torch import nn

from dal.config import build as building
from dal.config import settings_tree as tree
from dal.config.stored import describe
from dal.data import Rows
from dal.errors import ConfigError, LearnerError, NeedError
from dal.experiments.experiment import Experiment
from dal.learner import Monitor
from dal.learners.committee_learner import CommitteeLearner, CommitteePredictor, consensus
from dal.learners.module_learner import ModuleLearner
from dal.learners.probe_learner import ProbeLearner
from dal.learners.transformer_learner import TransformerLearner
from dal.modules.active_module import ActiveModule
from dal.outputs import log_probs
from dal.testing import check_learner

pytestmark = pytest.mark.filterwarnings("ignore:`isinstance.treespec, LeafSpec.` is deprecated")
PROBES = CommitteeLearner(ProbeLearner(model=None, device="cpu"), members=3, bootstrap=True)


class Plain(ActiveModule):
    def __init__(self, classes: int, multilabel: bool) -> None:
        super().__init__(classes, multilabel=multilabel, learning_rate=1e-2)
        self.last = nn.Linear(16, classes)

    def features(self, batch):
        return batch["inputs"]

    def head(self, features):
        with torch.autocast("cpu", enabled=False):
            return self.last(features.float())


NETWORKS = CommitteeLearner(
    ModuleLearner(Plain, min_steps=4, max_steps=4, precision="float32", device="cpu"), members=3
)


class Watch(Monitor):
    def __init__(self) -> None:
        self.begun, self.done = [], 0

    def started(self, what, total):
        self.begun.append((what, total))

    def advanced(self, count):
        self.done += count


def vectors(multilabel=False):
    x, y = material.clusters(100, spread=3.0)
    labels = torch.stack([y == code for code in range(4)], 1) if multilabel else y
    return Rows.from_inputs(x, labels, ("a", "b", "c", "d"), multilabel=multilabel)


def fitted(learner, multilabel=False, seed=0, **options):
    rows = vectors(multilabel)
    data = learner.prepare(rows)
    return data, learner.fit(data, torch.arange(40), rows.labels[:40], seed=seed, **options)


@pytest.fixture(scope="module")
def networks():
    return fitted(NETWORKS)


@pytest.mark.parametrize("multilabel", [False, True])
def test_the_consensus_is_the_mean_probability(multilabel):
    votes = 3 * torch.randn(20, 5, 4, generator=torch.Generator().manual_seed(0))
    found = consensus(votes, multilabel)
    probs = found.sigmoid() if multilabel else found.softmax(-1)
    expected = reference.mean_probability(votes.double().numpy(), multilabel)
    np.testing.assert_allclose(probs.numpy(), expected, atol=1e-6)


@pytest.mark.parametrize("multilabel", [False, True])
def test_the_consensus_of_members_that_are_sure_is_finite(multilabel):
    votes = torch.tensor([[[-1e4, 1e4], [-1e4, 1e4]], [[-torch.inf, 0.0], [0.0, -torch.inf]]])
    assert bool(torch.isfinite(consensus(votes, multilabel)).all())


@pytest.mark.parametrize("multilabel", [False, True])
def test_outputs_are_the_members_side_by_side(multilabel):
    data, predictor = fitted(PROBES, multilabel)
    names = {"logits", "mc_logits", "joint_mc_logits", "embeddings"}
    outputs = predictor.outputs(data, torch.tensor([5, 0, 9]), names)
    for number, member in enumerate(predictor.members):
        expected = member.outputs(data, torch.tensor([5, 0, 9])).logits
        torch.testing.assert_close(outputs.mc_logits[:, number], expected)
    assert torch.equal(outputs.joint_mc_logits, outputs.mc_logits)
    assert torch.equal(outputs.embeddings, data.inputs[[5, 0, 9]])
    mean = log_probs(outputs.mc_logits, multilabel).exp().mean(1)
    torch.testing.assert_close(log_probs(outputs.logits, multilabel).exp(), mean)


def test_members_differ_and_follow_the_seed():
    votes = []
    for seed in (1, 1, 2):
        data, predictor = fitted(PROBES, seed=seed)
        votes.append(predictor.outputs(data, names={"mc_logits"}).mc_logits)
    assert torch.equal(votes[0], votes[1])
    assert not torch.allclose(votes[0], votes[2])
    assert bool((votes[0].std(1).mean(0) > 0).all())
    assert not torch.allclose(votes[0][:, 0], votes[0][:, 1])


def test_members_of_different_seeds_differ_and_a_further_one_leaves_the_first_as_they_were(networks):
    data, predictor = networks
    votes = predictor.outputs(data, names={"mc_logits"}).mc_logits
    assert not torch.allclose(votes[:, 0], votes[:, 1])
    assert not torch.allclose(votes[:, 1], votes[:, 2])
    _, fewer = fitted(dataclasses.replace(NETWORKS, members=2))
    assert torch.equal(fewer.outputs(data, names={"mc_logits"}).mc_logits, votes[:, :2])


def test_members_that_do_not_depend_on_the_seed_are_refused_with_what_to_do():
    with pytest.raises(LearnerError, match=r"ProbeLearner does not depend on its seed: set bootstrap=true"):
        fitted(dataclasses.replace(PROBES, bootstrap=False))


def test_reductions_are_folded_in_blocks_of_rows_as_in_one(monkeypatch: pytest.MonkeyPatch):
    data, predictor = fitted(PROBES)
    names = {"mutual_information", "vote_counts", "probs"}
    whole = predictor.outputs(data, names=names)
    monkeypatch.setattr("dal.learners.committee_learner._ROWS", 7)
    parts = predictor.outputs(data, names=names)
    for name in names:
        torch.testing.assert_close(parts[name], whole[name])
    assert int(whole.vote_counts.sum(1).unique()) == 3


def test_work_is_told_as_one_pass_over_all_members(networks):
    data, predictor = networks
    watch = Watch()
    predictor.outputs(data, names={"mutual_information"}, monitor=watch)
    assert watch.begun == [("pass", 300)]
    assert watch.done == 300


@pytest.mark.parametrize("name", ["features", "grads"])
def test_what_would_not_hang_together_is_not_offered(name):
    data, predictor = fitted(PROBES)
    assert name not in PROBES.provides
    with pytest.raises(NeedError, match=name):
        predictor.outputs(data, names={"logits", name})


def test_what_needs_no_training_is_that_of_the_recipe():
    data = PROBES.prepare(vectors())
    untrained = PROBES.untrained(data)
    assert PROBES.label_free == PROBES.learner.label_free
    assert torch.equal(untrained.outputs(data, names={"embeddings"}).embeddings, data.inputs)
    with pytest.raises(NeedError, match="before anything is fitted"):
        untrained.outputs(data)
    with pytest.raises(LearnerError, match="nothing to save"):
        untrained.save(Path("nowhere"))


def test_saved_members_come_back_from_folders_of_their_own(networks, tmp_path: Path):
    data, predictor = networks
    predictor.save(tmp_path / "model")
    assert sorted(path.name for path in (tmp_path / "model").iterdir()) == [
        "committee.json",
        *(f"member-{number}" for number in range(3)),
    ]
    names = {"logits", "mc_logits"}
    again = NETWORKS.load(tmp_path / "model", data)
    for name in names:
        assert torch.equal(again.outputs(data, names=names)[name], predictor.outputs(data, names=names)[name])
    with pytest.raises(LearnerError, match="holds 3 members, this committee has 4"):
        dataclasses.replace(NETWORKS, members=4).load(tmp_path / "model", data)


def test_each_member_goes_on_from_its_own_weights(networks):
    warm = dataclasses.replace(NETWORKS, learner=dataclasses.replace(NETWORKS.learner, warm_start=True))
    assert warm.warm_start
    assert not NETWORKS.warm_start
    _, before = networks
    _, after = fitted(warm, previous=before)
    assert isinstance(after, CommitteePredictor)
    moves = [
        [float((a.module.last.weight - b.module.last.weight).detach().abs().mean()) for b in before.members]
        for a in after.members
    ]
    assert [row.index(min(row)) for row in moves] == [0, 1, 2]


def test_resampled_rows_keep_their_weights():
    weights = (vectors().labels[:40] != 1).float()
    data, predictor = fitted(PROBES, weights=weights)
    assert bool((predictor.outputs(data).logits.argmax(1) != 1).all())


@pytest.mark.parametrize("multilabel", [False, True])
def test_committees_conform(multilabel):
    assert check_learner(PROBES, vectors(multilabel)).ok


@pytest.mark.parametrize("fields", [{"members": 1}, {"members": 0}])
def test_a_committee_of_one_is_refused(fields):
    with pytest.raises(ConfigError, match="at least 2"):
        CommitteeLearner(ProbeLearner(), **fields)


def test_a_config_names_a_committee_and_its_recipe(tmp_path: Path):
    path = tmp_path / "run.yaml"
    path.write_text(
        "data: {path: a.csv}\nstrategy: BALD\n"
        "learner: {CommitteeLearner: {learner: {TransformerLearner: {mc_mode: laplace, epochs: 2}}, members: 4}}\n"
    )
    options = tree.options([("learner.bootstrap", "true"), ("learner.learner.prior_precision", "0.5")])
    made, _ = building.build(Experiment, tree.read(path), options)
    recipe = TransformerLearner(mc_mode="laplace", epochs=2, prior_precision=0.5)
    assert made.learner == CommitteeLearner(recipe, members=4, bootstrap=True)
    assert describe(made.learner)["init_args"]["learner"]["init_args"]["mc_mode"] == "laplace"


def no_room(monkeypatch: pytest.MonkeyPatch, times: int, words: str = "CUDA out of memory. Tried to allocate 3 GiB"):
    """Stands for a device that has no room to put the members' logits together, so many times."""
    whole, left = torch.stack, [times]

    def stack(*arguments, **options):
        left[0] -= 1
        if left[0] >= 0:
            raise RuntimeError(words)
        return whole(*arguments, **options)

    monkeypatch.setattr(torch, "stack", stack)


def trained_probes():
    rows = Rows.from_inputs(*material.clusters(80))
    data = PROBES.prepare(rows)
    return data, PROBES.fit(data, torch.arange(40), rows.labels[:40], seed=0)


def test_members_that_a_device_has_no_room_for_together_are_put_together_on_the_cpu(monkeypatch):
    data, predictor = trained_probes()
    names = {"logits", "mc_logits", "mutual_information", "embeddings"}
    expected = predictor.outputs(data, names=names)
    no_room(monkeypatch, 1)
    got = predictor.outputs(data, names=names)
    for name in names:
        torch.testing.assert_close(got[name], expected[name])


def test_members_that_no_memory_has_room_for_are_said_in_one_line(monkeypatch):
    data, predictor = trained_probes()
    no_room(monkeypatch, 10)
    with pytest.raises(LearnerError, match="the logits of 3 members on 80 rows do not fit into memory: use fewer"):
        predictor.outputs(data)


def test_another_error_of_the_members_is_not_taken_for_lack_of_memory(monkeypatch):
    data, predictor = trained_probes()
    no_room(monkeypatch, 1, "stack expects each tensor to be equal size")
    with pytest.raises(RuntimeError, match="equal size"):
        predictor.outputs(data)
