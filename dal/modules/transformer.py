"""`TransformerClassifier`: any Hugging Face sequence-classification model as an `ActiveModule`."""

import inspect
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from transformers import PreTrainedModel

from dal.errors import LearnerError
from dal.modules.active_module import DEFAULT_LEARNING_RATE, ActiveModule, Batch
from dal.modules.adapting import LoRA, add_lora, freeze_lower, merged, start_pooling
from dal.modules.dropout import seeded, training_flags
from dal.modules.loading import load_classifier, pools_means
from dal.modules.token_mean import mean_as_layer, take_means_directly
from dal.store.atomic_files import replacing

_NOT_FOR_THE_MODEL = frozenset({"labels", "weights"})


class TransformerClassifier(ActiveModule):
    """Hugging Face sequence-classification model of any architecture with a linear last layer.

    The last layer is the `nn.Linear` outside the pretrained part that is called last. Its input is the features, and
    its output, computed in float32, the logits. Decoders call it on every token; the features are then those of the
    last real token of each row according to the attention mask, for any padding token (or the mean over all real
    tokens, if the model averages their logits).

    Args:
        model: hub name, local folder, "package:NAME/FOLDER" (a folder inside an installed package), or a model object.
        classes: class names, or number of classes; `None` for those of the model.
        multilabel: whether a row can have any subset of the C labels.
        freeze: number of lowest layers that are not trained, along with the embeddings; 0 to train all.
        lora: options of low-rank updates that are trained instead of the pretrained weights; needs the extra `lora`.
        dropout: probability of all dropout layers except those on attention weights; `None` for that of the config.
        pooling: "pretrained" starts an untrained pooler as what the pretrained encoder computes: its mean over the
            tokens, or its first one; `None` keeps the random start.
        freeze_embeddings: whether the word embeddings are not trained.
        seed: seed of the initialisation of layers that the checkpoint lacks.

    All other arguments are those of `ActiveModule`. Raises `LearnerError` for a model that cannot be loaded or whose
    features cannot be determined.

    Example:
        >>> from transformers import BertConfig, BertForSequenceClassification
        >>> config = BertConfig(vocab_size=50, hidden_size=8, num_hidden_layers=1, num_attention_heads=2)
        >>> module = TransformerClassifier(BertForSequenceClassification(config), ["good", "bad"])
        >>> ids = torch.tensor([[2, 7, 8, 3]])
        >>> module.compute({"input_ids": ids, "attention_mask": torch.ones_like(ids)}, {"features"})["features"].shape
        torch.Size([1, 8])
    """

    def __init__(
        self,
        model: str | Path | PreTrainedModel,
        classes: Sequence[str] | int | None = None,
        *,
        multilabel: bool = False,
        freeze: int = 0,
        lora: LoRA | None = None,
        dropout: float | None = None,
        pooling: Literal["pretrained"] | None = None,
        freeze_embeddings: bool = False,
        seed: int = 0,
        learning_rate: float = DEFAULT_LEARNING_RATE,
        head_learning_rate: float | None = None,
        weight_decay: float = 0.01,
        warmup_ratio: float = 0.1,
        class_weights: Tensor | None = None,
        mc_mode: Literal["head", "full"] = "full",
        attention_dropout: bool = False,
    ) -> None:
        if freeze and lora is not None:
            raise LearnerError("freeze and lora exclude each other: LoRA keeps every pretrained weight as it is")
        loaded, new = load_classifier(model, classes, multilabel=multilabel, dropout=dropout, seed=seed)
        super().__init__(
            len(loaded.config.id2label or ()),
            multilabel=multilabel,
            learning_rate=learning_rate,
            head_learning_rate=head_learning_rate,
            weight_decay=weight_decay,
            warmup_ratio=warmup_ratio,
            class_weights=class_weights,
            mc_mode=mc_mode,
            attention_dropout=attention_dropout,
        )
        self.model: Any = loaded
        self._pads_left = False
        self._pool = _pool_last
        self._accepted = frozenset(inspect.signature(loaded.forward).parameters) - _NOT_FOR_THE_MODEL
        self._last = ""
        take_means_directly(loaded)
        self._look()
        self.new_head = f"{self._last}.weight" in new
        #: How untrained features were made those of the encoder: "mean", "identity" or "".
        self.started_pooling = ""
        if pooling == "pretrained":
            self.started_pooling = start_pooling(loaded, self._last, new, means=pools_means(model))
        if freeze:
            freeze_lower(loaded, freeze, new)
        if lora is not None:
            with seeded(seed):
                add_lora(loaded, lora, new)
        if freeze_embeddings:
            loaded.get_input_embeddings().weight.requires_grad = False

    # Access to the layers of the model

    def trunk(self) -> nn.Module:
        """Pretrained part of the model."""
        base: nn.Module = self.model.base_model
        return base

    def features(self, batch: Batch) -> Tensor:
        """Input of the last linear layer, (B, D); that of each row's last real token if it is called on every token."""
        return self.split(batch)[1]

    def head(self, features: Tensor) -> Tensor:
        """Logits (..., C) of features (..., D), computed in float32."""
        linear = self.last_layer()
        bias = None if linear.bias is None else linear.bias.float()
        with torch.autocast(features.device.type, enabled=False):
            return F.linear(features.float(), linear.weight.float(), bias)

    def split(self, batch: Batch) -> tuple[Any, Tensor]:
        """Output of the pretrained part, and the features computed from it, in one forward pass."""
        kept: list[Any] = []
        hook = self.trunk().register_forward_hook(lambda module, args, output: kept.append(output))
        try:
            features = self._run(batch)
        finally:
            hook.remove()
        return kept[-1], features

    def features_from_trunk(self, batch: Batch, trunk: Any) -> Tensor:
        """Recompute the features from the output of the pretrained part, without running it again."""
        base = self.trunk()
        forward = base.__dict__.get("forward")
        base.__dict__["forward"] = lambda *args, **kwargs: trunk
        try:
            return self._run(batch)
        finally:
            if forward is None:
                del base.__dict__["forward"]
            else:
                base.__dict__["forward"] = forward

    def mask_shape(self, input: Tensor) -> tuple[int, ...]:
        """One mask value per hidden unit, shared by rows and positions."""
        return (*(1 for _ in input.shape[:-1]), input.shape[-1])

    def is_attention(self, input: Tensor) -> bool:
        """Recognise attention weights by their shape (B, heads, T, T); other dropout inputs have fewer dimensions."""
        return input.dim() >= 4

    def check_dropout(self, *, joint: bool = False) -> None:
        """Raise `LearnerError` if all MC-dropout samples of this model would be equal; called before training."""
        with torch.no_grad():
            self.mc_logits(self._two_rows(), 1, torch.Generator().manual_seed(0), joint=joint)

    def last_layer(self) -> nn.Linear:
        """The linear layer whose output is the logits."""
        linear = self.model.get_submodule(self._last)
        assert isinstance(linear, nn.Linear)
        return linear

    def _run(self, batch: Batch) -> Tensor:
        """Features (B, D), or (K*B, D) if a dropout call has expanded B rows to K*B."""
        return self._look_inside(batch)[0]

    def _look_inside(self, batch: Batch) -> tuple[Tensor, Tensor]:
        """Features, and the logits computed by the model itself."""
        inputs = _aligned({name: value for name, value in batch.items() if name in self._accepted}, self._pads_left)
        seen: list[Tensor] = []
        hooks = [self.last_layer().register_forward_pre_hook(lambda module, args: seen.append(args[0]))]
        if self.model.config.is_encoder_decoder:
            hooks.append(self._show_one_end(inputs))
        try:
            logits: Tensor = self.model(**inputs).logits
        finally:
            for hook in hooks:
                hook.remove()
        features = seen[-1]
        return features if features.dim() == 2 else self._pool(features, inputs), logits

    def _show_one_end(self, inputs: dict[str, Tensor]) -> Any:
        """Give encoder-decoders exactly one end token per row for pooling; the pretrained part gets the real tokens.

        Encoder-decoders pool at the last end token, and raise an error if rows of a batch have different numbers of
        them. The pooling code therefore sees an end token as the last token of each row and nowhere else.
        """
        end, pad = _first(self.model.config.eos_token_id), self.model.config.pad_token_id
        ids = inputs["input_ids"]
        at_last = F.one_hot(_last_real(inputs), ids.shape[1]).bool()
        real = ids.masked_fill(at_last, end)
        inputs["input_ids"] = real.masked_fill((real == end) & ~at_last, pad if pad != end else end + 1)
        if "decoder_input_ids" not in inputs and hasattr(self.model, "_shift_right"):
            inputs["decoder_input_ids"] = self.model._shift_right(real)

        def read_real(module: nn.Module, args: Any, kwargs: Any) -> Any:
            return ((real, *args[1:]), kwargs) if args else (args, {**kwargs, "input_ids": real})

        return self.trunk().register_forward_pre_hook(read_real, with_kwargs=True)

    def _two_rows(self) -> dict[str, Tensor]:
        """Probe batch: two rows of different lengths, without special tokens."""
        config = self.model.config
        special: set[int] = set()
        for name in dir(config):
            value = getattr(config, name, None) if name.endswith("_token_id") else None
            special.update(value if isinstance(value, list | tuple) else [value] if isinstance(value, int) else [])
        size = self.model.get_input_embeddings().weight.shape[0]
        ordinary = [token for token in range(min(size, len(special) + 8)) if token not in special][:6]
        ids = torch.tensor([(ordinary * 6)[:6], (ordinary[::-1] * 6)[:6]])
        mask = torch.tensor([[1] * 6, [1] * 4 + [0] * 2])
        ids[1, 4:] = config.pad_token_id
        if config.is_encoder_decoder:
            ids[0, 5] = ids[1, 3] = _first(config.eos_token_id)
        device = self.model.device
        return {"input_ids": ids.to(device), "attention_mask": mask.to(device)}

    def _look(self) -> None:
        """Find the last linear layer, and verify on a probe batch that features and head reproduce the logits."""
        base, name = self.trunk(), type(self.model).__name__
        inside = {id(module) for module in base.modules()}
        called: list[str] = []
        hooks = [
            module.register_forward_hook(lambda *_, path=path: called.append(path))
            for path, module in self.model.named_modules()
            if isinstance(module, nn.Linear) and id(module) not in inside
        ]
        batch = self._two_rows()
        try:
            with torch.no_grad(), training_flags(self, lambda module: False):
                self.model(**batch)
        finally:
            for hook in hooks:
                hook.remove()
        if not called:
            raise LearnerError(f"{name} has no linear classification layer after its pretrained part")
        self._last = called[-1]
        with torch.no_grad(), training_flags(self, lambda module: False):
            for pool in (_pool_last, _pool_mean):
                self._pool = pool
                features, logits = self._look_inside(batch)
                explained = torch.allclose(self.head(features), logits.float(), rtol=1e-3, atol=1e-4)
                if explained:
                    break
            self._pads_left = self._needs_padding_left(batch, features)
            trunk, _ = self.split(batch)
        if not explained:
            raise LearnerError(
                f"the logits of {name} do not follow from the input of its last linear layer '{self._last}'; "
                "how it pools its tokens is not known to dal"
            )
        self.expands = self._can_expand(batch, trunk)

    def _needs_padding_left(self, batch: Batch, padded_right: Tensor) -> bool:
        """Whether only right padding changes the features of a row, as in XLNet, which pools at the last column."""
        alone = self._look_inside({name: value[1:, :4] for name, value in batch.items()})[0]
        if torch.allclose(padded_right[1:], alone, rtol=1e-3, atol=1e-4):
            return False
        self._pads_left = True
        return torch.allclose(self._look_inside(batch)[0][1:], alone, rtol=1e-3, atol=1e-4)

    def _can_expand(self, batch: Batch, trunk: Any) -> bool:
        """Whether the layers after the trunk process rows independently, so that a dropout call can expand them."""
        together, apart = self._masks(0, 2, force=True), self._masks(0, None, force=True)
        found = []
        with torch.no_grad(), training_flags(self, self._acts_in("head")):
            for sample in range(2):
                apart.start(sample)
                with apart:
                    found.append(self.features_from_trunk(batch, trunk))
            try:
                with together:
                    features = self.features_from_trunk(batch, trunk)
            except RuntimeError:
                return False
        return features.shape == torch.cat(found).shape and torch.allclose(features, torch.cat(found), atol=1e-4)

    def save(self, folder: Path | str, tokenizer: Any = None) -> None:
        """Write a Hugging Face folder that `transformers.pipeline("text-classification", folder)` can load.

        LoRA updates are merged into the weights. The folder is written atomically.
        """
        if tokenizer is not None and getattr(tokenizer, "pad_token_id", None) is not None:
            self.model.config.pad_token_id = tokenizer.pad_token_id  # transformers' decoders find the last token by it
        with replacing(Path(folder)) as partial, mean_as_layer(self._saved_model()) as saved:
            saved.save_pretrained(partial)
            if tokenizer is not None:
                tokenizer.save_pretrained(partial)

    def _saved_model(self) -> PreTrainedModel:
        """The model that `save` writes."""
        return merged(self.model)


