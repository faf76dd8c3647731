"""The mean over the tokens as the last layer of an encoder like BERT, computed directly.

Transformers pools the first token, so a model whose pooled token is the mean over all tokens needs a last layer that
computes it. As a layer of BERT (`mean_layer`) any version of transformers reads it, at the cost of a whole layer.
`TokenMean` computes the same function for the first token only, from the hidden states and the mask. Models hold it in
memory, and folders hold the layer of BERT.
"""

import copy
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from transformers import PreTrainedModel

#: Weight of the mean over the tokens against the residual connection. It stays within float16.
_OUTWEIGHS = 8192.0


class TokenMean(nn.Module):
    """Layer norm of the mean over the real tokens, (B, 1, W) of hidden states (B, T, W), in float32.

    It equals the first token under `mean_layer(layer)`, with dropout in the same two places: on the weights of the
    tokens, for each head, and on the mean.

    Args:
        layer: a layer of BERT, whose dropout, number of heads and epsilon it has.
    """

    def __init__(self, layer: Any) -> None:
        super().__init__()
        self._heads: int = layer.attention.self.num_attention_heads
        self._attention_dropout: float = layer.attention.self.dropout.p
        self._dropout: float = layer.attention.output.dropout.p
        self._eps: float = layer.attention.output.LayerNorm.eps
        self.train(layer.training)

    def forward(self, tokens: Tensor, attention_mask: Tensor | None = None, *args: Any, **options: Any) -> Tensor:
        """Take the mean. The mask is that of any attention of transformers: none, (B, T), or (B, 1, T, T)."""
        with torch.autocast(tokens.device.type, enabled=False):
            tokens = tokens.float()
            weights = _weights(tokens, attention_mask)  # (B, 1, T)
            if self.training and self._attention_dropout:
                every = weights[:, None].expand(-1, self._heads, -1, -1)  # (B, heads, 1, T)
                every = F.dropout(every, self._attention_dropout, True)
                by_head = tokens.unflatten(2, (self._heads, -1)).transpose(1, 2)  # (B, heads, T, W / heads)
                mean = (every @ by_head).transpose(1, 2).flatten(2)
            else:
                mean = weights @ tokens
            mean = F.dropout(_OUTWEIGHS * mean, self._dropout, self.training)
            return F.layer_norm(mean + tokens[:, :1], (tokens.shape[2],), eps=self._eps)


def _weights(tokens: Tensor, mask: Tensor | None) -> Tensor:
    """Weights (B, 1, T) float32 of the tokens in their mean: equal for real tokens, and 0 for padding."""
    if mask is None:
        return tokens.new_full((len(tokens), 1, tokens.shape[1]), 1 / tokens.shape[1])
    row = mask[:, 0, :1] if mask.dim() == 4 else mask[:, None]  # that of the first token
    if row.is_floating_point():  # 0 for real tokens, and the lowest number for padding
        return row.float().softmax(2)
    real = row.float()
    return real / real.sum(2, keepdim=True)


def like_bert(layers: nn.ModuleList) -> bool:
    """Whether the layers have the parts of BERT's, and no attention bias of their own."""
    parts = ("attention.self.value", "attention.output.LayerNorm", "intermediate.dense", "output.LayerNorm")
    names = {name for name, _ in layers[-1].named_modules()}
    linear = {name for name, module in layers[-1].named_modules() if isinstance(module, nn.Linear)}
    known = {f"attention.self.{each}" for each in ("query", "key", "value")}
    known |= {"attention.output.dense", "intermediate.dense", "output.dense"}
    return names.issuperset(parts) and linear == known


@torch.no_grad()
def mean_layer(like: nn.Module) -> nn.Module:
    """A frozen layer of BERT that maps each token to the layer norm of the mean over all tokens."""
    layer: Any = copy.deepcopy(like)
    for name, parameter in layer.named_parameters():
        parameter.fill_(1.0 if name.endswith("LayerNorm.weight") else 0.0)
        parameter.requires_grad = False
    nn.init.eye_(layer.attention.self.value.weight)
    nn.init.eye_(layer.attention.output.dense.weight).mul_(_OUTWEIGHS)
    return layer  # type: ignore[no-any-return]


def is_mean_layer(layer: Any) -> bool:
    """Whether a layer is one of `mean_layer`, by its weights."""
    if not like_bert(nn.ModuleList([layer])) or bool(layer.attention.self.query.weight.any()):
        return False  # the second check spares the comparison of all weights
    expected = mean_layer(layer).state_dict()
    return all(torch.equal(value, expected[name]) for name, value in layer.state_dict().items())


def take_means_directly(model: PreTrainedModel) -> bool:
    """Replace a last layer of `mean_layer` by `TokenMean`, in place, and return whether there was one."""
    layers: Any = encoder_layers(model)
    if layers is None or not is_mean_layer(layers[-1]):
        return False
    layers[-1] = TokenMean(layers[-1])
    return True


@contextmanager
def mean_as_layer(model: PreTrainedModel) -> Iterator[PreTrainedModel]:
    """Context manager in which a model with `TokenMean` has the layer of BERT instead, as in a folder."""
    layers: Any = encoder_layers(model)
    if layers is None or not isinstance(layers[-1], TokenMean):
        yield model
        return
    direct, layers[-1] = layers[-1], mean_layer(layers[-2])
    try:
        yield model
    finally:
        layers[-1] = direct


def encoder_layers(model: PreTrainedModel) -> nn.ModuleList | None:
    """The layers of a model whose pretrained part has an encoder like BERT's; None for others."""
    layers = getattr(getattr(model.base_model, "encoder", None), "layer", None)
    return layers if isinstance(layers, nn.ModuleList) and len(layers) else None
