"""What the batches were like: coverage, redundancy, novelty, balance; and what the strategies have in common."""

from collections.abc import Mapping
from itertools import combinations

from dal.report.measures import BATCH
from dal.report.page_parts import Part, Plot, Section, Side, Statement, Table, TableColumn
from dal.report.plots.curve_plot import curves
from dal.report.plots.marks import matrix
from dal.report.run_reading import CellRecord, Run
from dal.report.series import of_run


def section(run: Run) -> Section | None:
    """A small plot for every figure of the batches, over the rounds."""
    found = {key: of_run(run, key) for key in BATCH}
    found = {key: series for key, series in found.items() if series}
    if not found:
        return None
    plots = [
        Plot(
            f"{key.removeprefix('batch.')}-by-labels", curves(series, BATCH[key][0], width=300, height=230, each=False)
        )
        for key, series in found.items()
    ]
    spaces = sorted({str(b["space"]) for c in run.cells for r in c.records if (b := _batch(r)) and b.get("space")})
    where = f" Distances are between {' or '.join(spaces)}." if spaces else ""
    said = "; ".join(f"{BATCH[key][0]}: {BATCH[key][1]}" for key in found)
    note = Statement(f"{said[:1].upper()}{said[1:]}.{where}")
    return Section("batches", "What the batches were like", "Batches", (Side(tuple(plots), small=True), note))


def _batch(record: Mapping[str, object]) -> Mapping[str, object] | None:
    batch = record.get("batch")
    return batch if isinstance(batch, Mapping) else None


def overlap(run: Run) -> Section | None:
    """How many of their rows each two strategies share at the end."""
    shares = {pair: share for pair in combinations(run.strategies, 2) if (share := _jaccard(run, *pair)) is not None}
    if not shares:
        return None
    names = [name for name in run.strategies if any(name in pair for pair in shares)]
    both = shares | {(b, a): share for (a, b), share in shares.items()} | {(name, name): 1.0 for name in names}
    plot = Plot("overlap", matrix(names, both, "Rows in common (%)"))
    columns = (TableColumn("strategy", "Strategy", "text"), *(TableColumn(name, name, "share") for name in names))
    rows = [(one, *(both.get((one, other)) for other in names)) for one in names]
    table = Table("overlap", "Rows in common", columns, rows, hidden=True)
    note = Statement(
        "Rows that both have labeled at the end, of those that either has (Jaccard index), mean over the seeds that "
        "both have. The common start counts, too."
    )
    parts: tuple[Part, ...] = (plot, note, table)
    return Section("overlap", "What the strategies have in common", "Overlap", parts)


def _jaccard(run: Run, one: str, other: str) -> float | None:
    """Of the rows labeled at the end, mean over the seeds that both have; None without such a seed."""
    ours, theirs = ({cell.seed: _labeled(cell) for cell in run.of(name)} for name in (one, other))
    pairs = [(ours[seed], theirs[seed]) for seed in ours.keys() & theirs.keys()]
    found = [len(a & b) / len(a | b) for a, b in pairs if a and b]
    return sum(found) / len(found) if found else None


def _labeled(cell: CellRecord) -> set[str]:
    asked = [record.get("rows") for record in cell.records]
    return {str(row) for rows in asked if isinstance(rows, list) for row in rows}