def _aligned(inputs: dict[str, Tensor], left: bool) -> dict[str, Tensor]:
    """Move the padding of all rows to the left or right side."""
    mask = inputs.get("attention_mask")
    if mask is None:
        return inputs
    width = mask.shape[1]
    real = (mask != 0).long()
    shift = -real.flip(1).argmax(1) if left else real.argmax(1)  # (B,) padding on the opposite side
    index = (torch.arange(width, device=mask.device) + shift[:, None]) % width
    moved = {name: value.gather(1, index) for name, value in inputs.items() if value.dim() == 2}
    deep = {name: value for name, value in inputs.items() if name not in moved}  # (B, T, W), such as `inputs_embeds`
    return moved | {name: value[torch.arange(len(value))[:, None], index] for name, value in deep.items()}


def _last_real(batch: Batch) -> Tensor:
    """Position of the last non-padding token of each row, (B,)."""
    ids = batch["input_ids"]
    mask = batch.get("attention_mask")
    positions = torch.arange(ids.shape[1], device=ids.device).expand_as(ids)
    return (positions if mask is None else positions * (mask != 0)).amax(1)


def _pool_last(tokens: Tensor, batch: Batch) -> Tensor:
    """Last real token of each row, (R, D) of (R, T, D); R is a multiple of the rows of the batch."""
    last = _last_real(batch).repeat(len(tokens) // len(batch["input_ids"]))
    return tokens[torch.arange(len(tokens), device=tokens.device), last]


def _pool_mean(tokens: Tensor, batch: Batch) -> Tensor:
    """Mean over the real tokens of each row, (R, D) of (R, T, D). A linear layer commutes with this mean."""
    mask = batch.get("attention_mask", torch.ones_like(batch["input_ids"])).to(tokens.dtype).unsqueeze(-1)
    mask = mask.repeat(len(tokens) // len(mask), 1, 1)
    return (tokens * mask).sum(1) / mask.sum(1)


def _first(token: int | list[int] | None) -> int:
    if token is None:
        raise LearnerError("an encoder-decoder pools at its end token, but the config of this one has no eos_token_id")
    return token[0] if isinstance(token, list) else token
