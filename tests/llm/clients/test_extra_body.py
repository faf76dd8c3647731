"""What may be sent with a request, and what it costs: nothing passes the bound that a cap sets aside."""

import json
from collections import OrderedDict
from collections.abc import Callable
from typing import Any

import pytest
from llm_server import Hit, Server

from dal.errors import CapError, ConfigError
from dal.llm import AnthropicClient, OpenAIClient, Request
from dal.llm.clients.hosted import HostedClient

Asking = Callable[..., HostedClient]

REFUSED = [
    ("model", "`model` of the client"),
    ("models", "`model` of the client"),
    ("fallback_models", "`model` of the client"),
    ("n", "`samples` of the learner"),
    ("N", "`samples` of the learner"),
    ("ｎ", "`samples` of the learner"),
    ("best_of", "`samples` of the learner"),
    ("candidateCount", "`samples` of the learner"),
    ("num_beams", "`samples` of the learner"),
    ("max_tokens", "`max_tokens` of the learner"),
    ("max-tokens", "`max_tokens` of the learner"),
    ("MaxTokens", "`max_tokens` of the learner"),
    (" max_tokens ", "`max_tokens` of the learner"),
    ("max\u200b_tokens", "`max_tokens` of the learner"),
    ("max_completion_tokens", "`max_tokens` of the learner"),
    ("max_output_tokens", "`max_tokens` of the learner"),
    ("maxOutputTokens", "`max_tokens` of the learner"),
    ("max_new_tokens", "`max_tokens` of the learner"),
    ("max_tokens_to_sample", "`max_tokens` of the learner"),
    ("max_length", "`max_tokens` of the learner"),
    ("max_gen_len", "`max_tokens` of the learner"),
    ("num_predict", "`max_tokens` of the learner"),
    ("n_predict", "`max_tokens` of the learner"),
    ("budget_tokens", "`max_tokens` of the learner"),
    ("thinking_budget", "`max_tokens` of the learner"),
    ("thinkingBudget", "`max_tokens` of the learner"),
    ("reasoning_max_tokens", "`max_tokens` of the learner"),
    ("messages", "prompts are built from the data"),
    ("prompt", "prompts are built from the data"),
    ("system", "prompts are built from the data"),
    ("stream", "not streamed"),
    ("stream_options", "not streamed"),
    ("tools", "billed separately"),
    ("tool_choice", "billed separately"),
    ("functions", "billed separately"),
    ("web_search_options", "billed separately"),
    ("mcp_servers", "billed separately"),
    ("plugins", "billed separately"),
    ("service_tier", "price per token"),
    ("speed", "price per token"),
    ("inference_geo", "price per token"),
    ("cache_control", "price per token"),
    ("prediction", "price per token"),
    ("modalities", "price per token"),
    ("previous_response_id", "read more than what is sent"),
    ("file_ids", "read more than what is sent"),
    ("extra_headers", "not a field of a request body"),
]
ALLOWED: list[dict[str, Any]] = [
    {"thinking": {"type": "disabled"}},
    {"top_p": 0.5, "stop": ["\n"], "seed": 3, "user": "me", "logit_bias": {"50256": -100}},
    {"reasoning_effort": "low", "reasoning": {"effort": "low"}, "verbosity": "low"},
    {"chat_template_kwargs": {"enable_thinking": False}, "min_tokens": 1, "stop_token_ids": [1], "min_p": 0.1},
    {"metadata": None, "store": False, "response_format": {"type": "json_object"}},
]


@pytest.mark.parametrize(("key", "way_out"), REFUSED, ids=ascii)
def test_a_key_that_changes_the_price_is_refused_with_the_way_out(key: str, way_out: str) -> None:
    for extra in ({key: 1}, {"options": {"deep": [{key: 1}]}}):
        with pytest.raises(ConfigError, match="is not sent") as caught:
            OpenAIClient("gpt-4o-mini", extra_body=extra)
        assert way_out in str(caught.value)
        assert str(caught.value).startswith("extra_body.")


@pytest.mark.parametrize("extra", ALLOWED, ids=str)
def test_what_does_not_change_the_price_is_sent(asking: Asking, server: Server, extra: dict[str, Any]) -> None:
    asking(extra_body=extra).complete([Request("a")])
    for key, value in extra.items():
        assert server.hits[0].body[key] == value


@pytest.mark.parametrize(
    "extra",
    [
        [("top_p", 1)],
        "top_p",
        {"top_p": float("nan")},
        {"top_p": float("inf")},
        {"a": {1, 2}},
        {"a": b"x"},
        {1: 2},
        {None: 2},
        {"a": 1 << 70},
        {"a": "x" * 200_000},
        {"b" * 1_000_000: object()},
    ],
    ids=lambda value: repr(value)[:30],
)
def test_what_is_no_json_is_refused_in_one_line(extra: Any) -> None:
    with pytest.raises(ConfigError, match="extra_body") as caught:
        AnthropicClient(extra_body=extra)
    assert len(str(caught.value)) < 300


