"""Training of one network by several ranks with Lightning's DDP, which gives the weights of one device."""

import functools
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, replace
from datetime import timedelta
from typing import Any

import lightning
import torch
from lightning.fabric.plugins.environments.cluster_environment import ClusterEnvironment
from torch import distributed

from dal.config.class_names import import_path
from dal.config.factory import Factory
from dal.errors import ConfigError, LearnerError, RankError
from dal.functional.checking import shown
from dal.learner import Learner, Monitor, Predictor
from dal.learners.ranks import Job, NotShareableError, Ranks

#: Strategies of a trainer by which all ranks train one network.
PARALLEL = ("ddp", "ddp_find_unused_parameters_true")

_POLL = 0.05  # seconds
_ALONE = (None, "auto", "single_device")


def strategy_of(trainer: Callable[..., Any] | None) -> str | None:
    """The strategy that a factory of a trainer names; None without any.

    Raises:
        ConfigError: it is not supported.
    """
    given = _options(trainer).get("strategy")
    if given in _ALONE:
        return None
    if given not in PARALLEL:
        raise ConfigError(
            f"trainer.strategy must be ddp, or left out to train on one device, not {shown(given)}: strategies that "
            "start processes of their own, or that split a network, are not supported"
        )
    return str(given)


def check_parallel(recipe: Any) -> None:
    """Validate `trainer` and `shards` of a learner.

    Raises:
        ConfigError: the strategy is not supported, or the number of parts of a batch is not fixed.
    """
    strategy = strategy_of(recipe.trainer)
    if strategy is not None and recipe.shards is None:
        raise ConfigError(
            f"trainer.strategy {strategy} needs shards, the number of parts into which each batch is cut, such as 4: "
            "models depend on it, and not on the number of devices"
        )
    if recipe.shards is not None and recipe.shards > recipe.batch_size:
        raise ConfigError(f"shards is {recipe.shards}, more than the {recipe.batch_size} rows of a batch (batch_size)")


def _options(trainer: Callable[..., Any] | None) -> dict[str, Any]:
    if isinstance(trainer, Factory):
        return trainer.init_args
    return dict(trainer.keywords) if isinstance(trainer, functools.partial) else {}


def with_options(trainer: Callable[..., Any], **options: Any) -> Callable[..., Any]:
    """The factory with other options of the trainer."""
    if isinstance(trainer, Factory):
        return replace(trainer, init_args={**trainer.init_args, **options})
    assert isinstance(trainer, functools.partial)
    return functools.partial(trainer.func, *trainer.args, **{**trainer.keywords, **options})


_FILES_AND_DISPLAYS = ("logger", "enable_checkpointing", "enable_progress_bar", "enable_model_summary")


def silent(trainer: Callable[..., Any]) -> Callable[..., Any]:
    """The factory without files and displays of Lightning, unless it names them: dal shows the progress itself.

    A factory with callbacks is returned as it is, since some of them need what is left out here.
    """
    given = _options(trainer)
    made = import_path(trainer.class_path) if isinstance(trainer, Factory) else getattr(trainer, "func", None)
    if made is not lightning.Trainer or given.get("callbacks"):
        return trainer
    return with_options(trainer, **{name: False for name in _FILES_AND_DISPLAYS if name not in given})


@dataclass(frozen=True)
class Place:
    """Place of this process among those that train a network together.

    Attributes:
        rank: 0 to size - 1.
        size: number of processes.
        strategy: strategy of Lightning.
    """

    rank: int
    size: int
    strategy: str


_place: ContextVar[Place | None] = ContextVar("place", default=None)


def current_place() -> Place | None:
    """Return the place of this process in the fit that is in progress; None in a fit of its own."""
    return _place.get()


def placed_trainer(trainer: Callable[..., Any] | None) -> Callable[..., Any] | None:
    """The factory of the trainer of this process: one that takes part in a common fit, or one of a single device."""
    place = current_place()
    if trainer is None or strategy_of(trainer) is None:
        return trainer
    if place is None:
        return with_options(trainer, strategy="auto", devices=1)
    own: Any = RankEnvironment(place.rank, place.size)
    if isinstance(trainer, Factory):  # in the form of a config
        own = {
            "class_path": f"{__name__}.{RankEnvironment.__name__}",
            "init_args": {"rank": place.rank, "size": place.size},
        }
    plugins = [*(_options(trainer).get("plugins") or []), own]
    devices = [torch.cuda.current_device()] if _on_gpu(trainer) else 1
    return with_options(trainer, devices=devices, num_nodes=place.size, plugins=plugins)


def _on_gpu(trainer: Callable[..., Any]) -> bool:
    return torch.cuda.is_available() and _options(trainer).get("accelerator", "auto") in ("auto", "gpu", "cuda")


