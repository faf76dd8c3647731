"""Which answers of several people to a row are independent: given before the person could see another one's answer."""

from collections.abc import Sequence

from dal.store.events import Event
from dal.store.row_state import ADJUDICATED

_GIVEN = ("answered", "skipped")


def independent_answers(events: Sequence[Event]) -> list[Event]:
    """The latest answer or skip of each person to a row that was given blind and was not retracted.

    Answers of others are hidden from people who may still be asked about a row. They can be seen by those who have
    answered it themselves, and by everybody once the wanted number of people has answered. So a first answer is blind,
    except one given on the page to such a complete row, and a change is blind only if nobody else had answered before.
    An answer that is changed later counts as it was given first. Whether imported answers were blind is not known; the
    latest one of each person counts. Adjudicated answers are left out.

    Args:
        events: all events of one row, in order.
    """
    ends = {event.retracts: event.event for event in events if event.kind == "retracted"}
    given = [event for event in events if event.kind in _GIVEN]
    wanted, found = 1, dict[str, Event]()
    for event in events:
        if event.kind == "asked":
            wanted = event.wanted or 1
        elif event.kind == "withdrawn":
            wanted = 1
        if event.kind not in _GIVEN or event.source == ADJUDICATED or event.event in ends:
            continue
        if event.source == "import" or _is_blind(event, given, ends, wanted):
            found[event.who or ""] = event
    return list(found.values())


def _is_blind(event: Event, given: Sequence[Event], ends: dict[int | None, int], wanted: int) -> bool:
    """Whether a person could not have seen the answer of another one before hers.

    Args:
        event: the answer.
        given: all answers and skips of the row, in order.
        ends: number of the event that retracted an answer, by number of the answer.
        wanted: number of people who were to answer the row.
    """
    before = [each for each in given if each.event < event.event]
    others = [each for each in before if each.who != event.who]
    for own in before:
        if own.who == event.who:
            end = ends.get(own.event, event.event)  # until then she had an answer, and saw those of others
            if any(other.event < end for other in others):
                return False
    people = {other.who for other in others if ends.get(other.event, event.event) >= event.event}
    on_page = event.seen is not None  # others, such as sheets, show nobody's answers
    return not (on_page and len(people) >= wanted)
