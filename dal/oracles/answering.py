"""Store the answers of an oracle in a session."""

from collections.abc import Callable, Iterable, Sequence
from typing import Any

import torch
from torch import Tensor

from dal.oracle import LATER, Annotation, Later, Oracle, StoredAnswers, checked_annotations
from dal.session import Session
from dal.session.answer_values import by_index
from dal.store.events import SKIP, Skip
from dal.store.unread_answers import Unread


def answer_pending(oracle: Oracle, session: Session, check: Callable[[], None] = lambda: None) -> None:
    """Have the oracle answer the pending rows of a session and store the answers.

    Rows answered with `LATER` stay pending. Proposals and unparsed replies are stored before the answers, so that an
    answered row is complete even if the process is killed in between.

    Args:
        oracle: source of the answers.
        session: session with the pending rows.
        check: callback before anything is stored; raises to end the run.

    Raises:
        AnswerError: there is not exactly one answer per row, or an answer cannot be stored.
    """
    rows = session.pending
    if not len(rows):
        return
    predicted, record = _predicted(oracle, session, rows), None
    if "record" in oracle.needs:
        record = StoredAnswers(session.store.proposals, session.store.answers_before_batch)
    answers = oracle.answer_with_context(rows, session.pool, predicted, record)
    annotations = checked_annotations(oracle, answers, [session.pool.ids[row] for row in rows.tolist()])
    check()
    pairs = list(zip(rows.tolist(), annotations, strict=True))
    proposals = [(row, other) for row, each in pairs for other in each.proposals]
    _keep_unread(session, [*proposals, *((row, each) for row, each in pairs if each.text is not None)])
    proposed = [(row, each) for row, each in proposals if not isinstance(each.value, Skip | Later)]
    for (who, source), group in _grouped(proposed):
        confidence, seconds, cost = _details(group)
        indices, values = _columns(group, session.pool.classes)
        session.propose(
            indices, values, weight=0.0, who=who, source=source, confidence=confidence, seconds=seconds, cost=cost
        )
    answered = [(row, each) for row, each in pairs if each.value is not LATER]
    for (who, source), group in _grouped(answered):
        confidence, seconds, cost = _details(group)
        indices, values = _columns(group, session.pool.classes)
        session.tell(indices, values, who=who, source=source, confidence=confidence, seconds=seconds, cost=cost)


def _keep_unread(session: Session, annotations: Iterable[tuple[int, Annotation]]) -> None:
    """Store the declined rows among the annotations as unparsed replies, with their cost."""
    unread = [
        Unread(session.pool.ids[row], each.text or "", each.who, each.source, each.seconds, each.cost)
        for row, each in annotations
        if each.value is SKIP
    ]
    if unread:
        session.store.keep_unread(unread)


def _predicted(oracle: Oracle, session: Session, rows: Tensor) -> Tensor | None:
    """The current model's predictions; None if the oracle does not need them or there is no model."""
    if "predictions" not in oracle.needs or not session.trains:
        return None
    outputs = session.predictor.outputs(session.prepared, rows, {"logits"})
    return outputs.decisions.cpu()


_Group = list[tuple[int, Annotation]]


def _grouped(annotations: Iterable[tuple[int, Annotation]]) -> list[tuple[tuple[str, str], _Group]]:
    """Group the annotations by (who, source), in order of first appearance."""
    groups: dict[tuple[str, str], _Group] = {}
    for row, each in annotations:
        groups.setdefault((each.who, each.source), []).append((row, each))
    return list(groups.items())


def _columns(group: _Group, classes: Sequence[str]) -> tuple[Tensor, Sequence[Any]]:
    """Rows (n,) and their values. Integers are class indices, even if a class has a number as its name."""
    rows = torch.tensor([row for row, _ in group], dtype=torch.int64)
    return rows, [by_index(each.value, classes) for _, each in group]


def _details(group: _Group) -> tuple[list[float | None], list[float | None], list[float | None]]:
    """Confidences, seconds and costs."""
    columns = [(each.confidence, each.seconds, each.cost) for _, each in group]
    confidence, seconds, cost = (list(column) for column in zip(*columns, strict=True))
    return confidence, seconds, cost
