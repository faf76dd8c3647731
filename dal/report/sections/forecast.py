"""Section on the predicted effect of more labels, by extrapolation of the learning curves."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from dal.evaluation.extrapolation import LabelForecast, ScoreForecast, predicted_labels, predicted_score
from dal.objective import DEFAULT, name_in_config
from dal.report.measures import METRICS, number
from dal.report.page_parts import Part, Plot, Section, Statement, Table, TableColumn
from dal.report.plots.forecast_plot import Forecast, forecast_plot
from dal.report.run_reading import Run, class_name
from dal.report.series import Series, of_run

#: Number of labels to extrapolate by; smallest number of points of an extrapolated curve.
MORE = 100
LEAST_POINTS = 5

#: Largest number of further labels that is stated, in multiples of the labels so far.
FAR = 20

#: Largest number of strategies in the plot.
MAX_DRAWN = 4

_CAUTION = (
    "This is an extrapolation: a power law with an offset, fitted to the mean curve. It does not anticipate changes in "
    "the data or labels running out. On stored curves of eight data sets, 60 labels ahead, such 90 % intervals covered "
    "the later measurement in 81 to 86 % of the cases, and more often predicted too little than too much."
)


@dataclass(frozen=True)
class _Prediction:
    series: Series
    now: float
    score: ScoreForecast
    needed: LabelForecast


def section(run: Run, shown: str | None) -> Section | None:
    """Predicted score after the next labels, and labels needed to reach a target, for every strategy."""
    if shown not in ("accuracy", "macro_f1"):
        return None
    series = [s for s in of_run(run, shown) if len(s.band.mean) >= LEAST_POINTS and s.band.mean.labels[0] > 0]
    if not series:
        return None
    goal = _target(run, shown, series)
    forecasts = []
    for s in series:
        labels, scores = s.band.mean.labels, s.band.mean.scores
        score, needed = predicted_score(labels, scores, MORE), predicted_labels(labels, scores, goal)
        forecasts.append(_Prediction(s, scores[-1], score, needed))
    parts: list[Part] = [Statement(_words(each, METRICS[shown], goal), "lead") for each in forecasts]
    parts.append(Statement(_CAUTION))
    if len(forecasts) <= MAX_DRAWN:
        lines = [Forecast(o.series, o.score.curve, o.score.low, o.score.high) for o in forecasts]
        drawn = [forecast_plot(lines, METRICS[shown], MORE, width=width) for width in (720, 330)]
        parts.append(Plot("prediction", drawn[0], drawn[1]))
    parts.append(_table(forecasts, goal))
    return Section("prediction", "What more labels would bring", "Prediction", tuple(parts))


def _target(run: Run, metric: str, series: Sequence[Series]) -> float:
    """Target of the config's stopping rule, else the next multiple of 0.05 (or 0.01) above the best score."""
    stop = run.config.get("stop")
    options = stop.get("init_args", stop.get("TargetScore")) if isinstance(stop, Mapping) else None
    rule = options if class_name(stop) == "TargetScore" and isinstance(options, Mapping) else {}
    if (rule.get("metric") or name_in_config(run.config) or DEFAULT) == metric and number(rule.get("value")):
        return float(rule["value"])
    best = max(s.band.mean.scores[-1] for s in series) + 0.02  # an almost reached target is not informative
    step = 0.05 if best < 0.945 else 0.01
    return min(1.0, round(step * (math.floor(best / step + 1e-9) + 1), 2))


def _words(o: _Prediction, metric: str, goal: float) -> str:
    name, last = o.series.name, o.series.band.mean.labels[-1]
    text = (
        f"{name}: the next {MORE} labels would bring {metric} from {o.now:.3f} to {o.score.value:.3f} "
        f"(90 % interval {o.score.low:.3f} to {o.score.high:.3f})."
    )
    if o.now >= goal:
        return f"{text} It has reached {goal:g}."
    return f"{text} {_more_words(o.needed, goal, last)}"


def _more_words(needed: LabelForecast, goal: float, last: float) -> str:
    """Sentence on the number of further labels needed to reach the target."""

    def labels(count: float) -> str:
        return f"{count:,.0f}" if count <= FAR * last else f"more than {FAR * last:,.0f}"

    if needed.low is None:
        return f"It is not expected to reach {goal:g}."
    least = labels(needed.low)
    most = "perhaps never" if needed.high is None else labels(needed.high)
    reach = f"{least} or more, {most}" if needed.high is None else f"{least} to {most}"
    if needed.value is None:
        return f"For {goal:g} it would need {reach}; the fitted curve itself ends below."
    return f"For {goal:g} it would need about {labels(needed.value)} more labels ({reach})."


def _table(forecasts: Sequence[_Prediction], goal: float) -> Table:
    columns = (
        TableColumn("strategy", "Strategy", "text"),
        TableColumn("labels", "Labels so far", "whole"),
        TableColumn("score", "Score"),
        TableColumn("predicted", f"After {MORE} more"),
        TableColumn("low", "from"),
        TableColumn("high", "to"),
        TableColumn("target", "Target"),
        TableColumn("needed", "More labels to it", "never"),
        TableColumn("needed_low", "from", "never"),
        TableColumn("needed_high", "to", "never"),
        TableColumn("ceiling", "Where the curve ends"),
    )
    rows = [
        (
            *(o.series.name, o.series.band.mean.labels[-1], o.now),
            *(o.score.value, o.score.low, o.score.high),
            *(goal, o.needed.value, o.needed.low, o.needed.high, o.score.curve.ceiling),
        )
        for o in forecasts
    ]
    return Table("prediction", "Predictions", columns, rows, "Intervals of 90 %, by a bootstrap of the residuals.")
