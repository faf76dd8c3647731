"""Framed messages over a socket between rank 0 and another rank."""

import enum
import selectors
import socket
import struct
import threading
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from dal.distributed.wire import Buffer, Packet


class Kind(enum.IntEnum):
    """What a message says."""

    ALIVE = 1  # rank 0 is still there
    SETTINGS = 9  # how to compute, and what may be imported
    OBJECT = 2  # a network, or prepared rows, that later jobs refer to by number
    DROP = 3  # numbers of objects that no later job refers to
    JOB = 4
    END = 5
    PROGRESS = 6  # the job goes on
    RESULT = 7
    FAILED = 8  # the job raised an error
    GATHER = 10  # a tensor of a job for all ranks; from rank 0, those of all
    GIVEN_UP = 11  # rank 0 goes on without the results of a job


class ClosedError(Exception):
    """The other process has ended, or closed its end."""


@dataclass(frozen=True)
class Message:
    """A message: its kind, a number (of an object, or 0), and the pickled content."""

    kind: Kind
    number: int
    structure: bytes
    buffers: Sequence[Buffer]


_HEAD = struct.Struct("!BQQI")  # kind, number, bytes of the structure, number of buffers


class Connection:
    """One end of a connection. Messages may be sent by several threads, and are received by one.

    Args:
        connected: socket, which it takes over.
    """

    def __init__(self, connected: socket.socket) -> None:
        self._socket = connected
        self._sending = threading.Lock()
        self._selector = selectors.DefaultSelector()
        self._selector.register(connected, selectors.EVENT_READ)
        connected.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)  # short messages are sent at once

    def fileno(self) -> int:
        """Descriptor, for selectors."""
        return self._socket.fileno()

    def send(self, kind: Kind, packet: Packet | None = None, number: int = 0) -> None:
        """Send a message, however long it takes.

        Raises:
            ClosedError: the other process has ended.
        """
        packet = packet or Packet(b"")
        sizes = [buffer.nbytes for buffer in packet.buffers]
        head = _HEAD.pack(kind, number, len(packet.structure), len(sizes)) + struct.pack(f"!{len(sizes)}Q", *sizes)
        try:
            with self._sending:
                self._socket.sendall(head + packet.structure)
                for buffer, size in zip(packet.buffers, sizes, strict=True):
                    if size:
                        self._socket.sendall(buffer)
        except (OSError, ValueError) as error:
            raise ClosedError(str(error)) from error

    def send_if_idle(self, kind: Kind) -> None:
        """Send a short message unless another one is being sent, which says as much.

        Raises:
            ClosedError: the other process has ended.
        """
        if not self._sending.acquire(blocking=False):
            return
        try:
            self._socket.sendall(_HEAD.pack(kind, 0, 0, 0))
        except (OSError, ValueError) as error:
            raise ClosedError(str(error)) from error
        finally:
            self._sending.release()

    def receive(self, timeout: float | None) -> Message:
        """Receive a message.

        Args:
            timeout: most seconds without any byte; None for no limit.

        Raises:
            ClosedError: the other process has ended.
            TimeoutError: nothing was received for `timeout` seconds.
        """
        kind, number, length, count = _HEAD.unpack(self._read(_HEAD.size, timeout).tobytes())
        sizes = struct.unpack(f"!{count}Q", self._read(8 * count, timeout).tobytes())
        structure = self._read(length, timeout).tobytes()
        return Message(Kind(kind), number, structure, [self._read(size, timeout) for size in sizes])

    def _read(self, size: int, timeout: float | None) -> Buffer:
        content, done = np.empty(size, np.uint8), 0  # aligned, and not filled with zeros first
        while done < size:
            if not self._selector.select(timeout):
                raise TimeoutError
            try:
                received = self._socket.recv_into(content[done:].data)
            except OSError as error:
                raise ClosedError(str(error)) from error
            if not received:
                raise ClosedError("closed")
            done += received
        return content

    def has_message(self) -> bool:
        """Whether something was received that was not read."""
        return bool(self._selector.select(0))

    def is_closed(self) -> bool:
        """Whether the other process has closed its end, and everything that it sent was received."""
        try:
            return not self._socket.recv(1, socket.MSG_PEEK | socket.MSG_DONTWAIT)
        except BlockingIOError:
            return False
        except OSError:
            return True

    def close(self) -> None:
        """Close the connection."""
        self._selector.close()
        self._socket.close()
