import pytest

from dal.errors import ConfigError
from dal.evaluation import Prices, costs
from dal.labels import Event


def told(row, kind="answered", source="person", seconds=None, cost=None):
    return Event(1, kind, 0.0, 1, row, value="a", source=source, seconds=seconds, cost=cost)


def test_stored_costs_and_times_take_the_place_of_prices():
    events = [told("a"), told("b", cost=2.0), told("c", seconds=60.0), told("d", "skipped"), told("e", "asked")]
    found = costs(events, Prices(per_label=1.0, per_hour=36.0, seconds_per_label=10.0))
    assert found["llm"] == 2.0
    assert found["labels"] == pytest.approx(3 * 1.0 + 36.0 * (10 + 60 + 10) / 3600)
    assert found["annotator_seconds"] == pytest.approx(10 + 10 + 60 + 10)


def test_answers_of_a_language_model_take_no_price_and_no_time_of_people():
    events = [told("a", source="llm", seconds=3.0, cost=0.01), told("b", source="llm")]
    found = costs(events, Prices(per_label=1.0, per_hour=36.0, seconds_per_label=10.0))
    assert found == {"labels": 0.0, "llm": 0.01, "annotator_seconds": 0.0}


def test_what_nobody_knows_is_none_and_not_0():
    assert costs([told("a")], Prices()) == {"labels": None, "llm": 0.0, "annotator_seconds": None}
    assert costs([told("a")], Prices(per_hour=40.0))["labels"] is None
    assert costs([told("a", seconds=36.0), told("b")], Prices(per_hour=100.0))["labels"] == 1.0


def test_before_any_answer_nothing_was_spent():
    assert costs([], Prices(per_hour=40.0)) == {"labels": 0.0, "llm": 0.0, "annotator_seconds": 0.0}


@pytest.mark.parametrize("price", [-1.0, float("nan"), float("inf")])
def test_price_that_is_none_is_refused(price):
    with pytest.raises(ConfigError, match="price_per_hour must be at least 0"):
        Prices(per_hour=price)
