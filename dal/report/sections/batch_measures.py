"""Sections on batch quality (coverage, redundancy, novelty, balance) and on the overlap of strategies."""

from collections.abc import Mapping
from itertools import combinations

from dal.report.measures import BATCH
from dal.report.page_parts import Part, Plot, PlotRow, Section, Statement, Table, TableColumn
from dal.report.plots.curve_plot import curves
from dal.report.plots.dot_plot import overlap_matrix
from dal.report.run_reading import Run
from dal.report.series import of_run


def section(run: Run) -> Section | None:
    """A small plot of every batch metric over the labels."""
    measured = {key: series for key in BATCH if (series := of_run(run, key))}
    if not measured:
        return None
    plots = [
        Plot(
            f"{key.removeprefix('batch.')}-by-labels", curves(series, BATCH[key][0], width=300, height=230, each=False)
        )
        for key, series in measured.items()
    ]
    batches = [batch for c in run.cells for r in c.records if isinstance(batch := r.get("batch"), Mapping)]
    spaces = sorted({str(batch["space"]) for batch in batches if batch.get("space")})
    where = f" Distances are between {' or '.join(spaces)}." if spaces else ""
    meanings = "; ".join(f"{BATCH[key][0]}: {BATCH[key][1]}" for key in measured)
    note = Statement(f"{meanings[:1].upper()}{meanings[1:]}.{where}")
    return Section("batches", "Batch measures", "Batches", (PlotRow(tuple(plots), small=True), note))


def overlap(run: Run) -> Section | None:
    """Overlap of the labeled rows of each pair of strategies at the end."""
    shares = {pair: share for pair in combinations(run.strategies, 2) if (share := _jaccard(run, *pair)) is not None}
    if not shares:
        return None
    names = [name for name in run.strategies if any(name in pair for pair in shares)]
    both = shares | {(b, a): share for (a, b), share in shares.items()} | {(name, name): 1.0 for name in names}
    plot = Plot("overlap", overlap_matrix(names, both, "Rows in common (%)"))
    columns = (TableColumn("strategy", "Strategy", "text"), *(TableColumn(name, name, "share") for name in names))
    rows = [(one, *(both.get((one, other)) for other in names)) for one in names]
    table = Table("overlap", "Rows in common", columns, rows, hidden=True)
    note = Statement(
        "Rows labeled by both strategies at the end, as a share of those labeled by either (Jaccard index), mean over "
        "the common seeds. The common start counts, too."
    )
    parts: tuple[Part, ...] = (plot, note, table)
    return Section("overlap", "Overlap of the strategies", "Overlap", parts)


def _jaccard(run: Run, one: str, other: str) -> float | None:
    """Mean Jaccard index of the labeled rows over the common seeds; None without one."""
    labeled: dict[str, dict[int, set[str]]] = {one: {}, other: {}}
    for name, by_seed in labeled.items():
        for cell in run.of(name):
            asked = [record.get("rows") for record in cell.records]
            by_seed[cell.seed] = {str(row) for rows in asked if isinstance(rows, list) for row in rows}
    ours, theirs = labeled[one], labeled[other]
    pairs = [(ours[seed], theirs[seed]) for seed in ours.keys() & theirs.keys()]
    shares = [len(a & b) / len(a | b) for a, b in pairs if a and b]
    return sum(shares) / len(shares) if shares else None
