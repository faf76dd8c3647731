"""Figures of a label log that are computed by SQL, so that no process holds its events."""

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import Any

from dal.store import events, leases
from dal.store.events import Event
from dal.store.independent_answers import independent_answers
from dal.store.label_log import LabelLog
from dal.store.label_reader import STANDS
from dal.store.row_state import deferred_place

_PAGE = 200  # rows or batches read at a time


@dataclass(frozen=True)
class PersonWork:
    """Work of one person.

    Attributes:
        who: name.
        rows: number of rows with a current answer of the person.
        seconds: time spent on answers and skips, in seconds, also on those retracted later.
    """

    who: str
    rows: int
    seconds: float


@dataclass(frozen=True)
class StoredBatch:
    """A queried batch without its rows: its round, its strategy and its details."""

    round: int
    strategy: str
    details: Mapping[str, Any]


def has_key(log: LabelLog, key: str) -> bool:
    """Whether the log holds the event of a request."""
    return bool(_one(log, "SELECT EXISTS (SELECT 1 FROM events WHERE key = ?)", key))


def keyed_answers(log: LabelLog, row: str, prefix: str) -> list[Event]:
    """Answers and skips to a row that were not retracted, whose keys begin with a text; oldest first."""
    query = (
        f"SELECT {events.COLUMNS} FROM events AS e WHERE row = ? AND kind IN ('answered', 'skipped') AND "
        f"substr(key, 1, length(?2)) = ?2 AND {STANDS} ORDER BY event"
    )
    return [events.read(line) for line in _all(log, query, row, prefix)]


def all_answers(log: LabelLog, row: str) -> list[Event]:
    """Answers and skips that a row ever had, also those that were replaced or retracted; oldest first."""
    query = f"SELECT {events.COLUMNS} FROM events WHERE row = ? AND kind IN ('answered', 'skipped') ORDER BY event"
    return [events.read(line) for line in _all(log, query, row)]


def answers_since(log: LabelLog, event: int, upto: int | None = None) -> int:
    """Number of answers, skips and retractions of rows after an event, up to another one."""
    kinds = "('answered', 'skipped', 'retracted')"
    query = f"SELECT count(*) FROM events WHERE event > ? AND event <= ? AND kind IN {kinds} AND row <> ''"
    return int(_one(log, query, event, 1 << 62 if upto is None else upto))


class AnswersSince:
    """`answers_since` for one event after another, which counts each part of the log once.

    Without a trainer the last ranking may be hundreds of thousands of events ago.

    Args:
        log: the log.
    """

    def __init__(self, log: LabelLog) -> None:
        self._log = log
        self._counted = -1, 0, 0  # first event, last event, and the number of answers between them

    def count(self, event: int) -> int:
        """Number of answers, skips and retractions of rows after an event."""
        first, last, n = self._counted
        if first != event:
            last, n = event, 0
        now = self._log.last_event
        n += answers_since(self._log, last, now)
        self._counted = event, now, n
        return n


def classes_changed_since(log: LabelLog, event: int) -> bool:
    """Whether a class or the rows of the pool were changed after an event."""
    query = "SELECT EXISTS (SELECT 1 FROM events WHERE event > ? AND (row = '' OR kind = 'retired'))"
    return bool(_one(log, query, event))


def answered_until(log: LabelLog, event: int) -> int:
    """Number of rows whose standing answer is not later than an event."""
    return int(_one(log, "SELECT count(*) FROM standing WHERE state = 'answered' AND event <= ?", event))


def has_answered(log: LabelLog, row: str, who: str) -> bool:
    """Whether the current answer of a person to a row names classes, whether or not they were retired since."""
    query = (
        "SELECT kind FROM events AS e WHERE row = ? AND +who = ? AND kind IN ('answered', 'skipped') AND "
        f"source IS NOT 'import' AND {STANDS} ORDER BY event DESC LIMIT 1"
    )
    return _all(log, query, row, who) == [("answered",)]