def test_an_extra_body_that_is_nested_deep_or_inside_itself_is_refused() -> None:
    deep: dict[str, Any] = {}
    for _ in range(5000):
        deep = {"a": deep}
    inside: dict[str, Any] = {}
    inside["a"] = [inside]
    for extra in (deep, inside):
        with pytest.raises(ConfigError, match="nested deeper than 32 levels"):
            AnthropicClient(extra_body=extra)
    assert AnthropicClient(extra_body=OrderedDict(top_p=0.5)).extra_size == len('{"top_p": 0.5}')


def test_the_bytes_of_the_extra_body_count_in_the_bound(asking: Asking, server: Server) -> None:
    extra = {"note": "ä" * 5000}
    plain, more = asking().price([Request("a")]), asking(extra_body=extra).price([Request("a")])
    assert more.high - plain.high == pytest.approx((2 * 5000 + len('{"note": ""}')) / 1e6)
    assert more.low > plain.low

    def all_of_it(hit: Hit) -> tuple[int, int]:
        beside = json.dumps(extra, ensure_ascii=False).encode()
        return len(hit.prompt.encode()) + len(beside) + 1024, 100

    server.tokens = all_of_it
    requests = [Request(f"text {n}", max_tokens=100) for n in range(20)]
    cap = 5.5 * asking(extra_body=extra).price(requests[-1:]).high
    for options in ({}, {"batch": True, "ledger": "other"}):
        before = server.dollars(1.0, 5.0)
        with pytest.raises(CapError):
            asking(extra_body=extra, cap=cap, **options).complete([Request(str(options)), *requests])
        assert 0 < server.dollars(1.0, 5.0) - before <= cap


@pytest.mark.parametrize(
    "url",
    [
        "",
        " ",
        "host/v1",
        "ftp://host/v1",
        "http://",
        "http://[::1",
        "http://host:port/v1",
        "http://ho st/v1",
        "http://host/v1\n",
        "http://host/v1\0",
        "https://host/v1?max_tokens=5000",
        "https://host/v1?",
        "https://host/v1#n",
        "https://me:secret@host/v1",
    ],
)
def test_an_address_that_is_none_or_holds_options_is_refused(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    for make in (OpenAIClient, AnthropicClient):
        with pytest.raises(ConfigError, match="base_url") as caught:
            make("gpt-4o-mini", base_url=url)
        assert "secret" not in str(caught.value)
        assert "\n" not in str(caught.value)
    if url.strip() and "\0" not in url:
        monkeypatch.setenv("OPENAI_BASE_URL", url)
        with pytest.raises(ConfigError, match="OPENAI_BASE_URL"):
            OpenAIClient("gpt-4o-mini").complete([Request("a")])


NAN, INF = float("nan"), float("inf")


@pytest.mark.parametrize(
    "options",
    [
        {"cap": NAN},
        {"cap": -0.01},
        {"cap": True},
        {"cap": "2"},
        {"concurrency": 2.5},
        {"concurrency": NAN},
        {"concurrency": -1},
        {"retries": 1.5},
        {"retries": -1},
        {"first_wait": NAN},
        {"first_wait": INF},
        {"timeout": INF},
        {"poll_seconds": NAN},
        {"poll_seconds": 1e300},
        {"requests_per_minute": NAN},
        {"tokens_per_minute": -1.0},
        {"prices": {"gpt-4o-mini": {"input": NAN, "output": 1.0}}},
        {"prices": {"gpt-4o-mini": {"input": INF, "output": 1.0}}},
        {"prices": {"gpt-4o-mini": {"input": -1.0, "output": 1.0}}},
        {"prices": {"gpt-4o-mini": {"input": True, "output": 1.0}}},
        {"prices": {"gpt-4o-mini": {"input": None, "output": 1.0}}},
        {"prices": {"another": {"input": "1", "output": 1.0}}},
        {"prices": {"gpt-4o-mini": {"input": 1.0, "output": 1.0, "long_above": 5, "long_factor": 0.0}}},
        {"prices": [("gpt-4o-mini", 1.0)]},
        {"model": ""},
        {"model": "a\nb"},
        {"model": None},
        {"model": "m" * 1_000_000 + "\0"},
    ],
    ids=lambda options: str(options)[:60],
)
def test_options_that_are_no_numbers_or_would_lower_a_bill_are_refused(options: dict[str, Any]) -> None:
    with pytest.raises(ConfigError) as caught:
        OpenAIClient(**{"model": "gpt-4o-mini"} | options)
    assert len(str(caught.value)) < 300
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    "options",
    [
        {"max_tokens": 0},
        {"max_tokens": -5000},
        {"max_tokens": 1.5},
        {"max_tokens": True},
        {"max_tokens": 1 << 40},
        {"temperature": NAN},
        {"temperature": INF},
        {"temperature": -1.0},
        {"temperature": "hot"},
        {"prompt": None},
        {"system": 3},
    ],
    ids=str,
)
def test_a_request_that_makes_no_sense_or_would_cost_less_than_nothing_is_refused(options: dict[str, Any]) -> None:
    with pytest.raises(ConfigError):
        Request(**{"prompt": "a"} | options)
