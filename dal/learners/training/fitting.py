"""Fit an `ActiveModule` with a new Lightning trainer: seeded, with batches of similar length, interruptible, silent."""

import copy
import gc
import logging
import math
import os
import random
import signal
import threading
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, fields
from functools import cache
from typing import Any

import lightning
import numpy as np
import torch
from lightning.fabric.utilities.exceptions import MisconfigurationException
from torch import Tensor

from dal.errors import ConfigError, LearnerError
from dal.functional.blocks import out_of_memory
from dal.functional.checking import Options
from dal.learner import SILENT, Monitor, Prepared
from dal.learners.inference import reduces
from dal.learners.training.batch_shards import ShardCallback, ShardedBatches, Shards
from dal.learners.training.data_parallel import Place, current_place, mean_over_ranks, placed_trainer, silent
from dal.learners.training.length_batches import BatchSampler
from dal.learners.training.training_labels import checked_weights
from dal.modules.active_module import ActiveModule

Factory = Callable[[], lightning.Trainer]

_log = logging.getLogger("dal")

_NOISE = (
    r".*does not have many workers.*",
    r".*You defined a `validation_step` but have no `val_dataloader`.*",
    r".*The number of training batches.*is smaller than the logging interval.*",
    r".*GPU available but not used.*",
    r".*Trying to infer the `batch_size`.*",
    r".*Checkpoint directory.*exists and is not empty.*",
    r".*does not have a deterministic implementation.*",
    r".*LeafSpec.* is deprecated.*",
    r".*It is recommended to use `self.log\(.*sync_dist=True\)`.*",  # each rank validates on all rows
)


@dataclass(frozen=True)
class TrainingSchedule:
    """Length of training, batch size and stopping criteria.

    Args:
        epochs: number of passes over the rows, subject to `min_steps` and `max_steps`.
        min_steps: minimum number of optimiser steps, which repeats small labeled sets more often.
        max_steps: maximum number of optimiser steps; None for no limit.
        batch_size: rows per batch.
        gradient_clip_val: maximum gradient norm, unless the trainer sets one; None for no clipping.
        target_train_loss: stop after an epoch with a mean training loss below this value; None to disable.
        patience: stop after this many epochs without a lower validation loss and restore the best weights; None to
            disable.
    """

    epochs: int
    min_steps: int
    max_steps: int | None
    batch_size: int
    gradient_clip_val: float | None
    target_train_loss: float | None
    patience: int | None

    def __post_init__(self) -> None:
        options = Options(self, named="")  # to the user, these are options of the learner
        options.whole("epochs", "batch_size", least=1)
        options.whole("min_steps", least=0)
        options.whole("max_steps", "patience", least=1, optional=True)
        options.number("gradient_clip_val", above=0, optional=True)
        options.number("target_train_loss", least=0, infinite=True, optional=True)
        if self.max_steps is not None and self.max_steps < self.min_steps:
            raise ConfigError(f"max_steps must be at least 1 and min_steps={self.min_steps}, got {self.max_steps}")

    @classmethod
    def of(cls, learner: Any) -> "TrainingSchedule":
        """Build the schedule from the fields of the same names of a learner.

        Raises:
            ConfigError: an option has an invalid value.
        """
        return cls(**{field.name: getattr(learner, field.name) for field in fields(cls)})

    def steps(self, batches: int) -> int:
        """Return the total number of optimiser steps, given the number of steps per epoch."""
        steps = max(self.epochs * batches, self.min_steps)
        return steps if self.max_steps is None else min(steps, self.max_steps)


