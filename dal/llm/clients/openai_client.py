"""Client of OpenAI and compatible servers: vLLM, Ollama, llama.cpp, and others."""

import io
import ipaddress
import json
import os
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from dataclasses import dataclass
from types import SimpleNamespace
from typing import Any
from urllib.parse import urlsplit

from dal.errors import require
from dal.llm.clients.client import Request
from dal.llm.clients.hosted import HostedClient, check_address
from dal.llm.clients.prices import Usage
from dal.llm.clients.provider import BatchResult, LostBatchError, Provider, ProviderAnswer, merged, readable, sendable
from dal.llm.clients.retries import UnreadableError

_ENDPOINT = "/v1/chat/completions"
_MARK = "dal"  # metadata key of a batch's name
_LISTED = 100  # batches per list request


@dataclass(frozen=True)
class OpenAIClient(HostedClient):
    """Client of the chat completions API of OpenAI, or of a compatible server given by `base_url`.

    Structured answers are requested with a JSON schema. If a server rejects it, free text is requested, with a warning.

    Args:
        model: name of the model at the server.
        key_variable: name of the environment variable with the API key. None for OPENAI_API_KEY with OpenAI itself, and
            for no key with another server, so that OpenAI's key is not sent to third parties.

    See `HostedClient` for rate limits, cache and spending.
    """

    model: str

    def provider(self) -> str:
        """Return the server as the provider, because a model name may denote different models on different servers."""
        return (self.server() or "openai").rstrip("/")

    def server(self) -> str | None:
        """Return the base address, from the constructor or the variable OPENAI_BASE_URL; None for OpenAI itself."""
        if self.base_url or not (address := os.environ.get("OPENAI_BASE_URL")):
            return self.base_url or None
        check_address(address, "OPENAI_BASE_URL")
        return address

    def key_name(self) -> str | None:
        """Return the name of the environment variable with the API key; None to send no key."""
        return self.key_variable or ("OPENAI_API_KEY" if self.server() is None else None)

    def is_own(self) -> bool:
        """Return whether the server is on this machine or in a private network."""
        try:
            host = urlsplit(self.server() or "").hostname or ""
            return host == "localhost" or ipaddress.ip_address(host).is_private
        except ValueError:
            return False

    def wire(self, key: str) -> Provider:
        """Return the protocol implementation."""
        return _ChatWire(self, key)


