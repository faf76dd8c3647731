"""A `dal` command that serves requests: its process, the lines that it prints, and requests to its address."""

import json
import os
import signal
import ssl
import subprocess
import sys
import urllib.error
import urllib.request
from typing import Any, Self


class ServingCommand:
    """A process of `dal` that serves. As a context manager it is killed at the end.

    Args:
        arguments: those of `dal`.
        environment: further variables of its environment.

    Attributes:
        lines: what it has printed and a test has read.
        address: address of the requests, which a test reads from the lines.
    """

    def __init__(self, *arguments: object, **environment: str) -> None:
        self.process = subprocess.Popen(
            [sys.executable, "-m", "dal", *map(str, arguments)],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env=os.environ | environment,
        )
        self.lines: list[str] = []
        self.address = ""

    def line(self) -> str:
        """The next line that it prints."""
        assert self.process.stdout is not None
        line = self.process.stdout.readline()
        if not line:  # it has ended
            raise AssertionError(self.process.communicate()[1])
        self.lines.append(line.rstrip("\n"))
        return self.lines[-1]

    def request(
        self, path: str, body: object = None, *, trusting: ssl.SSLContext | None = None, **headers: str
    ) -> tuple[int, Any]:
        """Status and JSON of the reply to a GET request, or to a POST request with a body."""
        sent = {name.replace("_", "-"): value for name, value in headers.items()}
        data = None if body is None else json.dumps(body).encode()
        request = urllib.request.Request(self.address + path, data, {"Content-Type": "application/json", **sent})
        try:
            with urllib.request.urlopen(request, context=trusting, timeout=20) as reply:
                return reply.status, json.load(reply)
        except urllib.error.HTTPError as refused:
            with refused:
                return refused.code, json.load(refused)

    def end(self, number: int = signal.SIGINT) -> tuple[int, str, str]:
        """Exit status after a signal, what it printed after `lines`, and its messages."""
        self.process.send_signal(number)
        out, err = self.process.communicate(timeout=30)
        return self.process.returncode, out, err

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        self.process.kill()
        self.process.communicate()