def fit_module(
    make: Callable[[], ActiveModule],
    data: Prepared,
    rows: Tensor,
    labels: Tensor,
    *,
    seed: int,
    schedule: TrainingSchedule,
    weights: Tensor | None = None,
    validation: tuple[Prepared, Tensor] | None = None,
    trainer: Factory | None = None,
    device: torch.device,
    shards: int | None = None,
    class_weights: Tensor | None = None,
    monitor: Monitor = SILENT,
) -> ActiveModule:
    """Train a new module, and return it in evaluation mode on the device of the trainer.

    Training is deterministic given the seed and the device. The global random generators, the SIGINT handler and
    torch's global settings are restored afterwards.

    Args:
        make: factory of the untrained module.
        data: prepared rows.
        rows: (L,) int64, indices into `data`.
        labels: (L,) int64, or (L, C) when multi-label.
        seed: seed of initialisation, batches and dropout.
        schedule: length of training, which replaces the epoch limits of the trainer.
        weights: (L,) sample weights; None for equal weights.
        validation: prepared rows and labels for early stopping; only used if `schedule` has a `patience`.
        trainer: factory of a Lightning trainer; None for the default one.
        device: device of the default trainer.
        shards: number of parts into which each batch is cut; None to compute it as a whole.
        class_weights: (C,) weights of the classes in the loss, to weigh the parts of a batch.
        monitor: receives the progress.

    Raises:
        LearnerError: the trainer uses more than one device, the sample weights are invalid, or memory ran out.
        KeyboardInterrupt: Ctrl-C was pressed.
    """
    checked = None if weights is None else checked_weights(weights, len(rows))
    place = current_place() or Place(0, 1, "auto")
    own = None if shards is None else Shards.of(shards, place.rank, place.size)
    batches = BatchSampler(data, rows, labels, checked, schedule.batch_size, seed)
    if own is not None:
        options: dict[str, Any] = {"class_weights": class_weights, "shards": own}
        batches = ShardedBatches(data, rows, labels, checked, schedule.batch_size, seed, **options)
    held_out = None
    if validation is not None and schedule.patience is not None:
        held_out = BatchSampler(validation[0], torch.arange(len(validation[1])), validation[1], None, 64, None)
    with own_randomness(seed, device), _quiet():
        built = _trainer(trainer, device, schedule)
        where = built.strategy.root_device
        if own is not None:
            if built.accumulate_grad_batches != 1:
                raise ConfigError("shards and the trainer's accumulate_grad_batches exclude each other: leave one out")
            built.accumulate_grad_batches = len(own)
            built.callbacks.append(ShardCallback())  # type: ignore[attr-defined]
        steps = schedule.steps(math.ceil(len(batches) / built.accumulate_grad_batches))
        if built.max_steps != -1:
            steps = min(steps, built.max_steps)
        # Steps, not epochs, end the training: with few labels, an epoch is a step or two.
        built.fit_loop.epoch_loop.max_steps, built.fit_loop.max_epochs = steps, -1
        built.callbacks.append(_Progress(monitor, schedule.target_train_loss))  # type: ignore[attr-defined]
        best = None
        if held_out is not None:
            assert schedule.patience is not None
            best = _Best(schedule.patience)
            built.callbacks.append(best)  # type: ignore[attr-defined]
        module = make()  # within `own_randomness`, so that the seed determines new layers too
        if own is not None and type(module).training_step is not ActiveModule.training_step:
            raise LearnerError(
                f"shards needs the training_step of ActiveModule, and {type(module).__name__} has one of its own"
            )
        monitor.started("fit", steps)
        out_of_memory_text = (
            f"training ran out of memory with batches of {schedule.batch_size} rows: lower batch_size or max_length, "
            "use a smaller model, or set device to cpu"
        )
        with deterministic(where), _interruptible(), explaining_memory(out_of_memory_text):
            built.fit(module, batches, held_out)
        if best is not None:
            best.restore(module)
        monitor.finished()
        module.zero_grad(set_to_none=True)  # gradients take as much memory as the parameters
        module._trainer = None  # releases the data and the state of the optimiser
        module = module.to(where).eval()
    del built, best
    gc.collect()  # a trainer holds tensors in reference cycles, which would otherwise accumulate over the rounds
    return module


