"""The labeled corpus: rows with every person's answer, and the records that files hold of them."""

import json
import math
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from dal.data.label_cells import cell_of
from dal.errors import ConfigError, DataError, shortened, shown
from dal.store.atomic_files import named

ANSWERED, DECLINED, DISPUTED = "answered", "declined", "disputed"
#: States of a row: with an answer, declined, with answers that contradict each other, asked, never asked, taken out.
STATES = (ANSWERED, DECLINED, DISPUTED, "pending", "new", "retired")

#: Columns of every corpus file, in this order; `text_pair` only where there are pairs.
COLUMNS: tuple[str, ...] = ("id", "text", "text_pair", "label", "state", "who", "source", "at", "seconds")
COLUMNS += ("confidence", "round", "strategy", "answers", "notes")

#: Suffixes of corpus files.
SUFFIXES = (".csv", ".jsonl", ".parquet")

#: Prefix of the name of a foreign column that would otherwise have the name of one of `COLUMNS`.
FOREIGN = "fields."


def check_suffix(path: Path) -> None:
    """Raise ConfigError unless the suffix is one of `SUFFIXES`."""
    if path.suffix.lower() not in SUFFIXES:
        raise ConfigError(f"{named(path)}: the suffix decides the format, and it must be one of {', '.join(SUFFIXES)}")


@dataclass(frozen=True)
class CorpusAnswer:
    """The current answer of one person or model to a row.

    Attributes:
        classes: class names, empty for none of them; None when declined.
        who: name of the person or model.
        source: kind of annotator, such as "person", "llm", "import" or "adjudicated"; "data" for a label that came with
            the data.
        at: time in seconds since 1970, UTC; None if unknown.
        seconds: time spent on the row; None if unknown.
        confidence: confidence of the annotator, 0 to 1; None if unknown.
        round: batch in which the row was asked, from 1; None for a row that was not asked.
        strategy: name of the strategy that selected the row; empty if unknown.
        seen: what was shown with the row, JSON values by name.
        stands: whether this is the answer that the row is trained with.
    """

    classes: tuple[str, ...] | None
    who: str = ""
    source: str = "person"
    at: float | None = None
    seconds: float | None = None
    confidence: float | None = None
    round: int | None = None
    strategy: str = ""
    seen: Mapping[str, Any] = field(default_factory=dict)
    stands: bool = False


@dataclass(frozen=True)
class CorpusNote:
    """A person's note about a row."""

    text: str
    who: str = ""


@dataclass(frozen=True)
class CorpusRow:
    """A row of the corpus.

    Attributes:
        id: row id.
        text: text of the row.
        pair: second text of a sentence pair, else None.
        state: one of `STATES`.
        answers: current answers, one per person, in the order in which they were given.
        notes: notes about the row, in order.
        fields: further columns of the user's file, JSON values by name.
    """

    id: str
    text: str
    pair: str | None = None
    state: str = "new"
    answers: tuple[CorpusAnswer, ...] = ()
    notes: tuple[CorpusNote, ...] = ()
    fields: Mapping[str, Any] = field(default_factory=dict)

    @property
    def answer(self) -> CorpusAnswer | None:
        """The answer that stands, which may be a declined one; None without one."""
        return next((answer for answer in self.answers if answer.stands), None)


@dataclass(frozen=True)
class Corpus:
    """Rows of a corpus, in the order of the data.

    Attributes:
        rows: the rows.
        classes: class names, in the order of the codes.
        multilabel: whether a row may have several classes.
    """

    rows: Sequence[CorpusRow]
    classes: tuple[str, ...]
    multilabel: bool = False

    @property
    def counts(self) -> Counter[str]:
        """Number of rows by state."""
        return Counter(row.state for row in self.rows)

    @property
    def foreign(self) -> list[str]:
        """Names of the foreign columns, in the order in which they first occur."""
        return list(dict.fromkeys(name for row in self.rows for name in row.fields))

    def only(self, *states: str) -> "Corpus":
        """The rows in one of the states."""
        return Corpus([row for row in self.rows if row.state in states], self.classes, self.multilabel)


# -- records ---------------------------------------------------------------------------------------------------------


def columns_of(corpus: Corpus) -> list[str]:
    """Columns of a file of the corpus: `COLUMNS`, then the foreign ones under the names that `written_name` gives."""
    pairs = any(row.pair is not None for row in corpus.rows)
    own = [name for name in COLUMNS if pairs or name != "text_pair"]
    return [*own, *map(written_name, corpus.foreign)]


