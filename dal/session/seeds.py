"""Random seeds of a session, derived from (seed, round, stream) so that every use has an independent stream."""

from dataclasses import dataclass
from enum import IntEnum

import numpy as np
import torch
from torch import Tensor


class Stream(IntEnum):
    """Purpose of a random seed: the third part of (seed, round, stream)."""

    FIT = 0
    PASS = 1
    SELECT = 2
    CANDIDATES = 3
    TARGET = 4
    EVALUATE = 5
    DUPLICATES = 6
    AGREEMENT = 7


@dataclass(frozen=True)
class Seeds:
    """Seeds of one round, one for each `Stream`, determined by `seed` and `round`."""

    seed: int
    round: int

    def number(self, stream: Stream) -> int:
        """A 32-bit seed, different for every (seed, round, stream)."""
        return int(np.random.SeedSequence((self.seed, self.round, int(stream))).generate_state(1)[0])

    def generator(self, stream: Stream) -> torch.Generator:
        """A CPU generator seeded for the stream."""
        return torch.Generator().manual_seed(self.number(stream))

    def sample(self, size: int, count: int, stream: Stream) -> Tensor:
        """`count` distinct integers below `size` at random, ascending; all of them if `count` >= `size`."""
        if count >= size:
            return torch.arange(size)
        return torch.randperm(size, generator=self.generator(stream))[:count].sort().values
