"""Modules whose trunk runs once for all samples, and errors for those that define only a part of it."""

from typing import Any

import pytest
import torch
from torch import nn

from dal.errors import LearnerError
from dal.modules import ActiveModule


class Whole(ActiveModule):
    """A network that counts the rows that its trunk reads."""

    def __init__(self, mc_mode: Any = "head") -> None:
        super().__init__(3, mc_mode=mc_mode)
        self.body, self.last = nn.Sequential(nn.Linear(4, 8), nn.ReLU()), nn.Linear(8, 3)
        self.drop = nn.Dropout(0.5)
        self.read = 0

    def features(self, batch):
        return self.split(batch)[1]

    def head(self, features):
        return self.last(features)

    def trunk(self):
        return self.body

    def split(self, batch):
        self.read += len(batch["inputs"])
        found = self.body(batch["inputs"])
        return found, self.features_from_trunk(batch, found)

    def features_from_trunk(self, batch, trunk):
        return self.drop(trunk)


class WithoutSplit(Whole):
    split = ActiveModule.split

    def features(self, batch):
        return self.drop(self.body(batch["inputs"]))


class OnlyTrunk(WithoutSplit):
    features_from_trunk = ActiveModule.features_from_trunk


def samples(module: ActiveModule) -> torch.Tensor:
    return module.mc_logits({"inputs": torch.ones(5, 4)}, 6, torch.Generator().manual_seed(0))


def test_trunk_of_a_whole_definition_runs_once() -> None:
    module = Whole()
    found = samples(module)
    assert found.shape == (5, 6, 3)
    assert len(found[0].unique(dim=0)) > 1
    assert module.read == 5


@pytest.mark.parametrize(
    ("kind", "said"),
    [
        (
            WithoutSplit,
            "WithoutSplit defines features_from_trunk and trunk, and mc_mode='head' also needs def split(self, batch), "
            "which returns the output of the trunk and the features (B, D); mc_mode='full' needs none of them",
        ),
        (OnlyTrunk, "also needs def split(self, batch), .* and def features_from_trunk(self, batch, trunk), "),
    ],
)
def test_part_of_a_definition_says_what_to_define(kind: type[Whole], said: str) -> None:
    pattern = said.replace("(", r"\(").replace(")", r"\)")
    with pytest.raises(LearnerError, match=pattern):
        samples(kind())
    assert samples(kind(mc_mode="full")).shape == (5, 6, 3)


@pytest.mark.parametrize("name", ["trunk", "features", "head", "split", "features_from_trunk"])
def test_layers_in_place_of_a_method_are_refused(name: str) -> None:
    with pytest.raises(LearnerError, match=rf"^{name} is a method of ActiveModule, .* define def {name}\(self"):
        setattr(Whole(), name, nn.Linear(4, 3))
