import math
from dataclasses import dataclass

import pytest
import torch

from dal.errors import ConfigError
from dal.outputs import Outputs
from dal.strategies.batches import ClassBalanced, Diversified
from dal.strategies.disagreement import BALD
from dal.strategies.gradient import BADGE
from dal.strategies.uncertainty import Entropy, Margin
from dal.strategy import Query, ScoreStrategy, choose
from dal.testing import check_strategy
from strategies.queries import query


@dataclass(frozen=True)
class Given(ScoreStrategy):
    """Scores that stand in the outputs."""

    needs = frozenset({"score"})
    multilabel = True

    def score(self, query):
        return query.pool["score"]


@dataclass(frozen=True)
class Unbounded(Given):
    lowest = -math.inf


def asked(n: int, labels: list | None = None, *, multilabel: bool = False, **pool: list) -> Query:
    held = {name: torch.tensor(value) for name, value in pool.items()}
    counted = torch.tensor(labels or [], dtype=torch.bool if multilabel else torch.int64)
    generator = torch.Generator().manual_seed(0)
    return Query(Outputs(held, multilabel=multilabel), n, generator, labels=counted)


@pytest.mark.parametrize(
    "strategy", [Diversified(), Diversified(Entropy(), 2, "features"), Diversified(BALD(), 1)], ids=str
)
def test_diversified_keeps_the_contract(strategy):
    check_strategy(strategy, rows=3000)


@pytest.mark.parametrize("strategy", [ClassBalanced(), ClassBalanced(Entropy())], ids=str)
def test_class_balanced_keeps_the_contract(strategy):
    check_strategy(strategy, rows=3000)


def test_diversified_asks_for_one_row_of_each_cluster_of_the_best():
    towards = [[1.0, 0.0]] * 4 + [[0.0, 1.0]] * 2 + [[-1.0, 0.0]] * 4
    scores = [0.90, 0.91, 0.92, 0.93, 0.80, 0.81, 0.10, 0.11, 0.12, 0.13]
    selection = choose(Diversified(Given(), factor=3), asked(2, score=scores, embeddings=towards))
    assert selection.positions.tolist() == [3, 5]  # the two clusters of the best six, their best row first
    assert selection.scores.tolist() == pytest.approx([0.93, 0.81])


def test_diversified_weighs_rows_by_their_score():
    angle = torch.tensor([0.0, 0.1, 0.2, 0.3, 0.4])
    embeddings = torch.stack([angle.cos(), angle.sin()], 1).tolist()
    light_end = asked(1, score=[1.0, 1.0, 1.0, 1.0, 1.0], embeddings=embeddings)
    heavy_end = asked(1, score=[0.01, 0.01, 0.01, 0.01, 1.0], embeddings=embeddings)
    assert choose(Diversified(Given()), light_end).positions.tolist() == [2]
    assert choose(Diversified(Given()), heavy_end).positions.tolist() == [4]


def test_diversified_by_a_factor_of_one_is_the_strategy_itself():
    assert torch.equal(choose(Diversified(factor=1), query(9)).positions, choose(Margin(), query(9)).positions)


def test_diversified_fills_up_with_the_highest_scores_where_rows_are_copies():
    scores = [0.5, 0.9, 0.7, 0.6]
    chosen = choose(Diversified(Given(), factor=2), asked(3, score=scores, embeddings=[[1.0, 0.0]] * 4)).positions
    assert chosen.tolist() == [1, 2, 3]


@pytest.mark.parametrize("scores", [[-7.0, -3.0, -5.0, -9.0], [0.0] * 4])
def test_diversified_takes_scores_without_a_lowest_value_or_all_at_it(scores):
    embeddings = [[1.0, 0.0], [0.0, 1.0], [1.0, 0.1], [0.1, 1.0]]
    positions = choose(Diversified(Unbounded(), factor=9), asked(2, score=scores, embeddings=embeddings)).positions
    assert len(set(positions.tolist()) & {0, 2}) == 1  # one of either side


def test_diversified_chooses_among_the_best_only():
    pool = query(5)
    best = Margin().score(pool).topk(10).indices
    positions = choose(Diversified(factor=2), pool).positions
    assert set(positions.tolist()) <= set(best.tolist())


