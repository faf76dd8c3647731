"""A project in Python: the next texts, answers, undo, labels, and predictions of a model of the current answers."""

import getpass
import time
import uuid
from collections.abc import Sequence
from os import PathLike
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, Self

from dal.annotate.overlap import Overlap
from dal.annotate.retraining import EVERY, RANKED
from dal.annotate.service import open_service
from dal.errors import AnswerError, SessionError, did_you_mean, shortened
from dal.store.events import Value
from dal.store.project_rows import ProjectRow
from dal.store.run_folder import LABELS

if TYPE_CHECKING:
    from dal.experiments.stored_model import StoredModel
    from dal.experiments.text_predictions import Predictions


_MOST_FOUND = 1_000


class Project:
    """A project that `dal init` made, opened for answers. A context that closes its files.

    The page, files and Python share one log and one queue: a text that somebody reads on one way comes on no other.
    Only one process can have a project open.

    Args:
        folder: folder of the project.
        trainer: whether a process of its own trains a model and ranks the texts; otherwise they come in random order.
        overlap: which texts several people answer, such as "0.1:2"; None for none.
        every: new answers after which the trainer ranks again.
        ranked: number of texts of a ranking.
        rounds: whether texts come in rounds, as in `dal run`: the trainer ranks again when all texts of the last one
            have an answer. Give `wait=True` to `next` then.

    Raises:
        ConfigError: the folder is not one of a project, or an option is out of its range.
        BusyError: another process has the project open.
        SessionError: a file of the project is missing or damaged.

    Example:
        >>> with Project("ddi") as project:  # doctest: +SKIP
        ...     for row in project.next(5):
        ...         project.answer(row, input(row.text))
        ...     print(project.predict(["No interaction was seen."]).classes)
    """

    def __init__(
        self,
        folder: str | PathLike[str],
        *,
        trainer: bool = True,
        overlap: Overlap | str | None = None,
        every: int = EVERY,
        ranked: int = RANKED,
        rounds: bool = False,
    ) -> None:
        self.folder = Path(folder)
        self._service = open_service(
            self.folder, trainer=trainer, overlap=overlap, every=every, ranked=ranked, rounds=rounds
        )
        self._model: tuple[int, StoredModel] | None = None  # with the event up to which it knows the answers

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()

    def close(self) -> None:
        """End the trainer and release the folder. Calling it again has no effect."""
        self._forget_model()
        self._service.close()

    @property
    def classes(self) -> tuple[str, ...]:
        """Names of the classes that can be chosen, in the order of addition."""
        return tuple(each["name"] for each in self._service.state_of_classes())

    @property
    def labels(self) -> dict[str, Value]:
        """Answers that stand, by id: a class name, or a tuple of names when multi-label.

        Texts that were declined, on which people disagree, or that wait for another person have none.
        """
        return self._service.labels()

    def next(self, n: int = 1, *, who: str | None = None, wait: bool = False) -> list[ProjectRow]:
        """The next texts for a person, who keeps them for ten minutes; fewer than `n` at the end of the project.

        Texts that the person got before and has not answered come first.

        Args:
            n: number of texts.
            who: name of the person; by default that of the account on this computer.
            wait: wait for a ranking that knows all answers. Without one, or if training failed, the texts are those of
                the last ranking, or come in random order.
        """
        if n < 1:
            raise AnswerError(f"the number of texts is at least 1, not {n}")
        if wait:
            self._service.wait_for_ranking()
        return self._service.lease(_person(who), n)

    def search(
        self, text: str, n: int = 20, *, by: Literal["words", "meaning"] = "words", timeout: float = 600.0
    ) -> list[ProjectRow]:
        """Texts like a typed one, best first, such as examples of a rare class; answers to them train the model.

        They have an answer or not. Answers to texts that nobody was asked stay out of unbiased estimates.

        Args:
            text: words to find, or a sentence.
            n: largest number of texts, at most 1,000.
            by: "words" for texts with these words; "meaning" for those with the most similar embeddings, or TF-IDF
                vectors where the learner has no embeddings.
            timeout: seconds to wait for the trainer, which compares by meaning.

        Raises:
            AnswerError: the text is empty, or an argument is out of its range.
            SessionError: by meaning, without a trainer, if it failed, or after the timeout.
        """
        if not text.strip() or not 1 <= n <= _MOST_FOUND or by not in ("words", "meaning"):
            raise AnswerError(
                f"a search takes a text, a number of texts from 1 to {_MOST_FOUND:,}, and by: words or meaning"
            )
        end = time.monotonic() + timeout
        while True:
            reply = self._service.search("", q=text, limit=n, by=by, timeout=max(0.0, min(5.0, end - time.monotonic())))
            if reply["why"] is None:
                return [row for row in self._service.rows([each["id"] for each in reply["rows"]]) if row is not None]
            if not reply["again"] or time.monotonic() >= end:
                raise SessionError(f"no search by meaning: {reply['why']}")
            time.sleep(min(0.2, max(0.0, end - time.monotonic())))

    def answer(
        self,
        row: ProjectRow | str,
        value: str | Sequence[str],
        *,
        who: str | None = None,
        seconds: float | None = None,
    ) -> None:
        """Store an answer, which is on disk when the call returns. It replaces the person's own earlier one.

        Args:
            row: a text, or its id.
            value: name of the class; names when multi-label.
            who: as for `next`.
            seconds: time spent on the text.

        Raises:
            AnswerError: there is no such text or class, or another person has answered it. Nothing is stored.
        """
        numbers = {each["name"]: each["id"] for each in self._service.state_of_classes()}
        names = [value] if isinstance(value, str) else list(value)
        for name in names:
            if name not in numbers:
                known = did_you_mean(str(name), numbers) or f"; classes are {shortened(', '.join(numbers), 200)}"
                raise AnswerError(f"there is no class {shortened(str(name))!r}{known}")
        self._service.answer(
            _person(who),
            row=_id(row),
            classes=[numbers[name] for name in names],
            key=uuid.uuid4().hex,
            replaces=self._service.own_answer(_id(row), _person(who)),
            seconds=seconds,
            leased=0,
        )

    def skip(self, row: ProjectRow | str, *, who: str | None = None, later: bool = False) -> None:
        """Decline a text, which is not asked again; with `later` put it after all others."""
        self._service.skip(
            _person(who),
            row=_id(row),
            key=uuid.uuid4().hex,
            replaces=self._service.own_answer(_id(row), _person(who)),
            how="later" if later else "decline",
            leased=0,
        )

    def undo(self, *, who: str | None = None) -> str | None:
        """Take back the person's last answer, skip or note, and return the id of its text; None if there is none."""
        undone = self._service.undo(_person(who), key=uuid.uuid4().hex)["undone"]
        return None if undone is None else str(undone["row"])

    def predict(self, texts: Sequence[str] | Sequence[tuple[str, str]]) -> "Predictions":
        """Predict texts, or pairs of texts, with a model that is trained on the current answers in this process.

        Args:
            texts: new texts, or pairs where those of the project are pairs.

        Raises:
            SessionError: nothing is labeled yet.
            LearnerError: the learner cannot be trained on these labels.
        """
        event = self._service.labels_event
        if self._model is None or self._model[0] != event:
            self._forget_model()
            self._model = event, self._trained(event)
        return self._model[1].predict(texts)

    def _trained(self, event: int) -> "StoredModel":
        """The model of the answers up to an event. It reads a copy of the log and writes nothing."""
        from dal.config.allowed_code import stored_config_imports
        from dal.experiments.stored_model import StoredModel, find
        from dal.learner import SILENT, Prepared
        from dal.store.label_store import LabelStore

        with stored_config_imports():
            place = find(self.folder)
            prepared: dict[str, Prepared] = {}
            store: Any = LabelStore.snapshot(self.folder / LABELS, upto=event)
            session = place.experiment.session(place.cell, None, simulated=False, prepared=prepared, store=store)
        return StoredModel(session, place, SILENT, prepared)

    def _forget_model(self) -> None:
        if self._model is not None:
            model = self._model[1]
            self._model = None
            store = model.session.store
            model.close()
            store.close()


def _person(who: str | None) -> str:
    return getpass.getuser() if who is None else who


def _id(row: ProjectRow | str) -> str:
    return row if isinstance(row, str) else row.id
