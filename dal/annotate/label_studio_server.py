"""HTTP server for Label Studio's machine-learning backend: `/health`, `/setup`, `/predict` and `/webhook`.

It imports no torch, numpy or arrow, and answers from what is stored. Requests need the password, except for webhooks,
which Label Studio sends without one: of these nothing is read, they only cause a reading through the API. `/setup`
brings a token of the user, which is neither stored nor shown.
"""

import asyncio
import base64
import binascii
import hashlib
import hmac
import sys
from collections.abc import Callable, Collection
from typing import Any

from starlette.applications import Starlette
from starlette.concurrency import run_in_threadpool
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from dal.annotate.label_studio_service import LabelStudioService
from dal.annotate.request_guard import (
    Application,
    Message,
    Receive,
    Refusal,
    Scope,
    Send,
    check_body,
    checked_host,
    header,
    is_request,
    limited,
    refuse,
)
from dal.errors import ConfigError, DalError, one_line, shown
from dal.store.bounded_json import parse_json

#: Largest body of a request, in bytes: with the password, where all selected tasks come at once, and without.
MAX_BODY, MAX_HINT = 16 << 20, 1 << 20

_HINTS = "/webhook"
_MAX_DEPTH = 32
_PENALTY = 0.2  # seconds that a wrong password takes


