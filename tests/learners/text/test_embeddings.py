"""An encoder that cannot be read is refused in one line that names it, whatever is wrong with its files."""

import shutil
from pathlib import Path

import material
import pytest
import torch
from safetensors.torch import load_file, save_file

from dal.data import Rows
from dal.errors import LearnerError
from dal.learner import Monitor
from dal.learners.probe_learner import ProbeLearner
from dal.learners.sklearn_committee import SklearnCommittee
from dal.learners.text import embeddings
from dal.learners.text.embeddings import Embedder, fingerprint
from dal.learners.text.tokenizers import prepare_texts
from dal.learners.training.tensor_rows import TensorPrepared
from dal.learners.transformer_learner import TransformerLearner

WEIGHTS = "model.safetensors"
DAMAGES = {
    "no weights": (WEIGHTS, None),
    "empty weights": (WEIGHTS, b""),
    "weights that are text": (WEIGHTS, b"nonsense"),
    "a header of no text": (WEIGHTS, (64).to_bytes(8, "little") + b"\xff" * 64),
    "a header without end": (WEIGHTS, b"\xff" * 64),
    "an empty config": ("config.json", b""),
    "a config of no text": ("config.json", b"\xff\xfe{}"),
    "a config that is a list": ("config.json", b"[1]"),
    "a deep config": ("config.json", b'{"model_type": "bert", "a": ' + b"[" * 5000 + b"]" * 5000 + b"}"),
    "a size that is a text": ("config.json", b'{"model_type": "bert", "hidden_size": "x"}'),
    "heads that do not divide": ("config.json", b'{"model_type": "bert", "num_attention_heads": 7}'),
    "a negative size": ("config.json", b'{"model_type": "bert", "hidden_size": -8, "num_attention_heads": 2}'),
    "another kind of model": ("config.json", b'{"model_type": "no-such-model"}'),
}


def texts(model: Path):
    return prepare_texts(Rows.from_inputs(["the parcel is late", "refund"]), str(model), 16)


def embedded(model: Path, prepared):
    return Embedder(str(model), "float32", 512, torch.device("cpu")).embed(prepared)


def refused(model: Path, prepared) -> str:
    with pytest.raises(LearnerError) as caught:
        embedded(model, prepared)
    said = str(caught.value)
    assert said.startswith(f"the encoder {model} could not be loaded: ")
    assert "\n" not in said
    assert len(said) < 500
    return said


@pytest.mark.parametrize("damage", DAMAGES)
def test_a_damaged_encoder_is_refused_in_one_line(tiny_bert, tmp_path, damage):
    prepared = texts(tiny_bert)
    copy = Path(shutil.copytree(tiny_bert, tmp_path / "bert"))
    name, content = DAMAGES[damage]
    (copy / name).unlink()
    if content is not None:
        (copy / name).write_bytes(content)
    refused(copy, prepared)


def test_weights_that_are_not_finite_are_refused_by_their_name(tiny_bert, tmp_path):
    copy = Path(shutil.copytree(tiny_bert, tmp_path / "bert"))
    tensors = load_file(copy / WEIGHTS)
    name = next(name for name in tensors if "embeddings" in name)
    save_file(tensors | {name: torch.full_like(tensors[name], torch.nan)}, copy / WEIGHTS, {"format": "pt"})
    assert "are NaN or infinite" in refused(copy, texts(tiny_bert))


def test_embeddings_that_are_not_finite_are_not_stored(tiny_bert, tmp_path, monkeypatch):
    """Finite weights can overflow; stored, the vectors would fail in every run."""
    monkeypatch.setenv("DAL_CACHE", str(tmp_path / "cache"))
    prepared = texts(tiny_bert)
    copy = Path(shutil.copytree(tiny_bert, tmp_path / "bert"))
    tensors = load_file(copy / WEIGHTS)
    large = {name: 3e38 * value for name, value in tensors.items() if name.endswith("output.LayerNorm.weight")}
    save_file(tensors | large, copy / WEIGHTS, {"format": "pt"})
    with pytest.raises(LearnerError, match=r"embeddings of .*bert are NaN or infinite for 2 of 2 texts: use another"):
        embedded(copy, prepared)
    assert not list((tmp_path / "cache" / "rows").glob("embeddings/*"))


