from dataclasses import replace

import pytest

from dal.errors import ConfigError
from dal.evaluation import Prices, costs, sources
from dal.experiments.recorded_work import recorded_work
from dal.stopping.recorded_figures import spent
from dal.store.events import Event
from dal.store.log_state import current_answers
from dal.store.proposals import Proposal
from dal.store.unread_answers import Unread


def told(row, kind="answered", source="person", seconds=None, cost=None, who=""):
    return Event(1, kind, 0.0, 1, row, value="a", who=who, source=source, seconds=seconds, cost=cost)


def test_stored_costs_and_times_take_the_place_of_prices():
    events = [told("a"), told("b", cost=2.0), told("c", seconds=60.0), told("d", "skipped"), told("e", "asked")]
    found = costs(recorded_work(events), Prices(per_label=1.0, per_hour=36.0, seconds_per_label=10.0))
    assert found["llm"] == 2.0
    assert found["labels"] == pytest.approx(3 * 1.0 + 36.0 * (10 + 60 + 10) / 3600)
    assert found["annotator_seconds"] == pytest.approx(10 + 10 + 60 + 10)


def test_answers_of_a_language_model_take_no_price_and_no_time_of_people():
    events = [told("a", source="llm", seconds=3.0, cost=0.01), told("b", source="llm")]
    found = costs(recorded_work(events), Prices(per_label=1.0, per_hour=36.0, seconds_per_label=10.0))
    assert found == {"labels": 0.0, "llm": 0.01, "annotator_seconds": 0.0}


def test_what_nobody_knows_is_none_and_not_0():
    assert costs(recorded_work([told("a")]), Prices()) == {"labels": None, "llm": 0.0, "annotator_seconds": None}
    assert costs(recorded_work([told("a")]), Prices(per_hour=40.0))["labels"] is None
    assert costs(recorded_work([told("a", seconds=36.0), told("b")]), Prices(per_hour=100.0))["labels"] == 1.0


def test_before_any_answer_nothing_was_spent():
    assert costs(recorded_work([]), Prices(per_hour=40.0)) == {"labels": 0.0, "llm": 0.0, "annotator_seconds": 0.0}


@pytest.mark.parametrize("price", [-1.0, float("nan"), float("inf")])
def test_price_that_is_none_is_refused(price):
    with pytest.raises(ConfigError, match="price_per_hour must be at least 0"):
        Prices(per_hour=price)


def test_proposal_that_became_the_answer_is_paid_once_and_all_others_too():
    events = [
        told("own", source="llm", cost=0.5, who="gpt"),
        told("routed", source="llm", who="gpt"),
        told("checked", source="person"),
    ]
    proposals = [
        Proposal("own", "a", "gpt", "llm", cost=0.5),  # the same as its answer
        Proposal("routed", "a", "gpt", "llm", cost=0.25),  # its answer is stored without a cost
        Proposal("routed", "a", "llama", "llm", cost=0.125),  # another machine
        Proposal("checked", "b", "gpt", "llm", cost=4.0),  # said once before a kill, and again after it
        Proposal("checked", "b", "gpt", "llm", cost=4.0),
        Proposal("own", "a", "gpt", "weak", cost=8.0),  # another question about the same row
    ]
    assert costs(recorded_work(events, proposals), Prices())["llm"] == 0.5 + 0.25 + 0.125 + 4.0 + 8.0
    found = sources(recorded_work(events, proposals), Prices())
    assert found["llm"] == {"answers": 2, "proposals": 3, "unread": 0, "dollars": 4.875, "seconds": None}
    assert found["weak"] == {"answers": 0, "proposals": 1, "unread": 0, "dollars": 8.0, "seconds": None}
    assert found["person"]["answers"] == 1


def test_what_could_not_be_read_is_paid_once_and_counted():
    events = [told("own", "skipped", source="llm", cost=0.5, who="gpt"), told("routed"), told("again")]
    unread = [
        Unread("own", "?", "gpt", "llm", cost=0.5),  # the same as the row that it declined
        Unread("routed", "?", "gpt", "llm", cost=0.25, seconds=3.0),
        Unread("again", "?", "llama", "llm", cost=2.0),  # once before a kill, and again after it
        Unread("again", "?", "llama", "llm", cost=2.0),
    ]
    assert costs(recorded_work(events, unread=unread), Prices(per_label=1.0)) == {
        "labels": 2.0,
        "llm": 2.75,
        "annotator_seconds": None,
    }
    found = sources(recorded_work(events, unread=unread), Prices(per_label=1.0))
    assert found["llm"] == {"answers": 0, "proposals": 0, "unread": 3, "dollars": 2.75, "seconds": 3.0}
    assert found["person"]["dollars"] == 2.0
    assert spent(events, 2, unread=unread)["dollars"] == 2.75


def test_dollars_of_the_sources_add_up_to_what_it_cost():
    prices = Prices(per_label=1.0, per_hour=36.0, seconds_per_label=10.0)
    events = [
        told("a"),
        told("b", cost=2.0),
        told("c", seconds=60.0),
        told("d", "skipped", source="simulated"),
        told("e", source="llm", cost=0.5, seconds=1.0),
        told("f", "asked"),
    ]
    proposals = [Proposal("a", "x", "m", "llm", cost=0.25, seconds=2.0), Proposal("z", "x", "m", "weak", cost=0.125)]
    total, found = costs(recorded_work(events, proposals), prices), sources(recorded_work(events, proposals), prices)
    assert sum(each["dollars"] for each in found.values()) == pytest.approx(total["labels"] + total["llm"])
    people = found["person"]["seconds"] + found["simulated"]["seconds"]
    assert people == total["annotator_seconds"]
    assert {name: each["answers"] for name, each in found.items()} == {"person": 3, "simulated": 0, "llm": 1, "weak": 0}
    assert found["llm"]["seconds"] == 3.0


def test_answers_that_stand_are_those_that_were_not_retracted_but_their_work_was_done():
    given = [told("a", source="llm", cost=1.0), told("a"), told("b"), told("b", "retracted"), told("a", "retracted")]
    numbers = [(1, None), (2, None), (3, None), (4, 3), (5, 2)]
    events = [replace(each, event=n, retracts=r) for each, (n, r) in zip(given, numbers, strict=True)]
    assert {row: event.source for row, event in current_answers(events).items()} == {"a": "llm"}
    found = sources(recorded_work(events), Prices(per_label=2.0))
    assert {name: each["answers"] for name, each in found.items()} == {"llm": 1, "person": 0}
    assert found["person"]["dollars"] == 4.0


def test_nothing_is_known_of_sources_before_anybody_said_something():
    assert sources(recorded_work([]), Prices(per_label=2.0)) == {}
