"""The annotation service: people's questions and answers of one project, one transaction a call, without torch."""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from dal.annotate.overlap import Overlap
from dal.annotate.project_files import open_project_files
from dal.annotate.retraining import EVERY, RANKED
from dal.annotate.row_queue import LEASE, LEASED
from dal.annotate.service_contract import ADJUDICATE, CLASSES, OutdatedAnswerError, Reply
from dal.annotate.service_state import ServiceState
from dal.errors import AnswerError, ConfigError, shown
from dal.store.events import SKIP, Value
from dal.store.label_log import ConflictError
from dal.store.log_figures import has_answered, has_key
from dal.store.project_rows import ProjectRow
from dal.store.row_state import ADJUDICATED, ANSWERED, DECLINED, DISPUTED, RETIRED
from dal.store.visible_names import is_visible

_LONGEST = 24 * 3600.0  # seconds on one text


class AnnotationService(ServiceState):
    """People's questions and answers of one project.

    Every call that stores something is one transaction, which is on disk before it returns. Calls of several threads
    take turns. Requests have keys: one that is repeated stores nothing. See `Service` for the replies.

    Args:
        log, rows, settings, overlap, every, ranked, lease, rounds: as in `ServiceState`.
    """

    # -- questions and answers -----------------------------------------------------------------------------------------

    def state(self, who: str, *, shown: str | None = None, replaces: int | None = None) -> Reply:
        """Project, classes, figures, and the rows that are leased to the person.

        A row that is `shown` is leased to her again; `gone` says why it cannot be, in a sentence, or is None.
        """
        with self._changing():
            is_reading = any(who in people for people in self._log.readers().values())
            gone = None if shown is None else self._gone(shown, who, replaces)
            ids = self._queue.next(who)
        if not is_reading:  # her session may be shorter than the answers after which the trainer ranks again
            self._retraining.request_if_due(0, now=True)
        recent = (number for event in self._log.history(who=who) for number in self._parts.class_ids(event))
        return {
            "project": self._parts.project(),
            "me": {"who": who, "rights": list(self.rights(who))},
            "classes": self._parts.classes(),
            "recent": list(dict.fromkeys(recent)),
            "gone": gone,
            **self._next(who, ids),
        }

    def _gone(self, row: str, who: str, replaces: int | None) -> str | None:
        """Lease a row again that a person is shown, and return why she need not read on; None if she may answer it."""
        mine, state = self._log.answers_by(row).get(who), self._log.row(row).state
        if (None if mine is None else mine.event) != replaces:
            return "this text was answered elsewhere, as in another tab"
        if state == RETIRED:
            return "this text was taken out of the project"
        if mine is None and _is_done(state) and who not in self._log.readers().get(row, ()):
            return "another person has answered this text meanwhile"
        return None if self._queue.take(row, who) else "another person is reading this text"

    def answer(
        self,
        who: str,
        *,
        row: str,
        classes: Sequence[int],
        key: str,
        replaces: int | None = None,
        seconds: float | None = None,
        seen: Mapping[str, bool] | None = None,
        leased: int = LEASED,
    ) -> Reply:
        """Store an answer; the reply has it as `saved`, and the next rows, `leased` of them."""
        if seconds is not None and not 0 <= seconds <= _LONGEST:  # NaN, too
            raise AnswerError(f"the seconds on a text are a number from 0 to {_LONGEST:.0f}, got {shown(seconds)}")
        return self._given(who, row, lambda: self._value(classes), key, replaces, leased, seconds, seen)

    def skip(
        self,
        who: str,
        *,
        row: str,
        key: str,
        replaces: int | None = None,
        how: str = "decline",
        leased: int = LEASED,
    ) -> Reply:
        """Put a row last ("later") or decline it ("decline")."""
        if how == "decline":
            return self._given(who, row, lambda: SKIP, key, replaces, leased)
        if how != "later":
            raise AnswerError(f"a text is put off for later or declined (decline), not {shown(how)}")
        stored = _stored_key(who, "later", key)
        with self._changing():
            if not has_key(self._log, stored):
                self._require_row(row)
                mine = self._log.answers_by(row).get(who)
                if (None if mine is None else mine.event) != replaces:
                    raise OutdatedAnswerError(self._parts.answer(mine))
            event = self._log.defer(row, who=who, key=stored)
            ids = self._queue.next(who, leased)
        return {"saved": self._parts.answer(event), **self._next(who, ids)}

    def _given(
        self,
        who: str,
        row: str,
        value: Callable[[], Any],
        key: str,
        replaces: int | None,
        leased: int,
        seconds: float | None = None,
        seen: Mapping[str, bool] | None = None,
    ) -> Reply:
        """Store an answer or a skip, and lease the next rows, in one transaction."""
        stored = _stored_key(who, "answer", key)
        self._rows_answered(who)  # counted before the change
        try:
            with self._changing():
                is_new, had = not has_key(self._log, stored), has_answered(self._log, row, who)
                if is_new:
                    self._require_row(row)
                    self._require_open(row, who)
                    self._queue.open_to_others(row)
                event = self._log.answer(
                    row,
                    value() if is_new else SKIP,  # of a repeated request the stored answer is returned
                    who=who,
                    key=stored,
                    replaces=replaces,
                    seconds=seconds,
                    seen=seen,
                )
                if event.row != row:
                    raise AnswerError("the key of this request was used for another text: nothing was stored")
                ids = self._queue.next(who, leased)
        except ConflictError as error:
            raise OutdatedAnswerError(self._parts.answer(error.stands)) from None
        if is_new:
            with self._lock:
                self._count(who, had, event.kind == "answered")
                self._seconds += event.seconds or 0.0
        return {"saved": self._parts.answer(event), **self._next(who, ids)}

    def flag(self, who: str, *, row: str, key: str, text: str) -> Reply:
        """Store a note about a row."""
        if not is_visible(text):
            raise AnswerError("a note is a text that can be seen, not a blank one")
        with self._changing():
            self._require_row(row)
            self._log.note(row, text, who=who, key=_stored_key(who, "flag", key))
        return {"saved": True, "header": self._header(who)}

    def undo(self, who: str, *, key: str) -> Reply:
        """Take back the person's last step; the first row is its row, with the answer taken back as `was`.

        A row that was put off or declined and that others have answered meanwhile is not shown again.
        """
        stored = _stored_key(who, "undo", key)
        self._rows_answered(who)
        with self._changing():
            is_new = not has_key(self._log, stored)
            event = self._log.undo_of(who, key=stored)
            has = event is not None and has_answered(self._log, event.row, who)
            self._queue.reopen()
            adjudicated = event is not None and event.source == ADJUDICATED
            unanswered = event is not None and event.kind in ("skipped", "deferred")
            closed = event is not None and unanswered and _is_done(self._log.row(event.row).state)
            if event is not None and (adjudicated or closed):  # not a question to this person
                self._log.release(event.row, who)
            ids = self._queue.next(who)
        if event is not None and is_new and event.kind in ("answered", "skipped"):
            with self._lock:
                self._count(who, event.kind == "answered", has)
        if event is None:
            return {"undone": None, **self._next(who, ids)}
        if event.kind != "noted" and not adjudicated and not closed:
            ids = [event.row, *(row for row in ids if row != event.row)][:LEASED]
        reply = self._next(who, ids)
        if reply["rows"] and reply["rows"][0]["id"] == event.row and event.kind in ("answered", "skipped"):
            reply["rows"][0]["was"] = self._parts.answer(event)
        return {"undone": {"kind": ADJUDICATED if adjudicated else event.kind, "row": event.row}, **reply}

    def take(self, who: str, *, row: str) -> Reply:
        """Lease a row to the person and put it first."""
        with self._changing():
            self._require_row(row)
            state, mine = self._log.row(row), self._log.answers_by(row).get(who)
            if state.state == RETIRED:
                raise AnswerError("this text was taken out of the project")
            if mine is None and _is_done(state.state) and ADJUDICATE not in self.rights(who):
                raise AnswerError("another person has answered this text")
            if not self._queue.take(row, who):
                raise AnswerError("another person is reading this text: take another one")
            held = self._queue.next(who, LEASED + 1)
            ids = [row, *(each for each in held if each != row)]
            for each in ids[LEASED:]:
                self._log.release(each, who)
        return self._next(who, ids[:LEASED])

    # -- classes and disputes ------------------------------------------------------------------------------------------

    def change_classes(self, who: str, *, change: Mapping[str, Any], key: str) -> Reply:
        """Change a class or the guidelines."""
        self._require_right(who, CLASSES)
        with self._changing():
            event = self._log.change_classes(change, who=who, key=_stored_key(who, "class", key))
        self._retrain(who)
        return {"classes": self._parts.classes(), "project": self._parts.project(), "event": event.event}

    def adjudicate(self, who: str, *, row: str, classes: Sequence[int], key: str, replaces: int | None = None) -> Reply:
        """Decide a disputed row, by an answer of its own that rewrites nobody's."""
        self._require_right(who, ADJUDICATE)
        stored = _stored_key(who, "adjudicate", key)
        self._rows_answered(who)
        with self._changing():
            is_new, had = not has_key(self._log, stored), has_answered(self._log, row, who)
            if is_new:
                state = self._log.row(row)
                if state.answer is not None and state.answer.source == ADJUDICATED:
                    if state.answer.event != replaces:
                        raise OutdatedAnswerError(self._parts.answer(self._log.renamed(state.answer)))
                elif state.state != DISPUTED or replaces is not None:
                    raise AnswerError("people do not disagree on this text, or no longer")
                event = self._log.adjudicate(row, self._value(classes), who=who, key=stored)
            else:
                event = self._log.adjudicate(row, SKIP, who=who, key=stored)
            left = len(self._log.disputes())
        if is_new:
            with self._lock:
                self._count(who, had, event.kind == "answered")
        self._retrain(who)
        return {"saved": self._parts.answer(event), "left": left}

    # -- as Python sees it ---------------------------------------------------------------------------------------------

    def lease(self, who: str, n: int) -> list[ProjectRow]:
        """Lease the next `n` rows to a person, first those that are leased to her already."""
        with self._changing():
            ids = self._queue.next(who, n)
        self._retrain(who)
        return [row for row in self._rows.get(ids) if row is not None]

    def rows(self, ids: Sequence[str]) -> list[ProjectRow | None]:
        """Rows by id, None where there is none."""
        return self._rows.get(ids)

    def own_answer(self, row: str, who: str) -> int | None:
        """Event of the person's current answer or skip to a row; None if there is none."""
        mine = self._log.answers_by(row).get(who)
        return None if mine is None else mine.event

    # -- inside calls --------------------------------------------------------------------------------------------------

    def _next(self, who: str, ids: Sequence[str]) -> Reply:
        """The rows and the header of a reply. Asks for a new ranking first if one is due."""
        self._retrain(who)
        return {"rows": self._parts.rows(ids, who), "header": self._header(who)}

    def _count(self, who: str, had: bool, has: bool) -> None:
        """Count a row that a person has answered now, or no longer."""
        self._mine[who] += has - had

    def _value(self, classes: Sequence[int]) -> Value:
        """The names of classes, in the form in which the log stores an answer.

        Raises:
            AnswerError: a class does not exist or cannot be chosen, or one class is wanted.
        """
        active: dict[int, str] = {entry.id: entry.name for entry in self._log.classes.active}
        for number in classes:
            if number not in active:
                raise AnswerError(f"there is no class with the number {shown(number)} that can be chosen")
        if self._settings.multilabel:
            return tuple(active[number] for number in sorted(set(classes)))
        if len(set(classes)) != 1:
            raise AnswerError(f"a text has one class in this project, got {len(set(classes))}")
        return active[classes[0]]

    def _require_open(self, row: str, who: str) -> None:
        """Check that a person may answer a row: others may have answered it since her lease ended."""
        if who in self._log.readers().get(row, ()) or who in self._log.answers_by(row):
            return
        if _is_done(self._log.row(row).state):
            raise AnswerError("another person has answered this text meanwhile: nothing was stored")


