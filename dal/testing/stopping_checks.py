"""Conformance checks for stopping rules: one function per requirement."""

import dataclasses
import json
import warnings
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from dal.errors import DalError, shortened
from dal.outputs import Outputs, closure, listing
from dal.stopping.measurement import measured
from dal.stopping.recorded_figures import READS, StoppingWarning
from dal.stopping.rule import AllOf, AnyOf, History, StoppingRule, Verdict, measuring_parts
from dal.store.run_folder import read_metrics
from dal.strategy import RoundState
from dal.testing.conformance_report import (
    Check,
    CheckFailure,
    CheckSkipped,
    Report,
    error_summary,
    run_checks,
)
from dal.testing.real_loop import CLASSES, LABELED, check_loop, small_learner, small_task
from dal.testing.values import (
    check_names,
    check_plain,
    check_untouched,
    check_value,
    drawn_from,
    global_randomness,
    report_on,
    state_of,
)

#: Class attributes of a rule that declare what it reads.
_NEEDS = ("needs", "stop_set_needs", "validation_needs", "judge_options")


@dataclass(frozen=True, eq=False)
class RuleTrial:
    """A stopping rule and a run of real rounds, whose figures it reads.

    Attributes:
        rule: the rule.
        lines: one line per round.
        verdicts: the verdicts of the session after each of them.
    """

    rule: StoppingRule
    lines: list[dict[str, Any]] = field(default_factory=list)
    verdicts: list[Verdict] = field(default_factory=list)

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
    check_plain(rule, (*_NEEDS, "stop_set", "paper", "advice"))
    check_names(rule, _NEEDS)
    if unknown := sorted(rule.needs - READS.keys()):
        raise CheckFailure(f"{name}.needs has {', '.join(unknown)}; a round records {', '.join(READS)}")
    if type(rule.stop_set) is not int or rule.stop_set < 0:
        raise CheckFailure(f"{name}.stop_set must be a number of rows, not {rule.stop_set!r}")
    if ("stop_set" in rule.needs or bool(rule.stop_set_needs)) != (rule.stop_set > 0):
        raise CheckFailure(
            f"{name} must declare 'stop_set' in needs (or outputs in stop_set_needs) and a number of rows in stop_set, "
            "or neither"
        )
    options: list[str] = [each.name for each in dataclasses.fields(rule)] if dataclasses.is_dataclass(rule) else []
    if unknown := sorted(rule.judge_options - set(options)):
        raise CheckFailure(f"{name}.judge_options has {', '.join(unknown)}, which is no option of the rule")
    if not measuring_parts(rule) and (rule.stop_set_needs or rule.validation_needs):
        raise CheckFailure(f"{name} declares stop_set_needs or validation_needs, but has no method measure")


def check_real_rounds(trial: RuleTrial) -> str:
    """A real session records what the rule needs and measures, and the rule judges after every round, also a resumed
    one.
    """
    if lacking := (trial.rule.stop_set_needs | trial.rule.validation_needs) - closure(small_learner().provides):
        raise CheckSkipped(f"the learner of this check does not provide {listing(lacking)}")
    verdicts: list[Verdict] = []

    def watch(session: Any) -> None:
        verdicts.append(session.should_stop(trial.rule))
        trial.lines[:] = read_metrics(session.folder)
        if json.dumps(session.metrics) != json.dumps(trial.lines):
            raise CheckFailure("judge wrote to the lines of the history")

    with warnings.catch_warnings():
        warnings.simplefilter("ignore", StoppingWarning)  # the task is small on purpose
        check_loop(_random(), data=small_task(), watch=watch)
    half = len(verdicts) // 2
    for number, (whole, again) in enumerate(zip(verdicts[:half], verdicts[half:], strict=True), 1):
        if repr(whole) != repr(again):  # NaN is not equal to itself; another check reports it
            raise CheckFailure(
                f"round {number}: {again.text!r} after the session was opened again, {whole.text!r} before: "
                "judge by the recorded figures only"
            )
    trial.verdicts[:] = verdicts[half:]
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
    for rounds, then in enumerate(trial.verdicts, 1):
        now = trial.judge(trial.lines[:rounds], f"{rounds} rounds")
        if repr(now) != repr(then):
            raise CheckFailure(
                f"{now.text!r} from the lines of {rounds} rounds alone, {then.text!r} in the run: judge must read the "
                "history only, and no state that measure left behind"
            )
    if json.dumps(trial.lines, sort_keys=True) != before:
        raise CheckFailure("judge wrote to the lines of the history")
    if state_of(trial.rule) != state:
        raise CheckFailure("judge changed the rule itself: keep no state between calls")


