"""A language-model server on loopback that speaks both protocols, misbehaves on order and keeps the books."""

import json
import socket
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import urlsplit

KEY = "sk-secret-1234567890-do-not-tell"
MODELS = {"claude-haiku-4-5-20251001", "claude-opus-5-5", "gpt-4o-mini", "small"}


@dataclass
class Hit:
    """One request for an answer, as the server saw it."""

    number: int  # from 1, over all of them
    attempt: int  # from 1, of this prompt
    prompt: str
    body: dict[str, Any]
    headers: dict[str, str]
    arrived: float
    beside: int  # how many others were being answered
    status: int = 0  # 0: no answer was given
    billed: tuple[int, int] | None = None  # tokens in and out; None: it costs nothing


@dataclass(frozen=True)
class Misdeed:
    """What to do instead of answering, or before it.

    Attributes:
        status: answer with this error.
        headers: with these headers.
        message: and these words.
        seconds: wait first.
        cut: close the connection after the work is done, before or within the answer.
        garbage: answer with this text.
    """

    status: int = 200
    headers: Mapping[str, str] = field(default_factory=dict)
    message: str = "on order"
    seconds: float = 0.0
    cut: str = ""
    garbage: str = ""


class Server:
    """The server and its log. `misbehave` is asked about every hit; None means: answer it.

    Attributes:
        url: where it listens.
        hits: every request for an answer, in order of arrival; those inside a batch have `beside` 0.
        tokens: how many tokens a request is billed; the rule may be replaced.
    """

    def __init__(self) -> None:
        self.lock = threading.RLock()
        self.hits: list[Hit] = []
        self.others: list[str] = []  # method and path of everything else
        self.misbehave: Callable[[Hit], Misdeed | None] = lambda hit: None
        self.around: Callable[[str], Misdeed | None] = lambda what: None  # the same for batches
        self.tokens: Callable[[Hit], tuple[int, int]] = lambda hit: (len(json.dumps(hit.body)) // 4, 12)
        self.words: Callable[[Hit], str] = lambda hit: f"answer to {hit.prompt}"
        self.polls = 1  # looks until a batch has ended
        self.batches: dict[str, dict[str, Any]] = {}
        self.files: dict[str, str] = {}
        self.busy = 0
        self._http = ThreadingHTTPServer(("127.0.0.1", 0), _handler(self))
        self._http.daemon_threads = True
        self.url = f"http://127.0.0.1:{self._http.server_address[1]}"

    @contextmanager
    def running(self) -> Iterator["Server"]:
        thread = threading.Thread(target=self._http.serve_forever, kwargs={"poll_interval": 0.02})
        thread.start()
        try:
            yield self
        finally:
            self._http.shutdown()
            thread.join()
            self._http.server_close()

    def hit(self, body: dict[str, Any], headers: dict[str, str]) -> Hit:
        prompt = next(m["content"] for m in body["messages"] if m["role"] == "user")
        with self.lock:
            attempt = 1 + sum(hit.prompt == prompt for hit in self.hits)
            hit = Hit(len(self.hits) + 1, attempt, prompt, body, headers, time.monotonic(), self.busy)
            self.hits.append(hit)
        return hit

    def answered(self) -> dict[str, int]:
        """How often each prompt was worked on and billed."""
        counts: dict[str, int] = {}
        for hit in self.hits:
            if hit.billed is not None:
                counts[hit.prompt] = counts.get(hit.prompt, 0) + 1
        return counts

    def dollars(self, input: float, output: float) -> float:
        """What the server would put on the invoice, at dollars per million tokens; a batch costs half."""
        total = 0.0
        for hit in self.hits:
            if hit.billed is not None:
                share = 0.5 if hit.headers.get("batch") else 1.0
                total += share * (hit.billed[0] * input + hit.billed[1] * output) / 1e6
        return total

    def most_beside(self) -> int:
        """The largest number of requests that were on their way at once."""
        return 1 + max(hit.beside for hit in self.hits)


def message(server: Server, hit: Hit) -> dict[str, Any]:
    """An answer of the Messages API, which calls the tool where one is forced."""
    tokens_in, tokens_out = hit.billed or (0, 0)
    words = server.words(hit)
    content: dict[str, Any] = {"type": "text", "text": words}
    if "tools" in hit.body:
        content = {
            "type": "tool_use",
            "id": "tool_1",
            "name": hit.body["tool_choice"]["name"],
            "input": {"said": words},
        }
    return {
        "id": f"msg_{hit.number}",
        "type": "message",
        "role": "assistant",
        "model": hit.body["model"],
        "content": [content],
        "stop_reason": "max_tokens" if tokens_out >= hit.body["max_tokens"] else "end_turn",
        "stop_sequence": None,
        "usage": {"input_tokens": tokens_in, "output_tokens": tokens_out},
    }


def completion(server: Server, hit: Hit) -> dict[str, Any]:
    """An answer of the chat completions API."""
    tokens_in, tokens_out = hit.billed or (0, 0)
    words = server.words(hit)
    limit = hit.body.get("max_tokens") or hit.body.get("max_completion_tokens")
    content = json.dumps({"said": words}) if "response_format" in hit.body else words
    return {
        "id": f"chatcmpl-{hit.number}",
        "object": "chat.completion",
        "created": 0,
        "model": hit.body["model"],
        "choices": [
            {
                "index": 0,
                "finish_reason": "length" if tokens_out >= limit else "stop",
                "message": {"role": "assistant", "content": content},
            }
        ],
        "usage": {
            "prompt_tokens": tokens_in,
            "completion_tokens": tokens_out,
            "total_tokens": tokens_in + tokens_out,
        },
    }


def _handler(server: Server) -> type[BaseHTTPRequestHandler]:
    class Handler(_Handler):
        books = server

    return Handler


class _Handler(BaseHTTPRequestHandler):
    books: Server
    protocol_version = "HTTP/1.1"

    def setup(self) -> None:
        super().setup()
        self.request.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)

    def log_message(self, *arguments: Any) -> None:
        pass

    def handle(self) -> None:
        try:
            super().handle()
        except (ConnectionError, TimeoutError):  # the client was killed, or gave up
            self.close_connection = True

    def do_POST(self) -> None:
        raw = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        path = urlsplit(self.path).path
        if path in {"/v1/messages", "/v1/chat/completions"}:
            return self._answer(json.loads(raw), message if path == "/v1/messages" else completion)
        self.books.others.append(f"POST {path}")
        if path == "/v1/messages/batches":
            return self._begin(json.loads(raw)["requests"], {}, "params", message)
        if path == "/v1/files":
            return self._upload(raw)
        if path == "/v1/batches":
            order = json.loads(raw)
            lines = self.books.files[order["input_file_id"]].splitlines()
            return self._begin(list(map(json.loads, lines)), order.get("metadata") or {}, "body", completion)
        return self._say(404, {"error": {"message": f"no {path}"}})

    def do_GET(self) -> None:
        path = urlsplit(self.path).path
        self.books.others.append(f"GET {path}")
        parts = path.strip("/").split("/")
        if path.startswith("/v1/files/"):
            return self._send(200, self.books.files[parts[2]].encode(), "application/octet-stream")
        if path in {"/v1/messages/batches", "/v1/batches"}:
            with self.books.lock:
                every = [_shown(batch) for batch in self.books.batches.values()]
            return self._say(200, {"object": "list", "data": every[::-1], "has_more": False})
        batch = self.books.batches.get(parts[-2] if parts[-1] == "results" else parts[-1])
        if batch is None:
            return self._say(404, {"error": {"message": f"no {path}"}})
        if parts[-1] == "results":
            return self._send(200, "\n".join(batch["lines"]).encode(), "application/x-jsonl")
        batch["looks"] += 1
        return self._say(200, _shown(batch))

    # -- answers ---------------------------------------------------------------------------------------------------

    def _answer(self, body: dict[str, Any], form: Callable[[Server, Hit], dict[str, Any]]) -> None:
        books = self.books
        hit = books.hit(body, {key.lower(): value for key, value in self.headers.items()})
        with books.lock:
            books.busy += 1
        try:
            self._deal(hit, form, books.misbehave(hit) or Misdeed())
        finally:
            with books.lock:
                books.busy -= 1

    def _deal(self, hit: Hit, form: Callable[[Server, Hit], dict[str, Any]], misdeed: Misdeed) -> None:
        time.sleep(misdeed.seconds)
        key = hit.headers.get("authorization", "").removeprefix("Bearer ") or hit.headers.get("x-api-key", "")
        if misdeed.status != 200:
            return self._refuse(hit, misdeed.status, misdeed.message, misdeed.headers)
        if key != KEY and hit.body["model"] != "small":
            return self._refuse(hit, 401, f"invalid key {key}")
        if hit.body["model"] not in MODELS:
            return self._refuse(hit, 404, f"model: {hit.body['model']}")
        hit.billed = self.books.tokens(hit)
        if misdeed.cut == "before":
            return self._hang_up()
        answer = json.dumps(form(self.books, hit)).encode()
        if misdeed.cut == "within":
            self.send_response(200)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(answer)))
            self.end_headers()
            self.wfile.write(answer[: len(answer) // 2])
            return self._hang_up()
        hit.status = 200
        self._send(200, misdeed.garbage.encode() or answer, "application/json")
        return None

    def _refuse(self, hit: Hit, status: int, words: str, headers: Mapping[str, str] = {}) -> None:
        hit.status = status
        self._say(status, {"type": "error", "error": {"type": "some_error", "message": words}}, headers)

    def _hang_up(self) -> None:
        self.wfile.flush()
        self.close_connection = True
        self.connection.shutdown(socket.SHUT_RDWR)

    def _say(self, status: int, body: Any, headers: Mapping[str, str] = {}) -> None:
        self._send(status, json.dumps(body).encode(), "application/json", headers)

    def _send(self, status: int, body: bytes, kind: str, headers: Mapping[str, str] = {}) -> None:
        self.send_response(status)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(body)))
        for name, value in headers.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(body)

    # -- batches ---------------------------------------------------------------------------------------------------

    def _begin(
        self,
        requests: list[dict[str, Any]],
        metadata: dict[str, str],
        part: str,
        form: Callable[[Server, Hit], dict[str, Any]],
    ) -> None:
        books = self.books
        misdeed = books.around("create") or Misdeed()
        if misdeed.status != 200:
            return self._say(misdeed.status, {"error": {"message": misdeed.message}})
        lines = []
        for request in requests:
            hit = books.hit(request[part], {"batch": "yes"})
            lines.append(json.dumps(_result(books, hit, request["custom_id"], form)))
        id = f"batch_{len(books.batches) + 1}"
        batch = {"id": id, "lines": lines, "metadata": metadata, "looks": 0, "books": books, "openai": part == "body"}
        books.files[f"out_{id}"] = "\n".join(lines)
        with books.lock:
            books.batches[id] = batch | {"at": time.time()}
        if misdeed.cut:
            return self._hang_up()
        return self._say(200, _shown(books.batches[id]))

    def _upload(self, raw: bytes) -> None:
        inside = raw.split(b"\r\n\r\n")
        content = next(part for part in inside if part.lstrip().startswith(b'{"custom_id"')).split(b"\r\n--")[0]
        id = f"file_{len(self.books.files) + 1}"
        self.books.files[id] = content.decode()
        self._say(200, {"id": id, "object": "file", "bytes": len(content), "created_at": 0, "filename": "x"})


