"""A process of the test that kills itself at a chosen durable operation, and the processes to do so in."""

import io
import multiprocessing
import os
import signal
import sys
from collections.abc import Callable
from typing import Any

import torch

DURABLE = {"execute", "executemany", "fsync", "rename", "replace", "write", "mkdir", "unlink", "rmdir", "truncate"}

#: Imports once and forks per run, so that a run starts in milliseconds.
processes = multiprocessing.get_context("forkserver")
processes.set_forkserver_preload(
    [
        "dal.experiments.experiment",
        "dal.learners.probe_learner",
        "dal.experiments.round_measures",
        "torch._dynamo",
        "numpy.random",
        "pytest",
        "pandas",
        "scipy.optimize",
        "scipy.stats",
    ]
)


def run_until(work: Callable[[], Any], die_at: int | None, count: Any = None, *, before: bool = True) -> None:
    """Work; kill this very process at its durable operation number `die_at`, before or after it.

    Args:
        work: what is done.
        die_at: None for never.
        count: gets how many such operations there were, where the work came to its end.
        before: whether the operation is not done any more.
    """
    torch.set_num_threads(1)
    done = 0

    def watch(frame: Any, event: str, argument: Any) -> None:
        nonlocal done
        if event != ("c_call" if before else "c_return") or getattr(argument, "__name__", "") not in DURABLE:
            return
        if isinstance(getattr(argument, "__self__", None), str | io.StringIO):  # such as `str.replace`: in memory only
            return
        done += 1
        if done == die_at:
            os.kill(os.getpid(), signal.SIGKILL)

    sys.setprofile(watch)
    work()
    sys.setprofile(None)
    if count is not None:
        count.value = done
