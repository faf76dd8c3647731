"""Keys: read from the environment, sent to the server, and found nowhere else."""

import logging
import pickle
import traceback
import warnings
from collections.abc import Callable
from pathlib import Path

import pytest
import yaml
from llm_server import KEY, Hit, Misdeed, Server

from dal.config.stored import describe
from dal.errors import LLMError
from dal.llm import LLMWarning, OpenAIClient, Request
from dal.llm.clients.hosted import HostedClient

Asking = Callable[..., HostedClient]


def test_the_key_reaches_the_server_and_no_file_message_or_log(
    asking: Asking, server: Server, tmp_path: Path, caplog: pytest.LogCaptureFixture, capfd: pytest.CaptureFixture[str]
) -> None:
    caplog.set_level(logging.DEBUG)
    client = asking(retries=1, first_wait=0.0)
    seen = [repr(client), yaml.safe_dump(describe(client)), pickle.dumps(client).decode("latin-1")]
    deeds = [
        Misdeed(400, message=f"temperature: not with {KEY}"),
        Misdeed(401, message=f"Incorrect API key provided: {KEY}"),
        Misdeed(403, message=KEY),
        Misdeed(400, message=f"the key {KEY} may not"),
        Misdeed(404, message=KEY),
        Misdeed(500, message=KEY),
        Misdeed(429, message=KEY),
        Misdeed(garbage=f'{{"key": "{KEY}"'),
    ]
    warnings.simplefilter("always", LLMWarning)
    with warnings.catch_warnings(record=True) as warned:
        for deed in deeds:
            server.misbehave = lambda hit, deed=deed: deed if "temperature" in hit.body else None
            try:
                client.complete([Request(f"to {deed.status} {deed.message[:3]}")])
            except LLMError as error:
                seen += ["".join(traceback.format_exception(error)), str(vars(error)), str(error)]
    assert len(seen) == 3 + 3 * 7
    assert all("\n" not in line for line in seen[5::3])
    assert any(KEY in str(hit.headers) for hit in server.hits)
    seen += [str(warning.message) for warning in warned or [pytest.fail("no warning")]] + [
        caplog.text,
        *capfd.readouterr(),
        str(client.bill()),
    ]
    files = [path for path in tmp_path.rglob("*") if path.is_file()]
    assert files
    seen += [path.read_bytes().decode("latin-1") for path in files]
    assert [text for text in seen if KEY in text] == []


def test_openai_s_key_is_sent_to_no_other_server(server: Server, tmp_path: Path) -> None:
    url = f"{server.url}/v1"
    OpenAIClient("small", base_url=url, cache=str(tmp_path / "a.db")).complete([Request("a")])
    assert server.hits[0].headers["authorization"] == "Bearer none"
    OpenAIClient("small", base_url=url, key_variable="OPENAI_API_KEY", cache=str(tmp_path / "b.db")).complete(
        [Request("a")]
    )
    assert server.hits[1].headers["authorization"] == f"Bearer {KEY}"


def test_another_variable_may_hold_the_key(asking: Asking, server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MY_TEAM_KEY", KEY)
    monkeypatch.delenv("ANTHROPIC_API_KEY")
    monkeypatch.delenv("OPENAI_API_KEY")
    assert asking(key_variable="MY_TEAM_KEY").complete([Request("a")])[0].text == "answer to a"


def test_a_server_that_wants_a_key_and_got_none_says_how_to_give_one(server: Server, tmp_path: Path) -> None:
    def misbehave(hit: Hit) -> Misdeed:
        return Misdeed(401)

    server.misbehave = misbehave
    client = OpenAIClient("small", base_url=f"{server.url}/v1", cache=str(tmp_path / "a.db"))
    with pytest.raises(LLMError, match=r"refuses a request without a key: name its variable by key_variable \(401\)"):
        client.complete([Request("a")])
