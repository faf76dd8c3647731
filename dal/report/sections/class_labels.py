"""Section on the labels that each class lacks: extrapolation of its F1 by its own number of labels."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import median

from dal.evaluation.extrapolation import LabelForecast, predicted_labels
from dal.report.page_parts import Part, Section, Statement, Table, TableColumn
from dal.report.run_reading import Run
from dal.report.sections.forecast import FAR
from dal.report.sections.quality import mean

#: Smallest number of rounds with different label counts of a class, from which its F1 is extrapolated.
LEAST_POINTS = 4

#: Number of sentences on the page, the classes with the lowest F1 first; the table has all classes.
MAX_SENTENCES = 8

#: Fewest test rows of a class whose F1 is taken at its word.
FEW_ROWS = 10

_CAUTION = (
    "Extrapolated from a power law of the class's F1 by its own number of labels, over the rounds of this run: a rough "
    "figure. Labels of other classes, which the curve does not know, raise or lower it as well."
)


@dataclass(frozen=True)
class _ClassCurve:
    """The labels and the F1 of one class over the rounds, the number of its test rows, and the labels it lacks."""

    name: str
    labels: tuple[float, ...]
    scores: tuple[float, ...]
    test_rows: float
    needed: LabelForecast | None

    @property
    def now(self) -> float:
        return self.scores[-1]

    @property
    def lacking(self) -> float | None:
        """Predicted number of labels it lacks, at least 1; None where no number in sight is expected to do."""
        value = None if self.needed is None else self.needed.value
        return None if value is None or value > FAR * self.labels[-1] else max(1.0, value)


def section(run: Run) -> Section | None:
    """For every class of the first strategy: its labels, its F1, and the labels that would bring it to the median."""
    strategy = run.strategies[0]
    measured = {name: points for name, points in _points(run, strategy).items() if points}
    if len(measured) < 2:
        return None
    goal = median(points[-1][1] for points in measured.values())
    curves = []
    for name, points in measured.items():
        labels, scores = [n for n, _, _ in points if n > 0], [f1 for n, f1, _ in points if n > 0]
        enough = len(set(labels)) >= LEAST_POINTS and points[-1][1] < goal
        needed = predicted_labels(labels, scores, goal) if enough else None
        counts, figures = zip(*((n, f1) for n, f1, _ in points), strict=True)
        curves.append(_ClassCurve(name, counts, figures, points[-1][2], needed))
    curves.sort(key=lambda curve: curve.now)
    below = [curve for curve in curves if curve.now < goal]
    parts: list[Part] = [Statement(_words(curve, goal)) for curve in below[:MAX_SENTENCES]]
    if len(below) > MAX_SENTENCES:
        parts.append(Statement(f"The table has the other {len(below) - MAX_SENTENCES} classes below the median."))
    parts += [Statement(_CAUTION), _table(curves, goal, strategy)]
    return Section("class_labels", "Labels that each class lacks", "Labels by class", tuple(parts))


def _points(run: Run, strategy: str) -> dict[str, list[tuple[float, float, float]]]:
    """By class, its labels, F1 and test rows in each round, means over the seeds, where all of them are known."""
    rounds = zip(*(cell.records for cell in run.of(strategy) if cell.records), strict=False)
    found: dict[str, list[tuple[float, float, float]]] = {}
    for records in rounds:
        for name, counts, figures in _by_class(records):
            values = [mean(counts), mean(f.get("f1") for f in figures), mean(f.get("count") for f in figures)]
            if all(value is not None for value in values):
                last = found.setdefault(name, [])
                labels, f1, rows = (float(value) for value in values if value is not None)
                if not last or labels >= last[-1][0]:  # a label that was changed takes one away
                    last.append((labels, f1, rows))
    return found


def _by_class(records: Sequence[Mapping[str, object]]) -> list[tuple[str, list[object], list[Mapping[str, object]]]]:
    """By class name, the label counts and the test figures in one round of all seeds."""
    tables = []
    for record in records:
        figures, counts = record.get("per_class"), record.get("class_counts")
        if not isinstance(figures, Mapping) or not isinstance(counts, Sequence) or len(figures) != len(counts):
            return []
        tables.append({str(name): (n, f) for (name, f), n in zip(figures.items(), counts, strict=True)})
    names = [
        name for name in tables[0] if all(name in table and isinstance(table[name][1], Mapping) for table in tables)
    ]
    return [(name, [t[name][0] for t in tables], [t[name][1] for t in tables]) for name in names]


def _words(curve: _ClassCurve, goal: float) -> str:
    """Sentence on one class below the median."""
    last, needed = curve.labels[-1], curve.needed
    text = f"{curve.name}: {last:,.0f} label{'s' if round(last) != 1 else ''}, F1 {curve.now:.2f}"
    uncertain = f" Only {curve.test_rows:.0f} test rows are of this class: the F1 is uncertain."
    few = uncertain if curve.test_rows < FEW_ROWS else ""
    median_of_all = f"the median {goal:.2f} of all classes"
    if needed is None:
        return f"{text}, below {median_of_all}; too few rounds to tell what it lacks.{few}"
    if curve.lacking is None:
        return f"{text}; more labels of it alone are not expected to bring it to {median_of_all}.{few}"
    least, most = needed.low or 0.0, needed.high
    reach = f"{least:,.0f} to {most:,.0f}" if most is not None and most <= FAR * last else f"{least:,.0f} or more"
    return f"{text}; about {curve.lacking:,.0f} more labels of it ({reach}) would bring it to {median_of_all}.{few}"


def _table(curves: Sequence[_ClassCurve], goal: float, strategy: str) -> Table:
    columns = (
        TableColumn("class", "Class", "text"),
        TableColumn("labels", "Labels", "whole"),
        TableColumn("f1", "F1", "bar"),
        TableColumn("test_rows", "Test rows", "whole"),
        TableColumn("lacks", "Lacks", "text"),
    )
    rows = [(c.name, c.labels[-1], c.now, c.test_rows, _lacks(c, goal)) for c in curves]
    caption = f"{strategy}, after the last round, means over its seeds. Lacks: labels to the median F1 of {goal:.2f}."
    return Table("class_labels", "Labels that each class lacks", columns, rows, caption)


def _lacks(curve: _ClassCurve, goal: float) -> str:
    if curve.now >= goal:
        return "none"
    if curve.needed is None:
        return "unknown"
    return "not a matter of its labels" if curve.lacking is None else f"about {curve.lacking:,.0f}"
