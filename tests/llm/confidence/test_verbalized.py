"""A stated answer becomes a distribution: the label keeps what it claims, 1/C at least, and stays the most probable."""

import torch
from hypothesis import given
from hypothesis import strategies as st

from dal.llm.confidence.verbalized import confidences_of, distribution, logits_of, unparsed_rate
from dal.llm.prompting.reply_parsing import Parsed


def rounded(*answer):
    return [round(p, 6) for p in distribution(*answer)]


def test_the_rest_goes_to_the_named_alternatives_in_proportion():
    assert rounded(4, 0, 0.6, {1: 0.3, 3: 0.1}) == [0.6, 0.3, 0, 0.1]
    assert rounded(4, 0, 0.6, {1: 0.03, 3: 0.01}) == [0.6, 0.3, 0, 0.1]


def test_without_alternatives_the_rest_is_shared_evenly():
    assert rounded(5, 2, 0.6, {}) == [0.1, 0.1, 0.6, 0.1, 0.1]


def test_no_alternative_overtakes_the_stated_label_and_what_is_left_goes_on():
    assert rounded(4, 0, 0.4, {1: 0.9}) == [0.4, 0.4, 0.1, 0.1]
    assert rounded(4, 0, 0.3, {1: 0.9, 2: 0.1}) == [0.3, 0.3, 0.3, 0.1]
    assert rounded(3, 0, 0.4, {1: 0.9, 2: 0.1}) == [0.4, 0.4, 0.2]


def test_a_confidence_below_chance_counts_as_chance():
    assert rounded(4, 1, 0.1, {0: 0.9}) == [0.25] * 4


def test_without_a_label_all_classes_are_alike():
    assert rounded(4, None, 0.9, {0: 0.9}) == [0.25] * 4


@given(st.data())
def test_it_is_a_distribution_whose_mode_is_the_stated_label(data):
    C = data.draw(st.integers(2, 8))
    label = data.draw(st.integers(0, C - 1))
    sure = data.draw(st.none() | st.floats(0, 1))
    others = data.draw(st.dictionaries(st.integers(0, C - 1), st.floats(1e-6, 1)))
    found = distribution(C, label, sure, others)
    assert abs(sum(found) - 1) < 1e-9
    assert min(found) >= 0
    assert max(found) <= found[label] + 1e-12
    assert found[label] >= 1 / C
    if sure is not None and sure >= 1 / C:
        assert found[label] == sure


def test_logits_are_finite_and_predict_the_stated_label_even_where_all_are_alike():
    answers = [Parsed("", 1, 1.0), Parsed("", 2, 0.0), Parsed("", 2, None), Parsed("?")]
    logits = logits_of(answers, 3)
    assert bool(torch.isfinite(logits).all())
    assert logits.argmax(1).tolist()[:3] == [1, 2, 2]
    torch.testing.assert_close(logits.softmax(1)[3], torch.full((3,), 1 / 3))
    torch.testing.assert_close(logits.softmax(1)[0], torch.tensor([0.0, 1.0, 0.0]), atol=1e-5, rtol=0)


def test_a_confidence_is_as_stated_and_0_where_nothing_could_be_read():
    answers = [Parsed("", 1, 0.9), Parsed("", 1, None), Parsed("", None, 0.9), Parsed("")]
    torch.testing.assert_close(confidences_of(answers), torch.tensor([0.9, 0, 0, 0]))
    assert unparsed_rate(answers) == 0.5
    assert unparsed_rate([]) == 0
    assert logits_of([], 3).shape == (0, 3)
