"""Questions and answers as a CSV file that a person fills in with a spreadsheet or an editor."""

import unicodedata
from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from torch import Tensor

from dal.data import Rows
from dal.data.label_values import encodable, whole
from dal.errors import AnswerError, ConfigError, DataError, did_you_mean, shortened
from dal.session import Session
from dal.store.events import SKIP, Skip, Value
from dal.store.events import Answer as Stored
from dal.store.spreadsheet import as_csv, original, read_sheet, without_apostrophes, write_csv

SKIP_WORD = "skip"  # declines a row
NONE_WORD = "none"  # no class at all, when multi-label
SEPARATOR = "|"  # between the classes of a multi-label answer

_LISTED = 20  # mistakes shown at once, and
_LENGTH = 1_500  # characters of them
_BLOCK = 8192  # rows of the pool whose texts are held at once
_CELL_LIMIT = 32_000  # characters of a cell beyond which spreadsheets cut it

Answer = str | list[str] | Skip


@dataclass(frozen=True)
class Answers:
    """The answers of a file, checked against the session.

    Attributes:
        rows: pool rows.
        values: class names, lists of them, or `SKIP`; one per row.
        empty: how many rows of the file have no answer.
        notes: what the user should know of how the file was read.
        absent: id -> answer, for rows that were asked and have left the data since.
    """

    rows: list[int]
    values: list[Answer]
    empty: int = 0
    notes: tuple[str, ...] = ()
    absent: Mapping[str, Answer] = field(default_factory=dict)


# -- writing ---------------------------------------------------------------------------------------------------------


def write_questions(path: Path, session: Session, rows: Tensor, *, force: bool = False) -> None:
    """Write the rows to ask to a CSV with the columns id, text, score (where there is one) and label, which is empty.

    UTF-8 with a byte-order mark, so that spreadsheets read it right. What a spreadsheet would run as a formula has an
    apostrophe in front of it in the file.

    Raises:
        ConfigError: the file is there already, and `force` is not given: it may hold answers.
    """
    if path.exists() and not force:
        raise ConfigError(f"{path} is there already and may hold answers: `dal tell` it first, or choose another name")
    write_csv(path, questions(session, rows))


def questions(session: Session, rows: Tensor) -> str:
    """The CSV of the rows to ask, without a byte-order mark."""
    check_classes(session.pool.classes, multilabel=session.pool.multilabel)
    pool, chosen = session.pool, rows.tolist()
    scores = _scores(session, chosen)
    texts = pool.texts(rows)
    pairs = bool(texts) and isinstance(texts[0], tuple)
    head = ["id", *(["text", "text_pair"] if pairs else ["text"]), *(["score"] if scores else []), "label"]
    lines: list[list[object]] = [[*head]]
    for row, text in zip(chosen, texts, strict=True):
        score = [scores.get(row)] if scores else []
        lines.append([pool.ids[row], *(text if pairs else (text,)), *score, ""])
    return as_csv(lines)


def check_classes(classes: Sequence[str], *, multilabel: bool = False) -> None:
    """Nothing, unless a class name cannot stand in a cell of a file: a `ConfigError`."""
    blank = [name for name in classes if not name.strip()]
    if blank:
        raise ConfigError(f"the class {blank[0]!r} is blank, which stands for no answer in the file: rename it")
    wrong = [name for name in classes if SEPARATOR in name]
    if multilabel and wrong:
        raise ConfigError(
            f"the class {shortened(wrong[0])!r} holds {SEPARATOR!r}, which separates classes in the file: rename it"
        )


def _scores(session: Session, rows: list[int]) -> dict[int, float]:
    asked = session.last_selection
    if asked is None or asked.scores is None:
        return {}
    known = dict(zip(asked.rows.tolist(), asked.scores.tolist(), strict=True))
    return {row: known[row] for row in rows if row in known}


# -- reading ---------------------------------------------------------------------------------------------------------


