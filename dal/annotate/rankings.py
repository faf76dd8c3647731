"""Rankings of the model: stored with the batches that they ask, and read back for hints and figures."""

import threading
import time
from collections import OrderedDict
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from dal.annotate.service_contract import Reply
from dal.store.class_table import ClassTable
from dal.store.events import shown_strategy
from dal.store.label_log import LabelLog
from dal.store.log_figures import StoredBatch, answered_until, latest_batch

#: Detail of a batch that holds the event up to which the model knew the answers. Only rankings have it.
EVENT = "event"
#: Detail of a batch of rows in random order.
TOP_UP = "top_up"
#: Strategy of a batch of a row that a person found, and that others are to answer, too.
FOUND_BY_SEARCH = "Search"

_CACHED = 8  # batches whose details are kept in memory


@dataclass(frozen=True)
class Ranking:
    """A ranking that was received.

    Attributes:
        event: event up to which the model knew the answers.
        strategy: name of the strategy.
        reason: why the strategy selected as it did.
        at: when it was received, in seconds since 1970.
        stop: verdict of the stopping rule, `{"stop", "text"}`; None without a rule.
        figures: figures about the answers, by name.
    """

    event: int
    strategy: str
    reason: str
    at: float
    stop: Reply | None = None
    figures: Mapping[str, Any] = field(default_factory=dict)

    @property
    def recall(self) -> str:
        """The recall of the candidates as it was measured last, in words; empty if it was not."""
        said = self.figures.get("recall")
        return said if isinstance(said, str) else ""


class Rankings:
    """The rankings in a log.

    Args:
        log: questions and answers.

    Attributes:
        latest: the ranking received last; None if there is none.
    """

    def __init__(self, log: LabelLog) -> None:
        self._log = log
        self._lock = threading.Lock()
        self._cache: OrderedDict[int, StoredBatch] = OrderedDict()
        stored = latest_batch(log, EVENT)
        self.latest = None if stored is None else _ranking(stored)

    def receive(self, message: Mapping[str, Any], wanted: Callable[[str], int], *, at: float | None = None) -> int:
        """Store a ranking of the trainer, which replaces the questions that nobody has claimed, in one transaction.

        What the model thinks of each row is stored with the batch: it was said before the answer, also after a restart.

        Args:
            message: the trainer's message, with `event`, `strategy`, `reason`, `rows`, `stop`, `figures` and `details`.
            wanted: number of people who are to answer a row.
            at: time in seconds since 1970; None for now.

        Returns:
            Number of rows asked.
        """
        now, event = time.time() if at is None else at, int(message[EVENT])
        given = {str(row["id"]): row for row in message.get("rows") or []}
        table = self._log.classes
        details, figures = dict(message.get("details") or {}), dict(message.get("figures") or {})
        if self.latest is not None and figures.get("recall") == "":  # not measured this time: the last one remains
            figures["recall"] = self.latest.recall
        details |= {
            EVENT: event,
            "why": str(message.get("reason") or ""),
            "received": now,
            "labels": figures["labels"] if "labels" in figures else answered_until(self._log, event),
            "stop": message.get("stop"),
            "figures": figures,
            "rows": {id: _hint(row, table, event) for id, row in given.items()},
            # Rows that somebody was reading already: what the model thinks of them was said before their answer, too.
            "kept": {str(row["id"]): _hint(row, table, event) for row in message.get("kept") or []},
        }
        scores = [row.get("score") for row in given.values()]
        asked = 0
        if given:
            asked, _ = self._log.rank(
                list(given),
                scores=None if None in scores else scores,
                strategy=str(message.get("strategy") or ""),
                details=details,
                wanted={id: people for id in given if (people := wanted(id)) > 1},
                at=now,
            )
        self.latest = _ranking(StoredBatch(0, str(message.get("strategy") or ""), details))
        return asked

    def batch(self, round: int) -> StoredBatch:
        """The batch of a round, from 1."""
        with self._lock:
            found = self._cache.get(round)
        if found is None:
            found = StoredBatch(round, *self._log.batch_details(round))
            with self._lock:  # threads that read other batches must not remove it meanwhile
                self._cache[round] = found
                if len(self._cache) > _CACHED:
                    self._cache.popitem(last=False)
        return found

    def is_top_up(self, round: int) -> bool:
        """Whether the rows of a round were taken in random order, because no ranking was ready; False for round 0."""
        return round > 0 and self.batch(round).details.get(TOP_UP) is True

    def hint(self, row: str, round: int) -> Mapping[str, Any]:
        """What was stored about a row with its batch: "why", "guesses" (class ids with probabilities), "near" (ids)."""
        rows = self.batch(round).details.get("rows") if round > 0 else None
        found = rows.get(row) if isinstance(rows, dict) else None
        return found if isinstance(found, dict) else {}


def _hint(row: Mapping[str, Any], table: ClassTable, event: int) -> Reply:
    """What a ranking says about a row, with ids for the names of classes, which may change."""
    guesses = [(table.id_at(str(name), event), float(p)) for name, p in row.get("guesses") or []]
    hint: Reply = {
        "why": str(row.get("why") or ""),
        "guesses": [[number, round(p, 4)] for number, p in guesses if number is not None],
        "near": [str(each[0]) for each in row.get("near") or []],
    }
    if isinstance(row.get("read_up_to"), int):
        hint["read_up_to"] = row["read_up_to"]
    return hint


def _ranking(batch: StoredBatch) -> Ranking | None:
    """The ranking of a batch; None if its details are not those of one, as in a log from a stranger."""
    details = batch.details
    stop, figures, received = details.get("stop"), details.get("figures"), details.get("received") or 0.0
    if type(details[EVENT]) is not int or not isinstance(received, int | float):
        return None
    return Ranking(
        event=details[EVENT],
        strategy=shown_strategy(batch.strategy, details),
        reason=str(details.get("why") or ""),
        at=float(received),
        stop=stop if isinstance(stop, dict) else None,
        figures=figures if isinstance(figures, dict) else {},
    )
