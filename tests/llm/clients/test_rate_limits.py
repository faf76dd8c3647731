"""The pacer, against the rule itself: no minute holds more than is allowed."""

from hypothesis import given
from hypothesis import strategies as st

from dal.llm.clients.rate_limits import Pacer

arrivals = st.lists(st.tuples(st.floats(0, 5), st.integers(1, 400)), min_size=1, max_size=60)


def starts(pacer: Pacer, requests: list[tuple[float, int]]) -> list[tuple[float, int]]:
    """When each request goes, whose turn is asked for so many seconds after the last one's."""
    now, gone = 0.0, []
    for gap, tokens in requests:
        now += gap
        gone.append((now + pacer.book(now, tokens), tokens))
    return gone


@given(arrivals, st.integers(1, 120))
def test_no_minute_holds_more_requests_than_are_allowed(requests: list[tuple[float, int]], allowed: int) -> None:
    gone = starts(Pacer(requests_per_minute=allowed), requests)
    for first, _ in gone:
        assert sum(first <= at < first + 60 - 1e-6 for at, _ in gone) <= allowed


@given(arrivals, st.integers(400, 5000))
def test_no_minute_holds_more_tokens_than_are_allowed_but_for_the_last_request_s(
    requests: list[tuple[float, int]], allowed: int
) -> None:
    gone = starts(Pacer(tokens_per_minute=allowed), requests)
    for first, _ in gone:
        inside = [tokens for at, tokens in gone if first <= at < first + 60 - 1e-6]
        assert sum(inside[:-1]) <= allowed


@given(arrivals)
def test_nothing_waits_without_a_limit(requests: list[tuple[float, int]]) -> None:
    assert [at for at, _ in starts(Pacer(), requests)] == [at for at, _ in starts(Pacer(), requests)]
    pacer, now = Pacer(), 0.0
    for gap, tokens in requests:
        now += gap
        assert pacer.book(now, tokens) == 0


def test_tokens_that_were_not_used_are_given_back() -> None:
    pacer = Pacer(tokens_per_minute=60)
    assert pacer.book(0.0, 30) == 0
    pacer.settle(booked=30, used=10)
    assert pacer.book(0.0, 1) == 10


def test_a_pause_holds_for_everyone_and_is_not_shortened() -> None:
    pacer = Pacer()
    pacer.pause(now=100.0, seconds=5)
    pacer.pause(now=101.0, seconds=1)
    assert pacer.book(102.0) == 3
    assert pacer.paused(102.0) == 3
    assert pacer.paused(106.0) == 0
