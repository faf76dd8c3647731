"""HTTP server of the annotation page: the files of the page, and JSON requests to a `Service`.

It imports no torch, numpy or arrow, and answers within a second of the command. All checks of where a request comes
from are in `request_guard.py`; here its fields are checked.
"""

import asyncio
import errno
import hashlib
import json
import logging
import math
import socket
import ssl
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from importlib import resources
from typing import Any

import uvicorn
from starlette.applications import Starlette
from starlette.concurrency import run_in_threadpool
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response
from starlette.routing import Route
from uvicorn.protocols.http.h11_impl import H11Protocol

from dal.annotate.admissions import Entrance
from dal.annotate.request_guard import Application, Refusal, RequestGuard
from dal.annotate.service_contract import ADJUDICATE, CLASSES, OutdatedAnswerError, Reply, Service
from dal.errors import ConfigError, DalError, SessionError
from dal.store.bounded_json import parse_json

#: Letters of the page's commands, which no class can be bound to.
COMMAND_LETTERS = "sdfh"

MAX_NOTE = 4_000  # characters of a note, a description or a guideline
MAX_NAME = 200  # characters of a class name
MAX_SELECTED = 1_000  # classes of an answer
MAX_LISTED = 200  # rows of a list
_MAX_DEPTH = 4

#: Seconds within which the first request of a connection must come.
FIRST_REQUEST = 15.0

_TYPES = {"js": "text/javascript", "css": "text/css", "svg": "image/svg+xml"}


@dataclass(frozen=True)
class Field:
    """A field of a request: what is accepted, and how an error names it."""

    accepts: Callable[[Any], bool]
    expected: str
    required: bool = True


