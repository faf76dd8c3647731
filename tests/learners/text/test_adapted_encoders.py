"""Adapted encoders in the cache: trained once per project, found again, resumed, and never mixed."""

import json
import shutil
import threading
from dataclasses import replace
from pathlib import Path

import material
import pytest
import torch
import transformers as hf
from command import Command
from learners.text.test_masked_training import Stops, equal
from learners.text.test_surprisal import write
from safetensors.torch import load_file

from dal.data import Rows
from dal.errors import LearnerError
from dal.learner import Monitor
from dal.learners.text import adapted_encoders
from dal.learners.text.adapted_encoders import INSTEAD, REFUSED, AdaptedEncoder, AdaptedEncoders
from dal.learners.text.masked_models import require_masked_head
from dal.learners.text.masked_training import Adaptation
from dal.learners.text.tokenizers import prepare_texts
from dal.learners.text.tokens import TextPrepared
from dal.modules.loading import load_classifier
from dal.store.cache_contents import cache_entries

RECIPE = Adaptation(steps=6, learning_rate=3e-3, batch_tokens=200)
TEXTS = [f"{text} again" for text in dict.fromkeys(material.tickets(150)[0])][:100]


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("DAL_CACHE", str(tmp_path / "cache"))
    adapted_encoders._report_unseen.cache_clear()
    return tmp_path / "cache"


