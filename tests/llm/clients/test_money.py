"""The cap in dollars, from the server's own books: never exceeded, whatever goes wrong."""

import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import pytest
from llm_server import Hit, Misdeed, Server

from dal.errors import CapError, ConfigError
from dal.llm import AnthropicClient, LLMWarning, OpenAIClient, Request
from dal.llm.clients.hosted import HostedClient
from dal.llm.clients.prices import size_of

Asking = Callable[..., HostedClient]


def texts(count: int) -> list[Request]:
    return [Request(f"text {i}", max_tokens=100) for i in range(count)]


def worst(hit: Hit) -> tuple[int, int]:
    """As many tokens as can be: one a byte, what the format takes, and the longest answer."""
    return len(hit.prompt.encode()) + 1024, 100


def test_the_cap_holds_when_every_answer_is_as_dear_as_it_can_be(asking: Asking, server: Server) -> None:
    server.tokens = worst
    cap = 10.5 * asking().price([Request("text 10", max_tokens=100)]).high
    with pytest.raises(CapError, match=r"the cap of \$0\.\d+ does not allow the next request"):
        asking(cap=cap, concurrency=4).complete(texts(40))
    assert len(server.hits) == 10
    assert 0.9 * cap < server.dollars(1.0, 5.0) <= cap


def test_the_cap_is_used_up_when_answers_are_cheap(asking: Asking, server: Server) -> None:
    server.tokens = lambda hit: (10, 2)
    high = asking().price([Request("text 10", max_tokens=100)]).high
    with pytest.raises(CapError):
        asking(cap=1.3 * high, concurrency=8).complete(texts(60))
    each = server.dollars(1.0, 5.0) / len(server.hits)
    assert server.dollars(1.0, 5.0) + each + high > 1.3 * high >= server.dollars(1.0, 5.0)
    assert len(server.hits) > 10


def test_the_cap_holds_over_calls_and_for_what_was_bought_with_another_client(asking: Asking, server: Server) -> None:
    server.tokens = worst
    high = asking().price([Request("text 10", max_tokens=100)]).high
    asking().complete(texts(6))
    with pytest.raises(CapError, match=r"the ledger 'default' has spent \$0\.\d+"):
        asking(cap=6.5 * high).complete(texts(12))
    assert len(server.hits) == 6
    assert [reply.text for reply in asking(cap=6.5 * high).complete(texts(6))][5] == "answer to text 5"
    asking(cap=6.5 * high, ledger="another").complete(texts(12))
    assert len(server.hits) == 12


@pytest.mark.parametrize("misdeed", [Misdeed(cut="within"), Misdeed(garbage="{"), Misdeed(seconds=0.5)])
def test_the_cap_holds_when_billed_answers_never_arrive(asking: Asking, server: Server, misdeed: Misdeed) -> None:
    server.tokens = worst
    server.misbehave = lambda hit: misdeed if hit.number % 2 else None
    cap = 9.5 * asking().price([Request("text 10", max_tokens=100)]).high
    with pytest.raises(CapError, match="answers that are awaited or were lost"):
        asking(cap=cap, concurrency=3, timeout=0.4, retries=99).complete(texts(30))
    assert server.dollars(1.0, 5.0) <= cap
    assert asking().bill().spent <= cap


def test_the_cap_holds_for_two_at_once(asking: Asking, server: Server) -> None:
    server.tokens = worst
    server.misbehave = lambda hit: Misdeed(seconds=0.01)
    cap = 12.5 * asking().price([Request("text 10", max_tokens=100)]).high
    client = asking(cap=cap, concurrency=4)

    def share(part: int) -> None:
        with pytest.raises(CapError):
            client.complete(texts(60)[part * 30 :][:30])

    with ThreadPoolExecutor(2) as pool:
        list(pool.map(share, range(2)))
    assert server.dollars(1.0, 5.0) <= cap


