"""Which answers of several people to a row are independent: given before the person could see another one's answer."""

from collections.abc import Sequence

from dal.store.events import Event
from dal.store.label_log import IMPORTED
from dal.store.row_state import ADJUDICATED

_GIVEN = ("answered", "skipped")


def independent_answers(events: Sequence[Event]) -> list[Event]:
    """The latest answer or skip of each person to a row that was given blind and was not retracted.

    Answers of others are hidden from people who may still be asked about a row. They can be seen by those who have
    answered it themselves, and by everybody once the wanted number of people has answered. So a first answer is blind,
    except one given on the page to such a complete row, and a change is blind if nobody else had answered before. An
    answer that is changed later counts as it was given first. Whether imported answers were blind is not known; the
    latest one of each person counts. Adjudicated answers are left out.

    Args:
        events: all events of one row, in order.
    """
    given = [event for event in events if event.kind in _GIVEN]
    retracted = {event.retracts for event in events if event.kind == "retracted"}
    people = {event.who or "" for event in given}
    standing: dict[int, Event] = {}
    saw, could_see = set[str](), set[str]()  # another one's answer: next to their own, or on a complete row
    found: dict[str, Event] = {}
    wanted = 1
    for event in events:
        who = event.who or ""
        if event.kind == "asked":
            wanted = event.wanted or 1
        elif event.kind == "withdrawn":
            wanted = 1
        elif event.kind in _GIVEN:
            on_page = event.seen is not None  # others, such as sheets, show nobody's answers
            blind = who not in saw and not (on_page and who in could_see)
            if (blind or event.source == IMPORTED) and event.source != ADJUDICATED and event.event not in retracted:
                found[who] = event
            standing[event.event] = event
        elif event.retracts is not None:
            standing.pop(event.retracts, None)
        answered = {each.who or "" for each in standing.values()}
        decided = any(each.source == ADJUDICATED for each in standing.values())
        for person in people:
            others = answered - {person}
            if others and person in answered:
                saw.add(person)
            elif others and (decided or len(others) >= wanted):
                could_see.add(person)
    return list(found.values())
