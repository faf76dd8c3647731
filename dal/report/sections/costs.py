"""Section on costs: seconds by part, dollars, and the annotator's hours."""

from collections.abc import Iterable

from dal.report.measures import SECONDS, figure_of, number
from dal.report.page_parts import Section, Statement, Table, TableColumn
from dal.report.price import LabelPrice
from dal.report.run_reading import Run
from dal.report.sections.quality import at_the_end, mean


def section(run: Run) -> Section | None:
    """Costs of one run of each strategy, averaged over its seeds."""
    rows = [(name, *_costs(run, name)) for name in run.strategies]
    columns = [
        TableColumn("strategy", "Strategy", "text"),
        *(TableColumn(key, f"{word} (s)", "seconds") for key, word in SECONDS.items()),
        TableColumn("labels_dollars", "labels (dollars)", "money"),
        TableColumn("llm_dollars", "language model (dollars)", "money"),
        TableColumn("annotator_hours", "annotator (hours)", "times"),
    ]
    kept = [i for i in range(1, len(columns)) if any(row[i] is not None for row in rows)]
    if not kept:
        return None
    chosen = (0, *kept)
    table = Table(
        "cost",
        "Costs",
        tuple(columns[i] for i in chosen),
        [tuple(row[i] for i in chosen) for row in rows],
        "One run of each strategy, all rounds, mean over its seeds.",
    )
    price = LabelPrice.of(run)
    note = (Statement(f"Computed with {price.words}."),) if price.label else ()
    return Section("cost", "Costs", "Costs", (table, *note))


def _costs(run: Run, name: str) -> Iterable[float | None]:
    for key in SECONDS:
        yield mean(_total(record.get(key) for record in cell.records) for cell in run.of(name))
    yield at_the_end(run, name, "cost.labels")
    llm = at_the_end(run, name, "cost.llm")
    yield llm or None
    seconds = mean(figure_of(cell.last, "cost.annotator_seconds") for cell in run.of(name))
    yield seconds / 3600 if seconds else None


def _total(values: Iterable[object]) -> float | None:
    numbers = [float(value) for value in values if number(value)]
    return sum(numbers) if numbers else None
