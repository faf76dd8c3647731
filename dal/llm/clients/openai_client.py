"""OpenAI, and every server that speaks its protocol: vLLM, Ollama, llama.cpp, and others."""

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
from dal.llm.clients.failures import UnreadableError
from dal.llm.clients.hosted import HostedClient, check_address
from dal.llm.clients.prices import Usage
from dal.llm.clients.provider import BatchResult, LostBatchError, Provider, ProviderAnswer, merged, readable, sendable

_ENDPOINT = "/v1/chat/completions"
_MARK = "dal"  # a batch's name in its metadata
_SHOWN = 100


@dataclass(frozen=True)
class OpenAIClient(HostedClient):
    """Asks a model by OpenAI's chat completions: OpenAI itself, or another server by `base_url`.

    Structured answers come by a JSON schema; a server that refuses one is asked for plain text, with a warning.

    Args:
        model: its name, as the server has it.
        key_variable: the environment variable that holds the key; None: OPENAI_API_KEY, and no key for a server named
            by `base_url`, so that OpenAI's key goes to nobody else.

    See `HostedClient` for the limits, the cache and the money.
    """

    model: str

    def provider(self) -> str:
        """Whose answers they are: the same name means another model on another server."""
        return (self.server() or "openai").rstrip("/")

    def server(self) -> str | None:
        """The base address, from the constructor or the environment's OPENAI_BASE_URL; None for OpenAI itself."""
        if self.base_url or not (address := os.environ.get("OPENAI_BASE_URL")):
            return self.base_url or None
        check_address(address, "OPENAI_BASE_URL")
        return address

    def key_name(self) -> str | None:
        """The variable to read the key from."""
        return self.key_variable or ("OPENAI_API_KEY" if self.server() is None else None)

    def is_own(self) -> bool:
        """Whether the server is on this machine or in a private network."""
        try:
            host = urlsplit(self.server() or "").hostname or ""
            return host == "localhost" or ipaddress.ip_address(host).is_private
        except ValueError:
            return False

    def wire(self, key: str) -> Provider:
        """The protocol."""
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
        # OpenAI's reasoning models know only the new name, most other servers only the old one.
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
            said = "; ".join(str(each.message) for each in data[:3])
            raise LostBatchError(
                f"the server refused the batch {id}: {' '.join(said.split())[:300] or 'it does not say why'}"
            )
        return batch.status in {"completed", "expired", "cancelled"}

    async def results(self, id: str) -> AsyncIterator[BatchResult]:
        batch = await self._sdk.batches.retrieve(id)
        for file in (batch.output_file_id, batch.error_file_id):
            if file:
                content = await self._sdk.files.content(file)
                for line in filter(None, content.text.split("\n")):  # no other line break ends a line of JSON
                    yield _result(json.loads(line, object_hook=lambda found: SimpleNamespace(**found)))

    async def find(
        self, name: str, digests: frozenset[str], since: float, rest: Callable[[], Awaitable[None]]
    ) -> str | None:
        page = await self._sdk.batches.list(limit=_SHOWN)
        return next((batch.id for batch in page.data if (batch.metadata or {}).get(_MARK) == name), None)


def _result(line: Any) -> BatchResult:
    response = getattr(line, "response", None)
    if response is not None and response.status_code == 200:
        return BatchResult(line.custom_id, readable(_read, response.body))
    error = getattr(line, "error", None) or getattr(getattr(response, "body", None), "error", None)
    return BatchResult(line.custom_id, None, getattr(error, "message", None) or "an error without words")


def _read(completion: Any) -> ProviderAnswer:
    """The text of a completion."""
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
    """Whether OpenAI takes the schema at its word: every object names all its keys as required and allows no others.

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
