"""Ranks that torchrun or srun started: what their environment says, and how they find each other."""

import os
import socket
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

from dal.errors import ConfigError, RankError, one_line

#: Variables by which Lightning recognises a launcher.
_OF_LAUNCHERS = (
    *("RANK", "WORLD_SIZE", "LOCAL_RANK", "LOCAL_WORLD_SIZE", "GROUP_RANK", "NODE_RANK", "MASTER_ADDR", "MASTER_PORT"),
    *("TORCHELASTIC_RUN_ID", "SLURM_NTASKS", "SLURM_PROCID", "SLURM_LOCALID"),
)

_PORT = 29500  # of the ranks of srun, unless MASTER_PORT names another, as in torchrun


@dataclass(frozen=True)
class LaunchedRank:
    """A rank that a launcher started.

    Attributes:
        rank: rank of this process.
        size: number of ranks.
        local_rank: rank among the processes of this computer.
        local_size: number of ranks on this computer.
        host: computer of rank 0.
        port: port of the launcher's store on it, through which the ranks find each other.
    """

    rank: int
    size: int
    local_rank: int
    local_size: int
    host: str
    port: int

    @property
    def one_computer(self) -> bool:
        """Whether all ranks are on one computer."""
        return self.local_size == self.size


def launched_rank(environment: Mapping[str, str] = os.environ) -> LaunchedRank | None:
    """Return the rank that torchrun or srun gave to this process; None without a launcher of several.

    Raises:
        ConfigError: a variable of the launcher is missing, no number, or out of range.
    """
    given = dict(environment)
    tasks = given.get("SLURM_STEP_NUM_TASKS", "")  # not in a batch script without srun
    if "RANK" not in given and tasks.isdecimal() and int(tasks) > 1:
        given |= _of_slurm(given)
    if "RANK" not in given or given.get("WORLD_SIZE") == "1":
        return None
    names = ("RANK", "WORLD_SIZE", "LOCAL_RANK", "LOCAL_WORLD_SIZE", "MASTER_PORT")
    given.setdefault("LOCAL_WORLD_SIZE", given.get("WORLD_SIZE", ""))
    try:
        rank, size, local_rank, local_size, port = (int(given[name]) for name in names)
        launched = LaunchedRank(rank, size, local_rank, local_size, given["MASTER_ADDR"], port)
    except (KeyError, ValueError) as error:
        raise ConfigError(
            f"RANK is set, as torchrun does, but not all of {', '.join((*names, 'MASTER_ADDR'))} are: unset RANK, or "
            "start with torchrun or srun"
        ) from error
    if not (0 <= rank < size and 0 <= local_rank < size and 0 < local_size <= size and 0 < port < 2**16):
        shown = ", ".join(f"{name}={given[name]}" for name in names)
        raise ConfigError(f"the variables of the launcher contradict each other ({shown}): start with torchrun or srun")
    return launched


def _of_slurm(given: Mapping[str, str]) -> dict[str, str]:
    """Variables of torchrun from those of srun.

    Raises:
        ConfigError: one is missing.
    """
    lacking = [name for name in ("SLURM_PROCID", "SLURM_LOCALID") if name not in given]
    if lacking:
        raise ConfigError(
            f"SLURM_STEP_NUM_TASKS is set, as srun does, but not {', '.join(lacking)}: unset it, or start with srun"
        )
    from lightning.fabric.plugins.environments.slurm import SLURMEnvironment

    nodes = given.get("SLURM_STEP_NODELIST", given.get("SLURM_NODELIST", "localhost"))
    host = SLURMEnvironment.resolve_root_node_address(nodes)
    here = given.get("SLURM_STEP_TASKS_PER_NODE", given["SLURM_STEP_NUM_TASKS"]).split("(")[0].split(",")[0]
    return {
        "RANK": given["SLURM_PROCID"],
        "WORLD_SIZE": given["SLURM_STEP_NUM_TASKS"],
        "LOCAL_RANK": given["SLURM_LOCALID"],
        "LOCAL_WORLD_SIZE": here,
        "MASTER_ADDR": given.get("MASTER_ADDR", host),
        "MASTER_PORT": given.get("MASTER_PORT", str(_PORT)),
    }


def launcher_store(launched: LaunchedRank, timeout: float) -> Any:
    """Return the store of PyTorch in which the ranks of a launcher find each other.

    Raises:
        RankError: it cannot be reached.
    """
    from torch.distributed import TCPStore  # type: ignore[attr-defined]

    try:  # PyTorch would try for minutes, with a traceback of its library at each attempt
        socket.getaddrinfo(launched.host, launched.port)
    except (OSError, UnicodeError) as error:
        raise RankError(
            f"rank {launched.rank} cannot find the computer of rank 0: MASTER_ADDR is {launched.host!r} "
            f"({one_line(error)})"
        ) from error
    agent = os.environ.get("TORCHELASTIC_USE_AGENT_STORE") == "True"  # then torchrun serves it
    try:
        return TCPStore(
            launched.host,
            launched.port,
            is_master=launched.rank == 0 and not agent,
            timeout=timedelta(seconds=timeout),
            wait_for_workers=False,
        )
    except RuntimeError as error:
        raise RankError(
            f"rank {launched.rank} cannot reach the store of the ranks at {launched.host}:{launched.port}: "
            f"{one_line(error)}"
        ) from error


@contextmanager
def without_launcher() -> Iterator[None]:
    """Context manager that hides a launcher from Lightning, whose fits on one device it would refuse."""
    hidden = {name: os.environ.pop(name) for name in _OF_LAUNCHERS if name in os.environ}
    try:
        yield
    finally:
        os.environ.update(hidden)
