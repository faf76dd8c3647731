"""Batches: half the price, and whoever was killed or cut off goes on with the same ones."""

import threading
import time
from collections.abc import Callable

import pytest
from llm_server import Misdeed, Server

from dal.errors import LLMError
from dal.llm import AnthropicClient, Request
from dal.llm.hosted import HostedClient

Asking = Callable[..., HostedClient]


def texts(count: int) -> list[Request]:
    return [Request(f"text {i}", max_tokens=100) for i in range(count)]


def created(server: Server) -> int:
    return len(server.batches)


def test_a_batch_answers_at_half_the_price(asking: Asking, server: Server) -> None:
    server.tokens = lambda hit: (1000, 100)
    server.polls = 3
    replies = asking(batch=True).complete(texts(6))
    assert [reply.text for reply in replies] == [f"answer to text {i}" for i in range(6)]
    assert [reply.dollars for reply in replies] == pytest.approx([0.0015, *[0.00075] * 5])
    assert not any(reply.cached for reply in replies)
    assert asking().bill().dollars == pytest.approx(server.dollars(1.0, 5.0))
    assert created(server) == 1
    assert all(reply.cached for reply in asking().complete(texts(6)))


def test_what_the_model_does_not_take_is_found_out_before_the_batch_is_sent(asking: Asking, server: Server) -> None:
    server.misbehave = lambda hit: Misdeed(400, message="temperature: no") if "temperature" in hit.body else None
    with pytest.warns(UserWarning, match="does not take a temperature"):
        asking(batch=True).complete(texts(5))
    assert sum("temperature" in hit.body for hit in server.hits) == 1


def test_requests_that_failed_in_a_batch_are_sent_again(asking: Asking, server: Server) -> None:
    server.misbehave = lambda hit: Misdeed(500) if hit.prompt == "text 3" and hit.attempt == 1 else None
    replies = asking(batch=True).complete(texts(6))
    assert replies[3].text == "answer to text 3"
    assert created(server) == 2
    assert set(server.answered().values()) == {1}
    assert asking().bill().unsettled == 0


def test_a_batch_without_any_answer_ends_the_work_with_the_server_s_words(asking: Asking, server: Server) -> None:
    server.misbehave = lambda hit: Misdeed(500, message="no capacity") if hit.headers.get("batch") else None
    with pytest.raises(LLMError, match=r"answers no request of a batch \(no capacity\)"):
        asking(batch=True).complete(texts(6))
    assert created(server) == 1
    assert asking().bill().unsettled == 0


def test_a_batch_whose_acknowledgement_was_lost_is_found_and_not_sent_twice(asking: Asking, server: Server) -> None:
    orders = iter([Misdeed(cut="after")])
    server.around = lambda what: next(orders, None)
    asking(batch=True).complete(texts(6))
    assert created(server) == 1
    assert set(server.answered().values()) == {1}


def test_a_busy_server_gets_the_batch_later(asking: Asking, server: Server) -> None:
    orders = iter([Misdeed(429), Misdeed(500)])
    server.around = lambda what: next(orders, None)
    asking(batch=True).complete(texts(6))
    assert created(server) == 1


def test_a_refused_batch_sets_nothing_aside(asking: Asking, server: Server) -> None:
    server.around = lambda what: Misdeed(400, message="no batches here")
    with pytest.raises(LLMError, match="no batches here"):
        asking(batch=True).complete(texts(6))
    assert asking().bill().unsettled == 0


def test_another_call_waits_for_an_open_batch_even_if_it_asks_for_none(asking: Asking, server: Server) -> None:
    server.polls = 10**9
    thread = threading.Thread(target=lambda: asking(batch=True).complete(texts(6)))
    thread.start()
    wait_until(lambda: any("GET" in line for line in server.others))
    server.polls = 1
    replies = asking().complete(texts(6))
    thread.join()
    assert [reply.text for reply in replies] == [f"answer to text {i}" for i in range(6)]
    assert set(server.answered().values()) == {1}


def test_a_batch_of_somebody_else_is_not_taken_for_a_lost_one(asking: Asking, server: Server) -> None:
    client = asking(batch=True)
    if not isinstance(client, AnthropicClient):
        pytest.skip("OpenAI's batches carry a name")
    client.complete([Request(f"other {i}") for i in range(6)])
    orders = iter([Misdeed(500)])
    server.around = lambda what: next(orders, None)
    replies = client.complete(texts(6))
    assert [reply.text for reply in replies] == [f"answer to text {i}" for i in range(6)]
    assert created(server) == 2


def wait_until(true: Callable[[], bool]) -> None:
    while not true():
        time.sleep(0.005)
