"""Attacks on the server of the annotation page, sent as raw requests."""

import json
import socket
import ssl
from collections.abc import Iterator
from dataclasses import dataclass

import pytest
from memory_service import MemoryService
from page_server import TLS, PageServer

from dal.annotate.admissions import Admissions
from dal.annotate.page_routes import Endpoints
from dal.annotate.request_guard import MAX_BODY

KEY = "0123456789abcdef"
ANSWER = {"row": "a", "classes": [0], "key": KEY, "replaces": None, "seconds": 1.5, "seen": {}}


@dataclass(frozen=True)
class Reply:
    status: int
    headers: dict[str, str]
    body: str

    @property
    def json(self) -> dict[str, object]:
        return json.loads(self.body)


def exchange(port: int, request: bytes, *, tls: bool = False) -> bytes:
    """What the server sends back until it closes the connection."""
    plain = socket.create_connection(("127.0.0.1", port), timeout=10)
    trusting = ssl.create_default_context(cafile=TLS / "server.pem")
    with trusting.wrap_socket(plain, server_hostname="127.0.0.1") if tls else plain as connection:
        connection.sendall(request)
        received = b""
        while chunk := connection.recv(65_536):
            received += chunk
        return received


class Client:
    """Sends requests with exactly the headers that are given."""

    def __init__(self, server: PageServer) -> None:
        self.server = server
        self.cookie = ""

    def send(self, method: str, path: str, headers: dict[str, str] | None = None, body: bytes = b"") -> Reply:
        lines = {"Host": f"127.0.0.1:{self.server.port}", "Connection": "close"}
        if self.cookie:
            lines["Cookie"] = self.cookie
        lines |= headers or {}
        head = "".join(f"{name}: {value}\r\n" for name, value in lines.items() if value is not None)
        request = f"{method} {path} HTTP/1.1\r\n{head}\r\n".encode("latin-1") + body
        return parsed(exchange(self.server.port, request, tls=self.server.tls is not None))

    def get(self, path: str, **headers: str) -> Reply:
        return self.send("GET", path, {name.replace("_", "-"): value for name, value in headers.items()})

    def post(self, path: str, content: object = None, headers: dict[str, str | None] | None = None) -> Reply:
        body = content if isinstance(content, bytes) else json.dumps(content).encode()
        given = {
            "Origin": self.server.origin,
            "Content-Type": "application/json",
            "Content-Length": str(len(body)),
            **(headers or {}),
        }
        return self.send("POST", path, given, body)

    def enter(self, who: str = "ana") -> Reply:
        reply = self.send("GET", self.server.link(who).removeprefix(self.server.origin))
        self.cookie = reply.headers["set-cookie"].partition(";")[0]
        return reply


def parsed(received: bytes) -> Reply:
    head, _, body = received.partition(b"\r\n\r\n")
    status, *lines = head.decode("latin-1").split("\r\n")
    headers = dict(line.lower().split(": ", 1) if "set-cookie" not in line.lower() else _cookie(line) for line in lines)
    return Reply(int(status.split()[1]), headers, body.decode())


def _cookie(line: str) -> list[str]:
    name, value = line.split(": ", 1)
    return [name.lower(), value]


@pytest.fixture(scope="module")
def server() -> Iterator[PageServer]:
    server = PageServer(MemoryService({"a": "aspirin", "b": "ibuprofen"}, ["none", "effect"]))
    yield server
    server.stop()


@pytest.fixture
def stranger(server: PageServer) -> Client:
    """A client without a cookie."""
    return Client(server)


@pytest.fixture
def client(server: PageServer) -> Client:
    """A client that has opened its link."""
    client = Client(server)
    assert client.enter().status == 200
    return client


def all_routes() -> list[tuple[str, str]]:
    routes = Endpoints(MemoryService({}), "p").routes()
    return sorted((method, route.path) for route in routes for method in route.methods or () if method != "HEAD")


ROUTES = all_routes()


def test_all_routes_are_known() -> None:
    paths = {path for _, path in ROUTES}
    assert len(ROUTES) > 20
    assert paths >= {"/", "/page.js", "/page.css", "/icon.svg", "/api/state", "/api/answer", "/api/classes"}


@pytest.mark.parametrize(("method", "path"), [*ROUTES, ("GET", "/no/such/page"), ("POST", "/api/nothing")])
def test_route_without_a_token_is_refused(stranger: Client, method: str, path: str) -> None:
    for cookie in ("", f"dal{stranger.server.port}=guess", "dal1=x; other=y"):
        stranger.cookie = cookie
        reply = stranger.get(path) if method == "GET" else stranger.post(path, ANSWER)
        assert reply.status in (401, 403)
        assert "error" in reply.json
        assert "set-cookie" not in reply.headers


