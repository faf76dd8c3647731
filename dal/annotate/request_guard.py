"""Refusal of requests that do not come from the annotation page, before any of their content is parsed.

Any page that is open in the browser can send requests to a port of this computer. `RequestGuard` wraps the application
and checks, on every route: `Host` against a list (DNS rebinding), `Sec-Fetch-Site` and `Origin` (requests of other
pages), the cookie (other programs and users), the method, and the type and size of a body. Each answer gets a
Content-Security-Policy, so that a script in a text, a class name or a note does not run even if it became HTML.

People enter in one of two ways: by a link that opens the page once (`dal.annotate.admissions`), or by the login of a
person, which is valid until it is withdrawn (`dal.annotate.logins`).
"""

import ipaddress
import json
import secrets
from collections.abc import Awaitable, Callable, Collection, Iterable, MutableMapping
from http import HTTPStatus
from typing import Any

from starlette.concurrency import run_in_threadpool

from dal.annotate.admissions import Entrance
from dal.errors import SessionError
from dal.store.bounded_json import parse_json

Scope = MutableMapping[str, Any]
Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
Application = Callable[[Scope, Receive, Send], Awaitable[None]]

#: Largest body of a request, in bytes.
MAX_BODY = 64 * 1024

#: Seconds for which a browser asks for the page by https only, after it has seen it so.
HTTPS_ONLY = 30 * 24 * 3600

#: Name in `scope["state"]` of a function that takes note that a request of this connection was let through.
ADMIT = "admit"

#: Path that a link with a token opens.
_ENTRANCE = "/"
_TOKEN = b"token="
#: Paths of a person's login, which are answered here, and not by the application.
_LOG_IN, _LOG_OUT = "/login", "/logout"
_DEFAULT_PORTS = {"http": "80", "https": "443"}
_USED_LINK = "this link was used or belongs to an earlier start: press Enter where dal annotate runs for a new one"
_NO_COOKIE = "open the link that dal annotate shows"
_NO_LOGIN = "log in: open this address again, or your link"
_WRONG_LOGIN = "this login is wrong, has ended or was replaced: ask for a new one"


def is_local(host: str) -> bool:
    """Whether a value of `Host` is this computer for every browser."""
    name = host if host.endswith("]") else host.rpartition(":")[0] or host
    if name == "localhost" or name.endswith(".localhost"):
        return True
    try:
        return ipaddress.ip_address(name.strip("[]")).is_loopback
    except ValueError:
        return False


class Refusal(Exception):
    """A request that is refused with a status and a reason."""

    def __init__(self, status: int, reason: str) -> None:
        super().__init__(reason)
        self.status = status


