"""Matching of the lines of an annotation sheet to rows, by id and text."""

import unicodedata
from collections import Counter
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

from dal.data.rows import rows_by_id
from dal.errors import DataError, shortened
from dal.session import Session
from dal.store.spreadsheet import original, without_apostrophes

_BLOCK = 8192  # pool rows whose texts are in memory at a time
_CELL_LIMIT = 32_000  # characters after which spreadsheets truncate a cell


@dataclass(frozen=True)
class SheetLine:
    """A record of the sheet: its first line, and its cells by column name."""

    number: int
    cells: Mapping[str, str]

    @property
    def id(self) -> str:
        """The cell of the column id."""
        return self.cells["id"]

    @property
    def label(self) -> str:
        """The cell of the column label."""
        return self.cells["label"]


@dataclass(frozen=True)
class RowMatch:
    """The row that a line was matched to.

    Attributes:
        row: pool row; None if there is none.
        absent: id of a queried row that is no longer in the pool, else empty.
        mistake: reason why the line could not be matched, else empty.
        by_text: whether the row was found by its text, because the id had been changed.
        by_id: whether the row was found by its id, because the text had been changed.
    """

    row: int | None = None
    absent: str = ""
    mistake: str = ""
    by_text: bool = False
    by_id: bool = False


#: Normalised non-empty texts of a line, with the indices of their columns.
_Key: TypeAlias = tuple[tuple[int, str], ...]


class RowMatcher:
    """Matches lines of a sheet to rows by id and text, in time linear in lines and rows.

    Args:
        session: session that queried the rows.
        columns: text columns of the sheet, in order.
        drawn: ids of rows that were written to a sheet without being queried.
    """

    def __init__(self, session: Session, columns: tuple[str, ...], drawn: Collection[str]) -> None:
        self._pool, self._columns = session.pool, columns
        self._pending = set(session.pending.tolist())
        self._store, self._asked = session.store, {*session.store.pending, *drawn}
        try:
            session.pool.texts([])
        except DataError:  # rows without texts are identified by their ids alone
            self._columns = ()

    def of(self, lines: Sequence[SheetLine]) -> list[RowMatch]:
        """Match each line."""
        names = [_names(line.id) for line in lines]
        known = rows_by_id(self._pool, {name for each in names for name in each})
        rows = [next((known[name] for name in each if name in known), None) for each in names]
        absent = [""] * len(lines)  # the id of a row that was queried or answered and is no longer in the data
        for i, each in enumerate(names):
            if rows[i] is None:
                gone = (name for name in each if name in self._asked or self._store.answer_to(name) is not None)
                absent[i] = next(gone, "")
        cells = [tuple(original(line.cells[name]) for name in self._columns) for line in lines]
        own = self._own(rows)
        unsure = [not absent[i] and (row is None or not _agree(cells[i], own[i])) for i, row in enumerate(rows)]
        # Texts are searched in the pool only for lines whose id is unknown or whose text differs from the row's.
        keys: list[_Key] = [()] * len(lines)
        for i in range(len(lines)):
            if unsure[i]:
                keys[i] = tuple((column, _plain(cell)) for column, cell in enumerate(cells[i]) if cell.strip())
        elsewhere = self._with({key for key in keys if key})
        filler = _filler([keys[i] for i, row in enumerate(rows) if unsure[i] and row is not None], elsewhere)
        matches = []
        for i, (line, row) in enumerate(zip(lines, rows, strict=True)):
            if absent[i]:
                matches.append(RowMatch(absent=absent[i]))
            elif row is None:
                matches.append(self._by_text(line, elsewhere.get(keys[i], [])))
            elif unsure[i]:
                others = elsewhere.get(keys[i], [])
                matches.append(self._by_id(row, cells[i], own[i], others, keys[i] == filler))
            else:
                matches.append(RowMatch(row))
        return matches

    def _own(self, rows: Sequence[int | None]) -> list[tuple[str, ...]]:
        """The texts of each row; () for None."""
        if not self._columns:
            return [()] * len(rows)
        texts = iter(self._pool.texts([row for row in rows if row is not None]))
        return [() if row is None else _as_tuple(next(texts)) for row in rows]

    def _with(self, wanted: set[_Key]) -> dict[_Key, list[int]]:
        """Pool rows by text, for the wanted texts, in a single pass over the pool; {} without wanted texts."""
        rows: dict[_Key, list[int]] = {}
        columns = {tuple(column for column, _ in key) for key in wanted}
        for start in range(0, len(self._pool) if wanted else 0, _BLOCK):
            for row, text in enumerate(self._pool.texts(slice(start, start + _BLOCK)), start):
                texts = _as_tuple(text)
                for which in columns:
                    if which[-1] < len(texts):
                        key = tuple((column, _plain(texts[column])) for column in which)
                        if key in wanted:
                            rows.setdefault(key, []).append(row)
        return rows

    def _by_text(self, line: SheetLine, same: Sequence[int]) -> RowMatch:
        """Match a line with an unknown id to the only pending row with its text, or to the only row."""
        pending = [row for row in same if row in self._pending]
        likely = pending or same
        if len(likely) == 1:
            return RowMatch(likely[0], by_text=True)
        several = f", and {len(likely)} rows have its text" if likely else ""
        return RowMatch(mistake=f"no row has the id {shortened(line.id)!r}{several}")

    def _by_id(
        self, row: int, cells: Sequence[str], own: Sequence[str], others: Sequence[int], filler: bool
    ) -> RowMatch:
        """Match a line whose text differs from that of the row with its id, if the change is plausible."""
        name = repr(shortened(self._pool.ids[row]))
        if others:
            more = f" (and {len(others) - 1} more)" if len(others) > 1 else ""
            other = repr(shortened(self._pool.ids[others[0]])) + more
            return RowMatch(
                mistake=f"the id is that of the row {name}, the text that of the row {other}: was one column sorted "
                "or shifted alone?"
            )
        if filler or all(_altered(cell, text) for cell, text in zip(cells, own, strict=False) if cell.strip()):
            return RowMatch(row, by_id=True)
        return RowMatch(
            mistake=f"the text is neither that of the row {name}, {shortened(' '.join(own[0].split()), 40)!r}, nor of "
            "any other: correct the id, or empty the cell of the text if the answer is for this row"
        )


