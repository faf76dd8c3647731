"""Training batches cut into a fixed number of parts, so that a fit does not depend on how many ranks compute them."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import lightning
import numpy as np
import torch
from torch import Tensor

from dal.learner import Prepared
from dal.learners.training.length_batches import BatchSampler
from dal.modules.active_module import ActiveModule

_SCALE, _SEED = "shard_scale", "shard_seed"


@dataclass(frozen=True)
class Shards:
    """The parts of each batch that a process computes.

    Attributes:
        count: number S of parts of each batch.
        first: first part of this process.
        stop: the one after its last.
    """

    count: int
    first: int
    stop: int

    @classmethod
    def of(cls, count: int, rank: int, size: int) -> "Shards":
        """The parts of one of `size` processes, which divides their number."""
        each = count // size
        return cls(count, rank * each, (rank + 1) * each)

    def __len__(self) -> int:
        return self.stop - self.first


class ShardedBatches(BatchSampler):
    """Training batches as `BatchSampler` plans them, each cut into S parts, of which some are yielded one by one.

    Part s has every S-th row of the batch. It says by which factor its mean loss counts in that of the whole batch, and
    which seed its dropout has.

    Args:
        data: prepared rows.
        rows: (L,) int64, indices into `data`.
        labels: (L,) int64, or (L, C) when multi-label.
        weights: (L,) sample weights; None to omit them from the batches.
        batch_size: maximum number of rows per batch, all parts together.
        seed: seed of the order and of dropout.
        class_weights: (C,) weights of the classes in the loss; None for equal weights.
        shards: the parts to yield.
    """

    def __init__(
        self,
        data: Prepared,
        rows: Tensor,
        labels: Tensor,
        weights: Tensor | None,
        batch_size: int,
        seed: int,
        *,
        class_weights: Tensor | None,
        shards: Shards,
    ) -> None:
        super().__init__(data, rows, labels, weights, batch_size, seed)
        self._shards, self._step_seed = shards, seed
        mass = torch.ones(len(rows), dtype=torch.float64) if weights is None else weights.cpu().double()
        if class_weights is not None and labels.dim() == 1:  # as in `ActiveModule.loss`
            mass = mass * class_weights.cpu().double()[labels.cpu()]
        self._mass = mass

    def __len__(self) -> int:
        return super().__len__() * len(self._shards)

    def __iter__(self) -> Iterator[dict[str, Any]]:
        epoch, self._epoch = self._epoch, self._epoch + 1
        for step, positions in enumerate(self.plan(epoch)):
            total = float(self._mass[positions].sum())
            for part in range(self._shards.first, self._shards.stop):
                own = positions[part :: self._shards.count]
                share = float(self._mass[own].sum()) / total if total > 0 else 1 / self._shards.count
                batch = self.batch(own if len(own) else positions[:1])  # each process yields equally many
                batch[_SCALE] = self._shards.count * share if len(own) else 0.0
                state = np.random.SeedSequence((self._step_seed, epoch, step, part)).generate_state(1, np.uint64)
                batch[_SEED] = int(state[0] >> np.uint64(1))
                yield batch


class ShardCallback(lightning.Callback):
    """Sets the factor of the loss and the seed of dropout for each part, and hides both from the network."""

    def on_train_batch_start(
        self, trainer: lightning.Trainer, pl_module: lightning.LightningModule, batch: Any, batch_idx: int
    ) -> None:
        """Take both out of the batch."""
        assert isinstance(pl_module, ActiveModule)
        pl_module.loss_scale = batch.pop(_SCALE)
        torch.manual_seed(batch.pop(_SEED))

    def on_train_end(self, trainer: lightning.Trainer, pl_module: lightning.LightningModule) -> None:
        """Let later losses count as they are."""
        assert isinstance(pl_module, ActiveModule)
        pl_module.loss_scale = 1.0
