"""Annotation sheets: CSV files of queried rows that an annotator fills in with a spreadsheet or an editor."""

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

_LISTED = 20  # maximum number of mistakes in one message
_LENGTH = 1_500  # maximum length of the listed mistakes, in characters
_BLOCK = 8192  # pool rows whose texts are in memory at a time
_CELL_LIMIT = 32_000  # characters after which spreadsheets truncate a cell

Answer = str | list[str] | Skip


@dataclass(frozen=True)
class Answers:
    """Answers of a sheet, checked against the session.

    Attributes:
        rows: pool rows.
        values: one answer per row: a class name, a list of names, or `SKIP`.
        empty: number of rows of the sheet without an answer.
        notes: messages for the user about how the sheet was read.
        absent: id -> answer, for queried rows that are no longer in the data.
    """

    rows: list[int]
    values: list[Answer]
    empty: int = 0
    notes: tuple[str, ...] = ()
    absent: Mapping[str, Answer] = field(default_factory=dict)


# -- writing ---------------------------------------------------------------------------------------------------------


def write_questions(path: Path, session: Session, rows: Tensor, *, force: bool = False) -> None:
    """Write queried rows to a CSV file with the columns id, text, score (if there are scores) and an empty label.

    The file is UTF-8 with a byte-order mark, so that spreadsheets detect the encoding. Formulas are protected with an
    apostrophe.

    Args:
        path: file to write.
        session: session that queried the rows.
        rows: (n,) int64 pool rows.
        force: replace an existing file.

    Raises:
        ConfigError: the file exists and may hold answers, and `force` is false.
    """
    if path.exists() and not force:
        raise ConfigError(f"{path} exists and may hold answers: `dal tell` it first, or choose another name")
    write_csv(path, questions(session, rows))


