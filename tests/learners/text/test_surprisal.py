"""Surprisal: what a checkpoint's own masked-language-model head says of a text, before any label."""

from pathlib import Path
from typing import Any

import material
import pytest
import torch
import transformers as hf
from modules.architectures import CONFIGS
from torch.nn import functional as F

from dal.data import Rows, Splits
from dal.errors import LearnerError, NeedError
from dal.learners.probe_learner import ProbeLearner
from dal.learners.text import masked_models
from dal.learners.text.masked_models import SHARE
from dal.learners.text.surprisal import MaskedLanguageModel, Surprisal, draw_tokens
from dal.learners.transformer_learner import TransformerLearner
from dal.session import Session
from dal.strategies.text import ALPS
from dal.testing import check_learner

WIDTH = 24


def write(folder: Path, name: str = "bert", kind: str = "ForMaskedLM", **changes: Any) -> Path:
    """A folder with a tokenizer and a random model of an architecture, far from symmetric."""
    size = material.write_tokenizer(folder)
    family, options = CONFIGS[name]
    config = getattr(hf, f"{family}Config")(**{**options, "vocab_size": size, "pad_token_id": 0, **changes})
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model = getattr(hf, f"{family}{kind}")(config)
        with torch.no_grad():
            for parameter in model.parameters():
                parameter.add_(0.1 * torch.randn_like(parameter))
        model.save_pretrained(folder)
    return folder


@pytest.fixture(scope="module")
def masked(tmp_path_factory) -> Path:
    return write(tmp_path_factory.mktemp("masked") / "bert")


@pytest.fixture(scope="module")
def rows() -> Rows:
    return Rows.from_inputs(*material.tickets(40))


@pytest.fixture(scope="module")
def learner(masked: Path) -> TransformerLearner:
    return TransformerLearner(str(masked), max_length=WIDTH, precision="float32", device="cpu")


@pytest.fixture(scope="module")
def data(learner, rows):
    return learner.prepare(rows)


@pytest.fixture(scope="module")
def surprisal(learner, data):
    return learner.untrained(data).outputs(data, names={"surprisal"}).surprisal


def test_is_the_loss_of_the_unmasked_text_at_a_share_of_its_tokens(masked, rows, surprisal):
    tokenizer, model = hf.AutoTokenizer.from_pretrained(masked), hf.BertForMaskedLM.from_pretrained(masked).eval()
    assert surprisal.shape == (40, WIDTH)
    for text, found in zip(rows.texts(), surprisal, strict=True):
        batch = tokenizer(text, return_tensors="pt")
        with torch.no_grad():
            logits = model(**batch).logits[0]
        losses = F.cross_entropy(logits, batch["input_ids"][0], reduction="none")
        drawn = found.nonzero().flatten()
        assert len(drawn) == max(1, round(SHARE * (len(losses) - 2)))
        assert drawn.min() > 0
        assert drawn.max() < len(losses) - 1  # neither [CLS] nor [SEP]
        torch.testing.assert_close(found[drawn], losses[drawn], rtol=1e-4, atol=1e-4)


def test_a_row_is_the_same_in_any_batch_and_copies_are_equal(learner, data, surprisal):
    some = torch.tensor([7, 3, 7, 39])
    alone = learner.untrained(data).outputs(data, some, {"surprisal"}).surprisal
    torch.testing.assert_close(alone, surprisal[some], rtol=1e-4, atol=1e-4)
    assert torch.equal(alone[0] > 0, alone[2] > 0)


def test_another_seed_draws_other_tokens(learner, data, surprisal):
    other = learner.untrained(data).outputs(data, names={"surprisal"}, seed=1).surprisal
    assert ((other > 0) != (surprisal > 0)).any(1).float().mean() > 0.5


def test_it_is_read_beside_what_is_trained(learner, rows, data, surprisal):
    chosen = torch.arange(20)
    short = TransformerLearner(str(learner.model), max_length=WIDTH, min_steps=1, max_steps=1, device="cpu")
    predictor = short.fit(data, chosen, rows.labels[chosen], seed=0)
    outputs = predictor.outputs(data, chosen, {"surprisal", "probs", "embeddings"}, exact=True)
    torch.testing.assert_close(outputs.surprisal, surprisal[:20], rtol=1e-4, atol=1e-4)
    assert outputs.probs.shape == (20, 4)
    assert outputs.embeddings.shape[0] == 20


@pytest.mark.filterwarnings("ignore:.torch.jit.script")
@pytest.mark.parametrize(
    "name", ["bert", "distilbert", "roberta", "electra", "albert", "mpnet", "modernbert", "deberta-v2"]
)
def test_the_head_alone_gives_what_the_whole_model_does(name, tmp_path, rows, monkeypatch):
    folder = write(tmp_path / name, name)
    data = TransformerLearner(str(folder), max_length=WIDTH).prepare(rows)
    reader = Surprisal(str(folder), WIDTH, "float32", 4096, torch.device("cpu"))
    assert MaskedLanguageModel(str(folder), WIDTH, 0)._apart
    apart = reader.read(data)
    monkeypatch.setattr(MaskedLanguageModel, "_splits", lambda self: False)
    torch.testing.assert_close(apart, reader.read(data), rtol=1e-4, atol=1e-4)


