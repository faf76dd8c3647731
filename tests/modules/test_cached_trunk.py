"""Upper layers on the states of the lower ones: the same network as the whole model, and saved as one."""

from pathlib import Path

import architectures
import pytest
import torch

from dal.errors import LearnerError
from dal.modules.cached_trunk import STATES, SUPPORTED, LowerLayers, UpperLayers
from dal.modules.transformer import TransformerClassifier

FAMILIES = ["bert", "distilbert", "roberta", "mpnet", "deberta-v2"]


@pytest.fixture(params=FAMILIES)
def folder(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    layers = {"n_layers" if request.param == "distilbert" else "num_hidden_layers": 3}
    architectures.build(request.param, **layers).save_pretrained(tmp_path / "model")
    return tmp_path / "model"


def stated(folder: Path, upper: int, batch: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """The batch of the upper layers, in float32."""
    with torch.no_grad():
        states = LowerLayers(folder, upper).compute(batch, ())["states"]
    states[batch["attention_mask"] == 0] = 0.0
    return {STATES: states, "attention_mask": batch["attention_mask"]}


@pytest.mark.parametrize("upper", [1, 2])
def test_upper_layers_on_float32_states_equal_the_frozen_model(folder: Path, upper: int) -> None:
    batch = architectures.rows([9, 5, 12])
    whole = TransformerClassifier(folder, freeze=3 - upper, mc_mode="head").eval()
    above = UpperLayers(folder, lower=3 - upper, mc_mode="head").eval()
    read = stated(folder, upper, batch)
    names = {"logits", "features"}
    with torch.no_grad():
        expected, found = whole.compute(batch, names), above.compute(read, names)
    for name in names:
        torch.testing.assert_close(found[name], expected[name], atol=1e-5, rtol=1e-4)
    for joint in (False, True):
        with torch.no_grad():
            samples = [
                each.mc_logits(given, 3, torch.Generator().manual_seed(5), joint=joint)
                for each, given in ((whole, batch), (above, read))
            ]
        torch.testing.assert_close(samples[1], samples[0], atol=1e-5, rtol=1e-4)


def test_only_upper_layers_and_head_are_trained(folder: Path) -> None:
    above = UpperLayers(folder, lower=1)
    trained = {name for name, value in above.named_parameters() if value.requires_grad}
    assert {name.split(".layer.")[1][0] for name in trained if ".layer." in name} == {"0", "1"}
    assert not any("relative_attention_bias" in name or "rel_embeddings" in name for name in trained)
    assert any("classifier" in name for name in trained)
    loss = above.loss(above(stated(folder, 2, architectures.rows([4, 7]))), torch.tensor([0, 2]))
    loss.backward()
    assert all(value.grad is not None for name, value in above.named_parameters() if name in trained)


def test_saved_folder_is_the_whole_model_with_the_trained_layers(folder: Path, tmp_path: Path) -> None:
    batch = architectures.rows([9, 5, 12])
    above = UpperLayers(folder, ["x", "y", "z"], lower=2).eval()
    with torch.no_grad():
        for value in above.parameters():
            if value.requires_grad:
                value.add_(0.02 * torch.randn(value.shape, generator=torch.Generator().manual_seed(1)))
    above.save(tmp_path / "saved")
    whole = TransformerClassifier(tmp_path / "saved").eval()
    assert whole.model.config.id2label == {0: "x", 1: "y", 2: "z"}
    with torch.no_grad():
        torch.testing.assert_close(whole(batch), above(stated(folder, 1, batch)), atol=1e-5, rtol=1e-4)
    again = UpperLayers(tmp_path / "saved", lower=2)
    assert again.lower_digest == above.lower_digest == LowerLayers(folder, 1).digest


def test_digest_tells_other_lower_layers(folder: Path, tmp_path: Path) -> None:
    whole = TransformerClassifier(folder)
    before = LowerLayers(folder, 1).digest
    with torch.no_grad():
        next(value for name, value in whole.named_parameters() if ".layer.0." in name).mul_(1.5)
    whole.save(tmp_path / "changed")
    assert LowerLayers(tmp_path / "changed", 1).digest != before
    assert LowerLayers(folder, 2).digest != before


@pytest.mark.parametrize("name", ["electra", "modernbert", "gpt2", "bart"])
def test_other_models_are_refused_with_the_supported_ones(name: str, tmp_path: Path) -> None:
    architectures.build(name).save_pretrained(tmp_path)
    with pytest.raises(LearnerError, match="trunk: cached supports models of the types") as caught:
        UpperLayers(tmp_path, lower=1)
    assert all(kind in str(caught.value) for kind in SUPPORTED)
    assert "\n" not in str(caught.value)


def test_a_convolution_between_the_layers_is_refused(tmp_path: Path) -> None:
    architectures.build("deberta-v2", conv_kernel_size=3, conv_act="gelu").save_pretrained(tmp_path)
    with pytest.raises(LearnerError, match="with a convolution"):
        LowerLayers(tmp_path, 1)


def test_a_model_without_a_lower_layer_is_refused(folder: Path) -> None:
    with pytest.raises(LearnerError, match=r"layers is 3, and the model has 3: .*leave trunk out"):
        LowerLayers(folder, 3)


def test_layer_that_takes_the_mean_has_nothing_to_train_and_is_saved(tmp_path: Path) -> None:
    encoder = architectures.build("bert", num_hidden_layers=3).base_model
    encoder.pooler.dense.bias.data.zero_()  # as one that was never trained
    encoder.save_pretrained(tmp_path / "model")
    (tmp_path / "model" / "1_Pooling").mkdir()
    (tmp_path / "model" / "1_Pooling" / "config.json").write_text('{"pooling_mode_mean_tokens": true}')
    batch = architectures.rows([9, 5, 12])
    above = UpperLayers(tmp_path / "model", 3, lower=2, pooling="pretrained").eval()
    assert above.started_pooling == "mean"
    layers = {name.split(".layer.")[1][0] for name, _ in above.named_parameters() if ".layer." in name}
    assert layers == {"0"}  # that of the mean has no parameters
    whole = TransformerClassifier(tmp_path / "model", 3, pooling="pretrained").eval()
    read = stated(tmp_path / "model", 1, batch)
    with torch.no_grad():
        torch.testing.assert_close(above(read), whole(batch), atol=1e-4, rtol=1e-3)
        above.save(tmp_path / "saved")
        saved = TransformerClassifier(tmp_path / "saved").eval()
        torch.testing.assert_close(saved(batch), above(read), atol=1e-4, rtol=1e-3)
    assert saved.model.config.num_hidden_layers == 4
    assert UpperLayers(tmp_path / "saved", lower=2).lower_digest == LowerLayers(tmp_path / "model", 1).digest
