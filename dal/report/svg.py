"""Learning curves as SVG that follows the reader's colour scheme."""

import itertools
from collections.abc import Sequence
from dataclasses import dataclass

from markupsafe import Markup, escape
from matplotlib.ticker import MaxNLocator

from dal.evaluation import Comparison
from dal.report.series import MAX_WITH_SEEDS, Series, apart, capital, drawable, measured, short

_STANDALONE = """
.plot { font: 12px system-ui, -apple-system, "Segoe UI", Roboto, "Helvetica Neue", Arial, sans-serif;
  --ink: #1a1c1f; --muted: #5b6169; --line: #e3e5e8; --paper: #fff; --base: #6b7280;
  --s0: #0072b2; --s1: #c44f00; --s2: #00805c; --s3: #b0568c; --s4: #2a86bd; --s5: #a86f00; }
@media (prefers-color-scheme: dark) { .plot { --ink: #eceef1; --muted: #a2a9b3; --line: #2f343b; --paper: #16181c;
  --base: #9aa3af; --s0: #5ab4f0; --s1: #ff8a4c; --s2: #34c79a; --s3: #e79ac6; --s4: #8fd0f5; --s5: #f0b445; } }
"""

#: How the parts of a plot look; the colours are custom properties of the page, or of `_STANDALONE`.
STYLE = """
.plot { background: var(--paper); font-variant-numeric: tabular-nums; }
.plot text { fill: var(--muted); }
.plot .heading { fill: var(--ink); font-weight: 600; font-size: 1.1em; }
.plot .grid { stroke: var(--line); stroke-width: 1; }
.plot .seed { fill: none; stroke-width: 1; opacity: .38; }
.plot .mean { fill: none; stroke-width: 2.5; stroke-linejoin: round; stroke-linecap: round; }
.plot .band { stroke: none; opacity: .14; }
.plot .name { font-weight: 600; paint-order: stroke; stroke: var(--paper); stroke-width: 4px; stroke-linejoin: round; }
.plot .point { stroke: var(--paper); stroke-width: 1.5; }
.plot .saved { stroke: var(--ink); stroke-width: 1.25; stroke-dasharray: 2 3; fill: none; }
.plot .saving { fill: var(--ink); font-weight: 600; paint-order: stroke; stroke: var(--paper); stroke-width: 4px; }
"""


@dataclass(frozen=True)
class _Frame:
    """From labels and scores to pixels."""

    x: tuple[float, float]
    y: tuple[float, float]
    left: float
    right: float
    top: float
    bottom: float

    def at(self, labels: float, score: float) -> tuple[float, float]:
        across = (labels - self.x[0]) / (self.x[1] - self.x[0])
        up = (score - self.y[0]) / (self.y[1] - self.y[0])
        return self.left + across * (self.right - self.left), self.bottom - up * (self.bottom - self.top)

    def path(self, points: Sequence[tuple[float, float]]) -> str:
        return " ".join("{:.1f},{:.1f}".format(*self.at(*point)) for point in points)


def svg(
    series: Sequence[Series],
    metric: str,
    *,
    name: str,
    width: int = 420,
    height: int = 300,
    note: str = "",
    saving: Comparison | None = None,
    standalone: bool = False,
) -> Markup:
    """The learning curves of one metric as an SVG element, or as a whole file when `standalone`.

    Args:
        series: the strategies, each with its seeds; those without a point are left out.
        metric: what the scores are, in words.
        name: unique within the page; the title and the description are referred to by it.
        width: in CSS pixels; the element scales down with its container.
        height: likewise.
        note: a few words at the top right, such as what the band is.
        saving: draws the labels saved at the baseline's final score.
        standalone: with its own colours, light and dark, and a namespace.
    """
    series = drawable(series)
    right = 16 + 8.2 * max((len(short(s.name)) for s in series), default=0)
    frame = _frame(series, 44, width - right, 34, height - 40)
    ys = MaxNLocator(nbins=6, steps=[1, 2, 2.5, 5, 10])
    title = f"{capital(metric)} by number of labels"
    parts = [f'<title id="{name}-t">{escape(title)}</title><desc id="{name}-d">{escape(_description(series))}</desc>']
    parts += [f"<style>{_STANDALONE}{STYLE}</style>" if standalone else ""]
    parts += [f'<text class="heading" x="0" y="16">{escape(capital(metric))}</text>']
    parts += [f'<text x="{frame.right:.1f}" y="16" text-anchor="end">{escape(note)}</text>' if note else ""]
    heights = [float(tick) for tick in ys.tick_values(*frame.y) if frame.y[0] <= tick <= frame.y[1]]
    places = max((len(f"{tick:.4f}".rstrip("0").split(".")[1]) for tick in heights), default=0)
    for tick in heights:
        _, y = frame.at(frame.x[0], tick)
        parts.append(f'<path class="grid" d="M{frame.left:.1f} {y:.1f}H{frame.right:.1f}"/>')
        parts.append(f'<text x="{frame.left - 8:.1f}" y="{y + 4:.1f}" text-anchor="end">{tick:.{places}f}</text>')
    for tick in _label_ticks(series, frame):
        x, _ = frame.at(tick, frame.y[0])
        parts.append(f'<text x="{x:.1f}" y="{frame.bottom + 18:.1f}" text-anchor="middle">{tick:.0f}</text>')
    middle = (frame.left + frame.right) / 2
    parts.append(f'<text x="{middle:.1f}" y="{height - 4}" text-anchor="middle">labels</text>')
    parts += [_bands(s, frame) for s in reversed(series)]
    parts += [_lines(s, frame, metric, each=len(series) <= MAX_WITH_SEEDS) for s in reversed(series)]
    parts += _names(series, frame)
    if saving is not None:
        parts.append(_saving(saving, frame))
    namespace, margin = (' xmlns="http://www.w3.org/2000/svg"', 16) if standalone else ("", 0)
    wide, high = width + 2 * margin, height + 2 * margin
    head = (
        f'<svg{namespace} class="plot" role="img" aria-labelledby="{name}-t {name}-d" '
        f'viewBox="{-margin} {-margin} {wide} {high}" width="{wide}" height="{high}">'
    )
    return Markup(head + "".join(parts) + "</svg>")  # every text in it is escaped above


