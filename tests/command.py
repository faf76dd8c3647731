"""Running the `dal` command inside the test, and the small data and configs that it is run on."""

import csv
import json
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

    @property
    def messages(self) -> list[str]:
        """The lines of stderr without stages, such as "reading tickets.csv ...", and signs of life during them."""
        return [line for line in self.err.splitlines() if not (line.endswith(" ...") or line.startswith("  ... "))]


class Command:
    """Runs `dal` with arguments in a folder of the test."""

    def __init__(self, capsys: pytest.CaptureFixture[str]) -> None:
        self._capsys = capsys

    def __call__(self, *arguments: object) -> Finished:
        code = main([str(argument) for argument in arguments])
        shown = self._capsys.readouterr()
        return Finished(code, shown.out, shown.err)

    def configured(self, **configs: str) -> "Command":
        """The command, with a config `NAME.yaml` in the current folder for each name that is given."""
        for name, text in configs.items():
            Path(f"{name}.yaml").write_text(text)
        return self


def probe(model: Path | None) -> str:
    """A learner for a config: a linear probe on the model in a folder, or on the inputs themselves."""
    return f"{{ProbeLearner: {{model: {model}, max_length: 16}}}}" if model else "{ProbeLearner: {model: null}}"


def asking(learner: str = "TfidfLearner", strategy: str = "Random") -> str:
    """The config of a pool without labels, which a person answers."""
    classes = ", ".join(material.TOPICS)
    data = f"data: {{path: tickets.csv, id: id, label: null, classes: [{classes}]}}\n"
    return f"{data}learner: {learner}\nstrategy: {strategy}\n"


def running(learner: str = "TfidfLearner", strategy: str = "Margin", **keys: object) -> str:
    """The config of a run on tickets with labels, a share of which is the test; further keys as they are given."""
    data = "data: {path: tickets.csv, id: id, test: 0.3}\n"
    more = [f"{key}: {json.dumps(value)}\n" for key, value in keys.items()]
    return f"{data}learner: {learner}\nstrategy: {strategy}\n{''.join(more)}"


def write_tickets(path: Path, count: int, *, labels: bool = True, seed: int = 0) -> Path:
    """A CSV of generated tickets with the columns id, text and, unless told otherwise, label."""
    texts, topics = material.tickets(count, seed=seed)
    rows = [
        [f"t{i}", text, *([topic] if labels else [])] for i, (text, topic) in enumerate(zip(texts, topics, strict=True))
    ]
    with path.open("w", newline="", encoding="utf-8") as file:
        csv.writer(file).writerows([["id", "text", *(["label"] if labels else [])], *rows])
    return path


def read_rows(path: Path | str) -> list[dict[str, str]]:
    """The rows of a CSV file, by column."""
    with open(path, newline="", encoding="utf-8-sig") as file:
        return list(csv.DictReader(file))


def fill(path: Path, answers: Sequence[str]) -> None:
    """Write the answers into the label column of a file that `dal ask` wrote."""
    with path.open(newline="", encoding="utf-8-sig") as file:
        head, *rows = list(csv.reader(file))
    for row, answer in zip(rows, answers, strict=False):
        row[-1] = answer
    with path.open("w", newline="", encoding="utf-8") as file:
        csv.writer(file).writerows([head, *rows])
