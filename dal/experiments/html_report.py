"""The default writer of a finished experiment's report."""

from collections.abc import Callable
from pathlib import Path
from typing import TypeAlias

#: Writes a report of the folder of an experiment and returns the path of its page.
ReportWriter: TypeAlias = Callable[[Path], Path]


def html_report(folder: Path) -> Path:
    """Write `report.html` of a folder and return its path.

    `dal.report` reads what experiments store, so it depends on this package and nothing here may depend on it. This
    default of `Experiment.run` and `Comparison.run` is the single exception, and a test allows no other.
    """
    from dal.report import write_report

    return Path(write_report(folder))


def verdict_sentences(folder: Path) -> list[str]:
    """The sentences of the verdict on the page that `html_report` writes."""
    from dal.report import verdict_sentences as sentences

    return list(sentences(folder))
