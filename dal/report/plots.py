"""Learning curves as SVG that follows the reader's colour scheme, and as a PNG."""

import io
import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass

from markupsafe import Markup, escape
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.layout_engine import ConstrainedLayoutEngine
from matplotlib.ticker import MaxNLocator

from dal.evaluation import Band, Comparison, Curve, band

#: Okabe and Ito's palette without its yellow; the baseline is grey.
PALETTE = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#56b4e9", "#e69f00")
BASELINE = "#6b7280"

#: More strategies than this are drawn without the single seeds, which would only be a tangle.
MAX_WITH_SEEDS = 3

_MARKERS = ("o", "s", "^", "D", "v", "P")

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
class Series:
    """One strategy in a plot.

    Attributes:
        name: its label.
        curves: one for each seed.
        color: its place in the palette; None for the baseline.
    """

    name: str
    curves: tuple[Curve, ...]
    color: int | None

    @property
    def band(self) -> Band:
        """The mean and the spread over the seeds, as far as all of them go."""
        return band(self.curves)

    @property
    def variable(self) -> str:
        """The custom property that holds its colour."""
        return "var(--base)" if self.color is None else f"var(--s{self.color % len(PALETTE)})"


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
        saving: draws the labels saved at the baseline's final score.
        standalone: with its own colours, light and dark, and a namespace.
    """
    series = [s for s in series if any(len(c) for c in s.curves)]
    right = 16 + 8.2 * max((len(_short(s.name)) for s in series), default=0)
    frame = _frame(series, 44, width - right, 34, height - 40)
    ys = MaxNLocator(nbins=6, steps=[1, 2, 2.5, 5, 10])
    title = f"{_capital(metric)} by number of labels"
    parts = [f'<title id="{name}-t">{escape(title)}</title><desc id="{name}-d">{escape(_description(series))}</desc>']
    parts += [f"<style>{_STANDALONE}{STYLE}</style>" if standalone else ""]
    parts += [f'<text class="heading" x="0" y="16">{escape(_capital(metric))}</text>']
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
    namespace = ' xmlns="http://www.w3.org/2000/svg"' if standalone else ""
    head = (
        f'<svg{namespace} class="plot" role="img" aria-labelledby="{name}-t {name}-d" viewBox="0 0 {width} {height}" '
        f'width="{width}" height="{height}">'
    )
    return Markup(head + "".join(parts) + "</svg>")  # every text in it is escaped above


def _short(label: str) -> str:
    return label if len(label) <= 16 else label[:15] + "…"


def _capital(words: str) -> str:
    return words[:1].upper() + words[1:]


def _frame(series: Sequence[Series], left: float, right: float, top: float, bottom: float) -> _Frame:
    xs = [x for s in series for c in s.curves for x in c.labels] or [0.0, 1.0]
    ys = [y for s in series for c in s.curves for y in c.scores] or [0.0, 1.0]
    pad = 0.06 * (max(ys) - min(ys)) or 0.05
    wide = 0 if max(xs) > min(xs) else 1
    return _Frame((min(xs) - wide, max(xs) + wide), (min(ys) - pad, max(ys) + pad), left, right, top, bottom)


def _label_ticks(series: Sequence[Series], frame: _Frame) -> list[float]:
    """The numbers of labels that were measured, where they are few and apart enough; round numbers otherwise."""
    measured = sorted({x for s in series for c in s.curves for x in c.labels})
    places = [frame.at(x, frame.y[0])[0] for x in measured]
    if len(measured) <= 12 and all(b - a >= 28 for a, b in itertools.pairwise(places)):
        return measured
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
    drawn = [(s, s.band.mean if len(s.band.mean) else max(s.curves, key=len)) for s in series]
    ends = [frame.at(mean.labels[-1], mean.scores[-1]) for _, mean in drawn]
    heights = _apart([y for _, y in ends], 16, frame.bottom - 2)
    return [
        f'<text class="name" style="fill:{s.variable}" x="{x + 10:.1f}" y="{y + 4:.1f}">{escape(_short(s.name))}</text>'
        for (s, _), (x, _), y in zip(drawn, ends, heights, strict=True)
    ]


def _apart(heights: Sequence[float], gap: float, limit: float = math.inf) -> list[float]:
    """The heights moved up, in order, until neighbours are `gap` apart; then all down until none is over `limit`."""
    moved = list(heights)
    order = sorted(range(len(moved)), key=moved.__getitem__)
    for below, above in itertools.pairwise(order):
        moved[above] = max(moved[above], moved[below] + gap)
    over = max(0.0, max(moved, default=0.0) - limit)
    return [height - over for height in moved]


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


def png(series: Sequence[Series], metric: str, *, title: str = "", saving: Comparison | None = None) -> bytes:
    """The learning curves of one metric as a PNG on white, 1440 x 840 pixels, for a README."""
    series = [s for s in series if any(len(c) for c in s.curves)]
    figure = Figure(
        figsize=(7.2, 4.2), dpi=200, facecolor="white", layout=ConstrainedLayoutEngine(w_pad=0.14, h_pad=0.14)
    )
    FigureCanvasAgg(figure)
    axes = figure.add_subplot()
    for rank, s in enumerate(reversed(series)):
        color = _color(s)
        marker = "o" if s.color is None else _MARKERS[s.color % len(_MARKERS)]
        spread = s.band
        mean = spread.mean
        if len(s.curves) > 1:
            axes.fill_between(mean.labels, spread.low, spread.high, color=color, alpha=0.13, linewidth=0, zorder=1)
            for each in s.curves if len(series) <= MAX_WITH_SEEDS else ():
                axes.plot(each.labels, each.scores, color=color, alpha=0.35, linewidth=0.8, zorder=2)
        style = (0, (4, 2.5)) if s.color is None else "solid"
        axes.plot(
            mean.labels,
            mean.scores,
            color=color,
            linestyle=style,
            linewidth=2.2,
            marker=marker,
            markersize=6.5,
            markeredgecolor="white",
            zorder=3 + rank,
        )
    _label_ends(axes, series)
    if saving is not None and saving.needed is not None and saving.baseline_needed - saving.needed >= 1:
        ink = "#1a1c1f"
        low = axes.get_ylim()[0]
        axes.plot(
            [saving.baseline_needed, saving.needed, saving.needed],
            [saving.target, saving.target, low],
            color=ink,
            linewidth=1,
            linestyle=(0, (1.5, 2)),
            zorder=2.5,
        )
        axes.set_ylim(bottom=low)
        fewer = f"{saving.needed:.0f} labels, {saving.baseline_needed - saving.needed:.0f} fewer"
        axes.annotate(
            fewer, (saving.needed, low), (5, 5), textcoords="offset points", fontsize=9, fontweight="bold", color=ink
        )
    measured = sorted({x for s in series for c in s.curves for x in c.labels})
    if len(measured) <= 12:
        axes.set_xticks(measured)
    _dress(axes, metric, title)
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", facecolor="white", metadata={"Software": None})
    return buffer.getvalue()


def _color(series: Series) -> str:
    return BASELINE if series.color is None else PALETTE[series.color % len(PALETTE)]


def _label_ends(axes: Axes, series: Sequence[Series]) -> None:
    drawn = [(s, s.band.mean if len(s.band.mean) else max(s.curves, key=len)) for s in series]
    low, high = axes.get_ylim()
    scores = [mean.scores[-1] for _, mean in drawn]
    moved = _apart(scores, 0.065 * (high - low))
    points = 240 / (high - low)  # the axes are about 240 points high
    for (s, mean), score, height in zip(drawn, scores, moved, strict=True):
        color, shift = _color(s), (height - score) * points
        axes.annotate(
            _short(s.name),
            (mean.labels[-1], mean.scores[-1]),
            (9, shift),
            textcoords="offset points",
            va="center",
            fontsize=10,
            fontweight="bold",
            color=color,
            annotation_clip=False,
        )


def _dress(axes: Axes, metric: str, title: str) -> None:
    axes.set_xlabel("labels", color="#5b6169")
    axes.set_title(
        _capital(metric) + (f"  ·  {title}" if title else ""), loc="left", pad=10, fontsize=11.5, fontweight="bold"
    )
    axes.grid(axis="y", color="#e3e5e8", linewidth=0.9)
    axes.set_axisbelow(True)
    axes.tick_params(length=0, colors="#5b6169")
    axes.spines[:].set_visible(False)
