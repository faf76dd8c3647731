"""A long pass that was killed is resumed: finished batches are read from disk, and others computed."""

import errno
from pathlib import Path
from typing import Any

import material
import pytest
import torch
from thread_jobs import ThreadRanks

from dal.data import Rows
from dal.learners import inference, pass_store, rank_outputs
from dal.learners.pass_store import network_digest
from dal.learners.rank_outputs import keeping_wide_outputs
from dal.learners.ranks import sharing_with
from dal.learners.transformer_learner import TransformerLearner
from dal.store.cache_contents import cache_entries, remove_entry

N = 120
NAMES = frozenset({"logits", "features", "mutual_information"})


@pytest.fixture(scope="module")
def fitted(tiny_bert: Path) -> tuple[TransformerLearner, Any, Any]:
    """A learner, its fitted model, and the prepared rows."""
    learner = TransformerLearner(
        str(tiny_bert), max_length=24, min_steps=2, max_steps=2, samples=4, token_budget=120,
        device="cpu", precision="float32", trainer=material.silent_trainer(),
    )  # fmt: skip
    texts, labels = material.tickets(N)
    names = sorted(material.TOPICS)
    rows = Rows.from_inputs(texts, torch.tensor([names.index(label) for label in labels]), names)
    data = learner.prepare(rows)
    return learner, learner.fit(data, torch.arange(20), rows.labels[:20], seed=1), data


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty cache, in which all passes are stored."""
    monkeypatch.setenv("DAL_CACHE", str(tmp_path))
    monkeypatch.setattr(pass_store, "STORED", 1)
    return tmp_path


class Batches:
    """Counts the batches that a network computes, and ends the pass before one of them."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.computed, self.most, self._gathered = 0, 10**9, inference._gathered
        monkeypatch.setattr(inference, "_gathered", self)

    def __call__(self, *arguments: Any) -> bool:
        if self.computed == self.most:
            raise KeyboardInterrupt
        self.computed += 1
        return self._gathered(*arguments)


@pytest.fixture
def batches(monkeypatch: pytest.MonkeyPatch) -> Batches:
    return Batches(monkeypatch)


def outputs(fitted: Any, seed: int = 5) -> dict[str, torch.Tensor]:
    computed = fitted[1].outputs(fitted[2], None, NAMES, seed=seed)
    return {name: computed[name] for name in NAMES}


def interrupt(fitted: Any, batches: Batches, after: int, ranks: ThreadRanks | None = None) -> None:
    batches.computed, batches.most = 0, after
    with sharing_with(ranks), pytest.raises(KeyboardInterrupt):
        outputs(fitted)
    batches.computed, batches.most = 0, 10**9


@pytest.mark.parametrize(("first", "then"), [(1, 1), (1, 3), (3, 2), (2, 1)])
def test_resumed_pass_computes_unfinished_batches_only(fitted, cache, batches, first, then):
    """On any number of ranks."""
    expected, total = outputs(fitted), batches.computed
    assert total > 12
    assert not list(cache.glob("passes/*"))  # removed at the end
    interrupt(fitted, batches, 9, ThreadRanks(first) if first > 1 else None)
    with sharing_with(ThreadRanks(then) if then > 1 else None):
        found = outputs(fitted)
    assert batches.computed == total - 9
    assert all(torch.equal(found[name], expected[name]) for name in NAMES)
    assert not list(cache.glob("passes/*"))


def test_outputs_that_stay_on_ranks_are_resumed(fitted, cache, batches, monkeypatch):
    monkeypatch.setattr(rank_outputs, "WIDE", 0)
    expected, total = outputs(fitted), batches.computed
    with keeping_wide_outputs(True):
        interrupt(fitted, batches, 9, ThreadRanks(3))
        with sharing_with(ThreadRanks(3)):
            found = outputs(fitted)
    assert batches.computed == total - 9
    assert all(torch.equal(found[name], expected[name]) for name in NAMES)


@pytest.mark.parametrize("what", ["seed", "weights", "damage"])
def test_what_was_computed_otherwise_is_computed_again(fitted, cache, batches, what):
    total = (outputs(fitted), batches.computed)[1]
    interrupt(fitted, batches, 9)
    weight = next(iter(fitted[1].module.parameters())).data
    if what == "damage":
        (features,) = cache.glob("passes/*/features")
        features.write_bytes(bytes(features.stat().st_size))
    elif what == "weights":
        weight[0, 0] += 1
    outputs(fitted, seed=6 if what == "seed" else 5)
    if what == "weights":
        weight[0, 0] -= 1
    assert batches.computed == total


def test_small_passes_are_not_stored(fitted, cache, batches, monkeypatch):
    monkeypatch.setattr(pass_store, "STORED", 10**9)
    interrupt(fitted, batches, 9)
    assert not list(cache.iterdir())


@pytest.mark.parametrize("ranks", [None, ThreadRanks(3)])
def test_full_disk_is_one_line(fitted, cache, batches, monkeypatch, caplog, ranks):
    def refuse(*arguments: Any) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(pass_store, "_write", refuse)
    with sharing_with(ranks):
        outputs(fitted)
    assert [each for each in caplog.messages if "No space left" in each] == [
        "this pass is not stored, and would begin again after a kill: No space left on device"
    ]
    assert not list(cache.glob("passes"))


def test_saved_model_is_recognised(fitted, tmp_path):
    learner, predictor, data = fitted
    predictor.save(tmp_path / "model")
    assert network_digest(learner.load(tmp_path / "model", data).module) == network_digest(predictor.module)


def test_unfinished_passes_are_shown_and_removed(fitted, cache, batches):
    interrupt(fitted, batches, 9)
    (entry,) = [each for each in cache_entries(cache) if each.kind == "pass"]
    assert entry.about == "outputs of a pass that was not finished"
    assert entry.size > 0
    remove_entry(entry)
    assert not list(cache.glob("passes/*"))
