"""Jobs that a test sends to other ranks, and a network that is out of memory on large batches."""

import os
import signal
import time
from typing import Any

import torch
from torch import nn

from dal.errors import LearnerError
from dal.learners.ranks import job_comm
from dal.monitor import Monitor


def rank_of(value: Any, *, monitor: Monitor) -> tuple[int, Any]:
    return os.getpid(), value


def refuse(*, monitor: Monitor) -> None:
    raise LearnerError("this cannot be learnt")


def break_down(*, monitor: Monitor) -> None:
    raise RuntimeError("a fault of the program")


def wait(seconds: float, *, monitor: Monitor) -> None:
    time.sleep(seconds)


def work(seconds: float, *, monitor: Monitor) -> None:
    """Report progress for some seconds."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        time.sleep(0.05)
        monitor.advanced(1)


def send(number: int, *, monitor: Monitor) -> None:
    """Send a signal to the process that runs this job."""
    os.kill(os.getpid(), number)
    time.sleep(60)


def receive(number: int, *, monitor: Monitor) -> None:
    """Send a signal to the process that runs this job, which is to go on."""
    os.kill(os.getpid(), number)
    time.sleep(0.1)


def stop(*, monitor: Monitor) -> None:
    raise KeyboardInterrupt


class Embeddings(nn.Module):
    """Sums of word vectors, which fit into memory for a limited number of tokens only."""

    def __init__(self, largest: int | None = None) -> None:
        super().__init__()
        self.table, self.largest = nn.Embedding(2000, 8), largest

    @property
    def device(self) -> torch.device:
        return self.table.weight.device

    def compute(self, batch: Any, names: Any, *, samples: int, generator: torch.Generator) -> dict[str, torch.Tensor]:
        if self.largest is not None and batch["input_ids"].numel() > self.largest:
            raise torch.OutOfMemoryError("CUDA out of memory")
        drawn = torch.rand(len(batch["input_ids"]), samples, 3, generator=generator)
        summed = (self.table(batch["input_ids"]) * batch["attention_mask"][..., None]).sum(1)
        return {"logits": summed[:, :3], "features": summed, "mc_logits": drawn}


def kill(process: int) -> None:
    os.kill(process, signal.SIGKILL)


def lose_connection(*, monitor: Monitor) -> None:
    raise RuntimeError("[gloo] Connection closed by peer")


def gathered(value: float, *, monitor: Monitor) -> list[float]:
    """What all ranks gather in two calls."""
    comm = job_comm()
    first = torch.stack(comm.all_gather(torch.tensor([value, 10.0 * comm.rank])))
    return [each.item() for each in comm.all_gather(first.sum())]


def gather_or_refuse(refusing: int, *, monitor: Monitor) -> None:
    comm = job_comm()
    comm.all_gather(torch.zeros(1))
    if comm.rank == refusing:
        raise LearnerError(f"rank {refusing} refuses")
    comm.all_gather(torch.zeros(1))


def gather_or_kill(*, monitor: Monitor) -> None:
    comm = job_comm()
    comm.all_gather(torch.zeros(1))
    if comm.rank:
        kill(os.getpid())
    comm.all_gather(torch.zeros(1))
