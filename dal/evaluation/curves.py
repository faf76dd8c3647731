"""Learning-curve arithmetic: spread over seeds, area under the curve, and labels needed to reach a score."""

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from dal.functional.checking import as_number, number

#: Metrics where less is better. For all others more is.
LOWER_IS_BETTER = frozenset({"log_loss", "ece", "ace", "brier"})


@dataclass(frozen=True)
class Curve:
    """A score as a function of the number of labels: one seed's, or the mean over seeds.

    Attributes:
        labels: strictly increasing numbers of labels.
        scores: one score for each.
    """

    labels: tuple[float, ...]
    scores: tuple[float, ...]

    def __len__(self) -> int:
        return len(self.labels)

    def at(self, labels: float) -> float | None:
        """The score at this number of labels, interpolated; None outside the range of the curve."""
        if not self.labels or not self.labels[0] <= labels <= self.labels[-1]:
            return None
        return float(np.interp(labels, self.labels, self.scores))

    def upto(self, labels: float) -> "Curve":
        """The part of the curve with at most this many labels, cut off at an interpolated point."""
        kept = [point for point in zip(self.labels, self.scores, strict=True) if point[0] <= labels]
        score = self.at(labels)
        if score is not None and kept[-1][0] < labels:
            kept.append((labels, score))
        return Curve(tuple(x for x, _ in kept), tuple(y for _, y in kept))


def check_curve(curve: Curve) -> None:
    """Make sure that a curve has as many scores as numbers of labels, all of them finite (ValueError)."""
    if len(curve.labels) != len(curve.scores):
        raise ValueError(f"a curve of {len(curve.labels)} numbers of labels has {len(curve.scores)} scores")
    if not all(map(math.isfinite, (*curve.labels, *curve.scores))):
        raise ValueError("labels and scores of a curve must be finite")


def curve(records: Iterable[Mapping[str, Any]], metric: str) -> Curve:
    """The learning curve of one cell from its records of `metrics.jsonl`.

    Records without a finite `labels` and `metric` are left out; of two with the same number of labels (a round that was
    repeated after a resume) the later one counts.
    """
    points = {record["labels"]: record[metric] for record in records if _finite(record, "labels", metric)}
    return Curve(tuple(sorted(points)), tuple(float(points[labels]) for labels in sorted(points)))


def _finite(record: Mapping[str, Any], *names: str) -> bool:
    values = [as_number(record.get(name)) for name in names]
    return all(value is not None and math.isfinite(value) for value in values)


@dataclass(frozen=True)
class Band:
    """Several curves, one per seed, over the labels that all of them cover.

    Attributes:
        mean: the mean curve.
        low: the lowest score at each number of labels.
        high: the highest.
        std: the standard deviation over the seeds (n - 1); zeros for a single seed.
        seeds: how many curves.
    """

    mean: Curve
    low: tuple[float, ...]
    high: tuple[float, ...]
    std: tuple[float, ...]
    seeds: int


def band(curves: Sequence[Curve]) -> Band:
    """The mean and the spread of curves, at every number of labels that any of them was measured at.

    Curves measured at other numbers of labels are interpolated, never extrapolated: the band ends where the shortest
    curve ends, so that its mean is over the same seeds everywhere. Empty curves are left out.
    """
    curves = [c for c in curves if len(c)]
    for each in curves:
        check_curve(each)
    if not curves:
        return Band(Curve((), ()), (), (), (), 0)
    start, end = max(c.labels[0] for c in curves), min(c.labels[-1] for c in curves)
    grid = sorted({x for c in curves for x in c.labels if start <= x <= end})
    if not grid:
        return Band(Curve((), ()), (), (), (), len(curves))
    scores = np.array([np.interp(grid, c.labels, c.scores) for c in curves])  # (seeds, points)
    std = scores.std(0, ddof=1) if len(curves) > 1 else np.zeros(len(grid))
    rows = [tuple(map(float, row)) for row in (scores.mean(0), scores.min(0), scores.max(0), std)]
    return Band(Curve(tuple(grid), rows[0]), rows[1], rows[2], rows[3], len(curves))


def area(curve: Curve) -> float:
    """The area under the curve by the trapezoid rule, divided by its width: the mean score over the labels.

    In the units of the score. A single point is its own area.

    Raises:
        ValueError: the curve is empty.

    Example:
        >>> area(Curve((20, 40, 80), (0.5, 0.7, 0.7)))
        0.6666666666666666
    """
    if not len(curve):
        raise ValueError("an empty learning curve has no area")
    check_curve(curve)
    width = curve.labels[-1] - curve.labels[0]
    return float(np.trapezoid(curve.scores, curve.labels) / width) if width else curve.scores[0]


