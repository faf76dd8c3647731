"""The contract of a stopping rule, a small immutable value that judges recorded numbers, and rules made of rules."""

import math
from abc import ABC, abstractmethod
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from dal.config.moved import accept_old_attribute
from dal.errors import ConfigError

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
    when both say so, `rule | other` when either does; in a config they are `AllOf` and `AnyOf`.

    Class attributes (plain and unannotated, or properties, so that they do not become options):
        needs: what must be recorded with every round, next to the number of labels:
            "spent": {"answers", "dollars", "unpriced", "hours", "untimed"}: rows with an answer, what all answers cost
                and took, and how many of them have no cost or time stored.
            "validation": the figures of `dal.evaluation.evaluate` on the validation rows, and "rows", how many.
            "stop_set": the classes that the model predicts for a fixed sample of the pool, and how unsure it is there
                (see `dal.stopping.recorded_figures.StopSet`).
        stop_set: how many rows of that sample it reads; 0 when none.
        paper: where the method was published.
        advice: one line: when to use it and when not.
    """

    needs = frozenset()  # type: ignore[var-annotated]
    stop_set = 0
    paper = ""
    advice = ""

    def __init_subclass__(cls, **options: Any) -> None:
        """Take the attribute `reads` of version 0.1 for `needs`, with a warning."""
        super().__init_subclass__(**options)
        accept_old_attribute(cls, "reads", "needs")

    @abstractmethod
    def judge(self, history: History) -> Verdict:
        """Whether to stop after the last of these rounds, and why."""

    def __and__(self, other: "StoppingRule") -> "StoppingRule":
        return (
            AllOf((*_parts(self, AllOf), *_parts(other, AllOf))) if isinstance(other, StoppingRule) else NotImplemented
        )

    def __or__(self, other: "StoppingRule") -> "StoppingRule":
        return (
            AnyOf((*_parts(self, AnyOf), *_parts(other, AnyOf))) if isinstance(other, StoppingRule) else NotImplemented
        )


def _parts(rule: StoppingRule, kind: type) -> tuple[StoppingRule, ...]:
    """The parts of a rule that is of this kind already, else the rule itself: `a | b | c` is one `AnyOf` of three."""
    return rule.rules if isinstance(rule, kind) else (rule,)  # type: ignore[attr-defined,no-any-return]


# -- rules made of rules ----------------------------------------------------------------------------------------------


class ComposedRule(StoppingRule):
    """A rule made of `rules`, which reads what they read."""

    rules: tuple[StoppingRule, ...]

    def __post_init__(self) -> None:
        """Take any sequence of rules, and nothing else."""
        name = type(self).__name__
        wrong = [rule for rule in self.rules if not isinstance(rule, StoppingRule)]
        if wrong or not self.rules:
            got = f"{wrong[0]!r} among them" if wrong else "none"
            raise ConfigError(f"{name} takes a list of at least one stopping rule, got {got}")
        object.__setattr__(self, "rules", tuple(self.rules))

    @property
    def needs(self) -> frozenset[str]:  # type: ignore[override]
        """What its rules read."""
        return frozenset(name for rule in self.rules for name in rule.needs)

    @property
    def stop_set(self) -> int:  # type: ignore[override]
        """As many rows as its rules read."""
        return max(rule.stop_set for rule in self.rules)


@dataclass(frozen=True)
class AllOf(ComposedRule):
    """Stops when all of its rules say so after the same round: `a & b`.

    With a budget among them, that is a floor: `Labels(max_labels=200) & Plateau()` buys at least 200 labels.

    Args:
        rules: at least one.
    """

    rules: tuple[StoppingRule, ...]

    advice = "to make sure, or to set a floor: `Labels` and another rule"

    def judge(self, history: History) -> Verdict:
        """Why all stop, or how far those are that do not."""
        found = [rule.judge(history) for rule in self.rules]
        stop = all(found)
        return Verdict(stop, _texts(each for each in found if each.stop is stop), _notes(found))


@dataclass(frozen=True)
class AnyOf(ComposedRule):
    """Stops when any of its rules says so: `a | b`.

    Args:
        rules: at least one.
    """

    rules: tuple[StoppingRule, ...]

    advice = "a rule that may never stop, and a budget"

    def judge(self, history: History) -> Verdict:
        """Why those stop that do, or how far all are."""
        found = [rule.judge(history) for rule in self.rules]
        stop = any(found)
        return Verdict(stop, _texts(each for each in found if each.stop is stop), _notes(found))


@dataclass(frozen=True)
class Observe(ComposedRule):
    """Never stops, and records all that its rules read: for a run to try rules on afterwards, with `backtest`.

    Args:
        rules: at least one.
    """

    rules: tuple[StoppingRule, ...]

    advice = "before you trust a rule: run to the end once, and see where it would have stopped"

    def judge(self, history: History) -> Verdict:
        """What its rules say, without stopping."""
        found = [rule.judge(history) for rule in self.rules]
        return Verdict(False, "only observed: " + _texts(found), _notes(found))


def _texts(verdicts: Iterable[Verdict]) -> str:
    return "; ".join(verdict.text for verdict in verdicts)


def _notes(verdicts: Iterable[Verdict]) -> Mapping[str, float]:
    """The figures of all; a second figure of the same name is called `name_2`."""
    found: dict[str, float] = {}
    for verdict in verdicts:
        for name, value in verdict.notes.items():
            free, number = name, 1
            while free in found:
                free, number = f"{name}_{number + 1}", number + 1
            found[free] = value
    return found


# -- figures in sentences ---------------------------------------------------------------------------------------------


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