def test_a_checkpoint_without_a_head_is_refused_when_it_is_read(tiny_bert, rows):
    for learner in (TransformerLearner(str(tiny_bert)), ProbeLearner(str(tiny_bert))):
        data = learner.prepare(rows)
        with pytest.raises(LearnerError, match=r"no trained masked-language-model head \(\d+ weights are missing"):
            learner.untrained(data).outputs(data, names={"surprisal"})


@pytest.mark.parametrize(
    ("name", "kind", "changes"),
    [
        ("gpt2", "LMHeadModel", {}),
        ("llama", "ForCausalLM", {}),
        ("bart", "ForConditionalGeneration", {}),
        ("bert", "LMHeadModel", {"is_decoder": True}),
    ],
)
def test_a_model_that_predicts_no_masked_words_is_refused(name, kind, changes, tmp_path):
    folder = write(tmp_path / name, name, kind, **changes)
    with pytest.raises(LearnerError, match="is not a masked-language model; use a masked-language model"):
        MaskedLanguageModel(str(folder), WIDTH, 0)


def test_a_checkpoint_whose_head_has_another_vocabulary_is_refused(masked, tmp_path):
    folder = write(tmp_path / "bert")
    config = hf.AutoConfig.from_pretrained(folder)
    config.vocab_size += 3
    config.save_pretrained(folder)
    with pytest.raises(LearnerError, match="no trained masked-language-model head"):
        MaskedLanguageModel(str(folder), WIDTH, 0)


def test_vectors_have_no_surprisal():
    learner = ProbeLearner(model=None)
    assert "surprisal" not in learner.provides | learner.label_free
    data = learner.prepare(Rows.from_inputs(*material.clusters(20)))
    with pytest.raises(NeedError, match="surprisal"):
        learner.untrained(data).outputs(data, names={"surprisal"})


def test_a_probe_reads_the_same_and_no_embeddings_for_it(masked, rows, data, surprisal, monkeypatch):
    monkeypatch.setattr("dal.learners.probe_predictor.embedded", None)  # calling it would fail
    learner = ProbeLearner(str(masked), max_length=WIDTH, precision="float32", device="cpu")
    found = learner.untrained(data).outputs(data, names={"surprisal"}).surprisal
    torch.testing.assert_close(found, surprisal, rtol=1e-4, atol=1e-4)


def test_learners_with_and_without_a_head_keep_the_contract(masked, tiny_bert):
    with_head = check_learner(ProbeLearner(str(masked), precision="float32"))
    assert "surprisal" in with_head["provided names"].message.split("; ")[0]
    without = check_learner(ProbeLearner(str(tiny_bert), precision="float32"))
    assert without["provided names"].message.endswith("this checkpoint lacks surprisal")


def test_a_session_starts_from_it_without_any_label(masked, rows):
    learner = ProbeLearner(str(masked), max_length=WIDTH, precision="float32", device="cpu")
    with Session(Splits(rows), learner, ALPS(), hide_labels=True) as session:
        assert len(session.ask(5).unique()) == 5


def test_large_vocabularies_get_smaller_batches(masked, monkeypatch):
    reader = MaskedLanguageModel(str(masked), WIDTH, 0)
    monkeypatch.setattr(masked_models, "LARGEST_PREDICTIONS", 15 * reader.model.config.vocab_size)
    assert reader.most_tokens == 100


def test_padding_and_neighbours_do_not_change_the_draw():
    ids = torch.tensor([[2, 11, 12, 13, 14, 15, 3, 0, 0], [2, 11, 12, 13, 14, 15, 3, 0, 0]])
    real = ids != 0
    ordinary = real & (ids > 3)
    wide = draw_tokens(ids, real, ordinary, share=0.4, seed=5)
    narrow = draw_tokens(ids[:1, :7], real[:1, :7], ordinary[:1, :7], share=0.4, seed=5)
    assert wide.sum(1).tolist() == [2, 2]
    assert torch.equal(wide[0], wide[1])
    assert torch.equal(wide[0, :7], narrow[0])


def test_every_token_is_drawn_equally_often():
    ids = torch.arange(10_000)[:, None] * 7 + torch.arange(10)
    real = torch.ones_like(ids, dtype=torch.bool)
    often = draw_tokens(ids, real, real, share=0.3, seed=0).float().mean(0)
    assert ((often - 0.3).abs() < 5 * (0.21 / 10_000) ** 0.5).all()


def test_a_text_of_special_tokens_alone_has_none_drawn():
    real = torch.ones(2, 3, dtype=torch.bool)
    assert not draw_tokens(torch.ones(2, 3, dtype=torch.int64), real, ~real, share=0.5, seed=0).any()


def test_thresholds_of_a_probe_are_passed_on_with_the_surprisal(masked):
    texts, labels = material.tickets(40)
    rows = Rows.from_inputs(texts, [[label] for label in labels], classes=sorted(material.TOPICS), multilabel=True)
    probe = ProbeLearner(str(masked), max_length=WIDTH)
    prepared = probe.prepare(rows)
    predictor = probe.fit(prepared, torch.arange(20), rows.labels[:20], seed=0)
    both = predictor.outputs(prepared, names={"surprisal", "logits"})
    assert torch.equal(both.decisions, predictor.outputs(prepared).decisions)
    assert both.thresholds is predictor.thresholds is not None
