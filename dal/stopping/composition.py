"""Rules made of rules: all of them, any of them, or none but the record."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from dal.errors import ConfigError
from dal.stopping.rule import History, StoppingRule, Verdict


class Composed(StoppingRule):
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
    def reads(self) -> frozenset[str]:  # type: ignore[override]
        """What its rules read."""
        return frozenset(name for rule in self.rules for name in rule.reads)

    @property
    def stop_set(self) -> int:  # type: ignore[override]
        """As many rows as its rules read."""
        return max(rule.stop_set for rule in self.rules)


@dataclass(frozen=True)
class All(Composed):
    """Stops when all of its rules say so after the same round: `a & b`.

    With a budget among them, that is a floor: `Labels(most=200) & Plateau()` buys at least 200 labels.

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
class Any(Composed):
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
class Observe(Composed):
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
