"""Rendering of drawings as PNG on white."""

import io
import itertools
import warnings
from collections.abc import Iterable
from typing import Any

from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.patheffects import withStroke

from dal.errors import shortened
from dal.report.series import BASELINE, PALETTE
from dal.report.shapes import STYLES, Area, Dot, Drawing, Line, Shape, Style, Text

_COLORS = {"ink": "#1a1c1f", "muted": "#5b6169", "line": "#e3e5e8", "paper": "#ffffff", "base": BASELINE}
_COLORS |= {f"s{i}": color for i, color in enumerate(PALETTE)}

#: Margin in CSS pixels; points per CSS pixel at 100 CSS pixels per inch.
_MARGIN, _POINT = 16, 0.72

_ANCHOR = {"start": "left", "middle": "center", "end": "right"}


def png(drawing: Drawing) -> bytes:
    """Render a drawing as PNG on white, with two pixels per CSS pixel and a margin of 16 CSS pixels."""
    wide, high = drawing.width + 2 * _MARGIN, drawing.height + 2 * _MARGIN
    figure = Figure(figsize=(wide / 100, high / 100), dpi=200, facecolor="white")
    FigureCanvasAgg(figure)
    axes = figure.add_axes((0, 0, 1, 1))
    axes.set_axis_off()
    axes.set_xlim(-_MARGIN, drawing.width + _MARGIN)
    axes.set_ylim(drawing.height + _MARGIN, -_MARGIN)
    for rank, (common, group) in enumerate(itertools.groupby(drawing.shapes, _common)):
        _draw(axes, common, group, rank)
    buffer = io.BytesIO()
    quick = {"compress_level": 3}  # the default takes half of the total time to save a tenth of the size
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Glyph .* missing from font")  # it is drawn as an empty box
        figure.savefig(buffer, format="png", facecolor="white", metadata={"Software": None}, pil_kwargs=quick)
    return buffer.getvalue()


def _common(shape: Shape) -> tuple[type, str, str, float]:
    """Key of consecutive shapes that are drawn together, such as a cloud of dots."""
    return type(shape), shape.kind, shape.color, shape.r if isinstance(shape, Dot) else 0.0


def _draw(axes: Axes, common: tuple[type, str, str, float], shapes: Iterable[Shape], rank: int) -> None:
    kind, _, color, r = common[1], common[0], _COLORS.get(common[2], common[2]), common[3]
    style, several = STYLES[kind], list(shapes)
    options: dict[str, Any] = {"color": color, "alpha": style.opacity, "zorder": rank}
    if r:
        edge: dict[str, Any] = (
            {"edgecolors": "white", "linewidths": style.halo * _POINT} if style.halo else {"linewidths": 0}
        )
        dots = [s for s in several if isinstance(s, Dot)]
        axes.scatter([dot.x for dot in dots], [dot.y for dot in dots], s=(2 * r * _POINT) ** 2, **options, **edge)
        return
    for shape in several:
        match shape:
            case Line(points=points, dashes=dashes):
                marks = [float(d) / style.width for d in dashes.split()]
                line = (0, tuple(marks)) if marks else "solid"
                axes.plot(*zip(*points, strict=True), linewidth=style.width * _POINT, linestyle=line, **options)
            case Area(points=points, opacity=opacity):
                axes.fill(*zip(*points, strict=True), linewidth=0, **options | {"alpha": style.opacity * opacity})
            case Text():
                _write(axes, shape, style, color, rank)


def _write(axes: Axes, text: Text, style: Style, color: str, rank: int) -> None:
    """Draw text in the font shipped with matplotlib, which is wider and so drawn smaller, and without math mode."""
    options: dict[str, Any] = {"fontweight": "bold" if style.bold else "normal", "ha": _ANCHOR[text.anchor]}
    if style.halo:
        options["path_effects"] = [withStroke(linewidth=style.halo * _POINT, foreground="white")]
    axes.text(
        text.x,
        text.y,
        "".join(char if char.isprintable() else "\ufffd" for char in shortened(text.text, 200)),
        fontsize=0.9 * style.size * _POINT,
        fontfamily="DejaVu Sans",
        parse_math=False,
        va="baseline",
        color=color,
        zorder=rank,
        **options,
    )
