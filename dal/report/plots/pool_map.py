"""Map of the pool: a dot for each row, coloured by the round in which it was labeled."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

from dal.report.shapes import Dot, Drawing, Frame, Shape, Text, rectangle

#: Colour scale from the first round to the last; every colour contrasts with white and with black.
SCALE = ("#2a7de1", "#8a55d6", "#d1417f", "#d4670c")

NEVER = "muted"


@dataclass(frozen=True)
class MapPoint:
    """One row on the map: coordinates, the round in which it was labeled (0 for never), and its tooltip."""

    x: float
    y: float
    round: int
    tip: str


def pool_map(
    points: Sequence[MapPoint], title: str, method: str, *, width: float = 640, height: float = 460
) -> Drawing:
    """Map of the rows: unlabeled ones in grey, labeled ones on top in the order of their rounds."""
    xs, ys = [s.x for s in points] or [0.0], [s.y for s in points] or [0.0]
    frame = Frame(_span(xs), _span(ys), 8, width - 8, 52, height - 8)
    last = max((s.round for s in points), default=0)
    shapes: list[Shape] = [Text("heading", "ink", 0, 16, title)]
    shapes += _legend(last)
    for point in sorted(points, key=lambda point: point.round):
        kind, r = ("labeled", 4.0) if point.round else ("pool", 2.0)
        shapes.append(Dot(kind, color(point.round, last), *frame.at(point.x, point.y), r, point.tip))
    labeled = sum(point.round > 0 for point in points)
    description = f"{len(points):,} rows of the pool by {method}, {labeled:,} of them labeled in {last} rounds."
    return Drawing(f"Map of the pool, {title}", description, width, height, tuple(shapes))


def _span(values: Sequence[float]) -> tuple[float, float]:
    low, high = min(values), max(values)
    pad = 0.03 * (high - low) or 1.0
    return low - pad, high + pad


def color(round: int, last: int) -> str:
    """Colour of a round, interpolated between the first and the last; grey for 0."""
    if not round:
        return NEVER
    place = (round - 1) / max(1, last - 1) * (len(SCALE) - 1)
    i = min(int(place), len(SCALE) - 2)
    parts = [[int(c[j : j + 2], 16) for j in (1, 3, 5)] for c in SCALE[i : i + 2]]
    mixed = [nearest(a + (b - a) * (place - i)) for a, b in zip(*parts, strict=True)]
    return "#" + "".join(f"{part:02x}" for part in mixed)


def nearest(value: float) -> int:
    """Nearest integer, halves rounded up."""
    return int(value + 0.5)


def _legend(last: int) -> list[Shape]:
    """Legend of at most nine rounds and of unlabeled rows, with room for text of twice the size."""
    if not last:
        return []
    step = 1 if last <= 8 else math.ceil((last - 1) / 7)
    shown = sorted({*range(1, last + 1, step), last})
    shapes: list[Shape] = [Dot("pool", NEVER, 5, 32, 3), Text("small", "muted", 14, 36, "never labeled")]
    shapes.append(Text("small", "muted", 155, 36, "labeled in round"))
    for i, number in enumerate(shown):
        shapes.append(rectangle("cell", color(number, last), 310 + 40 * i, 25, 11, 11))
        shapes.append(Text("small", "muted", 310 + 40 * i + 14, 36, str(number)))
    return shapes
