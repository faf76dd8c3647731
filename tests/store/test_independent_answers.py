"""Which answers count for agreement: those given before the person could see the other one's."""

from collections.abc import Callable
from itertools import count

import pytest

from dal.store.events import Answer, Skip
from dal.store.label_log import LabelLog
from dal.store.log_figures import several_answers

Step = Callable[[LabelLog], object]
numbers = count()


def says(who: str, value: str | Skip, *, page: bool = True) -> Step:
    """A person answers, or changes the answer, on the page or by the Python interface."""

    def step(log: LabelLog) -> None:
        stands = log.answers_by("a").get(who)
        replaces = None if stands is None else stands.event
        seen = {} if page else None
        log.answer("a", value, who=who, key=f"key{next(numbers)}", replaces=replaces, seen=seen)

    return step


def undoes(who: str) -> Step:
    return lambda log: log.undo_of(who, key=f"key{next(numbers)}")


def counted(*steps: Step, wanted: int = 2) -> dict[str, object]:
    """The answers that count, by person."""
    log = LabelLog(None)
    log.change_classes({"do": "add", "name": "x"})
    log.change_classes({"do": "add", "name": "y"})
    log.ask(["a", "b"], wanted={"a": wanted})
    for step in steps:
        step(log)
    return {event.who or "": event.value for answers in several_answers(log) for event in answers}


def test_two_first_answers_are_independent() -> None:
    assert counted(says("ana", "x"), says("ben", "y")) == {"ana": "x", "ben": "y"}


def test_answer_that_was_changed_after_the_other_was_visible_counts_as_it_was_first_given() -> None:
    assert counted(says("ana", "x"), says("ben", "y"), says("ana", "y")) == {"ana": "x", "ben": "y"}
    assert counted(says("ana", "x"), says("ben", "y"), says("ben", "x")) == {"ana": "x", "ben": "y"}
    assert counted(says("ana", "x"), says("ben", "y"), says("ana", Skip.SKIP)) == {"ana": "x", "ben": "y"}


def test_correction_before_anybody_else_answered_is_independent() -> None:
    assert counted(says("ana", "x"), says("ana", "y"), says("ben", "y")) == {"ana": "y", "ben": "y"}
    assert counted(says("ana", "x"), undoes("ana"), says("ana", "y"), says("ben", "y")) == {"ana": "y", "ben": "y"}


def test_answer_that_was_undone_after_the_other_was_visible_does_not_count() -> None:
    assert counted(says("ana", "x"), says("ben", "y"), undoes("ana"), says("ana", "y")) == {}


def test_answer_that_was_undone_before_the_other_answered_is_blind_again() -> None:
    steps = says("ana", "x"), undoes("ana"), says("ben", "y"), says("ana", "y")
    assert counted(*steps) == {"ana": "y", "ben": "y"}


def test_third_person_who_could_see_both_answers_does_not_count() -> None:
    first = says("ana", "x"), says("ben", "y")
    assert counted(*first, says("cem", "y")) == {"ana": "x", "ben": "y"}
    assert counted(*first, says("cem", "y", page=False)) == {"ana": "x", "ben": "y", "cem": "y"}
    assert counted(*first, says("cem", "y"), wanted=3) == {"ana": "x", "ben": "y", "cem": "y"}


def test_person_who_could_have_seen_an_answer_before_it_was_undone_does_not_count() -> None:
    steps = says("ana", "x"), says("ben", "y"), undoes("ben"), says("cem", "y")
    assert counted(*steps) == {}


def test_correction_of_another_persons_answer_is_no_second_opinion() -> None:
    assert counted(says("ana", "x"), says("ben", "y"), wanted=1) == {}


def test_adjudicated_answer_is_nobodys_second_answer() -> None:
    steps = says("ana", "x"), says("ben", "y"), lambda log: log.adjudicate("a", "x", who="ana", key="decided")
    assert counted(*steps) == {"ana": "x", "ben": "y"}


@pytest.mark.parametrize("wanted", [1, 2])
def test_imported_answers_of_two_people_count(wanted: int) -> None:
    answers = [Answer("a", "x", "ana", "import"), Answer("a", "y", "ben", "import")]
    assert counted(lambda log: log.tell(answers), wanted=wanted) == {"ana": "x", "ben": "y"}