def _trainer(factory: Factory | None, device: torch.device, schedule: TrainingSchedule) -> lightning.Trainer:
    if factory is None:
        built = _default_trainer(device)
    else:
        try:
            # A deep copy, because a factory from a config shares its callbacks between calls.
            built = copy.deepcopy(silent(placed_trainer(factory) or factory))()
        except MisconfigurationException as error:
            raise ConfigError(f"the trainer cannot be created: {' '.join(str(error).split())}") from error
    devices = built.num_devices * built.num_nodes
    if devices > 1 and current_place() is None:
        raise LearnerError(
            f"the trainer uses {devices} devices, but training in this process supports only one: set devices=1, and "
            "use `dal run --devices` or dal.distributed.ranks"
        )
    if built.gradient_clip_val is None:
        built.gradient_clip_val = schedule.gradient_clip_val
    if built.precision == "bf16-mixed" and not reduces(built.strategy.root_device, "auto"):
        _say_slow(built.strategy.root_device.type)
    return built


@cache  # warn once per process
def _say_slow(device: str) -> None:
    _log.warning(
        "the trainer uses bf16-mixed, but this %s has no hardware support for bfloat16: 32-true is many times faster",
        device,
    )


def _default_trainer(device: torch.device) -> lightning.Trainer:
    return lightning.Trainer(
        accelerator="gpu" if device.type == "cuda" else device.type,
        devices=[device.index or 0] if device.type == "cuda" else 1,
        precision="bf16-mixed" if reduces(device, "auto") else "32-true",
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        num_sanity_val_steps=0,
    )