def read_answers(path: Path, session: Session, *, correct: bool = False, drawn: Collection[str] = ()) -> Answers:
    """The answers of a filled-in CSV. Columns other than id and label are not needed.

    An empty label leaves the row pending, `skip` declines it. When multi-label, classes are separated by `|` and `none`
    stands for no class. Commas, semicolons, tabs and bars separate cells; UTF-8, UTF-16 and Windows-1252 are read.

    The row of a line is the one that its id and its texts both name. An id that a spreadsheet changed is found by its
    text; a text that it changed (apostrophes, line ends, spaces, Unicode forms, characters that an encoding lacks) is
    still that of its row. An id and a text that belong to different rows are a mistake.

    Args:
        path: the file.
        session: whose rows were asked.
        correct: take answers for rows that are not pending too.
        drawn: ids of rows that were written to a file without being asked.

    Raises:
        AnswerError: lists, by line, ids that the pool does not have, rows that were not asked, ids and texts of
            different rows, labels that are no class, and answers that contradict each other or one that is stored.
    """
    check_classes(session.pool.classes, multilabel=session.pool.multilabel)
    sheet = read_sheet(path, ("id", "label"))
    for name in ("text", "text_pair"):
        if sheet.head.count(name) > 1:
            raise AnswerError(f"{path}: more than one column {name!r}: keep the one that `dal ask` wrote")
    lines = [_Line(number, dict(zip(sheet.head, cells, strict=True))) for number, cells in sheet.lines]
    answered = [line for line in lines if line.label.strip()]
    columns = tuple(name for name in ("text", "text_pair") if name in sheet.head)
    reading = _Reading(session, correct)
    found = _Places(session, columns, drawn).of(answered)
    for line, place in zip(answered, found, strict=True):
        reading.take(line, place)
    reading.refuse_mistakes(path)
    empty = sum(any(cell.strip() for cell in line.cells.values()) for line in lines) - len(answered)
    notes = (*sheet.notes, *_notes(found))
    rows, values = list(reading.found), [value for value, _ in reading.found.values()]
    return Answers(rows, values, empty, notes, {name: value for name, (value, _) in reading.absent.items()})


def keep_absent(session: Session, absent: Mapping[str, Answer], *, who: str = "") -> int:
    """How many answers to rows that have left the data are now stored by id, which count if the row comes back."""
    told = {name: tuple(value) if isinstance(value, list) else value for name, value in absent.items()}
    new = [Stored(name, value, who) for name, value in told.items() if session.store.answer(name) != value]
    if new:
        session.store.tell(new)
    return len(new)


@dataclass(frozen=True)
class _Line:
    """A record of the file: the line that it begins on, and its cells by the names of their columns."""

    number: int
    cells: Mapping[str, str]

    @property
    def id(self) -> str:
        return self.cells["id"]

    @property
    def label(self) -> str:
        return self.cells["label"]


@dataclass(frozen=True)
class _Place:
    """What a line is about.

    Attributes:
        row: of the pool; None where there is none.
        absent: the id of a row that has left the pool; empty without one.
        mistake: why it is neither.
        by_text: the id did not name it, the text did.
        by_id: the text had been changed.
    """

    row: int | None = None
    absent: str = ""
    mistake: str = ""
    by_text: bool = False
    by_id: bool = False


def _notes(found: Sequence[_Place]) -> Iterator[str]:
    by_text, by_id = sum(place.by_text for place in found), sum(place.by_id for place in found)
    if by_text:
        yield f"{by_text} ids had been changed in the file; their rows were found by their texts"
    if by_id:
        yield f"{by_id} texts had been changed in the file; their rows were found by their ids"
    absent = list(dict.fromkeys(place.absent for place in found if place.absent))
    if absent:
        shown = ", ".join(repr(shortened(name, 40)) for name in absent[:5]) + (", ..." if len(absent) > 5 else "")
        what = "1 row is" if len(absent) == 1 else f"{len(absent)} rows are"
        yield f"{what} not in the data any more: {shown}; what was answered is kept by id and counts if they come back"