def test_two_that_want_the_same_pay_once(asking: Asking, server: Server) -> None:
    server.misbehave = lambda hit: Misdeed(seconds=0.05)
    with ThreadPoolExecutor(2) as pool:
        both = list(pool.map(lambda _: asking(concurrency=3).complete(texts(12)), range(2)))
    assert [reply.text for reply in both[0]] == [reply.text for reply in both[1]]
    assert set(server.answered().values()) == {1}
    assert asking().bill().requests == 12


def test_a_batch_keeps_to_the_cap_at_half_the_price(asking: Asking, server: Server) -> None:
    server.tokens = worst
    high = asking().price([Request("text 10", max_tokens=100)]).high
    cap = 6.2 * high  # one at the full price to begin with, then ten at half
    with pytest.raises(CapError):
        asking(cap=cap, batch=True).complete(texts(40))
    assert len(server.hits) == 11
    assert 0.9 * cap < server.dollars(1.0, 5.0) <= cap


def test_an_answer_without_a_count_of_tokens_costs_the_most(server: Server, asking: Asking) -> None:
    client = asking()
    if not isinstance(client, OpenAIClient):
        pytest.skip("Anthropic's answers always count")
    import llm_server

    def silent(server: Server, hit: Hit) -> dict:
        return llm_server.completion(server, hit) | {"usage": None}

    server.forms["/v1/chat/completions"] = silent
    [reply] = client.complete(texts(1))
    assert reply.dollars == client.price([Request("text 1", max_tokens=100)]).high


def test_a_cap_needs_a_price() -> None:
    with pytest.raises(ConfigError, match=r"a cap is impossible: the price of mine is not known; give prices=\{mine:"):
        AnthropicClient("mine", cap=1.0)
    assert AnthropicClient("mine", cap=1.0, prices={"mine": {"input": 1.0, "output": 1.0}}).cap == 1.0
    with pytest.raises(ConfigError, match="the price of mine is not known"):
        AnthropicClient("mine").price([Request("a")])


def test_a_model_without_a_price_is_asked_with_a_warning(asking: Asking, server: Server) -> None:
    import llm_server

    llm_server.MODELS.add("mine")
    client = asking("mine")
    if isinstance(client, OpenAIClient):
        pytest.skip("a server on this machine costs nothing")
    with pytest.warns(LLMWarning, match="the price of mine is not known, so the bill says 0"):
        assert client.complete(texts(1))[0].dollars == 0


