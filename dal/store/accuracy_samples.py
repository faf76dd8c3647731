"""Rows that were drawn to check a model on: kept next to the labels of a session, and never among them."""

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

from dal.errors import SessionError
from dal.store.atomic_files import read_regular, write_whole
from dal.store.bounded_json import parse_json
from dal.store.events import SKIP, Skip, Value

#: Where they are in the folder of a session.
CHECKS = "checks"


@dataclass(frozen=True)
class AccuracySample:
    """Rows drawn with known probabilities, what the model of that time says of them, and what a person said.

    Attributes:
        number: which draw of the folder it was, counted from 1.
        labels: how many labels the model was trained on.
        event: the last event of the label store that changed a label.
        of: how many rows there were to draw from: those that had no label and were never asked.
        uniform: the share of the drawing law that was uniform; 1: the rows are a random sample.
        ids: of the rows drawn, in the order of drawing.
        probabilities: of each when it was drawn.
        guesses: the model's answers.
        answers: id -> a person's answer, None where it was declined.
    """

    number: int
    labels: int
    event: int
    of: int
    uniform: float
    ids: tuple[str, ...]
    probabilities: tuple[float, ...]
    guesses: tuple[Value, ...]
    answers: Mapping[str, Value | None] = field(default_factory=dict)

    @property
    def answered(self) -> int:
        """How many rows have an answer before the first, in the order of drawing, that has none."""
        return next((i for i, name in enumerate(self.ids) if name not in self.answers), len(self.ids))

    @property
    def right(self) -> list[bool]:
        """Whether the model was right in each of the first `answered` rows. A row that was declined counts as wrong."""
        return [
            self.answers[name] is not None and _alike(self.answers[name], guess)
            for name, guess in zip(self.ids[: self.answered], self.guesses, strict=False)
        ]

    def told(self, answers: Mapping[str, Value | Skip]) -> "AccuracySample":
        """The check with these answers, which take the place of earlier ones."""
        told = {name: None if value is SKIP else value for name, value in answers.items()}
        return replace(self, answers={**self.answers, **told})  # type: ignore[arg-type]

    def save(self, folder: Path) -> None:
        """Write it into the folder of a session, whole or not at all."""
        place = folder / CHECKS
        place.mkdir(exist_ok=True)
        write_whole(
            place / f"{self.number}.json", json.dumps(asdict(self), ensure_ascii=False, indent=1) + "\n", private=True
        )


def read_checks(folder: Path) -> list[AccuracySample]:
    """The checks in the folder of a session, oldest first.

    Raises:
        SessionError: a file cannot be read.
    """
    found = []
    for path in (folder / CHECKS).glob("[0-9]*.json"):
        try:
            found.append(_check(parse_json(read_regular(path))))
        except (OSError, ValueError, TypeError, KeyError, OverflowError, AttributeError) as error:
            raise SessionError(f"{path} cannot be read: restore the file, or remove it and draw again") from error
    return sorted(found, key=lambda check: check.number)


def _check(stored: dict[str, Any]) -> AccuracySample:
    stored["ids"], stored["probabilities"] = tuple(stored["ids"]), tuple(map(float, stored["probabilities"]))
    stored["guesses"] = tuple(map(_value, stored["guesses"]))
    stored["answers"] = {name: None if value is None else _value(value) for name, value in stored["answers"].items()}
    if not len(stored["ids"]) == len(stored["probabilities"]) == len(stored["guesses"]):
        raise ValueError("the columns differ in length")
    if not all(isinstance(name, str) for name in (*stored["ids"], *stored["answers"])):
        raise TypeError("ids are texts")
    if any(type(stored[name]) is not int for name in ("number", "labels", "event", "of")):
        raise TypeError("counts are whole numbers")
    if not all(0 < each <= 1 for each in (*stored["probabilities"], float(stored["uniform"]))):
        raise ValueError("probabilities lie between 0 and 1")
    return AccuracySample(**stored)


def _value(stored: object) -> Value:
    if isinstance(stored, str):
        return stored
    if not isinstance(stored, list) or not all(isinstance(name, str) for name in stored):
        raise TypeError("answers are class names, or lists of them")
    return tuple(stored)


def _alike(answer: Value | None, guess: Value) -> bool:
    return answer == guess if isinstance(answer, str) or isinstance(guess, str) else set(answer or ()) == set(guess)
