"""Random seeds of a session: of (seed, round, stream), so that every use has numbers of its own."""

from dataclasses import dataclass
from enum import IntEnum

import numpy as np
import torch
from torch import Tensor


class Stream(IntEnum):
    """What a random seed is for: the third part of (seed, round, stream)."""

    FIT = 0
    PASS = 1
    SELECT = 2
    CANDIDATES = 3
    TARGET = 4
    EVALUATE = 5
    DUPLICATES = 6


@dataclass(frozen=True)
class Seeds:
    """The random numbers of one round: `seed` and `round` decide all of them, a stream of its own for each use."""

    seed: int
    round: int

    def number(self, stream: Stream) -> int:
        """A 32-bit seed, different for every (seed, round, stream)."""
        return int(np.random.SeedSequence((self.seed, self.round, int(stream))).generate_state(1)[0])

    def generator(self, stream: Stream) -> torch.Generator:
        """A generator on the CPU, at the start of its stream."""
        return torch.Generator().manual_seed(self.number(stream))

    def sample(self, size: int, count: int, stream: Stream) -> Tensor:
        """`count` of the numbers below `size`, ascending; all of them when there are no more."""
        if count >= size:
            return torch.arange(size)
        return torch.randperm(size, generator=self.generator(stream))[:count].sort().values
