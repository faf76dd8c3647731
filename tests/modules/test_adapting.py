import sys

import pytest
import torch
from architectures import ALL, build, rows
from safetensors.torch import load_file, save_file

from dal.errors import LearnerError, MissingExtraError
from dal.modules.adapting import LoRA
from dal.modules.transformer import TransformerClassifier


def trained(module):
    """Names of the parameters that one backward pass reaches."""
    batch = {**rows([6, 5]), "labels": torch.tensor([0, 1])}
    module.zero_grad()
    module.loss(module(batch), batch["labels"]).backward()
    return {name for name, parameter in module.model.named_parameters() if parameter.grad is not None}


def test_frozen_layers_and_embeddings_get_no_gradient():
    names = trained(TransformerClassifier(build("bert"), freeze=1))
    assert not [name for name in names if "embeddings" in name or "layer.0" in name]
    assert [name for name in names if "layer.1" in name]
    assert {"classifier.weight", "bert.pooler.dense.weight"} <= names


@pytest.mark.parametrize("name", [name for name in ALL if name != "albert"])
def test_nothing_below_the_frozen_layers_is_trained(name):
    module = TransformerClassifier(build(name), freeze=1)
    names = trained(module)
    assert not [n for n in names if "embed" in n or n.endswith(("wte.weight", "wpe.weight"))]
    assert any(n.startswith(module.model.base_model_prefix) for n in names)


def test_nothing_is_frozen_by_default():
    module = TransformerClassifier(build("distilbert"))
    assert trained(module) == {name for name, _ in module.model.named_parameters()}


def test_more_frozen_layers_than_there_are_is_refused():
    with pytest.raises(LearnerError, match="freeze=3, but BertModel has 2 layers"):
        TransformerClassifier(build("bert"), freeze=3)


def test_layers_that_the_checkpoint_lacks_are_trained_even_below_the_frozen_ones(tmp_path):
    build("bert").save_pretrained(tmp_path / "model")
    weights = load_file(tmp_path / "model" / "model.safetensors")
    kept = {name: value for name, value in weights.items() if "layer.0.output" not in name}
    save_file(kept, tmp_path / "model" / "model.safetensors", metadata={"format": "pt"})
    names = trained(TransformerClassifier(tmp_path / "model", freeze=1))
    assert "bert.encoder.layer.0.output.dense.weight" in names
    assert "bert.encoder.layer.0.intermediate.dense.weight" not in names


@pytest.mark.parametrize("name", ALL)
def test_lora_starts_at_the_pretrained_function_and_trains_only_updates_and_head(name):
    plain, module = TransformerClassifier(build(name)), TransformerClassifier(build(name), lora=LoRA(rank=2))
    batch = rows([6, 5])
    torch.testing.assert_close(module(batch), plain(batch), rtol=1e-4, atol=1e-5)
    prefix = module.model.base_model_prefix
    names = trained(module)
    assert [n for n in names if ".lora_A." in n]
    assert all(".lora_" in n for n in names if n.startswith(f"{prefix}."))
    assert any(not n.startswith(f"{prefix}.") for n in names)


@pytest.mark.parametrize("name", ["bert", "gpt2", "t5", "llama"])
@torch.no_grad()
def test_trained_lora_is_saved_merged_and_goes_on_working(name, tmp_path):
    module, batch = TransformerClassifier(build(name), lora=LoRA(rank=2)).eval(), rows([6, 5])
    before = module(batch)
    for parameter_name, parameter in module.named_parameters():
        if ".lora_B." in parameter_name:
            parameter.normal_(std=0.3, generator=torch.Generator().manual_seed(0))
    changed = module(batch)
    assert (changed - before).abs().max() > 1e-3
    module.save(tmp_path / "model")
    torch.testing.assert_close(TransformerClassifier(tmp_path / "model")(batch), changed, rtol=1e-3, atol=1e-5)
    assert torch.equal(module(batch), changed)
    assert sorted(path.name for path in (tmp_path / "model").glob("*.safetensors")) == ["model.safetensors"]


@torch.no_grad()
def test_features_head_and_samples_work_with_lora():
    module, batch = TransformerClassifier(build("roberta"), lora=LoRA(rank=2, dropout=0.1)), rows([6, 5])
    names = {"logits", "features", "mc_logits", "joint_mc_logits"}
    for mode in ("head", "full"):
        module.mc_mode = mode
        out = module.compute(batch, names, samples=3, generator=torch.Generator())
        assert torch.equal(module.head(out["features"]), out["logits"])
        assert len(out["mc_logits"][0].unique(dim=0)) == 3


def test_lora_can_be_limited_to_named_layers():
    module = TransformerClassifier(build("bert"), lora=LoRA(layers=["query", "value"]))
    adapted = {name for name, _ in module.named_modules() if name.endswith("lora_A")}
    assert len(adapted) == 4
    assert all("query" in name or "value" in name for name in adapted)
    with pytest.raises(LearnerError, match="no linear layer whose name ends in"):
        TransformerClassifier(build("bert"), lora=LoRA(layers=["q_proj"]))


def test_lora_depends_on_the_seed_alone():
    first, second, other = (TransformerClassifier(build("bert"), lora=LoRA(), seed=seed) for seed in (1, 1, 2))
    name = next(name for name, _ in first.named_parameters() if ".lora_A." in name)
    assert torch.equal(first.get_parameter(name), second.get_parameter(name))
    assert not torch.equal(first.get_parameter(name), other.get_parameter(name))


def test_lora_without_peft_names_the_extra(monkeypatch):
    monkeypatch.setitem(sys.modules, "peft", None)
    with pytest.raises(MissingExtraError, match="lora"):
        TransformerClassifier(build("bert"), lora=LoRA())


def test_lora_and_frozen_layers_exclude_each_other():
    with pytest.raises(LearnerError, match="exclude each other"):
        TransformerClassifier(build("bert"), lora=LoRA(), freeze=1)