@pytest.fixture
def trainings(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """First step of every training."""
    starts: list[int] = []
    train = adapted_encoders.train_on_masks

    def counted(*arguments, start, **options):
        starts.append(0 if start is None else start.steps)
        return train(*arguments, start=start, **options)

    monkeypatch.setattr(adapted_encoders, "train_on_masks", counted)
    return starts


@pytest.fixture(scope="module")
def masked(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write(tmp_path_factory.mktemp("masked") / "bert")


def pool(model: Path, texts: list[str], length: int = 24) -> TextPrepared:
    return prepare_texts(Rows.from_inputs(texts), str(model), length)


def adapted(
    model: Path, texts: list[str], recipe: Adaptation = RECIPE, *, length: int = 24, monitor: Monitor | None = None
) -> AdaptedEncoder:
    encoders = AdaptedEncoders(str(model), recipe, torch.device("cpu"))
    return encoders.of(pool(model, texts, length), monitor or Monitor())


def weights(encoder: AdaptedEncoder) -> dict[str, torch.Tensor]:
    return {name: value.clone() for name, value in load_file(encoder.folder / "model.safetensors").items()}


# -- what is stored --------------------------------------------------------------------------------------------------


@pytest.mark.filterwarnings("ignore:.torch.jit.script")
@pytest.mark.parametrize(
    "name", ["bert", "distilbert", "roberta", "electra", "albert", "mpnet", "modernbert", "deberta-v2"]
)
def test_classifiers_of_every_family_start_from_the_trained_weights(
    cache: Path, tmp_path: Path, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = write(tmp_path / name, name)
    held: list = []
    kept = adapted_encoders._write_classifier
    monkeypatch.setattr(adapted_encoders, "_write_classifier", lambda *given: (held.append(given[2]), kept(*given)))
    found = adapted(folder, TEXTS[:40], replace(RECIPE, steps=2))
    trained, before = held[0].state_dict(), hf.AutoModelForMaskedLM.from_pretrained(folder).state_dict()
    classifier, new = load_classifier(found.folder, ["one", "two", "three"])
    assert new == load_classifier(folder, ["one", "two", "three"])[1]  # the head, as without adaptation
    state = classifier.state_dict()
    inside = [key for key in trained if key.startswith(f"{held[0].base_model_prefix}.")]
    assert len(inside) > 10
    assert all(torch.equal(state[key], trained[key]) for key in inside)
    changed = [key for key in inside if not torch.equal(trained[key], before[key])]
    assert len(changed) > len(inside) / 2


def test_a_pooler_of_the_checkpoint_and_its_kind_of_pooling_are_kept(cache: Path, tmp_path: Path) -> None:
    folder = write(tmp_path / "bert", kind="ForPreTraining")
    (folder / "1_Pooling").mkdir()
    (folder / "1_Pooling" / "config.json").write_text('{"pooling_mode_mean_tokens": true}')
    found = adapted(folder, TEXTS[:40])
    pooler = "bert.pooler.dense.weight"
    assert torch.equal(weights(found)[pooler], load_file(folder / "model.safetensors")[pooler])
    assert json.loads((found.folder / "1_Pooling" / "config.json").read_text())["pooling_mode_mean_tokens"]


def test_a_loss_that_did_not_fall_is_reported(masked: Path, cache: Path, caplog: pytest.LogCaptureFixture) -> None:
    fell = adapted(masked, TEXTS)
    assert "did not fall" not in fell.text
    assert caplog.messages == []
    rose = adapted(masked, TEXTS, replace(RECIPE, learning_rate=30.0))
    assert rose.record.loss_after > rose.record.loss_before
    assert "which did not fall: leave adapt out" in rose.text
    (message,) = caplog.messages
    assert message.startswith("adapt did not lower the masked-token loss of ")


# -- once per project ------------------------------------------------------------------------------------------------


def test_the_folder_of_a_relative_cache_is_absolute(
    masked: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("DAL_CACHE", "here")
    assert adapted(masked, TEXTS[:20]).folder.parents[2] == tmp_path / "here"


def test_the_same_texts_are_trained_on_once(masked: Path, cache: Path, trainings: list[int]) -> None:
    first = adapted(masked, TEXTS)
    again = adapted(masked, [*TEXTS[::-1], *TEXTS[:5]])
    assert first == again
    assert trainings == [0]
    before = weights(first)
    shutil.rmtree(cache / "adapted")
    assert equal(weights(adapted(masked, TEXTS)), before)
    assert trainings == [0, 0]


@pytest.mark.parametrize("change", ["seed", "steps", "learning_rate", "batch_tokens"])
def test_another_recipe_is_another_encoder(masked: Path, cache: Path, trainings: list[int], change: str) -> None:
    first = adapted(masked, TEXTS)
    other = adapted(masked, TEXTS, replace(RECIPE, **{change: getattr(RECIPE, change) * 2 + 1}))
    assert trainings == [0, 0]
    assert not equal(weights(first), weights(other))
    assert adapted(masked, TEXTS) == first


def test_another_length_or_other_weights_are_another_encoder(
    masked: Path, cache: Path, tmp_path: Path, trainings: list[int]
) -> None:
    adapted(masked, TEXTS)
    adapted(masked, TEXTS, length=6)
    copied = Path(shutil.copytree(masked, tmp_path / "copied"))
    adapted(copied, TEXTS)  # the same files elsewhere
    assert trainings == [0, 0]
    model = hf.BertForMaskedLM.from_pretrained(copied)
    with torch.no_grad():
        model.bert.embeddings.word_embeddings.weight.mul_(1.01)
    model.save_pretrained(copied)
    adapted(copied, TEXTS)
    assert trainings == [0, 0, 0]


@pytest.mark.parametrize(
    ("before", "after", "unseen"),
    [
        (slice(0, 60), slice(0, 63), 3),  # it grew
        (slice(0, 50), slice(0, 100), 50),  # it grew to twice its size
        (slice(0, 60), slice(6, 60), 0),  # a tenth was removed
        (slice(0, 60), slice(6, 100), 40),
    ],
)
def test_a_pool_that_changed_keeps_its_encoder_with_a_line(
    masked: Path, cache: Path, trainings: list[int], before, after, unseen: int, caplog: pytest.LogCaptureFixture
) -> None:
    first = adapted(masked, TEXTS[before])
    found = adapted(masked, TEXTS[after])
    assert trainings == [0]
    assert found == replace(first, unseen=unseen)
    adapted(masked, TEXTS[after])
    if unseen:
        assert f"{unseen} texts of the pool are new to it" in found.text
        (message,) = [message for message in caplog.messages if "is used as it is" in message]  # once
        assert f"{unseen} of {len(TEXTS[after])} texts are new to it, and it is used as it is" in message
    else:
        assert found.text == first.text


@pytest.mark.parametrize(
    ("before", "after"),
    [
        (slice(0, 49), slice(0, 100)),  # a small part of the pool
        (slice(0, 60), slice(7, 60)),  # more than a tenth was removed
        (slice(0, 50), slice(50, 100)),
    ],
)
def test_an_encoder_of_other_texts_is_not_used(masked: Path, cache: Path, trainings: list[int], before, after) -> None:
    first = adapted(masked, TEXTS[before])
    other = adapted(masked, TEXTS[after])
    assert trainings == [0, 0]
    assert other.unseen == 0
    assert not equal(weights(first), weights(other))


def test_of_several_encoders_that_fit_the_one_of_most_texts_is_used(
    masked: Path, cache: Path, trainings: list[int]
) -> None:
    for count in (40, 85):
        adapted(masked, TEXTS[:count])
    assert adapted(masked, TEXTS[:79]).record.texts == 85 - 8  # a tenth was kept apart
    assert trainings == [0, 0]


def test_processes_train_it_once(masked: Path, cache: Path, trainings: list[int]) -> None:
    found: list[AdaptedEncoder] = []
    threads = [threading.Thread(target=lambda: found.append(adapted(masked, TEXTS))) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert trainings == [0]
    assert found[0] == found[1]


# -- interruptions and damage ----------------------------------------------------------------------------------------


def test_an_interrupted_training_goes_on_from_its_checkpoint(
    masked: Path, cache: Path, trainings: list[int], with_tickets: Command
) -> None:
    whole = weights(adapted(masked, TEXTS))
    shutil.rmtree(cache / "adapted")
    with pytest.raises(InterruptedError):
        adapted(masked, TEXTS, monitor=Stops(4))
    assert AdaptedEncoders(str(masked), RECIPE, torch.device("cpu")).find(pool(masked, TEXTS)) is None
    assert "not finished, 4 of 6 steps" in with_tickets("cache").out
    found = adapted(masked, TEXTS)
    assert trainings == [0, 0, 4]
    assert equal(weights(found), whole)
    assert [path.name for path in found.folder.parent.glob("checkpoint*")] == []


def test_a_damaged_encoder_is_trained_again_and_a_damaged_checkpoint_ignored(
    masked: Path, cache: Path, trainings: list[int], caplog: pytest.LogCaptureFixture
) -> None:
    first = adapted(masked, TEXTS)
    whole = weights(first)
    file = first.folder / "model.safetensors"
    file.write_bytes(file.read_bytes()[:-100])
    assert equal(weights(adapted(masked, TEXTS)), whole)
    assert trainings == [0, 0]
    assert [message.partition(" is ")[2] for message in caplog.messages] == ["damaged: the encoder is trained again"]
    with pytest.raises(InterruptedError):
        adapted(masked, TEXTS, replace(RECIPE, steps=7), monitor=Stops(4))
    (checkpoint,) = cache.glob("adapted/*/checkpoint.safetensors")
    checkpoint.write_bytes(b"damaged")
    adapted(masked, TEXTS, replace(RECIPE, steps=7))
    assert trainings == [0, 0, 0, 0]


def test_a_cache_that_cannot_be_written_to_is_refused_with_the_way_out(
    masked: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    texts = pool(masked, TEXTS)
    (tmp_path / "file").write_text("no folder")
    monkeypatch.setenv("DAL_CACHE", str(tmp_path / "file"))
    with pytest.raises(LearnerError, match=r"cannot be stored in .*set DAL_CACHE to a folder") as caught:
        AdaptedEncoders(str(masked), RECIPE, torch.device("cpu")).of(texts)
    assert "\n" not in str(caught.value)


def test_adapted_encoders_are_shown_trimmed_and_cleared(masked: Path, cache: Path, with_tickets: Command) -> None:
    found = adapted(masked, TEXTS)
    (line,) = [line for line in with_tickets("cache").out.splitlines() if line.startswith("adapted ")]
    assert line.split()[1] == "100"
    assert line.endswith("adapted in 6 steps")
    (entry,) = [entry for entry in cache_entries(cache) if entry.kind == "adapted"]
    assert entry.size > found.folder.joinpath("model.safetensors").stat().st_size
    (cache / "adapted" / ".0123.0123456789ab.old").mkdir()
    tokens = next(entry.size for entry in cache_entries(cache) if entry.kind == "tokens")
    shown = with_tickets("cache", "--trim", f"{tokens + entry.size - 1}B").out
    assert shown.count("removed") == 1
    assert with_tickets("cache", "--clear").code == 0
    assert [path.suffix for path in (cache / "adapted").iterdir()] == [".lock"]


# -- models without a head -------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "kind", "changes"),
    [
        ("gpt2", "LMHeadModel", {}),
        ("bart", "ForConditionalGeneration", {}),
        ("bert", "LMHeadModel", {"is_decoder": True}),
    ],
)
def test_a_model_that_predicts_no_masked_words_is_refused_by_its_config(name, kind, changes, tmp_path: Path) -> None:
    folder = write(tmp_path / name, name, kind, **changes)
    with pytest.raises(LearnerError, match=r"adapt cannot be used with .* is not a masked-language model; choose"):
        require_masked_head(str(folder), refused=REFUSED, instead=INSTEAD)


@pytest.mark.filterwarnings("ignore:.torch.jit.script")
@pytest.mark.parametrize("name", ["bert", "distilbert", "roberta", "mpnet", "modernbert", "deberta-v2"])
@pytest.mark.parametrize("sharded", [False, True])
def test_a_checkpoint_without_a_head_is_refused_without_reading_a_weight(
    name: str, sharded: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    options = {"max_shard_size": "10KB"} if sharded else {}
    whole, bare = write(tmp_path / "whole", name), write(tmp_path / "bare", name, "Model")
    for folder, kind in ((whole, hf.AutoModelForMaskedLM), (bare, hf.AutoModel)):
        model = kind.from_pretrained(folder)
        (folder / "model.safetensors").unlink()
        model.save_pretrained(folder, **options)
        assert (folder / "model.safetensors.index.json").is_file() == sharded
    monkeypatch.setattr(hf.AutoModelForMaskedLM, "from_pretrained", lambda *args, **options: pytest.fail("was loaded"))
    require_masked_head(str(whole), refused=REFUSED, instead=INSTEAD)
    with pytest.raises(
        LearnerError, match="its files have no masked-language-model head, such as the weights"
    ) as caught:
        require_masked_head(str(bare), refused=REFUSED, instead=INSTEAD)
    assert "\n" not in str(caught.value)
    assert str(caught.value).endswith("or leave adapt out")


def test_weights_in_the_format_of_torch_are_checked_too(tmp_path: Path) -> None:
    for kind, fits in (("ForMaskedLM", True), ("Model", False)):
        folder = write(tmp_path / kind, kind=kind)
        torch.save(load_file(folder / "model.safetensors"), folder / "pytorch_model.bin")
        (folder / "model.safetensors").unlink()
        if fits:
            require_masked_head(str(folder), refused=REFUSED, instead=INSTEAD)
            continue
        with pytest.raises(LearnerError, match="no masked-language-model head"):
            require_masked_head(str(folder), refused=REFUSED, instead=INSTEAD)


def test_a_tokenizer_that_does_not_fit_is_refused(tmp_path: Path) -> None:
    small = write(tmp_path / "small", vocab_size=20)
    with pytest.raises(LearnerError, match="its tokenizer has more tokens than the model"):
        require_masked_head(str(small), refused=REFUSED, instead=INSTEAD)
    bare = write(tmp_path / "bare")
    settings = json.loads((bare / "tokenizer_config.json").read_text())
    settings.pop("mask_token")
    (bare / "tokenizer_config.json").write_text(json.dumps(settings))
    with pytest.raises(LearnerError, match="its tokenizer has no mask token"):
        require_masked_head(str(bare), refused=REFUSED, instead=INSTEAD)
