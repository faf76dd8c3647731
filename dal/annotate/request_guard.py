"""Refusal of requests that do not come from the annotation page, before any of their content is parsed.

Any page that is open in the browser can send requests to a port of this computer. `RequestGuard` wraps the application
and checks, on every route: `Host` against a list (DNS rebinding), `Sec-Fetch-Site` and `Origin` (requests of other
pages), the cookie (other programs and users), the method, and the type and size of a body. Each answer gets a
Content-Security-Policy, so that a script in a text, a class name or a note does not run even if it became HTML.
"""

import hashlib
import hmac
import json
import secrets
from collections.abc import Awaitable, Callable, Collection, Iterable, MutableMapping
from http import HTTPStatus
from typing import Any

Scope = MutableMapping[str, Any]
Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
Application = Callable[[Scope, Receive, Send], Awaitable[None]]

#: Largest body of a request, in bytes.
MAX_BODY = 64 * 1024

#: Path that a link with a token opens.
_ENTRANCE = "/"
_TOKEN = b"token="
_USED_LINK = "this link was used or belongs to an earlier start: press Enter where dal annotate runs for a new one"
_NO_COOKIE = "open the link that dal annotate shows"


class Refusal(Exception):
    """A request that is refused with a status and a reason."""

    def __init__(self, status: int, reason: str) -> None:
        super().__init__(reason)
        self.status = status


class Admissions:
    """The people that may use the page: links that open it once, and the cookies that they became.

    Only digests are kept.

    Args:
        on_use: called when a link is used.
    """

    def __init__(self, on_use: Callable[[], None] = lambda: None) -> None:
        self._on_use = on_use
        self._links: dict[bytes, str] = {}
        self._cookies: dict[bytes, str] = {}

    def new_token(self, who: str) -> str:
        """A token that opens the page once, for the person `who`."""
        token = secrets.token_urlsafe(32)
        self._links[_digest(token)] = who
        return token

    def exchange(self, token: str) -> tuple[str, str] | None:
        """The person and the cookie for a token, which is used up; None for an unknown one."""
        who = self._links.pop(_digest(token), None)
        if who is None:
            return None
        cookie = secrets.token_urlsafe(32)
        self._cookies[_digest(cookie)] = who
        self._on_use()
        return who, cookie

    def person(self, cookie: str) -> str | None:
        """The person of a cookie; None for an unknown one."""
        given = _digest(cookie)
        found = [who for known, who in self._cookies.items() if hmac.compare_digest(known, given)]
        return found[0] if found else None


class RequestGuard:
    """ASGI application that passes on only requests of the annotation page.

    The application finds the person in `scope["state"]["who"]`, and the nonce of scripts and styles in
    `scope["state"]["nonce"]`.

    Args:
        app: application that answers the requests that are let through.
        admissions: links and cookies.
        hosts: accepted values of `Host`, such as "127.0.0.1:8765".
        scheme: "http" or "https", of the accepted origins.
    """

    def __init__(self, app: Application, admissions: Admissions, hosts: Iterable[str], scheme: str = "http") -> None:
        self._app = app
        self._admissions = admissions
        self._hosts = frozenset(hosts)
        self._scheme = scheme

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a request, or pass it on."""
        if scope["type"] == "lifespan":
            await self._app(scope, receive, send)
            return
        if scope["type"] != "http":
            await send({"type": "websocket.close", "code": 1008})
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

        try:
            who, cookie = self._admit(scope)
            if cookie is not None:
                headers.append((b"set-cookie", cookie))
            scope["state"] = {**scope.get("state", {}), "who": who, "nonce": nonce}
            await self._app(scope, limited(receive), sending)
        except Refusal as refusal:
            if started:
                raise
            await refuse(sending, refusal, as_page=header(scope, b"sec-fetch-dest") == b"document")

    def _admit(self, scope: Scope) -> tuple[str, bytes | None]:
        """The person of a request, and the cookie to set; raises `Refusal`."""
        host = checked_host(scope, self._hosts)
        site, origin = header(scope, b"sec-fetch-site"), header(scope, b"origin")
        entering = scope["path"] == _ENTRANCE and scope["query_string"].startswith(_TOKEN)
        navigation = (
            scope["method"] == "GET"
            and header(scope, b"sec-fetch-mode") == b"navigate"
            and header(scope, b"sec-fetch-dest") == b"document"
        )
        # A link in a mail that a web page shows is a cross-site navigation, and nothing else may be one.
        if site not in (None, b"same-origin", b"none") and not (entering and navigation):
            raise Refusal(403, "requests of other pages are refused")
        if origin is not None and origin != f"{self._scheme}://{host}".encode():
            raise Refusal(403, "requests of other origins are refused")
        name = f"dal{host.rpartition(':')[2]}"  # cookies are shared by all ports of a host
        who = self._known(scope, name.encode())
        cookie = None
        if who is None and entering and scope["method"] == "GET":
            admitted = self._admissions.exchange(scope["query_string"].removeprefix(_TOKEN).decode("latin-1"))
            if admitted is None:
                raise Refusal(401, _USED_LINK)
            who, secret = admitted
            secure = "; Secure" if self._scheme == "https" else ""
            cookie = f"{name}={secret}; Path=/; HttpOnly; SameSite=Strict{secure}".encode()
        if who is None:
            raise Refusal(401, _NO_COOKIE)
        if scope["method"] not in ("GET", "POST"):
            raise Refusal(405, "only GET and POST are answered")
        if scope["method"] == "POST":
            if origin is None and site != b"same-origin":
                raise Refusal(403, "a request that changes something must name its origin")
            check_body(scope)
        return who, cookie

    def _known(self, scope: Scope, name: bytes) -> str | None:
        """The person of the request's cookies."""
        for line in _values(scope, b"cookie"):
            for pair in line.split(b";"):
                key, _, value = pair.strip().partition(b"=")
                if key == name:
                    who = self._admissions.person(value.decode("latin-1"))
                    if who is not None:
                        return who
        return None


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
    kind = b"text/plain; charset=utf-8" if as_page else b"application/json"
    headers = [(b"content-type", kind), (b"content-length", str(len(body.encode())).encode())]
    headers += [(b"connection", b"close")]  # what is left of a refused body is not read
    await send({"type": "http.response.start", "status": refusal.status, "headers": headers})
    await send({"type": "http.response.body", "body": body.encode()})


def _values(scope: Scope, name: bytes) -> list[bytes]:
    return [value for key, value in scope["headers"] if key.lower() == name]


def header(scope: Scope, name: bytes) -> bytes | None:
    """The value of a header; several values are joined, and then equal none that is accepted."""
    values = _values(scope, name)
    return b", ".join(values) if values else None


def _digest(secret: str) -> bytes:
    return hashlib.sha256(secret.encode("utf-8", "surrogatepass")).digest()
