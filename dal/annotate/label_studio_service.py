"""A project that Label Studio shows: predictions from the stored ranking, and the answers of its annotations."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import cached_property, partial
from pathlib import Path
from typing import Any

from dal.annotate.people_answers import StoredAnswers, store_answers
from dal.annotate.person_names import wrong_names
from dal.annotate.rankings import EVENT
from dal.annotate.service import AnnotationService, open_service
from dal.formats import label_studio
from dal.formats.corpus import Corpus, CorpusAnswer, CorpusRow
from dal.formats.exported_answers import origin_time, origins_of
from dal.formats.foreign_answers import Answerable, ForeignAnswer
from dal.formats.label_studio import ROW, check_config, choices, version_of
from dal.formats.label_studio_export import ReadTasks, key_time, read_tasks
from dal.store.log_figures import StoredBatch, keyed_answers, latest_batch, names_in
from dal.store.row_state import RETIRED

#: Score of the prediction of a text without a rank: served after those that have one, whose scores are 1 at most.
LAST = 2.0


class LabelStudioService(AnnotationService):
    """Rankings as predictions, and annotations as answers. See `AnnotationService` for the arguments.

    Attributes:
        suggest: whether predictions name the class that the model expects, instead of none.
        on_ranking: called after a ranking was stored, in another thread.
        on_failure: called with one line when the trainer has failed, in another thread.
    """

    suggest: bool = False
    on_ranking: Callable[[], object] = staticmethod(lambda: None)
    on_failure: Callable[[str], object] = staticmethod(lambda line: None)

    # -- predictions ---------------------------------------------------------------------------------------------------

    @property
    def version(self) -> str:
        """Name of the latest ranking, a different one for each; it is the version of all predictions."""
        batch = self._ranking()
        return version_of(0, "") if batch is None else version_of(batch.round, batch.strategy)

    def ranked(self) -> tuple[str, dict[str, dict[str, Any]]]:
        """The version, and a prediction for each row of the latest ranking, by id, first to ask first."""
        batch = self._ranking()
        if batch is None:
            return self.version, {}
        hints = batch.details.get("rows")
        hints = hints if isinstance(hints, dict) else {}
        count = len(hints)
        predictions = {
            row: {"result": self._suggestion(hint), "score": round(place / count, 9)}
            for place, (row, hint) in enumerate(hints.items(), 1)
        }
        return version_of(batch.round, batch.strategy), predictions

    def predictions(self, tasks: Sequence[Mapping[str, Any]]) -> tuple[str, list[dict[str, Any]]]:
        """The version, and a prediction for each task, in their order.

        Rows are found by `data.dal_id`, else by their exact text. The score is the rank in the latest ranking divided
        by the number of its rows, and `LAST` for all others.

        Args:
            tasks: tasks as Label Studio sends them.
        """
        version, ranked = self.ranked()
        data = [_data(task) for task in tasks]
        texts = [each["text"] for each in data if not isinstance(each.get(ROW), str) and _is_text(each.get("text"))]
        by_text = self._rows.with_texts(texts) if texts else {}
        found = []
        for each in data:
            row, text = each.get(ROW), each.get("text")
            if not isinstance(row, str):
                row = by_text.get(text) if isinstance(text, str) else None
            known = None if row is None else ranked.get(row)
            prediction = {"result": [], "score": LAST} if known is None else known
            found.append({**prediction, "model_version": version})
        return version, found

    def _ranking(self) -> StoredBatch | None:
        return latest_batch(self._log, EVENT)

    def _suggestion(self, hint: Any) -> list[dict[str, Any]]:
        """The result that the model expects; empty unless it may be shown."""
        guesses = hint.get("guesses") if self.suggest and isinstance(hint, dict) else None
        finals = [(self._log.classes.final(number), p) for number, p in guesses or []]
        names = [entry.name for entry, p in finals if entry is not None and (p > 0.5 or not self._settings.multilabel)]
        chosen = names if self._settings.multilabel else names[:1]
        return [choices(chosen)] if chosen else []

    def check_config(self, config: str) -> list[str]:
        """Check a labeling config, and return the classes that it does not offer; see `check_config`."""
        names = [entry.name for entry in self._log.classes.active]
        return check_config(config, names, multilabel=self._settings.multilabel)

    # -- answers -------------------------------------------------------------------------------------------------------

    def read(self, tasks: Sequence[Mapping[str, Any]], server: str) -> ReadTasks:
        """Check the annotations of tasks, as `dal tell` does with those of an export.

        Args:
            tasks: tasks with all their annotations.
            server: name of the server and of its project.
        """
        ids = [str(id) for id in (_data(task).get(ROW) for task in tasks) if _is_text(id)]
        rows = {row.id: row for row in self._rows.get(ids) if row is not None}
        texts = {id: (row.text,) if row.pair is None else (row.text, row.pair) for id, row in rows.items()}
        names = [entry.name for entry in self._log.classes.active]
        origins = partial(origins_of, self._log)
        read = read_tasks(tasks, Answerable(texts, names, self._settings.multilabel, origins=origins), server)
        retired = {id for id, state in self._log.states(list(rows)).items() if state.state == RETIRED}
        gone = [answer for answer in read.answers if answer.row in retired]
        read.mistakes += [f"{each.place}: the row {each.row!r} was taken out of the project" for each in gone]
        wrong = wrong_names(((answer.who, answer.place) for answer in read.answers), self._people)
        read.mistakes += wrong.values()
        read.answers = [each for each in read.answers if each.row not in retired and each.who not in wrong]
        self._people |= {answer.who for answer in read.answers}
        return read

    @cached_property
    def _people(self) -> set[str]:
        """Names of everybody whose answers are accepted."""
        return names_in(self._log)

    def store(self, read: ReadTasks) -> tuple[StoredAnswers, int]:
        """Store answers, oldest first, and retract those whose annotations were deleted; return their number, too.

        It is one transaction. An annotation that was read before stores nothing, nor does one of a person who has
        answered the row in a later annotation of another task.
        """
        retracted = 0
        with self._changing():
            for (row, prefix), present in read.present.items():
                for event in keyed_answers(self._log, row, prefix):
                    if not any((event.key or "").startswith(each) for each in present):
                        self._log.retract(event.event, who=event.who or "", key=f"deleted:{event.key}")
                        retracted += 1
            answers = sorted(read.answers, key=lambda answer: answer.at or 0.0)
            stored = store_answers(self._log, (each for each in answers if not self._is_outdated(each)))
        if stored.new or retracted:
            self._queue.reopen()
        return stored, retracted

    def _is_outdated(self, answer: ForeignAnswer) -> bool:
        """Whether the current answer of the person is from a later annotation: pages come in the order of tasks."""
        event = self._log.answers_by(answer.row).get(answer.who)
        later = None if event is None else key_time(event.key or "")
        return later is not None and answer.at is not None and answer.at < later

    def rank(self) -> None:
        """Let the trainer rank again if it is due."""
        self._retrain("")

    def row_ids(self) -> Iterator[str]:
        """Ids of the rows, in the order of addition, without those that were taken out of the project."""
        for page in self._rows.pages():
            states = self._log.states([row.id for row in page])
            yield from (row.id for row in page if row.id not in states or states[row.id].state != RETIRED)

    def tasks_of(self, ids: Sequence[str]) -> list[dict[str, Any]]:
        """Tasks of rows as `dal export --to label-studio --all` writes them, without predictions."""
        rows = [
            CorpusRow(row.id, row.text, row.pair, answers=self._answers(row.id), fields=row.fields)
            for row in self._rows.get(ids)
            if row is not None
        ]
        names = tuple(entry.name for entry in self._log.classes.active)
        return label_studio.tasks(Corpus(rows, names, self._settings.multilabel))

    def _answers(self, row: str) -> tuple[CorpusAnswer, ...]:
        """The current answers to a row, by person."""
        return tuple(
            CorpusAnswer(
                None if event.value is None else (event.value,) if isinstance(event.value, str) else event.value,
                who,
                at=origin_time(event),
                seconds=event.seconds,
            )
            for who, event in self._log.answers_by(row).items()
        )

    # -- rankings ------------------------------------------------------------------------------------------------------

    def receive(self, message: Mapping[str, Any]) -> None:
        """Take a ranking of the trainer, or its error, from any thread."""
        super().receive(message)
        if message.get("error") is not None:
            self.on_failure(" ".join(str(message["error"]).split()))
        elif "rows" in message:
            self.on_ranking()

    def trainer_changed(self, state: Mapping[str, Any]) -> None:
        """Take a new state of the trainer, from any thread."""
        super().trainer_changed(state)
        if state.get("state") == "failed":
            self.on_failure(" ".join(str(state.get("error") or "the trainer failed").split()))


def _data(task: Mapping[str, Any]) -> Mapping[str, Any]:
    data = task.get("data")
    return data if isinstance(data, Mapping) else {}


def _is_text(value: Any) -> bool:
    """Whether a value is text that the database can look up."""
    try:
        return isinstance(value, str) and bool(value.encode())
    except UnicodeEncodeError:
        return False


def open_label_studio_service(folder: Path, *, trainer: bool = True, suggest: bool = False) -> LabelStudioService:
    """Open a project for Label Studio; see `open_service` for what can go wrong.

    Args:
        folder: folder of the project.
        trainer: whether a process of its own ranks the rows.
        suggest: whether predictions name the class that the model expects.
    """
    service = open_service(folder, trainer=trainer, kind=LabelStudioService)
    assert isinstance(service, LabelStudioService)
    service.suggest = suggest
    return service