class _Reading:
    """The answers read so far, and the mistakes."""

    def __init__(self, session: Session, correct: bool) -> None:
        self.session, self.correct = session, correct
        self.pending = set(session.pending.tolist())
        self.labels = SheetLabels(session.pool.classes, session.pool.multilabel)
        self.found: dict[int, tuple[Answer, int]] = {}
        self.absent: dict[str, tuple[Answer, int]] = {}
        self.mistakes: list[str] = []

    def take(self, line: _Line, place: _Place) -> None:
        """Take in what a line says."""
        hint = len(self.mistakes) < _LISTED  # looking for a similar name takes long, and more are not shown
        try:
            value = self.labels.read(line.label, hint=hint)
        except ValueError as error:
            self.mistakes.append(f"line {line.number}: {error}")
            return
        if place.mistake:
            self.mistakes.append(f"line {line.number}: {place.mistake}")
        elif place.row is None:
            self._put(self.absent, place.absent, place.absent, value, line.number, asked=True)
        else:
            name = self.session.pool.ids[place.row]
            self._put(self.found, place.row, name, value, line.number, asked=place.row in self.pending)

    def _put(self, found: dict[Any, Any], key: int | str, name: str, value: Answer, line: int, *, asked: bool) -> None:
        if key not in found:
            if self._allowed(name, value, line, asked):
                found[key] = (value, line)
            return
        before, first = found[key]
        if before != value:
            self.mistakes.append(f"line {line}: {_shown(value)} contradicts {_shown(before)} on line {first}")

    def _allowed(self, name: str, value: Answer, line: int, asked: bool) -> bool:
        """Whether the row may be answered so. An answer that is stored already is harmless and not stored again."""
        stored = self.session.store.answer(name)
        told = list(stored) if isinstance(stored, tuple) else stored
        if self.correct or told == value or (asked and told is None):
            return True
        row = f"the row {shortened(name)!r}"
        if told is None:
            self.mistakes.append(f"line {line}: {row} was not asked (--correct takes it all the same)")
        else:
            self.mistakes.append(
                f"line {line}: {row} is answered {_shown(told)} already, not {_shown(value)} (--correct changes it)"
            )
        return False

    def refuse_mistakes(self, path: Path) -> None:
        """Raise an `AnswerError` that lists the mistakes, when there are any."""
        if not self.mistakes:
            return
        shown: list[str] = []
        length = 0
        for mistake in self.mistakes[:_LISTED]:
            length += len(mistake)
            if shown and length > _LENGTH:
                break
            shown.append(mistake)
        if len(shown) < len(self.mistakes):
            shown.append(f"and {len(self.mistakes) - len(shown)} more")
        count = "one mistake" if len(self.mistakes) == 1 else f"{len(self.mistakes)} mistakes"
        raise AnswerError("\n  ".join([f"{path} has {count}; nothing was stored", *shown]))


# -- which row a line is about ---------------------------------------------------------------------------------------

#: Texts as they are compared: those of the columns that have one, by the place of the column.
_Key: TypeAlias = tuple[tuple[int, str], ...]


