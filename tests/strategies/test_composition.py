from dataclasses import dataclass, replace
from pathlib import Path

import pytest
import torch

from dal.config import build as building
from dal.config import settings_tree as tree
from dal.config.stored import describe
from dal.errors import ConfigError, NeedError, SelectionError
from dal.experiments.experiment import Experiment
from dal.outputs import Outputs
from dal.strategies.composition import Fallback, Mixture, Phases, split
from dal.strategies.disagreement import BALD
from dal.strategies.diversity import ClusterCenters, CoreSet
from dal.strategies.gradient import BADGE
from dal.strategies.random import Random
from dal.strategies.uncertainty import Margin
from dal.strategy import Query, RoundState, ScoreStrategy, Strategy, choose, name_of
from dal.testing import check_strategy
from strategies.queries import of, query

COLD_START = Phases(first=ClusterCenters(), then=Margin(), until=20, classes=2)


@pytest.mark.parametrize(
    ("labels", "per_class", "acting"),
    [
        (0, (0, 0, 0), ClusterCenters()),
        (19, (10, 9, 0), ClusterCenters()),
        (20, (10, 10, 0), Margin()),
        (20, (20, 0, 0), ClusterCenters()),  # a single class trains nothing
        (500, (500, 0, 0), ClusterCenters()),
        (20, (), Margin()),  # multi-label: classes are not counted
        (19, (), ClusterCenters()),
    ],
)
def test_acts_by_the_number_of_labels_and_of_classes_seen(labels, per_class, acting):
    assert COLD_START.resolve(RoundState(labels=labels, per_class=per_class)) == acting


def test_nested_phases_go_through_all_of_them():
    nested = Phases(ClusterCenters(), Phases(CoreSet(), BADGE(), until=50), until=10)
    acting = [nested.resolve(RoundState(labels=L, per_class=(L, L))) for L in (0, 10, 49, 50)]
    assert acting == [ClusterCenters(), CoreSet(), CoreSet(), BADGE()]
    inner_first = Phases(Phases(Random(), CoreSet(), until=5), Margin(), until=10)
    acting = [inner_first.resolve(RoundState(labels=L, per_class=(L, L))) for L in (4, 5, 10)]
    assert acting == [Random(), CoreSet(), Margin()]


def test_needs_are_those_of_both():
    both = Phases(CoreSet("embeddings"), BADGE(seeding="k-center"))
    assert both.needs == {"embeddings", "grads"}
    assert both.labeled_needs == {"embeddings", "grads"}
    assert both.target_needs == frozenset()


def test_is_multilabel_only_when_both_are():
    class SingleLabelOnly(ScoreStrategy):
        needs = {"probs"}  # noqa: RUF012

        def score(self, query):
            return query.pool.probs[:, 0]

    assert Phases(Random(), BALD()).multilabel
    assert not Phases(Random(), SingleLabelOnly()).multilabel
    assert Phases(Random(), SingleLabelOnly()).needs == {"probs"}


def test_unresolved_it_acts_by_the_labels_of_the_query():
    late, early = query(8, labeled=30), query(8, labeled=3)
    assert torch.equal(choose(COLD_START, late).positions, choose(Margin(), query(8, labeled=30)).positions)
    assert torch.equal(choose(COLD_START, early).positions, choose(ClusterCenters(), query(8, labeled=3)).positions)


def test_unresolved_it_counts_classes_unless_multilabel():
    one_class = query(8, labeled=30)
    one_class.labels.zero_()
    assert torch.equal(choose(COLD_START, one_class).positions, choose(ClusterCenters(), query(8)).positions)
    multilabel = query(8, labeled=30, multilabel=True)
    expected = choose(Margin(), query(8, labeled=30, multilabel=True))
    assert torch.equal(choose(COLD_START, multilabel).positions, expected.positions)


def test_unresolved_it_counts_the_classes_of_multilabel_rows_as_a_session_does():
    labels = torch.zeros(30, 4, dtype=torch.bool)
    labels[:, 2] = True  # thirty rows, of one class
    one_class = replace(query(8, labeled=30, multilabel=True), labels=labels)
    state = RoundState(labels=30, per_class=tuple(labels.sum(0).tolist()))
    by_session = choose(COLD_START.resolve(state), replace(query(8, labeled=30, multilabel=True), labels=labels))
    assert COLD_START.resolve(state) == ClusterCenters()
    assert torch.equal(choose(COLD_START, one_class).positions, by_session.positions)