@pytest.mark.parametrize("method", ["HEAD", "PUT", "DELETE", "PATCH", "OPTIONS", "TRACE", "CONNECT", "FOO"])
def test_other_methods_are_refused(stranger: Client, client: Client, method: str) -> None:
    assert stranger.send(method, "/api/state").status in (400, 401)
    assert client.send(method, "/api/state").status in (400, 405)


def test_link_opens_the_page_once_and_becomes_a_strict_cookie(stranger: Client) -> None:
    path = stranger.server.link().removeprefix(stranger.server.origin)
    first = stranger.get(path)
    assert first.status == 200
    assert first.headers["content-type"] == "text/html; charset=utf-8"
    cookie, *attributes = first.headers["set-cookie"].split("; ")
    assert cookie.startswith(f"dal{stranger.server.port}=")
    assert set(attributes) == {"Path=/", "HttpOnly", "SameSite=Strict"}
    token = path.partition("=")[2]
    assert token not in first.headers["set-cookie"] + first.body
    again = stranger.get(path)
    assert again.status == 401
    assert "set-cookie" not in again.headers
    assert token not in again.body
    stranger.cookie = cookie
    assert stranger.get("/").status == 200
    assert stranger.get(path).status == 200  # the page again, and no second cookie
    assert "set-cookie" not in stranger.get("/").headers


def test_token_is_no_cookie_and_cookie_is_no_token(stranger: Client) -> None:
    path = stranger.server.link().removeprefix(stranger.server.origin)
    stranger.cookie = f"dal{stranger.server.port}={path.partition('=')[2]}"
    assert stranger.get("/api/state").status == 401
    stranger.cookie = ""
    value = stranger.get(path).headers["set-cookie"].partition("=")[2].partition(";")[0]
    assert stranger.get(f"/?token={value}").status == 401


@pytest.mark.parametrize("path", ["/api/state?token={}", "/page.js?token={}", "//?token={}", "/?x=1&token={}"])
def test_token_opens_the_page_only(stranger: Client, path: str) -> None:
    token = stranger.server.link().partition("=")[2]
    assert stranger.get(path.format(token)).status == 401
    assert stranger.get(f"/?token={token}").status == 200


def test_token_of_a_post_is_not_used_up(stranger: Client) -> None:
    path = stranger.server.link().removeprefix(stranger.server.origin)
    assert stranger.post(path, ANSWER).status == 401
    assert stranger.get(path).status == 200


def test_link_with_a_token_from_a_web_mail_opens_the_page(stranger: Client) -> None:
    navigation = {"Sec-Fetch-Site": "cross-site", "Sec-Fetch-Mode": "navigate", "Sec-Fetch-Dest": "document"}
    path = stranger.server.link().removeprefix(stranger.server.origin)
    assert stranger.send("GET", path, navigation | {"Sec-Fetch-Dest": "iframe"}).status == 403
    assert stranger.send("GET", path, navigation | {"Sec-Fetch-Mode": "no-cors"}).status == 403
    assert stranger.send("GET", path, navigation).status == 200


@pytest.mark.parametrize(
    "host",
    ["evil.example", "127.0.0.1", "127.0.0.1:1", "localhost", "127.0.0.1.evil.example:{port}", "127.0.0.1:{port}.", ""],
)
def test_dns_rebinding_is_refused_by_host(client: Client, host: str) -> None:
    for path in ("/", "/page.js", "/api/state", "/nothing"):
        assert client.get(path, Host=host.format(port=client.server.port)).status == 403


def test_missing_and_doubled_hosts_are_refused(client: Client) -> None:
    port = client.server.port
    for head in ("", f"Host: 127.0.0.1:{port}\r\nHost: evil.example\r\n"):
        request = f"GET /api/state HTTP/1.1\r\n{head}Cookie: {client.cookie}\r\nConnection: close\r\n\r\n"
        assert parsed(exchange(port, request.encode())).status == 400
    old = f"GET /api/state HTTP/1.0\r\nCookie: {client.cookie}\r\n\r\n"
    assert parsed(exchange(port, old.encode())).status == 400


@pytest.mark.parametrize("site", ["cross-site", "same-site", "anything", "same-origin, cross-site"])
def test_requests_of_other_sites_are_refused(client: Client, site: str) -> None:
    for path in ("/", "/page.css", "/api/state", "/nothing"):
        assert client.get(path, Sec_Fetch_Site=site).status == 403
    assert client.post("/api/undo", {"key": KEY}, {"Sec-Fetch-Site": site}).status == 403