def test_an_encoder_without_most_of_its_weights_is_refused(tiny_bert, tmp_path):
    copy = Path(shutil.copytree(tiny_bert, tmp_path / "bert"))
    tensors = load_file(copy / WEIGHTS)
    save_file(dict(list(tensors.items())[:2]), copy / WEIGHTS, {"format": "pt"})
    assert "weights required by its config" in refused(copy, texts(tiny_bert))


def test_a_model_that_is_nowhere_has_no_fingerprint():
    with pytest.raises(LearnerError, match="the encoder nobody/nothing could not be loaded") as caught:
        fingerprint("nobody/nothing")
    assert "\n" not in str(caught.value)


def test_a_whole_encoder_gives_finite_embeddings(tiny_bert):
    vectors = embedded(tiny_bert, texts(tiny_bert)).inputs
    assert vectors.shape[0] == 2
    assert torch.isfinite(vectors).all()


@pytest.fixture
def embedded_rows(tmp_path, monkeypatch):
    """Numbers of texts that are embedded, one for each write, in an empty cache."""
    monkeypatch.setenv("DAL_CACHE", str(tmp_path / "cache"))
    counts = []
    run = embeddings.run_pass

    def counted(module, texts, rows, *rest, **options):
        counts.append(len(rows))
        return run(module, texts, rows, *rest, **options)

    monkeypatch.setattr(embeddings, "run_pass", counted)
    return counts


def prepared(model: Path, given: list[str]):
    return prepare_texts(Rows.from_inputs(given), str(model), 16)


def test_only_new_texts_are_embedded_and_the_others_keep_their_bits(tiny_bert, embedded_rows):
    given = [*dict.fromkeys(material.tickets(40)[0])]
    first = embedded(tiny_bert, prepared(tiny_bert, given)).inputs
    assert embedded_rows == [len(given)]
    grown = embedded(tiny_bert, prepared(tiny_bert, ["late", *given[::-1], "late"]))
    assert embedded_rows == [len(given), 1]
    assert torch.equal(grown.inputs[1:-1], first.flip(0))
    assert torch.equal(grown.inputs[0], grown.inputs[-1])
    assert torch.equal(grown.take(torch.tensor([3, 1])), grown.inputs[[3, 1]])
    assert len(grown) == len(given) + 2


def test_texts_in_the_order_of_the_file_are_not_copied(tiny_bert, embedded_rows):
    given = [*dict.fromkeys(material.tickets(40)[0])]
    whole = embedded(tiny_bert, prepared(tiny_bert, given)).inputs
    part = embedded(tiny_bert, prepared(tiny_bert, given[5:20])).inputs
    assert torch.equal(part, whole[5:20])
    assert part.storage_offset() == 5 * whole.shape[1]


def test_embeddings_of_other_batches_agree_to_rounding(tiny_bert, embedded_rows, tmp_path, monkeypatch):
    given = [*dict.fromkeys(material.tickets(40)[0])]
    together = embedded(tiny_bert, prepared(tiny_bert, given)).inputs.clone()
    monkeypatch.setenv("DAL_CACHE", str(tmp_path / "other"))
    for count in range(1, len(given) + 1):
        alone = embedded(tiny_bert, prepared(tiny_bert, given[:count]))
    assert embedded_rows == [len(given)] + [1] * len(given)
    torch.testing.assert_close(alone.inputs, together, atol=2e-6, rtol=0)


def test_moments_do_not_depend_on_how_the_rows_are_stored(tiny_bert, embedded_rows):
    given = [*dict.fromkeys(material.tickets(40)[0])]
    embedded(tiny_bert, prepared(tiny_bert, given[::-1]))
    stored = embedded(tiny_bert, prepared(tiny_bert, given))
    copied = TensorPrepared(stored.inputs.clone(), stored.classes)
    assert all(torch.equal(*pair) for pair in zip(stored.moments, copied.moments, strict=True))


def test_several_writes_are_reported_as_one_pass(tiny_bert, embedded_rows, monkeypatch):
    monkeypatch.setattr(embeddings, "_CHUNK", 7)
    given = [*dict.fromkeys(material.tickets(20)[0])]
    said = []

    class Said(Monitor):
        def started(self, what, total):
            said.append((what, total))

        def advanced(self, count):
            said.append(count)

        def finished(self):
            said.append("finished")

    Embedder(str(tiny_bert), "float32", 512, torch.device("cpu")).embed(prepared(tiny_bert, given), Said())
    first, *counts, last = said
    assert (first, sum(counts), last) == (("pass", len(given)), len(given), "finished")
    assert embedded_rows == [7, 7, len(given) - 14]


