import pytest
import torch
from reference import turns as reference

from dal.outputs import Outputs
from dal.strategies.text import ALPS, LikelyPerClass
from dal.strategy import Query, choose
from dal.testing import check_strategy


def asked(surprisal: torch.Tensor, n: int, seed: int = 0) -> Query:
    return Query(Outputs({"surprisal": surprisal}), n, torch.Generator().manual_seed(seed))


def test_takes_one_row_of_each_place_that_surprises_the_largest_group_first():
    places = torch.tensor([0] * 5 + [3] * 9 + [7] * 2)
    nats = 1 + torch.rand(16, 1, generator=torch.Generator().manual_seed(0))
    surprisal = torch.nn.functional.one_hot(places, 10) * nats
    selection = choose(ALPS(), asked(surprisal, 3))
    assert places[selection.positions].tolist() == [3, 0, 7]
    assert selection.scores.tolist() == [9.0, 5.0, 2.0]


def test_how_surprised_the_model_is_does_not_count():
    surprisal = torch.rand(40, 12, generator=torch.Generator().manual_seed(0))
    louder = surprisal * torch.linspace(0.5, 20, 40)[:, None]
    assert torch.equal(choose(ALPS(), asked(louder, 6)).positions, choose(ALPS(), asked(surprisal, 6)).positions)


def test_places_that_no_text_reaches_change_nothing():
    surprisal = torch.rand(40, 12, generator=torch.Generator().manual_seed(0))
    padded = torch.nn.functional.pad(surprisal, (0, 100))
    assert torch.equal(choose(ALPS(), asked(padded, 6)).positions, choose(ALPS(), asked(surprisal, 6)).positions)


def test_texts_without_any_surprise_are_no_trouble():
    assert len(choose(ALPS(), asked(torch.zeros(9, 5), 4)).positions.unique()) == 4


def test_reads_nothing_but_surprisal():
    assert ALPS().needs == {"surprisal"}
    assert not ALPS().labeled_needs


def test_keeps_the_contract():
    check_strategy(ALPS())


# -- likely rows of each class -------------------------------------------------------------------------------------


def before_labels(logits: torch.Tensor, n: int, *, labels: torch.Tensor | None = None, seed: int = 0) -> Query:
    multilabel = labels is not None and labels.dim() == 2
    pool = Outputs({"zero_shot_logits": logits}, multilabel=multilabel)
    given = torch.zeros(0, dtype=torch.int64) if labels is None else labels
    return Query(pool, n, torch.Generator().manual_seed(seed), labels=given)


@pytest.mark.parametrize("multilabel", [False, True])
@pytest.mark.parametrize(("classes", "n"), [(2, 1), (3, 7), (5, 30), (40, 12)])
@pytest.mark.parametrize("labeled", [0, 9])
def test_equals_the_reference(classes, n, labeled, multilabel):
    generator = torch.Generator().manual_seed(classes)
    logits = torch.randn(30, classes, generator=generator) + torch.randn(classes, generator=generator)
    labels = torch.randint(classes, (labeled,), generator=generator)
    counts = torch.bincount(labels, minlength=classes).tolist()
    labels = torch.nn.functional.one_hot(labels, classes).bool() if multilabel else labels
    selection = choose(LikelyPerClass(), before_labels(logits, n, labels=labels))
    expected = reference.likely_per_class(logits.numpy(), counts, n, multilabel=multilabel)
    assert selection.positions.tolist() == expected


def test_every_class_gets_its_likeliest_row_the_rarest_first():
    probs = [[0.9, 0.06, 0.04], [0.8, 0.15, 0.05], [0.7, 0.1, 0.2], [0.55, 0.4, 0.05], [0.55, 0.35, 0.1]]
    selection = choose(LikelyPerClass(), before_labels(torch.tensor(probs).log(), 4))
    assert selection.positions.tolist() == [2, 3, 0, 4]
    assert selection.scores.tolist() == pytest.approx([0.2, 0.4, 0.9, 0.1])


def test_ties_are_broken_by_the_generator_of_the_query():
    tied = torch.zeros(40, 4)
    found = {tuple(choose(LikelyPerClass(), before_labels(tied, 4, seed=seed)).positions.tolist()) for seed in range(9)}
    assert len(found) == 9


def test_classes_without_a_label_come_before_those_with_one():
    logits = torch.randn(50, 3, generator=torch.Generator().manual_seed(0))
    labels = torch.tensor([0, 0, 2])
    selection = choose(LikelyPerClass(), before_labels(logits, 2, labels=labels))
    assert selection.positions[0] == logits.log_softmax(1)[:, 1].argmax()
    probs = logits.softmax(1)
    assert selection.scores[0] == pytest.approx(float(probs[:, 1].max()))


@pytest.mark.parametrize("scale", [1.0, 1e4])
def test_a_row_is_taken_once_however_many_classes_it_is_likely_for(scale):
    logits = torch.randn(12, 4, generator=torch.Generator().manual_seed(3)) * scale
    several = choose(LikelyPerClass(), before_labels(logits, 12, labels=torch.zeros(0, 4, dtype=torch.bool)))
    assert sorted(several.positions.tolist()) == list(range(12))


def test_likely_rows_read_nothing_but_zero_shot_logits():
    assert LikelyPerClass().needs == {"zero_shot_logits"}
    assert not LikelyPerClass().labeled_needs


def test_likely_rows_keep_the_contract():
    check_strategy(LikelyPerClass())
