"""Proposed labels: weak labels and model predictions, stored next to the answers and never used as ground truth."""

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

#: Name and source of a proposal aggregated from several models; it is not an annotation of its own.
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
    """A proposed label of a row.

    Attributes:
        row: row id.
        value: class name; a tuple of names when multi-label.
        who: name of the model or annotator.
        source: kind of annotator, such as "llm".
        weight: sample weight in [0, 1] while the row has no answer, where an answer has 1; 0 for not trained on.
        confidence: confidence in [0, 1]; None if unknown.
        seconds: time spent on the row; None if unknown.
        cost: cost in dollars; None if unknown.
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


#: Records about a row that are not answers.
Word = TypeVar("Word", Proposal, Unread)


def append(connection: sqlite3.Connection, proposals: Sequence[Proposal], round: int) -> None:
    """Store proposals within the open transaction."""
    at = time.time()
    lines = [
        (
            at,
            round,
            proposal.row,
            json.dumps(proposal.value, ensure_ascii=False),
            proposal.who,
            proposal.source,
            proposal.weight,
            proposal.confidence,
            proposal.seconds,
            proposal.cost,
        )
        for proposal in proposals
    ]
    connection.executemany(
        "INSERT INTO proposals (at, round, row, value, who, source, weight, confidence, seconds, cost)"
        " VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
        lines,
    )


COLUMNS = "at, round, row, value, who, source, weight, confidence, seconds, cost"


def read(line: Sequence[Any]) -> Proposal:
    """Convert a row of the table `proposals`, in the order of `COLUMNS`, to a proposal.

    Raises:
        ValueError: a value cannot have been written by a label store.
    """
    at, round, row, value, who, source, weight, *figures = line
    check_columns(at, round, row, who=who, source=source)
    check_figures(weight=weight)
    check_figures(**dict(zip(("confidence", "seconds", "cost"), figures, strict=True)))
    if weight is None or not 0 <= weight <= 1:
        raise ValueError(f"its weight is {weight}, not a number from 0 to 1")
    return Proposal(sys.intern(row), read_value(value), sys.intern(who), sys.intern(source), weight, *figures)


def latest(proposals: Iterable[Proposal]) -> dict[tuple[str, str], Proposal]:
    """The last proposal of each annotator for each row: (row, who) -> proposal."""
    return {(proposal.row, proposal.who): proposal for proposal in proposals}


def unbilled(records: Iterable[Word], paid: Collection[tuple[str, str, str]]) -> list[Word]:
    """The records whose cost is not counted with an answer: the last of each row, name and source.

    A record is left out if the same annotator gave an answer or skip with a cost for the row, since that is the same
    work. Aggregated proposals (`MERGED`) are left out too.

    Args:
        records: proposals of a label store, or its unparsed responses.
        paid: (row, who, source) of the answers and skips with a cost: `dal.store.log_state.AnnotationTotals.paid`.
    """
    last = {(each.row, each.who, each.source): each for each in records if each.source != MERGED}
    return [each for key, each in last.items() if key not in paid] if paid else list(last.values())