def _is_int(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and 0 <= value < 2**63


def _text(most: int, least: int = 1) -> Field:
    expected = f"text of {least} to {most:,} characters"
    return Field(lambda value: isinstance(value, str) and least <= len(value) <= most, expected)


def _is_letter(value: Any) -> bool:
    return value is None or (
        isinstance(value, str)
        and len(value) == 1
        and value.isalpha()
        and value == value.lower()
        and value not in COMMAND_LETTERS
    )


ROW = _text(10_000)
NUMBER = Field(_is_int, "a whole number")
OPTIONAL_NUMBER = Field(lambda value: value is None or _is_int(value), "a whole number or null")
KEY = Field(
    lambda value: isinstance(value, str) and 8 <= len(value) <= 64 and value.isascii() and value.isalnum(),
    "8 to 64 letters and digits",
)
SELECTED = Field(
    lambda value: isinstance(value, list) and len(value) <= MAX_SELECTED and all(map(_is_int, value)),
    "a list of class ids",
)
SECONDS = Field(
    lambda value: (
        value is None
        or (isinstance(value, int | float) and not isinstance(value, bool) and 0 <= value <= 86_400)  # NaN is not
    ),
    "seconds between 0 and 86,400, or null",
)
SEEN = Field(
    lambda value: (
        isinstance(value, dict)
        and value.keys() <= {"model", "near", "why"}
        and all(isinstance(shown, bool) for shown in value.values())
    ),
    "model, near and why, each true or false",
)
EXAMPLES = Field(
    lambda value: (
        isinstance(value, list)
        and len(value) <= 100
        and all(isinstance(each, str) and len(each) <= MAX_NOTE for each in value)
    ),
    "a list of texts",
    required=False,
)
OPTIONAL_TEXT = Field(lambda value: isinstance(value, str) and len(value) <= MAX_NOTE, "text", required=False)
LETTER = Field(_is_letter, f"a lower-case letter other than {', '.join(COMMAND_LETTERS)}, or null")

BODIES: dict[str, dict[str, Field]] = {
    "answer": {
        "row": ROW,
        "classes": SELECTED,
        "key": KEY,
        "replaces": OPTIONAL_NUMBER,
        "seconds": SECONDS,
        "seen": SEEN,
    },
    "skip": {
        "row": ROW,
        "key": KEY,
        "replaces": OPTIONAL_NUMBER,
        "how": Field(lambda value: value in ("later", "decline"), "later or decline"),
    },
    "flag": {"row": ROW, "key": KEY, "text": _text(MAX_NOTE)},
    "undo": {"key": KEY},
    "take": {"row": ROW},
    "adjudicate": {"row": ROW, "classes": SELECTED, "key": KEY},
}

#: Fields of a change of classes, by what it does.
CHANGES: dict[str, dict[str, Field]] = {
    "add": {"name": _text(MAX_NAME), "description": OPTIONAL_TEXT},
    "rename": {"id": NUMBER, "name": _text(MAX_NAME)},
    "describe": {"id": NUMBER, "text": OPTIONAL_TEXT, "examples": EXAMPLES},
    "merge": {"id": NUMBER, "into": NUMBER},
    "retire": {"id": NUMBER},
    "restore": {"id": NUMBER},
    "bind": {"id": NUMBER, "letter": LETTER},
    "guide": {"text": _text(10 * MAX_NOTE, 0)},
}


def _checked(body: Any, fields: Mapping[str, Field]) -> dict[str, Any]:
    """The body of a request, whose fields are all known and valid; raises `Refusal`."""
    if not isinstance(body, dict):
        raise Refusal(400, "a body must be a JSON object")
    unknown = sorted(body.keys() - fields.keys())
    if unknown:
        raise Refusal(400, f"unknown field {unknown[0][:50]!r}; known are {', '.join(fields)}")
    for name, field in fields.items():
        if name in body or field.required:
            if name not in body:
                raise Refusal(400, f"the field {name} is missing")
            if not field.accepts(body[name]):
                raise Refusal(400, f"the field {name} must be {field.expected}")
    return body


class _Endpoints:
    """The routes of the page and of its requests."""

    def __init__(self, service: Service, project: str) -> None:
        self._service = service
        self._project = project
        folder = resources.files("dal.annotate") / "page"
        self._page = (folder / "page.html").read_text(encoding="utf-8")
        self._files = {
            f"/{file.name}": (file.read_bytes(), _TYPES[file.name.rpartition(".")[2]])
            for file in folder.iterdir()
            if file.name.rpartition(".")[2] in _TYPES
        }

    def routes(self) -> list[Route]:
        """All routes: fixed paths, none of which is a path of a file that a request names."""
        reads: dict[str, Callable[[str, Request], Reply]] = {
            "state": lambda who, _: self._service.state(who),
            "hints": lambda who, request: self._service.hints(who, row=_parameter(request, "row")),
            "history": self._history,
            "search": self._search,
            "progress": lambda who, _: self._service.progress(who),
            "disputes": lambda who, _: self._service.disputes(who),
            "copies": lambda who, request: self._service.copies(who, row=_parameter(request, "row")),
        }
        writes: dict[str, Callable[..., Reply]] = {
            "answer": self._service.answer,
            "skip": self._service.skip,
            "flag": self._service.flag,
            "undo": self._service.undo,
            "take": self._service.take,
            "adjudicate": self._service.adjudicate,
        }
        rights = {"disputes": ADJUDICATE, "adjudicate": ADJUDICATE}
        return [
            Route("/", self._open, methods=["GET"]),
            *(Route(path, self._file, methods=["GET"]) for path in self._files),
            *(Route(f"/api/{name}", self._reading(read, rights.get(name))) for name, read in reads.items()),
            *(
                Route(f"/api/{name}", self._writing(write, BODIES[name], rights.get(name)), methods=["POST"])
                for name, write in writes.items()
            ),
            Route("/api/classes", self._change_classes, methods=["POST"]),
        ]

    async def _open(self, request: Request) -> Response:
        page = self._page.replace("{{nonce}}", request.state.nonce).replace("{{page}}", self._identity(request))
        page = page.replace("{{login}}", "yes" if request.state.login else "no")
        return Response(page, media_type="text/html")

    async def _file(self, request: Request) -> Response:
        content, media_type = self._files[request.url.path]
        return Response(content, media_type=media_type)

    def _reading(self, read: Callable[[str, Request], Reply], right: str | None) -> Callable[[Request], Any]:
        async def endpoint(request: Request) -> Response:
            await self._check(request, right)
            return _json(await run_in_threadpool(read, request.state.who, request))

        return endpoint

    def _writing(
        self, write: Callable[..., Reply], fields: Mapping[str, Field], right: str | None
    ) -> Callable[[Request], Any]:
        async def endpoint(request: Request) -> Response:
            await self._check(request, right)
            body = _checked(await _body(request), fields)
            return _json(await run_in_threadpool(write, request.state.who, **body))

        return endpoint

    async def _change_classes(self, request: Request) -> Response:
        await self._check(request, CLASSES)
        body = await _body(request)
        does = body.get("do") if isinstance(body, dict) else None
        if not isinstance(does, str) or does not in CHANGES:
            raise Refusal(400, f"the field do must be one of {', '.join(CHANGES)}")
        change = _checked(body, {"do": _text(MAX_NAME), "key": KEY, **CHANGES[does]})
        key = change.pop("key")
        return _json(await run_in_threadpool(self._service.change_classes, request.state.who, change=change, key=key))

    def _search(self, who: str, request: Request) -> Reply:
        by = request.query_params.get("by") or "words"
        if by not in ("words", "meaning"):
            raise Refusal(400, "by must be words or meaning")
        limit = _number(request, "limit", MAX_LISTED) or 20
        return self._service.search(who, q=_parameter(request, "q"), limit=limit, by=by)

    def _history(self, who: str, request: Request) -> Reply:
        since = request.query_params.get("since") or None
        try:
            seconds = None if since is None else float(since)
        except ValueError:
            seconds = math.nan
        if seconds is not None and not math.isfinite(seconds):
            raise Refusal(400, "since must be a number of seconds since 1970")
        return self._service.history(
            who,
            q=_parameter(request, "q", least=0),
            class_id=_number(request, "class"),
            person=_parameter(request, "who", least=0) or None,
            since=seconds,
            disagree=request.query_params.get("disagree") == "1",
            before=_number(request, "before"),
            limit=_number(request, "limit", MAX_LISTED) or 50,
        )

    async def _check(self, request: Request, right: str | None) -> None:
        """Refuse a request of a page of another project or person, and one without the right."""
        page = request.headers.get("dal-page")
        if page is not None and page != self._identity(request):
            raise Refusal(412, "this address shows another project now: reload the page")
        if right is not None and right not in await run_in_threadpool(self._service.rights, request.state.who):
            raise Refusal(403, f"this needs the right {right!r}")

    def _identity(self, request: Request) -> str:
        """Identity of project and person: what a tab kept for one project must not be sent to another."""
        return hashlib.sha256(json.dumps([self._project, request.state.who]).encode()).hexdigest()[:16]


def _parameter(request: Request, name: str, *, least: int = 1) -> str:
    value = request.query_params.get(name, "")
    if not least <= len(value) <= 10_000:
        raise Refusal(400, f"{name} must be text of {least} to 10,000 characters")
    return value


def _number(request: Request, name: str, most: int = 2**62) -> int | None:
    value = request.query_params.get(name, "")
    if not value:
        return None
    if not (value.isascii() and value.isdigit() and len(value) < 20 and int(value) <= most):
        raise Refusal(400, f"{name} must be a whole number up to {most:,}")
    return int(value)


async def _body(request: Request) -> Any:
    try:
        body = parse_json(await request.body(), max_depth=_MAX_DEPTH)
    except ValueError as error:
        raise Refusal(400, f"the body is not valid JSON: {error}") from None
    try:
        json.dumps(body, ensure_ascii=False).encode()
    except UnicodeEncodeError:  # a text that was cut within an emoji: repeating the request would not help
        raise Refusal(400, "a text ends in half of a character (a lone surrogate)") from None
    return body


def _json(reply: Reply, status: int = 200) -> Response:
    # ASCII, so that a text with half of a surrogate pair can be sent, too.
    try:
        text = json.dumps(reply, allow_nan=False)
    except ValueError:  # an infinite or undefined number in a foreign column, or in a log from a stranger
        text = json.dumps(_finite(reply), allow_nan=False)
    return Response(text, status, media_type="application/json")


def _finite(value: Any) -> Any:
    """A value of a reply with null for numbers that JSON does not have."""
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, Mapping):
        return {key: _finite(each) for key, each in value.items()}
    return [_finite(each) for each in value] if isinstance(value, list | tuple) else value


