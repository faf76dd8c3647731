"""Fine-tune Hugging Face sequence-classification models."""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from types import MappingProxyType
from typing import Any, Literal, get_args

import lightning
import torch
from torch import Tensor
from torch.nn import functional as F
from transformers import AutoConfig

from dal.config.moved import accepts_old_options
from dal.data.class_descriptions import DESCRIPTIONS
from dal.errors import ConfigError, LearnerError
from dal.functional.checking import Options, model_name, shown
from dal.functional.class_shares import logit_adjustment
from dal.learner import SILENT, Monitor, Predictor, Prepared
from dal.learners.heads.last_layer import LastLayer
from dal.learners.inference import DEFAULT_SAMPLES, Precision
from dal.learners.probe_learner import adjustment_strength
from dal.learners.text.adapted_encoders import INSTEAD, REFUSED, AdaptedEncoders
from dal.learners.text.embeddings import EMBEDDINGS, CachedAs, Embedder
from dal.learners.text.masked_models import require_masked_head
from dal.learners.text.masked_training import Adaptation
from dal.learners.text.surprisal import Surprisal
from dal.learners.text.token_states import StatesPrepared, TokenStates
from dal.learners.text.tokenizers import load_tokenizer, locate, prepare_described_texts, prepare_texts
from dal.learners.text.tokens import TextPrepared
from dal.learners.training.devices import device_of
from dal.learners.training.fitting import TrainingSchedule
from dal.learners.training.head_start import shift_head, start_head
from dal.learners.training.network import check_network
from dal.learners.training.network_learner import NetworkLearner
from dal.learners.training.network_predictor import NetworkPredictor
from dal.learners.training.saved_files import refuse_code, refusing_damage
from dal.learners.training.training_labels import checked_labels, row_weights
from dal.modules.active_module import ActiveModule
from dal.modules.adapting import LoRA
from dal.modules.cached_trunk import UpperLayers
from dal.modules.transformer import TransformerClassifier
from dal.objective import Objective, as_objective


