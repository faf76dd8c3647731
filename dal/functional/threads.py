"""Temporary control of the number of threads of tensor operations."""

from collections.abc import Iterator
from contextlib import contextmanager

import torch


@contextmanager
def one_thread() -> Iterator[None]:
    """Run tensor operations within the block on one thread, and restore the previous setting afterwards.

    A loop of thousands of tiny operations gains nothing from a second thread; if another process keeps that core busy,
    every operation waits for a descheduled thread. The setting applies to the whole process.
    """
    before = torch.get_num_threads()
    try:
        torch.set_num_threads(1)
        yield
    finally:
        torch.set_num_threads(before)