class _ChatWire(Provider):
    concessions: Mapping[str, tuple[str, ...]] = {
        "temperature": ("temperature",),
        "max_tokens": ("max_tokens", "max_completion_tokens"),
        "schema": ("response_format", "schema", "grammar", "guided"),
    }

    def __init__(self, client: OpenAIClient, key: str) -> None:
        openai = require("openai", "openai")
        self._model, self._extra = client.model, client.extra_body or {}
        # OpenAI's reasoning models accept only the new name, most other servers only the old one.
        self._limits = ("max_completion_tokens", "max_tokens")
        if client.server() is not None:
            self._limits = self._limits[::-1]
        self._sdk = openai.AsyncOpenAI(
            api_key=key or "none", base_url=client.server(), timeout=client.timeout, max_retries=0
        )

    def body(self, request: Request, without: frozenset[str]) -> dict[str, Any]:
        system = [{"role": "system", "content": sendable(request.system)}] if request.system else []
        body: dict[str, Any] = {
            "model": self._model,
            "messages": [*system, {"role": "user", "content": sendable(request.prompt)}],
            self._limits["max_tokens" in without]: request.max_tokens,
        }
        if "temperature" not in without:
            body["temperature"] = request.temperature
        if request.schema is not None and "schema" not in without:
            schema = {"name": "answer", "schema": dict(request.schema), "strict": is_strict(request.schema)}
            body["response_format"] = {"type": "json_schema", "json_schema": schema}
        return merged(body, self._extra)

    async def send(self, body: Mapping[str, Any]) -> ProviderAnswer:
        named = {key: body[key] for key in ("model", "messages")}
        rest = {key: value for key, value in body.items() if key not in named}
        return readable(_read, await self._sdk.chat.completions.create(**named, extra_body=rest))

    async def close(self) -> None:
        await self._sdk.close()

    async def submit(self, name: str, bodies: Mapping[str, Mapping[str, Any]]) -> str:
        lines = [
            json.dumps({"custom_id": digest, "method": "POST", "url": _ENDPOINT, "body": body})
            for digest, body in bodies.items()
        ]
        content = io.BytesIO("\n".join(lines).encode("utf-8"))
        file = await self._sdk.files.create(file=(f"{name}.jsonl", content), purpose="batch")
        batch = await self._sdk.batches.create(
            input_file_id=file.id, endpoint=_ENDPOINT, completion_window="24h", metadata={_MARK: name}
        )
        if not isinstance(batch.id, str):
            raise UnreadableError
        return batch.id

    async def ended(self, id: str) -> bool:
        batch = await self._sdk.batches.retrieve(id)
        if batch.status == "failed":
            data = getattr(getattr(batch, "errors", None), "data", None) or []
            reasons = "; ".join(str(each.message) for each in data[:3])
            raise LostBatchError(
                f"the server refused the batch {id}: {' '.join(reasons.split())[:300] or 'it does not say why'}"
            )
        return batch.status in {"completed", "expired", "cancelled"}

    async def results(self, id: str) -> AsyncIterator[BatchResult]:
        batch = await self._sdk.batches.retrieve(id)
        for file in (batch.output_file_id, batch.error_file_id):
            if file:
                content = await self._sdk.files.content(file)
                for line in filter(None, content.text.split("\n")):  # splitlines would split inside strings
                    yield _result(json.loads(line, object_hook=lambda fields: SimpleNamespace(**fields)))

    async def find(
        self, name: str, digests: frozenset[str], since: float, rest: Callable[[], Awaitable[None]]
    ) -> str | None:
        page = await self._sdk.batches.list(limit=_LISTED)
        return next((batch.id for batch in page.data if (batch.metadata or {}).get(_MARK) == name), None)


def _result(line: Any) -> BatchResult:
    response = getattr(line, "response", None)
    if response is not None and response.status_code == 200:
        return BatchResult(line.custom_id, readable(_read, response.body))
    error = getattr(line, "error", None) or getattr(getattr(response, "body", None), "error", None)
    return BatchResult(line.custom_id, None, getattr(error, "message", None) or "an error without words")


def _read(completion: Any) -> ProviderAnswer:
    """Read the text of a completion."""
    choices = getattr(completion, "choices", None)
    if not isinstance(choices, list) or not choices or getattr(choices[0], "message", None) is None:
        raise UnreadableError
    used = getattr(completion, "usage", None)
    usage = None
    counts: list[Any] = [getattr(used, name, None) for name in ("prompt_tokens", "completion_tokens")]
    if all(isinstance(count, int) for count in counts):
        cached = getattr(getattr(used, "prompt_tokens_details", None), "cached_tokens", None) or 0
        usage = Usage(counts[0] - cached, counts[1], cached)
    text = getattr(choices[0].message, "content", None) or getattr(choices[0].message, "refusal", None) or ""
    return ProviderAnswer(text, usage, choices[0].finish_reason == "length")


def is_strict(schema: Any) -> bool:
    """Return whether a schema meets OpenAI's strict mode: objects require all their keys and allow no others.

    Example:
        >>> is_strict({"type": "object", "properties": {"label": {"type": "string"}}})
        False
    """
    if isinstance(schema, list):
        return all(map(is_strict, schema))
    if not isinstance(schema, Mapping):
        return True
    if isinstance(schema.get("properties"), Mapping):
        closed = schema.get("additionalProperties") is False
        if not closed or set(schema.get("required", ())) != set(schema["properties"]):
            return False
    return all(map(is_strict, schema.values()))