def _result(books: Server, hit: Hit, name: str, form: Callable[[Server, Hit], dict[str, Any]]) -> dict[str, Any]:
    misdeed = books.misbehave(hit)
    openai = form is completion
    if misdeed is not None:
        error = {"type": "some_error", "message": misdeed.message}
        if openai:
            return {"custom_id": name, "response": {"status_code": misdeed.status, "body": {"error": error}}}
        return {"custom_id": name, "result": {"type": "errored", "error": {"type": "error", "error": error}}}
    hit.billed, hit.status = books.tokens(hit), 200
    answer = form(books, hit)
    if openai:
        return {"custom_id": name, "response": {"status_code": 200, "body": answer}, "error": None}
    return {"custom_id": name, "result": {"type": "succeeded", "message": answer}}


def _shown(batch: dict[str, Any]) -> dict[str, Any]:
    """A batch as both protocols show it."""
    ended = batch["looks"] >= batch["books"].polls
    stamp = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(batch["at"]))
    count = len(batch["lines"])
    shown = {"id": batch["id"], "created_at": stamp, "expires_at": stamp}
    if batch["openai"]:
        return shown | {
            "object": "batch",
            "created_at": int(batch["at"]),
            "expires_at": int(batch["at"]) + 86400,
            "completion_window": "24h",
            "endpoint": "/v1/chat/completions",
            "input_file_id": "file_1",
            "status": "completed" if ended else "in_progress",
            "output_file_id": f"out_{batch['id']}" if ended else None,
            "metadata": batch["metadata"],
        }
    done = {"processing": 0 if ended else count, "succeeded": count if ended else 0}
    return shown | {
        "type": "message_batch",
        "processing_status": "ended" if ended else "in_progress",
        "request_counts": {"errored": 0, "canceled": 0, "expired": 0, **done},
        "results_url": f"{batch['books'].url}/v1/messages/batches/{batch['id']}/results" if ended else None,
    }