def _frame(series: Sequence[Series], left: float, right: float, top: float, bottom: float) -> _Frame:
    xs = [x for s in series for c in s.curves for x in c.labels] or [0.0, 1.0]
    ys = [y for s in series for c in s.curves for y in c.scores] or [0.0, 1.0]
    pad = 0.06 * (max(ys) - min(ys)) or 0.05
    wide = 0 if max(xs) > min(xs) else 1
    return _Frame((min(xs) - wide, max(xs) + wide), (min(ys) - pad, max(ys) + pad), left, right, top, bottom)


def _label_ticks(series: Sequence[Series], frame: _Frame) -> list[float]:
    """The numbers of labels that were measured, where they are few and apart enough; round numbers otherwise."""
    exact = measured(series)
    places = [frame.at(x, frame.y[0])[0] for x in exact]
    if len(exact) <= 12 and all(b - a >= 28 for a, b in itertools.pairwise(places)):
        return exact
    ticks = MaxNLocator(nbins=max(2, int(frame.right - frame.left) // 50), integer=True).tick_values(*frame.x)
    return [float(tick) for tick in ticks if frame.x[0] <= tick <= frame.x[1]]


def _bands(series: Series, frame: _Frame) -> str:
    spread = series.band
    if spread.seeds < 2 or len(spread.mean) < 2:
        return ""
    labels = spread.mean.labels
    outline = [*zip(labels, spread.low, strict=True), *reversed([*zip(labels, spread.high, strict=True)])]
    return f'<polygon class="band" fill="{series.variable}" points="{frame.path(outline)}"/>'


def _lines(series: Series, frame: _Frame, metric: str, *, each: bool) -> str:
    spread, color = series.band, series.variable
    dashes = ' stroke-dasharray="7 5"' if series.color is None else ""
    parts = []
    if len(series.curves) > 1 and (each or len(spread.mean) < 2):
        for one in series.curves:
            points = frame.path([*zip(one.labels, one.scores, strict=True)])
            parts.append(f'<polyline class="seed" stroke="{color}" points="{points}"/>')
    mean = [*zip(spread.mean.labels, spread.mean.scores, strict=True)]
    parts.append(f'<polyline class="mean" stroke="{color}"{dashes} points="{frame.path(mean)}"/>')
    for (labels, score), low, high in zip(mean, spread.low, spread.high, strict=True):
        x, y = frame.at(labels, score)
        over = f", {low:.3f} to {high:.3f} over {spread.seeds} seeds" if spread.seeds > 1 else ""
        tip = escape(f"{series.name}, {labels:.0f} labels: {metric} {score:.3f}{over}")
        parts.append(
            f'<circle class="point" fill="{color}" cx="{x:.1f}" cy="{y:.1f}" r="4"><title>{tip}</title></circle>'
        )
    return "".join(parts)


def _names(series: Sequence[Series], frame: _Frame) -> list[str]:
    """The names at the ends of their curves, moved apart where they would overlap."""
    ends = [frame.at(*s.end) for s in series]
    heights = apart([y for _, y in ends], 16, frame.bottom - 2)
    return [
        f'<text class="name" style="fill:{s.variable}" x="{x + 10:.1f}" y="{y + 4:.1f}">{escape(short(s.name))}</text>'
        for s, (x, _), y in zip(series, ends, heights, strict=True)
    ]


def _saving(saving: Comparison, frame: _Frame) -> str:
    if saving.needed is None or saving.baseline_needed - saving.needed < 1:
        return ""
    x0, y = frame.at(saving.needed, saving.target)
    x1, _ = frame.at(saving.baseline_needed, saving.target)
    fewer = f"{saving.baseline_needed - saving.needed:.0f} fewer"
    return (
        f'<path class="saved" d="M{x0:.1f} {y:.1f}H{x1:.1f}M{x0:.1f} {y:.1f}V{frame.bottom:.1f}"/>'
        f'<text class="saving" x="{x0 + 5:.1f}" y="{frame.bottom - 6:.1f}">{saving.needed:.0f} labels, {fewer}</text>'
    )


def _description(series: Sequence[Series]) -> str:
    """The curves in a sentence each, for those who do not see them."""
    sentences = []
    for s in series:
        mean = s.band.mean
        if len(mean):
            (x0, x1), (y0, y1) = (mean.labels[0], mean.labels[-1]), (mean.scores[0], mean.scores[-1])
            over = f", mean over {s.band.seeds} seeds" if s.band.seeds > 1 else ""
            sentences.append(f"{s.name}: from {y0:.3f} with {x0:.0f} labels to {y1:.3f} with {x1:.0f}{over}.")
    return " ".join(sentences) or "No round has been evaluated yet."