@pytest.mark.parametrize(
    ("url", "free"),
    [
        ("http://localhost:11434/v1", True),
        ("http://127.0.0.1:8000/v1", True),
        ("http://[::1]:8000/v1", True),
        ("http://192.168.0.7:8000/v1", True),
        ("https://openrouter.ai/api/v1", False),
        (None, False),
    ],
)
def test_a_server_of_one_s_own_costs_nothing(url: str | None, free: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("OPENAI_BASE_URL", raising=False)
    price = OpenAIClient("gpt-4o-mini", base_url=url, cache="none.db").price(texts(1))
    assert (price.high == 0) is free
    listed = {"gpt-4o-mini": {"input": 1.0, "output": 1.0}}
    assert OpenAIClient("gpt-4o-mini", base_url=url, cache="none.db", prices=listed).price(texts(1)).high > 0


def test_the_price_is_of_what_would_be_sent(asking: Asking, server: Server) -> None:
    client = asking()
    size = size_of(texts(1)[0])
    low, high = client.price(texts(1))
    assert low == pytest.approx((size // 4 * 1.0 + 25 * 5.0) / 1e6)
    assert high == pytest.approx((size + 1024) / 1e6 + 5e-4)
    assert server.hits == []
    assert client.price(texts(4) * 2) == pytest.approx((4 * low, 4 * high))
    assert asking(batch=True).price(texts(1)) == pytest.approx((low, high))  # one goes ahead alone
    assert asking(batch=True).price(texts(5)) == pytest.approx((3 * low, 3 * high))
    client.complete(texts(3))
    assert client.price(texts(4)) == pytest.approx((low, high))
    assert client.price(texts(3)) == (0, 0)


@pytest.mark.parametrize(
    "usage",
    [
        {"input_tokens": -1000, "output_tokens": 5, "prompt_tokens": -1000, "completion_tokens": 5},
        {"input_tokens": 5, "output_tokens": -1000, "prompt_tokens": 5, "completion_tokens": -1000},
        {
            "input_tokens": 5,
            "output_tokens": 5,
            "cache_read_input_tokens": -900,
            "prompt_tokens": 5,
            "completion_tokens": 5,
            "prompt_tokens_details": {"cached_tokens": 900},
        },
        {"input_tokens": 1 << 80, "output_tokens": 5, "prompt_tokens": 1 << 80, "completion_tokens": 5},
    ],
)
@pytest.mark.parametrize("batch", [False, True])
def test_a_count_that_cannot_be_true_costs_the_most(
    asking: Asking, server: Server, usage: dict[str, object], batch: bool
) -> None:
    forms = dict(server.forms)

    def lying(path: str) -> Callable[[Server, Hit], dict[str, object]]:
        return lambda server, hit: forms[path](server, hit) | {"usage": usage}

    server.forms = {path: lying(path) for path in forms}  # type: ignore[assignment]
    client = asking(cap=1.0)
    [reply] = client.complete(texts(1))
    assert reply.dollars == client.price([Request("text 2", max_tokens=100)]).high
    assert client.bill().unsettled == 0


def test_a_batch_without_a_count_of_tokens_costs_all_that_was_set_aside(
    asking: Asking, server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    import llm_server

    client = asking(batch=True)
    name = "message" if isinstance(client, AnthropicClient) else "completion"
    form = getattr(llm_server, name)

    def silent(server: Server, hit: Hit) -> dict:
        usage = {"input_tokens": -1, "output_tokens": 0, "prompt_tokens": -1, "completion_tokens": 0}
        return form(server, hit) | {"usage": usage}

    original = llm_server._result

    def result(books: Server, hit: Hit, custom_id: str, _: object) -> dict:
        found = original(books, hit, custom_id, form)
        part = found["result"]["message"] if "result" in found else found["response"]["body"]
        part["usage"] = silent(books, hit)["usage"]
        return found

    monkeypatch.setattr(llm_server, "_result", result)
    replies = client.complete(texts(4))
    high = asking(ledger="other").price([Request("text 9", max_tokens=100)]).high
    assert [reply.dollars for reply in replies[1:]] == [0.5 * high] * 3
    assert client.bill().unsettled == 0
    assert client.bill().dollars > 1.5 * high


def test_a_cap_waits_for_money_that_another_process_may_get_back(asking: Asking, server: Server) -> None:
    """What is set aside for requests on their way is more than they cost: only what is spent is a cap."""
    server.tokens = lambda hit: (10, 2)
    server.misbehave = lambda hit: Misdeed(seconds=0.3) if hit.prompt == "text 0" else None
    high = asking().price([Request("text 1", max_tokens=100)]).high
    client = asking(cap=1.5 * high)
    with ThreadPoolExecutor(2) as pool:
        both = list(pool.map(lambda n: client.complete([Request(f"text {n}", max_tokens=100)]), range(2)))
    assert [reply.text for [reply] in both] == ["answer to text 0", "answer to text 1"]


def test_a_cap_of_a_batch_waits_for_money_that_another_batch_holds(asking: Asking, server: Server) -> None:
    server.tokens = lambda hit: (10, 2)
    server.polls = 10**9
    high = asking().price([Request("text 10", max_tokens=100)]).high
    client = asking(cap=4.0 * high, batch=True)
    with ThreadPoolExecutor(2) as pool:
        first = pool.submit(client.complete, [Request(f"text {n}", max_tokens=100) for n in range(8)])
        while not any("GET" in line for line in server.others):
            time.sleep(0.005)
        second = pool.submit(client.complete, [Request(f"word {n}", max_tokens=100) for n in range(8)])
        time.sleep(0.3)
        server.polls = 1
        assert [reply.text for reply in second.result()] == [f"answer to word {n}" for n in range(8)]
        assert [reply.text for reply in first.result()] == [f"answer to text {n}" for n in range(8)]
    assert set(server.answered().values()) == {1}
    assert client.bill().unsettled == 0
