"""Answers that nobody vouches for: weak labels, and what a machine said where a person answers. Never ground truth."""

import json
import sqlite3
import sys
import time
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

from dal.errors import AnswerError
from dal.store.events import Value, check_columns, check_figures, read_value
from dal.store.unread_answers import Unread

#: The name and source of what several machines say together: no word of its own.
MERGED = "merged"

SCHEMA = """
CREATE TABLE IF NOT EXISTS proposals (
    number INTEGER PRIMARY KEY AUTOINCREMENT,
    at REAL NOT NULL,                 -- seconds since 1970, UTC
    round INTEGER NOT NULL,
    row TEXT NOT NULL,                -- the row's id
    value TEXT NOT NULL,              -- a class name, or a list of them, as JSON
    who TEXT NOT NULL, source TEXT NOT NULL,
    weight REAL NOT NULL,             -- in training, 0 for none
    confidence REAL, seconds REAL, cost REAL
) STRICT
"""


@dataclass(frozen=True)
class Proposal:
    """What somebody or something says of a row, next to the answer that counts.

    Attributes:
        row: the row's id.
        value: a class name; a tuple of them when multi-label.
        who: the name of the model or person.
        source: what kind of answerer, such as "llm".
        weight: what it counts in training while the row has no answer, in the place of 1 for an answer; 0 is nothing.
        confidence: in [0, 1], None when unknown.
        seconds: how long it took; None when unknown.
        cost: in dollars; None when unknown.
    """

    row: str
    value: Value
    who: str = ""
    source: str = "llm"
    weight: float = 0.0
    confidence: float | None = None
    seconds: float | None = None
    cost: float | None = None

    def __post_init__(self) -> None:
        if not 0 <= self.weight <= 1:
            raise AnswerError(f"the weight of a proposal is a number from 0 to 1, got {self.weight}")


#: What may be said of a row next to the answers to it.
Word = TypeVar("Word", Proposal, Unread)


def append(connection: sqlite3.Connection, proposals: Sequence[Proposal], round: int) -> None:
    """Store them, within the transaction that is open."""
    at = time.time()
    lines = [
        (at, round, p.row, json.dumps(p.value, ensure_ascii=False), p.who, p.source, *_details(p)) for p in proposals
    ]
    connection.executemany(
        "INSERT INTO proposals (at, round, row, value, who, source, weight, confidence, seconds, cost)"
        " VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
        lines,
    )


def _details(proposal: Proposal) -> tuple[float | None, ...]:
    return proposal.weight, proposal.confidence, proposal.seconds, proposal.cost


COLUMNS = "at, round, row, value, who, source, weight, confidence, seconds, cost"


def read(line: Sequence[Any]) -> Proposal:
    """The proposal that a line of the store's table `proposals` holds, in the order of `COLUMNS`.

    Raises:
        ValueError: it cannot have been written by a label store; the message says why.
    """
    at, round, row, value, who, source, weight, *figures = line
    check_columns(at, round, row, who=who, source=source)
    check_figures(weight=weight)
    check_figures(**dict(zip(("confidence", "seconds", "cost"), figures, strict=True)))
    if weight is None or not 0 <= weight <= 1:
        raise ValueError(f"its weight is {weight}, not a number from 0 to 1")
    return Proposal(sys.intern(row), read_value(value), sys.intern(who), sys.intern(source), weight, *figures)


def latest(proposals: Iterable[Proposal]) -> dict[tuple[str, str], Proposal]:
    """(row, who) -> what this one said last of the row."""
    return {(proposal.row, proposal.who): proposal for proposal in proposals}


def apart(said: Iterable[Word], paid: Collection[tuple[str, str, str]]) -> list[Word]:
    """What was said next to the answers and is none of them: the last of each source and name on a row.

    What was said of a row that got an answer (or was declined) by the same source and name, with a cost, is that
    answer, and is paid once. What follows from the words of others (`MERGED`) is left out.

    Args:
        said: the proposals of the label store, or its answers that could not be read.
        paid: (row, who, source) of the answers and skips that have a cost: `dal.store.events.AnnotationTotals.paid`.
    """
    last = {(each.row, each.who, each.source): each for each in said if each.source != MERGED}
    return [each for key, each in last.items() if key not in paid] if paid else list(last.values())
