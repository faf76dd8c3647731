"""Votes of nearest labeled neighbours against a slow version; chance, intervals and leads where the answer is known."""

import pytest
import reference.encoder_scores as slow
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from dal.errors import DataError
from dal.evaluation.encoder_scores import effective_rows, neighbor_hits, row_weights, score_encoders
from dal.evaluation.proportions import wilson_interval


def near(points: torch.Tensor) -> torch.Tensor:
    """Similarities of points: the negative distances."""
    return -torch.cdist(points.double(), points.double())


def normal(rows: int, width: int, seed: int) -> torch.Tensor:
    return torch.randn(rows, width, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def test_hits_are_those_counted_by_hand() -> None:
    labels = torch.tensor([0, 0, 1, 1, 1])
    similarities = torch.log(
        torch.tensor(
            [
                [1, 2, 1, 1, 1],  # 2 for class 0, 3 / sqrt(3) for class 1
                [2, 1, 3, 1, 1],  # 2 for class 0, 5 / sqrt(3) for class 1
                [1, 1, 1, 1, 1],  # 2 / sqrt(2) for class 0, 2 / sqrt(2) for class 1: a tie
                [1, 2, 1, 1, 1],  # 3 / sqrt(2) for class 0, 2 / sqrt(2) for class 1
                [1, 1, 1, 4, 1],  # 2 / sqrt(2) for class 0, 5 / sqrt(2) for class 1
            ],
            dtype=torch.float64,
        )
    )
    spread = float(similarities[~torch.eye(5, dtype=torch.bool)].std(correction=0))
    assert neighbor_hits(similarities, labels, temperature=1 / spread).tolist() == [1, 0, 0.5, 0, 1]


def test_scale_and_offset_of_the_similarities_do_not_matter() -> None:
    table, labels = near(normal(40, 3, 0)), torch.arange(40) % 3
    torch.testing.assert_close(neighbor_hits(0.01 * table + 7, labels), neighbor_hits(table, labels))


def test_rows_that_are_all_equally_similar_tell_nothing() -> None:
    labels = torch.arange(40) % 2
    score = score_encoders({"x": torch.full((40, 40), 0.3)}, labels)[0]
    assert not score.above_chance


def test_votes_of_a_low_temperature_are_those_of_the_nearest_row() -> None:
    points, labels = normal(40, 3, 0), torch.arange(40) % 3
    table = near(points)
    nearest = table.fill_diagonal_(-torch.inf).argmax(1)
    found = neighbor_hits(near(points), labels, temperature=1e-4)
    assert torch.equal(found, (labels[nearest] == labels).double())


@settings(max_examples=60, deadline=None)
@given(st.integers(2, 25), st.integers(1, 4), st.sampled_from([0.5, 1.0, 3.0]), st.integers(0, 10**6))
def test_hits_and_share_equal_the_slow_ones(rows: int, classes: int, temperature: float, seed: int) -> None:
    generator = torch.Generator().manual_seed(seed)
    points = torch.randint(4, (rows, 2), generator=generator)  # with duplicates and ties
    labels = torch.randint(classes, (rows,), generator=generator)
    similarities = -(points[:, None] - points).square().sum(2).double()
    expected = slow.hits(similarities.tolist(), labels.tolist(), temperature)
    assert neighbor_hits(similarities, labels, temperature=temperature).tolist() == pytest.approx(expected)
    if (torch.bincount(labels) > 1).sum() > 1:
        score = score_encoders({"x": similarities}, labels, temperature=temperature)[0]
        assert score.share == pytest.approx(slow.share(expected, labels.tolist()))
        assert 0 <= score.low <= score.share + 1e-9 <= score.high + 2e-9 <= 1 + 3e-9


def test_order_of_the_rows_does_not_matter() -> None:
    points, labels = normal(30, 3, 0), torch.arange(30) % 3
    order = torch.randperm(30, generator=torch.Generator().manual_seed(1))
    torch.testing.assert_close(
        neighbor_hits(near(points)[order][:, order], labels[order]), neighbor_hits(near(points), labels)[order]
    )


def test_rows_without_any_relation_are_predicted_at_chance_in_balanced_and_in_skewed_sets() -> None:
    for rare in (0.5, 0.1):
        found = [
            score_encoders({"x": near(normal(60, 4, seed))}, (torch.arange(60) < 60 * rare).long())[0]
            for seed in range(40)
        ]
        assert abs(sum(score.share - score.chance for score in found) / 40) < 0.03
        assert sum(score.above_chance for score in found) <= 6  # 2 are expected at the level of 5 %


def test_space_that_tells_a_rare_class_apart_is_above_chance_and_a_majority_alone_is_not() -> None:
    labels = (torch.arange(60) < 6).long()
    apart = 9 * labels[:, None] * torch.eye(4, dtype=torch.float64)[:1] + normal(60, 4, 0)
    told, untold = (score_encoders({"x": near(points)}, labels)[0] for points in (apart, normal(60, 4, 1)))
    assert told.above_chance
    assert told.share > 0.9 > 0.7 > told.chance
    assert not untold.above_chance
    assert untold.share < 0.7  # although nine in ten rows have a neighbour of their own class


def test_wilson_interval_is_that_of_tables_and_fewer_effective_rows_make_it_wider() -> None:
    low, high = wilson_interval(0.8, effective_rows(row_weights(torch.tensor([0, 1] * 5))))
    assert (low, high) == pytest.approx((0.4902, 0.9433), abs=1e-4)  # 8 of 10
    rows = effective_rows(row_weights(torch.tensor([0] * 8 + [1] * 2)))
    assert rows == pytest.approx(4 / (1 / 8 + 1 / 2))
    assert wilson_interval(0.8, rows)[0] < low


def test_classes_count_the_same_and_single_rows_not_at_all() -> None:
    assert row_weights(torch.tensor([0, 0, 0, 1, 1, 2])).tolist() == pytest.approx([1 / 6] * 3 + [1 / 4] * 2 + [0])


def test_lead_over_the_own_encoder_is_tested_in_pairs_with_a_correction() -> None:
    labels = torch.arange(40) % 2
    good = 4 * labels[:, None] + 0.1 * normal(40, 1, 0)
    tables = {"bad": near(normal(40, 3, 1)), "own": near(normal(40, 3, 2)), "good": near(good)}
    own, bad, best = score_encoders(tables, labels, own="own")
    assert (own.name, bad.name, best.name) == ("own", "bad", "good")
    assert (own.lead, own.p_lead) == (None, None)
    assert best.lead == pytest.approx(best.share - own.share)
    assert best.beats_own
    assert best.p_lead is not None
    assert best.p_lead < 0.001
    assert not bad.beats_own
    again = score_encoders({"own": tables["own"], "good": tables["good"]}, labels, own="own")[1]
    assert again.p_lead is not None
    assert again.p_lead <= best.p_lead  # one comparison needs no correction
    same = score_encoders({"own": tables["own"], "copy": tables["own"]}, labels, own="own")[1]
    assert (same.lead, same.p_lead) == (0, 1)


def test_worse_encoder_is_not_said_to_be_better() -> None:
    labels = torch.arange(40) % 2
    tables = {"own": near(4.0 * labels[:, None] + 0.1 * normal(40, 1, 0)), "other": near(normal(40, 3, 1))}
    other = score_encoders(tables, labels, own="own")[1]
    assert other.lead is not None
    assert other.p_lead is not None
    assert (other.lead < 0, other.p_lead < 0.05, other.beats_own) == (True, True, False)


def test_two_classes_with_two_rows_are_needed() -> None:
    with pytest.raises(DataError, match="two classes"):
        score_encoders({"x": near(normal(4, 2, 0))}, torch.tensor([0, 0, 0, 1]))


def test_similarities_of_another_size_or_without_a_value_are_refused() -> None:
    labels = torch.tensor([0, 0, 1, 1])
    for table in (torch.zeros(3, 4), torch.full((4, 4), torch.nan)):
        with pytest.raises(ValueError, match="finite and"):
            neighbor_hits(table, labels)
