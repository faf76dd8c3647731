"""A long pass that was killed is resumed: finished batches are read from disk, and others computed."""

import errno
import os
import pickle
from pathlib import Path
from typing import Any

import material
import pytest
import torch
from thread_jobs import ThreadRanks
from torch import nn

from dal.data import Rows
from dal.learner import Learner
from dal.learners import committee_learner, inference, pass_store, rank_outputs
from dal.learners.committee_learner import CommitteeLearner
from dal.learners.module_learner import ModuleLearner
from dal.learners.pass_store import PassStore, joined_passes, rows_from, stored_pass
from dal.learners.rank_outputs import keeping_wide_outputs
from dal.learners.ranks import sharing_with
from dal.learners.transformer_learner import TransformerLearner
from dal.modules.active_module import ActiveModule
from dal.store.cache_contents import cache_entries, remove_entry

N = 120
NAMES = frozenset({"logits", "features", "mutual_information"})
OF_COMMITTEE = frozenset({"logits", "mutual_information"})


class Net(ActiveModule):
    def __init__(self, classes: int, multilabel: bool) -> None:
        super().__init__(classes, multilabel=multilabel)
        self.body = nn.Sequential(nn.Linear(6, 16), nn.ReLU(), nn.Dropout(0.2))
        self.last = nn.Linear(16, classes)

    def features(self, batch):
        return self.body(batch["inputs"])

    def head(self, features):
        return self.last(features.float())


class Unknown(Net):
    """A network with a value that has no name."""

    def __init__(self, classes: int, multilabel: bool) -> None:
        super().__init__(classes, multilabel=multilabel)
        self.scale = lambda x: 2 * x


def trained(learner: Learner, *, texts: bool) -> tuple[Learner, Any, Any]:
    """A learner, its fitted model, and the prepared rows."""
    rows = Rows.from_inputs(torch.randn(N, 6, generator=torch.Generator().manual_seed(0)), torch.arange(N) % 3)
    if texts:
        given, labels = material.tickets(N)
        names = sorted(material.TOPICS)
        rows = Rows.from_inputs(given, torch.tensor([names.index(label) for label in labels]), names)
    data = learner.prepare(rows)
    return learner, learner.fit(data, torch.arange(20), rows.labels[:20], seed=1), data


def transformer(folder: Path, **options: Any) -> TransformerLearner:
    return TransformerLearner(
        str(folder), max_length=24, min_steps=2, max_steps=2, samples=4, token_budget=120,
        device="cpu", precision="float32", trainer=material.silent_trainer(), **options,
    )  # fmt: skip


def networks(build: Any = Net, **options: Any) -> ModuleLearner:
    trainer = material.silent_trainer()
    return ModuleLearner(
        build, min_steps=2, max_steps=2, samples=4, pass_batch=8, device="cpu", trainer=trainer, **options
    )


@pytest.fixture(scope="module")
def fitted(tiny_bert: Path) -> tuple[Learner, Any, Any]:
    return trained(transformer(tiny_bert), texts=True)


@pytest.fixture(scope="module")
def fitted_by_kind(fitted, tiny_bert) -> dict[str, tuple[Learner, Any, Any]]:
    return {
        "transformer": fitted,
        "transformer, laplace": trained(transformer(tiny_bert, mc_mode="laplace"), texts=True),
        "module": trained(networks(), texts=False),
        "module, bootstrap": trained(networks(mc_mode="bootstrap"), texts=False),
        "committee of transformers": trained(CommitteeLearner(transformer(tiny_bert), members=2), texts=True),
        "committee of modules": trained(CommitteeLearner(networks(), members=3), texts=False),
        "committee of committees": trained(
            CommitteeLearner(CommitteeLearner(networks(), members=2), members=2), texts=False
        ),
    }


