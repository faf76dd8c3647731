"""Requests through the real SDKs to a server that misbehaves, told from the server's own log."""

import itertools
import threading
import time
from collections.abc import Callable

import pytest
from llm_server import Hit, Misdeed, Server

from dal.errors import ConfigError, LLMError
from dal.llm import LLMWarning, OpenAIClient, Reply, Request
from dal.llm.clients.hosted import HostedClient
from dal.monitor import Monitor

Asking = Callable[..., HostedClient]
SCHEMA = {
    "type": "object",
    "properties": {"said": {"type": "string"}},
    "required": ["said"],
    "additionalProperties": False,
}


def texts(count: int) -> list[Request]:
    return [Request(f"text {i}", system="Judge.") for i in range(count)]


def once(misdeed: Misdeed) -> Callable[[Hit], Misdeed | None]:
    """The misdeed for the first attempt of each prompt."""
    return lambda hit: misdeed if hit.attempt == 1 else None


def said(replies: list[Reply]) -> list[str]:
    return [reply.text for reply in replies]


def test_replies_come_in_the_order_of_the_requests_with_what_they_cost(asking: Asking, server: Server) -> None:
    server.misbehave = lambda hit: Misdeed(seconds=0.05) if hit.prompt == "text 0" else None
    server.tokens = lambda hit: (1000, 100)
    replies = asking().complete(texts(9))
    assert said(replies) == [f"answer to text {i}" for i in range(9)]
    assert {(r.input_tokens, r.output_tokens, r.cached, r.truncated) for r in replies} == {(1000, 100, False, False)}
    assert sum(reply.dollars for reply in replies) == pytest.approx(server.dollars(1.0, 5.0)) == pytest.approx(0.0135)
    assert all(reply.seconds > 0 for reply in replies)


def test_what_was_asked_before_is_not_asked_again(asking: Asking, server: Server) -> None:
    first = asking().complete(texts(5))
    again = asking().complete(texts(7))
    assert len(server.hits) == 7
    assert [reply.cached for reply in again] == [True] * 5 + [False] * 2
    assert [reply.dollars for reply in again[:5]] == [reply.dollars for reply in first]
    bill = asking().bill()
    assert (bill.requests, bill.cached, bill.unsettled) == (7, 5, 0)
    assert bill.dollars == pytest.approx(server.dollars(1.0, 5.0))


def test_identical_requests_of_one_call_are_sent_once(asking: Asking, server: Server) -> None:
    replies = asking().complete([Request("same"), Request("other"), Request("same")])
    assert said(replies) == ["answer to same", "answer to other", "answer to same"]
    assert len(server.hits) == 2


def test_whatever_decides_the_answer_makes_another_request(asking: Asking, server: Server) -> None:
    others: list[dict] = [{"sample": 1}, {"temperature": 0.5}, {"max_tokens": 9}, {"schema": SCHEMA}, {"system": "Be."}]
    asking().complete([Request("same"), *(Request("same", **other) for other in others)])
    assert len(server.hits) == 6


def test_no_more_requests_are_on_their_way_than_allowed(asking: Asking, server: Server) -> None:
    server.misbehave = lambda hit: Misdeed(seconds=0.02)
    asking(concurrency=3).complete(texts(15))
    assert server.most_beside() <= 3
    server.hits.clear()
    asking(concurrency=1).complete(texts(20))
    assert server.most_beside() == 1


def test_slow_answers_are_waited_for_side_by_side(asking: Asking, server: Server) -> None:
    together = threading.Barrier(4)

    def misbehave(hit: Hit) -> None:
        together.wait(60)

    server.misbehave = misbehave
    assert len(asking(concurrency=4).complete(texts(4))) == 4


def test_requests_keep_to_the_limit_per_minute(asking: Asking, server: Server) -> None:
    began = time.monotonic()
    asking(requests_per_minute=600).complete(texts(12))
    assert server.hits[-1].arrived - began >= 11 * 0.1


def test_tokens_keep_to_the_limit_per_minute(asking: Asking, server: Server) -> None:
    # Each request books some 20 tokens in and 100 out, so three of them take 360 / 30,000 minutes.
    requests = [Request(f"{i} " + "x" * 70, max_tokens=100) for i in range(4)]
    server.tokens = lambda hit: (20, 100)
    began = time.monotonic()
    asking(tokens_per_minute=30_000, concurrency=1).complete(requests)
    assert server.hits[-1].arrived - began >= 3 * 0.23


