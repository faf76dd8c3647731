"""How many texts of a class may be missed: against an exact reference, and against the guarantee in simulated draws."""

from fractions import Fraction

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray
from reference import automation as reference
from torch import Tensor

from dal.evaluation.automatic_labels import decide
from dal.evaluation.class_recall import missed, recall_threshold, score_quantiles

Floats = NDArray[np.float64]
ROWS = st.lists(st.tuples(st.sampled_from([0.0, 0.1, 0.3, 0.5, 0.9]), st.booleans()), min_size=1, max_size=60)


@given(
    ROWS,
    st.lists(st.sampled_from([0.0, 0.05, 0.1, 0.4, 0.9, 1.0]), min_size=1, max_size=5, unique=True),
    st.sampled_from([Fraction(1, 2), Fraction(3, 4), Fraction(9, 10)]),
)
def test_threshold_is_that_of_the_reference(
    rows: list[tuple[float, bool]], grid: list[float], min_recall: Fraction
) -> None:
    scores, assigned = [score for score, _ in rows], [named for _, named in rows]
    grid, delta = sorted(grid), Fraction(1, 5)
    found = recall_threshold(scores, assigned, float(min_recall), grid=grid, delta=float(delta))
    assert found.threshold == reference.recall_threshold(scores, assigned, min_recall, grid, delta)
    assert found.passed == (0 if found.threshold is None else grid.index(found.threshold) + 1)
    if found.threshold is not None:
        assert found.bound >= float(min_recall)
        assert found.misses == missed(scores, assigned, found.threshold).sum()


def test_fifty_nine_rows_without_a_miss_are_the_fewest_for_95_percent() -> None:
    few = recall_threshold(np.zeros(58), np.ones(58, bool), 0.95, grid=[0, 1])
    assert (few.threshold, few.needed, few.rows) == (None, 59, 58)
    enough = recall_threshold(np.zeros(59), np.ones(59, bool), 0.95, grid=[0, 1])
    assert (enough.threshold, enough.misses) == (1, 0)
    one_miss = recall_threshold(np.zeros(59), np.arange(59) > 0, 0.95, grid=[0, 1])
    assert one_miss.threshold == 0


def test_thresholds_leave_the_stated_shares_below_them() -> None:
    scores = np.random.default_rng(0).permutation(1000) / 1000
    grid = score_quantiles(scores, scores > 0.9, steps=10)
    assert (grid[0], grid[-1]) == (0, np.inf)
    assert [(~(scores > 0.9) & (scores < t)).sum() for t in grid] == [-(-901 * i // 10) for i in range(11)]
    assert score_quantiles([], [], steps=2).tolist() == [0, np.inf, np.inf]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"min_recall": 1.0}, "min_recall"),
        ({"delta": 0.0}, "delta"),
        ({"grid": [1, 0]}, "ascending"),
        ({"score": [np.nan]}, "finite"),
        ({"score": [0.1, 0.2]}, "both be"),
    ],
)
def test_what_is_no_recall_is_refused(change: dict[str, object], message: str) -> None:
    arguments = {"score": [0.5], "assigned": [True], "min_recall": 0.9, "grid": [0, 1], "delta": 0.05} | change
    with pytest.raises(ValueError, match=message):
        recall_threshold(**arguments)  # type: ignore[arg-type]


# -- the guarantee ---------------------------------------------------------------------------------------------------

DRAWS, DELTA = 200, 0.1
LIMIT = DRAWS * DELTA + 3 * (DRAWS * DELTA * (1 - DELTA)) ** 0.5


class World:
    """Rows of three classes with the logits of a model, of which a large table is the truth."""

    def __init__(self, skill: float, seed: int, *, multilabel: bool = False) -> None:
        self.skill, self.multilabel = skill, multilabel
        self.random = np.random.default_rng(seed)
        self.logits, self.labels = self.draw(100_000)

    def draw(self, rows: int) -> tuple[Tensor, Tensor]:
        classes = self.random.choice(3, rows, p=[0.6, 0.25, 0.15])
        hot = np.eye(3)[classes]
        if self.multilabel:
            hot = np.maximum(hot, self.random.random((rows, 3)) < 0.1)
        logits = self.skill * (hot - 0.5) * self.random.random((rows, 1)) ** 0.5 + self.random.normal(size=(rows, 3))
        labels = torch.from_numpy(hot > 0) if self.multilabel else torch.from_numpy(classes)
        return torch.from_numpy(logits), labels


