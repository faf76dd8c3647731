"""What must hold for every strategy of the package, whatever its mathematics."""

import copy
import dataclasses

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

from dal.outputs import Outputs
from dal.strategies import BADGE, BALD, ClusterCenters, CoreSet, Entropy, LeastConfidence, Margin, Phases, Random
from dal.strategy import Query, RoundState, Strategy, choose, name_of
from strategies.queries import query

STRATEGIES = [
    Random(),
    LeastConfidence(),
    Margin(),
    Entropy(),
    BALD(),
    CoreSet(),
    CoreSet(space="embeddings"),
    CoreSet(space="grads"),
    ClusterCenters(),
    ClusterCenters(space="features"),
    BADGE(),
    BADGE(seeding="k-center"),
    Phases(ClusterCenters(), BADGE(), until=5),
    Phases(Random(), Phases(CoreSet(), Margin(), until=100)),
]


@pytest.fixture(params=STRATEGIES, ids=str)
def strategy(request) -> Strategy:
    return request.param


@pytest.mark.parametrize("multilabel", [False, True])
@pytest.mark.parametrize("labeled", [0, 1, 10])
@pytest.mark.parametrize("n", [1, 7, 60])
def test_chooses_distinct_positions_whatever_is_labeled(strategy, n, labeled, multilabel):
    selection = choose(strategy, query(n, labeled=labeled, multilabel=multilabel))  # checks them
    assert len(selection.positions) == n


@pytest.mark.parametrize("classes", [2, 3, 20, 150])
def test_works_for_few_and_many_classes(strategy, classes):
    assert len(choose(strategy, query(12, classes=classes)).positions) == 12


@pytest.mark.parametrize("n", [1, 25, 60])
def test_duplicates_are_no_trouble(strategy, n):
    assert len(choose(strategy, query(n, repeat=20)).positions) == n


def test_a_pool_of_equal_rows_is_no_trouble(strategy):
    assert len(choose(strategy, query(60, repeat=60)).positions) == 60


def test_a_pool_of_one_row_is_chosen(strategy):
    assert choose(strategy, query(1, rows=1)).positions.tolist() == [0]


def test_the_same_seed_gives_the_same_choice(strategy):
    first, second = choose(strategy, query(9)), choose(strategy, query(9))
    assert torch.equal(first.positions, second.positions)


def test_the_global_random_stream_is_not_touched(strategy):
    before = torch.get_rng_state()
    choose(strategy, query(9))
    assert torch.equal(torch.get_rng_state(), before)


def test_the_outputs_are_not_written_to(strategy):
    asked = query(9)
    names = ["logits", "features", "embeddings", "mc_logits"]
    before = {name: asked.pool[name].clone() for name in names}
    choose(strategy, asked)
    assert all(torch.equal(asked.pool[name], before[name]) for name in names)


def test_every_score_is_finite_and_belongs_to_a_position(strategy):
    scores = choose(strategy, query(9)).scores
    assert scores is None or (scores.shape == (9,) and torch.isfinite(scores).all())


def test_is_a_value(strategy):
    assert copy.deepcopy(strategy) == strategy
    assert hash(dataclasses.replace(strategy)) == hash(strategy)
    with pytest.raises(dataclasses.FrozenInstanceError):
        strategy.anything = 1


def test_its_declarations_are_no_options(strategy):
    assert {f.name for f in dataclasses.fields(strategy)}.isdisjoint(
        {"needs", "labeled_needs", "target_needs", "multilabel", "rowwise", "paper", "advice"}
    )


def test_says_where_it_comes_from_and_when_to_use_it(strategy):
    assert strategy.advice.strip()
    assert strategy.paper or type(strategy).__name__ in ("Random", "Phases")
    assert "\n" not in strategy.advice


def test_is_right_for_multilabel_outputs(strategy):
    assert strategy.multilabel


def test_acts_itself_unless_it_is_a_schedule(strategy):
    acting = strategy.resolve(RoundState(labels=50, per_class=(25, 25)))
    assert acting is strategy or isinstance(strategy, Phases)


@pytest.mark.parametrize(
    "strategy", [s for s in STRATEGIES if name_of(s) in ("LeastConfidence", "Margin", "Entropy", "BALD", "CoreSet")]
)
def test_does_not_depend_on_the_order_of_the_pool(strategy):
    asked = query(15)
    order = torch.randperm(60, generator=torch.Generator().manual_seed(5))
    shuffled = Query(asked.pool.take(order), 15, torch.Generator().manual_seed(0), asked.labeled, labels=asked.labels)
    assert torch.equal(order[choose(strategy, shuffled).positions], choose(strategy, query(15)).positions)


@pytest.mark.parametrize("strategy", [s for s in STRATEGIES if s.rowwise], ids=str)
def test_scores_of_a_rowwise_strategy_do_not_depend_on_other_rows(strategy):
    asked = query(1)
    alone = Query(asked.pool.take([17]), 1, torch.Generator())
    torch.testing.assert_close(strategy.score(alone), strategy.score(asked)[17:18])


def test_only_row_by_row_strategies_say_so():
    assert {name_of(s) for s in STRATEGIES if s.rowwise} == {"LeastConfidence", "Margin", "Entropy"}


class Largest(TorchDispatchMode):
    """Keeps the number of elements of the largest tensor that any operation made."""

    elements = 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        made = func(*args, **(kwargs or {}))
        for tensor in made if isinstance(made, (tuple, list)) else (made,):
            if isinstance(tensor, torch.Tensor):
                self.elements = max(self.elements, tensor.untyped_storage().size() // tensor.element_size())
        return made


def test_a_large_pool_takes_neither_a_table_of_all_pairs_nor_of_all_gradients(strategy):
    N, C, D = 20_000, 10, 16
    generator = torch.Generator().manual_seed(0)
    tensors = {"logits": (N, C), "features": (N, D), "embeddings": (N, D), "mc_logits": (N, 3, C)}
    pool = Outputs({name: torch.randn(*shape, generator=generator) for name, shape in tensors.items()})
    with Largest() as largest:
        assert len(choose(strategy, Query(pool, 5, generator)).positions) == 5
    assert largest.elements <= N * 3 * C < N * C * D < N * N


@pytest.mark.gpu
@pytest.mark.parametrize("labeled", [0, 10])
def test_a_gpu_makes_the_same_choice(strategy, labeled):
    asked = query(15, labeled=labeled)
    there = Query(asked.pool.to("cuda"), 15, asked.generator, asked.labeled.to("cuda"), labels=asked.labels.cuda())
    moved = choose(strategy, there)
    here = choose(strategy, query(15, labeled=labeled))
    assert torch.equal(moved.positions.cpu(), here.positions)
    if here.scores is not None:
        torch.testing.assert_close(moved.scores.cpu(), here.scores, rtol=1e-4, atol=1e-4)
