"""Reading of a project's rows: by id, in the order of addition, in one random order, and by full-text search."""

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from dal.errors import one_line, shortened
from dal.store.bounded_json import parse_json
from dal.store.row_database import COLUMNS, RowFile

PAGE = 2_000  # rows read or written at a time
_PARAMETERS = 500  # ids of one query; SQLite's limit was 999 for a long time


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


class RowReader(RowFile):
    """The rows of a project, as they are read. Reading takes little memory, whatever the number of rows.

    Args:
        path: an existing file.

    Raises:
        SessionError: the file does not exist, is damaged, or is not of this kind.
    """

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

    def pages(self, size: int = PAGE) -> Iterator[list[ProjectRow]]:
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

    def containing(self, words: Sequence[str], limit: int, *, longest: int) -> list[str]:
        """Ids of up to `limit` rows whose texts contain all of these words, in the order of addition.

        Args:
            words: words as the search index splits a text. Case and accents make no difference.
            limit: largest number of rows.
            longest: largest number of characters of the text.
        """
        match = " ".join('"' + word.replace('"', '""') + '"' for word in words)
        query = (
            "SELECT rows.id FROM words JOIN rows ON number = words.rowid WHERE words MATCH ? "
            "AND length(rows.text) <= ? LIMIT ?"
        )
        return [str(line[0]) for line in self._query(query, (match, longest, limit))] if words else []

    @property
    def sources(self) -> list[RowSource]:
        """The files that rows came from, in the order of addition."""
        return [RowSource(*line) for line in self._query("SELECT name, at, digest, rows FROM sources ORDER BY source")]

    def earlier_texts(self, row_id: str) -> list[str]:
        """Texts that a row had before they were replaced, oldest first."""
        lines = self._query("SELECT text FROM earlier_texts WHERE id = ? ORDER BY rowid", (row_id,))
        return [str(line[0]) for line in lines]

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
