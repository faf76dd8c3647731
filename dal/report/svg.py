"""Rendering of drawings as SVG that adapts to the reader's colour scheme."""

import itertools
from collections.abc import Iterable

from markupsafe import Markup, escape

from dal.errors import shortened
from dal.report.shapes import STYLES, Area, Dot, Drawing, Line, Shape, Text
from dal.report.wording import LONGEST, in_markup

_STANDALONE = """
.plot { font: 12px system-ui, -apple-system, "Segoe UI", Roboto, "Helvetica Neue", Arial, sans-serif;
  --ink: #1a1c1f; --muted: #5b6169; --line: #e3e5e8; --paper: #fff; --base: #6b7280;
  --s0: #0072b2; --s1: #c44f00; --s2: #00805c; --s3: #b0568c; --s4: #2a86bd; --s5: #a86f00;
  --s6: #6a4fc4; --s7: #7d4a2b; }
@media (prefers-color-scheme: dark) { .plot { --ink: #eceef1; --muted: #a2a9b3; --line: #2f343b; --paper: #16181c;
  --base: #9aa3af; --s0: #5ab4f0; --s1: #ff8a4c; --s2: #34c79a; --s3: #e79ac6; --s4: #8fd0f5; --s5: #f0b445;
  --s6: #ab9bff; --s7: #d2a181; } }
"""


def _rules() -> Iterable[str]:
    yield ".plot { background: var(--paper); font-variant-numeric: tabular-nums; }"
    yield ".plot polyline { fill: none; stroke-linejoin: round; stroke-linecap: round; }"
    for kind, style in STYLES.items():
        halo = f"stroke: var(--paper); stroke-width: {style.halo:g}px;" if style.halo else ""
        faint = f" opacity: {style.opacity:g};" if style.opacity < 1 else ""
        bold = " font-weight: 600;" if style.bold else ""
        yield f".plot text.{kind} {{ font-size: {style.size / 12:g}em;{bold} {halo} paint-order: stroke; }}"
        yield f".plot polyline.{kind} {{ stroke-width: {style.width:g}; }}"
        yield f".plot .{kind} {{{faint} }} .plot circle.{kind}, .plot .{kind} > circle {{ {halo} }}"


#: Style sheet of all plots; the colours are custom properties of the page, or of a standalone file.
STYLE = "\n".join(_rules())


def svg(drawing: Drawing, *, name: str, standalone: bool = False) -> Markup:
    """Render a drawing as an SVG element, or as a file when `standalone`. All texts are escaped.

    Args:
        drawing: the drawing.
        name: identifier, unique within the page, for references to the title and the description.
        standalone: whether to include a namespace, a margin, and the colours of light and dark mode.
    """
    parts = [f'<title id="{name}-t">{_escaped(drawing.title)}</title>']
    parts.append(f'<desc id="{name}-d">{_escaped(drawing.description)}</desc>')
    parts += [f"<style>{_STANDALONE}{STYLE}</style>" if standalone else ""]
    for common, group in itertools.groupby(drawing.shapes, _common):
        inner = "".join(_element(shape) if common is None else _spot(shape) for shape in group)
        parts.append(inner if common is None else f'<g class="{common[0]}" fill="{_color(common[1])}">{inner}</g>')
    namespace, margin = (' xmlns="http://www.w3.org/2000/svg"', 16) if standalone else ("", 0)
    wide, high = drawing.width + 2 * margin, drawing.height + 2 * margin
    limit = "" if standalone else f' style="max-width:{wide:g}px"'  # text keeps its size where there is room
    head = (
        f'<svg{namespace} class="plot" role="img" aria-labelledby="{name}-t {name}-d" '
        f'viewBox="{-margin} {-margin} {wide:g} {high:g}" width="{wide:g}" height="{high:g}"{limit}>'
    )
    return Markup(in_markup(head + "".join(parts) + "</svg>"))


def _color(color: str) -> str:
    return color if color.startswith("#") else f"var(--{color})"


def _common(shape: Shape) -> tuple[str, str] | None:
    """Class and colour of a dot of a cloud, which are written once for the group; None for other shapes."""
    return (shape.kind, shape.color) if isinstance(shape, Dot) and shape.kind in ("pool", "labeled") else None


def _spot(dot: Shape) -> str:
    return (
        f'<circle cx="{dot.x:.1f}" cy="{dot.y:.1f}" r="{dot.r:g}">{_tip(dot.tip)}</circle>'
        if isinstance(dot, Dot)
        else ""
    )


def _element(shape: Shape) -> str:
    color, kind = _color(shape.color), shape.kind
    match shape:
        case Line(points=points, dashes=dashes):
            dashed = f' stroke-dasharray="{dashes}"' if dashes else ""
            return f'<polyline class="{kind}" stroke="{color}"{dashed} points="{_points(points)}"/>'
        case Area(points=points, tip=tip, opacity=opacity):
            faint = "" if opacity == 1 else f' fill-opacity="{opacity:.2f}"'
            return f'<polygon class="{kind}" fill="{color}"{faint} points="{_points(points)}">{_tip(tip)}</polygon>'
        case Dot(x=x, y=y, r=r, tip=tip):
            return f'<circle class="{kind}" fill="{color}" cx="{x:.1f}" cy="{y:.1f}" r="{r:g}">{_tip(tip)}</circle>'
        case Text(x=x, y=y, text=text, anchor=anchor):
            end = "" if anchor == "start" else f' text-anchor="{anchor}"'
            return f'<text class="{kind}" style="fill:{color}" x="{x:.1f}" y="{y:.1f}"{end}>{_escaped(text)}</text>'


def _points(points: Iterable[tuple[float, float]]) -> str:
    return " ".join(f"{x:.1f},{y:.1f}" for x, y in points)


def _tip(tip: str) -> str:
    return f"<title>{_escaped(tip)}</title>" if tip else ""


def _escaped(text: str) -> Markup:
    return escape(shortened(text, LONGEST))
