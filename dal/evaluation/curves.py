"""Learning curves: spread over seeds, area under the curve, and labels needed to reach a score."""

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from dal.config.moved import accepts_old_attributes
from dal.functional.checking import as_number, number

#: Metrics where lower is better; for all others higher is better.
LOWER_IS_BETTER = frozenset({"log_loss", "ece", "ace", "brier"})

#: Key of a line of `metrics.jsonl` with the user's own metrics by name; "own_metrics.cost" is that of the curve.
OWN_METRICS = "own_metrics"


def named_score(line: Mapping[str, Any], name: str) -> Any:
    """The test score of this name in a line of `metrics.jsonl`, of a user's own metric too; None if it has none."""
    own = line.get(OWN_METRICS)
    return line.get(name, own.get(name) if isinstance(own, Mapping) else None)


@accepts_old_attributes
@dataclass(frozen=True)
class Curve:
    """A score as a function of the number of labels, for one seed or averaged over seeds.

    Attributes:
        labels: strictly increasing numbers of labels.
        scores: the score at each number of labels.
    """

    labels: tuple[float, ...]
    scores: tuple[float, ...]

    def __len__(self) -> int:
        return len(self.labels)

    def at(self, labels: float) -> float | None:
        """Linearly interpolated score at a number of labels; None outside the range of the curve."""
        if not self.labels or not self.labels[0] <= labels <= self.labels[-1]:
            return None
        return float(np.interp(labels, self.labels, self.scores))

    def truncated(self, labels: float) -> "Curve":
        """The curve up to this number of labels, ending at an interpolated point."""
        kept = [point for point in zip(self.labels, self.scores, strict=True) if point[0] <= labels]
        score = self.at(labels)
        if score is not None and kept[-1][0] < labels:
            kept.append((labels, score))
        return Curve(tuple(x for x, _ in kept), tuple(y for _, y in kept))


def check_curve(curve: Curve) -> None:
    """Raise ValueError unless a curve has as many scores as numbers of labels, all of them finite."""
    if len(curve.labels) != len(curve.scores):
        raise ValueError(f"a curve of {len(curve.labels)} numbers of labels has {len(curve.scores)} scores")
    if not all(map(math.isfinite, (*curve.labels, *curve.scores))):
        raise ValueError("labels and scores of a curve must be finite")


def curve(records: Iterable[Mapping[str, Any]], metric: str) -> Curve:
    """Learning curve of one cell from its records of `metrics.jsonl`.

    Records without a finite `labels` and `metric` are left out; of several with the same number of labels (a round
    whose batch was declined, or one that was repeated after a resume) the last one counts.
    """
    points = {}
    for record in records:
        found = [as_number(record.get(name)) for name in ("labels", metric)]
        if all(value is not None and math.isfinite(value) for value in found):
            points[record["labels"]] = record[metric]
    return Curve(tuple(sorted(points)), tuple(float(points[labels]) for labels in sorted(points)))


@dataclass(frozen=True)
class Band:
    """Mean and spread of several curves, one per seed, over the numbers of labels that all of them cover.

    Attributes:
        mean: the mean curve.
        low: lowest score at each number of labels.
        high: highest score at each number of labels.
        std: standard deviation over the seeds (n - 1 in the denominator); zeros for a single seed.
        seeds: number of curves.
    """

    mean: Curve
    low: tuple[float, ...]
    high: tuple[float, ...]
    std: tuple[float, ...]
    seeds: int