@accepts_old_options
@dataclass(frozen=True)
class TransformerLearner(NetworkLearner):
    """Transformer fine-tuned in every round, starting from a pretrained or already fine-tuned model.

    The defaults suit small encoders and 20 to a few hundred labels. `embeddings` are masked means of the last layer of
    the pretrained encoder, cached on disk and identical in every round. `surprisal` is computed with the checkpoint's
    masked-language-model head, if it has one.

    Args:
        model: hub name, folder, or `package:NAME/FOLDER`.
        max_length: maximum number of tokens per text; longer texts are truncated.
        epochs: number of passes over the labeled rows, subject to `min_steps` and `max_steps`.
        min_steps: minimum number of optimiser steps, which repeats small labeled sets more often.
        max_steps: maximum number of optimiser steps; None for no limit.
        batch_size: rows per training batch.
        learning_rate: peak learning rate of the pretrained layers; None for 7e-5, or 2e-4 with a cached trunk.
        head_learning_rate: peak learning rate of the classification head; None for `learning_rate`.
        weight_decay: weight decay of AdamW.
        warmup_ratio: share of the steps with a rising learning rate, 0 to 1; it then decays to zero.
        gradient_clip_val: maximum gradient norm, unless the trainer sets one; None for no clipping.
        target_train_loss: stop after an epoch with a mean training loss below this value; None to disable.
        patience: with validation rows, stop after this many epochs without a lower validation loss and restore the best
            weights; None to disable.
        class_weights: "balanced" gives every class the same total weight; None weights rows equally.
        warm_start: start from the weights of the previous round instead of the pretrained ones.
        freeze: number of lowest layers to keep frozen.
        lora: train low-rank updates instead of all weights; requires the extra `lora`.
        dropout: dropout probability, except on attention weights; None for the value in the model's config.
        pooling: "pretrained" starts a pooler that the checkpoint lacks, or holds untrained, as what the encoder was
            trained for: the mean over the tokens if a folder of sentence-transformers says so, otherwise the token that
            the model pools; None keeps its random start.
        head: "probe" starts the head at a regression of the labels on the features before training, with the class
            descriptions as its prior, where `pooling` makes these the mean over the tokens; None starts it at random.
        freeze_embeddings: whether to keep the word embeddings, which saves optimiser time on a CPU.
        objective: score that the decisions aim at; None for the accuracy. With one class a row and a head that starts
            as a probe, macro_f1 and balanced_accuracy adjust them to the shares of the classes.
        samples: number K of samples in `mc_logits`.
        mc_mode: source of the samples. MC dropout: "head" samples only the layers after the pretrained part, which runs
            once; "full" samples the whole network. Draws of the last layer, in a single pass: "laplace" draws from a
            Gaussian around the trained weights; "bootstrap" fits K layers on resamples of the labels.
        prior_precision: prior precision of the last layer in these draws, on features of mean squared norm 1.
        attention_dropout: whether MC samples also apply dropout to attention weights.
        precision: precision of the pass over the pool; "auto" is bfloat16 where the hardware supports it.
        token_budget: tokens per batch of the pass, padding included; halved when memory runs out.
        trainer: factory of a Lightning trainer for each round, with its precision, devices, loggers and callbacks; its
            epoch limits are ignored. None for one device, bfloat16 where the hardware supports it, and no output.
        device: device of the model if no trainer is given; "auto" uses a GPU if one is available.
        trunk: "cached" runs the lower layers once per text, keeps the hidden states of its tokens on disk in float16,
            and trains the upper layers on them: a fraction of the time, for some tasks less accurate. None to train
            all layers. See docs/cached_trunk.md.
        layers: number of upper layers to train with a cached trunk; None for 2.
        adapt: masked-language-model training of the encoder on the texts of the pool, once before the first fit; every
            fit starts from its weights, and `embeddings` and `surprisal` stay those of the model. None for none. See
            docs/adapt.md.
        shards: number of parts into which each training batch is cut, each with its own dropout, so that the model does
            not depend on the number of devices with the trainer's strategy ddp; None to compute batches as a whole.
        cached_as: "float16" keeps embeddings in the cache in half the space; None in float32. See docs/cache.md.
    """

    model: str = "sentence-transformers/all-MiniLM-L6-v2"
    max_length: int = 128
    epochs: int = 5
    min_steps: int = 100
    max_steps: int | None = None
    batch_size: int = 16
    learning_rate: float | None = None
    head_learning_rate: float | None = 5e-4
    weight_decay: float = 0.01
    warmup_ratio: float = 0.1
    gradient_clip_val: float | None = 1.0
    target_train_loss: float | None = None
    patience: int | None = None
    class_weights: Literal["balanced"] | None = None
    warm_start: bool = False
    freeze: int = 0
    lora: LoRA | None = None
    dropout: float | None = None
    pooling: Literal["pretrained"] | None = "pretrained"
    head: Literal["probe"] | None = "probe"
    freeze_embeddings: bool = False
    objective: Objective | None = None
    samples: int = DEFAULT_SAMPLES
    mc_mode: Literal["head", "full", "laplace", "bootstrap"] = "head"
    prior_precision: float = 0.1
    attention_dropout: bool = False
    precision: Precision = "auto"
    token_budget: int = 8192
    trainer: Callable[[], lightning.Trainer] | None = field(default=None, compare=False)
    device: str = "auto"
    trunk: Literal["cached"] | None = None
    layers: int | None = None
    adapt: Adaptation | None = None
    shards: int | None = None
    cached_as: Literal["float16"] | None = None

    provides = frozenset({"logits", "features", "embeddings", "surprisal", "mc_logits", "joint_mc_logits"})
    label_free = frozenset({"embeddings", "surprisal"})
    earlier_values = MappingProxyType({"pooling": None, "head": None})
    advice = "The most accurate from about a hundred labels on; minutes per round on a CPU, seconds on a GPU."

    def __post_init__(self) -> None:
        Options(self).one_of("trunk", (None, "cached"))
        if self.trunk is None and self.layers is not None:
            raise ConfigError("layers of TransformerLearner needs trunk: cached; freeze keeps lower layers as they are")
        if self.trunk is not None and (self.freeze or self.lora is not None):
            other = "freeze" if self.freeze else "lora"
            raise ConfigError(f"trunk: cached and {other} exclude each other: leave one of them out")
        # The values that are used are stored in the config of a run.
        if self.learning_rate is None:
            object.__setattr__(self, "learning_rate", 7e-5 if self.trunk is None else 2e-4)
        if self.trunk is not None and self.layers is None:
            object.__setattr__(self, "layers", 2)
        TrainingSchedule.of(self)
        model_name(self.model, error=ConfigError)
        options = Options(self)
        options.whole("max_length", "token_budget", least=1)
        options.whole("freeze", least=0)
        options.whole("samples", least=2)
        options.whole("layers", least=1, optional=True)
        options.number("learning_rate", "prior_precision", above=0)
        options.number("head_learning_rate", above=0, optional=True)
        options.number("weight_decay", least=0)
        options.number("warmup_ratio", least=0, most=1)
        options.number("dropout", least=0, most=1, optional=True)
        options.one_of("pooling", ("pretrained", None))
        options.one_of("head", ("probe", None))
        options.one_of("cached_as", (None, *get_args(CachedAs)))
        object.__setattr__(self, "objective", as_objective(self.objective))
        options.flag("warm_start", "attention_dropout", "freeze_embeddings")
        check_network(self)
        if self.lora is not None and not isinstance(self.lora, LoRA):
            raise ConfigError(f"lora of TransformerLearner must be a LoRA or null, not {shown(self.lora)}")
        if self.freeze and self.lora is not None:
            raise ConfigError("freeze and lora exclude each other: LoRA keeps every pretrained weight as it is")
        if self.adapt is not None and not isinstance(self.adapt, Adaptation):
            raise ConfigError(f"adapt of TransformerLearner must be an Adaptation or null, not {shown(self.adapt)}")

    @property
    def reads_descriptions(self) -> bool:  # type: ignore[override]
        """Whether the head starts at the descriptions of the classes."""
        return self.head is not None

    def check_rows(self, data: Any) -> None:
        """Raise LearnerError if the encoder is to be adapted and its files have no masked-language-model head."""
        if self.adapt is not None:
            require_masked_head(self.model, refused=REFUSED, instead=INSTEAD)

    def prepare(self, data: Any) -> TextPrepared:
        """Tokenize the rows and the class descriptions, or read their tokens from the cache."""
        self.check_rows(data)
        prepare = prepare_described_texts if self.reads_descriptions else prepare_texts
        return prepare(data, self.model, self.max_length)

    @property
    def caches(self) -> frozenset[str]:  # type: ignore[override]
        """Embeddings, and the token states of a cached trunk."""
        return EMBEDDINGS if self.trunk is None else EMBEDDINGS | {"states"}

    def fill_cache(
        self, data: Prepared, names: Iterable[str] = frozenset(), *, monitor: Monitor = SILENT
    ) -> dict[str, int]:
        """Compute the embeddings, if they are among the names, and the token states that all other outputs read.

        States of an encoder that is to be adapted are left to the run, whose first fit adapts it.
        """
        read, texts, computed = frozenset(names), _texts(data), dict[str, int]()
        if read & EMBEDDINGS:
            computed["embeddings"] = Embedder.of(self).fill(texts, monitor)
        if self.trunk is not None and self.adapt is None and read - self.label_free:
            computed["states"] = self._states.fill(texts, monitor)
            if self.head is not None and texts.described is not None:
                computed["states"] += self._states.fill(texts.described[0], monitor)
        return computed

    def fit(
        self,
        data: Prepared,
        rows: Tensor,
        labels: Tensor,
        *,
        seed: int,
        weights: Tensor | None = None,
        validation: tuple[Prepared, Tensor] | None = None,
        previous: Predictor | None = None,
        monitor: Monitor = SILENT,
    ) -> NetworkPredictor:
        """Train on the labeled rows with a new Lightning trainer, from the adapted encoder if there is to be one."""
        options: dict[str, Any] = {"weights": weights, "validation": validation, "previous": previous}
        if self.adapt is None:
            return super().fit(data, rows, labels, seed=seed, monitor=monitor, **options)
        adapted = self._encoders.of(_texts(data), monitor)
        started = replace(self, model=str(adapted.folder), adapt=None)
        fitted = started.fit(data, rows, labels, seed=seed, monitor=monitor, **options)
        predictor = self._predictor(fitted.module, fitted.layer)  # whose embeddings are those of the model itself
        text = "; ".join(filter(None, (adapted.text, fitted.training_notes.get("text"))))
        predictor.training_notes = {**fitted.training_notes, "adapted": adapted.notes, "text": text}
        return predictor

    @property
    def _encoders(self) -> AdaptedEncoders:
        """Adapted encoders in the cache."""
        assert self.adapt is not None
        return AdaptedEncoders(self.model, self.adapt, device_of(self.device))

    def _training_inputs(
        self, data: Prepared, rows: Tensor, validation: tuple[Prepared, Tensor] | None, monitor: Monitor
    ) -> tuple[Prepared, tuple[Prepared, Tensor] | None]:
        """With a cached trunk, the states of the rows."""
        if self.trunk is None:
            return data, validation
        states = self._states.of(data, rows, monitor, described=self.head is not None)
        if validation is not None and self.patience is not None:
            every = torch.arange(len(validation[1]))
            validation = self._states.of(validation[0], every, monitor), validation[1]
        return states, validation

    @property
    def _states(self) -> TokenStates:
        """Hidden states of a cached trunk, before a fit."""
        assert self.layers is not None
        return TokenStates(locate(self.model), self.layers, self.token_budget, device_of(self.device))

    def _states_under(self, module: UpperLayers) -> TokenStates:
        """Hidden states that the upper layers read: of the checkpoint to which they belong."""
        where = locate(str(module.checkpoint))
        upper = AutoConfig.from_pretrained(where).num_hidden_layers - module.lower
        return TokenStates(where, upper, self.token_budget, device_of(self.device))

    @property
    def _pass_budget(self) -> int:
        return self.token_budget

    def load(self, folder: Path, data: Prepared) -> NetworkPredictor:
        """Load a model from a Hugging Face folder, such as the one written by `save`.

        Raises:
            LearnerError: the model was trained for different classes, a file is damaged, or one is a pickle.
        """
        refuse_code(Path(folder))
        with refusing_damage(folder):
            module = self._module(str(Path(folder).absolute()), data, lora=None, freeze=0, pooling=None)
        held = set(module.model.config.id2label.values())
        if held != set(data.classes):
            raise LearnerError(f"{folder} was trained for other classes than {', '.join(data.classes)}")
        if isinstance(module, UpperLayers):
            own = module.checkpoint
            adapted = None if self.adapt is None else self._encoders.find(_texts(data))
            # The folder may be removed, and the lower layers of a model that was adapted may be in no other.
            module.checkpoint = self.model if adapted is None else adapted.folder
            if module.lower_digest != self._states_under(module).digest:
                if self.adapt is None:
                    raise LearnerError(f"{folder} was trained on the lower layers of another model than {self.model}")
                module.checkpoint = own
        return self._loaded(folder, module, len(data.classes))

    def _start(
        self, data: Prepared, previous: Predictor | None, seed: int, class_weights: Tensor | None
    ) -> TransformerClassifier:
        module = self._module(
            self.model,
            data,
            lora=self.lora,
            freeze=self.freeze,
            pooling=self.pooling,
            seed=seed,
            class_weights=class_weights,
        )
        if self.warm_start and isinstance(previous, NetworkPredictor):
            before = previous.module
            same = isinstance(before, TransformerClassifier) and _classes(before) == _classes(module)
            if before is not None and same:  # otherwise a class was added, and the head does not fit
                module.load_state_dict(before.state_dict())
                module.new_head = False
        return module

    def _start_head(
        self,
        module: ActiveModule,
        data: Prepared,
        rows: Tensor,
        labels: Tensor,
        weights: Tensor | None,
        monitor: Monitor,
    ) -> dict[str, Any]:
        assert isinstance(module, TransformerClassifier)
        if self.head is None or not module.new_head:
            return {}
        if module.started_pooling != "mean":
            return {"text": "head started at random: the untrained features of this model are not its embeddings"}
        targets = checked_labels(labels, data.classes, data.multilabel)
        described, described_by = None, DESCRIPTIONS
        if isinstance(data, TextPrepared | StatesPrepared):
            described, described_by = data.described, data.described_by
        return start_head(
            module.to(device_of(self.device)),
            data,
            rows,
            targets,
            row_weights(targets, weights, self.class_weights, data.multilabel),
            described,
            described_by=described_by,
            token_budget=self.token_budget,
            monitor=monitor,
        )

    def _adjusted(
        self,
        module: ActiveModule,
        layer: LastLayer | None,
        labels: Tensor,
        weights: Tensor | None,
        notes: Mapping[str, Any],
    ) -> LastLayer | None:
        assert isinstance(module, TransformerClassifier)
        # For the accuracy the adjustment gains nothing (docs/benchmarks.md). Few steps from a random head leave logits
        # so small that the shares of the classes would decide.
        if notes.get("head") != "probe" or module.multilabel or self.objective not in ("macro_f1", "balanced_accuracy"):
            return layer
        targets = F.one_hot(labels.cpu().long(), module.num_classes).float()
        counts = row_weights(targets, weights, self.class_weights, module.multilabel) @ targets
        return shift_head(module, layer, logit_adjustment(counts, adjustment_strength(self.objective)))

    def _module(
        self,
        model: str,
        data: Prepared,
        *,
        lora: LoRA | None,
        freeze: int,
        pooling: Literal["pretrained"] | None,
        seed: int = 0,
        class_weights: Tensor | None = None,
    ) -> TransformerClassifier:
        assert self.learning_rate is not None
        build: Callable[..., TransformerClassifier] = partial(TransformerClassifier, freeze=freeze, lora=lora)
        if self.layers is not None:
            build = partial(UpperLayers, lower=self._states.lower)
        return build(
            model,
            data.classes,
            multilabel=data.multilabel,
            dropout=self.dropout,
            pooling=pooling,
            freeze_embeddings=self.freeze_embeddings,
            seed=seed,
            learning_rate=self.learning_rate,
            head_learning_rate=self.head_learning_rate,
            weight_decay=self.weight_decay,
            warmup_ratio=self.warmup_ratio,
            class_weights=class_weights,
            mc_mode="full" if self.mc_mode == "full" else "head",
            attention_dropout=self.attention_dropout,
        )

    def _predictor(self, module: ActiveModule | None, layer: LastLayer | None = None) -> NetworkPredictor:
        return NetworkPredictor(
            module,
            embed=self._embed,
            write=self._write,
            samples=self.samples,
            precision=self.precision,
            token_budget=self.token_budget,
            layer=layer,
            source=self._states_under(module).of if isinstance(module, UpperLayers) else None,
            surprisal=Surprisal(self.model, self.max_length, self.precision, self.token_budget, device_of(self.device)),
        )

    def _embed(self, data: Prepared, rows: Tensor, monitor: Monitor) -> Tensor:
        return Embedder.of(self).embed(_texts(data), monitor).take(rows)

    def _write(self, module: ActiveModule, folder: Path) -> None:
        assert isinstance(module, TransformerClassifier)
        module.save(folder, load_tokenizer(self.model))


def _texts(data: Prepared) -> TextPrepared:
    """The rows, if this learner has prepared them.

    Raises:
        LearnerError: it has not.
    """
    if not isinstance(data, TextPrepared):
        raise LearnerError("these rows were prepared by another learner: use this learner's prepare")
    return data


def _classes(module: TransformerClassifier) -> dict[int, str]:
    classes: dict[int, str] = module.model.config.id2label
    return classes
