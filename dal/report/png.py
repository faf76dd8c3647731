"""Learning curves as a PNG, for a README."""

import io
from collections.abc import Sequence
from typing import Any

from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from dal.evaluation import Comparison
from dal.report.series import BASELINE, MAX_WITH_SEEDS, PALETTE, Series, apart, capital, drawable, measured, short

_MARKERS = ("o", "s", "^", "D", "v", "P")
_INK, _MUTED, _LINE = "#1a1c1f", "#5b6169", "#e3e5e8"

#: The size in inches, and where the axes lie in it.
_SIZE, _LEFT, _TOP, _BOTTOM = (7.2, 4.2), 0.085, 0.88, 0.135


def png(series: Sequence[Series], metric: str, *, note: str = "", saving: Comparison | None = None) -> bytes:
    """The learning curves of one metric as a PNG on white, 1440 x 840 pixels.

    Args:
        series: the strategies, each with its seeds; those without a point are left out.
        metric: what the scores are, in words.
        note: a few words at the top right, such as what the band is.
        saving: draws the labels saved at the baseline's final score.
    """
    series = drawable(series)
    figure = Figure(figsize=_SIZE, dpi=200, facecolor="white")
    FigureCanvasAgg(figure)
    axes = figure.add_subplot(facecolor="white")
    names = 0.035 + 0.0155 * max((len(short(s.name)) for s in series), default=0)
    figure.subplots_adjust(left=_LEFT, right=1 - names, top=_TOP, bottom=_BOTTOM)
    for rank, s in enumerate(reversed(series)):
        _draw(axes, s, 3 + rank, each=len(series) <= MAX_WITH_SEEDS)
    _dress(axes, metric, note, measured(series))
    _names(axes, series)
    if saving is not None and saving.needed is not None and saving.baseline_needed - saving.needed >= 1:
        _saving(axes, saving, saving.needed)
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", facecolor="white", metadata={"Software": None})
    return buffer.getvalue()


def _color(series: Series) -> str:
    return BASELINE if series.color is None else PALETTE[series.color % len(PALETTE)]


def _words(**style: Any) -> dict[str, Any]:
    """Text in the font that comes with matplotlib, in which a dollar sign is a dollar sign."""
    return {"fontfamily": "DejaVu Sans", "parse_math": False} | style


def _draw(axes: Axes, series: Series, rank: int, *, each: bool) -> None:
    spread, color = series.band, _color(series)
    if len(series.curves) > 1:
        axes.fill_between(spread.mean.labels, spread.low, spread.high, color=color, alpha=0.13, linewidth=0, zorder=1)
        for one in series.curves if each or len(spread.mean) < 2 else ():
            axes.plot(one.labels, one.scores, color=color, alpha=0.35, linewidth=0.8, zorder=2)
    axes.plot(
        spread.mean.labels,
        spread.mean.scores,
        color=color,
        linestyle=(0, (4, 2.5)) if series.color is None else "solid",
        linewidth=2.2,
        marker="o" if series.color is None else _MARKERS[series.color % len(_MARKERS)],
        markersize=6.5,
        markeredgecolor="white",
        zorder=rank,
    )


def _names(axes: Axes, series: Sequence[Series]) -> None:
    """The names at the ends of their curves, moved apart where they would overlap."""
    low, high = axes.get_ylim()
    height = 72 * _SIZE[1] * (_TOP - _BOTTOM) / (high - low)  # points per unit of the score
    ends = [s.end for s in series]
    moved = apart([height * score for _, score in ends], 15)
    for s, (labels, score), place in zip(series, ends, moved, strict=True):
        style = _words(fontsize=10, fontweight="bold", color=_color(s), va="center", annotation_clip=False)
        shift = (9, place - height * score)
        axes.annotate(short(s.name), (labels, score), shift, textcoords="offset points", **style)


def _saving(axes: Axes, saving: Comparison, needed: float) -> None:
    low, high = axes.get_ylim()
    corner = [saving.baseline_needed, needed, needed], [saving.target, saving.target, low]
    axes.plot(*corner, color=_INK, linewidth=1, linestyle=(0, (1.5, 2)), zorder=2.5)
    axes.set_ylim(low, high)
    words = f"{needed:.0f} labels, {saving.baseline_needed - needed:.0f} fewer"
    style = _words(fontsize=9, fontweight="bold", color=_INK)
    axes.annotate(words, (needed, low), (5, 5), textcoords="offset points", **style)


def _dress(axes: Axes, metric: str, note: str, labels: Sequence[float]) -> None:
    if len(labels) <= 12:
        axes.set_xticks(labels)
    axes.set_xlabel("labels", **_words(color=_MUTED))
    axes.set_title(capital(metric), loc="left", pad=11, **_words(fontsize=11.5, fontweight="bold", color=_INK))
    axes.set_title(note, loc="right", pad=11, **_words(fontsize=8.5, color=_MUTED))
    axes.grid(axis="y", color=_LINE, linewidth=0.9)
    axes.set_axisbelow(True)
    axes.tick_params(length=0, colors=_MUTED, labelfontfamily="DejaVu Sans")
    axes.spines[:].set_visible(False)
