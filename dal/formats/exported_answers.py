"""Marks of exported answers, by which they are recognized when another program gives them back unchanged."""

import json
from collections.abc import Iterable
from hashlib import blake2b
from typing import Any

from dal.data.label_names import normalize
from dal.formats.corpus import CorpusAnswer, time_text
from dal.store.bounded_json import parse_json
from dal.store.events import Event
from dal.store.label_log import LabelLog
from dal.store.log_figures import all_answers

#: Key of `Event.seen` under which an imported answer keeps its provenance.
ORIGIN = "origin"

#: Person and time (seconds since 1970) of an answer. They identify it in the history of its row.
Origin = tuple[str, float | None]

#: Origin of the labels that came with the data.
DATA: Origin = ("", None)

# Numbers of annotations are far below, and JavaScript changes integers from 2^53 on.
_LOWEST, _END = 1 << 52, 1 << 53


def mark_of(row: str, answer: CorpusAnswer) -> int:
    """The mark of an exported answer: a number from 2^52 below 2^53, a hash of its row, person, time and classes.

    Example:
        >>> answer = CorpusAnswer(("mild",), who="ana", at=1764444302.25)
        >>> is_mark(mark_of("r1", answer)), mark_of("r1", answer) == mark_of("r2", answer)
        (True, False)
    """
    return _mark(row, (answer.who, answer.at), answer.classes)


def is_mark(value: Any) -> bool:
    """Whether a value of a file is in the range of marks."""
    return isinstance(value, int) and _LOWEST <= value < _END


def is_unchanged(mark: int, row: str, names: Iterable[str] | None, origins: Iterable[Origin]) -> bool:
    """Whether an answer with a mark is an exported one that nobody has changed since.

    Args:
        mark: mark in the file.
        row: row id.
        names: class names in the file, as they were at the time of the export; None for a declined row.
        origins: origins of all answers that the row ever had.
    """
    given = None if names is None else tuple(names)
    return any(_mark(row, origin, given) == mark for origin in origins)


def origins_of(log: LabelLog, row: str) -> list[Origin]:
    """Origins of all answers that a row ever had, also of those that were taken back or replaced."""
    return [(event.who or "", origin_time(event)) for event in all_answers(log, row)]


def origin_time(event: Event) -> float | None:
    """Time at which an answer was given: of an imported one that in its file; None if that is unknown."""
    seen = None if event.seen is None else parse_json(event.seen)
    origin = seen.get(ORIGIN) if isinstance(seen, dict) else None
    if not isinstance(origin, dict):
        return event.at
    at = origin.get("at")
    return float(at) if isinstance(at, int | float) and not isinstance(at, bool) else None


def _mark(row: str, origin: Origin, names: Iterable[str] | None) -> int:
    who, at = origin
    chosen = None if names is None else sorted(map(normalize, names))
    content = json.dumps([row, who, time_text(at), chosen]).encode()
    return _LOWEST | int.from_bytes(blake2b(content, digest_size=7).digest()) & (_LOWEST - 1)
