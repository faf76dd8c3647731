"""Answers of several people that come from outside the page, stored as the page would: contradictions are disputes."""

import hashlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from dal.data.label_cells import Answer as Given
from dal.data.label_cells import shown_answer
from dal.errors import shortened
from dal.formats.foreign_answers import ForeignAnswer, refuse_mistakes
from dal.store.events import Answer, Event, Skip, Value
from dal.store.label_log import LabelLog
from dal.store.log_figures import has_key
from dal.store.row_state import NEW
from dal.store.visible_names import is_visible


@dataclass(frozen=True)
class StoredAnswers:
    """What storing answers changed.

    Attributes:
        new: number of answers that were stored.
        known: number of answers that were stored before.
        disputed: ids of the rows on which people disagree since then.
    """

    new: int
    known: int
    disputed: tuple[str, ...] = ()


def store_answers(log: LabelLog, answers: Iterable[ForeignAnswer], *, source: str = "person") -> StoredAnswers:
    """Store people's answers and notes in one transaction, those that repeat a person's current answer excepted.

    From the second person's answer to a row on, the answers of all of them count: rows on which they disagree are in
    dispute until somebody adjudicates. An answer of nobody in particular replaces the earlier one.

    Args:
        log: log of the rows.
        answers: the answers, checked against rows and classes. One whose key is stored already stores nothing.
        source: kind of annotator, see `Answer`.
    """
    new = known = 0
    disputed: dict[str, None] = {}
    with log.changing():
        for answer in answers:
            by_person = log.answers_by(answer.row)
            value = stored_form(answer.value)
            before = by_person.get(answer.who)
            if (answer.key and has_key(log, answer.key)) or _repeats(log, answer, value, before):
                known += 1
            else:
                people = named_people(by_person) | {answer.who}
                wanted = len(people) if answer.who and len(people) > 1 else None
                seen = None if answer.seen is None else dict(answer.seen)
                log.tell(
                    [
                        Answer(
                            answer.row,
                            value,
                            answer.who,
                            source,
                            answer.seconds,
                            key=answer.key or None,
                            seen=seen,
                            wanted=wanted,
                        )
                    ]
                )
                new += 1
                disputed[answer.row] = None
            store_notes(log, [answer])
        states = log.states(list(disputed))
    return StoredAnswers(new, known, tuple(row for row in disputed if states[row].state == "disputed"))


def _repeats(log: LabelLog, answer: ForeignAnswer, value: Value | Skip, before: Event | None) -> bool:
    """Whether an answer repeats the person's current one. Another annotation with the same classes does not: the first
    one may be deleted, and the person has still answered.
    """
    if before is None or not is_same(log, before, value):
        return False
    first, second = (key.rpartition(":")[0] for key in (before.key or "", answer.key))
    return first == second or first.partition(":")[0] != second.partition(":")[0]


def store_notes(log: LabelLog, answers: Iterable[ForeignAnswer]) -> None:
    """Store the notes of answers, each once."""
    with log.changing():
        for answer in answers:
            if is_visible(answer.note):
                digest = hashlib.sha256(answer.note.encode("utf-8", "surrogatepass")).hexdigest()[:16]
                log.note(answer.row, answer.note, who=answer.who, key=f"note:{answer.who}:{answer.row}:{digest}")


def check_answers(path: Path, log: LabelLog, answers: Sequence[ForeignAnswer], *, correct: bool = False) -> None:
    """Check that answers may be stored: a person changes her own only on request, and rows were asked or answered.

    Args:
        path: file of the answers, for the message.
        log: log of the rows.
        answers: one answer per row and person.
        correct: accept rows that were not asked, and changes of a person's own answers.

    Raises:
        AnswerError: lists what may not be stored.
    """
    mistakes = []
    for answer in answers:
        by_person = log.answers_by(answer.row)
        if correct or may_add(by_person, answer.who):
            continue
        value, row = stored_form(answer.value), f"the row {shortened(answer.row)!r}"
        before = by_person.get(answer.who) or next(reversed(by_person.values()), None)
        if before is None:
            if log.row(answer.row).state == NEW:
                mistakes.append(f"{answer.place}: {row} was not asked (--correct accepts it anyway)")
        elif not is_same(log, before, value):
            mistakes.append(
                f"{answer.place}: {row} is answered {shown_answer(log.reading(before))} already, not "
                f"{shown_answer(value)} (--correct changes it)"
            )
    refuse_mistakes(path, mistakes)


def may_add(by_person: Mapping[str, Event], who: str) -> bool:
    """Whether an answer is that of a further person: somebody named who has not answered the row, as others have."""
    return bool(who) and who not in by_person and bool(named_people(by_person))


def named_people(by_person: Mapping[str, Event]) -> set[str]:
    """Names of the people who have answered a row. An answer without a name may be anybody's, also one of theirs."""
    return {who for who in by_person if who}


def stored_form(value: Given) -> Value | Skip:
    """An answer as the log holds it."""
    return tuple(value) if isinstance(value, list) else value


def is_same(log: LabelLog, event: Event | None, value: Value | Skip) -> bool:
    """Whether an event is an answer with the same classes."""
    if event is None:
        return False
    reading = log.reading(event)
    if isinstance(reading, tuple) and isinstance(value, tuple):
        return set(reading) == set(value)
    return reading == value
