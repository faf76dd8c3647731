"""`dal run` on several devices: how many a config asks for, and the other ranks that serve the run."""

import contextlib
import shlex
import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import fields, is_dataclass, replace
from typing import TYPE_CHECKING, Any

from dal.config.allowed_code import allow_option
from dal.config.factory import Factory
from dal.errors import ConfigError, RankError
from dal.functional.checking import number, shown, whole

if TYPE_CHECKING:
    from dal.experiments.console import Console
    from dal.experiments.experiment import Experiment

_TIMEOUT = 600.0  # seconds, as in dal.distributed


def check_options(devices: int | None, timeout: float | None) -> None:
    """Validate `--devices` and `--rank-timeout`.

    Raises:
        ConfigError: one has an invalid value.
    """
    if devices is not None:
        whole(devices, "--devices", least=1, error=ConfigError)
    if timeout is not None:
        number(timeout, "--rank-timeout", above=0, error=ConfigError)


def check_alone() -> None:
    """Check that this process of `dal compare` is not a further one of torchrun or srun, which would all do the same.

    Raises:
        ConfigError: it is.
    """
    from dal.distributed.launchers import launched_rank

    launched = launched_rank()
    if launched is not None and launched.rank:
        raise ConfigError(
            f"dal compare was started as {launched.size} processes, by torchrun or srun: start it once, with --jobs N "
            "or --cluster; only dal run and dal embed share one run among processes"
        )


@contextmanager
def launched_ranks(timeout: float | None, *, stderr: bool = False) -> Iterator[None]:
    """Context manager in which the other processes of torchrun or srun serve this one, before anything is opened.

    In a process other than that of rank 0 the block never runs: it serves, and then ends with its exit code. Without a
    launcher nothing happens.

    Args:
        timeout: seconds without progress after which a rank counts as lost; None for the default.
        stderr: whether to show on stderr that ranks have not started, for commands whose result is on stdout.
    """
    from dal.distributed.launchers import launched_rank

    launched = launched_rank()
    if launched is None:
        yield
        return
    if launched.rank:  # rank 0 says how to resume
        for name in ("SIGTERM", "SIGHUP", "SIGUSR1"):
            signal.signal(getattr(signal, name), signal.SIG_DFL)
    from dal.distributed import ranks

    with contextlib.ExitStack() as stack:
        with _start_shown(stderr=stderr) as tell:
            stack.enter_context(ranks(timeout=timeout or _TIMEOUT, tell=tell))
        yield


@contextmanager
def _start_shown(*, stderr: bool = False) -> Iterator[Callable[[str], None]]:
    """Context manager with the function that shows which ranks have not started, as other stages are shown.

    A terminal gets a spinner until the end of the block, a log one line and the usual signs of life.
    """
    with contextlib.ExitStack() as stack:
        console: Console | None = None

        def tell(line: str) -> None:
            nonlocal console
            if console is not None and console.heartbeat is not None:
                console.heartbeat.stage(line)  # named by the next sign of life
                return
            if console is None:
                from dal.experiments.console import Console

                console = stack.enter_context(Console(stderr=stderr))
            console.stage(line)

        yield tell


def run_on_devices(experiment: "Experiment", devices: int | None, timeout: float | None) -> None:
    """Run an experiment on as many devices as wanted, or on those of a launcher.

    Args:
        experiment: experiment, whose trainer names one device; see `on_one_device`.
        devices: number of devices; None for one, or those of a launcher.
        timeout: seconds without progress after which a rank counts as lost; None for the default.

    Raises:
        RankError: a rank was lost; the message says how to resume.
    """
    again = None
    if experiment.folder is not None:
        again = f"go on with: {shlex.join(['dal', 'run', '--resume', experiment.folder])}{allow_option()}"
    with on_devices(devices, timeout, again):
        experiment.run()


@contextmanager
def on_devices(devices: int | None, timeout: float | None, again: str | None) -> Iterator[None]:
    """Context manager in which work is shared among several devices, or among the ranks of a launcher.

    Args:
        devices: number of devices; None for one, or those of a launcher.
        timeout: seconds without progress after which a rank counts as lost; None for the default.
        again: advice for going on, for the message about a lost rank; None if nothing is kept.

    Raises:
        RankError: a rank was lost.
    """
    from dal.learners.ranks import current_ranks

    try:
        with contextlib.ExitStack() as stack:
            if current_ranks() is None and (devices or 1) > 1:
                from dal.distributed import ranks

                with _start_shown() as tell:
                    stack.enter_context(ranks(devices, timeout=timeout or _TIMEOUT, tell=tell))
            yield
    except RankError as error:
        if again is None:
            raise
        raise RankError(f"{error}; {again}") from error


def on_one_device(experiment: "Experiment") -> tuple["Experiment", int]:
    """Separate the recipe of an experiment from the number of devices that its trainer names.

    The models do not depend on this number, so that it is no part of the stored config: a run may go on with another.

    Returns:
        The experiment with a trainer of one device, and the number.
    """
    learner, devices = _separated(experiment.learner)
    successor, others = _separated(experiment.successor)
    if learner is not experiment.learner or successor is not experiment.successor:
        experiment = replace(experiment, learner=learner, successor=successor)
    return experiment, max(devices, others)


def _separated(learner: Any) -> tuple[Any, int]:
    """A learner whose trainer, and those of learners in it, name one device, and the largest number named."""
    if not is_dataclass(learner) or isinstance(learner, type):
        return learner, 1
    changed, devices = dict[str, Any](), 1
    for field in fields(learner):
        value = getattr(learner, field.name)
        if field.name == "trainer" and isinstance(value, Factory):
            devices = _number_of(value.init_args.get("devices"))
            if devices > 1:
                changed["trainer"] = replace(value, init_args={**value.init_args, "devices": 1})
        elif field.name == "learner":
            inner, devices = _separated(value)
            if inner is not value:
                changed["learner"] = inner
    return (replace(learner, **changed) if changed else learner), devices


def _number_of(devices: Any) -> int:
    """Number of devices that a trainer names; 1 where it leaves them to Lightning."""
    if isinstance(devices, list) and len(devices) == 1:  # one device by its number
        return 1
    if isinstance(devices, str) and devices.strip("-").isdigit():
        devices = int(devices)
    if devices in (None, "auto"):
        return 1
    if devices == -1:
        import torch

        return max(1, torch.cuda.device_count())
    if not isinstance(devices, int) or isinstance(devices, bool) or devices < 1:
        raise ConfigError(
            f"learner.trainer.devices must be a number of devices, at least 1, not {shown(devices)}: choose GPUs with "
            "CUDA_VISIBLE_DEVICES"
        )
    return devices