async def _refused(request: Request, error: Exception) -> Response:
    """The answer to a request that failed: one line, and no traceback."""
    if isinstance(error, Refusal):
        return _json({"error": str(error)}, error.status)
    if isinstance(error, HTTPException):
        return _json({"error": error.detail}, error.status_code)
    if isinstance(error, OutdatedAnswerError):
        return _json({"error": str(error), "stands": error.stands}, 409)
    # The disk may be full for a while: the page keeps what was refused with 5xx, and sends it again.
    return _json({"error": str(error)}, 503 if isinstance(error, SessionError) else 400)


async def _failed(request: Request, error: Exception) -> Response:
    """The answer to a request that met a bug or a full disk. The page keeps what it sent, and sends it again."""
    reason = f"{type(error).__name__}: {str(error).splitlines()[0][:200] if str(error) else ''}".rstrip(": ")
    print(f"dal: {request.url.path} failed: {reason}", file=sys.stderr)  # the path holds neither token nor text
    return _json({"error": f"the answer could not be stored: {reason}"}, 500)


def application(
    service: Service, admissions: Entrance, *, hosts: Sequence[str], project: str, scheme: str = "http"
) -> Application:
    """The guarded application.

    Args:
        service: what answers the requests.
        admissions: who may enter.
        hosts: accepted values of `Host`.
        project: path of the project, which tells pages of different projects apart.
        scheme: "http" or "https", of the addresses that people open.
    """
    handlers = dict.fromkeys((Refusal, HTTPException, DalError, ClientDisconnect), _refused)
    app = Starlette(
        routes=_Endpoints(service, project).routes(),
        exception_handlers={**handlers, Exception: _failed},
    )
    app.router.redirect_slashes = False
    return RequestGuard(app, admissions, hosts, scheme)


