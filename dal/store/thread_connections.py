"""Connections to a SQLite file, one per thread, which are closed once their threads have ended."""

import sqlite3
import threading


class ThreadConnections:
    """The connections of the threads that use a file.

    A server runs its requests in threads that come and go. Each connection holds two open files and its own cache, so
    those of threads that have ended are closed when the next connection is added.

    Args:
        shared: whether all threads use the first connection, as they must for a database in memory.
    """

    def __init__(self, *, shared: bool = False) -> None:
        self.shared = shared
        self._lock = threading.Lock()
        self._open: list[tuple[threading.Thread, sqlite3.Connection]] = []

    def __len__(self) -> int:
        return len(self._open)

    def get(self) -> sqlite3.Connection | None:
        """The connection of this thread; None if it has none yet."""
        thread = threading.current_thread()
        with self._lock:
            return next((connection for owner, connection in self._open if self.shared or owner is thread), None)

    def add(self, connection: sqlite3.Connection) -> None:
        """Take the connection of this thread."""
        with self._lock:
            ended = [] if self.shared else [each for each in self._open if not each[0].is_alive()]
            self._open = [each for each in self._open if each not in ended]
            self._open.append((threading.current_thread(), connection))
        for _, left in ended:
            left.close()

    def close(self) -> None:
        """Close all connections."""
        with self._lock:
            left, self._open = self._open, []
        for _, connection in left:
            connection.close()