class _Progress(lightning.Callback):
    """Reports every step to the monitor, and stops training once the training loss is below the target."""

    def __init__(self, monitor: Monitor, target_train_loss: float | None) -> None:
        self._monitor, self._target_train_loss, self._steps = monitor, target_train_loss, 0
        self._losses: list[Tensor] = []

    def on_train_batch_end(
        self, trainer: lightning.Trainer, pl_module: lightning.LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        if trainer.global_step > self._steps:
            self._monitor.advanced(trainer.global_step - self._steps)
            self._steps = trainer.global_step
        if self._target_train_loss is not None:  # Lightning divides the loss by the number of accumulated batches
            self._losses.append(outputs["loss"].detach() * trainer.accumulate_grad_batches)

    def on_train_epoch_end(self, trainer: lightning.Trainer, pl_module: lightning.LightningModule) -> None:
        target = self._target_train_loss
        if target is not None and mean_over_ranks(trainer, torch.stack(self._losses).mean()) < target:
            trainer.should_stop = True
        self._losses.clear()


class _Best(lightning.Callback):
    """Early stopping that keeps the parameters and buffers with the lowest validation loss.

    Buffers are included because running statistics, such as those of batch normalisation, change the predictions.
    """

    def __init__(self, patience: int) -> None:
        self._patience, self._since, self._loss = patience, 0, math.inf
        self._state: dict[str, Tensor] = {}

    def on_validation_end(self, trainer: lightning.Trainer, pl_module: lightning.LightningModule) -> None:
        if trainer.sanity_checking:  # a few batches on the untrained module
            return
        if "val_loss" not in trainer.callback_metrics:
            raise LearnerError(
                f"patience needs a module that logs 'val_loss' in its validation_step, which "
                f"{type(pl_module).__name__} does not: log it, or set patience to null"
            )
        loss = mean_over_ranks(trainer, trainer.callback_metrics["val_loss"])
        self._since += 1
        if loss < self._loss:
            self._loss, self._since = loss, 0
            # Frozen parameters cannot change: copies of them would double the memory of a frozen encoder.
            trained = {name: p for name, p in pl_module.named_parameters() if p.requires_grad}
            state = trained | dict(pl_module.named_buffers())
            self._state = {name: value.detach().clone() for name, value in state.items()}
        if self._since >= self._patience:
            trainer.should_stop = True

    def on_before_optimizer_step(
        self, trainer: lightning.Trainer, pl_module: lightning.LightningModule, optimizer: torch.optim.Optimizer
    ) -> None:
        if not self._state:
            return
        for name, parameter in pl_module.named_parameters():
            if parameter.requires_grad and name not in self._state:  # just unfrozen by a callback
                self._state[name] = parameter.detach().clone()

    def restore(self, module: lightning.LightningModule) -> None:
        """Restore the best parameters and buffers."""
        with torch.no_grad():
            for name, value in [*module.named_parameters(), *module.named_buffers()]:
                if name in self._state:
                    value.copy_(self._state[name])


@contextmanager
def own_randomness(seed: int, device: torch.device) -> Iterator[None]:
    """Context manager that seeds the global generators of Python, NumPy and torch, and restores their states."""
    python, legacy = random.getstate(), np.random.get_state()
    state = np.random.SeedSequence(seed).generate_state(2, np.uint64)
    with torch.random.fork_rng(devices=[device] if device.type == "cuda" else []):
        random.seed(int(state[0]))
        np.random.seed(int(state[0] % 2**32))
        torch.manual_seed(int(state[1]))
        try:
            yield
        finally:
            random.setstate(python)
            np.random.set_state(legacy)


@contextmanager
def deterministic(device: torch.device) -> Iterator[None]:
    """Context manager for deterministic kernels on a GPU, where available; CPU kernels are deterministic."""
    if device.type != "cuda":
        yield
        return
    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")  # without it, matrix products are not deterministic
    before = torch.are_deterministic_algorithms_enabled(), torch.is_deterministic_algorithms_warn_only_enabled()
    attention = torch.backends.cuda.cudnn_sdp_enabled(), torch.backends.cuda.mem_efficient_sdp_enabled()
    torch.use_deterministic_algorithms(True, warn_only=True)
    torch.backends.cuda.enable_cudnn_sdp(False)  # these have no deterministic backward pass
    torch.backends.cuda.enable_mem_efficient_sdp(False)
    try:
        yield
    finally:
        torch.backends.cuda.enable_cudnn_sdp(attention[0])
        torch.backends.cuda.enable_mem_efficient_sdp(attention[1])
        torch.use_deterministic_algorithms(before[0], warn_only=before[1])


@contextmanager
def explaining_memory(text: str) -> Iterator[None]:
    """Context manager that converts running out of memory into a `LearnerError` with a text of one line."""
    try:
        yield
    except (RuntimeError, MemoryError) as error:
        if not out_of_memory(error):
            raise
        raise LearnerError(text) from error


class _Interrupted(BaseException):
    """Ctrl-C inside Lightning, which would turn a KeyboardInterrupt into an exit."""


@contextmanager
def _interruptible() -> Iterator[None]:
    """Context manager in which Ctrl-C raises KeyboardInterrupt; the SIGINT handler is restored afterwards."""
    if threading.current_thread() is not threading.main_thread():  # only the main thread may set signal handlers
        yield
        return
    before = signal.getsignal(signal.SIGINT)

    def interrupt(number: int, frame: Any) -> None:
        try:
            if callable(before):
                before(number, frame)
        except KeyboardInterrupt as error:
            raise _Interrupted from error

    if callable(before):
        signal.signal(signal.SIGINT, interrupt)
    try:
        yield
    except _Interrupted:
        raise KeyboardInterrupt from None
    except SystemExit as error:
        if isinstance(error.__context__, KeyboardInterrupt):  # raised by a callback and converted by Lightning
            raise KeyboardInterrupt from None
        raise
    finally:
        if before is not None:
            signal.signal(signal.SIGINT, before)


@contextmanager
def _quiet() -> Iterator[None]:
    """Context manager that silences the hints of Lightning and warnings that do not apply here."""
    loggers = [logging.getLogger(name) for name in ("lightning.pytorch", "lightning.fabric")]
    levels = [logger.level for logger in loggers]
    for logger in loggers:
        logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            for message in _NOISE:
                warnings.filterwarnings("ignore", message=message)
            yield
    finally:
        for logger, level in zip(loggers, levels, strict=True):
            logger.setLevel(level)
