"""A GGUF file as an encoder: embeddings are means over the tokens of its last layer."""

from pathlib import Path

import material
import numpy as np
import pytest
import torch

from dal import ProbeLearner, TransformerLearner
from dal.data import Rows
from dal.errors import DalError, LearnerError
from dal.learners.encoder_comparison import compare_encoders, embeddings
from dal.learners.text.embeddings import quiet

gguf = pytest.importorskip("gguf")
pytest.importorskip("accelerate")

WIDTH, HEADS, INNER, LAYERS = 32, 2, 48, 2


@pytest.fixture(scope="module")
def tiny_gguf(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A GGUF file of a random two-layer Llama, whose tokens are bytes and "in"."""
    path = tmp_path_factory.mktemp("gguf") / "tiny.gguf"
    tokens = ["<|endoftext|>", *bytes_of_gpt2(), "in"]
    writer = gguf.GGUFWriter(path, "llama")
    writer.add_context_length(64)
    writer.add_embedding_length(WIDTH)
    writer.add_block_count(LAYERS)
    writer.add_feed_forward_length(INNER)
    writer.add_head_count(HEADS)
    writer.add_head_count_kv(HEADS)
    writer.add_layer_norm_rms_eps(1e-5)
    writer.add_rope_dimension_count(WIDTH // HEADS)
    writer.add_vocab_size(len(tokens))
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre("smollm")
    writer.add_token_list(tokens)
    writer.add_token_types([3, *[1] * (len(tokens) - 1)])
    writer.add_token_merges(["i n"])
    writer.add_bos_token_id(0)
    writer.add_eos_token_id(0)
    writer.add_unk_token_id(0)
    random = np.random.default_rng(0)
    shapes = {"attn_q": (WIDTH, WIDTH), "attn_k": (WIDTH, WIDTH), "attn_v": (WIDTH, WIDTH)}
    shapes |= {"attn_output": (WIDTH, WIDTH), "ffn_gate": (INNER, WIDTH), "ffn_up": (INNER, WIDTH)}
    shapes |= {"ffn_down": (WIDTH, INNER), "attn_norm": (WIDTH,), "ffn_norm": (WIDTH,)}
    table = {f"blk.{layer}.{name}.weight": shape for layer in range(LAYERS) for name, shape in shapes.items()}
    table |= {"token_embd.weight": (len(tokens), WIDTH), "output_norm.weight": (WIDTH,)}
    for name, shape in table.items():
        writer.add_tensor(name, random.normal(0.0, 0.3, shape).astype(np.float32))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path


def bytes_of_gpt2() -> list[str]:
    """The 256 characters that stand for bytes in the vocabulary of GPT-2."""
    printable = [*range(33, 127), *range(161, 173), *range(174, 256)]
    others = [byte for byte in range(256) if byte not in printable]
    return [chr(byte) for byte in printable] + [chr(256 + place) for place in range(len(others))]


def test_embeddings_are_means_over_the_tokens_of_the_last_layer(tiny_gguf: Path) -> None:
    from transformers import AutoModel, AutoTokenizer

    texts = ["a late parcel", "my invoice is wrong and was charged twice"]
    found = embeddings(Rows.from_inputs(texts), str(tiny_gguf), ProbeLearner(str(tiny_gguf), precision="float32"))
    with quiet():
        model = AutoModel.from_pretrained(tiny_gguf.parent, gguf_file=tiny_gguf.name, dtype=torch.float32)
        tokenizer = AutoTokenizer.from_pretrained(tiny_gguf.parent, gguf_file=tiny_gguf.name)
    for row, text in enumerate(texts):
        with torch.no_grad():
            hidden = model(**tokenizer(text, return_tensors="pt")).last_hidden_state[0]
        assert len(hidden) > 10
        torch.testing.assert_close(found[row], hidden.mean(0), rtol=1e-4, atol=1e-4)


def test_probe_learns_from_a_gguf_file_and_the_check_compares_it(tiny_gguf: Path) -> None:
    texts, topics = material.tickets(60)
    rows = Rows.from_inputs(texts, topics)
    learner = ProbeLearner(str(tiny_gguf), max_length=32)
    predictor = learner.fit(learner.prepare(rows), torch.arange(60), rows.labels, seed=0)
    right = predictor.outputs(learner.prepare(rows), names={"logits"}).logits.argmax(1) == rows.labels
    assert right.double().mean() > 0.5
    found = compare_encoders(rows, models=[str(tiny_gguf)])
    assert [score.name for score in found.scores] == [str(tiny_gguf), "TF-IDF"]


def test_gguf_file_is_not_fine_tuned(tiny_gguf: Path) -> None:
    rows = Rows.from_inputs(["a", "b"], ["x", "y"])
    learner = TransformerLearner(str(tiny_gguf))
    with pytest.raises(LearnerError, match="cannot be trained further: a ProbeLearner reads its embeddings"):
        learner.fit(learner.prepare(rows), torch.arange(2), rows.labels, seed=0)


@pytest.mark.parametrize("content", [None, b"", b"GGUF" + b"\xff" * 64])
def test_missing_or_damaged_file_is_refused_in_one_line(tmp_path: Path, content: bytes | None) -> None:
    if content is not None:
        (tmp_path / "broken.gguf").write_bytes(content)
    with pytest.raises(DalError) as caught:
        embeddings(Rows.from_inputs(["a", "b"]), str(tmp_path / "broken.gguf"))
    assert "\n" not in str(caught.value)
    assert "broken.gguf" in str(caught.value)
