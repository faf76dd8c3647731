"""Parameter-efficient fine-tuning: low-rank updates (LoRA) and frozen lower layers."""

import copy
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn
from transformers import PreTrainedModel
from transformers.pytorch_utils import Conv1D

from dal.errors import ConfigError, LearnerError, require
from dal.functional.checking import Options, shown
from dal.modules.token_mean import TokenMean, encoder_layers, like_bert

#: Factor of layer-normed features at which tanh is nearly linear.
_LINEAR = 0.3


@dataclass(frozen=True)
class LoRA:
    """Low-rank updates of the pretrained linear layers (Hu et al. 2021), trained together with the head.

    Attributes:
        rank: rank of each update.
        alpha: updates are scaled by alpha / rank.
        dropout: dropout probability on the input of the updates.
        layers: suffixes of the names of the layers to update ("query", "value"); `None` for every linear layer.
    """

    rank: int = 8
    alpha: float = 16.0
    dropout: float = 0.0
    layers: list[str] | None = None

    def __post_init__(self) -> None:
        options = Options(self)
        options.whole("rank", least=1)
        options.number("alpha", above=0)
        options.number("dropout", least=0, below=1)
        if self.layers is not None and (
            isinstance(self.layers, str) or not self.layers or not all(isinstance(each, str) for each in self.layers)
        ):
            raise ConfigError(f"layers of LoRA must be a list of names or null, not {shown(self.layers)}")


def add_lora(model: PreTrainedModel, lora: LoRA, new: frozenset[str]) -> None:
    """Add low-rank updates to the linear layers of the pretrained part, in place.

    Only the updates, the layers outside the pretrained part, and the parameters named in `new` (missing from the
    checkpoint) are trained.
    """
    peft = require("peft", "lora")
    base = model.base_model
    prefix = next(name for name, module in model.named_modules() if module is base)
    targets = [
        f"{prefix}.{name}"
        for name, module in base.named_modules()
        if isinstance(module, nn.Linear | Conv1D)
        and (lora.layers is None or any(name == end or name.endswith(f".{end}") for end in lora.layers))
    ]
    if not targets:
        raise LearnerError(f"LoRA: {type(base).__name__} has no linear layer whose name ends in {lora.layers}")
    fresh = {id(parameter) for name, parameter in model.named_parameters() if name in new}
    fresh |= {id(parameter) for parameter in model.parameters()} - {id(parameter) for parameter in base.parameters()}
    config = peft.LoraConfig(
        r=lora.rank,
        lora_alpha=lora.alpha,
        lora_dropout=lora.dropout,
        target_modules=targets,
        fan_in_fan_out=any(isinstance(module, Conv1D) for module in base.modules()),
    )
    peft.inject_adapter_in_model(config, model)
    for name, parameter in model.named_parameters():
        parameter.requires_grad = ".lora_" in name or id(parameter) in fresh


def merged(model: PreTrainedModel) -> PreTrainedModel:
    """Copy of the model with its low-rank updates merged into the weights, or the model itself if it has none."""
    if not any(hasattr(module, "lora_A") for module in model.modules()):
        return model
    plain = copy.deepcopy(model)
    for name, module in list(plain.named_modules()):
        if hasattr(module, "lora_A"):
            layer: Any = module
            layer.merge()
            parent, _, leaf = name.rpartition(".")
            setattr(plain.get_submodule(parent), leaf, layer.get_base_layer())
    if hasattr(plain, "peft_config"):
        del plain.peft_config
    return plain


def freeze_lower(model: PreTrainedModel, count: int, new: frozenset[str]) -> None:
    """Freeze the embeddings and the `count` lowest layers, in place, except for parameters named in `new`.

    The layers of an encoder-decoder are counted from the first of the encoder to the last of the decoder.
    """
    base = model.base_model
    layers = _layers(base)
    if not 0 <= count <= len(layers):
        raise LearnerError(f"freeze={count}, but {type(base).__name__} has {len(layers)} layers")
    within = {id(parameter) for layer in layers for parameter in layer.parameters()}
    tables = {id(p) for m in base.modules() if isinstance(m, nn.Embedding) for p in m.parameters()}
    frozen = {id(parameter) for layer in layers[:count] for parameter in layer.parameters()}
    before = True
    for name, parameter in base.named_parameters():
        before = before and id(parameter) not in within
        embeds = before or "embed" in name or id(parameter) in tables
        if id(parameter) in frozen or (embeds and id(parameter) not in within):
            parameter.requires_grad = False
    for name, parameter in model.named_parameters():
        if name in new:
            parameter.requires_grad = True


def start_pooling(model: PreTrainedModel, last: str, new: frozenset[str], *, means: bool) -> str:
    """Start untrained pooling as that of the pretrained encoder, in place.

    Many checkpoints lack a trained pooler: it is missing, or has the weights of an initialisation, which its biases of
    exactly 0 tell. Such a layer is a random projection, through which a head learns from few labels slowly and by luck;
    it becomes the identity. If the encoder was trained for means, encoders like BERT also get `TokenMean` as their last
    layer, so that the token that is pooled is the layer norm of the mean over all tokens.

    Args:
        model: sequence-classification model; one with a trained last layer is left as it is.
        last: name of its last linear layer.
        new: names of the parameters that the checkpoint lacks.
        means: whether the encoder was trained for means over all tokens.

    Returns:
        What was done: "mean", "identity" or "".
    """
    if f"{last}.weight" not in new:
        return ""
    base, done = model.base_model, ""
    layers = encoder_layers(model)
    repeated = {id(module) for layer in _layers(base) for module in layer.modules()}
    means = means and layers is not None and like_bert(layers)
    for name, module in model.named_modules():
        square = isinstance(module, nn.Linear) and module.in_features == module.out_features
        if not square or name == last or id(module) in repeated:
            continue
        bias: nn.Parameter | None = module.bias
        if f"{name}.weight" in new or (bias is not None and not bool(bias.any())):
            with torch.no_grad():
                module.weight.copy_((_LINEAR if means else 1.0) * torch.eye(module.in_features))
                if bias is not None:
                    bias.zero_()
            done = "identity"
    if layers is not None and means and done:
        layers.append(TokenMean(layers[-1]))
        model.config.num_hidden_layers += 1
        done = "mean"
    return done


def _layers(base: nn.Module) -> list[nn.Module]:
    """Repeated blocks, lowest first: the members of each outermost `ModuleList`."""
    found: list[nn.Module] = []
    outer: list[str] = []
    for name, module in base.named_modules():
        if isinstance(module, nn.ModuleList) and not any(name.startswith(f"{above}.") for above in outer):
            outer.append(name)
            found.extend(module)
    return found