def _names(cell: str) -> list[str]:
    """The ids that a cell may represent, most likely first."""
    names = [original(cell), cell, original(cell.strip()), cell.strip(), without_apostrophes(cell.strip())]
    forms = [unicodedata.normalize(form, names[2]) for form in ("NFC", "NFD")]
    return [name for name in dict.fromkeys([*names, *forms]) if name]


def _as_tuple(text: Any) -> tuple[str, ...]:
    return text if isinstance(text, tuple) else (text,)


def _agree(cells: Sequence[str], own: Sequence[str]) -> bool:
    """Whether the texts of a line are those of a row; empty cells are ignored."""
    return all(
        cell == text or not cell.strip() or _plain(cell) == _plain(text) for cell, text in zip(cells, own, strict=False)
    )


def _plain(text: str) -> str:
    """Normalise what spreadsheets change invisibly: apostrophes before formulas, white space, the Unicode form."""
    return unicodedata.normalize("NFC", " ".join(without_apostrophes(text).split()))


def _filler(keys: Iterable[_Key], elsewhere: Mapping[_Key, Any]) -> _Key | None:
    """The placeholder text, if a single unknown text replaces those of several lines; else None."""
    foreign = Counter(key for key in keys if key and key not in elsewhere)
    return next(iter(foreign)) if len(foreign) == 1 and foreign.total() > 1 else None


def _altered(cell: str, text: str) -> bool:
    """Whether a cell may be a text changed by a spreadsheet: other punctuation, lost characters, or truncation."""
    cell, text = _plain(cell), _plain(text)
    if len(cell) >= _CELL_LIMIT - 1000 and text.startswith(cell):
        return True
    if _letters(cell) == _letters(text):
        return bool(_letters(cell)) or "".join(cell.split()) == "".join(text.split())
    return _lossy(cell, text)


def _letters(text: str) -> str:
    """Letters and digits only, in lower case, since editors replace quotes, dashes and capitals."""
    return "".join(char for char in unicodedata.normalize("NFKC", text).casefold() if char.isalnum())


def _lossy(cell: str, text: str) -> bool:
    """Whether a cell is the text with question marks for characters that an encoding lacks."""
    first, second = _units(cell), _units(text)
    return len(first) == len(second) and all(
        one == other or one in ("?", "\ufffd") for one, other in zip(first, second, strict=True)
    )


def _units(text: str) -> list[str]:
    """The UTF-16 units of a text, as characters: programs write one question mark for each lost unit."""
    return [char for char in text for _ in range(1 + (char > "\uffff"))]