def listen(port: int, address: str = "127.0.0.1") -> socket.socket:
    """A socket on a port of an address of this computer; port 0 takes a free one.

    Args:
        port: port.
        address: numeric; `::` is all addresses, also those of IPv4.

    Raises:
        ConfigError: the port is in use or may not be opened, or the address belongs to another computer.
    """
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    # Named TCP: else asyncio leaves Nagle's algorithm on, and each reply waits 40 ms for an acknowledgement.
    server = socket.socket(family, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    if sys.platform == "win32":  # there, SO_REUSEADDR lets another program take over the port
        server.setsockopt(socket.SOL_SOCKET, socket.SO_EXCLUSIVEADDRUSE, 1)
    else:
        server.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    if address == "::":
        server.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0)
    try:
        server.bind((address, port))
        server.listen(128)
    except OSError as error:
        server.close()
        if error.errno == errno.EADDRINUSE:
            other = port + 1 if port < 65_535 else port - 1
            raise ConfigError(f"port {port} is in use by another program: choose one with --port {other}") from None
        if error.errno == errno.EADDRNOTAVAIL:
            raise ConfigError(
                f"--host {address} is no address of this computer: use one of its own, or 0.0.0.0 for all"
            ) from None
        raise ConfigError(f"port {port} cannot be opened: {error.strerror}; choose one with --port 8766") from None
    return server


def hosts_of(port: int) -> list[str]:
    """The values of `Host` that reach a port of this computer."""
    return [f"127.0.0.1:{port}", f"localhost:{port}"]


def server_config(app: Application, tls: ssl.SSLContext | None = None) -> uvicorn.Config:
    """Settings of the server. Nothing is logged: addresses hold a token, and bodies hold texts.

    Args:
        app: application.
        tls: certificate and key; None for plain HTTP.
    """
    config = uvicorn.Config(
        app,
        lifespan="off",
        log_config=None,
        log_level=logging.CRITICAL,
        access_log=False,
        server_header=False,
        date_header=False,
        proxy_headers=False,
        ws="none",
        http=_Protocol,
        loop="asyncio",
        timeout_keep_alive=75,
        timeout_graceful_shutdown=2,
        limit_concurrency=200,
    )
    if tls is not None:
        config.load()
        config.ssl = tls  # checked already, unlike files that uvicorn would read
    return config


class _Protocol(H11Protocol):
    """HTTP that closes connections on which no request comes: they count towards the limit of all connections."""

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        self._idle = self.loop.call_later(FIRST_REQUEST, transport.close)

    def handle_events(self) -> None:
        super().handle_events()
        if self.cycle is not None:
            self._idle.cancel()

    def connection_lost(self, exc: Exception | None) -> None:
        self._idle.cancel()
        super().connection_lost(exc)


def serve(app: Application, listening: socket.socket, tls: ssl.SSLContext | None = None) -> None:
    """Answer requests until Ctrl-C or SIGTERM."""
    uvicorn.Server(server_config(app, tls)).run(sockets=[listening])
