"""Learning curves."""

from collections.abc import Sequence

from dal.evaluation import CurveComparison
from dal.report.measures import LABELS, Axis
from dal.report.series import MAX_WITH_SEEDS, Series, capital, drawable, measured, short, spread_apart
from dal.report.shapes import Area, Dot, Drawing, Frame, Line, Shape, Text, x_axis, y_axis

#: Mean curves with more points than this are drawn without dots.
MAX_DOTS = 25


def curves(
    series: Sequence[Series],
    metric: str,
    *,
    axis: Axis = LABELS,
    width: float = 420,
    height: float = 300,
    note: str = "",
    saving: CurveComparison | None = None,
    each: bool = True,
) -> Drawing:
    """Learning curves of one metric.

    Args:
        series: the strategies, each with its seeds; those without a point are left out.
        metric: display name of the metric.
        axis: the x axis; the curves are in its unit.
        width: width in CSS pixels.
        height: height in CSS pixels.
        note: short text at the top right, such as the meaning of the band.
        saving: comparison whose saved labels are marked at the baseline's final score.
        each: whether to draw the single seeds, too, unless there are many strategies.
    """
    series = drawable(series)
    right = 16 + 8.2 * max((len(short(s.name)) for s in series), default=0)
    frame = _frame(series, 44, width - right, 34, height - 40)
    shapes: list[Shape] = [Text("heading", "ink", 0, 16, capital(metric))]
    if note:
        shapes.append(Text("text", "muted", frame.right, 16, note, "end"))
    shapes += y_axis(frame)
    shapes += x_axis(frame, axis.unit, measured(series) if axis.key == "labels" else ())
    shapes += [shape for s in reversed(series) for shape in _band(s, frame)]
    each = each and len(series) <= MAX_WITH_SEEDS
    shapes += [shape for s in reversed(series) for shape in _lines(s, frame, metric, axis, each=each)]
    shapes += _names(series, frame)
    shapes += _saving(saving, frame) if saving is not None else []
    return Drawing(f"{capital(metric)} by {axis.unit}", described(series, axis), width, height, tuple(shapes))


def _frame(series: Sequence[Series], left: float, right: float, top: float, bottom: float) -> Frame:
    xs = [x for s in series for c in s.curves for x in c.labels] or [0.0, 1.0]
    ys = [y for s in series for c in s.curves for y in c.scores] or [0.0, 1.0]
    pad = 0.06 * (max(ys) - min(ys)) or 0.05
    wide = 0 if max(xs) > min(xs) else 1
    return Frame((min(xs) - wide, max(xs) + wide), (min(ys) - pad, max(ys) + pad), left, right, top, bottom)


def _band(series: Series, frame: Frame) -> list[Shape]:
    spread = series.band
    if spread.seeds < 2 or len(spread.mean) < 2:
        return []
    labels = spread.mean.labels
    outline = [*zip(labels, spread.low, strict=True), *reversed([*zip(labels, spread.high, strict=True)])]
    return [Area("band", series.color_name, frame.path(outline))]


def _lines(series: Series, frame: Frame, metric: str, axis: Axis, *, each: bool) -> list[Shape]:
    spread, color = series.band, series.color_name
    shapes: list[Shape] = []
    if len(series.curves) > 1 and (each or len(spread.mean) < 2):
        seeds = [frame.path([*zip(one.labels, one.scores, strict=True)]) for one in series.curves if len(one)]
        shapes += [Line("seed", color, points) for points in seeds]
    mean = [*zip(spread.mean.labels, spread.mean.scores, strict=True)]
    if mean:
        shapes.append(Line("mean", color, frame.path(mean), "7 5" if series.color is None else ""))
    for (x, score), low, high in zip(mean, spread.low, spread.high, strict=True):
        if len(mean) <= MAX_DOTS:
            over = f", {low:.3f} to {high:.3f} over {spread.seeds} seeds" if spread.seeds > 1 else ""
            tip = f"{series.name}, {x:,.{axis.places}f} {axis.unit}: {metric} {score:.3f}{over}"
            shapes.append(Dot("point", color, *frame.at(x, score), 4, tip))
    return shapes


def _names(series: Sequence[Series], frame: Frame) -> list[Shape]:
    """Names at the ends of the curves, moved apart where they would overlap."""
    ends = [frame.at(*s.end) for s in series]
    heights = spread_apart([y for _, y in ends], 16, frame.bottom - 2)
    return [
        Text("name", s.color_name, x + 10, y + 4, short(s.name))
        for s, (x, _), y in zip(series, ends, heights, strict=True)
    ]


def _saving(saving: CurveComparison, frame: Frame) -> list[Shape]:
    if saving.needed is None or saving.baseline_needed - saving.needed < 1:
        return []
    x, y = frame.at(saving.needed, saving.target)
    x1, _ = frame.at(saving.baseline_needed, saving.target)
    words = f"{saving.needed:.0f} labels, {saving.baseline_needed - saving.needed:.0f} fewer"
    return [
        Line("saved", "ink", ((x1, y), (x, y), (x, frame.bottom)), "2 3"),
        Text("saving", "ink", x + 5, frame.bottom - 6, words),
    ]


def described(series: Sequence[Series], axis: Axis = LABELS) -> str:
    """Description of each curve in one sentence, for screen readers."""
    sentences = []
    for s in series:
        mean = s.band.mean
        if len(mean):
            x0, x1 = (f"{x:,.{axis.places}f}" for x in (mean.labels[0], mean.labels[-1]))
            y0, y1 = mean.scores[0], mean.scores[-1]
            over = f", mean over {s.band.seeds} seeds" if s.band.seeds > 1 else ""
            sentences.append(f"{s.name}: from {y0:.3f} with {x0} {axis.unit} to {y1:.3f} with {x1}{over}.")
    return " ".join(sentences) or "No round has been evaluated yet."
