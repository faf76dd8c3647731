import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from dal.functional.ranking import top

SCORES = st.lists(st.integers(-3, 3), min_size=1, max_size=30)


@given(SCORES, st.data())
def test_equals_a_stable_sort_without_a_generator(scores, data):
    n = data.draw(st.integers(1, len(scores)))
    expected = sorted(range(len(scores)), key=lambda i: (-scores[i], i))[:n]
    assert top(torch.tensor(scores, dtype=torch.float32), n).tolist() == expected


@given(SCORES, st.data())
def test_a_generator_only_decides_between_equals(scores, data):
    n = data.draw(st.integers(1, len(scores)))
    chosen = top(torch.tensor(scores), n, generator=torch.Generator().manual_seed(data.draw(st.integers(0, 99))))
    assert len(set(chosen.tolist())) == n
    assert [scores[i] for i in chosen] == sorted(scores, reverse=True)[:n]


def test_all_equal_scores_are_drawn_uniformly():
    generator = torch.Generator().manual_seed(0)
    counts = torch.zeros(5)
    for _ in range(2000):
        counts[top(torch.zeros(5), 1, generator=generator)] += 1
    assert ((counts - 400) ** 2 / 400).sum() < 18.5  # chi-square with 4 degrees of freedom, p = 0.001


def test_the_same_seed_gives_the_same_order():
    first, second = (top(torch.zeros(50), 20, generator=torch.Generator().manual_seed(3)) for _ in range(2))
    assert torch.equal(first, second)


@pytest.mark.parametrize("n", [1, 3, 40])
@pytest.mark.parametrize("N", [1, 63, 64, 65, 500, 5000])
@pytest.mark.parametrize("values", [3, 50, 10**6])
def test_many_scores_are_ranked_as_by_a_stable_sort(N, n, values):
    n = min(n, N)
    scores = torch.randint(values, (N,), generator=torch.Generator().manual_seed(N)).float()
    assert torch.equal(top(scores, n), scores.argsort(descending=True, stable=True)[:n])


def test_ties_among_many_scores_are_drawn_from_all_of_them():
    scores = torch.zeros(700)
    scores[torch.arange(5, 700, 100)] = 1.0  # seven, far apart
    generator = torch.Generator().manual_seed(0)
    counts = torch.zeros(700)
    for _ in range(700):
        counts[top(scores, 2, generator=generator)] += 1
    drawn = counts[scores == 1]
    assert drawn.sum() == 1400
    assert ((drawn - 200) ** 2 / 200).sum() < 22.5  # chi-square with 6 degrees of freedom, p = 0.001


def test_no_more_is_drawn_than_there_are_scores_at_the_threshold():
    few, many = torch.arange(10.0), torch.arange(100_000.0)
    states = []
    for scores in (few, many):
        generator = torch.Generator().manual_seed(0)
        top(scores, 5, generator=generator)
        states.append(generator.get_state())
    assert torch.equal(*states)


def test_infinite_scores_have_their_rank():
    scores = torch.full((300,), -torch.inf)
    scores[[7, 250]] = torch.tensor([1.0, torch.inf])
    assert top(scores, 4).tolist() == [250, 7, 0, 1]


@pytest.mark.parametrize("where", [[0], [150], [299], [3, 150], list(range(250))])
@pytest.mark.parametrize("n", [1, 2, 200])
def test_a_score_that_is_not_a_number_is_refused(where, n):
    scores = torch.zeros(300)
    scores[where] = torch.nan
    with pytest.raises(ValueError, match=f"{len(where)} of 300 scores are NaN"):
        top(scores, n)


def test_a_column_of_a_table_may_be_ranked():
    table = torch.rand(1000, 3, generator=torch.Generator().manual_seed(0))
    assert torch.equal(top(table[:, 1], 9), top(table[:, 1].clone(), 9))