PROBS = [[0.9, 0.1, 0.0]] * 4 + [[0.1, 0.9, 0.0]] * 3 + [[0.0, 0.1, 0.9]] * 1  # predicted 0, 0, 0, 0, 1, 1, 1, 2
SCORES = [0.10, 0.95, 0.20, 0.85, 0.30, 0.75, 0.40, 0.05]


@pytest.mark.parametrize(
    ("labels", "n", "expected"),
    [
        ([], 3, [1, 5, 7]),  # one of each class, the highest score first
        ([0, 0, 0, 1], 4, [7, 5, 6, 1]),  # class 2 runs out, class 1 fills up to class 0, then the higher score
        ([0, 1, 1, 2, 2], 2, [1, 3]),
        ([1, 1, 1, 1, 1, 1], 5, [1, 7, 3, 2, 0]),
        ([2], 8, [1, 5, 3, 6, 7, 4, 2, 0]),  # class by class, and class 0 once it is all that is left
    ],
)
def test_class_balanced_fills_the_class_with_the_fewest_labels_by_its_best_row(labels, n, expected):
    chosen = choose(ClassBalanced(Given()), asked(n, labels, score=SCORES, probs=PROBS))
    assert chosen.positions.tolist() == expected
    torch.testing.assert_close(chosen.scores, torch.tensor(SCORES)[expected])


def test_class_balanced_evens_out_a_skewed_set_of_labels():
    pool = query(30, rows=300, labeled=30)
    pool.labels[:] = torch.tensor([0] * 24 + [1] * 4 + [2] * 2)
    positions = choose(ClassBalanced(), pool).positions
    counts = torch.bincount(torch.cat([pool.labels, pool.pool.probs.argmax(-1)[positions]]), minlength=4)
    assert counts.tolist() == [24, 12, 12, 12]


def test_class_balanced_is_the_strategy_itself_where_one_class_is_predicted():
    scores = [0.3, 0.9, 0.1, 0.5]
    chosen = choose(ClassBalanced(Given()), asked(3, [1, 1], score=scores, probs=[[0.8, 0.2]] * 4)).positions
    assert chosen.tolist() == [1, 3, 0]


def test_class_balanced_counts_a_multilabel_row_for_all_its_classes():
    probs = [[0.9, 0.9, 0.1], [0.9, 0.1, 0.1], [0.1, 0.1, 0.9], [0.1, 0.1, 0.2], [0.1, 0.8, 0.1]]
    scores = [0.9, 0.8, 0.1, 1.0, 0.2]
    pool = asked(5, None, multilabel=True, score=scores, probs=probs)
    # row 0 serves classes 0 and 1 at once, then class 2 has none yet, then 0 and 1 again, and row 3 has no class
    assert choose(ClassBalanced(Given()), pool).positions.tolist() == [0, 2, 1, 4, 3]


def test_class_balanced_reads_multilabel_labels():
    probs = [[0.9, 0.1], [0.1, 0.9]]
    pool = asked(1, [[True, True], [True, False]], multilabel=True, score=[1.0, 0.0], probs=probs)
    assert choose(ClassBalanced(Given()), pool).positions.tolist() == [1]


@pytest.mark.parametrize(("kind", "own"), [(Diversified, "embeddings"), (ClassBalanced, "probs")])
def test_declares_what_its_strategy_declares_and_its_own(kind, own):
    assert kind(BALD()).needs == {"mutual_information", own}
    assert kind(BALD()).multilabel
    assert not kind(Margin()).rowwise
    assert kind(BALD()).title == f"{kind.__name__}BALD"


@pytest.mark.parametrize("kind", [Diversified, ClassBalanced])
def test_a_strategy_without_scores_is_refused(kind):
    with pytest.raises(ConfigError, match=f"strategy of {kind.__name__} must score rows, as Margin does, which BADGE"):
        kind(BADGE())


def test_a_factor_below_one_is_refused():
    with pytest.raises(ConfigError, match="factor of Diversified must be 1 or more, not 0"):
        Diversified(factor=0)
