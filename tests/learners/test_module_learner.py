"""The contract is not about text: a small CNN on scikit-learn's digits."""

from pathlib import Path

import pytest
import torch
from sklearn.datasets import load_digits
from torch import nn

from dal.config import settings_tree as tree
from dal.config.build import build
from dal.data import Rows
from dal.errors import ConfigError, LearnerError
from dal.learners.module_learner import ModuleLearner
from dal.modules.active_module import ActiveModule
from dal.modules.linear import LinearClassifier
from dal.testing import learner_report

pytestmark = pytest.mark.filterwarnings("ignore:`isinstance.treespec, LeafSpec.` is deprecated")


class Net(ActiveModule):
    def __init__(self, classes: int, multilabel: bool) -> None:
        super().__init__(classes, multilabel=multilabel, learning_rate=3e-3)
        self.body = nn.Sequential(
            nn.Conv2d(1, 16, 3, padding=1),
            nn.ReLU(),
            nn.MaxPool2d(2),
            nn.Conv2d(16, 16, 3, padding=1),
            nn.ReLU(),
            nn.Flatten(),
            nn.Linear(256, 32),
            nn.ReLU(),
            nn.Dropout(0.2),
        )
        self.last = nn.Linear(32, classes)

    def features(self, batch):
        return self.body(batch["inputs"][:, None])

    def head(self, features):
        with torch.autocast("cpu", enabled=False):
            return self.last(features.float())


@pytest.fixture(scope="module")
def digits() -> Rows:
    images, labels = load_digits(return_X_y=True)
    return Rows.from_inputs(
        torch.from_numpy(images).float().reshape(-1, 8, 8)[:900] / 16, torch.from_numpy(labels[:900])
    )


@pytest.fixture(scope="module")
def trained(digits):
    learner = ModuleLearner(Net, samples=5)
    data = learner.prepare(digits)
    return learner, data, learner.fit(data, torch.arange(200), digits.labels[:200], seed=0)


def test_digits_are_learned(trained, digits):
    _, data, predictor = trained
    found = predictor.outputs(data, torch.arange(200, 900)).logits.argmax(1).cpu()
    assert (
        found == digits.labels[200:]
    ).float().mean() > 0.7  # the writers of the first 200 are others than of the rest


def test_digits_offer_all_that_strategies_read(trained):
    _, data, predictor = trained
    names = {"probs", "grads", "embeddings", "mutual_information", "joint_mc_logits"}
    outputs = predictor.outputs(data, torch.arange(20), names)
    assert outputs.grads.b.shape == (20, 32)
    assert outputs.embeddings.shape == (20, 64)
    assert outputs.joint_mc_logits.shape == (20, 5, 10)


def test_digits_come_back_from_a_folder(trained, tmp_path: Path):
    learner, data, predictor = trained
    predictor.save(tmp_path / "model")
    again = learner.load(tmp_path / "model", data)
    assert torch.equal(again.outputs(data, exact=True).logits, predictor.outputs(data, exact=True).logits)


def test_continued_training_keeps_the_weights(trained, digits):
    learner, data, predictor = trained
    from dataclasses import replace

    short = replace(learner, min_steps=1, epochs=1, max_steps=1, warm_start=True)
    warm = short.fit(data, torch.arange(200), digits.labels[:200], seed=1, previous=predictor)
    agreement = warm.outputs(data).logits.argmax(1) == predictor.outputs(data).logits.argmax(1)
    assert agreement.float().mean() > 0.8


class Plain(nn.Module):
    """A module that is no ActiveModule."""

    def __init__(self, classes: int, multilabel: bool) -> None:
        super().__init__()


class Narrow(Net):
    """A module that is not told whether rows may have several classes."""

    def __init__(self, classes: int) -> None:
        super().__init__(classes, False)


@pytest.mark.parametrize(
    ("build", "said"),
    [
        (lambda: Net(3, False), "a new one is built in every round: write ModuleLearner(Net) without parentheses"),
        (lambda: Plain(3, False), "not a module"),
        (lambda: Plain, "Plain is not an ActiveModule: derive your module from dal.modules.ActiveModule"),
        (lambda: ActiveModule, "ActiveModule does not define"),
        (lambda: Narrow, "Narrow is called as Narrow(classes, multilabel)"),
        (lambda: lambda: Net(3, False), "is called as <lambda>(classes, multilabel)"),
        (lambda: "Net", "build must be callable as build(classes, multilabel), not 'Net'"),
        (lambda: None, "not None"),
    ],
)
def test_what_makes_no_module_is_refused_at_once(build, said: str):
    with pytest.raises(ConfigError) as refused:
        ModuleLearner(build())
    assert said in str(refused.value)
    assert "\n" not in str(refused.value)


def test_a_function_that_makes_another_module_is_refused_in_the_first_fit(digits):
    learner = ModuleLearner(lambda classes, multilabel: Plain(classes, multilabel))
    with pytest.raises(LearnerError, match="build returned a Plain, but ModuleLearner trains an ActiveModule"):
        learner.fit(learner.prepare(digits), torch.arange(20), digits.labels[:20], seed=0)


def small_net(classes: int, multilabel: bool, width: int = 12, sizes: dict[str, int] | None = None) -> ActiveModule:
    return LinearClassifier(width, classes, multilabel=multilabel)


def test_a_learner_made_from_a_config_is_a_value_like_one_made_in_python():
    made = "{class_path: test_module_learner.small_net, init_args: {width: 12, sizes: {a: 1}}}"
    written = f"{{build: {made}, max_steps: 5, min_steps: 5}}"
    settings = tree.Node(tree.option(written, "learner.yaml").value, None, "learner.yaml")
    one, other = (build(ModuleLearner, settings)[0] for _ in range(2))
    assert one == other
    assert hash(one) == hash(other)
    assert {one: 1}[other] == 1
    assert learner_report(one)["value"].verdict == "passed"


class Tied(Net):
    """A network with a weight that two layers share, and a buffer that is infinite for a reason."""

    def __init__(self, classes: int, multilabel: bool) -> None:
        super().__init__(classes, multilabel)
        self.same = nn.Linear(self.last.in_features, classes)
        self.same.weight = self.last.weight
        self.register_buffer("mask", torch.full((2,), -torch.inf))


def test_shared_weights_and_infinite_buffers_come_back_from_a_folder(digits, tmp_path: Path):
    learner = ModuleLearner(Tied, max_steps=2, min_steps=1, samples=5)
    data = learner.prepare(digits)
    predictor = learner.fit(data, torch.arange(20), digits.labels[:20], seed=0)
    predictor.save(tmp_path / "model")
    again = learner.load(tmp_path / "model", data)
    assert torch.equal(again.outputs(data, exact=True).logits, predictor.outputs(data, exact=True).logits)
    assert again.module.same.weight is again.module.last.weight


def test_a_saved_module_of_another_shape_is_refused(trained, tmp_path: Path):
    _, data, predictor = trained
    predictor.save(tmp_path / "model")
    for other in (Tied, lambda classes, multilabel: LinearClassifier(64, classes)):
        with pytest.raises(LearnerError, match=r"\(module.safetensors\) is missing or damaged: it .*hold") as caught:
            ModuleLearner(other).load(tmp_path / "model", data)
        assert "\n" not in str(caught.value)