def written_name(foreign: str) -> str:
    """Name of a foreign column in a corpus file. `foreign_name` is its inverse.

    Example:
        >>> written_name("year"), written_name("source"), foreign_name("fields.source")
        ('year', 'fields.source', 'source')
    """
    taken = foreign.strip().lower() in COLUMNS  # readers of CSV files ignore case and spaces
    return FOREIGN + foreign if taken or foreign.startswith(FOREIGN) else foreign


def foreign_name(column: str) -> str:
    """Name in the user's file of a column of a corpus file."""
    return column.removeprefix(FOREIGN)


def record(row: CorpusRow, multilabel: bool) -> dict[str, Any]:
    """The values of `COLUMNS` for a row, as JSON values. The columns from who to strategy are of the standing answer.

    `label` is a class name, or a list of them when multi-label; None where no answer stands or it was declined.
    """
    answer = row.answer
    values: dict[str, Any] = dict.fromkeys(COLUMNS)
    values |= {"id": row.id, "text": row.text, "text_pair": row.pair, "state": row.state}
    values |= {"answers": [_written(each) for each in row.answers]}
    values |= {"notes": [_compact({"text": note.text, "who": note.who}) for note in row.notes]}
    if answer is not None:
        values |= {name: getattr(answer, name) for name in ("who", "source", "seconds", "confidence", "round")}
        values |= {"at": time_text(answer.at), "strategy": answer.strategy}
        if answer.classes is not None:
            values["label"] = list(answer.classes) if multilabel else answer.classes[0]
    return values


def label_cell(row: CorpusRow, corpus: Corpus) -> str:
    """The label as a cell: a class name, or when multi-label names separated by bars, `none` for no class."""
    answer = row.answer
    if answer is None or answer.classes is None:
        return ""
    return cell_of(answer.classes if corpus.multilabel else answer.classes[0], corpus.classes)


def _written(answer: CorpusAnswer) -> dict[str, Any]:
    values = {name: getattr(answer, name) for name in ("who", "source", "seconds", "confidence", "round", "strategy")}
    values |= {"at": time_text(answer.at), "seen": dict(answer.seen), "stands": answer.stands}
    label = {"declined": True} if answer.classes is None else {"classes": list(answer.classes)}
    return _compact(values) | label


def _compact(values: Mapping[str, Any]) -> dict[str, Any]:
    """The values without those that are absent."""
    return {name: value for name, value in values.items() if value is not None and value != "" and value != {}}


def json_text(value: Any) -> str:
    """JSON text of a value: keys sorted, no spaces, numbers that JSON lacks as null."""
    return json.dumps(_finite(value), ensure_ascii=False, sort_keys=True, separators=(",", ":"), allow_nan=False)


def _finite(value: Any) -> Any:
    if isinstance(value, float) and not math.isfinite(value):
        return None
    if isinstance(value, Mapping):
        return {str(name): _finite(inner) for name, inner in value.items()}
    return [_finite(inner) for inner in value] if isinstance(value, list | tuple) else value


def plain_value(value: Any) -> Any:
    """A foreign value as JSON value: dates in ISO form, other types as text."""
    if value is None or isinstance(value, str | bool | int | float):
        return _finite(value)
    if isinstance(value, Mapping):
        return {str(name): plain_value(inner) for name, inner in value.items()}
    if isinstance(value, list | tuple):
        return [plain_value(inner) for inner in value]
    return value.isoformat() if hasattr(value, "isoformat") else str(value)


# -- reading records -------------------------------------------------------------------------------------------------


def row_of(record: Mapping[str, Any], fields: Mapping[str, Any]) -> CorpusRow:
    """The row of a record; inverse of `record`. The columns of the standing answer are not read.

    Raises:
        ValueError: a value cannot have been written by `record`; the message gives the reason.
    """
    answers = tuple(_answer(each) for each in _objects(record, "answers"))
    notes = tuple(CorpusNote(_text(each, "text"), _text(each, "who", "")) for each in _objects(record, "notes"))
    state = record.get("state")
    if state not in STATES:
        raise ValueError(f"state is {shown(state)}, not one of {', '.join(STATES)}")
    standing = [answer for answer in answers if answer.stands]
    if len(standing) != (state in (ANSWERED, DECLINED)) or any(
        (answer.classes is None) != (state == DECLINED) for answer in standing
    ):
        raise ValueError(f"state is {state}, which does not agree with the answers that stand ({len(standing)})")
    pair = record.get("text_pair")
    pair = None if pair is None else _text(record, "text_pair")
    return CorpusRow(_text(record, "id"), _text(record, "text"), pair, state, answers, notes, fields)