class _Places:
    """Finds the row of each line of a file by its id and its texts; in as many steps as lines and rows.

    Args:
        session: whose rows.
        columns: of the file that hold texts of the rows, in their order.
        drawn: ids that were given out though not asked.
    """

    def __init__(self, session: Session, columns: tuple[str, ...], drawn: Collection[str]) -> None:
        self._pool, self._columns = session.pool, columns
        self._pending = set(session.pending.tolist())
        self._store, self._asked = session.store, {*session.store.pending, *drawn}
        try:
            session.pool.texts([])
        except DataError:  # rows without texts are known by their ids alone
            self._columns = ()

    def of(self, lines: Sequence[_Line]) -> list[_Place]:
        """The place of each line."""
        names = [_names(line.id) for line in lines]
        known = rows_by_id(self._pool, {name for each in names for name in each})
        rows = [next((known[name] for name in each if name in known), None) for each in names]
        absent = ["" if row is not None else self._absent(each) for row, each in zip(rows, names, strict=True)]
        cells = [tuple(original(line.cells[name]) for name in self._columns) for line in lines]
        own = self._own(rows)
        unsure = [
            not gone and (row is None or not _agree(cells[i], own[i]))
            for i, (row, gone) in enumerate(zip(rows, absent, strict=True))
        ]
        keys = [_key(cells[i]) if unsure[i] else () for i in range(len(lines))]
        elsewhere = self._with({key for key in keys if key})
        filler = _filler([keys[i] for i, row in enumerate(rows) if unsure[i] and row is not None], elsewhere)
        places = []
        for i, (line, row) in enumerate(zip(lines, rows, strict=True)):
            if absent[i]:
                places.append(_Place(absent=absent[i]))
            elif row is None:
                places.append(self._by_text(line, elsewhere.get(keys[i], [])))
            elif unsure[i]:
                others = elsewhere.get(keys[i], [])
                places.append(self._doubted(row, cells[i], own[i], others, keys[i] == filler))
            else:
                places.append(_Place(row))
        return places

    def _absent(self, names: Sequence[str]) -> str:
        """The first of the names that was asked or answered at some time; empty without one."""
        return next((name for name in names if name in self._asked or self._store.answer(name) is not None), "")

    def _own(self, rows: Sequence[int | None]) -> list[tuple[str, ...]]:
        """The texts of the rows."""
        if not self._columns:
            return [()] * len(rows)
        texts = iter(self._pool.texts([row for row in rows if row is not None]))
        return [() if row is None else _as_tuple(next(texts)) for row in rows]

    def _with(self, wanted: set[_Key]) -> dict[_Key, list[int]]:
        """The rows of the pool whose texts are these: one look at each row, and none where nothing is wanted."""
        found: dict[_Key, list[int]] = {}
        places = {tuple(place for place, _ in key) for key in wanted}
        for start in range(0, len(self._pool) if wanted else 0, _BLOCK):
            for row, text in enumerate(self._pool.texts(slice(start, start + _BLOCK)), start):
                texts = _as_tuple(text)
                for which in places:
                    if which[-1] < len(texts):
                        key = tuple((place, _plain(texts[place])) for place in which)
                        if key in wanted:
                            found.setdefault(key, []).append(row)
        return found

    def _by_text(self, line: _Line, same: Sequence[int]) -> _Place:
        """The place of a line whose id is unknown: the one pending row with its text, or the one row."""
        pending = [row for row in same if row in self._pending]
        likely = pending or same
        if len(likely) == 1:
            return _Place(likely[0], by_text=True)
        several = f", and {len(likely)} rows have its text" if likely else ""
        return _Place(mistake=f"no row has the id {shortened(line.id)!r}{several}")

    def _doubted(
        self, row: int, cells: Sequence[str], own: Sequence[str], others: Sequence[int], filler: bool
    ) -> _Place:
        """The place of a line whose text is not that of the row that its id names."""
        name = repr(shortened(self._pool.ids[row]))
        if others:
            more = f" (and {len(others) - 1} more)" if len(others) > 1 else ""
            other = repr(shortened(self._pool.ids[others[0]])) + more
            return _Place(
                mistake=f"the id is that of the row {name}, the text that of the row {other}: was one column sorted "
                "or shifted alone?"
            )
        if filler or all(_altered(cell, text) for cell, text in zip(cells, own, strict=False) if cell.strip()):
            return _Place(row, by_id=True)
        return _Place(
            mistake=f"the text is neither that of the row {name}, {shortened(' '.join(own[0].split()), 40)!r}, nor of "
            "any other: correct the id, or empty the cell of the text if the answer is for this row"
        )


