import sys

import pytest
import torch
import transformers
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


#: Name of the layer between the pretrained features and the last layer.
POOLERS = {
    "albert": "albert.pooler",
    "bart": "classification_head.dense",
    "bert": "bert.pooler.dense",
    "deberta-v2": "pooler.dense",
    "distilbert": "pre_classifier",
    "electra": "classifier.dense",
    "modernbert": "head.dense",
    "mpnet": "classifier.dense",
    "roberta": "classifier.dense",
    "t5": "classification_head.dense",
    "xlnet": "sequence_summary.summary",
}


@pytest.fixture
def checkpoint(tmp_path):
    """Writes the weights of a tiny model whose names pass a condition."""

    def write(name, kept):
        model = build(name)
        model.save_pretrained(tmp_path / "model")
        weights = {n: w for n, w in model.state_dict().items() if kept(n)}
        save_file(
            {n: w.clone() for n, w in weights.items()}, tmp_path / "model" / "model.safetensors", {"format": "pt"}
        )
        return tmp_path / "model", model

    return write


@pytest.mark.parametrize("name", ALL)
def test_only_the_layer_that_the_checkpoint_lacks_starts_as_the_identity(name, checkpoint):
    pooler = POOLERS.get(name, "none")
    heads = (
        "classifier.weight",
        "classifier.bias",
        "classifier.out_proj.",
        "head.out_proj.",
        "score.",
        "logits_proj.",
        pooler,
    )
    folder, model = checkpoint(name, lambda n: not any(head in n for head in (*heads, pooler)))
    module = TransformerClassifier(folder, 3, pooling="pretrained")
    changed = []
    for path, layer in module.model.named_modules():
        if isinstance(layer, torch.nn.Linear) and layer.weight.shape[0] == layer.weight.shape[1] == 32:
            before = model.get_submodule(path).weight
            if not torch.equal(layer.weight, before):
                changed.append(path)
                assert torch.equal(layer.weight, torch.eye(32))
                assert layer.bias is None or not layer.bias.any()
    assert changed == ([pooler] if name in POOLERS else [])


@torch.no_grad()
def test_features_of_an_identity_pooler_are_those_of_the_pretrained_encoder(checkpoint):
    folder, model = checkpoint("bert", lambda n: "pooler" not in n and "classifier" not in n)
    module, batch = TransformerClassifier(folder, 3, pooling="pretrained").eval(), rows([6, 5])
    expected = model.bert(**batch).last_hidden_state[:, 0].tanh()
    torch.testing.assert_close(module.features(batch), expected, rtol=1e-4, atol=1e-5)


def test_pooler_whose_biases_are_all_zero_counts_as_untrained_and_another_one_is_kept(checkpoint):
    folder, model = checkpoint("bert", lambda n: "classifier" not in n)
    kept = TransformerClassifier(folder, 3, pooling="pretrained").model.bert.pooler.dense
    assert torch.equal(kept.weight, model.bert.pooler.dense.weight)
    weights = load_file(folder / "model.safetensors")
    weights["bert.pooler.dense.bias"].zero_()
    save_file(weights, folder / "model.safetensors", {"format": "pt"})
    replaced = TransformerClassifier(folder, 3, pooling="pretrained").model.bert.pooler.dense
    assert torch.equal(replaced.weight, torch.eye(32))
    assert torch.equal(TransformerClassifier(folder, 3).model.bert.pooler.dense.weight, model.bert.pooler.dense.weight)


def test_model_that_is_fine_tuned_to_the_same_classes_keeps_its_layers(checkpoint):
    folder, model = checkpoint("bert", lambda n: True)
    weights = load_file(folder / "model.safetensors")
    weights["bert.pooler.dense.bias"].zero_()
    save_file(weights, folder / "model.safetensors", {"format": "pt"})
    dense = TransformerClassifier(folder, 3, pooling="pretrained").model.bert.pooler.dense
    assert torch.equal(dense.weight, model.bert.pooler.dense.weight)


@pytest.mark.parametrize("name", ALL)
@torch.no_grad()
def test_encoder_of_means_pools_the_mean_over_the_tokens(name, checkpoint):
    folder, model = checkpoint(name, lambda n: n.startswith(build(name).base_model_prefix + ".") and "pooler" not in n)
    (folder / "1_Pooling").mkdir()
    (folder / "1_Pooling" / "config.json").write_text('{"pooling_mode_mean_tokens": true}')
    module, batch = TransformerClassifier(folder, 3, pooling="pretrained").eval(), rows([7, 5, 3])
    assert (module.started_pooling == "mean") == (name in {"bert", "electra", "roberta"})
    if module.started_pooling == "mean":
        assert module.model.config.num_hidden_layers == 3
        tokens, mask = model.base_model(**batch).last_hidden_state, batch["attention_mask"][:, :, None]
        mean = torch.nn.functional.layer_norm((tokens * mask).sum(1) / mask.sum(1), (32,))
        pooled = module.trunk()(**batch).last_hidden_state[:, 0]
        torch.testing.assert_close(pooled, mean, rtol=0, atol=1e-2)


def test_layer_that_takes_means_is_not_trained_and_is_saved_for_transformers(checkpoint, tmp_path):
    folder, _ = checkpoint("bert", lambda n: "pooler" not in n and "classifier" not in n)
    (folder / "1_Pooling").mkdir()
    (folder / "1_Pooling" / "config.json").write_text('{"pooling_mode_mean_tokens": true}')
    module = TransformerClassifier(folder, 3, pooling="pretrained").eval()
    assert not [name for name, _ in module.named_parameters() if "layer.2" in name]
    module.save(tmp_path / "saved")
    loaded = transformers.AutoModelForSequenceClassification.from_pretrained(tmp_path / "saved").eval()
    with torch.no_grad():
        torch.testing.assert_close(loaded(**rows([7, 4])).logits, module(rows([7, 4])), rtol=1e-5, atol=1e-6)
