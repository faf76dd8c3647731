"""Rows, answers and classes as the annotation service returns them: dictionaries that JSON can hold."""

from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

from dal.annotate.project_settings import ProjectSettings
from dal.annotate.rankings import Rankings
from dal.annotate.service_contract import Reply
from dal.store.events import Event
from dal.store.label_log import LabelLog
from dal.store.log_figures import rounds_of
from dal.store.project_rows import ProjectRows


class ReplyParts:
    """Parts of replies, read from a log and the rows of its project.

    Args:
        log: questions and answers.
        rows: texts.
        rankings: rankings of the model.
        settings: settings of the project.
    """

    def __init__(self, log: LabelLog, rows: ProjectRows, rankings: Rankings, settings: ProjectSettings) -> None:
        self._log, self._rows, self._rankings, self._settings = log, rows, rankings, settings

    def class_ids(self, event: Event) -> list[int]:
        """Ids of the classes of an answer that has their current names, ascending."""
        names = () if event.value is None else (event.value,) if isinstance(event.value, str) else event.value
        ids = {entry.name: entry.id for entry in self._log.classes.active}
        return sorted({ids[name] for name in names if name in ids})

    def answer(self, event: Event | None) -> Reply | None:
        """An answer or a skip that has the current names of its classes."""
        if event is None:
            return None
        return {
            "event": event.event,
            "classes": self.class_ids(event) if event.kind == "answered" else [],
            "skipped": event.kind == "skipped",
            "at": event.at,
            "who": event.who or "",
            "source": event.source or "",
        }

    def rows(self, ids: Sequence[str], who: str) -> list[Reply]:
        """Rows with the person's own current answer, in the order of `ids`; unknown ids are left out.

        The answers of other people are not among them, so that second answers are blind.
        """
        rounds = rounds_of(self._log, ids)
        found = []
        for row in self._rows.get(ids):
            if row is None:
                continue
            round = rounds.get(row.id, 0)
            found.append(
                {
                    "id": row.id,
                    "text": row.text,
                    "pair": row.pair,
                    "fields": dict(row.fields),
                    "answer": self.answer(self._log.answers_by(row.id).get(who)),
                    "round": round,
                    "top_up": self._rankings.is_top_up(round),
                    "read_up_to": self._rankings.hint(row.id, round).get("read_up_to"),
                }
            )
        return found

    def classes(self) -> list[Reply]:
        """The classes that can be chosen, in the order of addition."""
        names = ("id", "name", "description", "examples", "letter")
        entries = [asdict(entry) for entry in self._log.classes.active]
        return [{name: _listed(entry[name]) for name in names} for entry in entries]

    def project(self) -> Reply:
        """Name, kind and guideline of the project."""
        return {
            "name": self._settings.name,
            "multilabel": self._settings.multilabel,
            "guide": self._log.classes.guide,
        }


def _listed(value: Any) -> Any:
    return list(value) if isinstance(value, tuple) else value
