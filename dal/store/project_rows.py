"""The rows of a project: its own copy of ids, texts and foreign columns, in one SQLite file with full-text search."""

import json
import sqlite3
import time
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from hashlib import blake2b
from pathlib import Path
from typing import Any

from dal.errors import SessionError, shortened
from dal.store.row_reader import PAGE, ProjectRow, RowReader, RowSource

__all__ = ["ProjectRow", "ProjectRows", "RowChanges", "RowSource"]

_HIGHEST = (1 << 63) - 1


@dataclass(frozen=True)
class RowChanges:
    """What adding rows does, or would do.

    Attributes:
        added: number of new rows.
        known: number of rows that are in the project with the same text.
        edited: ids that are in the project with another text, in the order of the rows.
        other_fields: number of known rows with another value in a foreign column that both have.
    """

    added: int
    known: int
    edited: tuple[str, ...]
    other_fields: int


class ProjectRows(RowReader):
    """The rows of a project in a SQLite file, with one connection per thread.

    Rows are added and never removed; a text that replaces another keeps the earlier one. A file in a folder that cannot
    be written to is opened for reading.

    Args:
        path: an existing file, see `create`.

    Raises:
        SessionError: the file does not exist, is damaged, or is not of this kind.

    Example:
        >>> import tempfile
        >>> rows = ProjectRows.create(tempfile.mkdtemp() + "/rows.db")
        >>> rows.add([ProjectRow("a", "A café in Rome"), ProjectRow("b", "A bank")], source="pool.csv").added
        2
        >>> len(rows), rows.search("cafe", limit=5), rows.get(["b"])[0].text
        (2, ['a'], 'A bank')
    """

    def __init__(self, path: Path | str) -> None:
        super().__init__(path)
        self._writing = False

    @classmethod
    def create(cls, path: Path | str) -> "ProjectRows":
        """Create an empty file with mode 0600, atomically, and open it.

        Raises:
            SessionError: the file exists or cannot be created.
        """
        cls.create_file(Path(path))
        return cls(path)

    def compare(self, rows: Iterable[ProjectRow]) -> RowChanges:
        """What `add` would do with these rows, without writing anything."""
        added = known = other_fields = 0
        edited: list[str] = []
        for page in _pages_of(rows):
            for row, before in zip(page, self.get([row.id for row in page]), strict=True):
                if before is None:
                    added += 1
                elif (before.text, before.pair) != (row.text, row.pair):
                    edited.append(row.id)
                else:
                    known += 1
                    other_fields += _differ(before.fields, row.fields)
        return RowChanges(added, known, tuple(edited), other_fields)

    def add(
        self,
        rows: Iterable[ProjectRow],
        *,
        source: str,
        digest: str = "",
        replace: bool = False,
        at: float | None = None,
    ) -> RowChanges:
        """Add rows in one transaction, or none of them.

        Args:
            rows: rows; one that is in the project with the same text is left as it is.
            source: name of the file that they came from.
            digest: hash of the bytes of that file.
            replace: whether another text of an id that exists replaces the text in the project, and other values of
                its foreign columns the earlier values; otherwise those in the project stay.
            at: time in seconds since 1970; now by default.

        Raises:
            SessionError: an id occurs twice in `rows`, a text cannot be stored, or the disk is full. Nothing is stored.
        """
        when = time.time() if at is None else at
        added = known = other_fields = 0
        edited: list[str] = []
        with self.changing() as connection:
            number = connection.execute("SELECT coalesce(max(number), 0) FROM rows").fetchone()[0]
            key = connection.execute(
                "INSERT INTO sources (name, at, digest, rows) VALUES (?, ?, ?, 0)", (source, when, digest)
            ).lastrowid
            first = number
            for page in _pages_of(rows):
                lines, seen = [], set()
                for row, before in zip(page, self.get([row.id for row in page]), strict=True):
                    # A row of an earlier page of the same call is in the file by now, with a number above `first`.
                    if row.id in seen or (before is not None and self._number(row.id) > first):
                        raise SessionError(f"{source}: the id {shortened(row.id)} occurs twice; nothing was stored")
                    seen.add(row.id)
                    if before is None:
                        number += 1
                        lines.append((number, row.id, row.text, row.pair, _fields(row), key))
                        continue
                    same = (before.text, before.pair) == (row.text, row.pair)
                    known += same
                    other_fields += same and _differ(before.fields, row.fields)
                    if not same:
                        edited.append(row.id)
                    if replace and (not same or _differ(before.fields, row.fields)):
                        self._replace(connection, before, row, when, key)
                self._insert(connection, lines)
            added = number - first
            connection.execute("UPDATE sources SET rows = ? WHERE source = ?", (added, key))
        return RowChanges(added, known, tuple(edited), other_fields)

    @contextmanager
    def changing(self) -> Iterator[sqlite3.Connection]:
        """Open a write transaction; calls of `add` inside the block are committed together, or not at all.

        Raises:
            SessionError: the file cannot be written.
        """
        with self._lock, self._reporting("could not be written; nothing was stored"):
            connection = self._connection()
            if self._writing:
                yield connection
                return
            connection.execute("BEGIN IMMEDIATE")
            self._writing = True
            try:
                yield connection
                connection.execute("COMMIT")
            except BaseException:
                if not self._closed and connection.in_transaction:
                    connection.execute("ROLLBACK")
                raise
            finally:
                self._writing = False

    def _insert(self, connection: sqlite3.Connection, lines: list[tuple[Any, ...]]) -> None:
        insert = "INSERT INTO rows (number, id, text, pair, fields, source, place) VALUES (?, ?, ?, ?, ?, ?, ?)"
        for line in lines:
            place = _place(line[1])
            while connection.execute("SELECT 1 FROM rows WHERE place = ?", (place,)).fetchone():
                place = place % _HIGHEST + 1  # two hashes are equal once in 10^18 pairs
            connection.execute(insert, (*line, place))
        connection.executemany(
            "INSERT INTO words (rowid, text, pair) VALUES (?, ?, ?)", [(line[0], line[2], line[3]) for line in lines]
        )

    def _replace(
        self, connection: sqlite3.Connection, before: ProjectRow, row: ProjectRow, at: float, source: int | None
    ) -> None:
        number = self._number(row.id)
        if (before.text, before.pair) != (row.text, row.pair):
            connection.execute(
                "INSERT INTO earlier_texts VALUES (?, ?, ?, ?, ?)", (row.id, before.text, before.pair, at, source)
            )
            connection.execute(
                "INSERT INTO words (words, rowid, text, pair) VALUES ('delete', ?, ?, ?)",
                (number, before.text, before.pair),
            )
            connection.execute("INSERT INTO words (rowid, text, pair) VALUES (?, ?, ?)", (number, row.text, row.pair))
        connection.execute(
            "UPDATE rows SET text = ?, pair = ?, fields = ? WHERE number = ?",
            (row.text, row.pair, _fields(row), number),
        )

    def _number(self, row_id: str) -> int:
        return int(self._query("SELECT number FROM rows WHERE id = ?", (row_id,))[0][0])


def _place(row_id: str) -> int:
    """The place of a row in the fixed random order, between 1 and 2^63 - 1."""
    return int.from_bytes(blake2b(row_id.encode(), digest_size=8).digest()) % _HIGHEST + 1


def _differ(before: Mapping[str, Any], now: Mapping[str, Any]) -> bool:
    """Whether a column that both have has another value."""
    return any(before[name] != now[name] for name in before.keys() & now.keys())


def _fields(row: ProjectRow) -> str:
    return json.dumps(dict(row.fields), ensure_ascii=False, separators=(",", ":"))  # columns stay in their order


def _pages_of(rows: Iterable[ProjectRow]) -> Iterator[list[ProjectRow]]:
    page: list[ProjectRow] = []
    for row in rows:
        page.append(row)
        if len(page) == PAGE:
            yield page
            page = []
    if page:
        yield page
