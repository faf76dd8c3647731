"""Checks of answers: new ones against the current answers and the classes, stored ones against the classes."""

from collections.abc import Sequence
from typing import Any

from dal.data.label_values import listing
from dal.errors import SessionError
from dal.session.answer_values import AnswerDecoder, Given, Mistakes
from dal.session.pool_state import PoolState
from dal.store.events import Skip, Value
from dal.store.label_store import LabelStore


def new_answers(
    rows: Sequence[int],
    given: Sequence[Given],
    *,
    pool: Any,
    classes: AnswerDecoder,
    state: PoolState,
    store: LabelStore,
    correct: bool,
) -> dict[int, tuple[int, Value | Skip]]:
    """Decode and check annotations; return (row, value) of the new ones by position in the call.

    An annotation that repeats the current answer of its row is not new.

    Args:
        rows: rows of the pool.
        given: one annotation per row.
        pool: the `dal.data.Rows` of the pool.
        classes: decoder for the pool's classes.
        state: state of the pool.
        store: label store with the current answers.
        correct: accept rows that are not pending.

    Raises:
        AnswerError: lists all values that are not classes and all rows that are not pending.
    """
    new: dict[int, tuple[int, Value | Skip]] = {}
    accepted: dict[int, Value | Skip] = {}
    mistakes = Mistakes()
    inside = [row for row in rows if 0 <= row < len(pool)]
    ids = list(pool.ids.take(inside))
    current = dict(zip(inside, zip(ids, store.answers_to(ids), state.is_pending(inside), strict=True), strict=True))
    for position, (row, item) in enumerate(zip(rows, given, strict=True)):
        if row not in current:
            mistakes.add("row {} is outside the pool of {}", row, len(pool))
            continue
        id, before, pending = current[row]
        try:
            value = classes.read(item, hint=mistakes.listed)
        except ValueError as error:
            mistakes.add("row {}: {}", id, error)
            continue
        answer = accepted.get(row, before)
        if row in accepted and accepted[row] != value:
            mistakes.add("row {}: two answers, {} and {}", id, accepted[row], value)
        elif answer == value:
            continue
        elif not pending and not correct:
            was = "was never asked" if answer is None else "was answered {} before"
            parts = [value] if answer is None else [answer, value]
            mistakes.add("row {} is not pending: it " + was + "; correct=True stores {} anyway", id, *parts)
        else:
            new[position] = (row, value)
            accepted[row] = value
    mistakes.refuse()
    return new


def check_stored_answers(answers: Sequence[Value], classes: AnswerDecoder, where: Any) -> None:
    """Check stored answers against the classes of the data.

    Args:
        answers: class names of answers; it is enough to give each answer once, of however many rows.
        classes: decoder for the classes of the data.
        where: path of the store, for the message; None in memory.

    Raises:
        SessionError: an answer is not a class of the data, or is single-label and the data multi-label, or the reverse.
    """
    kind, where = tuple if classes.multilabel else str, where or "the store"
    if not all(isinstance(value, kind) for value in answers):
        kinds = ("multi-label", "single-label")
        now, then = kinds if classes.multilabel else kinds[::-1]
        raise SessionError(f"{where} holds {then} answers, but the data is {now}")
    names = {name for value in answers for name in ([value] if isinstance(value, str) else value)}
    unknown = classes.unknown(names)
    if unknown:
        raise SessionError(
            f"{where} holds answers of the classes {listing(unknown)}, which the data does not have; it has "
            f"{listing(classes.names)}"
        )
