"""Classifier whose lower layers were run in advance: the split of an encoder, and the module of its upper layers."""

import hashlib
import inspect
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel

from dal.errors import LearnerError
from dal.modules.loading import load_classifier
from dal.modules.token_mean import mean_layer
from dal.modules.transformer import TransformerClassifier

#: Types of models whose layers follow each other without a connection to the embeddings.
SUPPORTED = ("bert", "camembert", "deberta-v2", "distilbert", "mpnet", "roberta", "xlm-roberta")

#: Key of the hidden states of the lower layers in a batch: the argument by which models accept embeddings.
STATES = "inputs_embeds"


class LowerLayers(nn.Module):
    """Embeddings and lower layers of an encoder, which give the hidden states (B, T, W) that the upper layers read.

    They always run in evaluation mode and in float32. The interface is the one that `run_pass` requires.

    Args:
        model: hub name or folder.
        upper: number of upper layers, which are left out.

    Attributes:
        count: number of lower layers.
        width: size W of a hidden state.

    Raises:
        LearnerError: the model cannot be split, or has no lower layer.
    """

    def __init__(self, model: str | Path, upper: int) -> None:
        super().__init__()
        base: Any = load_classifier(model)[0].base_model
        layers, name = _layers(base)
        self.count = len(layers) - upper
        if self.count < 1:
            raise LearnerError(
                f"layers is {upper}, and the model has {len(layers)}: a cached trunk needs a lower layer that is not "
                "trained; set fewer layers, or leave trunk out to train all"
            )
        base.get_submodule(name).layer = nn.ModuleList(list(layers)[: self.count])
        self.base = base.eval()
        self.width: int = base.config.hidden_size
        self._accepted = frozenset(inspect.signature(base.forward).parameters)

    @property
    def device(self) -> torch.device:
        """Device of the layers."""
        return next(self.parameters()).device

    @property
    def digest(self) -> str:
        """Digest of the weights, which determine the states of a text, and of the settings of the config."""
        return _digest_of(self.base, dict(self.base.named_parameters()))

    def compute(
        self, batch: Mapping[str, Tensor], names: Any, *, samples: int = 0, generator: Any = None
    ) -> dict[str, Tensor]:
        """Compute the hidden states of a batch, and pass on which of them are real tokens."""
        inputs = {name: value for name, value in batch.items() if name in self._accepted}
        states: Tensor = self.base(**inputs).last_hidden_state
        return {"states": states.float(), "real": batch["attention_mask"].bool()}


class UpperLayers(TransformerClassifier):
    """Upper layers and head of a sequence-classification model, trained on stored hidden states of the lower layers.

    A batch holds `inputs_embeds` (B, T, W), the states, and `attention_mask`, instead of tokens. What all layers share
    (relative positions) is not trained, because the stored states depend on it.

    Args:
        model: hub name or folder.
        classes: class names, or number of classes; `None` for those of the model.
        lower: number of lower layers, which are removed from the module.

    All other arguments are those of `TransformerClassifier`, without `freeze` and `lora`. Raises `LearnerError` for a
    model that cannot be split.

    Attributes:
        lower: number of lower layers.
        lower_digest: digest of the removed weights, as that of `LowerLayers`.
        checkpoint: model from which `save` reads the lower layers again.
    """

    def __init__(
        self, model: str | Path, classes: Sequence[str] | int | None = None, *, lower: int, **options: Any
    ) -> None:
        super().__init__(model, classes, **options)
        self.checkpoint = model
        base, self.lower = self.trunk(), lower
        layers, name = _layers(base)
        inside = f"{name}.layer."
        above = tuple(f"{inside}{index}." for index in range(lower, len(layers)))
        self.lower_digest = _digest_of(
            base, {key: value for key, value in base.named_parameters() if not key.startswith(above)}
        )
        parent: Any = base.get_submodule(name)
        parent.layer = nn.ModuleList(list(layers)[lower:])
        base.embeddings = _PassedStates()
        for key, value in base.named_parameters():
            value.requires_grad = value.requires_grad and key.startswith((inside, "pooler."))
        self._layer_prefix = f"{self.model.base_model_prefix}.{inside}"

    def _saved_model(self) -> PreTrainedModel:
        """The whole checkpoint with the trained upper layers and head in place of its own."""
        config: Any = self.model.config
        names = [config.id2label[index] for index in range(len(config.id2label))]
        whole, _ = load_classifier(self.checkpoint, names, multilabel=self.multilabel)
        whole.config.pad_token_id = config.pad_token_id
        layers, count = _layers(whole.base_model)[0], self.lower + len(_layers(self.trunk())[0])
        if len(layers) < count:  # the last one was added for the pooling
            layers.append(mean_layer(layers[-1]))
            whole.config.num_hidden_layers += 1
        state = {}
        for key, value in self.model.state_dict().items():
            if key.startswith(self._layer_prefix):
                index, _, rest = key.removeprefix(self._layer_prefix).partition(".")
                key = f"{self._layer_prefix}{int(index) + self.lower}.{rest}"
            state[key] = value.cpu()
        unexpected = whole.load_state_dict(state, strict=False).unexpected_keys
        assert not unexpected, unexpected
        return whole

    def _two_rows(self) -> dict[str, Tensor]:
        """Probe batch: two rows of different lengths; of states once the lower layers are removed."""
        if not isinstance(getattr(self.trunk(), "embeddings", None), _PassedStates):
            return super()._two_rows()
        device = self.model.device
        states = torch.randn(2, 6, self.model.config.hidden_size, generator=torch.Generator().manual_seed(0))
        return {STATES: states.to(device), "attention_mask": torch.tensor([[1] * 6, [1] * 4 + [0] * 2]).to(device)}


class _PassedStates(nn.Module):
    """Stands for the embeddings and lower layers of a model: returns the states that the model was given."""

    def forward(self, input_ids: Any = None, inputs_embeds: Any = None, *args: Any, **options: Any) -> Tensor:
        states: Tensor = inputs_embeds
        return states.float()


def _layers(base: Any) -> tuple[nn.ModuleList, str]:
    """The layers of an encoder, and the name of the module that has them as `layer`.

    Raises:
        LearnerError: the layers cannot be separated.
    """
    kind = base.config.model_type
    name = "transformer" if kind == "distilbert" else "encoder"
    if kind not in SUPPORTED or getattr(getattr(base, name, None), "conv", None) is not None:
        raise LearnerError(
            f"trunk: cached supports models of the types {', '.join(SUPPORTED)}, and this one is a {kind}"
            + (" with a convolution" if kind in SUPPORTED else "")
            + ": leave trunk out, or choose another model"
        )
    layers: nn.ModuleList = base.get_submodule(name).layer
    return layers, name


def _digest_of(base: Any, parameters: Mapping[str, Tensor]) -> str:
    """Digest of what determines the hidden states: the weights, and the settings of the config but dropout."""
    skipped = ("num_hidden_layers", "n_layers", "num_labels", "pad_token_id", "use_cache", "return_dict")
    facts = {
        key: value
        for key, value in sorted(base.config.to_dict().items())
        if key not in skipped and "dropout" not in key and (isinstance(value, int | float) or "act" in key)
    }
    digest = hashlib.blake2b(repr(facts).encode(), digest_size=16)
    for key, value in parameters.items():
        if not key.startswith("pooler."):
            digest.update(key.encode())
            digest.update(value.detach().cpu().contiguous().numpy().data)
    return digest.hexdigest()