def labels_to_reach(curve: Curve, target: float, *, lower_is_better: bool = False) -> float | None:
    """The number of labels at which the curve first reaches `target`, interpolated; None when it never does.

    A curve that starts at or beyond the target reached it with its first point, at the latest.

    Example:
        >>> labels_to_reach(Curve((20, 40), (0.5, 0.7)), 0.6)
        30.0
    """
    check_curve(curve)
    target = number(target, "target")
    sign = -1 if lower_is_better else 1
    scores = [sign * score for score in curve.scores]
    target *= sign
    slack = 1e-9 * max(1.0, abs(target))  # a mean of equal numbers may differ in its last bit
    for i, score in enumerate(scores):
        if score >= target - slack:
            if i == 0 or score <= target:
                return float(curve.labels[i])
            share = (target - scores[i - 1]) / (score - scores[i - 1])
            return float(curve.labels[i - 1] + share * (curve.labels[i] - curve.labels[i - 1]))
    return None


@dataclass(frozen=True)
class CurveComparison:
    """A strategy against the baseline on one metric, over the seeds that both have, up to the labels both have.

    Attributes:
        metric: its name in `metrics.jsonl`.
        seeds: the seeds that were compared.
        budget: the number of labels at the end of the comparison.
        target: the baseline's mean score there.
        final: the strategy's mean score there.
        needed: labels at which the strategy's mean curve first reached the target; None when it did not.
        baseline_needed: labels at which the baseline's mean curve first reached it: `budget`, or earlier when the
            baseline fell again.
        needed_per_seed: the same as `needed` for each seed, against that seed's own baseline.
        area_differences: for each seed the strategy's area minus the baseline's, signed so that more is better.
        final_differences: the same for the scores at the end.
    """

    metric: str
    seeds: tuple[int, ...]
    budget: float
    target: float
    final: float
    needed: float | None
    baseline_needed: float
    needed_per_seed: tuple[float | None, ...]
    area_differences: tuple[float, ...]
    final_differences: tuple[float, ...]

    @property
    def ratio(self) -> float | None:
        """How many times fewer labels the strategy needed (above 1 is a saving); None when it never got there."""
        return None if self.needed is None else self.baseline_needed / self.needed

    @property
    def area_difference(self) -> float:
        """The mean over seeds of `area_differences`: the mean lead over the whole curve."""
        return sum(self.area_differences) / len(self.area_differences)

    @property
    def final_difference(self) -> float:
        """The mean over seeds of `final_differences`."""
        return sum(self.final_differences) / len(self.final_differences)


@dataclass(frozen=True)
class PairedCurves:
    """The curves of two strategies by seed, up to the labels that all of them have.

    Attributes:
        seeds: those that both have.
        curves: for each, the strategy's and the baseline's.
        start: where the last of them begins.
        budget: where they end.
    """

    seeds: tuple[int, ...]
    curves: tuple[tuple[Curve, Curve], ...]
    start: float
    budget: float


def paired(strategy: Mapping[int, Curve], baseline: Mapping[int, Curve]) -> PairedCurves | None:
    """The curves by the seeds that both have; None when no seed has curves of both that overlap."""
    seeds = [s for s in sorted(strategy.keys() & baseline.keys()) if len(strategy[s]) and len(baseline[s])]
    if not seeds:
        return None
    both = [(strategy[s], baseline[s]) for s in seeds]
    start = max(c.labels[0] for pair in both for c in pair)
    budget = min(c.labels[-1] for pair in both for c in pair)
    if budget < start:
        return None
    return PairedCurves(tuple(seeds), tuple((a.upto(budget), b.upto(budget)) for a, b in both), start, budget)


def compare(strategy: Mapping[int, Curve], baseline: Mapping[int, Curve], metric: str) -> CurveComparison | None:
    """The strategy against the baseline, paired by seed; None when no seed has curves of both that overlap.

    Args:
        strategy: one curve for each seed.
        baseline: likewise.
        metric: the name of the score, which decides whether less is better (`LOWER_IS_BETTER`).
    """
    lower = metric in LOWER_IS_BETTER
    sign = -1 if lower else 1
    pairs = paired(strategy, baseline)
    if pairs is None:
        return None
    cut, budget = pairs.curves, pairs.budget
    ours, theirs = band([ours for ours, _ in cut]).mean, band([theirs for _, theirs in cut]).mean
    target = theirs.scores[-1]
    reached = labels_to_reach(theirs, target, lower_is_better=lower)
    finals = [(a.scores[-1], b.scores[-1]) for a, b in cut]
    return CurveComparison(
        metric=metric,
        seeds=pairs.seeds,
        budget=budget,
        target=target,
        final=ours.scores[-1],
        needed=labels_to_reach(ours, target, lower_is_better=lower),
        baseline_needed=budget if reached is None else reached,
        needed_per_seed=tuple(labels_to_reach(a, b.scores[-1], lower_is_better=lower) for a, b in cut),
        area_differences=tuple(sign * (area(a) - area(b)) for a, b in cut),
        final_differences=tuple(sign * (a - b) for a, b in finals),
    )
