"""Questions and answers as a CSV file that a person fills in with a spreadsheet or an editor."""

import csv
import difflib
import io
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import Tensor

from dal.errors import AnswerError, ConfigError, DataError
from dal.events import SKIP, Skip
from dal.session import Session
from dal.spreadsheet import as_csv, write_csv

SKIP_WORD = "skip"  # declines a row
NONE_WORD = "none"  # no class at all, when multi-label
SEPARATOR = "|"  # between the classes of a multi-label answer

_LISTED = 20  # mistakes shown at once

Answer = str | list[str] | Skip


@dataclass(frozen=True)
class Answers:
    """The answers of a file, checked against the session.

    Attributes:
        rows: pool rows.
        values: class names, lists of them, or `SKIP`; one per row.
        empty: how many rows of the file have no answer.
        notes: what the user should know of how the file was read.
    """

    rows: list[int]
    values: list[Answer]
    empty: int = 0
    notes: tuple[str, ...] = ()


def write_questions(path: Path, session: Session, rows: Tensor, *, force: bool = False) -> None:
    """Write the rows to ask to a CSV with the columns id, text, score (where there is one) and label, which is empty.

    UTF-8 with a byte-order mark, so that spreadsheets read it right. A text that a spreadsheet would run as a formula
    begins with an apostrophe in the file.

    Raises:
        ConfigError: the file is there already, and `force` is not given: it may hold answers.
    """
    if path.exists() and not force:
        raise ConfigError(f"{path} is there already and may hold answers: `dal tell` it first, or choose another name")
    if not path.parent.is_dir():
        raise ConfigError(f"there is no folder {path.parent}")
    write_csv(path, questions(session, rows))


def questions(session: Session, rows: Tensor) -> str:
    """The CSV of the rows to ask, without a byte-order mark."""
    refuse_separator(session)
    pool, chosen = session.pool, rows.tolist()
    scores = _scores(session, chosen)
    texts = pool.texts(rows)
    pairs = bool(texts) and isinstance(texts[0], tuple)
    head = ["id", *(["text", "text_pair"] if pairs else ["text"]), *(["score"] if scores else []), "label"]
    lines: list[list[str | float]] = [[*head]]
    for row, text in zip(chosen, texts, strict=True):
        score = [scores.get(row, "")] if scores else []
        lines.append([pool.ids[row], *(text if pairs else (text,)), *score, ""])
    return as_csv(lines)


def read_answers(path: Path, session: Session, *, correct: bool = False) -> Answers:
    """The answers of a filled-in CSV. Columns other than id and label are not needed.

    An empty label leaves the row pending, `skip` declines it. When multi-label, classes are separated by `|` and `none`
    stands for no class. Commas, semicolons and tabs separate cells; UTF-8, UTF-16 and Windows-1252 are read.

    Args:
        correct: take answers for rows that are not pending too.

    Raises:
        AnswerError: lists, by line, ids that the pool does not have, rows that were not asked, labels that are no
            class, and answers that contradict each other or one that is stored already.
    """
    text, notes = _decoded(path)
    records = list(_records(path, text))
    reading = _Reading(session, correct, [cells["id"] for _, cells in records])
    for line, cells in records:
        reading.take(line, cells)
    reading.refuse_mistakes(path)
    if reading.by_text:
        notes = [*notes, f"{reading.by_text} ids had been changed in the file; their rows were found by their texts"]
    return Answers(list(reading.found), [v for v, _ in reading.found.values()], reading.empty, tuple(notes))