@pytest.mark.parametrize(
    ("skill", "multilabel", "rows"), [(4.0, False, 700), (1.0, False, 500), (4.0, True, 600)], ids=str
)
def test_recall_is_too_low_in_at_most_the_stated_share_of_draws(skill: float, multilabel: bool, rows: int) -> None:
    """10 % of 200 draws, plus three standard errors of that count: at most 32."""
    world, wrong, automated = World(skill, 1, multilabel=multilabel), 0, []
    probs = world.logits.sigmoid() if multilabel else world.logits.softmax(1)
    named = world.logits[:, 2] > 0 if multilabel else world.logits.argmax(1) == 2
    members = world.labels[:, 2] if multilabel else world.labels == 2
    for _ in range(DRAWS):
        held, labels = world.draw(rows)
        pool, _ = world.draw(300)
        found = decide(pool, held, labels, None, min_recall={2: 0.9}, delta=DELTA).recalls[2]
        assert found.threshold is not None
        seen = named | (probs[:, 2] >= found.threshold)
        wrong += seen[members].double().mean().item() < 0.9
        automated.append((named | (probs[:, 2] < found.threshold)).double().mean().item())
    assert wrong <= LIMIT
    assert 0.02 < np.mean(automated) < 1  # something is automated, and not everything


@pytest.mark.parametrize("multilabel", [False, True])
def test_both_guarantees_hold_when_both_are_asked_for(multilabel: bool) -> None:
    world, low, high, automated = World(4.0, 2, multilabel=multilabel), 0, 0, 0
    max_error = 0.15
    for _ in range(DRAWS):
        held, labels = world.draw(800)
        pool, _ = world.draw(300)
        found = decide(world.logits[:10_000], held, labels, max_error, min_recall={2: 0.9}, delta=DELTA, unlabeled=pool)
        if not found.automatic.any():
            continue
        automated += 1
        part = slice(0, 10_000)
        truth = world.labels[part]
        right = (found.answers == truth).all(1) if multilabel else found.answers == truth
        high += (1 - right[found.automatic].double().mean().item()) > max_error
        named = found.answers[:, 2] if multilabel else found.answers == 2
        members = truth[:, 2] if multilabel else truth == 2
        low += (named | ~found.automatic)[members].double().mean().item() < 0.9
    assert automated > DRAWS / 2
    assert high <= LIMIT
    assert low <= LIMIT


def test_a_row_is_automatic_only_if_both_allow_it() -> None:
    world = World(4.0, 3)
    held, labels = world.draw(2000)
    pool = world.logits[:3000]
    both = decide(pool, held, labels, 0.15, min_recall={2: 0.9, 1: 0.8})
    assert both.result is not None
    assert both.result.threshold is not None
    allowed = both.confidence >= both.result.threshold
    for code, recall in both.recalls.items():
        assert recall.threshold is not None
        allowed &= (both.answers == code) | (pool.softmax(1)[:, code] < recall.threshold)
    assert both.automatic.tolist() == allowed.tolist()
    assert 0.1 < both.automatic.double().mean() < 1
    error = decide(pool, held, labels, 0.15)
    assert error.result is not None
    assert both.automatic.double().mean() <= error.automatic.double().mean() + 0.05


def test_declined_rows_are_left_out_of_the_recall() -> None:
    world = World(4.0, 4)
    held, labels = world.draw(600)
    known = torch.from_numpy(np.random.default_rng(0).random(600) < 0.8)
    found = decide(world.logits[:500], held, labels, None, min_recall={2: 0.8}, known=known)
    assert found.recalls[2].rows == int((labels[known] == 2).sum())


def test_neither_an_error_rate_nor_a_recall_is_refused() -> None:
    with pytest.raises(ValueError, match="max_error, or min_recall"):
        decide(torch.zeros(2, 2), torch.zeros(2, 2), torch.zeros(2, dtype=torch.long), None)


def test_a_model_that_assigns_the_class_to_everything_leaves_no_grid() -> None:
    grid = score_quantiles([0.9, 0.8], [True, True], steps=3)
    assert grid.tolist() == [0, np.inf, np.inf, np.inf]
    assert recall_threshold(np.ones(59), np.ones(59, bool), 0.95, grid=grid).threshold == np.inf