def test_unresolved_with_nothing_labeled_the_first_acts_even_without_a_least_number():
    start = Phases(ClusterCenters(), Margin(), until=0)
    assert torch.equal(choose(start, query(8, labeled=0)).positions, choose(ClusterCenters(), query(8)).positions)


@pytest.mark.parametrize("wrong", [{"until": -1}, {"classes": -2}])
def test_negative_numbers_are_refused(wrong):
    name, value = next(iter(wrong.items()))
    with pytest.raises(ConfigError, match=f"{name} of Phases must be 0 or more, not {value}"):
        Phases(Random(), Margin(), **wrong)


# -- Mixture -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("n", "shares", "parts"),
    [
        (10, (1, 1), [5, 5]),
        (7, (1, 1), [4, 3]),
        (10, (1, 1, 1), [4, 3, 3]),
        (1, (0.2, 0.8), [0, 1]),
        (3, (5, 3, 2), [1, 1, 1]),  # 1.5, 0.9 and 0.6: the remainders .9 and .6 are the largest
        (100, (0.1, 0.2, 0.7), [10, 20, 70]),
    ],
)
def test_n_is_split_by_largest_remainder(n, shares, parts):
    assert split(n, shares) == parts


def test_a_mixture_takes_from_each_its_best_that_are_not_taken_yet():
    scores = torch.tensor([[0.9, 0.1], [0.55, 0.45], [0.5, 0.5], [0.8, 0.2], [0.6, 0.4]])
    embeddings = torch.tensor([[0.0], [9.0], [10.0], [1.0], [2.0]])
    asked = of(
        {"logits": scores.log(), "embeddings": embeddings}, 2, labeled={"embeddings": torch.zeros(1, 1)}, labels=[0]
    )
    chosen = choose(Mixture((Margin(), CoreSet(space="embeddings"))), asked)
    assert chosen.positions.tolist() == [2, 1]  # the least sure is also the farthest: core-set takes the next


def test_a_mixture_deals_its_parts_in_turn():
    mixture = Mixture((Margin(), ClusterCenters()), (3, 1))
    chosen = choose(mixture, query(8)).positions
    by_margin = choose(Margin(), query(6)).positions
    assert set(by_margin.tolist()) <= set(chosen.tolist())
    places = [i for i, row in enumerate(chosen.tolist()) if row not in by_margin.tolist()]
    assert places == [2, 6]  # 1/4 and 3/4 of the way


def test_a_mixture_keeps_the_order_of_each_part():
    chosen = choose(Mixture((Margin(), Random())), query(10)).positions.tolist()
    by_margin = choose(Margin(), query(5)).positions.tolist()
    assert [row for row in chosen if row in by_margin] == by_margin


def test_scores_of_a_mixture_are_those_of_the_parts_where_all_give_some():
    with_scores = choose(Mixture((Margin(), CoreSet())), query(6))
    margins = choose(Margin(), query(3))
    place = {row: i for i, row in enumerate(with_scores.positions.tolist())}
    assert with_scores.scores is not None
    at = [place[row] for row in margins.positions.tolist()]
    torch.testing.assert_close(with_scores.scores[at], margins.scores)
    assert choose(Mixture((Margin(), Random())), query(6)).scores is None


def test_notes_of_a_mixture_say_whose_they_are():
    assert "CoreSet.radius" in choose(Mixture((Random(), CoreSet())), query(6)).notes


def test_a_mixture_of_one_is_that_one():
    for strategy in (Margin(), CoreSet(), BADGE()):
        assert torch.equal(choose(Mixture((strategy,)), query(7)).positions, choose(strategy, query(7)).positions)


def test_a_mixture_can_take_the_whole_pool():
    chosen = choose(Mixture((Margin(), Random(), ClusterCenters())), query(60))
    assert sorted(chosen.positions.tolist()) == list(range(60))


def test_a_mixture_resolves_its_parts():
    mixture = Mixture((Phases(ClusterCenters(), Margin(), until=10), Random()), (2, 1))
    assert mixture.resolve(RoundState(labels=5, per_class=(3, 2))) == Mixture((ClusterCenters(), Random()), (2, 1))
    assert mixture.resolve(RoundState(labels=10, per_class=(5, 5))) == Mixture((Margin(), Random()), (2, 1))
    plain = Mixture()
    assert plain.resolve(RoundState(labels=10)) is plain


