"""The contract of a stopping rule: a small immutable value that judges recorded numbers, without a model."""

import math
from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

Line = Mapping[str, Any]


@dataclass(frozen=True)
class Verdict:
    """What a rule says after a round. True in an `if` when it says stop.

    Attributes:
        stop: whether to stop.
        text: why, or how far it is; one line without a full stop.
        notes: the figures behind it.
    """

    stop: bool
    text: str
    notes: Mapping[str, float] = field(default_factory=dict)

    def __bool__(self) -> bool:
        return self.stop


@dataclass(frozen=True)
class History:
    """What the rounds so far have recorded: the lines of `metrics.jsonl`, oldest first.

    Attributes:
        lines: one for each round, with `labels`, the rows with a label, and what rules read (see `StoppingRule`).
    """

    lines: tuple[Line, ...] = ()

    def having(self, name: str) -> list[Line]:
        """The lines that recorded `name`. A round that was recorded twice (after an undo) counts as the later says."""
        found: dict[Any, Line] = {}
        for place, line in enumerate(self.lines):
            if line.get(name) is not None:
                key = line.get("round", ("line", place))
                found.pop(key, None)
                found[key] = line
        return list(found.values())


class StoppingRule(ABC):
    """Says when to stop asking. Subclasses are frozen dataclasses: their fields are their options.

    A rule is a pure function of recorded numbers, so that a run that is resumed decides the same. `rule & other` stops
    when both say so, `rule | other` when either does; in a config they are `All` and `Any`.

    Class attributes (plain and unannotated, or properties, so that they do not become options):
        reads: what must be recorded with every round, next to the number of labels:
            "spent": {"answers", "dollars", "unpriced", "hours", "untimed"}: rows with an answer, what all answers cost
                and took, and how many of them have no cost or time stored.
            "validation": the figures of `dal.evaluation.evaluate` on the validation rows, and "rows", how many.
            "stop_set": the classes that the model predicts for a fixed sample of the pool, and how unsure it is there
                (see `dal.stopping.recorded_figures.StopSet`).
        stop_set: how many rows of that sample it reads; 0 when none.
        paper: where the method was published.
        advice: one line: when to use it and when not.
    """

    reads = frozenset()  # type: ignore[var-annotated]
    stop_set = 0
    paper = ""
    advice = ""

    @abstractmethod
    def judge(self, history: History) -> Verdict:
        """Whether to stop after the last of these rounds, and why."""

    def __and__(self, other: "StoppingRule") -> "StoppingRule":
        from dal.stopping.composition import All

        return All((*_parts(self, All), *_parts(other, All))) if isinstance(other, StoppingRule) else NotImplemented

    def __or__(self, other: "StoppingRule") -> "StoppingRule":
        from dal.stopping.composition import Any

        return Any((*_parts(self, Any), *_parts(other, Any))) if isinstance(other, StoppingRule) else NotImplemented


def _parts(rule: StoppingRule, kind: type) -> tuple[StoppingRule, ...]:
    """The parts of a rule that is of this kind already, else the rule itself: `a | b | c` is one `Any` of three."""
    return rule.rules if isinstance(rule, kind) else (rule,)  # type: ignore[attr-defined,no-any-return]


def number(value: float, digits: int = 3, against: float | None = None) -> str:
    """A figure in a sentence: as many decimals as asked, or its shortest form where that is exact.

    With `against`, as many more as show on which side of that it lies: .98997 is not "0.99" where .99 is wanted.
    """
    while against is not None and digits < 9 and _side(round(value, digits), against) != _side(value, against):
        digits += 1
    if math.isfinite(value) and value == round(value, digits):
        return f"{value:.{digits}f}".rstrip("0").rstrip(".") if digits else f"{value:.0f}"
    return f"{value:.{digits}f}"


def _side(value: float, against: float) -> int:
    return (value > against) - (value < against)


def given(value: float) -> str:
    """An option in a sentence, as it was given."""
    return f"{value:.9g}"


def count(n: int, noun: str) -> str:
    """`1 round`, `3 rounds`."""
    return f"{n:,} {noun}" + ("" if n == 1 else "s")
