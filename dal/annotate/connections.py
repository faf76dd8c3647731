"""Connections to the annotation page: deadlines for a client, and a limit on the connections of strangers.

A client that sends a byte now and then, or that never reads a reply, would otherwise hold its connection for as long as
it likes, and a few hundred of them would keep out the people who are logged in. Each stage of a request has a deadline
as a whole. A connection belongs to a stranger until the guard has let one of its requests through, and only strangers
are disconnected because there are too many.
"""

import asyncio
import contextlib
import socket
import time
from collections import Counter
from typing import Any

import h11
from uvicorn.protocols.http.h11_impl import H11Protocol

#: Seconds for the head of a request: of the first one from the connection on, of a later one from its first byte on.
HEAD_SECONDS = 15.0
#: Seconds for the body of a request.
BODY_SECONDS = 30.0
#: Seconds within which a client reads what has been waiting for it.
READ_SECONDS = 30.0

#: Connections of strangers from one address that are older than `GRACE`. Behind a proxy, all have the same address.
MAX_OF_ADDRESS = 16
#: Connections of strangers from all addresses.
MAX_STRANGERS = 100
#: Seconds within which a new connection has sent its login, so that many people can open the page at the same time.
GRACE = 2.0


class ListeningSocket(socket.socket):
    """A listening socket that disconnects strangers when there are too many, oldest first.

    It counts connections from their acceptance, so that unfinished TLS handshakes count, too. On Windows asyncio does
    not accept by this method: there, connections have deadlines only.
    """

    def __init__(self, family: int) -> None:
        # Named TCP: else asyncio leaves Nagle's algorithm on, and each reply waits 40 ms for an acknowledgement.
        super().__init__(family, socket.SOCK_STREAM, socket.IPPROTO_TCP)
        self._strangers: dict[tuple[str, int], tuple[socket.socket, float]] = {}  # by address and port, oldest first

    def accept(self) -> tuple[socket.socket, Any]:
        """Accept a connection, which is a stranger's."""
        accepted, address = super().accept()
        now = time.monotonic()
        self._strangers = {key: each for key, each in self._strangers.items() if each[0].fileno() >= 0}
        self._strangers[address[:2]] = accepted, now
        of_address = Counter(host for host, _ in self._strangers)
        for (host, port), (_, since) in list(self._strangers.items()):
            is_old = of_address[host] > MAX_OF_ADDRESS and now - since > GRACE
            are_too_many = of_address.total() > MAX_STRANGERS and of_address[host] == max(of_address.values())
            if is_old or are_too_many:
                self._disconnect((host, port))
                of_address[host] -= 1
        return accepted, address

    def admit(self, client: tuple[str, int]) -> None:
        """Keep the connection of a client, which is no stranger's any more."""
        self._strangers.pop(client, None)

    def _disconnect(self, client: tuple[str, int]) -> None:
        connection, _ = self._strangers.pop(client)
        with contextlib.suppress(OSError):  # the client was faster
            connection.shutdown(socket.SHUT_RDWR)  # its transport sees the end of the stream, and closes it


class DeadlineProtocol(H11Protocol):
    """HTTP whose clients have a deadline for each head, each body and the reading of a reply."""

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Start the deadline of the first head."""
        super().connection_made(transport)
        self._stage = ""  # of the request that the client is sending; "" for none
        self._sending: asyncio.TimerHandle | None = None
        self._reading: asyncio.TimerHandle | None = None
        self._expect("head")

    def handle_events(self) -> None:
        """Handle what was received, and set the deadline for what must follow."""
        super().handle_events()
        state = self.conn.their_state
        if state is h11.SEND_BODY:
            self._expect("body")
        else:  # between two requests, uvicorn's own timer runs until the first byte of the next one
            self._expect("head" if state is h11.IDLE and self.timeout_keep_alive_task is None else "")

    def _expect(self, stage: str) -> None:
        """Set the deadline of a stage. That of a stage which goes on is not extended."""
        if stage == self._stage:
            return
        if self._sending is not None:
            self._sending.cancel()
        self._stage, self._sending = stage, None
        if stage:
            seconds = HEAD_SECONDS if stage == "head" else BODY_SECONDS
            self._sending = self.loop.call_later(seconds, self.transport.abort)

    def pause_writing(self) -> None:
        """Start the deadline for reading what is waiting for the client."""
        super().pause_writing()
        self._reading = self.loop.call_later(READ_SECONDS, self.transport.abort)

    def resume_writing(self) -> None:
        """End the deadline for reading."""
        super().resume_writing()
        if self._reading is not None:
            self._reading.cancel()

    def connection_lost(self, exc: Exception | None) -> None:
        """End all deadlines."""
        self._expect("")
        if self._reading is not None:
            self._reading.cancel()
        super().connection_lost(exc)