def test_a_mixture_reads_what_its_parts_read():
    mixture = Mixture((CoreSet("embeddings"), BADGE(), Margin()))
    assert mixture.needs == {"embeddings", "grads", "probs"}
    assert mixture.labeled_needs == {"embeddings"}
    assert mixture.multilabel


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (((),), "takes a list of strategies, got none"),
        (((Margin(), 3),), "takes a list of strategies, got 3"),
        (((Margin(), Random()), (1,)), "must be 2 positive numbers, one for each strategy"),
        (((Margin(), Random()), (1, 0)), "must be 2 positive numbers"),
        (((Margin(), Random()), (1, float("nan"))), "must be 2 positive numbers"),
        (((Margin(), Random()), (1, float("inf"))), "must be 2 positive numbers"),
    ],
)
def test_a_mixture_that_makes_no_sense_is_refused(arguments, message):
    with pytest.raises(ConfigError, match=message):
        Mixture(*arguments)


def test_lists_make_the_same_mixture_as_tuples():
    listed = Mixture([Margin(), Random()], [2, 1])
    assert listed == Mixture((Margin(), Random()), (2.0, 1.0))
    assert hash(listed) == hash(Mixture((Margin(), Random()), (2.0, 1.0)))


# -- Fallback ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("labels", "per_class", "falls"),
    [(0, (0, 0), True), (0, (), True), (9, (9, 0), True), (2, (1, 1), False), (9, (), False)],
)
def test_falls_back_while_the_labels_can_train_nothing(labels, per_class, falls):
    strategy = Fallback(Margin(), ClusterCenters())
    acting = strategy.resolve(RoundState(labels=labels, per_class=per_class))
    assert acting == (ClusterCenters() if falls else strategy)


def test_a_fallback_resolves_its_parts():
    strategy = Fallback(Phases(CoreSet(), Margin(), until=10), Phases(ClusterCenters(), Random(), until=10))
    assert strategy.resolve(RoundState(labels=0, per_class=(0, 0))) == ClusterCenters()
    assert strategy.resolve(RoundState(labels=5, per_class=(3, 2))) == Fallback(CoreSet(), ClusterCenters())
    assert strategy.resolve(RoundState(labels=10, per_class=(5, 5))) == Fallback(Margin(), Random())


def test_a_fallback_acts_as_its_first_where_that_has_a_signal():
    for first in (Margin(), BADGE(), Random()):
        chosen = choose(Fallback(first, ClusterCenters()), query(9))
        assert torch.equal(chosen.positions, choose(first, query(9)).positions)
        assert "fell_back" not in chosen.notes


def test_unresolved_a_fallback_looks_at_the_labels_of_the_query():
    for asked in (query(9, labeled=0), replace(query(9), labels=torch.zeros(10, dtype=torch.int64))):
        assert torch.equal(
            choose(Fallback(Margin(), ClusterCenters()), asked).positions, choose(ClusterCenters(), query(9)).positions
        )


def test_falls_back_when_outputs_are_not_finite():
    asked = query(9)
    broken = asked.pool["logits"].clone()
    broken[3, 1] = torch.nan
    pool = Outputs({"logits": broken, "embeddings": asked.pool["embeddings"]})
    with pytest.raises(SelectionError, match="NaN"):
        choose(Margin(), replace(asked, pool=pool))
    chosen = choose(Fallback(Margin(), ClusterCenters()), replace(asked, pool=pool))
    assert torch.equal(chosen.positions, choose(ClusterCenters(), query(9)).positions)
    assert chosen.notes["fell_back"] == 1


@pytest.mark.parametrize("n", [1, 9])
def test_falls_back_when_all_rows_score_alike(n):
    asked = query(n)
    same = Outputs({"logits": torch.zeros(60, 4), "embeddings": asked.pool["embeddings"]})
    chosen = choose(Fallback(Margin(), ClusterCenters()), replace(asked, pool=same))
    assert torch.equal(chosen.positions, choose(ClusterCenters(), query(n)).positions)
    assert chosen.notes["fell_back"] == 1


