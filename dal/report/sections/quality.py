"""Sections on the final quality: all metrics, by class, and by group."""

from collections.abc import Iterable, Mapping, Sequence

from dal.report.measures import METRICS, figure_of, metric_name, number
from dal.report.page_parts import Panel, Part, Plot, Section, Statement, Table, TableColumn, tabs
from dal.report.plots.dot_plot import MAX_LINES, dot_plot
from dal.report.run_reading import Run
from dal.report.series import Series, palette_index
from dal.report.wording import slug


def mean(values: Iterable[object]) -> float | None:
    """Mean of the finite numbers among the values; None without any."""
    numbers = [float(value) for value in values if number(value)]
    return sum(numbers) / len(numbers) if numbers else None


def at_the_end(run: Run, name: str, key: str) -> float | None:
    """Mean over the seeds of a strategy of a metric in their last records."""
    return mean(figure_of(cell.last, key) for cell in run.of(name))


def section(run: Run) -> Section | None:
    """Every metric for every strategy, on the test set and on the unlabeled rows of the pool."""
    keys = (*METRICS, *run.own_metrics)
    places = [(name, where) for name in run.strategies for where in ("", "pool.")]
    values = {(n, w, key): at_the_end(run, n, w + key) for n, w in places for key in keys}
    kept = [(n, w) for n, w in places if any(values[n, w, key] is not None for key in keys)]
    metrics = [key for key in keys if any(values[n, w, key] is not None for n, w in kept)]
    if not kept:
        return None
    pool = any(w for _, w in kept)
    columns = [TableColumn("metric", "Metric", "text")]
    for n, w in kept:
        columns.append(TableColumn(f"{n} {'pool' if w else 'test'}", f"{n}, {'pool' if w else 'test'}" if pool else n))
    rows = [(metric_name(key), *(values[n, w, key] for n, w in kept)) for key in metrics]
    seeds = max(sum(1 for cell in run.of(name) if cell.records) for name in run.strategies)
    means = f"means over {seeds} seeds" if seeds > 1 else "one seed"
    lower = "Log loss (in nats), the calibration errors and the Brier score are better when lower."
    own = [metric_name(key) for key in run.own_metrics if run.lower_is_better(key)]
    lower += f" So is {', '.join(own)}." * bool(own)
    if "average_precision" in metrics:
        lower += (
            " Accuracy, F1 and the other figures of decisions depend on the thresholds of the classes; AUROC, mean"
            " average precision and the figures of the probabilities do not."
        )
    caption = f"After the last round of each seed, {means}. {lower}"
    parts: list[Part] = [Table("quality", "Quality at the end", tuple(columns), rows, caption)]
    if pool:
        parts.append(Statement(_pool_words(run)))
    return Section("quality", "Quality at the end", "Quality", tuple(parts))


def _pool_words(run: Run) -> str:
    counts = [figure_of(cell.last, key) for cell in run.cells for key in ("pool.count", "pool.of")]
    many = [
        f"{min(found):,.0f} to {max(found):,.0f}" if min(found) < max(found) else f"{max(found):,.0f}"
        for found in ([c for c in counts[i::2] if c is not None] for i in (0, 1))
        if found
    ]
    sample = ""
    if len(many) == 2:
        sample = f" (all {many[0]} of them)" if many[0] == many[1] else f" (a sample of {many[0]} of {many[1]})"
    return (
        f"“Pool” is measured on rows that are not labeled yet{sample}: those that the model would have to label "
        "automatically. A strategy that selects hard rows leaves the easy ones, so it may look better there "
        "than on the test set."
    )


# -- by class and by group -----------------------------------------------------------------------------------------


def classes(run: Run) -> Section | None:
    """Precision, recall and F1 of every class."""
    columns: tuple[TableColumn, ...] = (
        TableColumn("class", "Class", "text"),
        TableColumn("count", "Test rows", "whole"),
        TableColumn("f1", "F1", "bar"),
        TableColumn("precision", "Precision"),
        TableColumn("recall", "Recall"),
    )
    tables = [cell.last.get("per_class") for cell in run.cells]
    entries = [entry for table in tables if isinstance(table, Mapping) for entry in table.values()]
    if any("threshold" in entry for entry in entries if isinstance(entry, Mapping)):
        columns = (*columns, TableColumn("threshold", "Assigned above the probability"))
    parts = _broken_down(run, "per_class", columns, "F1 by class", "f1")
    return Section("classes", "By class", "Classes", parts) if parts else None


def groups(run: Run) -> Section | None:
    """Accuracy and macro-F1 in every group of test rows."""
    columns = (
        TableColumn("group", "Group", "text"),
        TableColumn("count", "Test rows", "whole"),
        TableColumn("accuracy", "Accuracy", "bar"),
        TableColumn("macro_f1", "Macro-F1"),
    )
    parts = _broken_down(run, "per_group", columns, "Accuracy by group", "accuracy")
    if not parts:
        return None
    note = Statement("Scores of a few rows are unreliable: check the counts first.")
    return Section("groups", "By group", "Groups", (*parts, note))


Broken = dict[str, dict[str, float | None]]


def _broken_down(run: Run, key: str, columns: Sequence[TableColumn], heading: str, main: str) -> tuple[Part, ...]:
    """A plot of the main score of every strategy, and a table for each."""
    found = {name: _by_name(run, name, key, [c.key for c in columns[1:]]) for name in run.strategies}
    found = {name: values for name, values in found.items() if values}
    if not found:
        return ()
    named = {name: [(each, *values.values()) for each, values in found[name].items()] for name in found}
    suffix = ", after the last round, mean over its seeds."
    panels = [
        Panel(name, (Table("", f"{heading} of {name}", tuple(columns), rows, f"{name}{suffix}"),))
        for name, rows in named.items()
    ]
    kind = key.removeprefix("per_")
    long = [(name, *row) for name, rows in named.items() for row in rows]
    table = Table(
        f"{kind}es" if kind == "class" else f"{kind}s",
        heading,
        (TableColumn("strategy", "Strategy", "text"), *columns),
        long,
        hidden=True,
    )
    parts: list[Part] = []
    plot = _plot(run, found, heading, main, f"{slug(main)}-by-{kind}")
    if plot is not None:
        parts.append(plot)
    most = max(len(values) for values in found.values())
    if most > MAX_LINES and plot is not None:
        parts.append(Statement(f"The plot shows the {MAX_LINES} lowest; the table has all {most}."))
    return (*parts, *tabs(kind, "Strategy", panels), table)


def _by_name(run: Run, name: str, key: str, keys: Sequence[str]) -> Broken:
    """Mean of each metric over the seeds, by class or group in order of first occurrence."""
    lasts = [cell.last.get(key) for cell in run.of(name)]
    tables = [table for table in lasts if isinstance(table, Mapping)]
    names = dict.fromkeys(str(each) for table in tables for each in table)
    entries = {each: [t[each] for t in tables if isinstance(t.get(each), Mapping)] for each in names}
    return {each: {k: mean(entry.get(k) for entry in group) for k in keys} for each, group in entries.items()}


def _plot(run: Run, found: Mapping[str, Broken], heading: str, main: str, name: str) -> Plot | None:
    values: dict[str, dict[str, float]] = {}
    for strategy, broken in found.items():
        for each, figures in broken.items():
            score = figures[main]
            if score is not None:
                values.setdefault(each, {})[strategy] = score
    series = [Series(strategy, (), palette_index(run, strategy)) for strategy in found]
    if not values:
        return None
    return Plot(name, dot_plot(values, series, heading, width=720), dot_plot(values, series, heading, width=330))
