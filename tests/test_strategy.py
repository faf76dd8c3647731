from dataclasses import dataclass

import pytest
import torch
from torch import Tensor

from dal.errors import NeedError, SelectionError
from dal.functional.exchange import Comm, Shard
from dal.outputs import Outputs
from dal.strategies.diversity import ClusterCenters
from dal.strategy import (
    Query,
    RoundState,
    ScoreStrategy,
    Selection,
    Strategy,
    all_needs,
    choose,
    choose_on_shards,
    name_of,
)
from dal.testing.thread_ranks import on_ranks, on_shards


@dataclass(frozen=True)
class Scores(ScoreStrategy):
    """Takes the name `score` as it is."""

    needs = frozenset({"score"})

    def score(self, query: Query) -> Tensor:
        return query.pool["score"]


@dataclass(frozen=True)
class Returns(Strategy):
    """Returns what it was made with."""

    value: object

    def select(self, query: Query) -> Tensor | Selection:
        return self.value


def scored(*scores: float, n: int = 1, seed: int = 0, **kwargs) -> Query:
    return Query(Outputs({"score": torch.tensor(scores)}), n, torch.Generator().manual_seed(seed), **kwargs)


def test_the_highest_scores_are_chosen_best_first():
    selection = choose(Scores(), scored(0.1, 5.0, -2.0, 3.0, n=2))
    assert selection.positions.tolist() == [1, 3]
    assert selection.scores.tolist() == [5, 3]


def test_ties_are_broken_by_the_generator():
    choices = {tuple(choose(Scores(), scored(*[1.0] * 20, n=3, seed=seed)).positions.tolist()) for seed in range(5)}
    assert len(choices) == 5


def test_scores_of_the_wrong_shape_are_refused():
    @dataclass(frozen=True)
    class Flat(ScoreStrategy):
        needs = frozenset({"score"})

        def score(self, query: Query) -> Tensor:
            return query.pool["score"][:2]

    with pytest.raises(SelectionError, match=r"Flat.score returned shape \(2,\), expected \(3,\)"):
        choose(Flat(), scored(1.0, 2.0, 3.0))


@pytest.mark.parametrize("bad", [torch.nan, torch.inf, -torch.inf])
def test_outputs_that_are_not_finite_are_named_by_position(bad):
    message = "'score' that the model computed is NaN or infinite at 1 positions of the pool: 2"
    with pytest.raises(SelectionError, match=message):
        choose(Scores(), scored(0.0, 1.0, bad))


def test_labeled_outputs_that_are_not_finite_are_named_as_such():
    @dataclass(frozen=True)
    class Both(Scores):
        labeled_needs = frozenset({"score"})

    labeled = Outputs({"score": torch.tensor([0.0, torch.nan])})
    with pytest.raises(SelectionError, match="positions of the labeled rows: 1"):
        choose(Both(), scored(0.0, 1.0, labeled=labeled))


def test_a_score_that_is_not_finite_is_refused():
    @dataclass(frozen=True)
    class Divides(Scores):
        def score(self, query: Query) -> Tensor:
            return query.pool["score"] / 0

    with pytest.raises(SelectionError, match="a score of Divides is NaN or infinite at 3 positions"):
        choose(Divides(), scored(0.0, 1.0, 2.0))


def test_large_but_finite_numbers_are_accepted():
    assert choose(Scores(), scored(3e38, 3e38, 1.0)).positions.tolist()[0] in (0, 1)


@pytest.mark.parametrize(
    ("value", "message"),
    [
        (torch.tensor([0, 0]), "chose a position twice"),
        (torch.tensor([0, 3]), "outside its pool of 3"),
        (torch.tensor([-1, 0]), "outside its pool of 3"),
        (torch.tensor([0, 1, 2]), r"torch.int64 \(3,\), expected int64 positions of shape \(2,\)"),
        (torch.tensor([0.0, 1.0]), r"torch.float32 \(2,\), expected int64"),
        (torch.tensor([[0, 1]]), r"\(1, 2\), expected int64"),
        ([0, 1], "returned list, expected int64"),
        (Selection(torch.tensor([0, 1]), torch.zeros(3)), r"scores of shape \(3,\), expected \(2,\)"),
    ],
)
def test_anything_but_distinct_positions_of_the_pool_is_refused(value, message):
    with pytest.raises(SelectionError, match=message):
        choose(Returns(value), scored(1.0, 2.0, 3.0, n=2))


def test_plain_positions_become_a_selection():
    selection = choose(Returns(torch.tensor([2, 0])), scored(1.0, 2.0, 3.0, n=2))
    assert selection.positions.tolist() == [2, 0]
    assert selection.scores is None
    assert selection.notes == {}


@pytest.mark.parametrize("n", [0, 4])
def test_a_number_that_the_pool_does_not_have_is_refused(n):
    with pytest.raises(SelectionError, match=f"{n} rows were asked of Scores, but the pool has 3"):
        choose(Scores(), scored(1.0, 2.0, 3.0, n=n))


