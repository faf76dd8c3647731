"""Dot plots of scores by class or group, and the matrix of rows that strategies have in common."""

import math
from collections.abc import Mapping, Sequence

from dal.report.series import Series, short
from dal.report.shapes import Dot, Drawing, Frame, Line, Shape, Text, rectangle

#: Largest number of lines that remain readable.
MAX_LINES = 40


Values = Mapping[str, Mapping[str, float]]


def dot_plot(values: Values, series: Sequence[Series], heading: str, *, width: float = 420) -> Drawing:
    """Dot plot with a line per class and a dot per strategy, the worst class on top; the axis ends at 1.

    Args:
        values: scores by class and strategy.
        series: the strategies, with their colours.
        heading: title of the plot.
        width: width in CSS pixels.
    """
    order = sorted(values, key=lambda name: sum(values[name].values()) / max(1, len(values[name])))[:MAX_LINES]
    left = min(190.0, 14 + 7 * max((len(short(name)) for name in order), default=0))
    columns = max(1, int(width // 170))
    top = 30 + 16.0 * (1 + (len(series) - 1) // columns)
    height = top + 20 * len(order) + 26
    worst = min((score for name in order for score in values[name].values()), default=0.0)
    frame = Frame((max(0.0, math.floor(10 * worst - 0.5) / 10), 1), (0, 1), left, width - 12, top, height - 26)
    shapes: list[Shape] = [Text("heading", "ink", 0, 16, heading), *_ruler(frame)]
    for i, s in enumerate(series):
        x, y = 6 + (i % columns) * (width - 6) / columns, 36 + 16.0 * (i // columns)
        shapes += [Dot("point", s.color_name, x, y - 4, 4.5), Text("small", s.color_name, x + 9, y, short(s.name))]
    for i, name in enumerate(order):
        shapes += _line(name, values[name], series, frame, top + 20 * i + 10)
    lines = (f"{name}: {', '.join(f'{who} {score:.3f}' for who, score in values[name].items())}." for name in order)
    return Drawing(heading, " ".join(lines), width, height, tuple(shapes))


def _ruler(frame: Frame) -> list[Shape]:
    """Grid lines at every 0.1, or at every 0.2 of a long axis."""
    step = 1 if frame.x[0] >= 0.4 else 2
    shapes: list[Shape] = []
    for tenth in range(10, math.ceil(10 * frame.x[0] - 1e-9) - 1, -step):
        x, _ = frame.at(tenth / 10, 0)
        shapes.append(Line("grid", "line", ((x, frame.top), (x, frame.bottom))))
        shapes.append(Text("text", "muted", x, frame.bottom + 18, f"{tenth / 10:.1f}", "middle"))
    return shapes


def _line(name: str, scores: Mapping[str, float], series: Sequence[Series], frame: Frame, y: float) -> list[Shape]:
    """The name of a class, and a dot for each strategy, drawn with the first on top."""
    shapes: list[Shape] = [Text("text", "ink", frame.left - 10, y + 4, short(name), "end")]
    for s in reversed(series):
        if s.name in scores:
            tip = f"{name}, {s.name}: {scores[s.name]:.3f}"
            shapes.append(Dot("point", s.color_name, frame.at(scores[s.name], 0)[0], y, 4.5, tip))
    return shapes


def overlap_matrix(names: Sequence[str], shares: Mapping[tuple[str, str], float], heading: str) -> Drawing:
    """Heat map of the shares that pairs of strategies have in common, in percent."""
    left, top = 30 + 7.6 * max((len(short(name)) for name in names), default=0), 34.0
    size = max(34.0, min(64.0, 380 / max(1, len(names))))
    bottom = top + size * len(names)
    shapes: list[Shape] = [Text("heading", "ink", 0, 16, heading)]
    for i, one in enumerate(names):
        shapes.append(Text("text", "ink", left - 8, top + size * (i + 0.5) + 4, short(one), "end"))
        shapes.append(Text("text", "ink", left + size * (i + 0.5), bottom + 16, chr(ord("A") + i), "middle"))
        shapes.append(Text("text", "muted", 0, top + size * (i + 0.5) + 4, chr(ord("A") + i)))
        for j, other in enumerate(names):
            share = shares.get((one, other))
            x, y = left + size * j, top + size * i
            if share is not None:
                tip = f"{one} and {other}: {100 * share:.0f} %"
                shapes.append(rectangle("cell", "s0", x, y, size - 2, size - 2, tip=tip, opacity=0.08 + 0.5 * share))
                shapes.append(Text("small", "ink", x + size / 2 - 1, y + size / 2 + 4, f"{100 * share:.0f}", "middle"))
    pairs = [
        f"{a} and {b}: {100 * shares[a, b]:.0f} %." for i, a in enumerate(names) for b in names[:i] if (a, b) in shares
    ]
    width = max(left + size * len(names), 8.0 * len(heading))
    return Drawing(heading, " ".join(pairs), width, bottom + 26, tuple(shapes))
