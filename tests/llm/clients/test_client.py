"""The contract: what makes two requests the same, configs, and what is missing."""

import sys
from pathlib import Path
from typing import Any

import pytest

from dal.config import plugins
from dal.config.build import build
from dal.config.settings_tree import Node
from dal.config.stored import describe
from dal.errors import MissingExtraError
from dal.llm import AnthropicClient, Bill, Client, OpenAIClient, PriceBound, Reply, Request
from dal.monitor import SILENT


@pytest.mark.parametrize(
    "options", [{"prices": {"small": {"input": 0.5, "output": 1.0}}}, {"extra_body": {"top_k": 1}}]
)
def test_a_client_with_options_in_a_table_is_a_value(options: dict[str, Any]) -> None:
    one, other = (OpenAIClient("s", **options) for _ in range(2))
    assert one == other
    assert hash(one) == hash(other)
    assert one != OpenAIClient("s")


def test_the_order_of_a_schema_s_keys_makes_another_request() -> None:
    """A model that must reason first answers differently."""
    one, other = {"reason": {}, "label": {}}, {"label": {}, "reason": {}}
    first = Request("a", schema={"type": "object", "properties": one})
    assert first.digest("x") == Request("a", schema={"type": "object", "properties": dict(one)}).digest("x")
    assert first.digest("x") != Request("a", schema={"type": "object", "properties": other}).digest("x")


def test_a_whole_temperature_is_the_same_as_a_number_with_a_point() -> None:
    assert Request("a", temperature=1).digest() == Request("a", temperature=1.0).digest()


def test_system_and_prompt_do_not_run_into_each_other() -> None:
    assert Request("b", system="a").digest() != Request("", system="ab").digest() != Request("ab").digest()


def test_a_digest_is_a_name_that_batches_may_carry() -> None:
    assert len(Request("\ud800 ä").digest("x", None)) == 64


def test_the_same_name_on_another_server_is_another_model(tmp_path: Path) -> None:
    local = OpenAIClient("small", base_url="http://localhost:8000/v1/")
    assert local.digest(Request("a")) == OpenAIClient("small", base_url="http://localhost:8000/v1").digest(Request("a"))
    assert local.digest(Request("a")) != OpenAIClient("small", base_url="http://localhost:8001/v1").digest(Request("a"))


def test_a_client_of_one_s_own_costs_nothing() -> None:
    class Parrot(Client):
        model = "parrot"

        def complete(self, requests: object, *, monitor: object = SILENT) -> list[Reply]:
            return []

    assert Parrot().price([Request("a")]) == PriceBound(0, 0)
    assert Parrot().bill() == Bill()


def test_a_bill_says_what_may_have_been_billed() -> None:
    bill = Bill(requests=1, dollars=0.5, unsettled=0.25)
    assert bill.spent == 0.75
    assert str(bill).endswith("$0.5000, and up to $0.2500 for answers that are awaited or were lost")


@pytest.mark.parametrize(
    "client",
    [
        AnthropicClient(cap=2.5, batch=True),
        OpenAIClient("small", base_url="http://localhost/v1", prices={"small": {"input": 0.5, "output": 1.0}}),
    ],
)
def test_a_client_comes_back_from_its_config(client: Client) -> None:
    written = describe(client)
    assert plugins.load(plugins.CLIENTS, type(client).__name__) is type(client)
    settings = Node({key: _node(value) for key, value in written["init_args"].items()}, None, "config.yaml")
    assert build(type(client), settings)[0] == client


def _node(value: object) -> Node:
    inner = {key: _node(each) for key, each in value.items()} if isinstance(value, dict) else value
    return Node(inner, str(value), "config.yaml")


@pytest.mark.parametrize(
    ("client", "extra"), [(AnthropicClient(), "anthropic"), (OpenAIClient("gpt-4o-mini"), "openai")]
)
def test_a_missing_package_is_one_line_that_names_the_extra(
    client: Client, extra: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", "x")
    monkeypatch.setenv("ANTHROPIC_API_KEY", "x")
    monkeypatch.setitem(sys.modules, extra, None)
    with pytest.raises(MissingExtraError, match=rf"pip install 'deep-active-learning\[{extra}\]'"):
        client.complete([Request("a")])