def test_reading_what_was_not_declared_is_refused():
    @dataclass(frozen=True)
    class Sneaky(Scores):
        def score(self, query: Query) -> Tensor:
            return query.pool["secret"]

    pool = Outputs({"score": torch.zeros(2), "secret": torch.zeros(2)})
    with pytest.raises(NeedError, match=r"'secret' was read but not declared: write needs = {.* in Sneaky"):
        choose(Sneaky(), Query(pool, 1, torch.Generator()))


def test_needs_may_be_a_plain_set():
    @dataclass(frozen=True)
    class Plain(Scores):
        needs = {"score"}  # noqa: RUF012

    assert choose(Plain(), scored(1.0, 2.0)).positions.tolist() == [1]
    assert all_needs(Plain()) == {"score"}


def test_multilabel_outputs_are_refused_by_a_strategy_that_does_not_claim_them():
    pool = Outputs({"score": torch.zeros(2)}, multilabel=True)
    with pytest.raises(NeedError, match="Scores is not defined for multi-label outputs"):
        choose(Scores(), Query(pool, 1, torch.Generator()))


def test_random_numbers_come_from_the_generator_alone():
    first, second = scored(0.0, seed=3), scored(0.0, seed=3)
    before = torch.get_rng_state()
    for draw in ("rand", "randn", "gumbel"):
        assert torch.equal(getattr(first, draw)(4, 2), getattr(second, draw)(4, 2))
    assert torch.equal(torch.get_rng_state(), before)


def test_gumbel_numbers_have_their_mean_and_spread():
    numbers = scored(0.0).gumbel(20_000)
    assert float(numbers.mean()) == pytest.approx(0.5772, abs=0.03)
    assert float(numbers.std()) == pytest.approx(1.2825, abs=0.03)


def test_a_strategy_acts_itself_by_default():
    assert Scores().resolve(RoundState(labels=10)) == Scores()
    assert name_of(Scores()) == "Scores"


@dataclass(frozen=True)
class RowwiseScores(Scores):
    rowwise = True


def on_rank(shard: Shard, values: torch.Tensor, n: int = 3) -> Query:
    """The query of a rank whose pool has its rows of all scores."""
    pool = Outputs({"score": values[shard.rows]}, length=len(shard))
    return Query(pool, n, torch.Generator().manual_seed(0), shard=shard)


def test_rowwise_scores_are_selected_on_shards_as_in_one_process():
    values = torch.tensor([3.0, 1.0, 3.0, 2.0, 3.0, 3.0])
    expected = choose(RowwiseScores(), Query(Outputs({"score": values}), 3, torch.Generator().manual_seed(0)))
    for ranks in (1, 2, 4):
        for selection in on_shards(6, ranks, lambda shard: choose_on_shards(RowwiseScores(), on_rank(shard, values))):
            assert selection.positions.tolist() == expected.positions.tolist()
            assert selection.scores.tolist() == [3.0, 3.0, 3.0]


@pytest.mark.parametrize("strategy", [Scores(), ClusterCenters()], ids=name_of)
@pytest.mark.parametrize("function", [choose, choose_on_shards])
def test_strategies_that_need_all_rows_are_refused_on_shards(strategy, function):
    def select(shard: Shard) -> None:
        with pytest.raises(NeedError, match=f"{name_of(strategy)} needs all rows on one rank"):
            function(strategy, on_rank(shard, torch.zeros(6)))

    on_shards(6, 2, select)


def test_a_rowwise_strategy_with_a_selection_of_its_own_does_not_claim_shards():
    @dataclass(frozen=True)
    class Own(RowwiseScores):
        def select(self, query: Query) -> Tensor:
            return torch.arange(query.n)

    assert RowwiseScores().exact_on_shards
    assert not Own().exact_on_shards


def test_an_input_that_one_rank_refuses_is_refused_on_all():
    values = torch.arange(6.0)
    values[4] = torch.nan

    def select(comm: Comm) -> str:
        shard = Shard(comm, torch.arange(comm.rank, 6, 3), 6)
        with pytest.raises(SelectionError) as error:
            choose_on_shards(RowwiseScores(), on_rank(shard, values))
        return str(error.value)

    other = "the inputs of RowwiseScores were refused on rank 1, which says why"
    assert on_ranks(3, select) == [
        other,
        "'score' that the model computed is NaN or infinite at 1 positions of the pool: 1",
        other,
    ]


def test_more_rows_than_all_ranks_have_are_refused_on_all():
    def select(shard: Shard) -> None:
        with pytest.raises(SelectionError, match="7 rows were asked of RowwiseScores, but the pool has 6"):
            choose_on_shards(RowwiseScores(), on_rank(shard, torch.zeros(6), n=7))

    on_shards(6, 2, select)


def test_a_pool_without_a_shard_is_refused():
    with pytest.raises(SelectionError, match=r"needs query\.shard"):
        choose_on_shards(RowwiseScores(), scored(1.0, 2.0))
