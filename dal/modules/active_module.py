"""`ActiveModule`: a Lightning module that exposes features, head and MC-dropout samples."""

import math
from abc import ABC, abstractmethod
from collections.abc import Iterable, Mapping
from typing import Any, Literal

import lightning
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from dal.config.moved import accept_old_attribute, accepts_old_attributes
from dal.errors import LearnerError, NeedError
from dal.functional.gradients import gradient_factors
from dal.functional.points import OuterPoints
from dal.modules.dropout import DropoutMasks, rng_states, seeded, training_flags

#: Peak learning rate of a module, unless it is given another.
DEFAULT_LEARNING_RATE = 5e-5

Batch = Mapping[str, Tensor]

#: Names that `ActiveModule.compute` can compute.
COMPUTES = frozenset({"logits", "features", "mc_logits", "joint_mc_logits"})

#: Methods that subclasses define, with what they return.
_DEFINED = {
    "features": "features(self, batch), which returns the features (B, D)",
    "head": "head(self, features), which returns the logits (B, C)",
    "trunk": "trunk(self), which returns the layers that run once",
    "split": "split(self, batch), which returns the output of the trunk and the features (B, D)",
    "features_from_trunk": "features_from_trunk(self, batch, trunk), which returns the features (B, D) of that output",
}


