"""Answers from the labels that stand in the data, right or with a stated share of mistakes."""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from torch import Tensor

from dal.errors import DataError
from dal.functional.checking import Options
from dal.oracle import Oracle


@dataclass(frozen=True)
class Simulated(Oracle):
    """Answers from the data's own labels, which are hidden from the run: how strategies are compared.

    A mistake depends on `seed` and the row's id alone, so that a row gets the same answer however often, whenever and
    by whichever strategy it is asked.

    Args:
        noise: the probability of a wrong answer, uniform over the other classes; multi-label: of each single class
            being flipped.
        seed: decides the mistakes.
    """

    noise: float = 0.0
    seed: int = 0

    hides_labels = True
    source = "simulated"

    def __post_init__(self) -> None:
        options = Options(self)
        options.number("noise", least=0, most=1, said="a probability from 0 to 1")
        options.whole("seed", least=0)

    def answer(self, rows: Tensor, data: Any) -> Sequence[int | list[int]]:
        """The class index of each row (a list of indices when multi-label).

        Raises:
            DataError: a row has no label in the data.
        """
        unknown = rows[~data.known[rows]].tolist()
        if unknown:
            raise DataError(
                f"row {data.ids[unknown[0]]!r} has no label in the data, so its answer cannot be simulated "
                f"({len(unknown)} of the {len(rows)} rows asked)"
            )
        answers: list[int | list[int]] = []
        for row, label in zip(rows.tolist(), data.labels[rows], strict=True):
            random = self._random(data.ids[row])
            if data.multilabel:
                flipped = label.numpy() ^ (random.random(len(label)) < self.noise)
                answers.append(flipped.nonzero()[0].tolist())
            else:
                wrong = random.random() < self.noise and len(data.classes) > 1
                shift = int(random.integers(1, len(data.classes))) if wrong else 0
                answers.append((int(label) + shift) % len(data.classes))
        return answers

    def _random(self, row: str) -> np.random.Generator:
        digest = hashlib.sha256(row.encode("utf-8", "surrogatepass")).digest()
        return np.random.default_rng(np.random.SeedSequence((self.seed, int.from_bytes(digest[:8], "big"))))
