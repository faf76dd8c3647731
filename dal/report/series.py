"""What a plot shows: strategies with their curves, names and colours."""

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

#: Okabe and Ito's colours, told apart by people with any colour vision, darkened until they can be read as text on
#: white. `report.css` and `svg.py` hold the same, and lighter ones for a dark page. The baseline is grey.
PALETTE = ("#0072b2", "#c44f00", "#00805c", "#b0568c", "#2a86bd", "#a86f00", "#6a4fc4", "#7d4a2b")
BASELINE = "#6b7280"

#: More strategies than this are drawn without the single seeds, which would only be a tangle.
MAX_WITH_SEEDS = 3


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

    @functools.cached_property
    def band(self) -> Band:
        """The mean over the seeds, as far as all of them go: with an interval for enough seeds, a range for few."""
        return mean_interval(self.curves)

    def stretched(self, factor: float) -> "Series":
        """The same with the labels of every curve multiplied: another unit of what they are drawn over."""
        curves = tuple(Curve(tuple(factor * x for x in c.labels), c.scores) for c in self.curves)
        return Series(self.name, curves, self.color)

    @property
    def end(self) -> tuple[float, float]:
        """Where its name belongs: the last point of the mean, or of its longest seed when the seeds do not overlap."""
        last = self.band.mean if len(self.band.mean) else max(self.curves, key=len)
        return last.labels[-1], last.scores[-1]

    @property
    def paint(self) -> str:
        """Its colour by name, for drawings."""
        return "base" if self.color is None else f"s{self.color % len(PALETTE)}"

    @property
    def variable(self) -> str:
        """The custom property that holds its colour."""
        return f"var(--{self.paint})"


def of_run(run: Run, metric: str, over: str = "labels") -> list[Series]:
    """One for each strategy of the run that was measured; challengers take the palette in order.

    Over money or time, the scores of each number of labels stand at what the strategy's seeds had spent by then, as
    their median: seeds are compared at the same labels, and neither a busy machine nor the embeddings, which the first
    cell computes for all, stretch a curve.
    """
    found = []
    for name in run.strategies:
        curves = tuple(run.curves(name, metric).values())
        if over != "labels":
            costs = _typical([cell.costs(over) for cell in run.of(name)])
            curves = tuple(_moved(c, costs) for c in curves)
        found.append(Series(name, curves, place(run, name)))
    return drawable(found)


def _typical(costs: Sequence[Curve]) -> Curve:
    """The median over the seeds, as far as all of them go."""
    grid = band(costs).mean.labels
    middle = [median(found) for x in grid if (found := [y for c in costs if (y := c.at(x)) is not None])]
    return Curve(grid, tuple(middle))


def _moved(curve: Curve, costs: Curve) -> Curve:
    """The curve with each number of labels replaced by its cost, where this is known."""
    points = [(costs.at(x), y) for x, y in zip(curve.labels, curve.scores, strict=True)]
    known = [(cost, y) for cost, y in points if cost is not None]
    return Curve(tuple(cost for cost, _ in known), tuple(y for _, y in known))


def place(run: Run, name: str) -> int | None:
    """The place of a strategy in the palette; None for the baseline."""
    return run.challengers.index(name) if name in run.challengers else None


def paint(run: Run, name: str) -> str:
    """The colour of a strategy by name."""
    return Series(name, (), place(run, name)).paint


def band_words(series: Sequence[Series]) -> str:
    """What the bands are, in a few words."""
    seeds = max((s.band.seeds for s in series), default=0)
    if seeds < 2:
        return "one seed"
    what = "95 % interval of the mean" if seeds >= LEAST else "from lowest to highest"
    return f"mean of {seeds} seeds, band: {what}"


def short(label: str) -> str:
    """The name, cut to what fits next to a curve."""
    return label if len(label) <= 24 else label[:23] + "…"


def capital(words: str) -> str:
    """The words with a capital first letter, the others as they are."""
    return words[:1].upper() + words[1:]


def apart(heights: Sequence[float], gap: float, limit: float = math.inf) -> list[float]:
    """The heights moved up, in order, until neighbours are `gap` apart; then all down until none is over `limit`."""
    moved = list(heights)
    order = sorted(range(len(moved)), key=moved.__getitem__)
    for below, above in itertools.pairwise(order):
        moved[above] = max(moved[above], moved[below] + gap)
    over = max(0.0, max(moved, default=0.0) - limit)
    return [height - over for height in moved]


def drawable(series: Sequence[Series]) -> list[Series]:
    """Those that have a point."""
    return [s for s in series if any(len(c) for c in s.curves)]


def measured(series: Sequence[Series]) -> list[float]:
    """The numbers of labels at which any of them was measured."""
    return sorted({x for s in series for c in s.curves for x in c.labels})
