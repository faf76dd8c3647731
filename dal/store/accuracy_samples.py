"""Audit samples for estimating a model's accuracy, stored next to a session's labels but never used as labels."""

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

from dal.errors import SessionError
from dal.store.atomic_files import read_regular, write_whole
from dal.store.bounded_json import parse_json
from dal.store.events import SKIP, Skip, Value

#: Subfolder of a session folder that holds the samples.
CHECKS = "checks"


@dataclass(frozen=True)
class AccuracySample:
    """Rows drawn with known probabilities, the model's predictions for them, and the annotator's answers.

    Attributes:
        number: number of the sample in its folder, from 1.
        labels: number of labels that the model was trained on.
        event: number of the last event of the label store that changed a label.
        population: number of rows to draw from: unlabeled rows that were never queried.
        uniform: weight of the uniform component of the sampling distribution; 1 for a uniform random sample.
        ids: ids of the drawn rows, in the order of drawing.
        probabilities: probability of each row when it was drawn.
        guesses: the model's predictions.
        answers: id -> annotator's answer; None if declined.
    """

    number: int
    labels: int
    event: int
    population: int
    uniform: float
    ids: tuple[str, ...]
    probabilities: tuple[float, ...]
    guesses: tuple[Value, ...]
    answers: Mapping[str, Value | None] = field(default_factory=dict)

    @property
    def answered(self) -> int:
        """Length of the longest prefix, in the order of drawing, in which every row is answered or declined."""
        return next((i for i, name in enumerate(self.ids) if name not in self.answers), len(self.ids))

    @property
    def gap(self) -> str | None:
        """Id of the first drawn row without an answer, if rows drawn after it have answers; these do not count yet."""
        return self.ids[self.answered] if self.uncounted else None

    @property
    def uncounted(self) -> int:
        """Number of answers to rows that were drawn after the first one without an answer."""
        return sum(name in self.answers for name in self.ids[self.answered :])

    @property
    def right(self) -> list[bool]:
        """Whether the model was right on each of the first `answered` rows. A declined row counts as wrong."""

        def comparable(value: Value) -> str | frozenset[str]:  # the classes of a multi-label value have no order
            return value if isinstance(value, str) else frozenset(value)

        right = []
        for name, guess in zip(self.ids[: self.answered], self.guesses, strict=False):
            answer = self.answers[name]
            right.append(answer is not None and comparable(answer) == comparable(guess))
        return right

    def with_answers(self, answers: Mapping[str, Value | Skip]) -> "AccuracySample":
        """A copy of the sample with these answers added; they replace earlier ones of the same rows."""
        new = {name: None if value is SKIP else value for name, value in answers.items()}
        return replace(self, answers={**self.answers, **new})  # type: ignore[arg-type]

    def save(self, folder: Path) -> None:
        """Write the sample to a session folder, atomically."""
        parent = folder / CHECKS
        parent.mkdir(exist_ok=True)
        stored = asdict(self)
        stored["of"] = stored.pop("population")  # the key of version 0.1
        write_whole(
            parent / f"{self.number}.json", json.dumps(stored, ensure_ascii=False, indent=1) + "\n", private=True
        )


def read_checks(folder: Path) -> list[AccuracySample]:
    """The samples in a session folder, oldest first.

    Raises:
        SessionError: a file cannot be read.
    """
    samples = []
    for path in (folder / CHECKS).glob("[0-9]*.json"):
        try:
            samples.append(_check(parse_json(read_regular(path))))
        except (OSError, ValueError, TypeError, KeyError, OverflowError, AttributeError) as error:
            raise SessionError(f"{path} cannot be read: restore the file, or remove it and draw again") from error
    return sorted(samples, key=lambda sample: sample.number)


def _check(stored: dict[str, Any]) -> AccuracySample:
    stored["population"] = stored.pop("of")
    stored["ids"], stored["probabilities"] = tuple(stored["ids"]), tuple(map(float, stored["probabilities"]))
    stored["guesses"] = tuple(map(_value, stored["guesses"]))
    stored["answers"] = {name: None if value is None else _value(value) for name, value in stored["answers"].items()}
    if not len(stored["ids"]) == len(stored["probabilities"]) == len(stored["guesses"]):
        raise ValueError("the columns differ in length")
    if not all(isinstance(name, str) for name in (*stored["ids"], *stored["answers"])):
        raise TypeError("ids are texts")
    if any(type(stored[name]) is not int for name in ("number", "labels", "event", "population")):
        raise TypeError("counts are whole numbers")
    if min(stored["number"], stored["labels"], stored["event"]) < 0 or stored["population"] < len(stored["ids"]):
        raise ValueError("counts are not negative, and a sample is not larger than what it is drawn from")
    if not all(0 < each <= 1 for each in (*stored["probabilities"], float(stored["uniform"]))):
        raise ValueError("probabilities lie between 0 and 1")
    return AccuracySample(**stored)


def _value(stored: object) -> Value:
    if isinstance(stored, str):
        return stored
    if not isinstance(stored, list) or not all(isinstance(name, str) for name in stored):
        raise TypeError("answers are class names, or lists of them")
    return tuple(stored)
