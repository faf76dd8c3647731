"""Base class of stopping rules, and rules composed of rules."""

import json
import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, fields, is_dataclass
from typing import TYPE_CHECKING, Any

from dal.config.moved import accept_old_attribute
from dal.config.stored import describe
from dal.errors import ConfigError, DalError, PluginError, one_line

if TYPE_CHECKING:
    from dal.stopping.measurement import Measurement

Line = Mapping[str, Any]

#: Key of a line of `metrics.jsonl`: the measures of each rule by its `measures_key`.
MEASURES = "stopping_measures"

#: Key of the validation scores with the name of the objective; absent where it is the accuracy.
OBJECTIVE = "objective"


@dataclass(frozen=True)
class Verdict:
    """Decision of a stopping rule after a round. Truthy if the rule stops.

    Attributes:
        stop: whether to stop.
        text: reason or progress, one line without a full stop.
        notes: figures behind the decision, by name.
    """

    stop: bool
    text: str
    notes: Mapping[str, float] = field(default_factory=dict)

    def __bool__(self) -> bool:
        return self.stop


@dataclass(frozen=True)
class History:
    """Recorded figures of the rounds so far: the lines of `metrics.jsonl`, oldest first.

    Attributes:
        lines: one per round, with `labels`, the number of labeled rows, and the figures that rules read (see
            `StoppingRule`).
    """

    lines: tuple[Line, ...] = ()

    def having(self, name: str) -> list[Line]:
        """The lines that recorded `name`. Of a round recorded twice (after an undo) the later line counts."""
        return self._rounds(lambda line: line.get(name) is not None)

    def measures(self, rule: "StoppingRule") -> list[Mapping[str, Any]]:
        """What `rule.measure` returned in each round, oldest first; rounds in which the rule did not measure are left
        out. Of a round recorded twice (after an undo) the later line counts.
        """
        key = measures_key(rule)
        return [line[MEASURES][key] for line in self._rounds(lambda line: key in (line.get(MEASURES) or {}))]

    def _rounds(self, counts: Callable[[Line], bool]) -> list[Line]:
        lines: dict[Any, Line] = {}
        for index, line in enumerate(self.lines):
            if counts(line):
                key = line.get("round", ("line", index))
                lines.pop(key, None)  # the later line also takes the later position
                lines[key] = line
        return list(lines.values())


class StoppingRule(ABC):
    """Base class of stopping rules. Subclasses are frozen dataclasses whose fields are the options.

    A rule is a pure function of the recorded figures, so a resumed run decides the same. `rule & other` stops when
    both stop, `rule | other` when either does; in a config they are `AllOf` and `AnyOf`.

    Class attributes (plain and unannotated, or properties, so that they do not become options):
        needs: figures to record every round, in addition to the number of labels:
            "spent": {"answers", "dollars", "unpriced", "hours", "untimed"}: number of answered rows, total cost and
                time of all answers, and the number of answers without a stored cost or time.
            "validation": the metrics of `dal.evaluation.evaluate` on the validation rows, and "rows", their number;
                "own_metrics" and "lower_is_better" where the experiment has metrics of the user, or an objective that
                is no word; "objective", its name, unless it is the accuracy.
            "stop_set": the model's predictions and mean uncertainty on a fixed sample of the pool (see
                `dal.stopping.recorded_figures.StopSet`).
        scores: names of the scores on the validation rows that the rule reads, so that unknown ones are refused before
            anything is asked.
        stop_set: number of rows of that sample that the rule reads; 0 for none.
        stop_set_needs: names of the outputs that `measure` reads of the stop set, such as {"probs"}.
        validation_needs: names of the outputs that `measure` reads of the validation rows.
        judge_options: names of the options that only `judge` reads, such as a threshold. What was measured with one
            value of them can be judged with another, as in a back-test.
        paper: citation of the method.
        advice: one line on when to use the rule and when not.
    """

    needs = frozenset()  # type: ignore[var-annotated]
    scores = frozenset()  # type: ignore[var-annotated]
    stop_set = 0
    stop_set_needs = frozenset()  # type: ignore[var-annotated]
    validation_needs = frozenset()  # type: ignore[var-annotated]
    judge_options = frozenset()  # type: ignore[var-annotated]
    paper = ""
    advice = ""

    def __init_subclass__(cls, **options: Any) -> None:
        """Accept the attribute `reads` of version 0.1 as `needs`, with a warning."""
        super().__init_subclass__(**options)
        accept_old_attribute(cls, "reads", "needs")

    @abstractmethod
    def judge(self, history: History) -> Verdict:
        """Decide whether to stop after the last of these rounds."""

    def measure(self, measurement: "Measurement") -> Mapping[str, Any]:
        """Measure the current model, once per round and before `judge`, which reads it by `history.measures(self)`.

        The result is stored in the line of the round, so that a resumed run judges the same numbers. It must depend on
        `measurement` and the options of the rule only. By default nothing is measured.

        Args:
            measurement: state of the round, and outputs of the current model.

        Returns:
            Values by name that JSON can store; numbers are finite, or None where undefined.
        """
        return {}

    def __and__(self, other: "StoppingRule") -> "StoppingRule":
        return (
            AllOf((*_parts(self, AllOf), *_parts(other, AllOf))) if isinstance(other, StoppingRule) else NotImplemented
        )

    def __or__(self, other: "StoppingRule") -> "StoppingRule":
        return (
            AnyOf((*_parts(self, AnyOf), *_parts(other, AnyOf))) if isinstance(other, StoppingRule) else NotImplemented
        )


