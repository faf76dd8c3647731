"""Train a user-defined `ActiveModule` on rows that are tensors: images, vectors, time series."""

import inspect
import json
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import lightning
import torch
from safetensors.torch import save_file
from torch import Tensor

from dal.config.moved import accepts_old_options
from dal.errors import ConfigError, LearnerError, printable, shortened
from dal.functional.checking import Options
from dal.learner import Monitor, Predictor, Prepared
from dal.learners.heads.last_layer import LastLayer
from dal.learners.inference import DEFAULT_SAMPLES, Precision
from dal.learners.training.fitting import TrainingSchedule, own_randomness
from dal.learners.training.network import check_network
from dal.learners.training.network_learner import NetworkLearner
from dal.learners.training.network_predictor import NetworkPredictor
from dal.learners.training.saved_files import check_kind, read_facts, read_tensors, refusing_damage
from dal.learners.training.tensor_rows import TensorPrepared, prepare_tensors
from dal.modules.active_module import ActiveModule
from dal.store.atomic_files import replacing


@accepts_old_options
@dataclass(frozen=True)
class ModuleLearner(NetworkLearner):
    """User-defined `ActiveModule`, built and trained from scratch in every round. Batches are `{"inputs": ...}`.

    `embeddings` are the flattened rows. Learning rate, weight decay and other optimiser settings belong to the module.

    Args:
        build: factory of the untrained module, called as `build(classes, multilabel)` with the number of classes.
        epochs: number of passes over the labeled rows, subject to `min_steps` and `max_steps`.
        min_steps: minimum number of optimiser steps, which repeats small labeled sets more often.
        max_steps: maximum number of optimiser steps; None for no limit.
        batch_size: rows per training batch.
        gradient_clip_val: maximum gradient norm, unless the trainer sets one; None for no clipping.
        target_train_loss: stop after an epoch with a mean training loss below this value; None to disable.
        patience: with validation rows, stop after this many epochs without a lower validation loss and restore the best
            weights; None to disable.
        class_weights: "balanced" gives every class the same total weight; None weights rows equally.
        warm_start: start from the weights of the previous round instead of new ones.
        samples: number K of samples in `mc_logits`.
        mc_mode: source of the samples. MC dropout: "head" or "full"; None for the module's own setting. Draws of the
            last layer, without dropout and in a single pass: "laplace" draws from a Gaussian around the trained
            weights; "bootstrap" fits K layers on resamples of the labels.
        prior_precision: prior precision of the last layer in these draws, on features of mean squared norm 1.
        precision: precision of the pass over the pool; "auto" is bfloat16 where the hardware supports it.
        pass_batch: rows per batch of the pass; halved when memory runs out.
        trainer: factory of a Lightning trainer for each round; None for one device and no output.
        device: device of the module if no trainer is given; "auto" uses a GPU if one is available.
        shards: number of parts into which each training batch is cut, each with its own dropout, so that the model does
            not depend on the number of devices with the trainer's strategy ddp; None to compute batches as a whole.
    """

    build: Callable[[int, bool], ActiveModule]
    epochs: int = 20
    min_steps: int = 100
    max_steps: int | None = None
    batch_size: int = 32
    gradient_clip_val: float | None = 1.0
    target_train_loss: float | None = None
    patience: int | None = None
    class_weights: Literal["balanced"] | None = None
    warm_start: bool = False
    samples: int = DEFAULT_SAMPLES
    mc_mode: Literal["head", "full", "laplace", "bootstrap"] | None = None
    prior_precision: float = 0.1
    precision: Precision = "auto"
    pass_batch: int = 1024
    trainer: Callable[[], lightning.Trainer] | None = field(default=None, compare=False)
    device: str = "auto"
    shards: int | None = None

    provides = frozenset({"logits", "features", "embeddings", "mc_logits", "joint_mc_logits"})
    label_free = frozenset({"embeddings"})
    advice = "For anything that is not text: images, vectors, series."

    def __post_init__(self) -> None:
        _check_factory(self.build)
        TrainingSchedule.of(self)
        options = Options(self)
        options.whole("samples", least=2, description="at least 2 to show any disagreement")
        options.whole("pass_batch", least=1)
        options.number("prior_precision", above=0)
        options.flag("warm_start")
        check_network(self)

    def prepare(self, data: Any) -> TensorPrepared:
        """Return the rows as one tensor (N, ...)."""
        return prepare_tensors(data)

    def check_rows(self, data: Any) -> None:
        """Raise DataError if the rows are not numeric arrays."""
        prepare_tensors(data.take([0]))

    @property
    def _pass_budget(self) -> int:
        return self.pass_batch

    def load(self, folder: Path, data: Prepared) -> NetworkPredictor:
        """Load a module written by `save`.

        Raises:
            LearnerError: the weights do not fit the module that `build` returns for this data, or a file is damaged.
        """
        facts = read_facts(folder, "module.json", {"classes": int, "multilabel": bool})
        if facts["classes"] != len(data.classes):
            raise LearnerError(f"{folder} was trained for {facts['classes']} classes, the data has {len(data.classes)}")
        check_kind(folder, facts["multilabel"], data.multilabel)
        with own_randomness(0, torch.device("cpu")):
            module = self._built(data)
        state = module.state_dict()
        learned = {name for name, _ in module.named_parameters(remove_duplicate=False)}
        shapes = {name: " ".join(map(str, value.shape)) for name, value in state.items()}
        weights = read_tensors(
            folder, "module.safetensors", lambda names: _all_of(shapes, names), {}, infinite=set(state) - learned
        )
        with refusing_damage(folder, "module.safetensors"):
            module.load_state_dict(weights)
        return self._loaded(folder, module, len(data.classes))

    def _built(self, data: Prepared) -> ActiveModule:
        module = self.build(len(data.classes), data.multilabel)
        if not isinstance(module, ActiveModule):
            raise LearnerError(
                f"build returned a {type(module).__name__}, but ModuleLearner trains an ActiveModule: {_HOW}"
            )
        if self.mc_mode == "head" or self.mc_mode == "full":
            module.mc_mode = self.mc_mode
        return module

    def _start(
        self, data: Prepared, previous: Predictor | None, seed: int, class_weights: Tensor | None
    ) -> ActiveModule:
        module = self._built(data)
        if class_weights is not None:
            module.class_weights = class_weights
        before = previous.module if isinstance(previous, NetworkPredictor) else None
        if self.warm_start and before is not None and before.num_classes == module.num_classes:
            module.load_state_dict(before.state_dict())
        return module

    def _predictor(self, module: ActiveModule | None, layer: LastLayer | None = None) -> NetworkPredictor:
        return NetworkPredictor(
            module,
            embed=_flattened,
            write=_write,
            samples=self.samples,
            precision=self.precision,
            token_budget=self.pass_batch,
            layer=layer,
        )


