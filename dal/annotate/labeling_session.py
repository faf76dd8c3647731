"""What one person does in a terminal: the text that is shown, and each step, stored before the next text is shown."""

import time
import uuid
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from dal.annotate.class_choice import ClassChoice
from dal.annotate.service_contract import OutdatedAnswerError, Reply, Service
from dal.errors import DalError, SessionError
from dal.store.atomic_files import typed

#: Longest gap between two keys, in seconds, that counts as time on a text.
IDLE = 60.0

_UNDONE = {"answered": "your answer", "skipped": "declining", "deferred": "putting last", "noted": "your note"}


class LabelingSession:
    """The steps of one person.

    Args:
        service: what stores the answers.
        who: name of the person.
        folder: folder of the project, for advice; None where there is none.

    Attributes:
        row: the text that is shown, as in a reply; None if there is none.
        choice: the classes that are shown for it.
        hints: why the text was chosen, what the model thinks, and the nearest answered texts; None until asked for.
        header: figures of the last reply.
        project: name, kind and guideline of the project.
        message: what the last step did, in one line.
    """

    def __init__(self, service: Service, who: str, folder: Path | None = None) -> None:
        self._service, self._who = service, who
        self._folder = "FOLDER" if folder is None else typed(folder)
        self._recent: list[int] = []
        self.classes: list[Reply] = []
        self._pending: tuple[object, str] | None = None  # a step that may not be stored, and its key
        self._seconds, self._last = 0.0, time.monotonic()
        self.message = ""
        self.row: Reply | None = None
        self.hints: Reply | None = None
        self._seen = False
        self.refresh()

    def refresh(self) -> None:
        """Read classes and figures again. A text that is shown stays; otherwise the next one is shown."""
        state = self._service.state(self._who)
        self.project, self.header, self._recent = state["project"], state["header"], state["recent"]
        before, self.classes = self.classes, state["classes"]
        if self.row is None:
            self._show(state["rows"])
        elif self.classes != before:
            self._choose()

    def tick(self) -> None:
        """Count the time since the last key, as when a key is pressed."""
        now = time.monotonic()
        self._seconds += min(now - self._last, IDLE)
        self._last = now

    @property
    def without_classes(self) -> str:
        """What to do where the project has no class yet."""
        return f"There is no class yet: end this, and add one with dal classes {self._folder} add NAME"

    def names(self, numbers: Sequence[int]) -> str:
        """Names of classes, for the person."""
        names = {each["id"]: each["name"] for each in self.classes}
        return ", ".join(names.get(number, f"class {number}") for number in numbers) or "none of them"

    # -- steps ---------------------------------------------------------------------------------------------------------

    def answer(self, classes: Sequence[int]) -> bool:
        """Store an answer to the text that is shown; False if it was refused, with the reason in `message`."""
        row, replaces = self._current()
        self.tick()
        seen = dict.fromkeys(("model", "near", "why"), self._seen)

        def send(key: str) -> Reply:
            return self._service.answer(
                self._who,
                row=row,
                classes=classes,
                key=key,
                replaces=replaces,
                seconds=round(self._seconds, 3),
                seen=seen,
            )

        if not self._step(("answer", row, tuple(classes), replaces), send, f"Saved: {self.names(classes)}."):
            return False
        self._recent = [*classes, *(number for number in self._recent if number not in classes)]
        self._choose()
        return True

    def skip(self, how: str) -> bool:
        """Put the text last ("later") or decline it ("decline")."""
        row, replaces = self._current()
        words = "Put last." if how == "later" else "Declined."
        return self._step(
            (how, row, replaces),
            lambda key: self._service.skip(self._who, row=row, key=key, replaces=replaces, how=how),
            words,
        )

    def flag(self, text: str) -> bool:
        """Store a note about the text, which stays on the screen."""
        row, _ = self._current()
        return self._step(
            ("flag", row, text),
            lambda key: self._service.flag(self._who, row=row, key=key, text=text),
            "Note stored.",
        )

    def undo(self) -> bool:
        """Take back the last step; its text is shown again."""
        reply = self._sent("undo", lambda key: self._service.undo(self._who, key=key))
        if reply is None:
            return False
        self.header = reply["header"]
        undone = reply["undone"]
        self._show(reply["rows"])
        if undone is None:
            self.message = "There is nothing to undo."
            return True
        was = None if self.row is None else self.row.get("was")
        named = f" ({self.names(was['classes'])})" if was and not was["skipped"] else ""
        self.message = f"Undone: {_UNDONE.get(undone['kind'], undone['kind'])}{named}."
        return True

    def toggle_hints(self) -> None:
        """Show or hide what suggests an answer. That it was shown is stored with the answer."""
        if self.hints is not None:
            self.hints = None
        elif self.row is not None:
            self.hints, self._seen = self._service.hints(self._who, row=self.row["id"]), True

    # -- inside --------------------------------------------------------------------------------------------------------

    def _current(self) -> tuple[str, int | None]:
        """Id of the text that is shown, and the event of the person's own answer to it."""
        assert self.row is not None
        answer = self.row["answer"]
        return self.row["id"], None if answer is None else answer["event"]

    def _step(self, step: object, send: Callable[[str], Reply], words: str) -> bool:
        reply = self._sent(step, send)
        if reply is None:
            return False
        self.header, self.message = reply["header"], words
        if "rows" in reply:
            self._show(reply["rows"])
        return True

    def _sent(self, step: object, send: Callable[[str], Reply]) -> Reply | None:
        """The reply to a step; None if it was refused. Tried again, it has the same key: it may be stored already."""
        if self._pending is None or self._pending[0] != step:
            self._pending = step, uuid.uuid4().hex
        try:
            reply = send(self._pending[1])
        except OutdatedAnswerError as error:
            stands = error.stands
            what = (
                "taken back" if stands is None else "declined" if stands["skipped"] else self.names(stands["classes"])
            )
            self.message = f"Not stored: this text was answered elsewhere ({what})."
            if self.row is not None:  # the next key replaces what stands
                self.row = {**self.row, "answer": stands}
                self._choose()
        except DalError as error:
            self.message = f"Not stored: {error}."
            if not isinstance(error, SessionError):  # such as a text that another person has answered meanwhile
                self.row = None
                self.refresh()
        else:
            self._pending = None
            return reply
        return None

    def _show(self, rows: Sequence[Reply]) -> None:
        self.row = rows[0] if rows else None
        self.hints, self._seen = None, False
        self._seconds, self._last = 0.0, time.monotonic()
        self._choose()

    def _choose(self) -> None:
        answer: Any = None if self.row is None else self.row.get("was") or self.row["answer"]
        self.choice = ClassChoice(
            self.classes, multilabel=self.project["multilabel"], recent=self._recent, answer=answer
        )