def open_service(
    folder: Path | str,
    *,
    trainer: bool = True,
    overlap: Overlap | str | None = None,
    every: int = EVERY,
    ranked: int = RANKED,
    lease: float = LEASE,
    rounds: bool = False,
    kind: type[AnnotationService] = AnnotationService,
) -> AnnotationService:
    """Open a project for people. Only one process at a time can do so.

    Args:
        folder: folder of the project.
        trainer: whether a process of its own trains a model and ranks the rows; otherwise they come in random order.
        overlap: which rows several people answer, such as "0.1:2"; None for none.
        every: new answers after which the trainer ranks again.
        ranked: number of rows of a ranking.
        lease: seconds for which a row is kept for the person that reads it, from her last request on.
        rounds: whether people answer in rounds, as `dal run` does: the trainer ranks again when all rows of the last
            ranking have an answer, and people wait for it. Otherwise nobody waits.
        kind: class of the service.

    Raises:
        ConfigError: the folder is not one of a project, or an option is out of its range.
        BusyError: another process has it open; the message says which.
        SessionError: a file of the project is missing or damaged.
    """
    path = Path(folder)
    if every < 1 or ranked < 1:
        raise ConfigError("every and ranked are whole numbers from 1")
    overlap = Overlap.parse(overlap) if isinstance(overlap, str) else overlap
    files = open_project_files(path)
    with files.closing:
        options: dict[str, Any] = {"every": every, "ranked": ranked, "lease": lease, "rounds": rounds}
        service = kind(files.log, files.rows, files.settings, overlap=overlap, **options)
        if trainer:
            from dal.annotate.trainer_process import TrainerProcess

            service.start(TrainerProcess(path, on_ranking=service.receive, on_state=service.trainer_changed))
        service.on_close(files.closing.pop_all().close)
    return service


def _is_done(state: str) -> bool:
    """Whether as many people as wanted have answered a row."""
    return state in (ANSWERED, DECLINED, DISPUTED)


def _stored_key(who: str, action: str, key: str) -> str:
    """Key in the log: that of one person's request can neither read nor block another's."""
    if not key:
        raise AnswerError("a request needs a key")
    return f"{action}:{who}:{key}"