_HOW = "derive your module from dal.modules.ActiveModule"


def _check_factory(build: Any) -> None:
    """Raise `ConfigError` if `build` cannot build modules, rather than fail in the first fit."""
    name = getattr(build, "__name__", type(build).__name__)
    if isinstance(build, torch.nn.Module):
        raise ConfigError(
            f"build of ModuleLearner must be a factory, not a module, because a new one is built in every round: write "
            f"ModuleLearner({name}) without parentheses after {name}, or `lambda classes, multilabel: {name}(...)`"
        )
    if not callable(build):
        raise ConfigError(f"build must be callable as build(classes, multilabel), not {shortened(repr(build))}")
    if inspect.isclass(build) and not issubclass(build, ActiveModule):
        raise ConfigError(f"{name} is not an ActiveModule: {_HOW}")
    if inspect.isabstract(build):
        lacks = ", ".join(sorted(build.__abstractmethods__))
        raise ConfigError(f"{name} does not define {lacks}: define it in a class derived from ActiveModule")
    try:
        inspect.signature(build).bind(2, False)
    except TypeError as error:
        raise ConfigError(
            f"{name} is called as {name}(classes, multilabel) in every round, such as {name}(3, False): {error}"
        ) from error
    except ValueError:  # compiled code may have no signature
        pass


def _flattened(data: Prepared, rows: Tensor, monitor: Monitor) -> Tensor:
    if not isinstance(data, TensorPrepared):
        raise LearnerError("these rows were prepared by another learner: use this learner's prepare")
    return data.take(rows).flatten(1).float()


def _all_of(shapes: dict[str, str], names: set[str]) -> dict[str, str]:
    """The dimensions of a module's weights. Raises `ValueError` if a file holds other tensors."""
    if others := sorted(names - set(shapes)):
        raise ValueError(f"it holds {printable(others[0])}, which the module returned by build does not have")
    return shapes


def _write(module: ActiveModule, folder: Path) -> None:
    with replacing(folder) as target:
        # Clones, because safetensors rejects tensors that share memory, as tied weights do.
        weights = {name: value.detach().cpu().clone().contiguous() for name, value in module.state_dict().items()}
        save_file(weights, target / "module.safetensors")
        facts = {"classes": module.num_classes, "multilabel": module.multilabel}
        (target / "module.json").write_text(json.dumps(facts, indent=1), encoding="utf-8")