class _Reading:
    """The answers read so far, and the mistakes."""

    def __init__(self, session: Session, correct: bool, ids: list[str]) -> None:
        self.session, self.correct = session, correct
        self.pending = set(session.pending.tolist())
        self.classes = session.pool.classes
        self.found: dict[int, tuple[Answer, int]] = {}
        self.mistakes: list[str] = []
        self.empty = self.by_text = 0
        self._rows = _rows_of(session, ids)
        self._texts: dict[str, list[int]] | None = None

    def take(self, line: int, cells: dict[str, str]) -> None:
        label = cells["label"].strip()
        if not label:
            self.empty += any(cell.strip() for cell in cells.values())
            return
        row = self.row(cells)
        try:
            value = parse(label, self.classes, multilabel=self.session.pool.multilabel)
        except ValueError as error:
            self.mistakes.append(f"line {line}: {error}")
            return
        if row is None:
            self.mistakes.append(f"line {line}: no row has the id {cells['id']!r}")
        elif row in self.found:
            before, first = self.found[row]
            if before != value:
                self.mistakes.append(f"line {line}: {_shown(value)} contradicts {_shown(before)} on line {first}")
        elif self.allowed(row, value, line):
            self.found[row] = (value, line)

    def allowed(self, row: int, value: Answer, line: int) -> bool:
        """Whether the row may be answered so. An answer that is stored already is harmless and not stored again."""
        name = self.session.pool.ids[row]
        stored = self.session.store.answer(name)
        same = stored is not None and (list(stored) if isinstance(stored, tuple) else stored) == value
        if row in self.pending or self.correct or same:
            return True
        if stored is None:
            self.mistakes.append(f"line {line}: the row {name!r} was not asked (--correct takes it all the same)")
        else:
            told = _shown(list(stored) if isinstance(stored, tuple) else stored)
            self.mistakes.append(
                f"line {line}: the row {name!r} is answered {told} already, not {_shown(value)} (--correct changes it)"
            )
        return False

    def row(self, cells: dict[str, str]) -> int | None:
        """The row of an id; of the text, where a spreadsheet has turned the id into a number."""
        for name in (cells["id"], cells["id"].strip(), cells["id"].removeprefix("'")):
            known = self._rows[name] if name in self._rows else _rows_of(self.session, [name]).get(name)
            if known is not None:
                return known
        if self._texts is None:
            self._texts = {}
            rows = sorted(self.pending)
            for row, text in zip(rows, self.session.pool.texts(rows), strict=True):
                self._texts.setdefault(text if isinstance(text, str) else text[0], []).append(row)
        text = cells.get("text", "")
        same = self._texts.get(text) or self._texts.get(text.removeprefix("'")) or []
        self.by_text += len(same) == 1
        return same[0] if len(same) == 1 else None

    def refuse_mistakes(self, path: Path) -> None:
        if not self.mistakes:
            return
        shown = "\n  ".join(self.mistakes[:_LISTED])
        more = f"\n  and {len(self.mistakes) - _LISTED} more" if len(self.mistakes) > _LISTED else ""
        count = "one mistake" if len(self.mistakes) == 1 else f"{len(self.mistakes)} mistakes"
        raise AnswerError(f"{path} has {count}; nothing was stored\n  {shown}{more}")


def parse(label: str, classes: Sequence[str], *, multilabel: bool = False) -> Answer:
    """The answer that a cell holds; ValueError says why it holds none.

    >>> parse("Billing", ["billing", "access"])
    'billing'
    >>> parse("access | billing", ["billing", "access"], multilabel=True)
    ['billing', 'access']
    """
    if not multilabel:
        return SKIP if is_word(label, SKIP_WORD, classes) else _class(label, classes)
    if is_word(label, SKIP_WORD, classes):
        return SKIP
    if is_word(label, NONE_WORD, classes) or label == "[]":
        return []
    chosen = {_class(part.strip(), classes) for part in label.split(SEPARATOR) if part.strip()}
    if not chosen:
        raise ValueError(f"{label!r} names no class; write {NONE_WORD} for no class")
    return [name for name in classes if name in chosen]


def is_word(label: str, word: str, classes: Sequence[str]) -> bool:
    """Whether a cell is a marker: the word, or the word in brackets where a class is called so."""
    return label.lower() == f"[{word}]" or (label.lower() == word and word not in {name.lower() for name in classes})


