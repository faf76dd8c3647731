"""Which answers of people count, from all events of a row, without an index."""

from collections.abc import Sequence

from dal.store.events import Event
from dal.store.row_state import ADJUDICATED


def given_answers(events: Sequence[Event]) -> list[Event]:
    """Answers and skips that were not retracted, in order."""
    retracted = {event.retracts for event in events if event.kind == "retracted"}
    return [event for event in events if event.kind in ("answered", "skipped") and event.event not in retracted]


def latest_answers(events: Sequence[Event]) -> dict[tuple[str, bool], Event]:
    """Latest answer or skip by person and by whether it settles a dispute."""
    return {(event.who or "", event.source == ADJUDICATED): event for event in given_answers(events)}


def current_answers(events: Sequence[Event]) -> list[Event]:
    """Latest answer or skip of each person, whether or not it settles a dispute."""
    return list({event.who: event for event in given_answers(events)}.values())


def is_answered(events: Sequence[Event], who: str) -> bool:
    """Whether the latest answer of a person is no skip. Imported answers are left out."""
    mine = [event for event in given_answers(events) if event.who == who and event.source != "import"]
    return bool(mine) and mine[-1].kind == "answered"
