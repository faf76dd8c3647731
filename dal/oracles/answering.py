"""From what an oracle says to what a session stores."""

from collections.abc import Callable, Iterable, Sequence
from typing import Any

import torch
from torch import Tensor

from dal.oracle import LATER, Annotation, Later, Oracle, StoredAnswers, one_said_per_row
from dal.session import Session
from dal.session.answer_values import by_index
from dal.store.events import SKIP, Skip
from dal.store.unread_answers import Unread


def let_answer(oracle: Oracle, session: Session, check: Callable[[], None] = lambda: None) -> None:
    """Have the oracle answer the pending rows, and store what it says; what it leaves to others stays pending.

    What is said next to the answers, or could not be read, is stored before them, so that nothing of an answered row is
    missing after a kill.

    Args:
        oracle: who answers.
        session: whose pending rows.
        check: called before anything is stored; raises to end the run.

    Raises:
        AnswerError: what it says is not one answer per row, or cannot be stored.
    """
    rows = session.pending
    if not len(rows):
        return
    predicted, record = _predicted(oracle, session, rows), _record(oracle, session)
    answers = oracle.answer_beside(rows, session.pool, predicted, record)
    said = one_said_per_row(oracle, answers, [session.pool.ids[row] for row in rows.tolist()])
    check()
    pairs = list(zip(rows.tolist(), said, strict=True))
    beside = [(row, other) for row, each in pairs for other in each.beside]
    _keep_unread(session, [*beside, *((row, each) for row, each in pairs if each.text is not None)])
    for (who, source), group in _grouped(pair for pair in beside if not isinstance(pair[1].value, Skip | Later)):
        sure, took, cost = _details(group)
        places, values = _columns(group, session.pool.classes)
        session.propose(places, values, weight=0.0, who=who, source=source, confidence=sure, seconds=took, cost=cost)
    told = [(row, each) for row, each in pairs if each.value is not LATER]
    for (who, source), group in _grouped(told):
        sure, took, cost = _details(group)
        places, values = _columns(group, session.pool.classes)
        session.tell(places, values, who=who, source=source, confidence=sure, seconds=took, cost=cost)


def _keep_unread(session: Session, said: Iterable[tuple[int, Annotation]]) -> None:
    """Store what could not be read, with its price: the words of machines that decline their rows."""
    lost = [
        Unread(session.pool.ids[row], each.text or "", each.who, each.source, each.seconds, each.cost)
        for row, each in said
        if each.value is SKIP
    ]
    if lost:
        session.store.keep_unread(lost)


def _predicted(oracle: Oracle, session: Session, rows: Tensor) -> Tensor | None:
    """The present model's predictions, where the oracle wants them and there is a model."""
    if "predictions" not in oracle.needs or not session.trains:
        return None
    outputs = session.predictor.outputs(session.prepared, rows, {"logits"})
    logits: Tensor = outputs.logits.cpu()
    return logits > 0 if outputs.multilabel else logits.argmax(-1)


def _record(oracle: Oracle, session: Session) -> StoredAnswers | None:
    """What is stored, where the oracle wants it: answers up to the batch that is asked now."""
    if "record" not in oracle.needs:
        return None
    return StoredAnswers(session.store.proposals, session.store.standing_before_batch)


_Group = list[tuple[int, Annotation]]


def _grouped(said: Iterable[tuple[int, Annotation]]) -> list[tuple[tuple[str, str], _Group]]:
    """By (who, source), in the order in which they first appear."""
    groups: dict[tuple[str, str], _Group] = {}
    for row, each in said:
        groups.setdefault((each.who, each.source), []).append((row, each))
    return list(groups.items())


def _columns(group: _Group, classes: Sequence[str]) -> tuple[Tensor, Sequence[Any]]:
    """Rows, and what an oracle says of them: its numbers are indices, whatever the classes are called."""
    rows = torch.tensor([row for row, _ in group], dtype=torch.int64)
    return rows, [by_index(each.value, classes) for _, each in group]


def _details(group: _Group) -> tuple[list[float | None], list[float | None], list[float | None]]:
    """Confidences, seconds and costs."""
    columns = [(each.confidence, each.seconds, each.cost) for _, each in group]
    sure, took, cost = (list(column) for column in zip(*columns, strict=True))
    return sure, took, cost
