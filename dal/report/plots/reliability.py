"""Reliability diagrams: accuracy as a function of confidence."""

from collections.abc import Sequence
from dataclasses import dataclass

from dal.report.shapes import Dot, Drawing, Frame, Line, Shape, Text, rectangle, x_axis, y_axis


@dataclass(frozen=True)
class Bins:
    """The non-empty bins of a reliability diagram.

    Attributes:
        confidence: mean confidence of the rows in each bin.
        accuracy: accuracy of the rows in each bin.
        count: number of rows in each bin.
    """

    confidence: tuple[float, ...]
    accuracy: tuple[float, ...]
    count: tuple[float, ...]


def pooled(several: Sequence[Bins], places: int = 15) -> Bins:
    """Pool several diagrams into one with bins of equal width."""
    sums = [[0.0, 0.0, 0.0] for _ in range(places)]
    for bins in several:
        for confidence, accuracy, count in zip(bins.confidence, bins.accuracy, bins.count, strict=True):
            total = sums[min(places - 1, int(confidence * places))]
            for i, value in enumerate((confidence * count, accuracy * count, count)):
                total[i] += value
    filled = [(c / n, a / n, n) for c, a, n in sums if n]
    return Bins(*(tuple(column) for column in zip(*filled, strict=True))) if filled else Bins((), (), ())


def reliability(bins: Bins, heading: str, color: str, *, width: float = 300, height: float = 300) -> Drawing:
    """Plot accuracy against confidence, with the diagonal of perfect calibration and bars for the row counts."""
    frame = Frame((0, 1), (0, 1), 36, width - 10, 34, height - 40)
    most = max(bins.count, default=1.0)
    shapes: list[Shape] = [Text("heading", "ink", 0, 16, heading), *y_axis(frame)]
    shapes += x_axis(frame, "confidence", (0, 0.2, 0.4, 0.6, 0.8, 1), lambda tick: f"{tick:.1f}")
    for confidence, count in zip(bins.confidence, bins.count, strict=True):
        x, high = frame.at(confidence, 0)[0], 0.25 * (frame.bottom - frame.top) * count / most
        shapes.append(rectangle("bar", "muted", x - 6, frame.bottom - high, 12, high))
    shapes.append(Line("ideal", "muted", (frame.at(0, 0), frame.at(1, 1)), "4 4"))
    points = [*zip(bins.confidence, bins.accuracy, strict=True)]
    if points:
        shapes.append(Line("mean", color, frame.path(points)))
    for (confidence, accuracy), count in zip(points, bins.count, strict=True):
        tip = f"confidence {confidence:.2f}: right {accuracy:.2f} of the time, {count:,.0f} rows"
        shapes.append(Dot("point", color, *frame.at(confidence, accuracy), 4, tip))
    return Drawing(f"Reliability of {heading}", _description(bins), width, height, tuple(shapes))


def _description(bins: Bins) -> str:
    if not bins.count:
        return "No rows."
    gaps = [c - a for c, a in zip(bins.confidence, bins.accuracy, strict=True)]
    mean = sum(gap * n for gap, n in zip(gaps, bins.count, strict=True)) / sum(bins.count)
    word = "more" if mean > 0 else "less"
    return f"On average the model is {abs(mean):.3f} {word} confident than it is right, over {len(gaps)} bins."
