"""Section with all metrics, round by round."""

from collections.abc import Mapping, Sequence

from dal.errors import shortened
from dal.report.measures import METRICS, SECONDS, figure_of
from dal.report.page_parts import Details, Part, Section, Statement, Subheading, Table, TableColumn
from dal.report.run_reading import CellRecord, Run
from dal.report.sections.quality import mean
from dal.report.series import color_name_of
from dal.report.wording import seed_numbers

_TABLED = ("accuracy", "macro_f1", "log_loss", "ece")
_LONGEST = 2000  # characters of what the fits of a seed chose
_TIMED = ("fit_seconds", "pass_seconds", "select_seconds")


def section(run: Run) -> Section:
    """Means over the seeds of each strategy, and each seed collapsed."""
    parts: list[Part] = []
    for name in run.strategies:
        parts.append(Subheading(run.title(name), color_name_of(run, name)))
        cells = run.of(name)
        longest = max((len(cell.records) for cell in cells), default=0)
        if longest:
            parts.append(_means(name, cells, longest))
        parts.append(_seeds(cells))
    return Section("rounds", "Round by round", "Rounds", (*parts, _everything(run)))


def _columns(*more: TableColumn) -> tuple[TableColumn, ...]:
    scores = [TableColumn(key, METRICS[key]) for key in _TABLED]
    times = [TableColumn(key, f"{SECONDS[key]} (s)", "seconds") for key in _TIMED]
    return (TableColumn("labels", "Labels", "whole"), *scores, *times, *more)


def _means(name: str, cells: Sequence[CellRecord], longest: int) -> Table:
    rows = []
    for i in range(longest):
        records = [cell.records[i] for cell in cells if i < len(cell.records)]
        means = [mean(record.get(key) for record in records) for key in ("labels", *_TABLED, *_TIMED)]
        rows.append((*means, len(records)))
    caption = "Means over the seeds that have reached the round." if len(cells) > 1 else "One seed."
    return Table(
        "", f"Rounds of {name}", _columns(TableColumn("seeds", "seeds", "whole")), rows, f"{caption} Log loss in nats."
    )


def _seeds(cells: Sequence[CellRecord]) -> Details:
    parts: list[Part] = []
    for cell in cells:
        if cell.records:
            keys = ("labels", *_TABLED, *_TIMED)
            rows = [tuple(figure_of(record, key) for key in keys) for record in cell.records]
            where = f"{cell.name}, seed {cell.seed}"
            parts.append(Table("", f"Rounds of {where}", _columns(), rows, f"{where}: {cell.status}"))
            if choices := _training_choices(cell):
                parts.append(Statement(f"{where}: {choices}."))
    unfinished = tuple(f"seed {cell.seed} {cell.status}" for cell in cells if not cell.finished)
    nothing: tuple[Part, ...] = (Statement("Nothing has been evaluated yet."),)
    return Details("Each seed", tuple(parts) or nothing, seed_numbers([cell.seed for cell in cells]), unfinished)


def _training_choices(cell: CellRecord) -> str:
    """What the fits chose by themselves, where it changed, with the number of labels; empty without any."""
    changes, last = [], ""
    for record in cell.records:
        notes = record.get("training")
        text = notes.get("text") if isinstance(notes, Mapping) else None
        # The figures in brackets differ in every round; what was chosen does not.
        if isinstance(text, str) and text.split("(")[0] != last:
            last = text.split("(")[0]
            changes.append(f"with {record.get('labels')} labels {text}")
    return shortened("; ".join(changes), _LONGEST)


def _everything(run: Run) -> Table:
    """Every metric of every record, for the exports only."""
    keys = [key for key in (*METRICS, *SECONDS) if any(key in r for c in run.cells for r in c.records)]
    keys += run.own_metrics
    keys += [
        f"pool.{key}"
        for key in (*METRICS, *run.own_metrics)
        if any(figure_of(r, f"pool.{key}") is not None for c in run.cells for r in c.records)
    ]
    batch = ("redundancy", "novelty", "coverage_mean", "coverage_p95", "balance", "uncertainty")
    keys += [
        f"batch.{key}"
        for key in batch
        if any(figure_of(r, f"batch.{key}") is not None for c in run.cells for r in c.records)
    ]
    names = (("strategy", "text"), ("seed", "whole"), ("round", "whole"), ("labels", "whole"))
    columns = (*(TableColumn(name, name, kind) for name, kind in names), *(TableColumn(key, key) for key in keys))
    rows = [
        (cell.name, cell.seed, record.get("round"), record.get("labels"), *(figure_of(record, key) for key in keys))
        for cell in run.cells
        for record in cell.records
    ]
    return Table("rounds", "Round by round", columns, rows, hidden=True)