def test_ties_among_the_best_are_a_signal_where_others_score_less():
    logits = torch.cat([torch.zeros(5, 4), torch.eye(4)])
    chosen = choose(Fallback(Margin(), Random()), of({"logits": logits}, 3, labels=[0, 1]))
    assert set(chosen.positions.tolist()) <= set(range(5))
    assert "fell_back" not in chosen.notes


def test_falls_back_when_gradients_are_all_zero():
    features = torch.randn(20, 3, generator=torch.Generator().manual_seed(0))
    sure = torch.nn.functional.one_hot(torch.arange(20) % 4).float() * 1e4
    pool = {"logits": sure, "features": features, "embeddings": features}
    chosen = choose(Fallback(BADGE(), ClusterCenters()), of(pool, 4, labels=[0, 1]))
    assert torch.equal(chosen.positions, choose(ClusterCenters(), of(pool, 4, labels=[0, 1])).positions)


def test_a_pool_of_one_row_is_no_reason_to_fall_back():
    assert "fell_back" not in choose(Fallback(Margin(), Random()), query(1, rows=1)).notes


def test_what_is_wrong_with_the_strategy_itself_is_not_hidden():
    @dataclass(frozen=True)
    class Undeclared(Strategy):
        def select(self, query: Query):
            return query.pool.probs.argmax(1)[: query.n]

    with pytest.raises(NeedError, match="not declared"):
        choose(Fallback(Undeclared(), Random()), query(3))
    with pytest.raises(SelectionError):
        choose(Fallback(Random(), Random()), query(61))


# -- all of them ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "strategy",
    [
        Mixture(),
        Mixture((Margin(), BADGE(), CoreSet(space="embeddings")), (5, 1, 1)),
        Mixture((COLD_START, Random())),
        Fallback(),
        Fallback(BADGE(seeding="k-center"), ClusterCenters()),
        Fallback(Mixture(), Phases(ClusterCenters(), Random(), until=30)),
    ],
    ids=name_of,
)
def test_keeps_the_contract(strategy):
    check_strategy(strategy, rows=3000)


def test_titles_name_the_parts_and_can_be_folders():
    strategy = Phases(ClusterCenters(), Fallback(Mixture((Margin(), CoreSet()), (2, 1)), Random()))
    assert name_of(strategy) == "ClusterCenters+Margin&CoreSet-else-Random"
    assert not set(name_of(strategy)) & set('<>:"/\\|?* ')


def test_composites_are_written_in_a_config(tmp_path: Path):
    path = tmp_path / "run.yaml"
    path.write_text(
        """
data: {path: tickets.csv}
learner: ProbeLearner
strategy:
  Fallback:
    first:
      Mixture:
        strategies: [Margin, {CoreSet: {space: embeddings}}, {class_path: BADGE, init_args: {seeding: k-center}}]
        shares: [2, 1, 1]
    then: ClusterCenters
"""
    )
    made, _ = building.build(Experiment, tree.read(path), tree.options([]))
    parts = (Margin(), CoreSet(space="embeddings"), BADGE(seeding="k-center"))
    assert made.strategy == Fallback(Mixture(parts, (2.0, 1.0, 1.0)), ClusterCenters())
    path.write_text(f"data: {{path: tickets.csv}}\nlearner: ProbeLearner\nstrategy: {describe(made.strategy)}\n")
    again, _ = building.build(Experiment, tree.read(path), tree.options([]))
    assert again.strategy == made.strategy


def test_a_mixture_is_written_on_the_command_line(tmp_path: Path):
    path = tmp_path / "run.yaml"
    path.write_text("data: {path: tickets.csv}\nlearner: ProbeLearner\nstrategy: Margin\n")
    pairs = [("strategy", "Mixture"), ("strategy.strategies", "[Margin, Random]"), ("strategy.shares", "[3, 1]")]
    made, _ = building.build(Experiment, tree.read(path), tree.options(pairs))
    assert made.strategy == Mixture((Margin(), Random()), (3.0, 1.0))


def test_a_mistake_within_a_mixture_is_shown_with_its_place(tmp_path: Path):
    path = tmp_path / "run.yaml"
    path.write_text("data: {path: t.csv}\nlearner: ProbeLearner\nstrategy: {Mixture: {strategies: [Margin, Corset]}}\n")
    with pytest.raises(ConfigError, match=r"run.yaml:3.*Corset.*did you mean CoreSet"):
        building.build(Experiment, tree.read(path), tree.options([]))