KINDS = (
    "transformer", "transformer, laplace", "module", "module, bootstrap", "committee of transformers",
    "committee of modules", "committee of committees",
)  # fmt: skip


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty cache, in which all passes are stored."""
    monkeypatch.setenv("DAL_CACHE", str(tmp_path))
    monkeypatch.setattr(pass_store, "LONG", 0.0)
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
    names = OF_COMMITTEE if isinstance(fitted[0], CommitteeLearner) else NAMES
    computed = fitted[1].outputs(fitted[2], None, names, seed=seed)
    return {name: computed[name] for name in names}


def interrupt(fitted: Any, batches: Batches, after: int, ranks: ThreadRanks | None = None) -> None:
    batches.computed, batches.most = 0, after
    with sharing_with(ranks), pytest.raises(KeyboardInterrupt):
        outputs(fitted)
    batches.computed, batches.most = 0, 10**9


@pytest.mark.parametrize(("first", "then"), [(1, 1), (1, 3), (3, 2), (2, 1)])
@pytest.mark.parametrize("kind", KINDS)
def test_resumed_pass_computes_unfinished_batches_only(fitted_by_kind, cache, batches, monkeypatch, kind, first, then):
    """On any number of ranks."""
    monkeypatch.setattr(committee_learner, "_ROWS", 48)  # three blocks
    fitted = fitted_by_kind[kind]
    expected, total = outputs(fitted), batches.computed
    assert total > 12
    assert not list(cache.glob("passes/*"))  # removed at the end
    done = 9 if total < 30 else total - 8  # in a block of a committee that is not the first
    interrupt(fitted, batches, done, ThreadRanks(first) if first > 1 else None)
    with sharing_with(ThreadRanks(then) if then > 1 else None):
        found = outputs(fitted)
    assert batches.computed == total - done
    assert all(torch.equal(found[name], expected[name]) for name in expected)
    assert not list(cache.glob("passes/*"))


def test_members_that_were_finished_cost_nothing_again(fitted_by_kind, cache, batches):
    fitted = fitted_by_kind["committee of modules"]
    expected, total = outputs(fitted), batches.computed
    assert total == 3 * 15
    interrupt(fitted, batches, 2 * 15 + 4)
    assert len(list(cache.glob("passes/*"))) == 3
    weight = next(fitted[1].members[1].module.parameters()).data
    before = weight.clone()
    weight[0, 0] += 1  # the finished batches of this member are those of another network now
    outputs(fitted)
    assert batches.computed == 15 + 11
    weight.copy_(before)
    assert len(list(cache.glob("passes/*"))) == 1  # of the member as it was, until it is abandoned
    interrupt(fitted, batches, 15 + 4)  # with the 15 batches of that member
    found = outputs(fitted)
    assert batches.computed == 11
    assert all(torch.equal(found[name], expected[name]) for name in expected)


def test_surprisal_is_resumed(cache, batches, tmp_path):
    learner = transformer(material.write_tiny_bert(tmp_path / "masked", masked=True))
    data = learner.prepare(Rows.from_inputs(*material.tickets(N)))

    def read(seed: int = 5) -> torch.Tensor:
        return learner.untrained(data).outputs(data, names={"surprisal"}, seed=seed).surprisal

    expected, total = read(), batches.computed
    batches.computed, batches.most = 0, 9
    with pytest.raises(KeyboardInterrupt):
        read()
    batches.computed, batches.most = 0, 10**9
    read(seed=6)  # draws other tokens
    assert batches.computed == total
    batches.computed = 0
    assert torch.equal(read(), expected)
    assert batches.computed == total - 9


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


def test_short_passes_are_not_stored(fitted, cache, batches, monkeypatch):
    monkeypatch.setattr(pass_store, "LONG", 1e9)
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


def test_network_that_cannot_be_compared_is_one_line(cache, batches, caplog):
    fitted = trained(networks(Unknown), texts=False)
    total = (outputs(fitted), batches.computed)[1]
    assert total == 15
    interrupt(fitted, batches, 9)
    assert not list(cache.glob("passes"))
    outputs(fitted)
    assert batches.computed == total
    [said] = [each for each in caplog.messages if "stored" in each]
    assert said.startswith("passes of a Unknown are not stored, and would begin again after a kill: ")
    assert "\n" not in said


def test_pass_is_stored_once_it_is_long(fitted, cache, batches, monkeypatch):
    monkeypatch.setattr(pass_store, "LONG", 100.0)
    times = iter(range(0, 10**6, 20))  # a look at the clock for each batch
    monkeypatch.setattr(pass_store.time, "monotonic", lambda: float(next(times)))
    interrupt(fitted, batches, 9)
    (folder,) = cache.glob("passes/*")
    (finished,) = folder.glob("finished")
    assert finished.stat().st_size > 0
    total = (outputs(fitted), batches.computed)[1]
    batches.computed = 0
    monkeypatch.setattr(pass_store, "LONG", 1e9)
    outputs(fitted)
    assert 9 - 5 <= batches.computed - total <= 9


def test_store_of_another_process_has_the_same_places_and_age(cache, monkeypatch):
    network, values, mark = Net(3, False), {"logits": torch.ones(2, 3)}, b"the mark of it.."
    with joined_passes(), rows_from(4), stored_pass(network) as store:
        monkeypatch.setattr(pass_store, "LONG", 1e9)
        other = pickle.loads(pickle.dumps(store))
        assert not other.used
        monkeypatch.setattr(pass_store, "LONG", 0.0)
        assert other.used
        other.attach(network, "recipe")
        other.write(1, mark, values)
        whole = PassStore()
        whole.attach(network, "recipe")
        found = whole.read(5, mark, 2)
        assert found is not None
        assert torch.equal(found["logits"], values["logits"])
        assert whole.read(1, mark, 2) is None
        store.attach(network, "recipe")
    assert not list(cache.glob("passes/*"))


def test_unfinished_passes_are_shown_and_removed(fitted, cache, batches):
    interrupt(fitted, batches, 9)
    (entry,) = [each for each in cache_entries(cache) if each.kind == "pass"]
    assert entry.about == "outputs of a pass that was not finished"
    assert entry.size > 0
    remove_entry(entry)
    assert not list(cache.glob("passes/*"))


@pytest.mark.skipif(os.name == "nt", reason="needs links")
@pytest.mark.parametrize("name", ["pass.json", "finished", "logits"])
def test_pass_is_not_written_through_a_link(fitted, cache, batches, tmp_path_factory, name):
    expected = outputs(fitted)
    interrupt(fitted, batches, 9)
    (folder,) = cache.glob("passes/*")
    mine = tmp_path_factory.mktemp("mine") / "notes.txt"
    mine.write_bytes((folder / name).read_bytes())
    content = mine.read_bytes()
    (folder / name).unlink()
    (folder / name).symlink_to(mine)
    again = outputs(fitted)
    assert mine.read_bytes() == content
    assert all(torch.equal(again[each], expected[each]) for each in NAMES)


@pytest.mark.parametrize(
    "facts", [b"[]", b"{", b'{"../logits": [2]}', b'{"logits": ["a"]}', b'{"logits": [1e30]}', b"[" * 9999]
)
def test_pass_with_damaged_facts_is_computed(fitted, cache, batches, facts):
    expected = outputs(fitted)
    interrupt(fitted, batches, 9)
    (folder,) = cache.glob("passes/*")
    (folder / "pass.json").write_bytes(facts)
    again = outputs(fitted)
    assert all(torch.equal(again[each], expected[each]) for each in NAMES)
