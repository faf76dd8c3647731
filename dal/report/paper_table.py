"""Tables of a comparison for papers: mean and standard deviation over the seeds, as LaTeX, CSV or Markdown."""

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from statistics import mean, stdev
from typing import Literal

from dal.errors import DataError
from dal.evaluation import area, band
from dal.report.measures import METRICS, metric_name
from dal.report.run_reading import Run, read
from dal.report.sections.learning_curves import plotted
from dal.report.verdict import comparisons, corrected_p
from dal.store.spreadsheet import as_csv

Format = Literal["latex", "csv", "markdown"]

#: Largest number of label counts in a table; they are evenly spaced among the rounds, first and last included.
MAX_COUNTS = 5


@dataclass(frozen=True)
class Entry:
    """Mean and standard deviation over the seeds (n - 1 in the denominator; None for a single seed)."""

    mean: float
    std: float | None


@dataclass(frozen=True)
class PaperTable:
    """A comparison as a table.

    Attributes:
        metric: display name of the metric.
        lower: whether lower values are better.
        heads: headings of the columns of entries: numbers of labels, and "area".
        rows: entries of each strategy in the order of the config, the baseline last.
        seeds: number of seeds of each strategy.
        covered: smallest and largest number of labels that all runs have; the columns and the area are within them.
        longest: largest number of labels of any run.
        p: p-value of the difference to the baseline over the whole curve, corrected for several strategies, as in the
            verdict of the report; None for the baseline and with too few seeds.
        baseline: name of the baseline; None without one.
    """

    metric: str
    lower: bool
    heads: tuple[str, ...]
    rows: Mapping[str, tuple[Entry, ...]]
    seeds: Mapping[str, int]
    covered: tuple[float, float]
    longest: float
    p: Mapping[str, float]
    baseline: str | None

    def is_best(self, name: str, column: int) -> bool:
        """Whether no other strategy has a better mean in a column, as displayed."""
        means = [round(row[column].mean, 3) for row in self.rows.values()]
        return round(self.rows[name][column].mean, 3) == (min(means) if self.lower else max(means))


def paper_table(run: Run) -> PaperTable:
    """The table of a run, on the metric of its verdict.

    Raises:
        DataError: no strategy was measured, or the strategies have no numbers of labels in common.
    """
    metric = next((key for key in plotted(run) if any(run.curves(name, key) for name in run.strategies)), None)
    if metric is None:
        raise DataError(f"{run.folder} has no scores for a table: nothing was measured on a test set yet")
    curves = {name: list(run.curves(name, metric).values()) for name in run.strategies}
    curves = {name: each for name, each in curves.items() if each}
    counts = band(list(chain(*curves.values()))).mean.labels
    if not counts:
        raise DataError(f"{run.folder}: the strategies have no number of labels in common yet")
    last, few = len(counts) - 1, min(MAX_COUNTS, len(counts))
    shown = sorted({counts[round(i * last / max(1, few - 1))] for i in range(few)})
    rows = {}
    for name, each in curves.items():
        columns = [[float(c.at(x)) for c in each] for x in shown]  # type: ignore[arg-type]
        cut = [c.truncated(counts[-1]) for c in each]
        entries = [*columns, [area(c) for c in cut]]
        rows[name] = tuple(Entry(mean(v), stdev(v) if len(v) > 1 else None) for v in entries)
    heads = (*(f"{x:.0f}" for x in shown), "area")
    seeds = {name: len(each) for name, each in curves.items()}
    lower, p = run.lower_is_better(metric), corrected_p(comparisons(run, metric))
    longest = max(c.labels[-1] for c in chain(*curves.values()))
    covered = (counts[0], counts[-1])
    return PaperTable(metric_name(metric), lower, heads, rows, seeds, covered, longest, p, run.baseline)


def table_text(folder: Path | str, form: Format, metric: str | None = None) -> str:
    """The table of the comparison or run in a folder, which is only read.

    Args:
        folder: the folder.
        form: format of the table.
        metric: name of the metric; None for that of the verdict.

    Raises:
        ConfigError: the folder has no scores of the metric.
        DataError: the folder holds no scores.
    """
    writers: dict[Format, Callable[[PaperTable], str]] = {"latex": _latex, "csv": _csv, "markdown": _markdown}
    return writers[form](paper_table(read(folder, metric)))