def test_a_busy_or_broken_server_is_asked_again(asking: Asking, server: Server) -> None:
    statuses = {"text 0": 429, "text 1": 500, "text 2": 502, "text 3": 503, "text 4": 504, "text 5": 529}
    server.misbehave = lambda hit: Misdeed(statuses[hit.prompt]) if hit.attempt == 1 else None
    assert said(asking().complete(texts(6))) == [f"answer to text {i}" for i in range(6)]
    assert [hit.status for hit in server.hits].count(200) == 6
    assert len(server.hits) == 12


def test_only_errors_that_may_come_after_the_work_stay_set_aside(asking: Asking, server: Server) -> None:
    client = asking(retries=0)
    for status, counts in ((429, 0), (503, 0), (529, 0), (400, 0), (500, 1), (504, 2)):
        server.misbehave = lambda hit, status=status: Misdeed(status)
        with pytest.raises(LLMError):
            client.complete(texts(1))
        assert client.bill().unsettled == pytest.approx(counts * client.price(texts(1)).high)


def test_retry_after_is_honoured_by_every_request(asking: Asking, server: Server) -> None:
    server.misbehave = lambda hit: Misdeed(429, {"Retry-After": "0.5"}) if hit.number == 1 else None
    asking(concurrency=1).complete(texts(3))
    first, second = (hit.arrived for hit in server.hits[:2])
    assert second - first >= 0.5
    assert [hit.prompt for hit in server.hits[:2]] == ["text 0", "text 0"]


def test_retry_after_may_be_a_date_or_milliseconds(asking: Asking, server: Server) -> None:
    def misbehave(hit: Hit) -> Misdeed | None:
        date = time.strftime("%a, %d %b %Y %H:%M:%S GMT", time.gmtime(time.time() + 2))
        headers = [{"Retry-After": date}, {"retry-after-ms": "300"}]
        return Misdeed(429, headers[hit.number - 1]) if hit.number <= 2 else None

    server.misbehave = misbehave
    asking(concurrency=1, first_wait=0.0).complete(texts(1))
    one, two, three = (hit.arrived for hit in server.hits)
    assert two - one >= 0.99  # a date has whole seconds
    assert three - two >= 0.3


def test_without_retry_after_each_wait_is_longer_than_the_last(asking: Asking, server: Server) -> None:
    server.misbehave = lambda hit: Misdeed(529) if hit.attempt <= 4 else None
    asking(first_wait=0.05).complete(texts(1))
    arrived = [hit.arrived for hit in server.hits]
    waits = [later - earlier for earlier, later in itertools.pairwise(arrived)]
    assert len(waits) == 4
    assert all(wait >= 0.05 * 2**i / 2 for i, wait in enumerate(waits))


def test_a_server_that_asks_for_an_hour_stops_the_work_with_one_line(asking: Asking, server: Server) -> None:
    server.misbehave = lambda hit: Misdeed(429, {"Retry-After": "3600"})
    with pytest.raises(LLMError, match=r"asks to wait 3600 seconds \(429: on order\): try again later"):
        asking(concurrency=1).complete(texts(2))
    assert len(server.hits) == 1


@pytest.mark.parametrize(
    "misdeed",
    [Misdeed(cut="before"), Misdeed(cut="within"), Misdeed(garbage="{broken"), Misdeed(garbage='{"id": "x"}')],
    ids=["cut before", "cut within", "broken JSON", "JSON of something else"],
)
def test_a_lost_answer_is_asked_for_again_and_its_price_stays_set_aside(
    asking: Asking, server: Server, misdeed: Misdeed
) -> None:
    server.misbehave = once(misdeed)
    assert said(asking().complete(texts(2))) == ["answer to text 0", "answer to text 1"]
    bill = asking().bill()
    assert bill.dollars < server.dollars(1.0, 5.0) <= bill.spent


def test_an_answer_that_does_not_come_in_time_is_given_up(asking: Asking, server: Server) -> None:
    server.misbehave = once(Misdeed(seconds=2.0))
    assert said(asking(timeout=1.0).complete(texts(1))) == ["answer to text 0"]
    assert len(server.hits) >= 2
    assert asking().bill().unsettled > 0


def test_a_server_that_stays_down_ends_the_work_with_one_line(asking: Asking, server: Server) -> None:
    server.misbehave = lambda hit: Misdeed(529)
    with pytest.raises(LLMError, match=r"gives no answer after 3 attempts; the last one: 529: on order") as caught:
        asking(retries=2).complete(texts(1))
    assert len(server.hits) == 3
    assert "\n" not in str(caught.value)


