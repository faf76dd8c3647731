"""Conformance checks for stopping rules: one function per requirement."""

import inspect
import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from dal.stopping.recorded_figures import READS
from dal.stopping.rule import AllOf, AnyOf, History, StoppingRule, Verdict
from dal.store.run_folder import read_metrics
from dal.testing.conformance_report import Check, CheckFailure, Report, Result, error_summary, run_checks
from dal.testing.real_loop import check_loop, small_task
from dal.testing.values import check_names, check_plain, check_value, construct, state_of


@dataclass(frozen=True, eq=False)
class RuleTrial:
    """A stopping rule and a run of real rounds, whose figures it reads."""

    rule: StoppingRule
    lines: list[dict[str, Any]]

    def judge(self, lines: Any, where: str) -> Verdict:
        """The verdict on these lines, or a `CheckFailure` that names the case."""
        try:
            verdict = self.rule.judge(History(tuple(lines)))
        except Exception as error:
            raise CheckFailure(f"{error_summary(error)} ({where})") from error
        if not isinstance(verdict, Verdict):
            raise CheckFailure(f"judge returned {type(verdict).__name__}, expected a Verdict ({where})")
        return verdict


def check_rule_declaration(trial: RuleTrial) -> None:
    """`needs` is a set of figures that a round records, and all declarations are plain attributes."""
    rule, name = trial.rule, type(trial.rule).__name__
    check_plain(rule, ("needs", "stop_set", "paper", "advice"))
    check_names(rule, ("needs",))
    if unknown := sorted(rule.needs - READS.keys()):
        raise CheckFailure(f"{name}.needs has {', '.join(unknown)}; a round records {', '.join(READS)}")
    if type(rule.stop_set) is not int or rule.stop_set < 0:
        raise CheckFailure(f"{name}.stop_set must be a number of rows, not {rule.stop_set!r}")
    if ("stop_set" in rule.needs) != (rule.stop_set > 0):
        raise CheckFailure(f"{name} must declare 'stop_set' in needs and a number of rows in stop_set, or neither")


def check_real_rounds(trial: RuleTrial) -> str:
    """A real session records what the rule needs, and the rule judges after every round, also a resumed one."""
    verdicts: list[Verdict] = []

    def watch(session: Any) -> None:
        verdicts.append(session.should_stop(trial.rule))
        trial.lines[:] = read_metrics(session.folder)
        if json.dumps(session.metrics) != json.dumps(trial.lines):
            raise CheckFailure("judge wrote to the lines of the history")

    check_loop(_random(), data=small_task(), watch=watch)
    half = len(verdicts) // 2
    for number, (whole, again) in enumerate(zip(verdicts[:half], verdicts[half:], strict=True), 1):
        if repr(whole) != repr(again):  # NaN is not equal to itself; another check reports it
            raise CheckFailure(
                f"round {number}: {again.text!r} after the session was opened again, {whole.text!r} before: "
                "judge by the recorded figures only"
            )
    return verdicts[-1].text


def _random() -> Any:
    from dal.strategies.random import Random

    return Random()


def check_few_lines(trial: RuleTrial) -> None:
    """No round, one round, and rounds without the rule's figures are judged without an error."""
    trial.judge((), "no round yet")
    trial.judge(trial.lines[:1], "one round")
    bare = [{key: line[key] for key in ("round", "labels", "class_counts") if key in line} for line in trial.lines]
    trial.judge(bare, "rounds that recorded no figures, as before the rule was added")
    trial.judge([*bare[:1], *trial.lines[1:]], "figures only in later rounds")


def check_pure(trial: RuleTrial) -> None:
    """The verdict depends on the lines only, as they are read back from JSON, and does not change them."""
    before = json.dumps(trial.lines, sort_keys=True)
    state = state_of(trial.rule)
    first = trial.judge(trial.lines, "a run")
    trial.judge(trial.lines[:1], "another run in between")
    if repr(trial.judge(json.loads(before), "the same run, read from its file")) != repr(first):
        raise CheckFailure("the same lines gave another verdict the second time: keep no state between calls")
    if json.dumps(trial.lines, sort_keys=True) != before:
        raise CheckFailure("judge wrote to the lines of the history")
    if state_of(trial.rule) != state:
        raise CheckFailure("judge changed the rule itself: keep no state between calls")


def check_verdict_text(trial: RuleTrial) -> None:
    """The verdict has one line of text, finite notes and a decision."""
    for count in range(len(trial.lines) + 1):
        verdict = trial.judge(trial.lines[:count], f"{count} rounds")
        if type(verdict.stop) is not bool:
            raise CheckFailure(f"stop must be True or False, not {verdict.stop!r}")
        if not isinstance(verdict.text, str) or not verdict.text or "\n" in verdict.text:
            raise CheckFailure(f"text must be one line that says why, or how far, not {verdict.text!r}")
        for note, value in verdict.notes.items():
            if isinstance(value, bool) or not isinstance(value, int | float) or not abs(value) < float("inf"):
                raise CheckFailure(f"the note {note!r} is {value!r}, expected a finite number")


def check_composition(trial: RuleTrial) -> None:
    """`rule & rule` and `rule | rule` decide as the rule does."""
    stop = bool(trial.judge(trial.lines, "a run"))
    for composed in (AllOf((trial.rule, trial.rule)), AnyOf((trial.rule, trial.rule))):
        if bool(composed.judge(History(tuple(trial.lines)))) != stop:
            raise CheckFailure(f"{type(composed).__name__} of the rule with itself decides otherwise")


def check_rule_value(trial: RuleTrial) -> None:
    """A frozen dataclass, equal by value."""
    check_value(trial.rule, hashable=False)


#: Name -> check, in order of execution. "real loop" records the lines that the later ones judge.
STOPPING_CHECKS: Mapping[str, Check] = {
    "declaration": check_rule_declaration,
    "real loop": check_real_rounds,
    "few rounds": check_few_lines,
    "pure": check_pure,
    "verdict": check_verdict_text,
    "composition": check_composition,
    "value": check_rule_value,
}


def stopping_report(rule: StoppingRule | type[StoppingRule]) -> Report:
    """Run all checks on a stopping rule and return the report. Failed checks do not raise.

    Args:
        rule: instance, or class that can be created without arguments.
    """
    subject = rule.__name__ if inspect.isclass(rule) else repr(rule)
    try:
        made = construct(rule)
        if not isinstance(made, StoppingRule):
            raise CheckFailure(f"{type(made).__name__} is not a dal.StoppingRule")
    except CheckFailure as failure:
        return Report(subject, (Result("declaration", "failed", str(failure)),))
    return run_checks(subject, STOPPING_CHECKS, RuleTrial(made, []), first=("declaration", "real loop"))


def check_stopping_rule(rule: StoppingRule | type[StoppingRule]) -> Report:
    """Run `stopping_report` and raise if a check failed.

    Raises:
        ConformanceError: a check failed; the message lists the failures, `error.report` holds all results.
    """
    return stopping_report(rule).require()
