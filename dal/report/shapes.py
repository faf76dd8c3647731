"""Plots as shapes in CSS pixels, which `svg.py` and `png.py` render.

A colour is either the name of a custom property of the page ("ink", "muted", "line", "paper", "base", "s0" to "s7"),
which adapts to the reader's colour scheme, or "#rrggbb", which does not.
"""

import itertools
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from matplotlib.ticker import MaxNLocator

Point = tuple[float, float]


@dataclass(frozen=True)
class Line:
    """A polyline; `dashes` is an SVG dash array, such as "7 5"."""

    kind: str
    color: str
    points: tuple[Point, ...]
    dashes: str = ""


@dataclass(frozen=True)
class Area:
    """A filled polygon; `tip` is its tooltip."""

    kind: str
    color: str
    points: tuple[Point, ...]
    tip: str = ""
    opacity: float = 1.0


@dataclass(frozen=True)
class Dot:
    """A filled circle."""

    kind: str
    color: str
    x: float
    y: float
    r: float
    tip: str = ""


@dataclass(frozen=True)
class Text:
    """Text at a point of its baseline: `anchor` "start", "middle" or "end" says which."""

    kind: str
    color: str
    x: float
    y: float
    text: str
    anchor: str = "start"


Shape = Line | Area | Dot | Text


@dataclass(frozen=True)
class Style:
    """Style of one kind of shape.

    Attributes:
        width: line width in pixels.
        opacity: 0 to 1.
        size: font size in pixels.
        bold: whether text is bold.
        halo: width in pixels of an outline in the background colour, which separates the shape from those below.
    """

    width: float = 1.0
    opacity: float = 1.0
    size: float = 12.0
    bold: bool = False
    halo: float = 0.0


#: Styles by kind of shape, shared by SVG and PNG.
STYLES = {
    "heading": Style(size=13.2, bold=True),
    "text": Style(),
    "small": Style(size=10.5),
    "name": Style(bold=True, halo=4),
    "saving": Style(bold=True, halo=4),
    "grid": Style(),
    "seed": Style(width=1, opacity=0.38),
    "mean": Style(width=2.5),
    "band": Style(opacity=0.14),
    "point": Style(width=1.5, halo=1.5),
    "saved": Style(width=1.25),
    "forecast": Style(width=1.75),
    "ideal": Style(width=1.25),
    "bar": Style(opacity=0.3),
    "cell": Style(),
    "pool": Style(opacity=0.45),
    "labeled": Style(width=0.5, halo=0.5),
}


@dataclass(frozen=True)
class Drawing:
    """A plot.

    Attributes:
        title: short title of the plot.
        description: textual alternative of the plot, for screen readers.
        width: width in CSS pixels.
        height: height in CSS pixels.
        shapes: shapes in drawing order.
    """

    title: str
    description: str
    width: float
    height: float
    shapes: tuple[Shape, ...]


@dataclass(frozen=True)
class Frame:
    """Mapping of values to pixels: the ranges of the axes, and the edges of the plot area."""

    x: tuple[float, float]
    y: tuple[float, float]
    left: float
    right: float
    top: float
    bottom: float

    def at(self, x: float, y: float) -> Point:
        """Pixel coordinates of a point."""
        across = (x - self.x[0]) / (self.x[1] - self.x[0])
        up = (y - self.y[0]) / (self.y[1] - self.y[0])
        return self.left + across * (self.right - self.left), self.bottom - up * (self.bottom - self.top)

    def path(self, points: Sequence[Point]) -> tuple[Point, ...]:
        """Pixel coordinates of several points."""
        return tuple(self.at(*point) for point in points)


def rectangle(kind: str, color: str, left: float, top: float, wide: float, high: float, **rest: Any) -> Area:
    """A rectangle."""
    right, bottom = left + wide, top + high
    return Area(kind, color, ((left, top), (right, top), (right, bottom), (left, bottom)), **rest)


def y_axis(frame: Frame) -> list[Shape]:
    """Horizontal grid lines, with tick labels on the left."""
    ticks = MaxNLocator(nbins=6, steps=[1, 2, 2.5, 5, 10]).tick_values(*frame.y)
    heights = [float(tick) for tick in ticks if frame.y[0] <= tick <= frame.y[1]]
    places = max((len(f"{tick:.4f}".rstrip("0").split(".")[1]) for tick in heights), default=0)
    shapes: list[Shape] = []
    for tick in heights:
        _, y = frame.at(frame.x[0], tick)
        shapes.append(Line("grid", "line", ((frame.left, y), (frame.right, y))))
        shapes.append(Text("text", "muted", frame.left - 8, y + 4, f"{tick:,.{places}f}", "end"))
    return shapes


def x_axis(
    frame: Frame, words: str, exact: Sequence[float] = (), write: Callable[[float], str] | None = None
) -> list[Shape]:
    """Tick labels and title of the x axis.

    Args:
        frame: the plot area.
        words: title of the axis.
        exact: preferred ticks, used if they are few and far enough apart; otherwise round numbers are chosen.
        write: format of the tick labels.
    """
    ticks = list(exact)
    pixels = [frame.at(x, frame.y[0])[0] for x in exact]
    if not exact or len(exact) > 12 or any(b - a < 28 for a, b in itertools.pairwise(pixels)):
        locator = MaxNLocator(nbins=max(2, int(frame.right - frame.left) // 60))
        ticks = [float(tick) for tick in locator.tick_values(*frame.x) if frame.x[0] <= tick <= frame.x[1]]
    places = max((len(f"{tick:.3f}".rstrip("0").split(".")[1]) for tick in ticks), default=0)
    write = write or (lambda tick: f"{tick:,.{places}f}")
    shapes: list[Shape] = [
        Text("text", "muted", frame.at(tick, frame.y[0])[0], frame.bottom + 18, write(tick), "middle") for tick in ticks
    ]
    return [*shapes, Text("text", "muted", (frame.left + frame.right) / 2, frame.bottom + 36, words, "middle")]
