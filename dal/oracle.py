"""The contract of what answers the questions without a person at a keyboard."""

import math
from abc import ABC, abstractmethod
from collections.abc import Iterable, Mapping, Sequence, Sized
from dataclasses import dataclass, field, replace
from enum import Enum
from itertools import islice
from typing import Any, Final

from torch import Tensor

from dal.config.moved import accept_old_flags
from dal.errors import AnswerError, printable
from dal.functional.checking import as_number, shown
from dal.store.events import Event
from dal.store.proposals import Proposal


class Later(Enum):
    """What an oracle answers that leaves a row to somebody else; its only member is `LATER`."""

    LATER = "later"


LATER: Final = Later.LATER


@dataclass(frozen=True)
class Annotation:
    """An answer with what is known of it.

    Attributes:
        value: a class name or index, a list of them when multi-label, `dal.store.events.SKIP`, or `LATER`.
        who: the name of the person or model; empty for the oracle's class.
        source: what kind of answerer; empty for the oracle's own `source`.
        confidence: in [0, 1], None when unknown.
        seconds: it took; None when unknown.
        cost: in dollars; None when unknown.
        beside: what others said of the row, whose word does not count: stored as proposals, to be audited.
        text: of a machine that declines the row because its answer could not be read: that answer, verbatim.
    """

    value: Any
    who: str = ""
    source: str = ""
    confidence: float | None = None
    seconds: float | None = None
    cost: float | None = None
    beside: tuple["Annotation", ...] = ()
    text: str | None = None


@dataclass(frozen=True)
class StoredAnswers:
    """What a session has stored, for an oracle that learns from it.

    The answers end where the present batch begins, so that a batch that was half answered when the process was killed
    is answered to its end by the same knowledge.

    Attributes:
        proposals: what was said next to the answers, in order.
        answers: row id -> the answer that stood when the present batch was asked.
    """

    proposals: Sequence[Proposal] = ()
    answers: Mapping[str, Event] = field(default_factory=dict)


class Oracle(ABC):
    """Answers questions about rows. Subclasses are frozen dataclasses: their fields are their options.

    Class attributes (plain and unannotated, so that they do not become options; or properties):
        hides_labels: whether the labels that stand in the data must be hidden from the run, because the answers come
            from them.
        source: what kind of answerer it is, stored with each answer.
        needs: what `answer_beside` is given: "predictions" of the present model, the "record" of what is stored.
    """

    hides_labels = False
    source = "oracle"
    needs = frozenset()  # type: ignore[var-annotated]

    def __init_subclass__(cls, **options: Any) -> None:
        """Take the attributes `reads_predictions` and `reads_record` of version 0.1 for `needs`, with a warning."""
        super().__init_subclass__(**options)
        accept_old_flags(cls, {"reads_predictions": "predictions", "reads_record": "record"})

    @abstractmethod
    def answer(self, rows: Tensor, data: Any) -> Sequence[Any]:
        """One answer per row of the `dal.data.Rows` `data`, in order.

        An answer is a class name or index, a list of them when multi-label, `dal.SKIP`, or an `Annotation` that holds
        one of them. The same question should get the same answer, or a run that was killed cannot be repeated.

        Args:
            rows: (n,) int64.
        """

    def answer_beside(
        self, rows: Tensor, data: Any, predicted: Tensor | None, record: StoredAnswers | None = None
    ) -> Sequence[Any]:
        """The same, by an oracle that looks at the present model's predictions, or at what is stored, too.

        Args:
            rows: (n,) int64.
            data: a `dal.data.Rows`.
            predicted: (n,) int64, or (n, C) bool when multi-label; None while there is no model.
            record: what is stored; None where it is not wanted.
        """
        return self.answer(rows, data)

    def said(self, answer: Any) -> Annotation:
        """One of its answers with all that is known of it: its own name and kind where the answer names no other."""
        said = answer if isinstance(answer, Annotation) else Annotation(answer)
        return replace(said, who=said.who or type(self).__name__, source=said.source or self.source)


def one_said_per_row(oracle: Oracle, answers: Any, ids: Sequence[str]) -> list[Annotation]:
    """The answers of an oracle, perhaps a plugin, to the rows with these ids, once it is sure that they can be stored.

    Raises:
        AnswerError: it is not one answer per row, or a figure beside an answer is none.
    """
    name = type(oracle).__name__
    if isinstance(answers, str | bytes | Mapping) or not isinstance(answers, Iterable):
        raise AnswerError(f"{name} must give a list of answers, one per row, not {shown(answers)} (nothing was stored)")
    given = list(islice(answers, len(ids) + 1))  # a generator may have no end
    if len(given) != len(ids):
        count = len(answers) if isinstance(answers, Sized) else f"{len(given)}{' or more' * (len(given) > len(ids))}"
        raise AnswerError(
            f"{name} gave {count} answers to {len(ids)} rows: an oracle gives one answer per row, in their order "
            "(nothing was stored)"
        )
    said = [oracle.said(answer) for answer in given]
    for row, each in zip(ids, said, strict=True):
        for word in (each, *each.beside):
            _check_figures(name, row, word)
    return said


def _check_figures(name: str, row: str, said: Annotation) -> None:
    for figure, most in (("confidence", 1.0), ("seconds", math.inf), ("cost", math.inf)):
        value = getattr(said, figure)
        known = as_number(value)
        if value is not None and (known is None or not 0 <= known <= most or math.isinf(known)):
            wanted = "from 0 to 1" if most == 1 else "finite and not negative"
            raise AnswerError(
                f"{name} gave the answer to row {printable(row)!r} with a {figure} of {shown(value)}: it must be a "
                f"number {wanted}, or None (nothing was stored)"
            )
