"""The contract is not about text: a small CNN on scikit-learn's digits."""

from pathlib import Path

import pytest
import torch
from sklearn.datasets import load_digits
from torch import nn

from dal.data import Rows
from dal.learners.module import ModuleLearner
from dal.modules.base import ActiveModule

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
