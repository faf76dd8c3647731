"""What an experiment consists of and returns: its cells and their results."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from dal.strategy import Strategy


@dataclass(frozen=True)
class Cell:
    """One strategy with one seed. `name` is the name of its run folder."""

    name: str
    strategy: Strategy
    seed: int


@dataclass(frozen=True)
class Results:
    """Results of an experiment.

    Attributes:
        cells: lines of `metrics.jsonl` by cell name, such as "Margin-seed0".
        folder: folder of the experiment; None for a run in memory.
        report: path of the HTML report; None if none was written.
    """

    cells: Mapping[str, Sequence[Mapping[str, Any]]]
    folder: Path | None = None
    report: Path | None = None

    def curve(self, cell: str, metric: str = "accuracy") -> list[tuple[int, float]]:
        """Learning curve of a cell: (number of labels, metric) of each round."""
        return [(int(line["labels"]), float(line[metric])) for line in self.cells[cell]]
