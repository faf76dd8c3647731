"""Section with the learning curves over labels, money and time."""

from collections.abc import Sequence

from dal.evaluation import CurveComparison
from dal.evaluation.efficiency import LEAST
from dal.report.measures import LABELS, MONEY, Axis, metric_name, time_axis
from dal.report.page_parts import Panel, Part, Plot, PlotRow, Section, Statement, tabs
from dal.report.plots.curve_plot import curves
from dal.report.run_reading import Run
from dal.report.series import MAX_WITH_SEEDS, Series, of_run
from dal.report.verdict import count

#: Plotted metrics; the first one that was measured gets the largest plot.
PLOTTED = ("accuracy", "macro_f1", "log_loss")


def plotted(run: Run) -> tuple[str, ...]:
    """The plotted metrics of a run, that of the verdict first."""
    chosen = () if run.metric is None else (run.metric,)
    return tuple(dict.fromkeys((*chosen, *PLOTTED, *run.own_metrics)))


def section(run: Run, shown: str | None, saving: CurveComparison | None) -> Section | None:
    """Curves of every plotted metric over each axis that has data."""
    if shown is None:
        return None
    series = of_run(run, shown)
    panels = [_panel(run, shown, axis, saving if axis is LABELS else None) for axis in axes(run, shown)]
    text = f"{_spread(series)} Point at a dot for its figures; all of them are in the tables below."
    if len(panels) > 1:
        text += " Money and time are medians over the seeds at each number of labels."
    note = Statement(text)
    return Section("curves", "Learning curves", "Curves", (*tabs("over", "Drawn over", panels), note))


def axes(run: Run, metric: str) -> list[Axis]:
    """The axes with data: labels, and money and time where any was spent."""
    available = [LABELS]
    spent = {
        key: [c.labels[-1] for s in of_run(run, metric, key) for c in s.curves if len(c)] for key in ("money", "time")
    }
    if max(spent["money"], default=0.0) > 0:
        available.append(MONEY)
    if max(spent["time"], default=0.0) > 0:
        available.append(time_axis(max(spent["time"])))
    return available


def axis_words(run: Run, metric: str) -> str:
    """Display name of a metric, with its unit and direction where they are not obvious."""
    unit = "nats, " if metric == "log_loss" else ""
    return metric_name(metric) + f" ({unit}lower is better)" * run.lower_is_better(metric)


def _panel(run: Run, shown: str, axis: Axis, saving: CurveComparison | None) -> Panel:
    def plot(metric: str, width: float, height: float, narrow: float) -> Plot:
        series = [s.stretched(1 / axis.divisor) if axis.divisor != 1 else s for s in of_run(run, metric, axis.key)]
        drawn = [
            curves(
                series,
                axis_words(run, metric),
                axis=axis,
                width=wide,
                height=high,
                saving=saving if metric == shown else None,
            )
            for wide, high in ((width, height), (330, narrow))
        ]
        return Plot(f"{metric}-by-{axis.key}", drawn[0], drawn[1])

    parts: list[Part] = [plot(shown, 944, 440, 300)]
    others = [metric for metric in plotted(run) if metric != shown and of_run(run, metric)]
    if others:
        parts.append(PlotRow(tuple(plot(metric, 456, 300, 240) for metric in others)))
    return Panel(axis.name, tuple(parts))


def _spread(series: Sequence[Series]) -> str:
    seeds = sorted({s.band.seeds for s in series})
    if not seeds or seeds[-1] < 2:
        return "One seed, so there is no spread to show."
    each = ", thin lines the single seeds" if len(series) <= MAX_WITH_SEEDS else ""
    many, few = "95 % bootstrap intervals of the mean over seeds", "from the lowest seed to the highest"
    if seeds[0] >= LEAST:
        bands = f"the bands are {many}"
    elif seeds[-1] < LEAST:
        bands = f"the bands reach {few}: an interval takes {count(LEAST)} seeds"
    else:
        bands = f"the bands are {many} where there are {count(LEAST)}, and reach {few} where there are fewer"
    return f"Thick lines are means over {count(seeds[-1])} seeds{each}; {bands}."
