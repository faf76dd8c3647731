import pytest
import reference.noise as slow
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from dal.errors import DataError
from dal.evaluation import confident_joint, estimated_joint, label_issues


def drawn(rows, classes, seed=0):
    generator = torch.Generator().manual_seed(seed)
    probs = (2 * torch.randn(rows, classes, generator=generator, dtype=torch.float64)).softmax(1)
    return probs, torch.randint(classes, (rows,), generator=generator)


def believed(rows, classes, flipped, seed=0, skill=4.0):
    """What a good, honest model says of rows whose given labels are wrong with the probability `flipped`."""
    generator = torch.Generator().manual_seed(seed)
    true = torch.randint(classes, (rows,), generator=generator)
    logits = torch.randn(rows, classes, generator=generator, dtype=torch.float64)
    logits[torch.arange(rows), true] += skill
    wrong = torch.rand(rows, generator=generator) < flipped
    given = torch.where(wrong, (true + torch.randint(1, classes, (rows,), generator=generator)) % classes, true)
    return logits.softmax(1), given, true, wrong


@settings(max_examples=60, deadline=None)
@given(rows=st.integers(1, 40), classes=st.integers(2, 6), seed=st.integers(0, 10**6))
def test_joint_and_doubted_rows_equal_the_slow_ones(rows, classes, seed):
    probs, labels = drawn(rows, classes, seed)
    assert confident_joint(probs, labels).tolist() == slow.joint(probs.tolist(), labels.tolist())
    found = label_issues(probs, labels)
    assert found.rows.tolist() == slow.doubted(probs.tolist(), labels.tolist())
    counted = slow.counted(probs.tolist(), labels.tolist())
    assert found.suggested.tolist() == [counted[row] for row in found.rows.tolist()]
    assert torch.equal(found.given, labels[found.rows])
    assert torch.equal(found.confidence, probs[found.rows, found.suggested])
    assert torch.equal(found.margin, found.margin.sort().values)


def test_flipped_labels_are_found_and_most_of_what_is_found_is_flipped():
    for seed in range(5):
        probs, given, true, wrong = believed(2000, 5, 0.1, seed)
        found = label_issues(probs, given)
        hits = wrong[found.rows]
        assert hits.sum() / wrong.sum() > 0.7  # recall; .78 to .82 when this was written
        assert hits.double().mean() > 0.95  # precision; .99 to 1
        assert (found.suggested == true[found.rows])[hits].double().mean() > 0.95


def test_weaker_model_finds_fewer_but_its_first_suspects_are_still_wrong():
    for seed in range(5):
        probs, given, _, wrong = believed(2000, 5, 0.1, seed, skill=3.0)
        found = label_issues(probs, given)
        assert wrong[found.rows].sum() / wrong.sum() > 0.55  # .63 to .72
        assert wrong[found.rows].double().mean() > 0.85  # .94 to .98
        assert wrong[found.rows][:100].double().mean() > 0.95


def test_joint_estimates_the_share_of_wrong_labels():
    probs, given, true, _ = believed(5000, 4, 0.2)
    estimated = estimated_joint(probs, given)
    actual = torch.bincount(given * 4 + true, minlength=16).view(4, 4) / 5000
    assert estimated.sum().item() == pytest.approx(1.0)
    assert torch.allclose(estimated.sum(1), torch.bincount(given).double() / 5000)
    assert (estimated - actual).abs().max() < 0.01


def test_labels_without_mistakes_are_hardly_doubted():
    probs, given, _, _ = believed(1000, 4, 0.0, skill=6.0)
    assert len(label_issues(probs, given)) < 10


def test_class_that_nobody_gave_is_never_suggested():
    probs = torch.tensor([[0.1, 0.0, 0.9], [0.9, 0.1, 0.0], [0.2, 0.8, 0.0]])
    assert 2 not in label_issues(probs, torch.tensor([0, 0, 1])).suggested


def test_one_class_and_equal_probabilities_raise_no_doubt():
    assert len(label_issues(torch.full((3, 1), 1.0), torch.tensor([0, 0, 0]))) == 0
    assert len(label_issues(torch.full((7, 2), 0.1 + 0.2), torch.tensor([0] * 7))) == 0


def test_every_label_of_a_multilabel_row_is_a_question_of_its_own():
    probs, given, _, wrong = believed(400, 2, 0.15, seed=3)
    other, second, _, also = believed(400, 2, 0.15, seed=4)
    both = torch.stack([probs[:, 1], other[:, 1]], 1)
    found = label_issues(both, torch.stack([given.bool(), second.bool()], 1))
    alone, beside = label_issues(probs, given), label_issues(other, second)
    assert set(found.rows.tolist()) == set(alone.rows.tolist()) | set(beside.rows.tolist())
    at = {row: i for i, row in enumerate(found.rows.tolist())}
    for row in alone.rows.tolist():
        assert found.suggested[at[row], 0] != found.given[at[row], 0]
    assert (wrong | also)[found.rows].double().mean() > 0.5
    assert torch.equal(found.margin, found.margin.sort().values)
    worst = found.rows[0]
    assert found.confidence[0] == pytest.approx(torch.maximum(both, 1 - both)[worst].max().item())


def test_probabilities_that_are_not_numbers_and_missing_labels_are_refused():
    with pytest.raises(DataError, match="NaN or infinite for 1 of 2 labeled rows"):
        label_issues(torch.tensor([[0.5, float("nan")], [0.5, 0.5]]), torch.tensor([0, 1]))
    with pytest.raises(DataError, match="1 of 2 labeled rows have no label"):
        confident_joint(torch.full((2, 2), 0.5), torch.tensor([0, -1]))
    with pytest.raises(DataError, match="no labeled rows"):
        label_issues(torch.zeros(0, 2), torch.zeros(0, dtype=torch.int64))