def _parts(rule: StoppingRule, kind: type) -> tuple[StoppingRule, ...]:
    """The parts of a rule of this kind, else the rule itself: `a | b | c` is one `AnyOf` of three."""
    return rule.rules if isinstance(rule, kind) else (rule,)  # type: ignore[attr-defined,no-any-return]


def judged(rule: StoppingRule, history: History) -> Verdict:
    """The verdict of a rule.

    Raises:
        PluginError: the rule failed.
    """
    try:
        return rule.judge(history)
    except DalError:
        raise
    except Exception as error:
        raise failure(rule, "judge", error) from error


def failure(rule: StoppingRule, method: str, error: Exception) -> PluginError:
    """The error of a rule whose method raised `error`."""
    name = type(rule).__name__
    return PluginError(f"the stopping rule {name} failed in {method}: {type(error).__name__}: {one_line(error)}")


def measuring_parts(rule: StoppingRule) -> list[StoppingRule]:
    """The rules that define `measure`: the rule itself, and those that it is composed of."""
    own = [rule] if type(rule).measure is not StoppingRule.measure else []
    inner = rule.rules if isinstance(rule, ComposedRule) else ()
    return [*own, *(part for each in inner for part in measuring_parts(each))]


def measures_key(rule: StoppingRule) -> str:
    """Name of a rule's measures in a line: its class and the options that can affect them."""
    options: list[str] = [each.name for each in fields(rule)] if is_dataclass(rule) else []
    values = {name: getattr(rule, name) for name in options if name not in rule.judge_options}
    shown = (f"{name}={json.dumps(describe(value), ensure_ascii=False)}" for name, value in values.items())
    return f"{type(rule).__module__}.{type(rule).__qualname__}({', '.join(shown)})"


# -- rules made of rules ----------------------------------------------------------------------------------------------


class ComposedRule(StoppingRule):
    """Base class of rules composed of `rules`."""

    rules: tuple[StoppingRule, ...]

    def __post_init__(self) -> None:
        """Validate `rules` and convert them to a tuple."""
        name = type(self).__name__
        wrong = [rule for rule in self.rules if not isinstance(rule, StoppingRule)]
        if wrong or not self.rules:
            got = f"{wrong[0]!r} among them" if wrong else "none"
            raise ConfigError(f"{name} takes a list of at least one stopping rule, got {got}")
        object.__setattr__(self, "rules", tuple(self.rules))

    @property
    def needs(self) -> frozenset[str]:  # type: ignore[override]
        """Figures that the rules read."""
        return frozenset(name for rule in self.rules for name in rule.needs)

    @property
    def scores(self) -> frozenset[str]:  # type: ignore[override]
        """Names of the scores that the rules read."""
        return frozenset(name for rule in self.rules for name in rule.scores)

    @property
    def stop_set(self) -> int:  # type: ignore[override]
        """Number of stop-set rows that the rules read."""
        return max(rule.stop_set for rule in self.rules)

    @property
    def stop_set_needs(self) -> frozenset[str]:  # type: ignore[override]
        """Outputs that the rules read of the stop set."""
        return frozenset(name for rule in self.rules for name in rule.stop_set_needs)

    @property
    def validation_needs(self) -> frozenset[str]:  # type: ignore[override]
        """Outputs that the rules read of the validation rows."""
        return frozenset(name for rule in self.rules for name in rule.validation_needs)


