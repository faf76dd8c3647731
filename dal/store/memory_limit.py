"""The memory that this process may use."""

import os
from contextlib import suppress
from pathlib import Path

from dal.errors import ConfigError

#: Memory in bytes of a process that has imported PyTorch and Lightning, and has no model yet: about 0.4 GB.
_OF_PROCESS = 2**29

_MEMBERSHIP, _GROUPS = Path("/proc/self/cgroup"), Path("/sys/fs/cgroup")


def memory_limit() -> int | None:
    """Memory in bytes of this computer, or of the container or job that the process runs in; None where unknown."""
    limits = _limits_of_groups()
    with suppress(AttributeError, ValueError, OSError):  # Windows, and systems that do not say
        limits.append(os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE"))
    return min((limit for limit in limits if limit > 0), default=None)


def check_processes(count: int, option: str) -> None:
    """Check that processes that import PyTorch fit into memory: else the system would end them, and others with them.

    Args:
        count: number of processes.
        option: option that gives it, for the message.

    Raises:
        ConfigError: they do not fit.
    """
    limit = memory_limit()
    if limit is not None and count > max(1, limit // _OF_PROCESS):
        raise ConfigError(
            f"{option} is {count}, but the memory here ({limit / 2**30:.3g} GiB) is enough for "
            f"{max(1, limit // _OF_PROCESS)} processes at most, even without their models: lower {option}"
        )


def _limits_of_groups() -> list[int]:
    """Limits in bytes of the control groups of Linux that the process is in, and of those above them."""
    limits: list[int] = []
    try:
        lines = _MEMBERSHIP.read_text(encoding="utf-8").splitlines()
    except OSError:  # another system
        return limits
    for line in lines:
        _, controllers, path = line.split(":", 2)
        if controllers not in ("", "memory"):  # empty in version 2
            continue
        root, file = (_GROUPS / "memory", "memory.limit_in_bytes") if controllers else (_GROUPS, "memory.max")
        group = root / path.lstrip("/")
        for folder in (group, *group.parents[: len(group.parts) - len(root.parts)]):
            with suppress(OSError, ValueError):  # no such group, or no limit ("max")
                limits.append(int((folder / file).read_text(encoding="utf-8")))
    return limits