def questions(session: Session, rows: Tensor) -> str:
    """Format queried rows as CSV text, without a byte-order mark."""
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
    """Check that the class names can be written to a cell.

    Raises:
        ConfigError: a name is blank, or contains the separator of multi-label answers.
    """
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
    """Read the answers of a filled-in sheet. Only the columns id and label are required.

    An empty label leaves the row pending, `skip` declines it. When multi-label, classes are separated by `|`, and
    `none` means no class. Cells may be separated by commas, semicolons, tabs or bars; the encoding may be UTF-8,
    UTF-16 or Windows-1252.

    A line is matched to the row that both its id and its texts identify. If a spreadsheet has changed the id, the row
    is found by its text. Changes of the text (apostrophes, line ends, spaces, Unicode forms, characters that an
    encoding lacks) are tolerated. An id and a text of different rows are a mistake.

    Args:
        path: file to read.
        session: session that queried the rows.
        correct: accept answers to rows that are not pending.
        drawn: ids of rows that were written to a sheet without being queried.

    Raises:
        AnswerError: lists, by line, unknown ids, rows that were not queried, ids and texts of different rows, labels
            that are not classes, and answers that contradict each other or a stored one.
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
    matches = _Matcher(session, columns, drawn).of(answered)
    for line, match in zip(answered, matches, strict=True):
        reading.take(line, match)
    reading.refuse_mistakes(path)
    empty = sum(any(cell.strip() for cell in line.cells.values()) for line in lines) - len(answered)
    notes = (*sheet.notes, *_notes(matches))
    rows, values = list(reading.answers), [value for value, _ in reading.answers.values()]
    return Answers(rows, values, empty, notes, {name: value for name, (value, _) in reading.absent.items()})


def keep_absent(session: Session, absent: Mapping[str, Answer], *, who: str = "") -> int:
    """Store answers to rows that are no longer in the data, by id; return the number of new ones.

    They count if a row with that id is added again.
    """
    answers = {name: tuple(value) if isinstance(value, list) else value for name, value in absent.items()}
    new = [Stored(name, value, who) for name, value in answers.items() if session.store.answer(name) != value]
    if new:
        session.store.tell(new)
    return len(new)


@dataclass(frozen=True)
class _Line:
    """A record of the sheet: its first line, and its cells by column name."""

    number: int
    cells: Mapping[str, str]

    @property
    def id(self) -> str:
        return self.cells["id"]

    @property
    def label(self) -> str:
        return self.cells["label"]


@dataclass(frozen=True)
class _Match:
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


def _notes(matches: Sequence[_Match]) -> Iterator[str]:
    by_text, by_id = sum(match.by_text for match in matches), sum(match.by_id for match in matches)
    if by_text:
        yield f"{by_text} ids had been changed in the file; their rows were found by their texts"
    if by_id:
        yield f"{by_id} texts had been changed in the file; their rows were found by their ids"
    absent = list(dict.fromkeys(match.absent for match in matches if match.absent))
    if absent:
        shown = ", ".join(repr(shortened(name, 40)) for name in absent[:5]) + (", ..." if len(absent) > 5 else "")
        what = "1 row is" if len(absent) == 1 else f"{len(absent)} rows are"
        yield f"{what} no longer in the data: {shown}; their answers are kept by id and count if they come back"


class _Reading:
    """Collects the answers of a sheet and its mistakes."""

    def __init__(self, session: Session, correct: bool) -> None:
        self.session, self.correct = session, correct
        self.pending = set(session.pending.tolist())
        self.labels = SheetLabels(session.pool.classes, session.pool.multilabel)
        self.answers: dict[int, tuple[Answer, int]] = {}  # row -> answer and line; likewise `absent`, by id
        self.absent: dict[str, tuple[Answer, int]] = {}
        self.mistakes: list[str] = []

    def take(self, line: _Line, match: _Match) -> None:
        """Add the answer of a line, or its mistake."""
        hint = len(self.mistakes) < _LISTED  # the search for a similar name is slow, and further ones are not shown
        try:
            value = self.labels.read(line.label, hint=hint)
        except ValueError as error:
            self.mistakes.append(f"line {line.number}: {error}")
            return
        if match.mistake:
            self.mistakes.append(f"line {line.number}: {match.mistake}")
        elif match.row is None:
            self._put(self.absent, match.absent, match.absent, value, line.number, asked=True)
        else:
            name = self.session.pool.ids[match.row]
            self._put(self.answers, match.row, name, value, line.number, asked=match.row in self.pending)

    def _put(
        self, answers: dict[Any, Any], key: int | str, name: str, value: Answer, line: int, *, asked: bool
    ) -> None:
        if key not in answers:
            if self._allowed(name, value, line, asked):
                answers[key] = (value, line)
            return
        before, first = answers[key]
        if before != value:
            self.mistakes.append(f"line {line}: {_shown(value)} contradicts {_shown(before)} on line {first}")

    def _allowed(self, name: str, value: Answer, line: int, asked: bool) -> bool:
        """Whether the answer may be stored. A repetition of the stored answer is allowed and not stored again."""
        stored = self.session.store.answer(name)
        current = list(stored) if isinstance(stored, tuple) else stored
        if self.correct or current == value or (asked and current is None):
            return True
        row = f"the row {shortened(name)!r}"
        if current is None:
            self.mistakes.append(f"line {line}: {row} was not asked (--correct accepts it anyway)")
        else:
            self.mistakes.append(
                f"line {line}: {row} is answered {_shown(current)} already, not {_shown(value)} (--correct changes it)"
            )
        return False

    def refuse_mistakes(self, path: Path) -> None:
        """Raise an `AnswerError` that lists the mistakes, if there are any."""
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


# -- matching of lines to rows ---------------------------------------------------------------------------------------

#: Normalised non-empty texts of a line, with the indices of their columns.
_Key: TypeAlias = tuple[tuple[int, str], ...]


class _Matcher:
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

    def of(self, lines: Sequence[_Line]) -> list[_Match]:
        """Match each line."""
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
        # Texts are searched in the pool only for lines whose id is unknown or whose text differs from the row's.
        keys = [_key(cells[i]) if unsure[i] else () for i in range(len(lines))]
        elsewhere = self._with({key for key in keys if key})
        filler = _filler([keys[i] for i, row in enumerate(rows) if unsure[i] and row is not None], elsewhere)
        matches = []
        for i, (line, row) in enumerate(zip(lines, rows, strict=True)):
            if absent[i]:
                matches.append(_Match(absent=absent[i]))
            elif row is None:
                matches.append(self._by_text(line, elsewhere.get(keys[i], [])))
            elif unsure[i]:
                others = elsewhere.get(keys[i], [])
                matches.append(self._by_id(row, cells[i], own[i], others, keys[i] == filler))
            else:
                matches.append(_Match(row))
        return matches

    def _absent(self, names: Sequence[str]) -> str:
        """The first of the names that was ever queried or answered; empty if there is none."""
        return next((name for name in names if name in self._asked or self._store.answer(name) is not None), "")

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

    def _by_text(self, line: _Line, same: Sequence[int]) -> _Match:
        """Match a line with an unknown id to the only pending row with its text, or to the only row."""
        pending = [row for row in same if row in self._pending]
        likely = pending or same
        if len(likely) == 1:
            return _Match(likely[0], by_text=True)
        several = f", and {len(likely)} rows have its text" if likely else ""
        return _Match(mistake=f"no row has the id {shortened(line.id)!r}{several}")

    def _by_id(self, row: int, cells: Sequence[str], own: Sequence[str], others: Sequence[int], filler: bool) -> _Match:
        """Match a line whose text differs from that of the row with its id, if the change is plausible."""
        name = repr(shortened(self._pool.ids[row]))
        if others:
            more = f" (and {len(others) - 1} more)" if len(others) > 1 else ""
            other = repr(shortened(self._pool.ids[others[0]])) + more
            return _Match(
                mistake=f"the id is that of the row {name}, the text that of the row {other}: was one column sorted "
                "or shifted alone?"
            )
        if filler or all(_altered(cell, text) for cell, text in zip(cells, own, strict=False) if cell.strip()):
            return _Match(row, by_id=True)
        return _Match(
            mistake=f"the text is neither that of the row {name}, {shortened(' '.join(own[0].split()), 40)!r}, nor of "
            "any other: correct the id, or empty the cell of the text if the answer is for this row"
        )


def rows_by_id(pool: Rows, names: Iterable[str]) -> dict[str, int]:
    """The rows of the names that are ids of the pool."""
    wanted = pa.array(sorted({name for name in names if encodable(name)}), pa.large_string())
    hits = pc.index_in(pool.ids.arrow(), value_set=wanted)
    rows = np.flatnonzero(np.asarray(hits.is_valid())).tolist()
    return dict(zip(wanted.take(hits.drop_null()).to_pylist(), rows, strict=True))


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


def _key(cells: Sequence[str]) -> _Key:
    return tuple((column, _plain(cell)) for column, cell in enumerate(cells) if cell.strip())


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


# -- parsing of labels -----------------------------------------------------------------------------------------------


class SheetLabels:
    """Parser of label cells, with constant-time lookup of the classes.

    Args:
        classes: class names.
        multilabel: whether a cell may hold several classes.
    """

    def __init__(self, classes: Sequence[str], multilabel: bool = False) -> None:
        self._classes, self._multilabel = tuple(classes), multilabel
        self._exact = set(classes)
        self._folded: dict[str, list[str]] = {}
        for name in self._classes:
            self._folded.setdefault(_folded(name), []).append(name)
        self._skip, self._none = marker(SKIP_WORD, classes), marker(NONE_WORD, classes)

    def read(self, label: str, *, hint: bool = True) -> Answer:
        """Parse a label cell.

        Args:
            label: cell of the sheet.
            hint: name the most similar class in the error.

        Raises:
            ValueError: the cell is not an answer; the message gives the reason.

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
        """The first form that is a class, else the first that equals a single class up to case; None if there is none.

        An exact match of a later form precedes a case-insensitive match of an earlier one.
        """
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
        advice = near.replace("; ", ", ", 1) or f" ({_some(self._classes)})"
        raise ValueError(f"{shortened(label)!r} is not a class{advice}")