def rows_by_id(pool: Rows, names: Iterable[str]) -> dict[str, int]:
    """The rows of those of the names that are ids of the pool."""
    wanted = pa.array(sorted({name for name in names if encodable(name)}), pa.large_string())
    hits = pc.index_in(pool.ids.arrow(), value_set=wanted)
    rows = np.flatnonzero(np.asarray(hits.is_valid())).tolist()
    return dict(zip(wanted.take(hits.drop_null()).to_pylist(), rows, strict=True))


def _names(cell: str) -> list[str]:
    """The ids that a cell may stand for, the likeliest first."""
    names = [original(cell), cell, original(cell.strip()), cell.strip(), without_apostrophes(cell.strip())]
    forms = [unicodedata.normalize(form, names[2]) for form in ("NFC", "NFD")]
    return [name for name in dict.fromkeys([*names, *forms]) if name]


def _as_tuple(text: Any) -> tuple[str, ...]:
    return text if isinstance(text, tuple) else (text,)


def _agree(cells: Sequence[str], own: Sequence[str]) -> bool:
    """Whether the texts of a line are those of a row; cells that are empty say nothing."""
    return all(
        cell == text or not cell.strip() or _plain(cell) == _plain(text) for cell, text in zip(cells, own, strict=False)
    )


def _key(cells: Sequence[str]) -> _Key:
    return tuple((place, _plain(cell)) for place, cell in enumerate(cells) if cell.strip())


def _plain(text: str) -> str:
    """A text without what spreadsheets change and nobody sees: apostrophes, white space, the Unicode form."""
    return unicodedata.normalize("NFC", " ".join(without_apostrophes(text).split()))


def _filler(keys: Iterable[_Key], elsewhere: Mapping[_Key, Any]) -> _Key | None:
    """The one text that stands on several lines instead of theirs, which says nothing; None without one."""
    foreign = Counter(key for key in keys if key and key not in elsewhere)
    return next(iter(foreign)) if len(foreign) == 1 and foreign.total() > 1 else None


def _altered(cell: str, text: str) -> bool:
    """Whether a cell is what a spreadsheet may have made of a text: other marks, lost characters, or its beginning."""
    cell, text = _plain(cell), _plain(text)
    if len(cell) >= _CELL_LIMIT - 1000 and text.startswith(cell):
        return True
    if _letters(cell) == _letters(text):
        return bool(_letters(cell)) or "".join(cell.split()) == "".join(text.split())
    return _lossy(cell, text)


def _letters(text: str) -> str:
    """Letters and digits alone, in lower case: editors put other quote marks, dashes and capitals."""
    return "".join(char for char in unicodedata.normalize("NFKC", text).casefold() if char.isalnum())


def _lossy(cell: str, text: str) -> bool:
    """Whether a cell is the text with question marks for characters that an encoding lacks."""
    first, second = _units(cell), _units(text)
    return len(first) == len(second) and all(
        one == other or one in ("?", "\ufffd") for one, other in zip(first, second, strict=True)
    )


def _units(text: str) -> list[str]:
    """The characters, each that takes two units of UTF-16 twice: programs write a question mark for each unit."""
    return [char for char in text for _ in range(1 + (char > "\uffff"))]


# -- what a label means ----------------------------------------------------------------------------------------------


