"""State of a single row: what its events say, and which of several answers stands."""

from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Final

from dal.store.events import Event, Skip, Value

#: States of rows in the log. A row without a state was never asked or answered.
PENDING, ANSWERED, DECLINED, DISPUTED, RETIRED = "pending", "answered", "declined", "disputed", "retired"
NEW = "new"

#: Source of an answer that settles a dispute.
ADJUDICATED: Final = "adjudicated"

#: Meaning of an answer in the current classes: names, `SKIP`, or None for a class that was retired.
Reading = Callable[[Event], Value | Skip | None]


@dataclass(frozen=True)
class RowState:
    """State of a row.

    Attributes:
        state: "new", "pending", "answered", "declined", "disputed" or "retired". A row that waits for a second person
            is pending, whatever its first answer is.
        wanted: number of people who are to answer it.
        people: number of people with an answer or a skip that was not retracted.
        answer: the answer or skip that stands; None if there is none, or in dispute.
        place: key of the order in which pending rows are asked; None if not pending.
        asked: round in which it was queried; None if it was not.
    """

    state: str = NEW
    wanted: int = 1
    people: int = 0
    answer: Event | None = None
    place: int | None = None
    asked: int | None = None


def front_place(event: int) -> int:
    """Place of a row whose answer event `event` retracted: asked next, since the annotator wants to correct it."""
    return -event


def deferred_place(event: int) -> int:
    """Place of a row that event `event` deferred: after all rows that were not deferred."""
    return (1 << 40) + event


def standing_answer(counted: Sequence[Event], wanted: int, reading: Reading) -> tuple[Event | None, bool]:
    """The answer that stands among the answers of all people to one row, and whether they are in dispute.

    Of each person the latest one counts, unless its classes were retired: an answer that she replaced never comes back.
    With one person wanted the latest of these stands. With several an adjudicated one does; else theirs if they agree,
    or that of more than half of at least three people; else none, which is a dispute.

    Args:
        counted: answers and skips that count, see `counted_answers`.
        wanted: number of people who are to answer.
        reading: meaning of an answer in the current classes.
    """
    if not counted:
        return None, False
    if wanted <= 1:
        return counted[-1], False
    settled = [event for event in counted if event.source == ADJUDICATED]
    if settled:
        return settled[-1], False
    votes = Counter(_comparable(reading(event)) for event in counted)
    value, most = votes.most_common(1)[0]
    if len(votes) > 1 and (len(counted) < 3 or 2 * most <= len(counted)):
        return None, True
    return [each for each in counted if _comparable(reading(each)) == value][-1], False


def counted_answers(given: Iterable[Event], reading: Reading) -> list[Event]:
    """The latest answer or skip of each person to one row, without those whose classes were retired, in order.

    Adjudicated answers are records of their own: they replace no answer of the person who gave them.

    Args:
        given: answers and skips that were not retracted, in order.
        reading: meaning of an answer in the current classes.
    """
    latest: dict[tuple[str, bool], Event] = {}
    for event in given:
        person = event.who or "", event.source == ADJUDICATED
        latest.pop(person, None)  # so that the values stay in order
        latest[person] = event
    return [event for event in latest.values() if reading(event) is not None]


def wanted_people(given: Iterable[Event], asked: int) -> int:
    """Number of people whose answers to a row count: those that were asked, or more who answered without that.

    Args:
        given: answers and skips that were not retracted.
        asked: number of people who are to answer, according to the query.
    """
    return max([asked, *(event.wanted or 1 for event in given)])


def _comparable(value: Value | Skip | None) -> object:
    """A value that equals that of another answer with the same classes in another order."""
    return frozenset(value) if isinstance(value, tuple) else value


def row_state(events: Iterable[Event], reading: Reading) -> RowState:
    """State of a row after all of its events, in order.

    Args:
        events: the events of the row.
        reading: meaning of an answer in the current classes.
    """
    given: dict[int, Event] = {}
    deferrals: dict[int, Event] = {}
    retired: set[int] = set()
    wanted, asked, place = 1, None, None
    front: int | None = None
    for event in events:
        if event.kind == "asked":
            wanted, asked, place, front = event.wanted or 1, event.round, event.event, None
            deferrals.clear()
        elif event.kind == "withdrawn":
            wanted, asked, place, front = 1, None, None, None
            deferrals.clear()
        elif event.kind in ("answered", "skipped"):
            given[event.event] = event
        elif event.kind == "deferred":
            deferrals[event.event] = event
            front = None
        elif event.kind == "retired":
            retired.add(event.event)
        elif event.kind == "retracted" and event.retracts is not None:
            retired.discard(event.retracts)
            if given.pop(event.retracts, None) is not None or deferrals.pop(event.retracts, None) is not None:
                front = event.event
    wanted = wanted_people(given.values(), wanted)
    counted = counted_answers(given.values(), reading)
    answer, disputed = standing_answer(counted, wanted, reading)
    people = len({event.who or "" for event in counted})
    settled = any(event.source == ADJUDICATED for event in counted)
    state = NEW
    if retired:
        state, answer = RETIRED, None
    elif asked is not None and people < wanted and not settled:
        state = PENDING
    elif disputed:
        state = DISPUTED
    elif answer is not None:
        state = ANSWERED if answer.kind == "answered" else DECLINED
    if state == NEW:  # also with answers of retired classes only, which may have wanted several people
        return RowState()
    if state != PENDING:
        return RowState(state, wanted, people, answer, None, asked)
    if front is not None:
        place = front_place(front)
    elif deferrals:
        place = deferred_place(max(deferrals))
    return RowState(state, wanted, people, answer, place, asked)