def band(curves: Sequence[Curve]) -> Band:
    """Mean and spread of curves at every number of labels at which any of them was measured.

    Curves measured at different numbers of labels are interpolated, never extrapolated: the band ends where the
    shortest curve ends, so that its mean is over the same seeds everywhere. Empty curves are left out.
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
    """Area under the curve by the trapezoid rule, divided by its width: the mean score over the labels.

    In the units of the score. The area of a single point is its score.

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
    """Interpolated number of labels at which the curve first reaches `target`; None when it never does.

    For a curve that starts at or beyond the target it is the first number of labels, an upper bound.

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
            if i == 0 or score <= target:  # also within the slack below it, where interpolation would overshoot
                return float(curve.labels[i])
            share = (target - scores[i - 1]) / (score - scores[i - 1])
            return float(curve.labels[i - 1] + share * (curve.labels[i] - curve.labels[i - 1]))
    return None


@dataclass(frozen=True)
class CurveComparison:
    """Comparison of a strategy with the baseline on one metric, over their common seeds and numbers of labels.

    Attributes:
        metric: name of the metric in `metrics.jsonl`.
        seeds: the seeds that were compared.
        budget: number of labels at the end of the comparison.
        target: the baseline's mean score at `budget`.
        final: the strategy's mean score at `budget`.
        needed: labels at which the strategy's mean curve first reached the target; None when it did not.
        baseline_needed: labels at which the baseline's mean curve first reached it: `budget`, or fewer when the
            baseline declined later.
        needed_per_seed: `needed` for each seed, against the baseline of the same seed.
        area_differences: for each seed the strategy's area minus the baseline's, signed so that higher is better.
        final_differences: the same for the scores at `budget`.
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
        """Labels the baseline needed divided by those of the strategy; None when it never reached the target."""
        return None if self.needed is None else self.baseline_needed / self.needed

    @property
    def area_difference(self) -> float:
        """Mean of `area_differences`: the mean advantage over the whole curve."""
        return sum(self.area_differences) / len(self.area_differences)

    @property
    def final_difference(self) -> float:
        """Mean of `final_differences`."""
        return sum(self.final_differences) / len(self.final_differences)


@dataclass(frozen=True)
class PairedCurves:
    """Curves of a strategy and the baseline paired by seed, cut at the number of labels that all of them reach.

    Attributes:
        seeds: the common seeds.
        curves: the strategy's and the baseline's curve for each seed.
        start: largest first number of labels.
        budget: smallest last number of labels.
    """

    seeds: tuple[int, ...]
    curves: tuple[tuple[Curve, Curve], ...]
    start: float
    budget: float


def paired(strategy: Mapping[int, Curve], baseline: Mapping[int, Curve]) -> PairedCurves | None:
    """Pair the curves by seed; None when the curves have no seed or no numbers of labels in common."""
    seeds = [s for s in sorted(strategy.keys() & baseline.keys()) if len(strategy[s]) and len(baseline[s])]
    if not seeds:
        return None
    both = [(strategy[s], baseline[s]) for s in seeds]
    start = max(c.labels[0] for pair in both for c in pair)
    budget = min(c.labels[-1] for pair in both for c in pair)
    if budget < start:
        return None
    return PairedCurves(tuple(seeds), tuple((a.truncated(budget), b.truncated(budget)) for a, b in both), start, budget)


def compare(
    strategy: Mapping[int, Curve],
    baseline: Mapping[int, Curve],
    metric: str,
    *,
    lower_is_better: bool | None = None,
) -> CurveComparison | None:
    """Compare a strategy with the baseline, paired by seed; None when they have no seeds or labels in common.

    Args:
        strategy: the strategy's curve for each seed.
        baseline: the baseline's curve for each seed.
        metric: name of the score.
        lower_is_better: whether lower scores are better; by default the name decides (`LOWER_IS_BETTER`).
    """
    lower = metric in LOWER_IS_BETTER if lower_is_better is None else lower_is_better
    sign = -1 if lower else 1
    pairs = paired(strategy, baseline)
    if pairs is None:
        return None
    cut, budget = pairs.curves, pairs.budget
    ours, theirs = band([ours for ours, _ in cut]).mean, band([theirs for _, theirs in cut]).mean
    target = theirs.scores[-1]
    # The baseline may have had its final score earlier on: then it counts as reached there, not at the budget.
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
