"""Threshold on the probability of a class below which a text need not go to a person, with a recall guarantee."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from dal.evaluation.automation import labels_needed, log_p_values
from dal.evaluation.binomial import upper_bound

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class ClassRecall:
    """Score threshold of a class, and the evidence that few texts of the class are missed below it.

    A text is missed if the model does not assign it the class and its score is below the threshold, so that no person
    sees it. Texts that are assigned the class, or sent to a person, are found.

    Attributes:
        threshold: score from which a text that is not assigned the class goes to a person; 0 sends all of them, and
            infinity none. None if there are too few held-out rows even for 0.
        passed: number of leading thresholds of the grid that passed the test.
        rows: number of held-out rows of the class.
        misses: number of these that are missed at the threshold.
        bound: lower bound of the share that is found, valid with probability 1 - delta; 0 without a threshold.
        min_recall: the requested share.
        delta: probability that the share is lower nevertheless.
        needed: smallest number of held-out rows of the class that can pass the test, without a miss.
    """

    threshold: float | None
    passed: int
    rows: int
    misses: int
    bound: float
    min_recall: float
    delta: float
    needed: int


def missed(score: ArrayLike, assigned: ArrayLike, threshold: float) -> NDArray[np.bool_]:
    """Whether rows of a class are neither assigned the class nor sent to a person, (m,) bool.

    Args:
        score: (m,) scores of the class.
        assigned: (m,) bool, whether the model assigns the class.
        threshold: score from which other rows go to a person.

    Example:
        >>> missed([0.9, 0.1, 0.3], [True, False, False], 0.2).tolist()
        [False, True, False]
    """
    return ~np.asarray(assigned, np.bool_) & (np.asarray(score, np.float64) < threshold)


def recall_threshold(
    score: ArrayLike, assigned: ArrayLike, min_recall: float, *, grid: ArrayLike, delta: float = 0.05
) -> ClassRecall:
    """Highest threshold on the score of a class at which at least `min_recall` of its texts are found.

    With probability at least 1 - delta over the held-out rows, a text of the class, from the same distribution as these
    rows, is assigned the class or has a score at or above the threshold with probability `min_recall` or more. The
    thresholds of `grid` are tested in ascending order, the safest first, and the last one that passes before one fails
    is returned: a threshold passes when the Clopper-Pearson upper bound of the share that is missed is at most
    1 - `min_recall`.

    Why this holds: given their number, the held-out rows of the class are independent draws of its texts, so that the
    number of misses at a fixed threshold is binomial and each single test is exact. For a wrong result the first
    threshold with too low a recall must pass, since none after it is tested otherwise: its test is one exact test,
    which passes with probability delta at most (fixed-sequence testing). The scores need not be calibrated and may have
    ties, but the grid must be chosen without looking at these rows: see `score_quantiles`.

    Angelopoulos, Bates, Candes, Jordan and Lei 2021, "Learn then Test: Calibrating Predictive Algorithms to Achieve
    Risk Control"; Clopper and Pearson 1934.

    Args:
        score: (m,) scores of the held-out rows of the class, such as its probability; higher is more likely.
        assigned: (m,) bool, whether the model assigns the class to each of them.
        min_recall: smallest share to find, 0 to 1, both excluded.
        grid: (G,) ascending thresholds.
        delta: probability that the result is wrong, 0 to 1, both excluded.

    Raises:
        ValueError: a share is not between 0 and 1, a score is not finite, or the grid is not ascending.

    Example:
        >>> scores = np.arange(400) / 400
        >>> found = recall_threshold(scores, scores > 0.5, 0.9, grid=[0, 0.04, 0.08, 0.3])
        >>> found.threshold, found.misses, found.rows, found.needed
        (0.04, 16, 400, 29)
    """
    if isinstance(min_recall, bool) or not 0 < min_recall < 1:
        raise ValueError(f"min_recall must be between 0 and 1, both excluded, not {min_recall}")
    allowed = 1 - min_recall
    needed = labels_needed(allowed, delta)
    scores, named = np.asarray(score, np.float64), np.asarray(assigned, np.bool_)
    if scores.ndim != 1 or scores.shape != named.shape:
        raise ValueError(f"score and assigned must both be (m,), not {scores.shape} and {named.shape}")
    if not np.isfinite(scores).all():
        raise ValueError("scores must be finite")
    tested = np.asarray(grid, np.float64)
    if tested.ndim != 1 or np.isnan(tested).any() or (tested[1:] < tested[:-1]).any():
        raise ValueError("grid must be ascending thresholds in one dimension")
    rows = len(scores)
    best = ClassRecall(None, 0, rows, 0, 0.0, min_recall, delta, needed)
    for number, threshold in enumerate(tested.tolist(), 1):
        misses = int(missed(scores, named, threshold).sum())
        bound = upper_bound(misses, rows, delta)
        if bound > allowed:
            break
        best = ClassRecall(threshold, number, rows, misses, 1 - bound, min_recall, delta, needed)
    return best


def score_quantiles(score: ArrayLike, assigned: ArrayLike, *, steps: int = 100) -> Floats:
    """Ascending thresholds below which the shares 0, 1/steps, ..., 1 of the rows without the class lie, (steps + 1,).

    Computed from unlabeled rows, they are a valid grid for `recall_threshold`. The first is 0 and the last infinity.

    Args:
        score: (N,) scores of unlabeled rows, at least 0.
        assigned: (N,) bool, whether the model assigns the class; thresholds are quantiles of the other rows.
        steps: number of steps.

    Example:
        >>> score_quantiles([0.1, 0.2, 0.3, 0.9], [False, False, False, True], steps=3).tolist()
        [0.0, 0.2, 0.3, inf]
    """
    others = np.sort(np.asarray(score, np.float64)[~np.asarray(assigned, np.bool_)])
    below = np.ceil(np.arange(steps + 1) * (len(others) / steps) - 1e-9).astype(np.int64)
    return np.concatenate([[0.0], np.append(others, np.inf)[below[1:]]])


@dataclass(frozen=True, eq=False)
class RecallRule:
    """The test of the recall of one class on m held-out rows, along a sequence of thresholds.

    Attributes:
        score: (m,) scores of the class.
        assigned: (m,) bool, whether the model assigns the class.
        members: (m,) bool, whether a row has the class.
        grid: (G + 1,) ascending thresholds; at the first, 0, no row without the class is automated.
        min_recall: smallest share of the class to find.
        delta: probability that it is lower nevertheless.
    """

    score: Floats
    assigned: NDArray[np.bool_]
    members: NDArray[np.bool_]
    grid: Floats
    min_recall: float
    delta: float

    def test(self, last: int | None = None) -> ClassRecall:
        """Test the thresholds in order, up to number `last` of the grid."""
        grid = self.grid if last is None else self.grid[: last + 1]
        rows = self.members
        return recall_threshold(self.score[rows], self.assigned[rows], self.min_recall, grid=grid, delta=self.delta)

    def allowed(self) -> NDArray[np.bool_]:
        """Whether each row may be automated at each threshold but the first, (G, m) bool."""
        return self.assigned | (self.score < self.grid[1:, None])

    def plausible(self, rows: int) -> NDArray[np.bool_]:
        """Whether the first rows let expect that the test passes at each threshold but the first, (G,) bool.

        Args:
            rows: number of these rows. All thresholds are plausible if none of them has the class.
        """
        members = np.flatnonzero(self.members[:rows])
        if not len(members):
            return np.ones(len(self.grid) - 1, np.bool_)
        misses = self.allowed()[:, members] & ~self.assigned[members]  # (G, h)
        every = np.ones_like(misses)
        p = log_p_values(every, misses.astype(np.float64), 1 - self.min_recall, rows=int(self.members.sum()))
        plausible: NDArray[np.bool_] = p <= np.log(self.delta)
        return plausible