def _class(label: str, classes: Sequence[str]) -> str:
    if label in classes:
        return label
    folded = [name for name in classes if name.casefold() == label.casefold()]
    if len(folded) == 1:
        return folded[0]
    near = difflib.get_close_matches(label, classes, 1, 0.5)
    raise ValueError(f"{label!r} is not a class" + (f", did you mean {near[0]!r}?" if near else f" ({_some(classes)})"))


def _some(classes: Sequence[str]) -> str:
    return "classes are " + ", ".join(classes[:10]) + (", ..." if len(classes) > 10 else "")


def refuse_separator(session: Session) -> None:
    """Nothing, unless a class name holds what separates classes in a file: a `ConfigError`."""
    wrong = [name for name in session.pool.classes if SEPARATOR in name]
    if session.pool.multilabel and wrong:
        raise ConfigError(f"the class {wrong[0]!r} holds {SEPARATOR!r}, which separates classes in the file: rename it")


def _scores(session: Session, rows: list[int]) -> dict[int, float]:
    asked = session.last_selection
    if asked is None or asked.scores is None:
        return {}
    known = dict(zip(asked.rows.tolist(), asked.scores.tolist(), strict=True))
    return {row: known[row] for row in rows if row in known}


def _shown(value: Answer) -> str:
    if isinstance(value, Skip):
        return SKIP_WORD
    return repr(value if isinstance(value, str) else SEPARATOR.join(value) or NONE_WORD)


def _rows_of(session: Session, names: list[str]) -> dict[str, int]:
    """The rows of the ids, looked up at once; none when one of them is unknown."""
    try:
        return dict(zip(names, session.pool.rows_of(names).tolist(), strict=True)) if names else {}
    except DataError:
        return {}


def _decoded(path: Path) -> tuple[str, list[str]]:
    """The text of the file, and a note where it is not UTF-8."""
    try:
        content = path.read_bytes()
    except OSError as error:
        raise AnswerError(f"{path} cannot be read: {error.strerror}") from error
    if content.startswith(b"PK\x03\x04"):
        raise AnswerError(f"{path} is a workbook, not a CSV file: save it as CSV UTF-8")
    if content.startswith((b"\xff\xfe", b"\xfe\xff")):
        return content.decode("utf-16", "replace"), []
    try:
        return content.decode("utf-8-sig"), []
    except UnicodeDecodeError:
        return content.decode("cp1252", "replace"), [f"{path} is not UTF-8; it was read as Windows-1252"]


def _records(path: Path, text: str) -> Iterator[tuple[int, dict[str, str]]]:
    """Each record below the head with the line that it begins on."""
    first = text.split("\n", 1)[0].rstrip("\r")
    skipped = first.lower().startswith("sep=")
    if skipped:
        text = text.partition("\n")[2]
        first = text.split("\n", 1)[0].rstrip("\r")
    delimiter = max(",;\t", key=first.count)
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=delimiter)
    head: list[str] = []
    line = 1
    csv.field_size_limit(1 << 30)
    while True:
        try:
            cells = next(reader, None)
        except csv.Error as error:
            raise AnswerError(f"{path}, line {reader.line_num + skipped}: {error}") from error
        start, line = line, reader.line_num + 1
        if cells is None:
            break
        if not head:
            head = _head(path, cells)
            continue
        if any(cells):
            record: dict[str, Any] = dict.fromkeys(head, "") | dict(zip(head, cells, strict=False))
            yield start + skipped, record
    if not head:
        raise AnswerError(f"{path} is empty: it needs the columns id and label")


def _head(path: Path, cells: list[str]) -> list[str]:
    head = [cell.strip().lower() for cell in cells]
    for name in ("id", "label"):
        if head.count(name) != 1:
            problem = "no column" if name not in head else "more than one column"
            raise AnswerError(f"{path}, line 1: {problem} {name!r} among {', '.join(cells)[:80]}")
    return head