def check_measure(trial: RuleTrial) -> str:
    """`measure` gives the same values again, also once every row has a label, changes nothing and draws no random
    numbers.
    """
    parts = measuring_parts(trial.rule)
    if not parts:
        raise CheckSkipped("the rule measures nothing")
    usual, other = _model_of(LABELED), _model_of(2 * LABELED)
    for part in parts:
        read, tensors = _readable(part, usual)
        before, state = [tensor.clone() for tensor in tensors], state_of(part)
        first = _measured(part, usual.state, read, "a round")
        with global_randomness(7):
            drawn = drawn_from()
            _measured(part, other.state, _readable(part, other)[0], "another round in between")
            check_untouched(drawn, "measure")
        if _measured(part, usual.state, _readable(part, usual)[0], "the same round again") != first:
            raise CheckFailure("measure gave other values for the same round: it may read the measurement only")
        if not all(torch.equal(*pair) for pair in zip(tensors, before, strict=True)):
            raise CheckFailure("measure wrote to the outputs or labels that it was given: work on a copy")
        if state_of(part) != state:
            raise CheckFailure("measure changed the rule itself: return what judge is to know")
        whole = _readable(part, usual, all_labeled=True)[0]
        _measured(part, usual.state, whole, "every row of the stop set has a label")
        _check_options_read(part, usual.state, read)
    return shortened(first)


@dataclass(frozen=True, eq=False)
class _Model:
    """A model of the small task that was trained on the first rows, with the names that a rule may read."""

    data: Any
    predictor: Any
    state: RoundState


def _model_of(labels: int) -> _Model:
    learner, data = small_learner(), small_task()
    rows = torch.arange(labels)
    predictor = learner.fit(learner.prepare(data.pool), rows, data.pool.labels[rows], seed=0)
    counts = torch.bincount(data.pool.labels[rows], minlength=CLASSES)
    return _Model(data, predictor, RoundState(labels // LABELED, labels, tuple(counts.tolist())))


def _readable(
    rule: StoppingRule, model: _Model, *, all_labeled: bool = False
) -> tuple[Callable[[str], tuple[Outputs, Tensor]], list[Tensor]]:
    """The function by which a rule reads the parts, and all tensors that it hands out."""
    learner, parts = small_learner(), {}
    for part, rows, names in (
        ("stop_set", model.data.pool, rule.stop_set_needs),
        ("validation", model.data.validation, rule.validation_needs),
    ):
        if lacking := names - closure(learner.provides):
            raise CheckSkipped(f"the learner of this check does not provide {listing(lacking)}")
        values = rows.labels
        if part == "stop_set":
            values = torch.ones(len(rows), dtype=torch.bool) if all_labeled else torch.arange(len(rows)) % 3 == 0
        outputs = model.predictor.outputs(learner.prepare(rows), None, names, seed=0, exact=True) if names else None
        parts[part] = (outputs or Outputs(length=len(rows))).to("cpu"), values
    tensors = [values for _, values in parts.values()]
    for outputs, _ in parts.values():
        tensors += [outputs[name] for name in sorted(outputs.names) if isinstance(outputs[name], Tensor)]
    return parts.__getitem__, tensors


def _measured(rule: StoppingRule, state: RoundState, read: Any, where: str) -> str:
    """What the rule measures as JSON, or a `CheckFailure` that names the case."""
    try:
        return json.dumps(measured(rule, state, read), sort_keys=True)
    except DalError as error:
        raise CheckFailure(f"{error} ({where})") from error


def _check_options_read(rule: StoppingRule, state: RoundState, read: Any) -> None:
    """Check that `measure` reads no option of `judge_options`, whose values are not part of the recorded key."""
    seen: set[str] = set()

    class Watched(type(rule)):  # type: ignore[misc]
        def __getattribute__(self, name: str) -> Any:
            seen.add(name)
            return super().__getattribute__(name)

    watched = object.__new__(Watched)
    for name, value in vars(rule).items():
        object.__setattr__(watched, name, value)
    seen.clear()
    measured(watched, state, read)
    if wrong := sorted(seen & rule.judge_options):
        raise CheckFailure(f"measure reads {', '.join(wrong)}, which judge_options says only judge reads")


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
    "measure": check_measure,
    "verdict": check_verdict_text,
    "composition": check_composition,
    "value": check_rule_value,
}


def stopping_report(rule: StoppingRule | type[StoppingRule]) -> Report:
    """Run all checks on a stopping rule and return the report. Failed checks do not raise.

    Args:
        rule: instance, or class that can be created without arguments.
    """

    def run(subject: str, made: StoppingRule) -> Report:
        return run_checks(subject, STOPPING_CHECKS, RuleTrial(made), first=("declaration", "real loop"))

    return report_on(rule, StoppingRule, "dal.StoppingRule", run)


def check_stopping_rule(rule: StoppingRule | type[StoppingRule]) -> Report:
    """Run `stopping_report` and raise if a check failed.

    Raises:
        ConformanceError: a check failed; the message lists the failures, `error.report` holds all results.
    """
    return stopping_report(rule).require()