def test_a_server_that_is_not_there_costs_nothing(asking: Asking, server: Server) -> None:
    client = asking(retries=1, base_url="http://127.0.0.1:9/v1", prices={"gpt-4o-mini": {"input": 1, "output": 1}})
    with pytest.raises(LLMError, match="no connection"):
        client.complete(texts(1))
    assert client.bill().spent == 0


def test_a_wrong_key_stops_everything_at_once(asking: Asking, server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    for variable in ("ANTHROPIC_API_KEY", "OPENAI_API_KEY"):
        monkeypatch.setenv(variable, "sk-wrong-key-987")
    with pytest.raises(LLMError, match=r"refuses the key in (ANTHROPIC|OPENAI)_API_KEY \(401\)$") as caught:
        asking(concurrency=2).complete(texts(50))
    assert len(server.hits) <= 2
    assert "sk-wrong" not in str(caught.value)


def test_a_missing_key_is_noticed_before_anything_is_sent(
    asking: Asking, server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    for variable in ("ANTHROPIC_API_KEY", "OPENAI_API_KEY"):
        monkeypatch.delenv(variable)
    with pytest.raises(LLMError, match=r"there is no key: set the environment variable (ANTHROPIC|OPENAI)_API_KEY"):
        asking().complete(texts(1))
    assert server.hits == []


def test_an_unknown_model_stops_everything_at_once(asking: Asking, server: Server) -> None:
    prices = {"no-such-model": {"input": 1, "output": 1}}
    with pytest.raises(LLMError, match=r"knows no model 'no-such-model' \(404\): check its name and base_url"):
        asking("no-such-model", concurrency=2, prices=prices).complete(texts(50))
    assert len(server.hits) <= 2


def test_an_exhausted_account_is_not_tried_again(asking: Asking, server: Server) -> None:
    server.misbehave = lambda hit: Misdeed(429, message="insufficient_quota: you have no credit left")
    with pytest.raises(LLMError, match=r"accepts no requests \(429: insufficient_quota: you have no credit left\)"):
        asking(concurrency=1).complete(texts(2))
    assert len(server.hits) == 1


def test_what_was_bought_before_the_work_stopped_is_kept(asking: Asking, server: Server) -> None:
    server.misbehave = lambda hit: Misdeed(403) if hit.number == 10 else None
    with pytest.raises(LLMError):
        asking(concurrency=3).complete(texts(30))
    paid = set(server.answered())
    assert len(paid) >= 7
    server.misbehave = lambda hit: None
    asking(concurrency=3).complete(texts(30))
    assert set(server.answered().values()) == {1}


def test_an_answer_cut_off_by_its_limit_says_so(asking: Asking, server: Server) -> None:
    server.tokens = lambda hit: (10, 20)
    long, short = asking().complete([Request("a", max_tokens=20), Request("b", max_tokens=21)])
    assert (long.truncated, short.truncated) == (True, False)


def test_a_structured_answer_is_its_json(asking: Asking, server: Server) -> None:
    [reply] = asking().complete([Request("a", schema=SCHEMA)])
    assert reply.text == '{"said": "answer to a"}'


def refusing(*words: str) -> Callable[[Hit], Misdeed | None]:
    """Refuses requests that hold one of these keys, as a server does that does not know it."""

    def misbehave(hit: Hit) -> Misdeed | None:
        held = next((word for word in words if word in hit.body), None)
        return Misdeed(400, message=f"{held}: Extra inputs are not permitted") if held else None

    return misbehave


def test_a_model_without_a_temperature_is_asked_without_one(asking: Asking, server: Server) -> None:
    server.misbehave = refusing("temperature")
    with pytest.warns(LLMWarning, match="does not accept a temperature, so the model's default is used") as warned:
        replies = asking(concurrency=1).complete(texts(5))
    assert said(replies) == [f"answer to text {i}" for i in range(5)]
    assert len(server.hits) == 6
    assert len(warned) == 1


def test_a_server_without_schemas_is_asked_for_text(asking: Asking, server: Server) -> None:
    server.misbehave = refusing("tool_choice", "output_config", "response_format")
    with pytest.warns(LLMWarning) as warned:
        replies = asking(concurrency=1).complete([Request(f"text {i}", schema=SCHEMA) for i in range(3)])
    assert said(replies) == [f"answer to text {i}" for i in range(3)]
    assert "does not accept a JSON schema, so answers are free text" in str(warned[-1].message)


def test_a_model_that_cannot_be_forced_to_a_tool_answers_in_the_json_format(server: Server, asking: Asking) -> None:
    server.misbehave = refusing("tool_choice")
    client = asking("claude-opus-5-5", prices={"claude-opus-5-5": {"input": 4, "output": 20}}, concurrency=1)
    if isinstance(client, OpenAIClient):
        pytest.skip("a tool is Anthropic's way to a structured answer")
    with pytest.warns(LLMWarning, match="does not accept forced tool calls"):
        client.complete([Request("a", schema=SCHEMA)])
    assert server.hits[-1].body["output_config"] == {"format": {"type": "json_schema", "schema": SCHEMA}}


def test_a_request_that_is_refused_for_another_reason_stops_the_work(asking: Asking, server: Server) -> None:
    server.misbehave = lambda hit: Misdeed(400, message="Your credit balance is too low")
    with pytest.raises(LLMError, match=r"refuses a request \(400: Your credit balance is too low\)"):
        asking(concurrency=1).complete(texts(3))
    assert len(server.hits) == 1


def test_a_text_that_is_too_long_gets_an_empty_answer_which_is_not_kept(asking: Asking, server: Server) -> None:
    server.misbehave = lambda hit: Misdeed(400, message="prompt is too long") if hit.prompt == "text 1" else None
    with pytest.warns(LLMWarning, match="refused 1 requests for their length"):
        replies = asking().complete(texts(3))
    assert said(replies) == ["answer to text 0", "", "answer to text 2"]
    with pytest.warns(LLMWarning):
        asking().complete(texts(3))
    assert len(server.hits) == 4


def test_a_limit_that_the_model_does_not_allow_is_no_text_that_is_too_long(asking: Asking, server: Server) -> None:
    server.misbehave = lambda hit: Misdeed(400, message="max_output is too large: 256 > 100")
    with pytest.raises(LLMError, match="max_output is too large"):
        asking().complete(texts(1))


def test_half_of_a_surrogate_pair_does_not_stop_the_work(asking: Asking, server: Server) -> None:
    [reply] = asking().complete([Request("broken \ud83d text")])
    assert reply.text == "answer to broken ? text"


def test_extra_parts_of_the_body_are_sent_and_belong_to_the_request(asking: Asking, server: Server) -> None:
    asking().complete(texts(1))
    asking(extra_body={"thinking": {"type": "disabled"}}).complete(texts(1))
    assert [hit.body.get("thinking") for hit in server.hits] == [None, {"type": "disabled"}]


class Counting(Monitor):
    def __init__(self) -> None:
        self.total = self.done = 0

    def started(self, what: str, total: int) -> None:
        self.total += total

    def advanced(self, count: int) -> None:
        self.done += count


def test_a_monitor_sees_every_request_whether_bought_repeated_or_there(asking: Asking) -> None:
    asking().complete(texts(3))
    monitor = Counting()
    asking().complete([*texts(6), Request("text 4", "Judge.")], monitor=monitor)
    assert monitor.total == monitor.done == 7


def test_a_monitor_that_interrupts_lets_what_is_on_its_way_arrive(asking: Asking, server: Server) -> None:
    class Impatient(Monitor):
        def advanced(self, count: int) -> None:
            raise KeyboardInterrupt

    server.misbehave = lambda hit: Misdeed(seconds=0.02 * hit.number)
    with pytest.raises(KeyboardInterrupt):
        asking(concurrency=4).complete(texts(20), monitor=Impatient())
    assert len(server.hits) < 20
    assert asking().bill().requests == len(server.answered())


def test_a_call_works_where_a_loop_is_running_already_as_in_a_notebook(asking: Asking) -> None:
    import asyncio

    async def cell() -> list[Reply]:
        return asking().complete(texts(2))

    assert said(asyncio.run(cell())) == ["answer to text 0", "answer to text 1"]


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"concurrency": 0}, "concurrency must be more than 0, got 0"),
        ({"cap": -1.0}, "cap must not be negative"),
        ({"timeout": float("nan")}, "timeout must be more than 0"),
        ({"key_variable": "sk-ant-123"}, "key_variable must be the name of an environment variable"),
    ],
)
def test_options_that_make_no_sense_are_refused(options: dict, words: str) -> None:
    with pytest.raises(ConfigError, match=words) as caught:
        OpenAIClient("gpt-4o-mini", **options)
    assert "sk-ant" not in str(caught.value)