def check_label(row: CorpusRow, label: Any, expected: Any) -> None:
    """Check that the label of a record is the one of its answers.

    Raises:
        ValueError: the label was changed.
    """
    if label != expected:
        raise ValueError(
            f"label is {shown(label)}, and the answer that stands in the column answers is {shown(expected)}: store "
            "changed labels with dal tell, or restore the cell"
        )


def _answer(values: Mapping[str, Any]) -> CorpusAnswer:
    classes = None
    if not values.get("declined"):
        names = values.get("classes")
        if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
            raise ValueError(f"the classes of an answer are {shown(names)}, not a list of names")
        classes = tuple(names)
    seen = values.get("seen") or {}
    if not isinstance(seen, Mapping):
        raise ValueError(f"seen is {shown(seen)}, not an object")
    number = values.get("round")
    if number is not None and (not isinstance(number, int) or isinstance(number, bool) or not 1 <= number < 2**31):
        raise ValueError(f"round is {shown(number)}, not a number from 1")
    return CorpusAnswer(
        classes,
        who=_text(values, "who", ""),
        source=_text(values, "source", ""),
        at=_time(values),
        seconds=_figure(values, "seconds", math.inf),
        confidence=_figure(values, "confidence", 1.0),
        round=number,
        strategy=_text(values, "strategy", ""),
        seen=seen,
        stands=values.get("stands") is True,
    )


def _objects(record: Mapping[str, Any], name: str) -> Iterable[Mapping[str, Any]]:
    given = record.get(name)
    if not isinstance(given, list) or not all(isinstance(each, Mapping) for each in given):
        raise ValueError(f"{name} is {shown(given)}, not a list of objects")
    return given


def _text(values: Mapping[str, Any], name: str, default: str | None = None) -> str:
    text = values.get(name)
    text = default if text is None else text
    if not isinstance(text, str):
        raise ValueError(f"{name} is {shown(text)}, not text")
    return text


def _figure(values: Mapping[str, Any], name: str, most: float) -> float | None:
    figure = values.get(name)
    if figure is None:
        return None
    if isinstance(figure, bool) or not isinstance(figure, int | float):
        raise ValueError(f"{name} is {shown(figure)}, not a number")
    if not (0 <= figure <= most and abs(figure) < 1e12):  # NaN is not
        raise ValueError(
            f"{name} is {shown(figure)}, not a number from 0" + ("" if most == math.inf else f" to {most:g}")
        )
    return figure


# -- times -----------------------------------------------------------------------------------------------------------


def time_text(at: float | None) -> str | None:
    """A time in ISO form, UTC, with microseconds; None for None.

    Example:
        >>> time_text(1764444302.25)
        '2025-11-29T19:25:02.250000Z'

    Raises:
        DataError: the time is not between the years 1 and 9999.
    """
    if at is None:
        return None
    try:
        return datetime.fromtimestamp(at, UTC).replace(tzinfo=None).isoformat(timespec="microseconds") + "Z"
    except (OverflowError, OSError, ValueError):
        raise DataError(f"an answer was given {shortened(str(at))} seconds after 1970, which is not a time") from None


def _time(values: Mapping[str, Any]) -> float | None:
    text = values.get("at")
    if text is None:
        return None
    try:
        return seconds_of(text)
    except ValueError:
        raise ValueError(f"at is {shown(text)}, not a time such as 2025-11-29T19:25:02.250000Z") from None


def seconds_of(text: Any) -> float:
    """Seconds since 1970 of a time in ISO form; without a time zone it is UTC.

    Raises:
        ValueError: this is not such a time.
    """
    if not isinstance(text, str):
        raise ValueError(f"{shown(text)} is not text")
    moment = datetime.fromisoformat(text)
    at = (moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp()
    try:
        time_text(at)
    except DataError:  # in another time zone it is of the year 0 or 10000
        raise ValueError(f"{shown(text)} is not between the years 1 and 9999") from None
    return at
