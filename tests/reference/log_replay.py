"""What stands in a log of questions and answers: a replay of all its events, which a log must agree with."""

from collections import Counter
from collections.abc import Mapping, Sequence

from dal.store.events import Event
from dal.store.label_log import LabelLog
from dal.store.label_store import LabelStore
from dal.store.log_figures import has_answered, known_rows, work_of
from dal.store.log_state import StoreState
from dal.store.row_state import ADJUDICATED, row_state


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


def compare_with_replay(log: LabelLog) -> None:
    """Check all rows, the queue, the classes, the answers of each person and the history."""
    with LabelStore(log.path, access="copy") as store:
        everything = list(store.events())
        compare_store_with_replay(store, everything)
    by_row: dict[str, list[Event]] = {}
    state = StoreState()
    for event in everything:
        state.apply(event)
        if event.row:
            by_row.setdefault(event.row, []).append(event)
    slow = {row: row_state(events, log.reading) for row, events in by_row.items()}
    for row, expected in slow.items():
        found = log.row(row)
        assert (found.state, found.wanted, found.people, found.place) == (
            expected.state,
            expected.wanted,
            expected.people,
            expected.place,
        ), row
        assert found.answer == expected.answer == state.last.get(row)
        assert (row in state.disputed) == (expected.state == "disputed")
        assert (row in state.retired) == (expected.state == "retired")
    assert (
        log.queue()
        == state.queue()
        == sorted((row for row, each in slow.items() if each.place is not None), key=lambda row: slow[row].place or 0)
    )
    assert log.labels_event == state.labels_event
    assert known_rows(log, list(slow)) == {row for row, each in slow.items() if each.state != "new"}
    assert log.counts() == dict(sorted(Counter(each.state for each in slow.values() if each.state != "new").items()))
    _compare_answers(log, by_row)
    answered = [each for each in state.last.values() if each is not None and each.kind == "answered"]
    assert state.answered == len(answered)
    ids = {entry.name: entry.id for entry in log.classes.active}
    full = [each for each in answered if slow[each.row].state == "answered"]  # not those that wait for others
    counts = Counter(number for each in full for number in _class_ids(log, each))
    assert log.class_counts() == {number: counts[number] for number in ids.values()}


def compare_store_with_replay(store: LabelStore, everything: Sequence[Event]) -> None:
    """Check what a session reads: the answers, the queue, the totals and the numbers of events and rounds."""
    state = StoreState()
    for event in everything:
        state.apply(event)
    answers = {row: event.value for row, event in state.current().items() if event.value is not None}
    assert store.answers == answers
    assert {row: value for value, page in store.rows_by_answer() for row in page} == answers
    assert store.answered == state.answered == len(answers)
    declined = {row for row, event in state.last.items() if event is not None and event.kind == "skipped"}
    assert store.skipped == declined | state.disputed
    assert store.pending == state.queue()
    assert store.retired == set(state.retired)
    assert (store.round, store.written[0]) == (state.round, state.event)
    assert (store.labels_event, store.labels_round) == (state.labels_event, state.labels_round)
    rows = list(state.last)
    given = [state.last[row] for row in rows]
    assert store.answers_to(rows) == [None if event is None else state.reading(event) for event in given]
    asked = {event.row: event.round for event in everything if event.kind == "asked"}
    assert store.asked_rounds(event.row for event in everything if event.row) == asked
    assert [row for row in asked if store.was_asked(row)] == [row for row in asked if row in state.asked]
    last = next(reversed(state.given.values()), None)
    before = None if last is None else state.before(last.row)
    value = None if before is None else state.reading(before)
    assert store.last_given == (None if last is None else (last.row, value))
    work = store.work
    assert (work.done, work.paid, +work.current) == (state.work.done, state.work.paid, +state.work.current)
    assert store.answers_before_batch == state.before_batch()


def _class_ids(log: LabelLog, event: Event) -> set[int]:
    """Ids of the classes that an answer counts for; names that were none of a class at the time have no id."""
    stored = [log.classes.id_at(name, event.event) for name in _names(event)]
    finals = [log.classes.final(number) for number in stored if number is not None]
    return {entry.id for entry in finals if entry is not None}


def _names(event: Event) -> tuple[str, ...]:
    return (event.value,) if isinstance(event.value, str) else event.value or ()


def _compare_answers(log: LabelLog, by_row: Mapping[str, list[Event]]) -> None:
    """The answers of each person, and the history, against a slow reference."""
    latest = {row: latest_answers(events) for row, events in by_row.items()}
    for row, given in latest.items():
        counted = {who: each for (who, _), each in sorted(given.items()) if log.reading(each) is not None}
        assert log.answers_by(row).keys() == counted.keys()
        for who in ("ada", "ben"):
            found = log.answers_by(row).get(who)
            mine = [each for (name, _), each in given.items() if name == who and log.reading(each) is not None]
            assert (found and found.event) == (max((each.event for each in mine), default=None))
            assert has_answered(log, row, who) == is_answered(by_row[row], who)
    current = [event for events in by_row.values() for event in current_answers(events)]
    newest = [log.renamed(event) for event in sorted(current, key=lambda event: -event.event)]
    assert log.history(limit=1000) == newest
    assert log.history(who="ada", limit=3) == [event for event in newest if event.who == "ada"][:3]
    for entry in log.classes.active:
        of_class = [event for event in newest if entry.name in _names(event)]
        assert log.history(class_id=entry.id, limit=1000) == of_class
    some = [row for row in by_row if row.endswith("1")]
    assert log.history(rows=some, limit=1000) == [event for event in newest if event.row in some]
    work = {each.who: each.rows for each in work_of(log)}
    assert work == {who: sum(is_answered(events, who) for events in by_row.values()) for who in work}
