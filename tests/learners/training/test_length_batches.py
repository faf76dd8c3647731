"""Batches of rows of similar length: every row once, little padding, another order in every epoch."""

import math

import numpy as np
import pytest
import torch

from dal.data import Rows
from dal.learners.training.length_batches import BatchSampler, Positions, batches_of_similar_length
from dal.learners.training.tensor_rows import prepare_tensors


def fours(group: Positions) -> list[Positions]:
    return np.array_split(group, math.ceil(len(group) / 4))


def padding(batches: list[Positions], lengths: Positions) -> float:
    """Share of the tokens that is padding."""
    return 1 - lengths.sum() / sum(len(batch) * lengths[batch].max() for batch in batches)


@pytest.mark.parametrize("rows", [1, 4, 63, 64, 65, 500])
def test_every_row_is_in_one_batch_of_which_none_exceeds_the_size(rows: int) -> None:
    lengths = np.random.default_rng(rows).integers(1, 200, rows)
    batches = batches_of_similar_length(lengths, 64, fours, np.random.default_rng(0))
    assert sorted(np.concatenate(batches).tolist()) == list(range(rows))
    assert max(map(len, batches)) <= 4


def test_batches_have_less_padding_than_random_ones_in_another_order_for_every_generator() -> None:
    lengths = np.random.default_rng(1).integers(1, 200, 640)
    first, again, other = (
        batches_of_similar_length(lengths, 64, fours, np.random.default_rng(seed)) for seed in (0, 0, 1)
    )
    assert [batch.tolist() for batch in first] == [batch.tolist() for batch in again]
    assert {frozenset(batch.tolist()) for batch in first}.isdisjoint(frozenset(batch.tolist()) for batch in other)
    assert padding(first, lengths) < 0.6 * padding(np.split(np.random.default_rng(2).permutation(640), 160), lengths)
    longest = [lengths[batch].max() for batch in first]
    assert abs(np.corrcoef(longest, range(len(longest)))[0, 1]) < 0.3  # neither from short to long nor the reverse


def test_sampler_of_batches_shuffles_training_rows_and_sorts_validation_rows() -> None:
    data, labels = prepare_tensors(Rows.from_inputs(torch.randn(50, 3), ["a", "b"] * 25)), torch.arange(50) % 2
    rows = torch.arange(50)
    training = BatchSampler(data, rows, labels, None, 8, 3)
    epochs = [[batch["labels"].tolist() for batch in training] for _ in range(2)]
    assert [len(epoch) for epoch in epochs] == [len(training)] * 2 == [7, 7]
    assert all(len(batch) in (7, 8) for epoch in epochs for batch in epoch)
    assert [p.tolist() for p in training.plan(0)] != [p.tolist() for p in training.plan(1)]
    held_out = BatchSampler(data, rows, labels, None, 8, None)
    assert np.concatenate(held_out.plan(0)).tolist() == list(range(50))  # equal lengths keep their order