class RankEnvironment(ClusterEnvironment):
    """What Lightning asks of its environment: each process is a node of one device, and it has to start none.

    Args:
        rank: rank of this process.
        size: number of processes.
    """

    def __init__(self, rank: int, size: int) -> None:
        super().__init__()
        self._rank, self._size = rank, size

    # What each is, is documented in the base class.
    # ruff: noqa: D102

    @property
    def creates_processes_externally(self) -> bool:
        return True

    @property
    def main_address(self) -> str:
        return "127.0.0.1"  # not used: the process group exists

    @property
    def main_port(self) -> int:
        return 0

    @staticmethod
    def detect() -> bool:
        return False

    def world_size(self) -> int:
        return self._size

    def set_world_size(self, size: int) -> None:
        pass

    def global_rank(self) -> int:
        return self._rank

    def set_global_rank(self, rank: int) -> None:
        pass

    def local_rank(self) -> int:
        return 0

    def node_rank(self) -> int:
        return self._rank


def fit_on_ranks(
    ranks: Ranks, learner: Learner, shards: int, arguments: tuple[Any, ...], options: dict[str, Any], monitor: Monitor
) -> Predictor:
    """Train a network on as many ranks as divide the number of parts of a batch.

    Args:
        ranks: the ranks.
        learner: learner with a trainer of a strategy of `PARALLEL`.
        shards: number of parts of each batch.
        arguments: positional arguments of `Learner.fit`.
        options: keyword arguments of `Learner.fit`, but for the monitor.
        monitor: receives the progress of rank 0.

    Raises:
        LearnerError: the learner cannot be sent to another process.
    """
    size = max(count for count in range(1, ranks.size + 1) if shards % count == 0)
    limit = timedelta(seconds=ranks.timeout)
    strategy = strategy_of(getattr(learner, "trainer", None))
    assert strategy is not None
    store = _store(ranks.host, 0, Place(0, size, strategy), limit)
    jobs = [Job(_fit_together, (learner, store, Place(0, size, strategy), limit, *arguments), options)]
    for rank in range(1, size):
        address = ranks.host, store.port
        jobs.append(Job(_fit_together, (learner, address, Place(rank, size, strategy), limit, *arguments), options))
    try:
        predictor: Predictor = ranks.run("fit", jobs, monitor)[0]
    except NotShareableError as error:
        raise LearnerError(f"the ranks cannot train together with strategy {strategy}: {error}") from error
    return predictor


def _store(host: str, port: int, place: Place, limit: timedelta) -> Any:
    """Store in which the processes of a fit find each other; rank 0 serves it, at a free port for 0."""
    from torch.distributed import TCPStore  # type: ignore[attr-defined]

    return TCPStore(host, port, place.size, is_master=place.rank == 0, timeout=limit, wait_for_workers=False)


def _fit_together(
    learner: Learner, store: Any, place: Place, limit: timedelta, *arguments: Any, monitor: Monitor, **options: Any
) -> Predictor | None:
    """Take part in a fit; only rank 0 returns the model, which is the same on all."""
    if isinstance(store, tuple):
        host, port = store
        store = _store(host, port, place, limit)
    _await_all(store, place, limit, monitor)
    on_gpu = torch.cuda.is_available() and distributed.is_nccl_available()
    backend = "cpu:gloo,cuda:nccl" if on_gpu else "gloo"
    distributed.init_process_group(backend, store=store, rank=place.rank, world_size=place.size, timeout=limit)
    try:
        with _taking(place):
            predictor = learner.fit(*arguments, monitor=monitor, **options)
    finally:
        distributed.destroy_process_group()  # a fit on one device must not find it
    return predictor if place.rank == 0 else None


def _await_all(store: Any, place: Place, limit: timedelta, monitor: Monitor) -> None:
    """Wait until all processes have the learner, where Ctrl-C and the loss of one can be noticed.

    Raises:
        RankError: one does not come in time.
    """
    store.set(f"ready {place.rank}", "")
    deadline = time.monotonic() + limit.total_seconds()
    while not store.check([f"ready {rank}" for rank in range(place.size)]):
        monitor.advanced(0)
        if time.monotonic() > deadline:
            raise RankError(f"not all ranks were ready to train together within {limit.total_seconds():g} seconds")
        time.sleep(_POLL)


@contextmanager
def _taking(place: Place) -> Iterator[None]:
    token = _place.set(place)
    try:
        yield
    finally:
        _place.reset(token)


def mean_over_ranks(trainer: lightning.Trainer, value: torch.Tensor) -> float:
    """Mean of a number over the processes of a fit, the same on all, so that they decide alike."""
    reduced: Any = trainer.strategy.reduce(value, reduce_op="mean")
    return float(reduced)
