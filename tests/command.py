"""Running the `dal` command inside the test, and small files for it."""

import csv
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import material
import pytest

from dal.cli import main


@dataclass(frozen=True)
class Finished:
    """How a command ended."""

    code: int
    out: str
    err: str


class Command:
    """Runs `dal` with arguments in a folder of the test."""

    def __init__(self, capsys: pytest.CaptureFixture[str]) -> None:
        self._capsys = capsys

    def __call__(self, *arguments: object) -> Finished:
        code = main([str(argument) for argument in arguments])
        shown = self._capsys.readouterr()
        return Finished(code, shown.out, shown.err)


def write_tickets(path: Path, count: int, *, labels: bool = True, seed: int = 0) -> Path:
    """A CSV of generated tickets with the columns id, text and, unless told otherwise, label."""
    texts, topics = material.tickets(count, seed=seed)
    rows = [
        [f"t{i}", text, *([topic] if labels else [])] for i, (text, topic) in enumerate(zip(texts, topics, strict=True))
    ]
    with path.open("w", newline="", encoding="utf-8") as file:
        csv.writer(file).writerows([["id", "text", *(["label"] if labels else [])], *rows])
    return path


def fill(path: Path, answers: Sequence[str]) -> None:
    """Write the answers into the label column of a file that `dal ask` wrote."""
    with path.open(newline="", encoding="utf-8-sig") as file:
        head, *rows = list(csv.reader(file))
    for row, answer in zip(rows, answers, strict=False):
        row[-1] = answer
    with path.open("w", newline="", encoding="utf-8") as file:
        csv.writer(file).writerows([head, *rows])