@pytest.mark.parametrize(
    "origin",
    ["null", "https://127.0.0.1:{port}", "http://127.0.0.1:1", "http://evil.example", "http://localhost:{port}"],
)
def test_requests_of_other_origins_are_refused(client: Client, origin: str) -> None:
    origin = origin.format(port=client.server.port)
    assert client.get("/api/state", Origin=origin).status == 403
    assert client.post("/api/undo", {"key": KEY}, {"Origin": origin}).status == 403


def test_post_must_name_its_origin(client: Client) -> None:
    assert client.post("/api/undo", {"key": KEY}, {"Origin": None}).status == 403
    assert client.post("/api/undo", {"key": KEY}, {"Origin": None, "Sec-Fetch-Site": "none"}).status == 403
    assert client.post("/api/undo", {"key": KEY}, {"Origin": None, "Sec-Fetch-Site": "same-origin"}).status == 200
    assert client.post("/api/undo", {"key": KEY}).status == 200


@pytest.mark.parametrize(
    "kind", ["text/plain", "application/x-www-form-urlencoded", "multipart/form-data", "application/json-patch", ""]
)
def test_forms_and_simple_requests_are_refused(client: Client, kind: str) -> None:
    assert client.post("/api/undo", {"key": KEY}, {"Content-Type": kind}).status == 415


def test_body_must_state_a_small_length(client: Client) -> None:
    assert client.post("/api/undo", {"key": KEY}, {"Content-Length": None}).status == 411
    chunked = {"Content-Length": None, "Transfer-Encoding": "chunked"}
    assert client.post("/api/undo", b"5\r\nhello\r\n0\r\n\r\n", chunked).status == 411
    # Refused by what it states: nothing of it is sent.
    for length in (MAX_BODY + 1, 10**12, 10**30):
        assert client.post("/api/undo", b"", {"Content-Length": str(length)}).status in (400, 413)
    for length in ("-1", "1e3", "0x10", "5, 6"):
        assert client.post("/api/undo", b"", {"Content-Length": length}).status in (400, 411)


def test_largest_body_is_read(client: Client) -> None:
    note = {"row": "a", "key": KEY + "f", "text": "x" * 4_000}
    assert client.post("/api/flag", note).status == 200
    assert client.post("/api/flag", json.dumps(note).encode().ljust(MAX_BODY)).status == 200
    assert client.post("/api/flag", json.dumps(note).encode().ljust(MAX_BODY + 1)).status == 413


@pytest.mark.parametrize(
    "body",
    [
        b"[" * 30_000,
        b"[" * 30_000 + b"]" * 30_000,
        b'{"key":' * 6_000 + b"1" + b"}" * 6_000,
        b'{"key": ' + b"9" * 5_000 + b"}",
        b"\xff\xfe",
        b"",
        b"null",
        b'"text"',
        b'{"key": NaN}',
        b'{"key": "0123456789abcdef"',
    ],
)
def test_bad_json_is_one_line_of_error(client: Client, body: bytes) -> None:
    reply = client.post("/api/undo", body)
    assert reply.status == 400
    assert "\n" not in str(reply.json["error"])


@pytest.mark.parametrize(
    "change",
    [
        {"row": 5},
        {"row": ""},
        {"row": None},
        {"classes": "0"},
        {"classes": [True]},
        {"classes": [-1]},
        {"classes": ["0"]},
        {"classes": [2**70]},
        {"classes": [0] * 2_000},
        {"key": ""},
        {"key": "../../etc/passwd"},
        {"key": "x" * 100},
        {"replaces": "1"},
        {"replaces": True},
        {"seconds": -1},
        {"seconds": 1e9},
        {"seconds": float("nan")},
        {"seconds": "1"},
        {"seen": {"model": 1}},
        {"seen": {"other": True}},
        {"seen": []},
        {"who": "ben"},
        {"source": "adjudicated"},
    ],
)
def test_wrong_field_is_named_and_nothing_is_stored(client: Client, change: dict[str, object]) -> None:
    before = len(client.server.service.events)
    reply = client.post("/api/answer", ANSWER | change)
    assert reply.status == 400
    assert next(iter(change)) in str(reply.json["error"])
    assert len(client.server.service.events) == before


@pytest.mark.parametrize("letter", ["s", "D", "f", "h", "?", "", "ab", "1", " ", "\u3164", "<", 5])
def test_letters_of_commands_cannot_be_bound(client: Client, letter: object) -> None:
    reply = client.post("/api/classes", {"do": "bind", "id": 0, "letter": letter, "key": KEY})
    assert reply.status == 400
    assert client.server.service.classes[0]["letter"] is None


