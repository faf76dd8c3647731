"""Clients in processes of their own, which may be killed. The SDKs are imported once, and each process forked."""

import multiprocessing
import os
import signal
import traceback
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from multiprocessing.connection import Connection
from typing import Any

from llm_server import KEY

CAPPED, INTERRUPTED = 3, 130


def _nurse(pipe: Connection) -> None:
    """Fork a process for every (client, requests) that comes, say its number, and then how it ended."""
    import anthropic  # noqa: F401
    import openai  # noqa: F401

    while (order := pipe.recv()) is not None:
        pid = os.fork()
        if pid == 0:
            os._exit(_ask(*order))
        pipe.send(pid)
        pipe.send(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]))


def _ask(client: Any, requests: Sequence[Any]) -> int:
    from dal.errors import CapError

    os.environ |= {"ANTHROPIC_API_KEY": KEY, "OPENAI_API_KEY": KEY, "NO_PROXY": "127.0.0.1"}
    signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        client.complete(requests)
    except KeyboardInterrupt:
        return INTERRUPTED
    except CapError:
        return CAPPED
    except BaseException:
        traceback.print_exc()
        return 1
    return 0


class Nursery:
    """Starts one process at a time."""

    def __init__(self, pipe: Connection) -> None:
        self._pipe = pipe
        self.pid = 0

    def start(self, client: Any, requests: Sequence[Any]) -> None:
        """Let a process of its own ask the client."""
        self._pipe.send((client, requests))
        self.pid = self._pipe.recv()

    def kill(self, number: int = 9) -> None:
        """Send it a signal, unless it has ended."""
        with suppress(ProcessLookupError):
            os.kill(self.pid, number)

    def ended(self) -> int:
        """Its exit code, once it has ended; -9 when it was killed."""
        assert self._pipe.poll(120), "it does not end"
        code: int = self._pipe.recv()
        return code


@contextmanager
def nursery() -> Iterator[Nursery]:
    spawning = multiprocessing.get_context("spawn")
    ours, theirs = spawning.Pipe()
    process = spawning.Process(target=_nurse, args=(theirs,))
    process.start()
    try:
        yield Nursery(ours)
    finally:
        ours.send(None)
        process.join()
        ours.close()
        theirs.close()
