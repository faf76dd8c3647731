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