@pytest.mark.parametrize(
    "path",
    [
        "/../page.js",
        "/page/../../etc/passwd",
        "/..%2f..%2fetc%2fpasswd",
        "/%2e%2e/server.py",
        "/page.js%00.css",
        "/page.js/",
        "//page.js",
        "/page.html",
        "/PAGE.JS",
        "/api/",
        "/api/state/",
        "/static/../../etc/passwd",
        "http://evil.example/api/state",
        "/?next=//evil.example&x=",
    ],
)
def test_no_path_of_a_request_names_a_file_or_a_redirect(client: Client, path: str) -> None:
    reply = client.get(path)
    assert reply.status in (400, 403, 404) or (path.startswith("/?") and reply.status == 200)
    assert "location" not in reply.headers
    assert "root:" not in reply.body


@pytest.mark.parametrize("path", ["/", "/page.js", "/page.css", "/icon.svg", "/api/state", "/nothing", "/api/answer"])
def test_every_answer_has_the_headers_of_protection(client: Client, stranger: Client, path: str) -> None:
    for reply in (client.get(path), stranger.get(path), client.get(path, Host="evil.example")):
        policy = dict(part.strip().partition(" ")[::2] for part in reply.headers["content-security-policy"].split(";"))
        assert policy["default-src"] == "'none'"
        assert policy["frame-ancestors"] == policy["base-uri"] == policy["form-action"] == "'none'"
        assert policy["require-trusted-types-for"] == "'script'"
        assert policy["trusted-types"] == "'none'"
        assert policy["script-src"] == policy["style-src"]
        assert policy["script-src"].startswith("'nonce-")
        assert reply.headers["x-content-type-options"] == "nosniff"
        assert reply.headers["x-frame-options"] == "deny"
        assert reply.headers["referrer-policy"] == "no-referrer"
        assert reply.headers["cross-origin-resource-policy"] == "same-origin"
        assert reply.headers["cache-control"] == "no-store"
        assert not [name for name in reply.headers if name.startswith("access-control")]
        assert "server" not in reply.headers


def test_nonce_is_of_one_answer_and_in_the_page_only(client: Client) -> None:
    first, second = client.get("/"), client.get("/")
    nonces = [
        reply.headers["content-security-policy"].partition("'nonce-")[2].partition("'")[0] for reply in (first, second)
    ]
    assert nonces[0] != nonces[1]
    assert len(nonces[0]) > 20
    assert first.body.count("nonce=") == 2
    # Header values are compared in lower case here.
    assert all(nonce in reply.body.lower() for nonce, reply in zip(nonces, (first, second), strict=True))
    assert "<script>" not in first.body
    assert "//" not in first.body.replace("http://www.w3.org", "")


def test_preflight_of_another_origin_gets_no_permission(client: Client) -> None:
    asked = {"Origin": "http://evil.example", "Access-Control-Request-Method": "POST"}
    reply = client.send("OPTIONS", "/api/answer", asked)
    assert reply.status == 403
    assert not [name for name in reply.headers if name.startswith("access-control")]


def test_websocket_is_refused(client: Client) -> None:
    asked = {
        "Connection": "Upgrade",
        "Upgrade": "websocket",
        "Sec-WebSocket-Version": "13",
        "Sec-WebSocket-Key": "dGhlIHNhbXBsZSBub25jZQ==",
    }
    request = "".join(f"{name}: {value}\r\n" for name, value in asked.items())
    head = f"GET /ws HTTP/1.1\r\nHost: 127.0.0.1:{client.server.port}\r\n{request}\r\n"
    with socket.create_connection(("127.0.0.1", client.server.port), timeout=10) as connection:
        connection.sendall(head.encode())
        assert parsed(connection.recv(65_536)).status in (401, 403, 404)


def test_page_of_another_project_is_refused(client: Client) -> None:
    page = client.get("/").body.partition('name="dal-page" content="')[2].partition('"')[0]
    assert len(page) == 16
    assert client.get("/api/state", dal_page=page).status == 200
    assert client.get("/api/state", dal_page="0" * 16).status == 412
    before = len(client.server.service.events)
    assert client.post("/api/answer", ANSWER, {"dal-page": "0" * 16}).status == 412
    assert len(client.server.service.events) == before


def test_only_digests_of_secrets_are_kept() -> None:
    admissions = Admissions()
    token = admissions.new_token("ana")
    who, cookie = admissions.exchange(token)
    assert who == "ana"
    assert admissions.person(cookie) == "ana"
    assert admissions.person(token) is None
    assert admissions.exchange(token) is None
    assert token not in repr(vars(admissions))
    assert cookie not in repr(vars(admissions))
