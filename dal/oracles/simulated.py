"""An oracle that answers from the labels in the data, with optional label noise."""

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
    """Answers from the labels in the data, which are hidden from the run. Used to compare strategies.

    Errors depend only on `seed` and the row id, so that a row gets the same answer in every run and strategy.

    Args:
        noise: probability of a wrong answer, uniform over the other classes; when multi-label, probability of flipping
            each class independently.
        seed: seed of the errors.
    """

    noise: float = 0.0
    seed: int = 0

    hides_labels = True
    source = "simulated"

    def __post_init__(self) -> None:
        options = Options(self)
        options.number("noise", least=0, most=1, description="a probability from 0 to 1")
        options.whole("seed", least=0)

    def answer(self, rows: Tensor, data: Any) -> Sequence[int | list[int]]:
        """Return the class index of each row, or a list of indices when multi-label.

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
            # A generator per row id: the answer must not depend on which rows are asked together, nor on their order.
            digest = hashlib.sha256(data.ids[row].encode("utf-8", "surrogatepass")).digest()
            random = np.random.default_rng(np.random.SeedSequence((self.seed, int.from_bytes(digest[:8], "big"))))
            if data.multilabel:
                flipped = label.numpy() ^ (random.random(len(label)) < self.noise)
                answers.append(flipped.nonzero()[0].tolist())
            else:
                wrong = random.random() < self.noise and len(data.classes) > 1
                shift = int(random.integers(1, len(data.classes))) if wrong else 0
                answers.append((int(label) + shift) % len(data.classes))
        return answers
