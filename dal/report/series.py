"""Series of a plot: strategies with their curves, names and colours."""

import functools
import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import median

from dal.evaluation import Band, Curve, band
from dal.evaluation.efficiency import LEAST
from dal.evaluation.intervals import mean_interval
from dal.report.run_reading import Run

#: Okabe and Ito's palette for any colour vision, darkened until it is readable as text on white. `report.css` and
#: `svg.py` contain the same colours, and lighter ones for dark mode. The baseline is grey.
PALETTE = ("#0072b2", "#c44f00", "#00805c", "#b0568c", "#2a86bd", "#a86f00", "#6a4fc4", "#7d4a2b")
BASELINE = "#6b7280"

#: Largest number of strategies for which single seeds are drawn.
MAX_WITH_SEEDS = 3


@dataclass(frozen=True)
class Series:
    """One strategy in a plot.

    Attributes:
        name: label of the series.
        curves: one curve per seed.
        color: index into the palette; None for the baseline.
    """

    name: str
    curves: tuple[Curve, ...]
    color: int | None

    @functools.cached_property
    def band(self) -> Band:
        """Mean over the seeds up to the shortest one, with an interval for enough seeds and a range otherwise."""
        return mean_interval(self.curves)

    def stretched(self, factor: float) -> "Series":
        """The series with all x values multiplied by a factor, for another unit of the x axis."""
        curves = tuple(Curve(tuple(factor * x for x in c.labels), c.scores) for c in self.curves)
        return Series(self.name, curves, self.color)

    @property
    def end(self) -> tuple[float, float]:
        """Last point of the mean, or of the longest seed when the seeds do not overlap: the place of the name."""
        last = self.band.mean if len(self.band.mean) else max(self.curves, key=len)
        return last.labels[-1], last.scores[-1]

    @property
    def color_name(self) -> str:
        """Name of its colour in drawings."""
        return "base" if self.color is None else f"s{self.color % len(PALETTE)}"


def of_run(run: Run, metric: str, over: str = "labels") -> list[Series]:
    """Series of every strategy of the run that has the metric; challengers take the palette in order.

    Over money or time, the scores at each number of labels are drawn at the median cost of the strategy's seeds at that
    number: seeds are compared at the same labels, and neither a busy machine nor the embeddings, which the first cell
    computes for all, distort a curve.
    """
    series = []
    for name in run.strategies:
        curves = tuple(run.curves(name, metric).values())
        if over != "labels":
            costs = _typical([cell.costs(over) for cell in run.of(name)])
            curves = tuple(_moved(c, costs) for c in curves)
        series.append(Series(name, curves, palette_index(run, name)))
    return drawable(series)


def _typical(costs: Sequence[Curve]) -> Curve:
    """Median cost over the seeds, up to the shortest one."""
    grid = band(costs).mean.labels
    middle = [median(values) for x in grid if (values := [y for c in costs if (y := c.at(x)) is not None])]
    return Curve(grid, tuple(middle))


def _moved(curve: Curve, costs: Curve) -> Curve:
    """The curve with each number of labels replaced by its cost; points of unknown cost are dropped."""
    points = [(costs.at(x), y) for x, y in zip(curve.labels, curve.scores, strict=True)]
    known = [(cost, y) for cost, y in points if cost is not None]
    return Curve(tuple(cost for cost, _ in known), tuple(y for _, y in known))


def palette_index(run: Run, name: str) -> int | None:
    """Palette index of a strategy; None for the baseline."""
    return run.challengers.index(name) if name in run.challengers else None


def color_name_of(run: Run, name: str) -> str:
    """Name of a strategy's colour."""
    return Series(name, (), palette_index(run, name)).color_name


def band_words(series: Sequence[Series]) -> str:
    """Short description of the bands."""
    seeds = max((s.band.seeds for s in series), default=0)
    if seeds < 2:
        return "one seed"
    what = "95 % interval of the mean" if seeds >= LEAST else "from lowest to highest"
    return f"mean of {seeds} seeds, band: {what}"


def short(label: str) -> str:
    """The name, truncated to 24 characters to fit next to a curve."""
    return label if len(label) <= 24 else label[:23] + "…"


def capital(words: str) -> str:
    """The words with their first letter capitalised."""
    return words[:1].upper() + words[1:]


def spread_apart(heights: Sequence[float], gap: float, limit: float = math.inf) -> list[float]:
    """Increase heights until neighbours are `gap` apart, then decrease all equally until none exceeds `limit`."""
    moved = list(heights)
    order = sorted(range(len(moved)), key=moved.__getitem__)
    for below, above in itertools.pairwise(order):
        moved[above] = max(moved[above], moved[below] + gap)
    over = max(0.0, max(moved, default=0.0) - limit)
    return [height - over for height in moved]


def drawable(series: Sequence[Series]) -> list[Series]:
    """The series that have at least one point."""
    return [s for s in series if any(len(c) for c in s.curves)]


def measured(series: Sequence[Series]) -> list[float]:
    """Sorted numbers of labels at which any series was measured."""
    return sorted({x for s in series for c in s.curves for x in c.labels})
