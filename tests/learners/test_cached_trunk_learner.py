"""`TransformerLearner(trunk="cached")`: states once per text, training and passes on the upper layers only."""

import dataclasses
import logging
import shutil
from collections import namedtuple
from pathlib import Path

import material
import pytest
import torch

from dal.data import Rows
from dal.errors import ConfigError, LearnerError
from dal.learners.committee_learner import CommitteeLearner
from dal.learners.text import embeddings, token_states
from dal.learners.transformer_learner import TransformerLearner
from dal.modules.adapting import LoRA
from dal.modules.cached_trunk import LowerLayers, UpperLayers
from dal.store.cache_contents import cache_entries

pytestmark = pytest.mark.filterwarnings("ignore:`isinstance.treespec, LeafSpec.` is deprecated")


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("DAL_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


@pytest.fixture
def computed(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Numbers of texts whose states are computed."""
    counts: list[int] = []
    run = embeddings.run_pass

    def counted(module, texts, rows, **options):
        if isinstance(module, LowerLayers):
            counts.append(len(rows))
        return run(module, texts, rows, **options)

    monkeypatch.setattr(embeddings, "run_pass", counted)
    return counts


@pytest.fixture(scope="module")
def rows() -> Rows:
    return Rows.from_inputs(*material.tickets(160))


@pytest.fixture(scope="module")
def learner(tiny_bert: Path, rows: Rows, tmp_path_factory: pytest.TempPathFactory) -> TransformerLearner:
    """A learner on an encoder whose lower layer knows the words: it was fine-tuned whole, and lost its head."""
    from transformers import AutoModel, AutoTokenizer

    folder = tmp_path_factory.mktemp("tuned")
    options = {"learning_rate": 3e-3, "min_steps": 120, "max_steps": 120, "samples": 4, "precision": "float32"}
    whole = TransformerLearner(model=str(tiny_bert), **options)
    whole.fit(whole.prepare(rows), torch.arange(60), rows.labels[:60], seed=0).save(folder / "whole")
    AutoModel.from_pretrained(folder / "whole", add_pooling_layer=False).save_pretrained(folder / "bert")
    AutoTokenizer.from_pretrained(folder / "whole").save_pretrained(folder / "bert")
    return TransformerLearner(model=str(folder / "bert"), trunk="cached", layers=1, head=None, **options)


def fitted(learner: TransformerLearner, rows: Rows, labels: int = 60, **options):
    data, chosen = learner.prepare(rows), torch.arange(labels)
    return data, learner.fit(data, chosen, rows.labels[chosen], seed=0, **options)


def distinct(rows: Rows, count: int | None = None) -> int:
    return len(set(rows.texts()[:count]))


def test_topics_are_learned_on_stored_states(learner, rows, cache: Path, computed: list[int]):
    data, predictor = fitted(learner, rows)
    assert isinstance(predictor.module, UpperLayers)
    assert sum(computed) == distinct(rows, 60)
    names = {"logits", "features", "embeddings", "mc_logits", "joint_mc_logits", "mutual_information"}
    found = predictor.outputs(data, torch.arange(60, 160), names)
    assert (found.logits.argmax(1).cpu() == rows.labels[60:]).float().mean() > 0.8
    assert found.features.shape == found.embeddings.shape == (100, 32)
    assert found.mc_logits.shape == (100, 4, len(rows.classes))
    assert found.joint_mc_logits.std(1).max() > 0
    assert sum(computed) == distinct(rows)
    predictor.outputs(data, names={"grads"})
    assert sum(computed) == distinct(rows)


def test_states_of_an_added_text_cost_only_that_text(learner, rows, cache: Path, computed: list[int]):
    data, predictor = fitted(learner, rows)
    before = predictor.outputs(data).logits
    grown = learner.prepare(Rows.from_inputs(["the very last invoice", *rows.texts()[::-1]], classes=rows.classes))
    after = predictor.outputs(grown).logits
    assert sum(computed) == distinct(rows) + 1
    torch.testing.assert_close(after[1:], before.flip(0), atol=1e-5, rtol=1e-5)


def test_a_fit_is_the_same_when_the_states_are_read_and_computed(learner, rows, cache: Path):
    first = fitted(learner, rows)[1].outputs(learner.prepare(rows)).logits
    again = fitted(learner, rows)[1].outputs(learner.prepare(rows)).logits
    assert torch.equal(first, again)


def test_saved_folder_is_read_by_transformers_and_by_us(learner, rows, cache: Path, tmp_path: Path):
    from transformers import pipeline

    data, predictor = fitted(learner, rows)
    predictor.save(tmp_path / "model")
    texts = [*rows.texts()[:8], "an invoice that nobody has seen"]
    theirs = pipeline("text-classification", str(tmp_path / "model"), device="cpu", top_k=None)(texts)
    again = learner.load(tmp_path / "model", data)
    shutil.rmtree(tmp_path / "model")
    new = learner.prepare(Rows.from_inputs(texts, classes=rows.classes))
    ours = again.outputs(new, exact=True).probs
    for answer, probs in zip(theirs, ours, strict=True):
        expected = {each["label"]: each["score"] for each in answer}
        torch.testing.assert_close(probs, torch.tensor([expected[name] for name in rows.classes]), atol=5e-3, rtol=0)
    torch.testing.assert_close(ours[:8], predictor.outputs(data, torch.arange(8)).probs, atol=1e-5, rtol=0)
    again.save(tmp_path / "second")
    assert (tmp_path / "second" / "tokenizer.json").is_file()


def test_a_folder_with_other_lower_layers_is_refused(learner, rows, cache: Path, tmp_path: Path):
    full = dataclasses.replace(learner, trunk=None, layers=None, min_steps=2, max_steps=2)
    data, predictor = fitted(full, rows)
    predictor.save(tmp_path / "model")
    with pytest.raises(LearnerError, match="was trained on the lower layers of another model"):
        learner.load(tmp_path / "model", data)


def test_head_starts_at_the_probe_of_stored_states_and_descriptions(
    learner, rows, cache: Path, computed: list[int], tmp_path: Path
):
    from transformers import pipeline

    folder = Path(shutil.copytree(learner.model, tmp_path / "bert"))
    (folder / "1_Pooling").mkdir()
    (folder / "1_Pooling" / "config.json").write_text('{"pooling_mode_mean_tokens": true}')
    started = dataclasses.replace(learner, model=str(folder), head="probe", min_steps=6, max_steps=6)
    data, predictor = fitted(started, rows)
    assert predictor.training_notes["head"] == "probe"
    assert sum(computed) == distinct(rows, 60) + len(rows.classes)
    predictor.save(tmp_path / "model")
    again = started.load(tmp_path / "model", data)
    found = [each.outputs(data, torch.arange(60, 160)).logits for each in (predictor, again)]
    torch.testing.assert_close(found[1], found[0], atol=1e-5, rtol=1e-5)
    assert (found[0].argmax(1).cpu() == rows.labels[60:]).float().mean() > 0.8
    theirs = pipeline("text-classification", str(tmp_path / "model"), device="cpu", top_k=None)(rows.texts()[60:68])
    ours = again.outputs(data, torch.arange(60, 68), exact=True).probs
    for answer, probs in zip(theirs, ours, strict=True):
        expected = {each["label"]: each["score"] for each in answer}
        torch.testing.assert_close(probs, torch.tensor([expected[name] for name in rows.classes]), atol=5e-3, rtol=0)


@pytest.mark.parametrize("options", [{"mc_mode": "laplace"}, {"mc_mode": "full"}, {"warm_start": True}])
def test_other_options_work_as_with_the_full_model(learner, rows, cache: Path, options):
    short = dataclasses.replace(learner, min_steps=6, max_steps=6, **options)
    data, first = fitted(short, rows)
    _, second = fitted(short, rows, previous=first)
    found = second.outputs(data, torch.arange(20), {"mc_logits", "logits"})
    assert found.mc_logits.std(1).max() > 0


def test_validation_rows_stop_the_training(learner, rows, cache: Path):
    held_out = Rows.from_inputs(rows.texts()[100:], classes=rows.classes)
    patient = dataclasses.replace(learner, patience=1, min_steps=400, max_steps=400)
    labels = rows.labels[100:]
    _, predictor = fitted(patient, rows, validation=(patient.prepare(held_out), labels))
    found = predictor.outputs(patient.prepare(held_out)).logits.argmax(1).cpu()
    assert (found == labels).float().mean() > 0.7


def test_a_committee_shares_the_states(learner, rows, cache: Path, computed: list[int]):
    committee = CommitteeLearner(dataclasses.replace(learner, min_steps=5, max_steps=5), members=2)
    data = committee.prepare(rows)
    predictor = committee.fit(data, torch.arange(60), rows.labels[:60], seed=0)
    assert predictor.outputs(data, names={"mc_logits"}).mc_logits.shape[1] == 2
    assert sum(computed) == distinct(rows)


def test_size_is_said_before_the_states_are_written(learner, rows, cache: Path, caplog: pytest.LogCaptureFixture):
    data = learner.prepare(rows)
    caplog.set_level(logging.INFO, "dal")
    states = learner._states.of(data, torch.arange(10))
    tokens = int(states.lengths[:10].sum())
    (message,) = caplog.messages
    assert f"take 0.0 MB on disk ({tokens:,} tokens x 32 numbers x 2 bytes)" in message
    (entry,) = [entry for entry in cache_entries(cache) if entry.kind == "states"]
    assert (entry.path / "values").stat().st_size == 2 * 32 * tokens


def test_a_disk_without_room_is_refused_with_the_way_out(learner, rows, cache: Path, monkeypatch: pytest.MonkeyPatch):
    data = learner.prepare(rows)
    usage = namedtuple("usage", ["total", "used", "free"])
    monkeypatch.setattr(token_states.shutil, "disk_usage", lambda path: usage(10**9, 10**9 - 5, 5))
    with pytest.raises(LearnerError, match=r"has only 0.0 MB free: .*dal cache --trim.*DAL_CACHE") as caught:
        learner._states.of(data, torch.arange(10))
    assert "\n" not in str(caught.value)
    assert [entry.kind for entry in cache_entries(cache)] == ["tokens"]


def test_learning_rates_have_defaults_of_their_own():
    assert TransformerLearner().learning_rate == 7e-5
    assert TransformerLearner().layers is None
    cached = TransformerLearner(trunk="cached")
    assert (cached.learning_rate, cached.layers) == (2e-4, 2)
    assert TransformerLearner(trunk="cached", learning_rate=1e-5, layers=3).learning_rate == 1e-5


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"trunk": "cached", "freeze": 1}, "trunk: cached and freeze exclude each other"),
        ({"trunk": "cached", "lora": LoRA()}, "trunk: cached and lora exclude each other"),
        ({"layers": 2}, "layers of TransformerLearner needs trunk: cached"),
        ({"trunk": "cached", "layers": 0}, "layers"),
        ({"trunk": "frozen"}, "trunk"),
    ],
)
def test_options_that_exclude_each_other_are_refused(options, message):
    with pytest.raises(ConfigError, match=message) as caught:
        TransformerLearner(**options)
    assert "\n" not in str(caught.value)
