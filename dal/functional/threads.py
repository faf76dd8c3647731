"""How many threads tensor operations use, for as long as it matters."""

from collections.abc import Iterator
from contextlib import contextmanager

import torch


@contextmanager
def one_thread() -> Iterator[None]:
    """Runs the tensor operations within the block on one thread, and restores what was set before.

    A loop of thousands of tiny operations gains nothing from a second thread, and where another process keeps that core
    busy, every one of them waits for a descheduled thread. The number belongs to the whole process.
    """
    before = torch.get_num_threads()
    try:
        torch.set_num_threads(1)
        yield
    finally:
        torch.set_num_threads(before)