def work_of(log: LabelLog, who: str | None = None) -> list[PersonWork]:
    """Work of each person, or of one, by name. Imported answers are left out."""
    # Rows are not grouped, which would sort all answers: for each, the index tells whether a later one replaces it.
    later = (
        "SELECT 1 FROM events AS later WHERE later.row = e.row AND later.event > e.event AND "
        "coalesce(later.who, '') = coalesce(e.who, '') AND later.kind IN ('answered', 'skipped') AND "
        f"later.source IS NOT 'import' AND {STANDS.replace('e.event', 'later.event')}"
    )
    query = (
        f"SELECT coalesce(who, ''), sum(kind = 'answered' AND {STANDS} AND NOT EXISTS ({later})), total(seconds) "
        "FROM events AS e WHERE kind IN ('answered', 'skipped') AND source IS NOT 'import' "
        f"{'' if who is None else 'AND who = ? '}GROUP BY 1 ORDER BY 1"
    )
    return [PersonWork(*line) for line in _all(log, query, *(() if who is None else (who,)))]


def seconds_worked(log: LabelLog) -> float:
    """Seconds of all people on answers and skips, imported ones aside."""
    query = "SELECT total(seconds) FROM events WHERE kind IN ('answered', 'skipped') AND source IS NOT 'import'"
    return float(_one(log, query))


def names_in(log: LabelLog) -> set[str]:
    """Names of everybody who has done anything in a log, also of models, and of those who have a login."""
    lines = _all(log, "SELECT DISTINCT who FROM events WHERE who <> ''")
    return {who for (who,) in lines} | {person.who for person in log.people()}


def answers_by_day(log: LabelLog) -> list[tuple[str, int]]:
    """Day in the local time zone, as YYYY-MM-DD, and number of answers on it.

    A person's answer to a row counts once, on the day of its last change. Retracted and imported answers are left out.
    """
    query = (
        "SELECT day, count(*) FROM (SELECT date(max(at), 'unixepoch', 'localtime') AS day FROM events AS e "
        f"WHERE kind = 'answered' AND source IS NOT 'import' AND {STANDS} GROUP BY row, who) GROUP BY day ORDER BY day"
    )
    return [(str(day), int(n)) for day, n in _all(log, query)]


def free_rows(log: LabelLog, who: str, at: float, limit: int) -> int:
    """Number of pending rows, at most `limit`, that a person could claim and that nobody deferred.

    Args:
        log: the log.
        who: person.
        at: time in seconds since 1970 at which leases must not have expired.
        limit: largest number to count.
    """
    with log._reading() as connection:  # under the lock, since the log keeps the first place
        if log._last_event(connection) != log._written:  # another process may have put rows to earlier places
            log._places.forget()
        first = log._places.first(connection, who)
        return leases.free(connection, who, limit, now=at, first=first, end=deferred_place(0))


def known_rows(log: LabelLog, rows: Sequence[str]) -> set[str]:
    """Those of the rows that are not new: asked, answered, declined, disputed or retired."""
    query = "SELECT row FROM standing WHERE row IN (SELECT value FROM json_each(?)) AND state <> 'new'"
    return {row for (row,) in _all(log, query, json.dumps(list(rows)))}


def rows_that_stay(log: LabelLog) -> list[str]:
    """Ids of the pending rows that a new ranking leaves in the queue (see `LabelLog.rank`), leased or not.

    Some but not all wanted people have answered them, somebody deferred them, or an answer to them was retracted.
    """
    query = (
        "SELECT row FROM standing WHERE place IS NOT NULL AND (people > 0 OR place NOT BETWEEN 0 AND ?) ORDER BY row"
    )
    return [row for (row,) in _all(log, query, deferred_place(0) - 1)]


def rounds_of(log: LabelLog, rows: Sequence[str]) -> dict[str, int]:
    """Id -> round of the latest batch in which the row was queried; rows that were not are left out."""
    query = (
        "SELECT row, max(event), round FROM events WHERE row IN (SELECT value FROM json_each(?)) AND kind = 'asked' "
        "GROUP BY row"
    )
    return {row: int(round) for row, _, round in _all(log, query, json.dumps(list(rows)))}


