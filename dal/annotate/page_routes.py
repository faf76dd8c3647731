"""Routes of the annotation page: the files of the page, and JSON requests to a `Service`.

All checks of where a request comes from are in `request_guard.py`, and those of its fields in `request_fields.py`.
"""

import hashlib
import json
import math
import sys
from collections.abc import Callable, Mapping, Sequence
from importlib import resources
from typing import Any

from starlette.applications import Starlette
from starlette.concurrency import run_in_threadpool
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response
from starlette.routing import Route

from dal.annotate.admissions import Entrance
from dal.annotate.request_fields import BODIES, CHANGES, KEY, MAX_NAME, Field, checked, text_field
from dal.annotate.request_guard import Application, Refusal, RequestGuard
from dal.annotate.service_contract import ADJUDICATE, CLASSES, OutdatedAnswerError, Reply, Service
from dal.errors import DalError, SessionError
from dal.store.bounded_json import parse_json

MAX_LISTED = 200  # rows of a list
_MAX_DEPTH = 4  # of the JSON of a body

_TYPES = {"js": "text/javascript", "css": "text/css", "svg": "image/svg+xml"}


class Endpoints:
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
            "state": self._state,
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
            body = checked(await _body(request), fields)
            return _json(await run_in_threadpool(write, request.state.who, **body))

        return endpoint

    async def _change_classes(self, request: Request) -> Response:
        await self._check(request, CLASSES)
        body = await _body(request)
        does = body.get("do") if isinstance(body, dict) else None
        if not isinstance(does, str) or does not in CHANGES:
            raise Refusal(400, f"the field do must be one of {', '.join(CHANGES)}")
        change = checked(body, {"do": text_field(MAX_NAME), "key": KEY, **CHANGES[does]})
        key = change.pop("key")
        return _json(await run_in_threadpool(self._service.change_classes, request.state.who, change=change, key=key))

    def _state(self, who: str, request: Request) -> Reply:
        shown = request.query_params.get("row")
        if shown is None:
            return self._service.state(who)
        return self._service.state(who, shown=_parameter(request, "row"), replaces=_number(request, "replaces"))

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
        routes=Endpoints(service, project).routes(),
        exception_handlers={**handlers, Exception: _failed},
    )
    app.router.redirect_slashes = False
    return RequestGuard(app, admissions, hosts, scheme)
