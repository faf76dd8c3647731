"""Conformance checks for oracles: one function per requirement."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import torch
from torch import Tensor

from dal.errors import DalError
from dal.oracle import LATER, Annotation, Oracle, StoredAnswers, checked_annotations
from dal.store.events import SKIP
from dal.testing.conformance_report import Check, CheckFailure, CheckSkipped, Report, error_summary, run_checks
from dal.testing.learners import default_rows
from dal.testing.real_loop import CLASSES, quick_learner
from dal.testing.values import check_names, check_plain, check_untouched, check_value, drawn_from, report_on, state_of

CONTEXT = frozenset({"predictions", "record"})
ASKED = 8


@dataclass(frozen=True, eq=False)
class OracleTrial:
    """An oracle, the rows that it is asked, and their labels before it was."""

    oracle: Oracle
    data: Any
    labels: Tensor

    def answers(self, rows: Tensor) -> list[Annotation]:
        """Validated answers of the oracle to these rows."""
        predicted = None
        if "predictions" in self.oracle.needs:
            classes = len(self.data.classes)
            predicted = (rows % 2 == 0)[:, None].expand(-1, classes) if self.data.multilabel else rows % classes
        record = StoredAnswers() if "record" in self.oracle.needs else None
        ids = [self.data.ids[row] for row in rows.tolist()]
        try:
            given = self.oracle.answer_with_context(rows.clone(), self.data, predicted, record)
            return checked_annotations(self.oracle, given, ids)
        except DalError as error:
            raise CheckFailure(str(error)) from error

    @property
    def rows(self) -> Tensor:
        """The rows that are asked."""
        return torch.arange(min(ASKED, len(self.data)))


def check_oracle_declaration(trial: OracleTrial) -> None:
    """`hides_labels`, `source` and `needs` are plain attributes with valid values."""
    oracle, name = trial.oracle, type(trial.oracle).__name__
    check_plain(oracle, ("hides_labels", "source", "needs"))
    check_names(oracle, ("needs",))
    if unknown := sorted(oracle.needs - CONTEXT):
        raise CheckFailure(f"{name}.needs has {', '.join(unknown)}; an oracle can need {', '.join(sorted(CONTEXT))}")
    if not isinstance(oracle.source, str) or not oracle.source:
        raise CheckFailure(f"{name}.source must be the kind of annotator, such as 'llm', not {oracle.source!r}")
    if not isinstance(oracle.hides_labels, bool):
        raise CheckFailure(f"{name}.hides_labels must be True or False, not {oracle.hides_labels!r}")
    if oracle.needs and type(oracle).answer_with_context is Oracle.answer_with_context:
        raise CheckFailure(f"{name} declares needs, and so must define answer_with_context")


def check_answers(trial: OracleTrial) -> str:
    """One valid answer per row, in order; no answer for no rows."""
    annotations = trial.answers(trial.rows)
    for annotation in annotations:
        _check_value(trial, annotation)
    if trial.answers(trial.rows[:0]):
        raise CheckFailure("no rows were asked, and it gave answers")
    kinds = [type(each.value).__name__ if each.value in (SKIP, LATER) else "answered" for each in annotations]
    text = ", ".join(f"{kinds.count(kind)} {kind.lower()}" for kind in dict.fromkeys(kinds))
    if "answered" not in kinds:
        raise CheckSkipped(f"no answer to any row ({text}): pass data that it can answer, in dal check with --data")
    return text


def _check_value(trial: OracleTrial, annotation: Annotation) -> None:
    """Check that a value is a class of the data, `SKIP` or `LATER`."""
    value = annotation.value
    if value is SKIP or value is LATER:
        return
    try:
        trial.data.codes_of([value])
    except (DalError, TypeError, ValueError) as error:
        raise CheckFailure(f"the answer {value!r} is no class of the data ({', '.join(trial.data.classes)})") from error


def check_answers_repeat(trial: OracleTrial) -> None:
    """The same row gets the same answer, asked again and among other rows."""
    rows = trial.rows
    first = [each.value for each in trial.answers(rows)]
    again = [each.value for each in trial.answers(rows)]
    if first != again:
        raise CheckFailure("the same rows got other answers the second time: a killed run could not be repeated")
    order = torch.arange(len(rows) - 1, -1, -1)
    turned = [each.value for each in trial.answers(rows[order])]
    if turned != [first[place] for place in order.tolist()]:
        raise CheckFailure("the same rows in another order got other answers: one answer per row, in their order")


def check_data_untouched(trial: OracleTrial) -> None:
    """The data and the global random generators are not changed."""
    before = drawn_from()
    trial.answers(trial.rows)
    check_untouched(before, "answer")
    if not torch.equal(trial.labels, trial.data.labels):
        raise CheckFailure("answer wrote to the labels of the data")


def check_oracle_value(trial: OracleTrial) -> None:
    """A frozen dataclass, equal by value, which answering does not change."""
    check_value(trial.oracle, hashable=False)
    before = state_of(trial.oracle)
    trial.answers(trial.rows)
    if state_of(trial.oracle) != before:
        raise CheckFailure("answering changed the oracle itself: keep no state between calls")


def check_oracle_loop(trial: OracleTrial) -> str:
    """A real session takes its answers: two rounds, with a folder, and more until a row is answered."""
    from dal.data import Splits
    from dal.oracles.answering import answer_pending
    from dal.session import Session
    from dal.strategies.random import Random

    with TemporaryDirectory() as folder:
        try:
            learner, parts = quick_learner(trial.data), Splits(pool=trial.data)
            with Session(parts, learner, Random(), folder=Path(folder) / "loop", hide_labels=True) as session:
                if "predictions" in trial.oracle.needs:  # a model needs labels of two classes
                    _, first = np.unique(trial.labels.numpy(), axis=0, return_index=True)
                    session.ask_these(torch.from_numpy(first[:CLASSES]), strategy="start")
                    session.tell(session.pending, trial.labels[session.pending])
                answered = left = rounds = 0
                while len(session.unasked_rows) and (rounds < 2 or not answered):
                    session.ask(min(ASKED, len(trial.data) // 2))
                    before, rounds = len(session.labels), rounds + 1
                    answer_pending(trial.oracle, session)
                    answered += len(session.labels) - before
                    left = len(session.pending)
                    if left and not answered:  # another annotator answers, so that other rows are asked
                        session.tell(session.pending, trial.labels[session.pending])
        except DalError as error:
            raise CheckFailure(f"in a real loop: {error}") from error
        except Exception as error:
            raise CheckFailure(f"in a real loop: {error_summary(error)}") from error
    if not answered:
        raise CheckSkipped(f"it answered none of {len(trial.data)} rows: pass data that it can answer")
    return f"{answered} answers stored, {left} rows left for others"


#: Name -> check, in order of execution.
ORACLE_CHECKS: Mapping[str, Check] = {
    "declaration": check_oracle_declaration,
    "answers": check_answers,
    "same row, same answer": check_answers_repeat,
    "data and randomness": check_data_untouched,
    "real loop": check_oracle_loop,
    "value": check_oracle_value,
}


def oracle_report(oracle: Oracle | type[Oracle], data: Any = None) -> Report:
    """Run all checks on an oracle and return the report. Failed checks do not raise.

    The oracle is asked eight rows about eight times: give a `Client` a cache, or a cap, if its answers cost money.

    Args:
        oracle: instance, or class that can be created without arguments.
        data: `dal.data.Rows` with the classes that the oracle knows; None for generated texts of two classes.
    """

    def run(subject: str, made: Oracle) -> Report:
        rows = default_rows() if data is None else data
        trial = OracleTrial(made, rows, rows.labels.clone())
        return run_checks(subject, ORACLE_CHECKS, trial, first=("declaration", "answers"))

    return report_on(oracle, Oracle, "dal.Oracle", run)


def check_oracle(oracle: Oracle | type[Oracle], data: Any = None) -> Report:
    """Run `oracle_report` and raise if a check failed.

    Raises:
        ConformanceError: a check failed; the message lists the failures, `error.report` holds all results.
    """
    return oracle_report(oracle, data).require()