@accepts_old_attributes
class ActiveModule(lightning.LightningModule, ABC):
    """Classifier with access to its penultimate features, its head and MC-dropout samples.

    A subclass defines `features` and `head`; training, gradient factors and MC-dropout are inherited. To draw MC
    samples in `head` mode, a subclass also defines `split`, `features_from_trunk` and `trunk`: the expensive trunk then
    runs once, and only the layers after it run K times.

    Args:
        num_classes: number of classes C.
        multilabel: whether to predict C independent Bernoullis instead of one categorical distribution; labels are
            then (B, C).
        learning_rate: peak learning rate, at the end of the warm-up.
        head_learning_rate: peak learning rate of the layers after the trunk; `learning_rate` if `None`.
        weight_decay: weight decay of AdamW; not applied to norms and biases.
        warmup_ratio: share of the steps in which the learning rate rises linearly from zero, before it falls to zero.
        class_weights: (C,) class weights in the loss; multi-label: weights of the positive labels.
        mc_mode: part of the network sampled by MC-dropout: "full", or "head" for the layers after the trunk only.
        attention_dropout: whether dropout on attention weights is active in MC samples; never in joint samples.

    Example:
        >>> class Net(ActiveModule):
        ...     def __init__(self):
        ...         super().__init__(num_classes=3)
        ...         self.body = nn.Sequential(nn.Linear(4, 8), nn.ReLU(), nn.Dropout(0.2))
        ...         self.classifier = nn.Linear(8, 3)
        ...
        ...     def features(self, batch):
        ...         return self.body(batch["inputs"])
        ...
        ...     def head(self, features):
        ...         return self.classifier(features.float())
        >>> Net().compute({"inputs": torch.zeros(2, 4)}, {"logits"})["logits"].shape
        torch.Size([2, 3])
    """

    class_weights: Tensor | None
    #: Factor of the loss of a training batch, which differs where the parts of a batch have unequal weights.
    loss_scale: float = 1.0
    #: Whether `features_from_trunk` may receive rows that become K times as many at the first dropout call.
    expands = False

    def __init_subclass__(cls, **options: Any) -> None:
        """Accept the method `follow` of version 0.1 as `features_from_trunk`, with a warning."""
        super().__init_subclass__(**options)
        accept_old_attribute(cls, "follow", "features_from_trunk")

    def __init__(
        self,
        num_classes: int,
        *,
        multilabel: bool = False,
        learning_rate: float = DEFAULT_LEARNING_RATE,
        head_learning_rate: float | None = None,
        weight_decay: float = 0.01,
        warmup_ratio: float = 0.1,
        class_weights: Tensor | None = None,
        mc_mode: Literal["head", "full"] = "full",
        attention_dropout: bool = False,
    ) -> None:
        super().__init__()
        if class_weights is not None and class_weights.shape != (num_classes,):
            raise LearnerError(
                f"class weights have shape {tuple(class_weights.shape)}, expected one for each of {num_classes} classes"
            )
        if mc_mode not in ("head", "full"):
            raise LearnerError(f"mc_mode is {mc_mode!r}, expected 'head' or 'full'")
        self.num_classes = num_classes
        self.multilabel = multilabel
        self.learning_rate = learning_rate
        self.head_learning_rate = head_learning_rate
        self.weight_decay = weight_decay
        self.warmup_ratio = warmup_ratio
        self.mc_mode = mc_mode
        self.attention_dropout = attention_dropout
        self.register_buffer("class_weights", class_weights, persistent=False)

    def __setattr__(self, name: str, value: Any) -> None:
        """Refuse layers under the name of a method, which Python would call in place of them."""
        if isinstance(value, nn.Module) and name in _DEFINED:
            raise LearnerError(
                f"{name} is a method of ActiveModule, which {type(self).__name__} cannot replace by layers: assign "
                f"them to another attribute, such as self.layers, and define def {_DEFINED[name]}"
            )
        super().__setattr__(name, value)

    # Methods for subclasses

    @abstractmethod
    def features(self, batch: Batch) -> Tensor:
        """Input of the last linear layer, (B, D)."""

    @abstractmethod
    def head(self, features: Tensor) -> Tensor:
        """Logits (..., C) of features (..., D), computed in float32 for a trunk of any precision."""

    def split(self, batch: Batch) -> tuple[Any, Tensor]:
        """Output of the trunk, and the features (B, D) computed from it."""
        return None, self.features(batch)

    def features_from_trunk(self, batch: Batch, trunk: Any) -> Tensor:
        """Recompute the features (B, D) from the output of the trunk; `head` mode repeats this for every sample."""
        return self.features(batch)

    def trunk(self) -> nn.Module | None:
        """Part of the network that `head` mode runs once, without dropout; `None` for nothing."""
        return None

    def mask_shape(self, input: Tensor) -> tuple[int, ...]:
        """Shape of a joint dropout mask for an input, 1 in shared dimensions. By default rows share the mask."""
        return (1, *input.shape[1:])

    def is_attention(self, input: Tensor) -> bool:
        """Whether the input of a dropout call consists of attention weights. By default never."""
        return False

    # Outputs

    def forward(self, batch: Batch) -> Tensor:
        """Logits, (B, C) float32."""
        return self.head(self.features(batch))

    def gradient_embeddings(self, batch: Batch) -> OuterPoints:
        """Gradients of the loss at the predicted label with respect to the last layer's weight, as factors."""
        out = self.compute(batch, {"logits", "features"})
        return gradient_factors(out["logits"], out["features"].float(), self.multilabel)

    def mc_logits(self, batch: Batch, samples: int, generator: torch.Generator, *, joint: bool = False) -> Tensor:
        """Logits of `samples` dropout masks, (B, K, C) float32, with all other layers in evaluation mode.

        Args:
            batch: batch of B rows.
            samples: number of samples K.
            generator: generator on the CPU. The same state gives the same samples on one device.
            joint: whether sample k is the same function for every row: one mask per hidden unit, shared by all rows and
                positions. It depends only on the generator's *initial* seed, and not on batching, row order or padding.
                Dropout on attention weights is then off.

        Raises:
            LearnerError: no dropout is active in this module's `mc_mode`, so all samples would be equal.
        """
        name = "joint_mc_logits" if joint else "mc_logits"
        return self.compute(batch, {name}, samples=samples, generator=generator)[name]

    def compute(
        self,
        batch: Batch,
        names: Iterable[str],
        *,
        samples: int = 0,
        generator: torch.Generator | None = None,
    ) -> dict[str, Tensor]:
        """Compute any of `logits`, `features`, `mc_logits` and `joint_mc_logits` in evaluation mode.

        The trunk runs once for logits, features and samples in `head` mode; `full` mode adds K runs of the network for
        each kind of samples. See `mc_logits` for `samples` and `generator`.
        """
        wanted = frozenset(names)
        if unknown := wanted - COMPUTES:
            raise NeedError(f"a module computes {', '.join(sorted(COMPUTES))}, not {', '.join(sorted(unknown))}")
        sampled = wanted & {"mc_logits", "joint_mc_logits"}
        if sampled and self.mc_mode == "head":
            self._check_trunk()
        if sampled and (samples < 1 or generator is None):
            raise LearnerError("MC-dropout samples need a number of samples of at least 1 and a generator")
        out: dict[str, Tensor] = {}
        trunk = None
        if wanted - sampled or (sampled and self.mc_mode == "head"):
            with training_flags(self, lambda module: False):
                trunk, out["features"] = self.split(batch)
                if "logits" in wanted:
                    out["logits"] = self.head(out["features"])
        for name in sorted(sampled):
            assert generator is not None
            out[name] = self._samples(batch, trunk, samples, generator, joint=name == "joint_mc_logits")
        return {name: out[name] for name in wanted}

    def _check_trunk(self) -> None:
        """Raise `LearnerError` if a subclass defines only a part of what `head` mode needs to run the trunk once."""
        defined = {
            name
            for name in ("trunk", "split", "features_from_trunk")
            if getattr(type(self), name) is not getattr(ActiveModule, name)
        }
        lacking = {"split", "features_from_trunk"} - defined
        if defined and lacking:
            raise LearnerError(
                f"{type(self).__name__} defines {' and '.join(sorted(defined))}, and mc_mode='head' also needs "
                + " and ".join(f"def {_DEFINED[name]}" for name in sorted(lacking, reverse=True))
                + "; mc_mode='full' needs none of them"
            )

    def _samples(self, batch: Batch, trunk: Any, samples: int, generator: torch.Generator, *, joint: bool) -> Tensor:
        """Logits of K dropout masks, (B, K, C)."""
        head_only = self.mc_mode == "head"
        seed = generator.initial_seed() if joint else int(torch.randint(2**63 - 1, (), generator=generator))
        expand = samples if head_only and self.expands else None
        masks = self._masks(seed if joint else None, expand)

        def draw(sample: int) -> Tensor:
            masks.start(sample)
            with masks:
                features = self.features_from_trunk(batch, trunk) if head_only else self.features(batch)
            return self.head(features)

        with training_flags(self, self._acts_in(self.mc_mode)), seeded(seed, self.device):
            untouched = rng_states(self.device)
            logits = [draw(sample) for sample in range(1 if expand else samples)]
            drawn = any(not torch.equal(a, b) for a, b in zip(untouched, rng_states(self.device), strict=True))
            if drawn and (joint or not masks.calls):
                # Layers with layerdrop draw a number even if they are never skipped: compare results instead.
                others = [draw(0)] if joint or expand else logits[1:]
                drawn = any(not torch.equal(other, logits[0]) for other in others)
        self._check_samples(masks, drawn, joint)
        return (logits[0].unflatten(0, (samples, -1)) if expand else torch.stack(logits)).transpose(0, 1)

    def _masks(self, seed: int | None, expand: int | None, *, force: bool = False) -> DropoutMasks:
        return DropoutMasks(
            attention=self.attention_dropout,
            is_attention=self.is_attention,
            mask_shape=self.mask_shape,
            seed=seed,
            expand=expand,
            force=force,
        )

    def _acts_in(self, mode: str) -> Any:
        trunk = self.trunk() if mode == "head" else None
        frozen = set() if trunk is None else set(trunk.modules())
        return lambda module: module not in frozen

    def _check_samples(self, masks: DropoutMasks, drawn: bool, joint: bool) -> None:
        if joint and drawn:
            raise LearnerError(
                "joint samples must be one function for all rows, but this model draws random numbers outside of "
                "dropout; sample its last layer instead (the learner's mc_mode='laplace' or 'bootstrap'), or use a "
                "committee"
            )
        if masks.calls or (drawn and not masks.expand):
            return
        where = "that follows its trunk" if self.mc_mode == "head" else "that can be sampled"
        remedies = ["give the model a dropout probability above 0"]
        if self.mc_mode == "head":
            remedies.append("sample the whole network (mc_mode='full')")
        if masks.attention_calls and not joint:
            remedies.append("allow dropout on attention weights (attention_dropout=True)")
        remedies.append("sample the last layer instead (the learner's mc_mode='laplace' or 'bootstrap')")
        remedies.append("use a committee")
        raise LearnerError(f"MC-dropout: this model has no dropout above 0 {where}: {', or '.join(remedies)}")

    # Training

    def loss(self, logits: Tensor, labels: Tensor, weights: Tensor | None = None) -> Tensor:
        """Mean loss in nats, weighted by row and class: cross-entropy, or binary cross-entropy over the C labels.

        Shapes: logits (B, C); labels (B,) int64, or (B, C) when multi-label; weights (B,), ones if `None`.
        """
        if self.multilabel:
            target = labels.to(logits.dtype)
            rows = F.binary_cross_entropy_with_logits(logits, target, pos_weight=self.class_weights, reduction="none")
            rows, mass = rows.mean(-1), torch.ones_like(logits[:, 0])
        else:
            rows = F.cross_entropy(logits, labels, weight=self.class_weights, reduction="none")
            mass = torch.ones_like(rows) if self.class_weights is None else self.class_weights[labels]
        if weights is not None:
            rows, mass = rows * weights, mass * weights
        return rows.sum() / mass.sum().clamp_min(torch.finfo(rows.dtype).tiny)

    def training_step(self, batch: Batch, batch_idx: int) -> Tensor:
        """Loss of a batch with `labels` and optional `weights`; logged as `train_loss`."""
        loss = self.loss(self(batch), batch["labels"], batch.get("weights"))
        self.log("train_loss", loss.detach(), batch_size=len(batch["labels"]))
        return loss if self.loss_scale == 1 else loss * self.loss_scale

    def validation_step(self, batch: Batch, batch_idx: int) -> None:
        """Log `val_loss` and `val_accuracy` (multi-label: the share of correct entries over rows and labels)."""
        logits, labels = self(batch), batch["labels"]
        hits = (logits > 0) == labels.bool() if self.multilabel else logits.argmax(-1) == labels
        self.log("val_loss", self.loss(logits, labels, batch.get("weights")), batch_size=len(labels))
        self.log("val_accuracy", hits.float().mean(), batch_size=len(labels))

    def on_fit_start(self) -> None:
        """Switch to training mode: `from_pretrained` returns models in evaluation mode, and Lightning keeps it."""
        self.train()

    def on_fit_end(self) -> None:
        """Switch back to evaluation mode."""
        self.eval()

    def configure_optimizers(self) -> Any:
        """AdamW, fused where supported, with linear warm-up and decay over all steps of the trainer."""
        devices = {parameter.device.type for parameter in self.parameters()}
        # A fused optimizer unscales float16 gradients itself, after they have been clipped.
        fused = devices <= {"cpu", "cuda"} and self.trainer.precision != "16-mixed"
        optimizer = torch.optim.AdamW(self._parameter_groups(), lr=self.learning_rate, fused=fused)
        total = self.trainer.estimated_stepping_batches
        schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: self._schedule(step, total))
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": schedule, "interval": "step"}}

    def _schedule(self, step: int, total: float) -> float:
        """Factor of the learning rate at this step, counted from 0; above 0 in every step of the training."""
        if math.isinf(total):
            return 1.0
        warmup = math.ceil(self.warmup_ratio * total)
        if step < warmup:
            return (step + 1) / (warmup + 1)
        return max(total - step, 0) / max(total - warmup, 1)

    def _parameter_groups(self) -> list[dict[str, Any]]:
        trunk = self.trunk()
        slow = {id(p) for p in trunk.parameters()} if trunk is not None else set()
        groups: dict[tuple[float, float], list[nn.Parameter]] = {}
        for parameter in self.parameters():
            if parameter.requires_grad:
                head_rate = self.learning_rate if self.head_learning_rate is None else self.head_learning_rate
                rate = self.learning_rate if id(parameter) in slow else head_rate
                decay = self.weight_decay if parameter.dim() > 1 else 0.0
                groups.setdefault((rate, decay), []).append(parameter)
        return [{"params": ps, "lr": rate, "weight_decay": decay} for (rate, decay), ps in groups.items()]

    def configure_gradient_clipping(
        self,
        optimizer: torch.optim.Optimizer,
        gradient_clip_val: float | None = None,
        gradient_clip_algorithm: str | None = None,
    ) -> None:
        """Clip gradients as configured; Lightning's own implementation refuses fused optimizers in mixed precision."""
        if not gradient_clip_val:
            return
        parameters = [p for group in optimizer.param_groups for p in group["params"]]
        if gradient_clip_algorithm == "value":
            nn.utils.clip_grad_value_(parameters, gradient_clip_val)
        else:
            nn.utils.clip_grad_norm_(parameters, gradient_clip_val)
