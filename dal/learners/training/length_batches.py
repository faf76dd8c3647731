"""Training batches of rows of similar length, which need little padding, in a new order in every epoch."""

import math
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from dal.learner import Prepared

#: Batches per group of shuffled rows that is sorted by length.
GROUP = 16

_SPREAD = 0.5  # noise on the length (log scale), so that a row meets different rows in every epoch

Positions = NDArray[np.int64]


def batches_of_similar_length(
    lengths: NDArray[Any],
    group_size: int,
    cut: Callable[[Positions], Sequence[Positions]],
    generator: np.random.Generator,
) -> list[Positions]:
    """Positions of the rows of each batch of one epoch; every row is in one batch.

    Rows are shuffled, sorted by noisy length within groups, and cut into batches, which are shuffled again.

    Args:
        lengths: length of each row, (L,), positive.
        group_size: number of rows that are sorted together.
        cut: cuts the positions of a group, ascending in noisy length, into batches.
        generator: random numbers of the epoch.

    Example:
        >>> pairs = lambda group: np.split(group, 2)
        >>> batches = batches_of_similar_length(np.array([1, 90, 2, 80]), 4, pairs, np.random.default_rng(0))
        >>> sorted(sorted(batch.tolist()) for batch in batches)
        [[0, 2], [1, 3]]
    """
    noisy = lengths * np.exp(generator.uniform(-_SPREAD, _SPREAD, len(lengths)))
    shuffled = generator.permutation(len(lengths))
    batches: list[Positions] = []
    for start in range(0, len(lengths), group_size):
        group = shuffled[start : start + group_size]
        batches += cut(group[np.argsort(noisy[group], kind="stable")])
    return [batches[i] for i in generator.permutation(len(batches))]  # or each group would go from short to long


class BatchSampler:
    """Training batches of rows of similar length, in a new order in every epoch.

    One iteration is one epoch, see `batches_of_similar_length`. Batches have nearly equal numbers of rows.

    Args:
        data: prepared rows.
        rows: (L,) int64, indices into `data`.
        labels: (L,) int64, or (L, C) when multi-label.
        weights: (L,) sample weights; None to omit them from the batches.
        batch_size: maximum number of rows per batch.
        seed: seed of the order; None to sort all rows by length, longest first, identically in every epoch.
    """

    def __init__(
        self,
        data: Prepared,
        rows: Tensor,
        labels: Tensor,
        weights: Tensor | None,
        batch_size: int,
        seed: int | None,
    ) -> None:
        self._data, self._rows, self._labels, self._weights = data, rows.cpu(), labels.cpu(), weights
        self._lengths = data.lengths[self._rows].numpy().astype(np.float64)
        self._batch_size, self._seed, self._epoch = batch_size, seed, 0

    def __len__(self) -> int:
        return len(self.plan(0))

    def __iter__(self) -> Iterator[dict[str, Any]]:
        epoch, self._epoch = self._epoch, self._epoch + 1
        for positions in self.plan(epoch):
            yield self.batch(positions)

    def batch(self, positions: Positions) -> dict[str, Any]:
        """Return the batch of some positions, with labels and weights."""
        index = torch.from_numpy(positions)
        batch = dict(self._data.batch(self._rows[index].tolist()))
        batch["labels"] = self._labels[index]
        if self._weights is not None:
            batch["weights"] = self._weights[index]
        return batch

    def plan(self, epoch: int) -> list[Positions]:
        """Return the positions of the rows of each batch of an epoch."""
        size = len(self._rows)
        if self._seed is None:  # validation: the order does not matter, and the longest first run out of memory early
            order = np.argsort(-self._lengths, kind="stable")
            return np.array_split(order, math.ceil(size / self._batch_size))
        # From the epoch, not from a running generator, so that `len` can plan epoch 0 without changing the others.
        generator = np.random.default_rng(np.random.SeedSequence((self._seed, epoch)))
        return batches_of_similar_length(
            self._lengths,
            GROUP * self._batch_size,
            lambda group: np.array_split(group, math.ceil(len(group) / self._batch_size)),
            generator,
        )