def test_moments_of_many_rows_are_stored_and_read_again(tiny_bert, embedded_rows, tmp_path, monkeypatch):
    given = [*dict.fromkeys(material.tickets(40)[0])]
    few = embedded(tiny_bert, prepared(tiny_bert, given)).moments
    (folder,) = (path for path in (tmp_path / "cache" / "rows" / "embeddings").iterdir() if path.is_dir())
    assert not (folder / "summaries").exists()
    monkeypatch.setattr(embeddings, "_MANY", 10)
    stored = embedded(tiny_bert, prepared(tiny_bert, given)).moments
    computed, compute = [], TensorPrepared._moments
    monkeypatch.setattr(TensorPrepared, "_moments", lambda rows: computed.append(len(rows)) or compute(rows))
    again = embedded(tiny_bert, prepared(tiny_bert, given)).moments
    assert computed == []
    for one in (stored, again):
        assert all(torch.equal(*pair) for pair in zip(few, one, strict=True))
    part = embedded(tiny_bert, prepared(tiny_bert, given[1:])).moments  # another pool has moments of its own
    assert computed == [len(given) - 1]
    assert not torch.equal(part[0], few[0])
    for path in (folder / "summaries").iterdir():
        path.write_bytes(path.read_bytes()[:-1] + b"x")
    damaged = embedded(tiny_bert, prepared(tiny_bert, given)).moments
    assert computed == [len(given) - 1, len(given)]
    assert all(torch.equal(*pair) for pair in zip(few, damaged, strict=True))


def halves(model: Path) -> Embedder:
    return Embedder(str(model), "float32", 512, torch.device("cpu"), "float16")


def test_embeddings_kept_in_float16_are_those_of_float32_rounded(tiny_bert, embedded_rows, tmp_path):
    given = [*dict.fromkeys(material.tickets(40)[0])]
    singles = embedded(tiny_bert, prepared(tiny_bert, given)).inputs
    rounded = halves(tiny_bert).embed(prepared(tiny_bert, given))
    assert embedded_rows == [len(given)] * 2  # in a store of its own
    assert rounded.inputs.dtype == torch.float32
    assert torch.equal(rounded.inputs, singles.half().float())
    assert torch.equal(rounded.take(torch.tensor([3, 1])), singles[[3, 1]].half().float())
    sizes = [path.stat().st_size for path in (tmp_path / "cache" / "rows" / "embeddings").glob("*/values")]
    assert max(sizes) == 2 * min(sizes)
    assert torch.equal(embedded(tiny_bert, prepared(tiny_bert, given)).inputs, singles)
    halves(tiny_bert).embed(prepared(tiny_bert, given))
    assert embedded_rows == [len(given)] * 2


def test_embeddings_beyond_the_range_of_float16_are_refused(tiny_bert, embedded_rows, monkeypatch):
    compute = embeddings._Encoder.compute

    def large(*arguments, **options):
        return {name: 1e6 * value for name, value in compute(*arguments, **options).items()}

    monkeypatch.setattr(embeddings._Encoder, "compute", large)
    with pytest.raises(LearnerError, match="exceed the range of float16: leave cached_as out"):
        halves(tiny_bert).embed(texts(tiny_bert))


@pytest.mark.parametrize(("kind", "apart"), [(ProbeLearner, 0.01), (SklearnCommittee, 0.3)])  # trees have thresholds
def test_learners_on_float16_embeddings_predict_nearly_the_same(tiny_bert, embedded_rows, kind, apart):
    rows = Rows.from_inputs(*material.tickets(60))
    logits = []
    for cached_as in (None, "float16"):
        learner = kind(str(tiny_bert), max_length=16, cached_as=cached_as)
        data = learner.prepare(rows)
        fitted = learner.fit(data, torch.arange(40), rows.labels[:40], seed=0)
        logits.append(fitted.outputs(data, names={"probs"}).probs)
    torch.testing.assert_close(*logits, atol=apart, rtol=0)


def test_transformer_reads_float16_embeddings(tiny_bert, embedded_rows):
    learner = TransformerLearner(str(tiny_bert), max_length=16, cached_as="float16", head=None)
    data = learner.prepare(Rows.from_inputs(*material.tickets(8)))
    read = learner.untrained(data).outputs(data, names={"embeddings"}).embeddings
    assert torch.equal(read, read.half().float())
