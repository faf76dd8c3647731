"""Batches: half the price, and a process that was killed or cut off goes on with the same ones."""

import threading
import time
from collections.abc import Callable

import pytest
from llm_server import Hit, Misdeed, Server

from dal.errors import LLMError
from dal.llm import AnthropicClient, Reply, Request
from dal.llm.clients.client import LLMWarning
from dal.llm.clients.hosted import HostedClient

Asking = Callable[..., HostedClient]
Answered = tuple[threading.Thread, list[Reply]]


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
    with pytest.warns(UserWarning, match="does not accept a temperature"):
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


@pytest.mark.parametrize("cap", [None, 1.0])
def test_two_that_want_the_same_batch_share_it(asking: Asking, server: Server, cap: float | None) -> None:
    server.polls = 10**9
    threads = [answered(asking(batch=True, cap=cap), texts(6)) for _ in range(3)]
    wait_until(lambda: any("GET" in line for line in server.others))
    time.sleep(0.3)
    server.polls = 1
    for thread, replies in threads:
        thread.join()
        assert [reply.text for reply in replies] == [f"answer to text {i}" for i in range(6)]
    assert created(server) == 1
    assert set(server.answered().values()) == {1}
    assert (asking().bill().requests, asking().bill().unsettled) == (6, 0)


def test_two_batches_that_overlap_pay_for_each_text_once(asking: Asking, server: Server) -> None:
    server.polls = 10**9
    first = answered(asking(batch=True, cap=1.0), texts(6))
    wait_until(lambda: created(server) == 1)
    second = answered(asking(batch=True, cap=1.0), texts(9)[3:])
    time.sleep(0.3)  # it waits for the first one, which has some of its texts
    server.polls = 1
    for (thread, replies), start in zip((first, second), (0, 3), strict=True):
        thread.join()
        assert [reply.text for reply in replies] == [f"answer to text {i}" for i in range(start, start + 6)]
    assert set(server.answered().values()) == {1}


def test_a_call_without_batches_waits_for_a_batch_that_began_after_it_had_looked(
    asking: Asking, server: Server
) -> None:
    """The answers of two of its texts come with a batch that is sent while it asks for the first one."""
    server.polls = 10**9
    begun: list[Answered] = []

    def misbehave(hit: Hit) -> None:
        if hit.prompt == "slow" and not begun:
            begun.append(answered(asking(batch=True), texts(5)))
            wait_until(lambda: created(server) == 1)
            server.polls = 1

    server.misbehave = misbehave
    replies = asking(concurrency=1).complete([Request("slow", max_tokens=100), *texts(5)[3:]])
    assert [reply.text for reply in replies] == ["answer to slow", "answer to text 3", "answer to text 4"]
    begun[0][0].join()
    assert set(server.answered().values()) == {1}


def test_a_batch_that_the_server_refuses_after_a_while_is_given_up(
    asking: Asking, server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    import llm_server

    client = asking(batch=True)
    if isinstance(client, AnthropicClient):
        pytest.skip("Anthropic's batches do not fail as a whole")
    shown = llm_server._shown
    failed = {"status": "failed", "errors": {"object": "list", "data": [{"message": "too\nlarge", "code": "x"}]}}
    monkeypatch.setattr(llm_server, "_shown", lambda batch: shown(batch) | failed)
    with pytest.raises(LLMError, match=r"the server refused the batch batch_1: too large"):
        client.complete(texts(4))
    assert client.bill().unsettled == 0
    monkeypatch.setattr(llm_server, "_shown", shown)
    assert [reply.text for reply in client.complete(texts(4))] == [f"answer to text {i}" for i in range(4)]


def answered(client: HostedClient, requests: list[Request]) -> Answered:
    """A thread that asks, and its replies once it has ended."""
    replies: list[Reply] = []
    thread = threading.Thread(target=lambda: replies.extend(client.complete(requests)))
    thread.start()
    return thread, replies


def test_a_batch_that_the_provider_no_longer_has_is_named_and_given_up_the_next_time(
    asking: Asking, server: Server
) -> None:
    client = asking(batch=True)
    server.polls = 10**9

    def remove() -> None:
        wait_until(lambda: any("GET" in line and "batch_1" in line for line in server.others))
        server.batches.clear()

    thread = threading.Thread(target=remove)
    thread.start()
    with pytest.raises(LLMError, match=r"no longer has the batch batch_1 of 5 requests, sent 20.* \(404\)") as caught:
        client.complete(texts(6))
    thread.join()
    said = str(caught.value)
    assert "\n" not in said
    assert "model" not in said
    assert "run the same command again" in said
    aside = client.bill().unsettled
    assert aside > 0
    assert f"up to ${aside:.4f} stays reserved" in said
    assert client.complete(texts(1))[0].cached  # what was bought before is there
    server.polls = 1
    with pytest.warns(LLMWarning, match="still has no batch batch_1: it is given up, its 5 requests are sent again"):
        replies = client.complete(texts(6))
    assert [reply.text for reply in replies] == [f"answer to text {i}" for i in range(6)]
    assert client.bill().unsettled == aside


def test_a_batch_that_was_missing_once_is_waited_for_where_it_comes_back(asking: Asking, server: Server) -> None:
    client = asking(batch=True)
    server.polls = 10**9
    held: dict[str, object] = {}

    def remove() -> None:
        wait_until(lambda: any("GET" in line and "batch_1" in line for line in server.others))
        held.update(server.batches)
        server.batches.clear()

    thread = threading.Thread(target=remove)
    thread.start()
    with pytest.raises(LLMError, match="no longer has the batch batch_1"):
        client.complete(texts(6))
    thread.join()
    server.polls = 1
    server.batches.update(held)
    assert [reply.text for reply in client.complete(texts(6))] == [f"answer to text {i}" for i in range(6)]
    assert created(server) == 1
    assert client.bill().unsettled == 0


def test_a_server_without_batches_says_so(asking: Asking, server: Server) -> None:
    server.around = lambda what: Misdeed(404, message="no such path")
    with pytest.raises(LLMError, match=r"accepts no batches at this address \(404: no such path\): set batch to false"):
        asking(batch=True).complete(texts(6))
    assert asking().bill().unsettled == 0
