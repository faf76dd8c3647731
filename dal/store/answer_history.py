"""History of answers: those that people have given and not replaced, newest first, found by filters."""

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from dal.store.events import Event, Value, read_value
from dal.store.label_database import Access
from dal.store.label_reader import GIVEN, SELECT, LabelReader

_PAGE = 500  # answers that are read together
_SPAN = 20_000  # events that are searched together: the latest answers are found without reading all

# Not replaced by a later answer of the same person.
_LATEST = (
    "NOT EXISTS (SELECT 1 FROM events AS n WHERE n.row = e.row AND n.event > e.event AND n.who IS e.who AND "
    "n.kind IN ('answered', 'skipped') AND NOT EXISTS (SELECT 1 FROM events AS q WHERE q.retracts = n.event))"
)


class AnswerHistory(LabelReader):
    """The current answers in a log.

    Args:
        path, access, upto: as in `LabelReader`.
    """

    def __init__(self, path: Path | str | None, *, access: Access = "write", upto: int | None = None) -> None:
        self._values: dict[str, Value] = {}  # the values that answers have, by their stored text
        self._values_event = 0  # last event whose value is among them
        super().__init__(path, access=access, upto=upto)

    def history(
        self,
        *,
        who: str | None = None,
        class_id: int | None = None,
        since: float | None = None,
        until: float | None = None,
        rows: Sequence[str] | None = None,
        before: int | None = None,
        visible: Callable[[Event], bool] = lambda event: True,
        limit: int = 50,
    ) -> list[Event]:
        """Current answers and skips of people, newest first, with the current names of their classes.

        Args:
            who: person; None for all.
            class_id: class that the answer has today; None for all.
            since, until: limits of the time of the answer, in seconds since 1970.
            rows: row ids; None for all.
            before: number of an event; only earlier ones are returned.
            visible: whether an answer may be returned.
            limit: maximum number of answers.
        """
        conditions, values = [GIVEN, _LATEST], list[Any]()
        for condition, value in (("who = ?", who), ("at >= ?", since), ("at < ?", until)):
            if value is not None:
                conditions.append(condition)
                values.append(value)
        texts = None if class_id is None else self._values_with(class_id)
        for condition, some in (("row IN", rows), ("value IN", texts)):
            if some is not None:
                conditions.append(f"{condition} (SELECT value FROM json_each(?))")
                values.append(json.dumps(list(some)))
        query = f"{SELECT} WHERE {' AND '.join(conditions)} AND event >= ? AND event < ? ORDER BY event DESC LIMIT ?"
        last = min(self.last_event + 1, 1 << 62 if before is None else before)
        # Few rows are found by their index, in whatever part of the log.
        span = last if rows is not None else _SPAN
        found: list[Event] = []
        first = last
        while len(found) < limit and last > 1:
            if first >= last:
                first = max(1, last - span)
            page = min(_PAGE, limit) if class_id is None else _PAGE
            lines = self._query(query, (*values, first, last, page))
            with self._reading():  # with the changes of classes up to now
                given = [self.renamed(self._event(line)) for line in lines]
            of_class = (event for event in given if class_id is None or class_id in self._final_ids(event))
            found += [event for event in of_class if visible(event)]
            last = given[-1].event if len(lines) == page else first
        return found[:limit]

    def _values_with(self, class_id: int) -> list[str]:
        """The stored values of answers that may have a class today, as JSON text: others are not worth reading."""
        last = self.last_event
        while self._values_event < last:
            end = min(last, self._values_event + _SPAN)
            query = "SELECT DISTINCT value FROM events WHERE event > ? AND event <= ? AND kind = 'answered'"
            for (text,) in self._query(query, (self._values_event, end)):
                if text not in self._values:
                    self._values[text] = self._read("an answer up to event", end, read_value, text)
            self._values_event = end
        family = self.classes.family(class_id)
        return [
            text
            for text, value in list(self._values.items())  # others may add to them
            if any(
                number in family
                for name in ((value,) if isinstance(value, str) else value)
                for _, _, number in self._table.meanings(name)
            )
        ]

    def _final_ids(self, event: Event) -> set[int]:
        """Ids of the classes that an answer with current names has."""
        names = (event.value,) if isinstance(event.value, str) else event.value or ()
        ids = {entry.name: entry.id for entry in self._table.active}
        return {ids[name] for name in names if name in ids}
