"""Machines answer first; a person where they are unsure or disagree, and for a random share that audits them."""

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from dal.errors import ConfigError
from dal.labels import SKIP
from dal.oracles.llm import named_apart
from dal.oracles.oracle import LATER, Oracle, Said

#: What happens to a row, in the order in which the reasons are looked at.
AUDIT, UNSURE, DISAGREE, MACHINE = "audit", "unsure", "disagree", "machine"


def drawn(row: str, share: float, seed: int) -> bool:
    """Whether the row with this id is among the share, 0 to 1, that a person answers by lot."""
    digest = hashlib.sha256(f"{seed} {row}".encode("utf-8", "surrogatepass")).digest()
    return int.from_bytes(digest[:8], "big") < share * 2**64


@dataclass(frozen=True)
class Router(Oracle):
    """Takes the machines' answer where all give the same one and are sure of it; otherwise a person's.

    A random share of all rows goes to the person whatever the machines say: on it their errors are measured without
    bias (`dal audit`), because what is sent for being unsure is harder than the rest. Which rows these are depends on
    `seed` and the row's id alone. Everything that a machine says is stored, also where a person's answer counts.

    Args:
        machines: one oracle or more, such as `LLMOracle`.
        person: who answers the rest; null leaves it for `dal ask` and `dal tell`.
        threshold: the least confidence of every machine for its answer to count.
        audit: share of the rows that a person answers as well, 0 to 1.
        classifier: send to the person, too, what the model that is trained predicts differently.
        seed: draws the audit.
    """

    machines: list[Oracle]
    person: Oracle | None = None
    threshold: float = 0.9
    audit: float = 0.1
    classifier: bool = False
    seed: int = 0

    source = "router"

    def __post_init__(self) -> None:
        if not self.machines:
            raise ConfigError("Router needs at least one machine, such as LLMOracle")
        for name in ("threshold", "audit"):
            if not 0 <= getattr(self, name) <= 1:
                raise ConfigError(f"{name} of Router is a number from 0 to 1, got {getattr(self, name)}")
        named_apart(self.machines)

    @property
    def hides_labels(self) -> bool:  # type: ignore[override]
        """Whether any of them does."""
        parts = [*self.machines, *([] if self.person is None else [self.person])]
        return any(part.hides_labels for part in parts)

    @property
    def reads_predictions(self) -> bool:  # type: ignore[override]
        """Where the classifier is listened to."""
        return self.classifier

    def audited(self, row: str) -> bool:
        """Whether the row with this id belongs to the audit."""
        return drawn(row, self.audit, self.seed)

    def answer(self, rows: Tensor, data: Any) -> Sequence[Said]:
        """The answers, without a look at the classifier."""
        return self.answer_beside(rows, data, None)

    def answer_beside(self, rows: Tensor, data: Any, predicted: Tensor | None) -> Sequence[Said]:
        """One answer per row, with all that the machines said beside it; `LATER` where a person is to answer later."""
        said = [_full(machine, rows, data) for machine in self.machines]
        beside = list(zip(*said, strict=True))  # row by row
        codes = [None] * len(rows) if predicted is None else _values(predicted)
        to_person = [
            self.route(data.ids[row], each, code) != MACHINE
            for row, each, code in zip(rows.tolist(), beside, codes, strict=True)
        ]
        answers = self._of_person(rows, data, torch.tensor(to_person, dtype=torch.bool))
        return [_answer(each, answers.get(i)) for i, each in enumerate(beside)]

    def route(self, row: str, said: Sequence[Said], predicted: Any = None) -> str:
        """Why the row with this id is answered by whom: one of `AUDIT`, `UNSURE`, `DISAGREE`, `MACHINE`."""
        if self.audited(row):
            return AUDIT
        if any(each.value is SKIP or each.confidence is None or each.confidence < self.threshold for each in said):
            return UNSURE
        values = [each.value for each in said] + ([] if predicted is None else [predicted])
        return MACHINE if all(value == values[0] for value in values) else DISAGREE

    def _of_person(self, rows: Tensor, data: Any, asked: Tensor) -> Mapping[int, Said]:
        """Place -> what the person says, for the rows that are asked."""
        places = asked.nonzero().flatten().tolist()
        if self.person is None or not places:
            return dict.fromkeys(places, Said(LATER))
        return dict(zip(places, _full(self.person, rows[asked], data), strict=True))


def _full(oracle: Oracle, rows: Tensor, data: Any) -> list[Said]:
    """What an oracle says, with its name and kind, classes as indices."""
    said = [oracle.said(answer) for answer in oracle.answer(rows, data)]
    return [replace(each, value=_index(each.value, data)) for each in said]


def _index(value: Any, data: Any) -> Any:
    """The answer as a class index, or a sorted list of them, so that two answers can be compared."""
    return value if value is SKIP or value is LATER else _values(data.codes_of([value]))[0]


def _values(predicted: Tensor) -> list[Any]:
    if predicted.dim() == 1:
        return predicted.tolist()
    return [row.nonzero().flatten().tolist() for row in predicted]


def _answer(machines: Sequence[Said], person: Said | None) -> Said:
    """The person's answer where there is one, else the first machine's; its price is kept with what is beside it."""
    beside = tuple(each for each in machines if each.value is not SKIP)
    if person is not None:
        return replace(person, beside=beside)
    return replace(machines[0], confidence=min(each.confidence or 0.0 for each in machines), cost=None, beside=beside)
