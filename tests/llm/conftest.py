"""Clients that ask the server of the tests through the real SDKs."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from llm_server import Server

from dal.llm import AnthropicClient, OpenAIClient
from dal.llm.clients.hosted import HostedClient

#: Dollars per million tokens, in and out, of every model in these tests.
RATES = (1.0, 5.0)


@pytest.fixture(params=["anthropic", "openai"])
def asking(request: pytest.FixtureRequest, server: Server, tmp_path: Path) -> Callable[..., HostedClient]:
    """Makes a client of one provider, or of the other, for the server."""

    def make(model: str | None = None, **options: Any) -> HostedClient:
        url = server.url if request.param == "anthropic" else f"{server.url}/v1"
        options = {"cache": str(tmp_path / "replies.db"), "first_wait": 0.01, "base_url": url} | options
        options = {"poll_seconds": 0.02} | options
        rates = dict(zip(("input", "output"), RATES, strict=True))
        options = {"prices": {"claude-haiku-4-5": rates, "gpt-4o-mini": rates}} | options
        if request.param == "anthropic":
            return AnthropicClient(model or "claude-haiku-4-5-20251001", **options)
        options = {"key_variable": "OPENAI_API_KEY"} | options
        return OpenAIClient(model or "gpt-4o-mini", **options)

    return make
