"""An accuracy check as a service: the drawn texts, in the order of drawing and without hints, and nothing else."""

import threading
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from dal.annotate.project_files import open_project_files
from dal.annotate.project_settings import ProjectSettings
from dal.annotate.project_views import MEANING_WAIT
from dal.annotate.row_queue import LEASE
from dal.annotate.service import AnnotationService
from dal.annotate.service_contract import Reply
from dal.errors import AnswerError, SessionError, one_line, shown
from dal.store.accuracy_samples import AccuracySample
from dal.store.bounded_json import parse_json
from dal.store.check_log import answers_of, open_check_log
from dal.store.class_table import ClassTable
from dal.store.events import SKIP, Value
from dal.store.label_log import LabelLog
from dal.store.log_figures import has_key
from dal.store.project_rows import ProjectRows

_SEARCHED = 10_000  # texts with the words of a search, among which the drawn ones are looked for

#: Computes the accuracy that a sample with all answers gives: lines, and notes about them.
Report = Callable[[AccuracySample], tuple[list[str], list[str]]]


class AccuracyCheck(AnnotationService):
    """The texts of a sample as a service for people, each text for one person.

    Its log is `checks/N.db`; the sample, `checks/N.json`, gets each answer before the reply. Nobody has rights here:
    classes are those of the time when the check began, and people see their own answers only.

    Args:
        folder: folder of the project.
        sample: the sample.
        labels: answers of the project.
        rows: texts of the project.
        settings: settings of the project.
        report: called in another thread when all texts have an answer.
        lease: duration of a lease, in seconds.
    """

    def __init__(
        self,
        folder: Path,
        sample: AccuracySample,
        labels: LabelLog,
        rows: ProjectRows,
        settings: ProjectSettings,
        *,
        report: Report,
        lease: float = LEASE,
    ) -> None:
        super().__init__(open_check_log(folder, sample, labels.classes), rows, settings, rounds=True, lease=lease)
        self.folder, self._labels, self._report = folder, labels, report
        self.sample = sample
        self._saved: int | None = None  # last event of the log that the sample knows
        self._computed: dict[int, tuple[list[str], list[str]]] = {}  # last event of the log -> the accuracy then
        self._computing: set[int] = set()
        self._save()

    @property
    def log(self) -> LabelLog:
        """The log of the project, which has the logins of people, and not that of the check."""
        return self._labels

    @property
    def is_complete(self) -> bool:
        """Whether all texts have an answer or were declined."""
        return self.sample.answered == len(self.sample.ids)

    @property
    def classes_changed(self) -> bool:
        """Whether the classes of the project are no longer those of the check."""
        return _visible(self._labels.classes) != _visible(self._log.classes)

    @property
    def labels_changed(self) -> bool:
        """Whether labels were added or changed since the sample was drawn."""
        return self._labels.labels_event != self.sample.event

    # -- what differs from the service of a project --------------------------------------------------------------------

    def rights(self, who: str) -> Collection[str]:
        """No rights."""
        return ()

    def hints(self, who: str, *, row: str) -> Reply:
        """No hints: the model is checked by answers that it had no part in."""
        return {"why": "drawn at random to check the model; hints are hidden here", "guesses": [], "near": []}

    def search(self, who: str, *, q: str, limit: int = 20, by: str = "words", timeout: float = MEANING_WAIT) -> Reply:
        """Drawn texts that match the words; without a model, none by meaning."""
        if by != "words":
            return {"rows": [], "why": "a check of the model has no search by meaning", "again": False}
        found = [row for row in self._rows.search(q, _SEARCHED) if row in self.sample.ids]
        return {"rows": self._parts.rows(found[:limit], who), "why": None, "again": False}

    def copies(self, who: str, *, row: str) -> Reply:
        """None: each text is answered for itself."""
        return {"rows": []}

    def _require_row(self, row: str) -> None:
        if row not in self.sample.ids:
            raise AnswerError(f"the text {shown(row)} was not drawn for this check")
        super()._require_row(row)

    def _next(self, who: str, ids: Sequence[str]) -> Reply:
        self._save()
        return super()._next(who, ids)

    def _header(self, who: str) -> Reply:
        header = super()._header(who)
        event = self._log.last_event
        waiting = self.is_complete and event not in self._computed
        text = None
        if waiting:
            self._compute(event)
            text = "all texts of the check are answered; the accuracy is being computed"
        elif self.is_complete:
            text = "; ".join(self._computed[event][0])
        header |= {
            "rows": len(self.sample.ids),
            "waiting": waiting,
            "check": {"number": self.sample.number, "answered": self.sample.answered, "of": len(self.sample.ids)},
            "stop": None if text is None else {"stop": True, "text": text},
        }
        return header

    # -- the sample ----------------------------------------------------------------------------------------------------

    def _save(self) -> None:
        """Give the sample the answers of the log, if they have changed."""
        with self._lock:
            event = self._log.last_event
            if event == self._saved:
                return
            answers = answers_of(self._log, self.sample)
            if answers != self.sample.answers:
                sample = replace(self.sample, answers=answers)
                try:
                    sample.save(self.folder)
                except OSError as error:  # the request is repeated, and its answer is in the log already
                    raise SessionError(f"the check could not be written: {error.strerror or error}") from error
                self.sample = sample
            self._saved = event

    def _compute(self, event: int) -> None:
        """Begin to compute the accuracy that the answers up to an event give."""
        with self._lock:
            if event in self._computing:
                return
            self._computing.add(event)
        sample = self.sample

        def compute() -> None:
            try:
                found = self._report(sample)
            except Exception as error:
                found = [f"the accuracy could not be computed: {one_line(error)}"], []
            self._computed[event] = found

        threading.Thread(target=compute, name="dal-check", daemon=True).start()

    def result(self) -> tuple[list[str], list[str]] | None:
        """The accuracy in lines and notes, computed now if it was not yet; None while texts have no answer."""
        if not self.is_complete:
            return None
        return self._computed.get(self._log.last_event) or self._report(self.sample)

    def keep(self) -> tuple[int, int]:
        """Store the answers as labels of the project, too, and return the numbers of new ones and of those left out.

        Left out are answers of a class that was retired since, and of a text that was taken out of the project. A
        repeated call stores nothing twice.
        """
        stored = left_out = 0
        with self._lock, self._labels.changing():
            for row, state in self._log.states(self.sample.ids).items():
                event = state.answer
                if event is None:
                    continue
                key = f"check:{self.sample.number}:{row}:{event.event}"
                if has_key(self._labels, key):
                    continue
                value = SKIP if event.kind == "skipped" else self._current(event)
                who = event.who or ""
                mine = self._labels.answers_by(row).get(who)
                try:
                    if value is None:
                        raise AnswerError("its class was retired")
                    self._labels.answer(
                        row,
                        value,
                        who=who,
                        key=key,
                        replaces=None if mine is None else mine.event,
                        seconds=event.seconds,
                        seen=None if event.seen is None else parse_json(event.seen),
                    )
                    stored += 1
                except AnswerError:
                    left_out += 1
        return stored, left_out

    def _current(self, event: Any) -> Value | None:
        """An answer of the check in the current classes of the project; None if its class is retired there."""
        numbers = self._parts.class_ids(self._log.renamed(event))
        finals = [self._labels.classes.final(number) for number in numbers]
        names = tuple(dict.fromkeys(entry.name for entry in finals if entry is not None))
        if self._settings.multilabel:
            return names
        return names[0] if names else None


def open_check(folder: Path, sample: AccuracySample, *, report: Report, lease: float = LEASE) -> AccuracyCheck:
    """Open a sample for people. Only one process at a time can have the project open.

    Args:
        folder: folder of the project.
        sample: the sample.
        report: computes the accuracy when all texts have an answer.
        lease: seconds for which a text is kept for the person that reads it.

    Raises:
        ConfigError: the folder is not one of a project.
        BusyError: another process has it open.
        SessionError: a file of the project is missing or damaged.
    """
    files = open_project_files(folder)
    with files.closing:
        check = AccuracyCheck(folder, sample, files.log, files.rows, files.settings, report=report, lease=lease)
        check.on_close(files.closing.pop_all().close)
    return check


def _visible(table: ClassTable) -> Mapping[int, str]:
    return {entry.id: entry.name for entry in table.active}
