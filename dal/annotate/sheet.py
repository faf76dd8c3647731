"""Annotation sheets: CSV files of queried rows that an annotator fills in with a spreadsheet or an editor."""

from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from torch import Tensor

from dal.annotate.people_answers import may_add
from dal.annotate.row_matching import RowMatch, RowMatcher, SheetLine
from dal.data.label_cells import SEPARATOR, Answer, SheetLabels, shown_answer
from dal.data.rows import rows_by_id
from dal.errors import AnswerError, ConfigError, shortened
from dal.session import Session
from dal.store.events import Answer as Stored
from dal.store.spreadsheet import as_csv, original, read_sheet, write_csv
from dal.store.visible_names import is_visible

_LISTED = 20  # maximum number of mistakes in one message
_LENGTH = 1_500  # maximum length of the listed mistakes, in characters


@dataclass(frozen=True)
class Answers:
    """Answers of a sheet, checked against the session.

    Attributes:
        rows: pool rows.
        values: one answer per row: a class name, a list of names, or `SKIP`.
        empty: number of rows of the sheet without an answer.
        notes: messages for the user about how the sheet was read.
        absent: id -> answer, for queried rows that are no longer in the data.
        refused: lines with a mistake, and what is wrong, where the others were to be read.
    """

    rows: list[int]
    values: list[Answer]
    empty: int = 0
    notes: tuple[str, ...] = ()
    absent: Mapping[str, Answer] = field(default_factory=dict)
    refused: tuple[tuple[SheetLine, str], ...] = ()


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
        ConfigError: a name cannot be seen, or contains the separator of multi-label answers.
    """
    blank = [name for name in classes if not is_visible(name)]
    if blank:
        raise ConfigError(
            f"the class {shortened(ascii(blank[0]))} is blank to people, which means no answer: rename it"
        )
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


def read_answers(
    path: Path,
    session: Session,
    *,
    correct: bool = False,
    drawn: Collection[str] = (),
    partial: bool = False,
    further: str = "",
) -> Answers:
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
        partial: read the other lines where some have mistakes.
        further: person whose answers are added to those of other people, whatever these are; empty where rows have one
            answer.

    Raises:
        AnswerError: lists by line, unless `partial`, unknown ids, rows that were not queried, ids and texts of
            different rows, labels that are not classes, and answers that contradict each other or a stored one.
    """
    check_classes(session.pool.classes, multilabel=session.pool.multilabel)
    sheet = read_sheet(path, ("id", "label"))
    if {"annotation_id", "annotator", "dal_id"} <= set(sheet.head):  # its `id` is the number of a task
        raise AnswerError(
            f"{path} is Label Studio's CSV export, which leaves out skipped texts: export the project as JSON"
        )
    for name in ("text", "text_pair"):
        if sheet.head.count(name) > 1:
            raise AnswerError(f"{path}: more than one column {name!r}: keep the one that `dal ask` wrote")
    lines = [SheetLine(number, dict(zip(sheet.head, cells, strict=True))) for number, cells in sheet.lines]
    answered = [line for line in lines if line.label.strip()]
    columns = tuple(name for name in ("text", "text_pair") if name in sheet.head)
    reading = _Reading(session, correct, further)
    matches = RowMatcher(session, columns, drawn).of(answered)
    refused: list[tuple[SheetLine, str]] = []
    for line, match in zip(answered, matches, strict=True):
        before = len(reading.mistakes)
        reading.take(line, match)
        if len(reading.mistakes) > before:
            refused.append((line, reading.mistakes[-1].partition(": ")[2]))
    if partial:
        refused += _contradicted(reading, answered, matches, {line.number for line, _ in refused})
    else:
        reading.refuse_mistakes(path)
    empty = sum(any(cell.strip() for cell in line.cells.values()) for line in lines) - len(answered)
    notes = (*sheet.notes, *_notes(matches))
    rows, values = list(reading.answers), [value for value, _ in reading.answers.values()]
    absent = {name: value for name, (value, _) in reading.absent.items()}
    return Answers(rows, values, empty, notes, absent, tuple(sorted(refused, key=lambda each: each[0].number)))


def write_refused(path: Path, refused: Sequence[tuple[SheetLine, str]]) -> None:
    """Write lines with mistakes to a CSV file that can be corrected and read again, with what is wrong.

    The columns are those of the lines and a last one, why.
    """
    head = [name for name in refused[0][0].cells if name != "why"]
    lines: list[list[object]] = [[*head, "why"]]
    lines += [[*(original(line.cells[name]) for name in head), why] for line, why in refused]
    write_csv(path, as_csv(lines))