class RequestGuard:
    """ASGI application that passes on only requests of the annotation page.

    The application finds the person in `scope["state"]["who"]`, the nonce of scripts and styles in
    `scope["state"]["nonce"]`, and whether people log in in `scope["state"]["login"]`.

    Args:
        app: application that answers the requests that are let through.
        admissions: who may enter.
        hosts: accepted values of `Host`, such as "127.0.0.1:8765".
        scheme: "http" or "https", of the accepted origins.
    """

    def __init__(self, app: Application, admissions: Entrance, hosts: Iterable[str], scheme: str = "http") -> None:
        self._app = app
        self._admissions = admissions
        self._hosts = frozenset(hosts)
        self._scheme = scheme

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a request, or pass it on."""
        if not await is_request(self._app, scope, receive, send):
            return
        nonce = secrets.token_urlsafe(16)
        started = False
        headers = _security_headers(nonce)

        async def sending(message: Message) -> None:
            nonlocal started
            if message["type"] == "http.response.start":
                started = True
                message["headers"] = [*message.get("headers", ()), *headers]
            await send(message)

        page = self._admissions.login_page
        try:
            host = checked_host(scope, self._hosts)
            if self._scheme == "https" and not is_local(host):  # else pages at other ports of this computer would break
                headers.append((b"strict-transport-security", f"max-age={HTTPS_ONLY}".encode()))
            self._check_source(scope, host)
            if page and scope["method"] == "POST" and scope["path"] == _LOG_IN:
                _check_named_origin(scope)
                check_body(scope)
                headers.append((b"set-cookie", await self._log_in(host, limited(receive))))
                await _send(sending, 200, "{}", b"application/json")
                return
            who, cookie = await self._admit(scope, host)
            if ADMIT in scope.get("state", ()):
                scope["state"][ADMIT]()
            if cookie is not None:
                headers.append((b"set-cookie", cookie))
            if page and scope["method"] == "POST" and scope["path"] == _LOG_OUT:
                headers.append((b"set-cookie", self._cookie(host, "", 0)))
                await _send(sending, 200, "{}", b"application/json")
                return
            scope["state"] = {**scope.get("state", {}), "who": who, "nonce": nonce, "login": bool(page)}
            await self._app(scope, limited(receive), sending)
        except Refusal as refusal:
            if started:
                raise
            is_opened = header(scope, b"sec-fetch-dest") == b"document"
            if page and refusal.status == 401 and _asks_for_the_page(scope):
                await _send(sending, 401, page.replace("{{nonce}}", nonce), b"text/html; charset=utf-8")
            else:
                await refuse(sending, refusal, as_page=is_opened)
        except SessionError as error:  # the list of people cannot be read: the page tries again
            if started:
                raise
            await refuse(sending, Refusal(503, str(error)), as_page=False)

    def _check_source(self, scope: Scope, host: str) -> None:
        """Refuse a request of another page or origin."""
        site, origin = header(scope, b"sec-fetch-site"), header(scope, b"origin")
        # A link in a mail that a web page shows is a cross-site navigation, and nothing else may be one.
        if site not in (None, b"same-origin", b"none") and not (self._is_entering(scope) and _is_navigation(scope)):
            raise Refusal(403, "requests of other pages are refused")
        if origin is not None and origin != f"{self._scheme}://{host}".encode():
            raise Refusal(403, "requests of other origins are refused")

    def _is_entering(self, scope: Scope) -> bool:
        """Whether a request is for the page by a link: its token is in the address, or a login after it."""
        by_link = bool(self._admissions.login_page) or scope["query_string"].startswith(_TOKEN)
        return scope["path"] == _ENTRANCE and by_link

    async def _admit(self, scope: Scope, host: str) -> tuple[str, bytes | None]:
        """The person of a request, and the cookie to set; raises `Refusal`."""
        who = await self._known(scope, self._cookie_name(host).encode())
        cookie = None
        by_link = not self._admissions.login_page
        if who is None and by_link and self._is_entering(scope) and scope["method"] == "GET":
            admitted = self._admissions.exchange(scope["query_string"].removeprefix(_TOKEN).decode("latin-1"))
            if admitted is None:
                raise Refusal(401, _USED_LINK)
            who, secret = admitted
            cookie = self._cookie(host, secret, self._admissions.lifetime(who))
        if who is None:
            raise Refusal(401, _NO_COOKIE if by_link else _NO_LOGIN)
        if scope["method"] not in ("GET", "POST"):
            raise Refusal(405, "only GET and POST are answered")
        if scope["method"] == "POST":
            _check_named_origin(scope)
            check_body(scope)
        return who, cookie

    async def _log_in(self, host: str, receive: Receive) -> bytes:
        """The cookie for the login in a body; raises `Refusal` for a wrong one."""
        content, more = b"", True
        while more:
            message = await receive()
            content += message.get("body", b"")
            more = message["type"] == "http.request" and message.get("more_body", False)
        try:
            body = parse_json(content, max_depth=1)
        except ValueError:
            body = None
        given = body.get("login") if isinstance(body, dict) else None
        admitted = None
        if isinstance(given, str):
            admitted = await run_in_threadpool(self._admissions.exchange, given)
        if admitted is None:
            # A right login is let in all the same: it cannot be guessed, and nobody can keep others out by guessing.
            if self._admissions.are_too_many_wrong():
                raise Refusal(429, "too many wrong logins: wait a minute")
            raise Refusal(401, _WRONG_LOGIN)
        who, secret = admitted
        return self._cookie(host, secret, self._admissions.lifetime(who))

    def _cookie_name(self, host: str) -> str:
        """Name of the cookie. It has the port, since cookies are shared by all ports of a host."""
        port = host.rpartition("]")[2].rpartition(":")[2] if ":" in host.rpartition("]")[2] else ""
        name = f"dal{port or _DEFAULT_PORTS[self._scheme]}"
        return f"__Host-{name}" if self._scheme == "https" else name  # browsers let no other host set such a cookie

    def _cookie(self, host: str, secret: str, lifetime: int | None) -> bytes:
        kept = "" if lifetime is None else f"; Max-Age={lifetime}"
        secure = "; Secure" if self._scheme == "https" else ""
        return f"{self._cookie_name(host)}={secret}; Path=/; HttpOnly; SameSite=Strict{kept}{secure}".encode()

    async def _known(self, scope: Scope, name: bytes) -> str | None:
        """The person of the request's cookies."""
        for line in _values(scope, b"cookie"):
            for pair in line.split(b";"):
                key, _, value = pair.strip().partition(b"=")
                if key == name:
                    who = await run_in_threadpool(self._admissions.person, value.decode("latin-1"))
                    if who is not None:
                        return who
        return None