@dataclass(frozen=True)
class AllOf(ComposedRule):
    """Stops when all of its rules stop after the same round: `a & b`.

    A budget rule then acts as a minimum: `Labels(max_labels=200) & Plateau()` buys at least 200 labels.

    Args:
        rules: one or more stopping rules.
    """

    rules: tuple[StoppingRule, ...]

    advice = "to make sure, or to set a floor: `Labels` and another rule"

    def judge(self, history: History) -> Verdict:
        """The reasons of all rules if they stop, else the progress of those that do not."""
        verdicts = [judged(rule, history) for rule in self.rules]
        stop = all(verdicts)
        return Verdict(stop, _texts(each for each in verdicts if each.stop is stop), _notes(verdicts))


@dataclass(frozen=True)
class AnyOf(ComposedRule):
    """Stops when any of its rules stops: `a | b`.

    Args:
        rules: one or more stopping rules.
    """

    rules: tuple[StoppingRule, ...]

    advice = "a rule that may never stop, and a budget"

    def judge(self, history: History) -> Verdict:
        """The reasons of the rules that stop, or the progress of all."""
        verdicts = [judged(rule, history) for rule in self.rules]
        stop = any(verdicts)
        return Verdict(stop, _texts(each for each in verdicts if each.stop is stop), _notes(verdicts))


@dataclass(frozen=True)
class Observe(ComposedRule):
    """Records the figures that its rules read and never stops, for a later `backtest` of the rules.

    Args:
        rules: one or more stopping rules.
    """

    rules: tuple[StoppingRule, ...]

    advice = "before you trust a rule: run to the end once, and see where it would have stopped"

    def judge(self, history: History) -> Verdict:
        """The texts and notes of all rules; never stops."""
        verdicts = [judged(rule, history) for rule in self.rules]
        return Verdict(False, "only observed: " + _texts(verdicts), _notes(verdicts))


def _texts(verdicts: Iterable[Verdict]) -> str:
    return "; ".join(verdict.text for verdict in verdicts)


def _notes(verdicts: Iterable[Verdict]) -> Mapping[str, float]:
    """The notes of all verdicts; a second note of the same name becomes `name_2`."""
    notes: dict[str, float] = {}
    for verdict in verdicts:
        for name, value in verdict.notes.items():
            free, number = name, 1
            while free in notes:
                free, number = f"{name}_{number + 1}", number + 1
            notes[free] = value
    return notes


# -- figures in sentences ---------------------------------------------------------------------------------------------


def number(value: float, digits: int = 3, against: float | None = None) -> str:
    """Format a number with `digits` decimals, or in its shortest form if that is exact.

    With `against`, use as many decimals as are needed to show on which side of it the number is: .98997 is not
    shown as "0.99" against .99.
    """
    while against is not None and digits < 9 and _side(round(value, digits), against) != _side(value, against):
        digits += 1
    if math.isfinite(value) and value == round(value, digits):
        return f"{value:.{digits}f}".rstrip("0").rstrip(".") if digits else f"{value:.0f}"
    return f"{value:.{digits}f}"


def _side(value: float, against: float) -> int:
    return (value > against) - (value < against)


def given(value: float) -> str:
    """Format an option's value as it was given."""
    return f"{value:.9g}"


def count(n: int, noun: str) -> str:
    """Format a count with its noun: `1 round`, `3 rounds`."""
    return f"{n:,} {noun}" + ("" if n == 1 else "s")