class SheetLabels:
    """What the cells of the label column mean, looked up in the same time however many classes there are.

    Args:
        classes: the class names.
        multilabel: whether a cell may hold several.
    """

    def __init__(self, classes: Sequence[str], multilabel: bool = False) -> None:
        self._classes, self._multilabel = tuple(classes), multilabel
        self._exact = set(classes)
        self._folded: dict[str, list[str]] = {}
        for name in self._classes:
            self._folded.setdefault(_folded(name), []).append(name)
        self._skip, self._none = marker(SKIP_WORD, classes), marker(NONE_WORD, classes)

    def read(self, label: str, *, hint: bool = True) -> Answer:
        """The answer that a cell holds; ValueError says why it holds none.

        Args:
            label: the cell as it stands in the file.
            hint: name the most similar class in the error.

        Example:
            >>> labels = SheetLabels(["billing", "access"], multilabel=True)
            >>> labels.read(" access | Billing "), labels.read("skip")
            (['billing', 'access'], <Skip.SKIP: 'skip'>)
        """
        named = self._named(_forms(label))
        if named is None and self._is(label, SKIP_WORD, self._skip):
            return SKIP
        if not self._multilabel:
            return named if named is not None else self._refuse(label, hint)
        if named is not None:
            return [named]
        if self._is(label, NONE_WORD, self._none) or label.strip() == "[]":
            return []
        chosen = set()
        for part in original(label).split(SEPARATOR):
            if part.strip():
                name = self._named(_forms(part))
                chosen.add(name if name is not None else self._refuse(part, hint))
        if not chosen:
            raise ValueError(f"{shortened(label)!r} names no class; write {NONE_WORD} for no class")
        return [name for name in self._classes if name in chosen]

    def _named(self, forms: Sequence[str]) -> str | None:
        """The class that one of the forms is, the first one that is; otherwise but for the case. None without one."""
        for name in forms:
            if name in self._exact:
                return name
        for name in forms:
            similar = self._folded.get(_folded(name), [])
            if len(similar) == 1:
                return similar[0]
        return None

    def _is(self, label: str, word: str, marked: str) -> bool:
        return label.strip().lower() in (marked, f"[{word}]")

    def _refuse(self, label: str, hint: bool) -> str:
        label = label.strip()
        near = did_you_mean(label, self._classes) if hint else ""
        what = near.replace("; ", ", ", 1) or f" ({_some(self._classes)})"
        raise ValueError(f"{shortened(label)!r} is not a class{what}")


def parse(label: str, classes: Sequence[str], *, multilabel: bool = False) -> Answer:
    """The answer that a cell holds; ValueError says why it holds none.

    >>> parse("Billing", ["billing", "access"])
    'billing'
    >>> parse("access | billing", ["billing", "access"], multilabel=True)
    ['billing', 'access']
    """
    return SheetLabels(classes, multilabel).read(label)


def cell_of(value: Value | Sequence[str], classes: Sequence[str]) -> str:
    """The cell that stands for an answer: a class name; names with bars between them when multi-label.

    Example:
        >>> cell_of(["a", "b"], ["a", "b"]), cell_of([], ["a", "none"])
        ('a|b', '[none]')
    """
    return value if isinstance(value, str) else SEPARATOR.join(value) or marker(NONE_WORD, classes)


def marker(word: str, classes: Sequence[str]) -> str:
    """The word, in as many brackets as it takes to be no class.

    Example:
        >>> marker("skip", ["a"]), marker("skip", ["Skip", "a"])
        ('skip', '[skip]')
    """
    names = {name.lower() for name in classes}
    while word in names:
        word = f"[{word}]"
    return word


def _forms(cell: str) -> list[str]:
    """What a cell may stand for, the likeliest first: with and without apostrophes, spaces, and the zeros of 1.0."""
    stripped = cell.strip()
    return [original(cell), cell, original(stripped), stripped, whole(stripped) or stripped]


def _folded(name: str) -> str:
    return unicodedata.normalize("NFC", name.casefold())


def _some(classes: Sequence[str]) -> str:
    shown = ", ".join(shortened(name, 40) for name in classes[:10])
    return f"classes are {shown}" + (", ..." if len(classes) > 10 else "")


def _shown(value: Answer) -> str:
    if isinstance(value, Skip):
        return SKIP_WORD
    return repr(shortened(value if isinstance(value, str) else SEPARATOR.join(value) or NONE_WORD))