def recent_answers(log: LabelLog, who: str, n: int) -> list[tuple[float, float | None]]:
    """Time and seconds of the latest `n` answers and skips of a person, newest first, also of retracted ones."""
    query = (
        "SELECT at, seconds FROM events WHERE who = ? AND kind IN ('answered', 'skipped') ORDER BY event DESC LIMIT ?"
    )
    return [(float(at), seconds) for at, seconds in _all(log, query, who, n)]


def latest_batch(log: LabelLog, detail: str) -> StoredBatch | None:
    """The latest batch whose details have a name; None if there is none."""
    query = "SELECT round FROM batches WHERE json_extract(details, ?) IS NOT NULL ORDER BY round DESC LIMIT 1"
    found = _all(log, query, f"$.{detail}")
    return StoredBatch(found[0][0], *log.batch_details(found[0][0])) if found else None


def batches_with(
    log: LabelLog, detail: str, *, latest: int | None = None, spread: int | None = None
) -> Iterator[StoredBatch]:
    """The batches whose details have a name, oldest first, one after the other.

    Args:
        log: the log.
        detail: the name.
        latest: largest number of batches, of which the latest are taken; None for all.
        spread: largest number of batches, evenly spread over the log, with the latest among them; None for all.
    """
    query = "SELECT round FROM batches WHERE json_extract(details, ?) IS NOT NULL ORDER BY round DESC LIMIT ?"
    rounds = [round for (round,) in _all(log, query, f"$.{detail}", -1 if latest is None else latest)]
    step = 1 if spread is None else -(-len(rounds) // spread) or 1
    for round in reversed(rounds[::step]):
        yield StoredBatch(round, *log.batch_details(round))


def standing_classes(log: LabelLog, rows: Sequence[str]) -> dict[str, tuple[int, frozenset[int | str]]]:
    """Event of the answer that stands for each row, and the ids of its classes: names outside the table of classes.

    Rows without an answer, or with a skip, are left out. Merged classes have the id of their target.
    """
    query = (
        "SELECT row, event, classes FROM standing WHERE row IN (SELECT value FROM json_each(?)) AND classes IS NOT NULL"
    )
    table = log.classes
    found: dict[str, tuple[int, frozenset[int | str]]] = {}
    for row, event, text in _all(log, query, json.dumps(list(rows))):
        finals = (table.final(each) if isinstance(each, int) else each for each in json.loads(text))
        found[row] = event, frozenset(each if isinstance(each, str) else each.id for each in finals if each is not None)
    return found


def several_answers(log: LabelLog) -> Iterator[list[Event]]:
    """Independent answers of people to each row with at least two of them, without skips and adjudications.

    See `independent_answers`. Events have the current names of their classes; answers of retired classes are left out.
    """
    after = ""
    while rows := _all(log, "SELECT row FROM standing WHERE people > 1 AND row > ? ORDER BY row LIMIT ?", after, _PAGE):
        query = (
            f"SELECT {events.COLUMNS} FROM events WHERE row IN (SELECT value FROM json_each(?)) AND "
            "kind IN ('asked', 'withdrawn', 'answered', 'skipped', 'retracted') ORDER BY row, event"
        )
        lines = _all(log, query, json.dumps([row for (row,) in rows]))
        for _, of_row in groupby((events.read(line) for line in lines), key=lambda event: event.row):
            answers = [event for event in independent_answers(list(of_row)) if event.kind == "answered"]
            counted = [log.renamed(event) for event in answers if log.reading(event) is not None]
            if len(counted) > 1:
                yield counted
        after = rows[-1][0]


def _all(log: LabelLog, query: str, *values: Any) -> list[tuple[Any, ...]]:
    return log._query(query, values)


def _one(log: LabelLog, query: str, *values: Any) -> Any:
    return _all(log, query, *values)[0][0]