def _contradicted(
    reading: "_Reading", lines: Sequence[SheetLine], matches: Sequence[RowMatch], refused: Collection[int]
) -> Iterator[tuple[SheetLine, str]]:
    """Take back the answers that other lines contradict: nothing says which of them is right."""
    for line, match in zip(lines, matches, strict=True):
        key = match.absent if match.row is None else match.row
        if key in reading.contradicted and line.number not in refused:
            yield line, "another line has a different answer to this text"
    for key in reading.contradicted:
        if isinstance(key, str):
            reading.absent.pop(key, None)
        else:
            reading.answers.pop(key, None)


def check_given(
    path: Path, session: Session, given: Iterable[tuple[str, Answer, str]], *, correct: bool = False
) -> Answers:
    """Check answers that were read from a file of another form, as `read_answers` does with those of a sheet.

    Args:
        path: the file, for messages.
        session: session that queried the rows.
        given: id, answer and place in the file of each row; ids of the data, or of rows that were queried.
        correct: accept answers to rows that are not pending.

    Raises:
        AnswerError: lists rows that were not queried, and answers that contradict each other or a stored one.
    """
    reading = _Reading(session, correct)
    listed = list(given)
    rows = rows_by_id(session.pool, {name for name, _, _ in listed})
    for name, value, place in listed:
        if name in rows:
            reading.take_row(rows[name], value, place)
        else:
            reading.take_absent(name, value, place)
    reading.refuse_mistakes(path)
    values = [value for value, _ in reading.answers.values()]
    return Answers(list(reading.answers), values, 0, (), {name: value for name, (value, _) in reading.absent.items()})


def keep_absent(session: Session, absent: Mapping[str, Answer], *, who: str = "") -> int:
    """Store answers to rows that are no longer in the data, by id; return the number of new ones.

    They count if a row with that id is added again.
    """
    answers = {name: tuple(value) if isinstance(value, list) else value for name, value in absent.items()}
    new = [Stored(name, value, who) for name, value in answers.items() if session.store.answer_to(name) != value]
    if new:
        session.store.tell(new)
    return len(new)


def _notes(matches: Sequence[RowMatch]) -> Iterator[str]:
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

    def __init__(self, session: Session, correct: bool, further: str = "") -> None:
        self.session, self.correct, self.further = session, correct, further
        self.pending = set(session.pending.tolist())
        self.labels = SheetLabels(session.pool.classes, session.pool.multilabel)
        self.answers: dict[int, tuple[Answer, str]] = {}  # row -> answer and place; `absent` has the same by id
        self.absent: dict[str, tuple[Answer, str]] = {}
        self.mistakes: list[str] = []
        self.contradicted: set[int | str] = set()  # keys of `answers` and `absent`

    def take(self, line: SheetLine, match: RowMatch) -> None:
        """Add the answer of a line, or its mistake."""
        hint = len(self.mistakes) < _LISTED  # the search for a similar name is slow, and further ones are not shown
        place = f"line {line.number}"
        try:
            value = self.labels.read(line.label, hint=hint)
        except ValueError as error:
            self.mistakes.append(f"{place}: {error}")
            return
        if match.mistake:
            self.mistakes.append(f"{place}: {match.mistake}")
        elif match.row is None:
            self.take_absent(match.absent, value, place)
        else:
            self.take_row(match.row, value, place)

    def take_row(self, row: int, value: Answer, place: str) -> None:
        """Add an answer to a pool row, or its mistake."""
        self._put(self.answers, row, self.session.pool.ids[row], value, place, asked=row in self.pending)

    def take_absent(self, name: str, value: Answer, place: str) -> None:
        """Add an answer to a queried row that is no longer in the data, or its mistake."""
        self._put(self.absent, name, name, value, place, asked=True)

    def _put(
        self, answers: dict[Any, Any], key: int | str, name: str, value: Answer, place: str, *, asked: bool
    ) -> None:
        if key not in answers:
            if self._allowed(name, value, place, asked):
                answers[key] = (value, place)
            return
        before, first = answers[key]
        if before != value:
            self.contradicted.add(key)
            self.mistakes.append(f"{place}: {shown_answer(value)} contradicts {shown_answer(before)} on {first}")

    def _allowed(self, name: str, value: Answer, place: str, asked: bool) -> bool:
        """Whether the answer may be stored. A repetition of the stored answer is allowed and not stored again."""
        stored = self.session.store.answer_to(name)
        current = list(stored) if isinstance(stored, tuple) else stored
        if self.correct or current == value or (asked and current is None):
            return True
        if self.further and may_add(self.session.store.answers_by(name), self.further):
            return True
        row = f"the row {shortened(name)!r}"
        if current is None:
            self.mistakes.append(f"{place}: {row} was not asked (--correct accepts it anyway)")
        else:
            self.mistakes.append(
                f"{place}: {row} is answered {shown_answer(current)} already, not {shown_answer(value)} "
                "(--correct changes it)"
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