def parse(label: str, classes: Sequence[str], *, multilabel: bool = False) -> Answer:
    """Parse a single label cell; see `SheetLabels.read`.

    >>> parse("Billing", ["billing", "access"])
    'billing'
    >>> parse("access | billing", ["billing", "access"], multilabel=True)
    ['billing', 'access']
    """
    return SheetLabels(classes, multilabel).read(label)


def cell_of(value: Value | Sequence[str], classes: Sequence[str]) -> str:
    """Format an answer as a cell: a class name, or names separated by bars when multi-label.

    Example:
        >>> cell_of(["a", "b"], ["a", "b"]), cell_of([], ["a", "none"])
        ('a|b', '[none]')
    """
    return value if isinstance(value, str) else SEPARATOR.join(value) or marker(NONE_WORD, classes)


def marker(word: str, classes: Sequence[str]) -> str:
    """The word, in brackets if necessary to differ from all classes.

    Example:
        >>> marker("skip", ["a"]), marker("skip", ["Skip", "a"])
        ('skip', '[skip]')
    """
    names = {name.lower() for name in classes}
    while word in names:
        word = f"[{word}]"
    return word


def _forms(cell: str) -> list[str]:
    """The labels that a cell may represent, most likely first: with and without apostrophes, spaces, and ".0"."""
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
