"""Learning curves with their predicted continuation."""

from collections.abc import Sequence
from dataclasses import dataclass

from dal.evaluation.extrapolation import PowerLaw
from dal.report.series import Series, capital, short, spread_apart
from dal.report.shapes import Dot, Drawing, Frame, Line, Shape, Text, x_axis, y_axis


@dataclass(frozen=True)
class Forecast:
    """A strategy with the power law fitted to its mean curve and the interval of the last predicted score."""

    series: Series
    law: PowerLaw
    low: float
    high: float


def forecast_plot(
    lines: Sequence[Forecast], metric: str, more: float, *, width: float = 720, height: float = 320
) -> Drawing:
    """Mean curves, continued by dashed predictions for `more` labels with an interval at the end."""
    right = 20 + 8.2 * max((len(short(a.series.name)) for a in lines), default=0)
    means = [a.series.band.mean for a in lines]
    scores = [y for m in means for y in m.scores] + [y for a in lines for y in (a.low, a.high)]
    pad = 0.06 * (max(scores) - min(scores)) or 0.05
    xs = (min(m.labels[0] for m in means), max(m.labels[-1] for m in means) + more)
    frame = Frame(xs, (min(scores) - pad, max(scores) + pad), 44, width - right, 34, height - 40)
    shapes: list[Shape] = [Text("heading", "ink", 0, 16, f"{capital(metric)}, measured and predicted")]
    shapes += y_axis(frame) + x_axis(frame, "labels")
    ends = []
    for i, line in enumerate(lines):
        mean, color = line.series.band.mean, line.series.color_name
        last, end = mean.labels[-1], mean.labels[-1] + more
        shapes.append(Line("mean", color, frame.path([*zip(mean.labels, mean.scores, strict=True)])))
        steps = [last + more * j / 20 for j in range(21)]
        shapes.append(Line("forecast", color, frame.path([(x, line.law(x)) for x in steps]), "3 5"))
        x, y = frame.at(end, line.law(end))
        x += 4 * i - 2 * (len(lines) - 1)  # intervals at the same number of labels stand next to each other
        low, high = (frame.at(end, value)[1] for value in (line.low, line.high))
        shapes.append(Line("forecast", color, ((x, low), (x, high))))
        tip = f"{line.series.name}, {end:.0f} labels: {line.law(end):.3f} predicted, {line.low:.3f} to {line.high:.3f}"
        shapes.append(Dot("point", color, x, y, 4, tip))
        ends.append((x, y))
    for line, (x, _), y in zip(lines, ends, spread_apart([y for _, y in ends], 16, frame.bottom - 2), strict=True):
        shapes.append(Text("name", line.series.color_name, x + 12, y + 4, short(line.series.name)))
    description = " ".join(
        f"{a.series.name}: {a.law(m.labels[-1] + more):.3f} predicted with {m.labels[-1] + more:.0f} labels, "
        f"{a.low:.3f} to {a.high:.3f}."
        for a, m in zip(lines, means, strict=True)
    )
    return Drawing(f"{capital(metric)}, measured and predicted", description, width, height, tuple(shapes))
