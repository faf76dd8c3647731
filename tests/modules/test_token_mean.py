"""`TokenMean`: the same function as the layer of BERT that stands for it in folders."""

from pathlib import Path

import architectures
import pytest
import torch
from torch.nn import functional as F

from dal.modules.adapting import LoRA
from dal.modules.token_mean import TokenMean, is_mean_layer, mean_as_layer, mean_layer, take_means_directly
from dal.modules.transformer import TransformerClassifier

BERT_LIKE = ("bert", "electra", "roberta")


def means_folder(folder: Path, name: str = "bert") -> Path:
    """A checkpoint of an encoder that was trained for means, without a head."""
    architectures.build(name).base_model.save_pretrained(folder)
    (folder / "1_Pooling").mkdir()
    (folder / "1_Pooling" / "config.json").write_text('{"pooling_mode_mean_tokens": true}')
    if name == "bert":  # its pooler was never trained
        model = architectures.build(name).base_model
        model.pooler.dense.bias.data.zero_()
        model.save_pretrained(folder)
    return folder


@pytest.mark.parametrize("attention", ["sdpa", "eager"])
@pytest.mark.parametrize("lengths", [[7, 5, 3], [6, 6]])
@pytest.mark.parametrize("name", BERT_LIKE)
@torch.no_grad()
def test_first_token_is_that_of_the_layer(name: str, lengths: list[int], attention: str) -> None:
    model = architectures.build(name)
    model.set_attn_implementation(attention)
    layers = model.base_model.encoder.layer
    layers.append(mean_layer(layers[-1]))
    batch = architectures.rows(lengths)
    expected = model.base_model(**batch).last_hidden_state[:, :1]
    logits = model(**batch).logits
    assert take_means_directly(model)
    assert isinstance(layers[-1], TokenMean)
    torch.testing.assert_close(model.base_model(**batch).last_hidden_state, expected, rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(model(**batch).logits, logits, rtol=1e-5, atol=1e-5)


@torch.no_grad()
def test_mean_of_two_tokens_by_hand() -> None:
    mean = TokenMean(architectures.build("bert").base_model.encoder.layer[0]).eval()
    tokens = torch.zeros(1, 3, 32)
    tokens[0, 0, 0], tokens[0, 1, 0], tokens[0, 2] = 2.0, 4.0, 100.0  # the third is padding
    expected = F.layer_norm(F.one_hot(torch.tensor([[0]]), 32) * 8192 * 3.0, (32,))
    torch.testing.assert_close(mean(tokens, torch.tensor([[1, 1, 0]])), expected, rtol=1e-5, atol=1e-5)


@torch.no_grad()
def test_dropout_in_training_has_the_distribution_of_the_layer() -> None:
    layer = mean_layer(architectures.build("bert").base_model.encoder.layer[0]).train()
    direct = TokenMean(layer).train()
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        tokens = torch.randn(1, 5, 32).expand(20_000, -1, -1)
        drawn = [each(tokens)[:, 0] for each in (layer, direct)]  # (20000, 32) each
    torch.testing.assert_close(drawn[1].mean(0), drawn[0].mean(0), rtol=0, atol=0.03)
    torch.testing.assert_close(drawn[1].std(0), drawn[0].std(0), rtol=0, atol=0.03)
    assert drawn[0].std(0).min() > 0.1


@pytest.mark.parametrize("name", BERT_LIKE)
@torch.no_grad()
def test_a_saved_folder_holds_the_layer_and_is_computed_directly_again(name: str, tmp_path: Path) -> None:
    import transformers

    module = TransformerClassifier(means_folder(tmp_path / "model", name), 3, pooling="pretrained").eval()
    assert module.started_pooling == "mean"
    batch = architectures.rows([7, 4])
    module.save(tmp_path / "saved")
    assert isinstance(module.model.base_model.encoder.layer[-1], TokenMean)  # saving leaves the model as it is
    theirs = transformers.AutoModelForSequenceClassification.from_pretrained(tmp_path / "saved").eval()
    assert is_mean_layer(theirs.base_model.encoder.layer[-1])
    torch.testing.assert_close(module(batch), theirs(**batch).logits, rtol=1e-5, atol=1e-5)
    again = TransformerClassifier(tmp_path / "saved").eval()
    assert isinstance(again.model.base_model.encoder.layer[-1], TokenMean)
    torch.testing.assert_close(again(batch), module(batch), rtol=1e-6, atol=1e-6)
    again.save(tmp_path / "second")
    files = [(tmp_path / folder / "model.safetensors").read_bytes() for folder in ("saved", "second")]
    assert files[0] == files[1]


def test_the_layer_is_put_back_after_an_error() -> None:
    model = architectures.build("bert")
    model.base_model.encoder.layer.append(mean_layer(model.base_model.encoder.layer[-1]))
    take_means_directly(model)
    with pytest.raises(OSError, match="disk is full"), mean_as_layer(model):
        raise OSError("the disk is full")
    assert isinstance(model.base_model.encoder.layer[-1], TokenMean)


@pytest.mark.parametrize("name", architectures.ALL)
def test_other_layers_stay_as_they_are(name: str) -> None:
    assert not take_means_directly(architectures.build(name))


def test_low_rank_updates_leave_the_mean_alone(tmp_path: Path) -> None:
    lora = TransformerClassifier(means_folder(tmp_path / "model"), 3, pooling="pretrained", lora=LoRA(rank=2))
    assert not list(lora.model.base_model.encoder.layer[-1].parameters())
    lora.save(tmp_path / "saved")
    assert isinstance(TransformerClassifier(tmp_path / "saved").model.base_model.encoder.layer[-1], TokenMean)
