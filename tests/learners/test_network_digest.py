"""The digest of a network is equal for equal networks, and changes with whatever may change an output."""

import sys
import threading
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import material
import pytest
import torch
from torch import nn
from torch.nn import functional as F

from dal.data import Rows
from dal.learners.heads.last_layer import DrawnNetwork
from dal.learners.module_learner import ModuleLearner
from dal.learners.network_digest import network_digest
from dal.learners.transformer_learner import TransformerLearner
from dal.modules.active_module import ActiveModule


class Net(ActiveModule):
    def __init__(self, classes: int = 3, multilabel: bool = False) -> None:
        super().__init__(classes, multilabel=multilabel)
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)
            self.body = nn.Sequential(nn.Linear(6, 16), nn.ReLU(), nn.Dropout(0.2))
            self.last = nn.Linear(16, classes)
        self.power, self._shift, self.steps = 2, 0.5, [1, {"a": 2.0}]
        self.table, self.activation = torch.ones(3), F.relu
        self.words, self.later = {8, 0}, partial(torch.clamp, min=0.0)
        self.others = [nn.Linear(2, 2, bias=False)]  # in a list, and so not a part of the state dict
        self.others[0].weight.data.zero_()
        self.register_buffer("offset", torch.zeros(2), persistent=False)

    def features(self, batch):
        return self.body(batch["inputs"])

    def head(self, features):
        return self.last(features.float())


CHANGES: dict[str, Callable[[Net], Any]] = {
    "weight": lambda net: net.last.weight.data[0, 0].add_(1),
    "option of a layer": lambda net: setattr(net.body[2], "p", 0.3),
    "attribute": lambda net: setattr(net, "power", 3),
    "private attribute": lambda net: setattr(net, "_shift", 0.6),
    "value within a list": lambda net: net.steps[1].update(a=3.0),
    "tensor that is no parameter": lambda net: net.table.add_(1),
    "buffer that is not saved": lambda net: net.offset.add_(1),
    "function": lambda net: setattr(net, "activation", F.gelu),
    "option of a function": lambda net: setattr(net, "later", partial(torch.clamp, min=0.1)),
    "set": lambda net: net.words.add(1),
    "network within a list": lambda net: net.others[0].weight.data.add_(1),
    "hyperparameters": lambda net: net.save_hyperparameters({"scale": 2}),
    "hook": lambda net: net.last.register_forward_hook(material.tickets),
    "layer": lambda net: setattr(net, "body", nn.Sequential(net.body[0], nn.GELU(), net.body[2])),
}


@pytest.mark.parametrize("change", CHANGES)
def test_what_may_change_an_output_changes_it(change):
    net, other = Net(), Net()
    other.words = {0, 8}  # another order in memory
    assert network_digest(net) == network_digest(other)
    CHANGES[change](other)
    assert network_digest(net) != network_digest(other)


def test_training_mode_does_not_change_it():
    net = Net()
    before = network_digest(net.train())
    assert network_digest(net.eval()) == before


@pytest.mark.parametrize("value", [lambda x: x, threading.Lock(), None], ids=["lambda", "lock", "loop"])
def test_network_without_a_digest_is_refused(value):
    net = Net()
    net.value = value or [net]
    with pytest.raises(Exception, match=r"pickle|[Rr]ecursion"):
        network_digest(net)


def test_code_is_a_part_of_it(tmp_path, monkeypatch):
    """Also that of functions which the code of the network calls from another file."""
    (tmp_path / "own_steps.py").write_text("def double(x):\n    return 2 * x\n", encoding="utf-8")
    (tmp_path / "own_network.py").write_text(
        "from torch import nn\nfrom own_steps import double\n\n\nclass Own(nn.Module):\n    def forward(self, x):\n"
        "        return double(x)\n",
        encoding="utf-8",
    )
    monkeypatch.syspath_prepend(str(tmp_path))
    found = []
    for change in (None, "own_steps", "own_network"):
        if change is not None:
            with open(tmp_path / f"{change}.py", "a", encoding="utf-8") as file:
                file.write("\n\nCHANGED = True\n")
        for name in ("own_steps", "own_network"):
            sys.modules.pop(name, None)
        found.append(network_digest(__import__("own_network").Own()))
    assert len(set(found)) == 3


@pytest.mark.parametrize("options", [{}, {"mc_mode": "laplace"}, {"trunk": "cached", "layers": 1}], ids=str)
def test_saved_transformer_is_recognised(tiny_bert, tmp_path, options):
    learner = TransformerLearner(
        str(tiny_bert), max_length=24, min_steps=2, max_steps=2, device="cpu", trainer=material.silent_trainer()
    )
    recognised(replace(learner, learning_rate=None, **options), Rows.from_inputs(*material.tickets(20)), tmp_path)


@pytest.mark.parametrize("options", [{}, {"mc_mode": "bootstrap"}], ids=str)
def test_saved_module_is_recognised(tmp_path, options):
    inputs = torch.randn(20, 6, generator=torch.Generator().manual_seed(0))
    learner = ModuleLearner(
        Net, min_steps=2, max_steps=2, device="cpu", trainer=material.silent_trainer(), samples=3, **options
    )
    recognised(learner, Rows.from_inputs(inputs, torch.arange(20) % 3), tmp_path)


def recognised(learner: Any, rows: Rows, folder: Path) -> None:
    data = learner.prepare(rows)
    labels = rows.labels
    first, second = (learner.fit(data, torch.arange(len(rows)), labels, seed=1) for _ in range(2))
    first.save(folder / "model")
    loaded = learner.load(folder / "model", data)
    assert network_digest(first.module) == network_digest(second.module) == network_digest(loaded.module)
    if first.layer is not None:
        drawn, again = (DrawnNetwork(each.module, each.layer, 3, 1) for each in (first, loaded))
        assert drawn.draws is not None
        assert network_digest(drawn) == network_digest(again)
        assert network_digest(drawn) != network_digest(DrawnNetwork(first.module, first.layer, 3, 2))
