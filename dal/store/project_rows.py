"""The rows of a project: its own copy of ids, texts and foreign columns, in one SQLite file with full-text search."""

import json
import re
import sqlite3
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from hashlib import blake2b
from pathlib import Path
from typing import Any

from dal.errors import SessionError, one_line, shortened
from dal.store.bounded_json import parse_json
from dal.store.row_database import COLUMNS, RowFile

_PAGE = 2_000  # rows read or written at a time
_PARAMETERS = 500  # ids of one query; SQLite's limit was 999 for a long time
_HIGHEST = (1 << 63) - 1


@dataclass(frozen=True)
class ProjectRow:
    """One row of a project.

    Attributes:
        id: unique, stable id.
        text: the text.
        pair: the second text of a pair, or None.
        fields: values of the other columns of the user's file, by column name; JSON values.
    """

    id: str
    text: str
    pair: str | None = None
    fields: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class RowSource:
    """A file from which rows came.

    Attributes:
        name: file name, as the user gave it.
        at: when it was read, seconds since 1970, UTC.
        digest: BLAKE2b of its bytes, hexadecimal; empty if there was no file.
        rows: number of rows that it added.
    """

    name: str
    at: float
    digest: str
    rows: int


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


class ProjectRows(RowFile):
    """The rows of a project in a SQLite file, with one connection per thread.

    Rows are added and never removed; a text that replaces another keeps the earlier one. Reading takes little memory,
    whatever the number of rows. A file in a folder that cannot be written to is opened for reading.

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

    # -- reading -------------------------------------------------------------------------------------------------------

    def __len__(self) -> int:
        return int(self._query("SELECT coalesce(sum(rows), 0) FROM sources")[0][0])

    def get(self, ids: Sequence[str]) -> list[ProjectRow | None]:
        """The rows with these ids, in the same order; None where there is no such row."""
        found: dict[str, ProjectRow] = {}
        wanted = list(dict.fromkeys(ids))
        for start in range(0, len(wanted), _PARAMETERS):
            some = wanted[start : start + _PARAMETERS]
            marks = ",".join("?" * len(some))
            for line in self._query(f"SELECT {COLUMNS} FROM rows WHERE id IN ({marks})", some):
                row = self._row(line)
                found[row.id] = row
        return [found.get(each) for each in ids]

    def __iter__(self) -> Iterator[ProjectRow]:
        for page in self.pages():
            yield from page

    def pages(self, size: int = _PAGE) -> Iterator[list[ProjectRow]]:
        """All rows in the order of addition, in lists of at most `size` rows."""
        last = 0
        query = f"SELECT {COLUMNS} FROM rows WHERE number > ? ORDER BY number LIMIT ?"
        while lines := self._query(query, (last, size)):
            for number, *_ in lines:
                last += 1
                if number != last:
                    raise self._damaged(f"row {last} is missing, the next is {shortened(repr(number))}")
            yield [self._row(line) for line in lines]

    def shuffled(self, after: int, n: int) -> list[tuple[int, str]]:
        """The next `n` rows of one fixed random order, as (place, id), with a place greater than `after`.

        The place is a hash of the id, at least 1: it never changes, and rows that are added later lie between the
        others.
        """
        lines = self._query("SELECT place, id FROM rows WHERE place > ? ORDER BY place LIMIT ?", (after, n))
        return [(int(place), str(row_id)) for place, row_id in lines]

    def with_texts(self, texts: Sequence[str]) -> dict[str, str]:
        """Text -> id of the first row with it, of texts that a row without a second text has. Reads all rows."""
        found: dict[str, str] = {}
        wanted = list(dict.fromkeys(texts))
        for start in range(0, len(wanted), _PARAMETERS):
            some = wanted[start : start + _PARAMETERS]
            marks = ",".join("?" * len(some))
            query = f"SELECT text, id FROM rows WHERE text IN ({marks}) AND pair IS NULL ORDER BY number"
            for text, row_id in self._query(query, some):
                found.setdefault(str(text), str(row_id))
        return found

    def search(self, query: str, limit: int) -> list[str]:
        """Ids of rows whose texts contain all words of a query, best first (BM25); without any, those with some.

        Words in double quotes are a phrase, and the last word may be the beginning of one. Case and accents make no
        difference. A query that matches no words, such as "a-b" or part of a Chinese sentence, is looked for literally.
        """
        terms = [phrase or word for phrase, word in re.findall(r'"([^"]*)"|([^\s"]+)', query.replace("\0", " "))]
        if not terms or limit < 1:
            return []
        quoted = ['"' + term.replace('"', '""') + '"' for term in terms]
        if not query.rstrip().endswith('"'):
            quoted[-1] += " *"
        ranked = "SELECT rows.id FROM words JOIN rows ON number = words.rowid WHERE words MATCH ? ORDER BY rank LIMIT ?"
        for match in (" ".join(quoted), " OR ".join(quoted)):
            if lines := self._query(ranked, (match, limit)):
                return [str(line[0]) for line in lines]
        literal = query.strip()
        lines = self._query(
            "SELECT id FROM rows WHERE instr(text, ?1) OR instr(coalesce(pair, ''), ?1) ORDER BY number LIMIT ?2",
            (literal, limit),
        )
        return [str(line[0]) for line in lines]

    @property
    def sources(self) -> list[RowSource]:
        """The files that rows came from, in the order of addition."""
        return [RowSource(*line) for line in self._query("SELECT name, at, digest, rows FROM sources ORDER BY source")]

    def earlier_texts(self, row_id: str) -> list[str]:
        """Texts that a row had before they were replaced, oldest first."""
        lines = self._query("SELECT text FROM earlier_texts WHERE id = ? ORDER BY rowid", (row_id,))
        return [str(line[0]) for line in lines]

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

    def check(self) -> None:
        """Check the whole file, with its search index. Reads all of it.

        Raises:
            SessionError: the file is damaged; the message names the place.
        """
        fault = self._query("PRAGMA integrity_check(1)")[0][0]
        if fault != "ok":
            raise self._damaged(one_line(ValueError(fault)))
        counted = sum(len(page) for page in self.pages())
        if counted != len(self):
            raise self._damaged(f"it holds {counted:,} rows, and its sources added {len(self):,}")

    # -- writing -------------------------------------------------------------------------------------------------------

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

    def __enter__(self) -> "ProjectRows":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _row(self, line: Sequence[Any]) -> ProjectRow:
        number, row_id, text, pair, fields = line
        try:
            if not all(isinstance(each, str) for each in (row_id, text, "" if pair is None else pair, fields)):
                raise ValueError("they and its texts are not all text")
            values = parse_json(fields)
            if not isinstance(values, dict):
                raise ValueError("no JSON object")
        except ValueError as error:
            raise self._damaged(f"row {number}: its fields cannot be read: {one_line(error)}") from error
        return ProjectRow(row_id, text, pair, values)


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
        if len(page) == _PAGE:
            yield page
            page = []
    if page:
        yield page
