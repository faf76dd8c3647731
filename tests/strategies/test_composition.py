import pytest
import torch

from dal.errors import ConfigError
from dal.strategies import BADGE, BALD, ClusterCenters, CoreSet, Margin, Phases, Random
from dal.strategy import RoundState, ScoreStrategy, choose
from strategies.queries import query

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


def test_unresolved_with_nothing_labeled_the_first_acts_even_without_a_least_number():
    start = Phases(ClusterCenters(), Margin(), until=0)
    assert torch.equal(choose(start, query(8, labeled=0)).positions, choose(ClusterCenters(), query(8)).positions)


@pytest.mark.parametrize("wrong", [{"until": -1}, {"classes": -2}])
def test_negative_numbers_are_refused(wrong):
    name, value = next(iter(wrong.items()))
    with pytest.raises(ConfigError, match=f"{name} of Phases must be 0 or more, not {value}"):
        Phases(Random(), Margin(), **wrong)
