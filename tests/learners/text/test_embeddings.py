"""An encoder that cannot be read is refused in one line that names it, whatever is wrong with its files."""

import shutil
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from dal.data import Rows
from dal.errors import LearnerError
from dal.learners.text.embeddings import Embedder, fingerprint
from dal.learners.text.tokenizers import prepare_texts

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
