"""Client of the Anthropic Messages API."""

import json
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from dal.errors import require
from dal.llm.clients.client import Request
from dal.llm.clients.hosted import HostedClient
from dal.llm.clients.prices import Usage
from dal.llm.clients.provider import BatchResult, Provider, ProviderAnswer, merged, readable, sendable
from dal.llm.clients.retries import UnreadableError

#: Newer API versions reject a temperature for every model, this one only for models that do not support it.
_API_VERSION = "2023-06-01"
_TOOL = "answer"
_LOOK_BACK = 300.0  # seconds; maximum difference between the clocks of client and server
_LISTED = 100  # batches per list request


@dataclass(frozen=True)
class AnthropicClient(HostedClient):
    """Client of Claude models, through the Messages API or Message Batches.

    Structured answers are requested as a forced tool call, or as the API's JSON output format for models that do not
    support forced tool calls. The system prompt is marked for prompt caching.

    Args:
        model: name of the model.
        key_variable: name of the environment variable with the API key.

    See `HostedClient` for rate limits, cache and spending.
    """

    model: str = "claude-haiku-4-5-20251001"
    key_variable: str | None = field(default="ANTHROPIC_API_KEY", kw_only=True)

    def provider(self) -> str:
        """Return the name of the provider."""
        return "anthropic"

    def wire(self, key: str) -> Provider:
        """Return the protocol implementation."""
        return _MessagesWire(self, key)


class _MessagesWire(Provider):
    concessions: Mapping[str, tuple[str, ...]] = {
        "temperature": ("temperature",),
        "tool": ("tool",),
        "schema": ("output_config", "schema", "format"),
    }

    def __init__(self, client: AnthropicClient, key: str) -> None:
        anthropic = require("anthropic", "anthropic")
        self._model, self._extra = client.model, client.extra_body or {}
        self._sdk = anthropic.AsyncAnthropic(
            api_key=key,
            base_url=client.base_url,
            timeout=client.timeout,
            max_retries=0,
            default_headers={"anthropic-version": _API_VERSION},
        )

    def body(self, request: Request, without: frozenset[str]) -> dict[str, Any]:
        body: dict[str, Any] = {
            "model": self._model,
            "max_tokens": request.max_tokens,
            "messages": [{"role": "user", "content": sendable(request.prompt)}],
        }
        if request.system:
            cache = {"type": "ephemeral"}
            body["system"] = [{"type": "text", "text": sendable(request.system), "cache_control": cache}]
        if "temperature" not in without:
            body["temperature"] = request.temperature
        if request.schema is not None and "tool" not in without:
            about = "Give the answer in this form."
            body["tools"] = [{"name": _TOOL, "description": about, "input_schema": dict(request.schema)}]
            body["tool_choice"] = {"type": "tool", "name": _TOOL, "disable_parallel_tool_use": True}
        elif request.schema is not None and "schema" not in without:
            body["output_config"] = {"format": {"type": "json_schema", "schema": dict(request.schema)}}
        return merged(body, self._extra)

    def _applies(self, name: str, request: Request, without: frozenset[str]) -> bool:
        return super()._applies(name, request, without) and (name != "schema" or "tool" in without)

    async def send(self, body: Mapping[str, Any]) -> ProviderAnswer:
        named = {key: body[key] for key in ("model", "max_tokens", "messages")}
        rest = {key: value for key, value in body.items() if key not in named}
        return readable(_read, await self._sdk.messages.create(**named, extra_body=rest))

    async def close(self) -> None:
        await self._sdk.close()

    async def submit(self, name: str, bodies: Mapping[str, Mapping[str, Any]]) -> str:
        requests = [{"custom_id": digest, "params": dict(body)} for digest, body in bodies.items()]
        id = (await self._sdk.messages.batches.create(requests=requests)).id
        if not isinstance(id, str):
            raise UnreadableError
        return id

    async def ended(self, id: str) -> bool:
        status: str = (await self._sdk.messages.batches.retrieve(id)).processing_status
        return status == "ended"

    async def results(self, id: str) -> AsyncIterator[BatchResult]:
        async for line in await self._sdk.messages.batches.results(id):
            kind = line.result.type
            if kind == "succeeded":
                yield BatchResult(line.custom_id, readable(_read, line.result.message))
            else:
                error = getattr(getattr(line.result, "error", None), "error", None)
                yield BatchResult(line.custom_id, None, getattr(error, "message", None) or kind)

    async def find(
        self, name: str, digests: frozenset[str], since: float, rest: Callable[[], Awaitable[None]]
    ) -> str | None:
        page = await self._sdk.messages.batches.list(limit=_LISTED)
        for batch in page.data:
            counts = batch.request_counts
            total = counts.processing + counts.succeeded + counts.errored + counts.canceled + counts.expired
            if total != len(digests) or batch.created_at.timestamp() < since - _LOOK_BACK:
                continue
            while not await self.ended(batch.id):
                await rest()
            async for result in self.results(batch.id):
                if result.digest in digests:
                    return str(batch.id)
                break
        return None


def _read(message: Any) -> ProviderAnswer:
    """Read the text of a message, or the JSON input of its tool call."""
    blocks = getattr(message, "content", None)
    used = getattr(message, "usage", None)
    if not isinstance(blocks, list) or used is None or not isinstance(getattr(used, "output_tokens", None), int):
        raise UnreadableError
    called = [block.input for block in blocks if block.type == "tool_use"]
    text = "".join(block.text for block in blocks if block.type == "text")
    usage = Usage(
        used.input_tokens or 0,
        used.output_tokens,
        getattr(used, "cache_read_input_tokens", None) or 0,
        getattr(used, "cache_creation_input_tokens", None) or 0,
    )
    truncated = message.stop_reason in {"max_tokens", "model_context_window_exceeded"}
    return ProviderAnswer(json.dumps(called[0], ensure_ascii=False) if called else text, usage, truncated)
