"""Classes of the log: they are added, changed, merged and retired while people work, and no answer is rewritten."""

import time
from collections.abc import Mapping
from typing import Any

from dal.errors import AnswerError, shortened
from dal.store.class_table import encoded
from dal.store.events import Event, Skip, Value
from dal.store.log_writer import LogWriter


class ClassLog(LogWriter):
    """The classes of a log.

    Args:
        path, access, upto: as in `LabelReader`.
    """

    def change_classes(
        self, change: Mapping[str, Any], *, who: str = "", key: str | None = None, imported: bool = False
    ) -> Event:
        """Add, rename, describe, merge, retire, restore or bind a class, or change the guideline for all texts.

        No answer is rewritten: answers are read through the table of classes.

        Args:
            change: `{"do": "add", "name": ..., "description": ...}`, `{"do": "rename", "id": ..., "name": ...}`,
                `{"do": "describe", "id": ..., "text": ..., "examples": [...]}`, `{"do": "merge", "id": ..., "into":
                ...}`, `{"do": "retire", "id": ...}`, `{"do": "restore", "id": ...}` (a class that was merged or
                retired), `{"do": "bind", "id": ..., "letter": ...}` or `{"do": "guide", "text": ...}`.
            who: person.
            key: identifier of the request; a stored one changes nothing.
            imported: whether the classes are those of a file or another log, where names may be alike.

        Raises:
            AnswerError: the change is impossible. Nothing is stored.
        """
        with self.changing() as connection:
            known = None if key is None else self._keyed(connection, key)
            if known is not None:
                return known
            if change.get("do") == "restore":
                number = self._table.removal(change.get("id"))
                self.retract(number, who=who, key=key)
                return self._numbered(connection, self._table_event)
            change = {**change, "id": len(self._table)} if change.get("do") == "add" else dict(change)
            self._table.check(change)
            self._table.check_new(change, alike=imported)
            inserted = connection.execute(
                "INSERT INTO events (kind, at, round, row, value, who, key) VALUES ('class', ?, ?, '', ?, ?, ?)",
                (time.time(), self._round(connection), encoded(change), who or None, key),
            )
            number = inserted.lastrowid or 0
            counted = self._counted()
            self._table.apply(number, encoded(change))
            self._table_event = number
            if change["do"] in ("merge", "retire"):
                self._restate_class(connection, change["id"], counted)
            return self._numbered(connection, number)

    def _check_classes(self, value: Value | Skip) -> None:
        if isinstance(value, Skip) or not len(self._table):
            return
        active = {entry.name for entry in self._table.active}
        wrong = [name for name in ((value,) if isinstance(value, str) else value) if name not in active]
        if wrong:
            raise AnswerError(f"there is no class {shortened(wrong[0])!r} that can be chosen")