def _latex(table: PaperTable) -> str:
    def cell(name: str, column: int) -> str:
        entry = table.rows[name][column]
        middle = f"{entry.mean:.3f}"
        middle = rf"\textbf{{{middle}}}" if table.is_best(name, column) else middle
        return middle if entry.std is None else rf"{middle} $\pm$ {entry.std:.3f}"

    heads = ["strategy", *(f"{head} labels" if head != "area" else head for head in table.heads), "$p$"]
    lines = [
        f"% {_latex_text(_caption(table))}",
        rf"\begin{{tabular}}{{l{'r' * (len(heads) - 1)}}}",
        r"\toprule",
        " & ".join(heads) + r" \\",
        r"\midrule",
    ]
    for name in table.rows:
        cells = [_latex_text(name), *(cell(name, i) for i in range(len(table.heads))), _p(table, name, "--")]
        lines.append(" & ".join(cells) + r" \\")
    return "\n".join([*lines, r"\bottomrule", r"\end{tabular}", ""])


def _markdown(table: PaperTable) -> str:
    def cell(name: str, column: int) -> str:
        entry = table.rows[name][column]
        middle = f"**{entry.mean:.3f}**" if table.is_best(name, column) else f"{entry.mean:.3f}"
        return middle if entry.std is None else f"{middle} ± {entry.std:.3f}"

    heads = ["strategy", *(f"{head} labels" if head != "area" else head for head in table.heads), "p"]
    lines = [heads, ["---", *["---:"] * (len(heads) - 1)]]
    for name in table.rows:
        escaped = re.sub(r"([\\`*_|<>\[\]])", r"\\\1", " ".join(name.split()))
        lines.append([escaped, *(cell(name, i) for i in range(len(table.heads))), _p(table, name, "–")])
    rows = "\n".join(f"| {' | '.join(cells)} |" for cells in lines)
    return f"{rows}\n\n{_caption(table)}\n"


def _csv(table: PaperTable) -> str:
    heads = [f"{head} {what}" for head in table.heads for what in ("mean", "std")]
    lines: list[Sequence[object]] = [["strategy", "seeds", "metric", *heads, "p"]]
    for name, row in table.rows.items():
        values = [value for entry in row for value in (entry.mean, entry.std)]
        lines.append([name, table.seeds[name], table.metric, *values, table.p.get(name)])
    return as_csv(lines)


def _caption(table: PaperTable) -> str:
    seeds = sorted(set(table.seeds.values()))
    number = f"{seeds[0]}" if len(seeds) == 1 else f"{seeds[0]} to {seeds[-1]}"
    # The name of a user's function is an identifier: a capital letter would change it.
    metric = table.metric[:1].upper() + table.metric[1:] if table.metric in METRICS.values() else table.metric
    text = f"{metric} on the test set by number of labels, and its mean over the curve (area): "
    text += f"mean and standard deviation over {number} seeds" if seeds[-1] > 1 else "one seed"
    if table.longest > table.covered[1]:
        start, end = table.covered
        text += (
            f"; columns and area are for {start:.0f} to {end:.0f} labels, which all runs have "
            f"(the longest has {table.longest:.0f})"
        )
    if table.lower:
        text += "; lower is better"
    if table.p:
        text += f"; p: paired permutation test of the area against {table.baseline}, Holm-corrected"
    return f"{text}."


def _p(table: PaperTable, name: str, missing: str) -> str:
    p = table.p.get(name)
    return missing if p is None else f"{p:.3f}"


def _latex_text(text: str) -> str:
    """The text on one line with the special characters of LaTeX escaped."""
    special = {"\\": r"\textbackslash{}", "~": r"\textasciitilde{}", "^": r"\textasciicircum{}"}
    special |= {each: f"\\{each}" for each in "&%$#_{}"}
    return "".join(special.get(each, each) for each in " ".join(text.split()))