def _is_navigation(scope: Scope) -> bool:
    """Whether a person opens an address, which no script or frame of a page does."""
    return (
        scope["method"] == "GET"
        and header(scope, b"sec-fetch-mode") == b"navigate"
        and header(scope, b"sec-fetch-dest") == b"document"
    )


def _asks_for_the_page(scope: Scope) -> bool:
    """Whether a person opens the page itself; old browsers say so by the types that they accept only."""
    if scope["method"] != "GET" or scope["path"] != _ENTRANCE:
        return False
    return _is_navigation(scope) or (
        header(scope, b"sec-fetch-dest") is None and b"text/html" in (header(scope, b"accept") or b"")
    )


def _check_named_origin(scope: Scope) -> None:
    """Refuse a request that changes something and comes from an unknown page."""
    if header(scope, b"origin") is None and header(scope, b"sec-fetch-site") != b"same-origin":
        raise Refusal(403, "a request that changes something must name its origin")


async def is_request(app: Application, scope: Scope, receive: Receive, send: Send) -> bool:
    """Whether a scope is that of a request. Else it is dealt with: `app` starts and ends, and a websocket is closed."""
    if scope["type"] == "lifespan":
        await app(scope, receive, send)
    elif scope["type"] != "http":
        await send({"type": "websocket.close", "code": 1008})
    return bool(scope["type"] == "http")


def checked_host(scope: Scope, hosts: Collection[str]) -> str:
    """The host that a request names; raises `Refusal` unless it names one of `hosts`."""
    named = _values(scope, b"host")
    if len(named) != 1:
        raise Refusal(400, "a request must have one Host")
    host = named[0].decode("latin-1").lower()
    if host not in hosts:
        raise Refusal(403, "this address is not among those that dal serves")
    return host


def check_body(scope: Scope, most: int = MAX_BODY) -> None:
    """Refuse a body that is not JSON of a stated length of at most `most` bytes."""
    media_type = (header(scope, b"content-type") or b"").partition(b";")[0].strip().lower()
    if media_type != b"application/json":
        raise Refusal(415, "a body must be application/json")
    length = header(scope, b"content-length")
    if length is None or not length.isdigit() or header(scope, b"transfer-encoding") is not None:
        raise Refusal(411, "a body must state its length")
    if len(length) > 9 or int(length) > most:
        raise Refusal(413, f"a body has at most {most:,} bytes")


def limited(receive: Receive, most: int = MAX_BODY) -> Receive:
    """`receive` that refuses a body longer than `most`, also where the server lets one pass."""
    size = 0

    async def receiving() -> Message:
        nonlocal size
        message = await receive()
        size += len(message.get("body", b""))
        if size > most:
            raise Refusal(413, f"a body has at most {most:,} bytes")
        return message

    return receiving


def _security_headers(nonce: str) -> list[tuple[bytes, bytes]]:
    policy = (
        f"default-src 'none'; script-src 'nonce-{nonce}'; style-src 'nonce-{nonce}'; connect-src 'self'; "
        "img-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'; "
        "require-trusted-types-for 'script'; trusted-types 'none'"
    )
    return [
        (b"content-security-policy", policy.encode()),
        (b"x-content-type-options", b"nosniff"),
        (b"x-frame-options", b"DENY"),
        (b"referrer-policy", b"no-referrer"),
        (b"cross-origin-opener-policy", b"same-origin"),
        (b"cross-origin-resource-policy", b"same-origin"),
        (b"cache-control", b"no-store"),
    ]


async def refuse(send: Send, refusal: Refusal, *, as_page: bool) -> None:
    """Send the reason of a refusal: as text to a person that opened an address, as JSON to a script."""
    text = f"{HTTPStatus(refusal.status).phrase}: {refusal}.\n"
    body = text if as_page else json.dumps({"error": str(refusal)})
    # What is left of a refused body is not read.
    await _send(
        send, refusal.status, body, b"text/plain; charset=utf-8" if as_page else b"application/json", close=True
    )


async def _send(send: Send, status: int, body: str, kind: bytes, *, close: bool = False) -> None:
    content = body.encode()
    headers = [(b"content-type", kind), (b"content-length", str(len(content)).encode())]
    if close:
        headers.append((b"connection", b"close"))
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": content})


def _values(scope: Scope, name: bytes) -> list[bytes]:
    return [value for key, value in scope["headers"] if key.lower() == name]


def header(scope: Scope, name: bytes) -> bytes | None:
    """The value of a header; several values are joined, and then equal none that is accepted."""
    values = _values(scope, name)
    return b", ".join(values) if values else None
