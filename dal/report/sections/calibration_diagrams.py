"""Section on calibration: reliability diagrams and calibration errors."""

from collections.abc import Mapping

from dal.report.measures import METRICS, figure_of, number
from dal.report.page_parts import Part, Plot, PlotRow, Section, Statement, Table, TableColumn
from dal.report.plots.curve_plot import curves
from dal.report.plots.reliability import Bins, pooled, reliability
from dal.report.run_reading import Record, Run
from dal.report.sections.quality import at_the_end, mean
from dal.report.series import color_name_of, of_run, short
from dal.report.wording import slug

_SCORES = ("ece", "ace", "log_loss", "brier")


def section(run: Run) -> Section | None:
    """Reliability diagrams, calibration errors before and after temperature scaling, and their curves over labels."""
    parts: list[Part] = []
    diagrams = _diagrams(run)
    if diagrams:
        parts += [PlotRow(tuple(diagrams), small=True), Statement(_DIAGRAM)]
    table = _table(run)
    if table is not None:
        parts.append(table)
    over_labels = [
        Plot(f"{key}-by-labels", curves(of_run(run, key), METRICS[key], width=300, height=230, each=False))
        for key in ("ece", "ace", "brier")
        if of_run(run, key)
    ]
    if not diagrams and table is None:
        return None
    if over_labels:
        parts.append(PlotRow(tuple(over_labels), small=True))
    return Section("calibration", "Calibration", "Calibration", tuple(parts))


_DIAGRAM = (
    "On the dashed line the accuracy of a model equals its confidence; below it, the model is overconfident. The bars "
    "show the distribution of the test rows. All seeds pooled, after the last round."
)


def _diagrams(run: Run) -> list[Plot]:
    plots = []
    for name in run.strategies:
        several = [bins for cell in run.of(name) if (bins := _bins(cell.last)) is not None]
        if several:
            plots.append(
                Plot(f"reliability-{slug(name)}", reliability(pooled(several), short(name), color_name_of(run, name)))
            )
    return plots


def _bins(record: Record) -> Bins | None:
    """The non-empty bins of a record; None where there are none."""
    diagram = record.get("reliability")
    if not isinstance(diagram, Mapping):
        return None
    lists = [diagram.get(key) for key in ("confidence", "accuracy", "count")]
    if not all(isinstance(each, list) for each in lists):
        return None
    filled = [row for row in zip(*lists, strict=False) if all(number(value) for value in row) and row[2] > 0]  # type: ignore[arg-type]
    return Bins(*(tuple(map(float, column)) for column in zip(*filled, strict=True))) if filled else None


def _table(run: Run) -> Table | None:
    after = any("temperature_scaled" in cell.last for cell in run.cells)
    rows = []
    for name in run.strategies:
        before = [at_the_end(run, name, key) for key in _SCORES]
        scaled = [at_the_end(run, name, f"temperature_scaled.{key}") for key in _SCORES]
        if any(value is not None for value in (*before, *scaled)):
            scores = [value for pair in zip(before, scaled, strict=True) for value in pair] if after else before
            temperature = mean(figure_of(cell.last, "temperature_scaled.temperature") for cell in run.of(name))
            rows.append((name, *scores, *((temperature,) if after else ())))
    if not rows:
        return None
    columns = [TableColumn("strategy", "Strategy", "text")]
    for key in _SCORES:
        columns.append(TableColumn(key, METRICS[key]))
        columns += [TableColumn(f"scaled_{key}", "scaled")] if after else []
    columns += [TableColumn("temperature", "Temperature", "times")] if after else []
    caption = "On the test set after the last round, means over seeds; log loss in nats. Lower is better."
    if after:
        caption += (
            " “Scaled”: after temperature scaling, fitted on held-out labels; a temperature above 1 lowers confidences."
        )
    return Table("calibration", "Calibration", tuple(columns), rows, caption)