class BackendGuard:
    """ASGI application that passes on only requests of a Label Studio that knows the password, and its webhooks.

    Args:
        app: application that answers the requests that are let through.
        user, password: of basic authentication.
        hosts: accepted values of `Host`.
    """

    def __init__(self, app: Application, user: str, password: str, hosts: Collection[str]) -> None:
        self._app, self._hosts = app, frozenset(hosts)
        self._expected = _digest(f"{user}:{password}".encode())

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a request, or pass it on."""
        if not await is_request(self._app, scope, receive, send):
            return
        started = False

        async def sending(message: Message) -> None:
            nonlocal started
            if message["type"] == "http.response.start":
                started = True
                headers = [(b"x-content-type-options", b"nosniff"), (b"cache-control", b"no-store")]
                if message["status"] == 401:
                    headers.append((b"www-authenticate", b'Basic realm="dal"'))
                message["headers"] = [*message.get("headers", ()), *headers]
            await send(message)

        try:
            most = self._admit(scope)
            await self._app(scope, limited(receive, most), sending)
        except Refusal as refusal:
            if started:
                raise
            if refusal.status == 401:
                await asyncio.sleep(_PENALTY)
            await refuse(sending, refusal, as_page=False)

    def _admit(self, scope: Scope) -> int:
        """Check a request, and return the largest size of its body; raises `Refusal`."""
        checked_host(scope, self._hosts)
        # Label Studio's server is no browser, and a page in a browser has no business here.
        if any(header(scope, name) is not None for name in (b"origin", b"sec-fetch-site", b"sec-fetch-mode")):
            raise Refusal(403, "requests of browsers are refused")
        authorization = header(scope, b"authorization")
        is_hint = scope["path"] == _HINTS and authorization is None
        if not is_hint and not self._is_known(authorization):
            raise Refusal(401, "the user or the password is wrong: dal serve-label-studio shows both")
        if scope["method"] not in ("GET", "POST"):
            raise Refusal(405, "only GET and POST are answered")
        most = MAX_HINT if scope["path"] == _HINTS else MAX_BODY
        if scope["method"] == "POST":
            check_body(scope, most)
        return most

    def _is_known(self, authorization: bytes | None) -> bool:
        method, _, credentials = (authorization or b"").partition(b" ")
        try:
            given = base64.b64decode(credentials.strip(), validate=True) if method.lower() == b"basic" else b""
        except binascii.Error:
            given = b""
        return hmac.compare_digest(_digest(given), self._expected)


class _Endpoints:
    def __init__(
        self,
        service: LabelStudioService,
        hint: Callable[[], object],
        use_project: Callable[[int], object],
        show: Callable[[str], object],
    ) -> None:
        self._service, self._hint, self._use_project, self._show = service, hint, use_project, show
        self._shown = ""  # last line about the labeling config

    def routes(self) -> list[Route]:
        return [
            Route("/", self._health, methods=["GET"]),
            Route("/health", self._health, methods=["GET"]),
            Route("/setup", self._setup, methods=["POST"]),
            Route("/predict", self._predict, methods=["POST"]),
            Route(_HINTS, self._webhook, methods=["POST"]),
        ]

    async def _health(self, request: Request) -> Response:
        return JSONResponse({"status": "UP", "model_class": "dal"})

    async def _setup(self, request: Request) -> Response:
        body = await _body(request)
        # Only these two: `access_token` is the user's token in clear.
        project, config = body.get("project"), body.get("schema")
        try:
            number = int(str(project).partition(".")[0])
            if not 0 < number < 1 << 31:
                raise ValueError
        except ValueError:
            raise Refusal(400, "project is no number of a project") from None
        if not isinstance(config, str):
            raise Refusal(400, "schema is no labeling config")
        try:
            self._use_project(number)
            missing = await run_in_threadpool(self._service.check_config, config)
        except ConfigError as error:
            self._say(f"refused: {one_line(error)}")  # Label Studio shows the status only
            raise
        self._say(f"the labeling config lacks the class {shown(missing[0])}" if missing else "")
        return JSONResponse({"model_version": await run_in_threadpool(lambda: self._service.version)})

    async def _predict(self, request: Request) -> Response:
        body = await _body(request)
        tasks = body.get("tasks")
        if not isinstance(tasks, list) or not all(isinstance(task, dict) for task in tasks):
            raise Refusal(400, "tasks must be a list of objects")
        version, results = await run_in_threadpool(self._service.predictions, tasks)
        return JSONResponse({"results": results, "model_version": version})

    async def _webhook(self, request: Request) -> Response:
        async for _ in request.stream():
            pass  # read to its end, so that the sender sees the answer, and not looked at: anybody can send it
        self._hint()
        return JSONResponse({"status": "noted"})

    def _say(self, line: str) -> None:
        if line and line != self._shown:
            self._show(line)
        self._shown = line


async def _body(request: Request) -> dict[str, Any]:
    content = await request.body()
    try:
        body = await run_in_threadpool(parse_json, content, max_depth=_MAX_DEPTH)
    except ValueError as error:
        raise Refusal(400, f"the body is not valid JSON: {one_line(error)}") from None
    if not isinstance(body, dict):
        raise Refusal(400, "a body must be a JSON object")
    return body


async def _refused(request: Request, error: Exception) -> Response:
    """The answer to a request that failed: one line, and no traceback."""
    status = error.status_code if isinstance(error, HTTPException) else getattr(error, "status", 400)
    return JSONResponse({"error": error.detail if isinstance(error, HTTPException) else one_line(error)}, status)


async def _failed(request: Request, error: Exception) -> Response:
    """The answer to a request that met a bug. Its message may hold what the request did, and is not shown."""
    print(f"dal: {request.url.path} failed: {type(error).__name__}", file=sys.stderr)
    return JSONResponse({"error": type(error).__name__}, 500)


def backend_application(
    service: LabelStudioService,
    *,
    user: str,
    password: str,
    hosts: Collection[str],
    hint: Callable[[], object] = lambda: None,
    use_project: Callable[[int], object] = lambda number: None,
    show: Callable[[str], object] = print,
) -> Application:
    """The guarded application.

    Args:
        service: the project.
        user, password: of basic authentication.
        hosts: accepted values of `Host`.
        hint: called when something may have changed in Label Studio; returns at once.
        use_project: called with the number of the project in Label Studio; raises `ConfigError` if it is another one.
        show: shows a line to the user.
    """
    handlers = dict.fromkeys((Refusal, HTTPException, DalError, ClientDisconnect), _refused)
    endpoints = _Endpoints(service, hint, use_project, show)
    app = Starlette(routes=endpoints.routes(), exception_handlers={**handlers, Exception: _failed})
    app.router.redirect_slashes = False
    return BackendGuard(app, user, password, hosts)


def _digest(value: bytes) -> bytes:
    return hashlib.sha256(value).digest()
