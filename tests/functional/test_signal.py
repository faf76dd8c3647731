import math

import pytest
import torch

from dal.functional.signal import neighbor_agreement
from functional.made import normal


def test_agreement_and_chance_are_those_counted_by_hand():
    x = torch.tensor([[0.0], [1.0], [5.0], [6.5], [9.0], [9.5]])  # nearest: 1, 0, 3, 2, 5, 4
    labels = torch.tensor([0, 0, 0, 1, 1, 1])
    agreement, above = neighbor_agreement(x, labels)
    chance = 2 / 5
    assert agreement == pytest.approx(4 / 6)
    assert above == pytest.approx((4 / 6 - chance) / math.sqrt(chance * (1 - chance) / 6))


def test_each_class_counts_as_much_as_any_other():
    x = torch.tensor([[0.0], [1.0], [2.1], [3.3], [9.0], [9.5], [20.0]])  # nearest: 1, 0, 1, 2, 5, 4, 5
    labels = torch.tensor([0, 0, 0, 0, 1, 1, 2])  # the class with one point does not count
    agreement, above = neighbor_agreement(x, labels)
    assert agreement == 1
    error = math.sqrt(3 / 6 * 3 / 6 / 4 + 1 / 6 * 5 / 6 / 2) / 2
    assert above == pytest.approx((1 - (3 / 6 + 1 / 6) / 2) / error)


def test_a_space_that_tells_a_rare_class_apart_is_far_above_chance():
    labels = (torch.arange(60) < 6).long()
    x = 9 * labels[:, None] * torch.eye(4)[:1].float() + normal(60, 4, dtype=torch.float32)
    assert neighbor_agreement(x, labels)[1] > 8  # agreements counted over the points: 3.7


def test_labels_that_follow_the_clusters_are_far_above_chance():
    x = torch.eye(3).repeat_interleave(20, 0) * 9 + 0.1 * normal(60, 3, dtype=torch.float32)
    assert neighbor_agreement(x, torch.arange(3).repeat_interleave(20))[1] > 5


def test_labels_without_any_connection_stay_around_chance():
    found = [neighbor_agreement(normal(60, 4, seed), torch.arange(60) % 2)[1] for seed in range(30)]
    assert abs(sum(found) / 30) < 1
    assert min(found) < 0 < max(found)


@pytest.mark.parametrize("labels", [[], [1], [2, 2, 2], [0, 1, 2]])
def test_nothing_can_be_told_from_one_class_or_from_single_rows(labels):
    assert neighbor_agreement(normal(len(labels), 2), torch.tensor(labels, dtype=torch.int64))[1] == 0
