"""Logins over a network: attacks and mistakes, sent to a TLS server, and through a proxy, with a project on disk."""

import contextlib
import json
import re
import socket
import ssl
import time
from collections.abc import Iterator
from importlib import resources
from pathlib import Path

import pytest
from annotation_project import make_project
from page_server import TLS, PageServer
from test_request_guard import ANSWER, KEY, ROUTES, Client, Reply, exchange, parsed
from tls_proxy import TlsProxy

from dal.annotate.certificates import tls_of
from dal.annotate.logins import Logins, admit_people, new_login
from dal.annotate.service import AnnotationService, open_service

LOGIN_PAGE = (resources.files("dal.annotate") / "page" / "login.html").read_text(encoding="utf-8")
PEOPLE = ("ana", "ben", "cem")


class Team:
    """A project that three people reach by their logins over TLS; ana adjudicates."""

    def __init__(self, folder: Path, **options: object) -> None:
        self.service: AnnotationService = open_service(make_project(folder), trainer=False, overlap="1:2")
        self.secrets = admit_people(self.service.log, PEOPLE, ["ana"])
        self.said: list[str] = []
        logins = Logins(self.service.log, PEOPLE, on_many_wrong=self.said.append)
        tls = tls_of(TLS / "server.pem", TLS / "server-key.pem")[0]
        self.server = PageServer(self.service, logins=logins, **{"tls": tls, **options})

    def client(self, who: str = "") -> Client:
        """A client with the cookie of a person, or without any."""
        client = Client(self.server)
        if who:
            reply = log_in(client, self.secrets[who])
            assert reply.status == 200
            client.cookie = reply.headers["set-cookie"].partition(";")[0]
        return client

    def end(self) -> None:
        self.server.stop()
        self.service.close()


def log_in(client: Client, secret: object, headers: dict[str, str | None] | None = None) -> Reply:
    return client.post("/login", {"login": secret}, headers)


def answer(client: Client, row: str, name: int, key: str = KEY) -> Reply:
    return client.post("/api/answer", ANSWER | {"row": row, "classes": [name], "key": key})


@pytest.fixture
def team(tmp_path: Path) -> Iterator[Team]:
    team = Team(tmp_path / "ddi")
    yield team
    team.end()


def test_every_route_without_a_login_is_refused(team: Team) -> None:
    client = team.client()
    secret = team.secrets["ana"]
    port = team.server.port
    cookies = (
        "",
        f"__Host-dal{port}=guess",
        f"dal{port}={secret}",
        f"__Host-dal1={secret}",
        f"__Host-dal{port}={'x' * 43}",
    )
    for method, path in [*ROUTES, ("POST", "/login"), ("POST", "/logout"), ("GET", "/login"), ("GET", "/nothing")]:
        for client.cookie in cookies:
            reply = client.get(path) if method == "GET" else client.post(path, ANSWER)
            assert reply.status in (401, 403) or (path == "/login" and reply.status == 429), (method, path)
            assert "error" in reply.json
            assert "set-cookie" not in reply.headers
    assert team.service.log.history() == []


def test_login_becomes_a_strict_and_secure_cookie(team: Team) -> None:
    client = team.client()
    reply = log_in(client, team.secrets["ana"])
    cookie, *attributes = reply.headers["set-cookie"].split("; ")
    assert cookie == f"__Host-dal{team.server.port}={team.secrets['ana']}"
    lifetime = next(each for each in attributes if each.startswith("Max-Age="))
    assert 30 * 86_400 - 60 < int(lifetime.removeprefix("Max-Age=")) <= 30 * 86_400
    assert set(attributes) == {"Path=/", "HttpOnly", "SameSite=Strict", "Secure", lifetime}
    assert (reply.status, reply.json) == (200, {})
    assert "strict-transport-security" not in reply.headers  # it would break pages at other ports of this computer
    client.cookie = cookie
    assert client.get("/api/state").json["me"] == {"who": "ana", "rights": ["adjudicate", "classes"]}
    assert team.secrets["ana"] not in client.get("/").body


def test_page_asks_for_a_login_and_shows_nothing_else(team: Team) -> None:
    navigation = {"Sec-Fetch-Site": "none", "Sec-Fetch-Mode": "navigate", "Sec-Fetch-Dest": "document"}
    client = team.client()
    for headers in (navigation, navigation | {"Sec-Fetch-Site": "cross-site"}, {"Accept": "text/html,*/*"}):
        reply = client.send("GET", "/", headers)
        assert (reply.status, reply.headers["content-type"]) == (401, "text/html; charset=utf-8")
        assert "<h1>Log in</h1>" in reply.body
        assert re.sub('nonce="[^"]*"', 'nonce="{{nonce}}"', reply.body) == LOGIN_PAGE
        nonce = reply.headers["content-security-policy"].partition("'nonce-")[2].partition("'")[0]
        assert f'<script nonce="{nonce}">' in reply.body.lower()
    assert client.send("GET", "/", navigation | {"Sec-Fetch-Dest": "iframe"}).headers["content-type"] != "text/html"
    assert client.send("GET", "/api/state", navigation | {"Sec-Fetch-Site": "cross-site"}).status == 403
    assert client.get(f"/?token={team.secrets['ana']}").status == 401  # a login in an address opens nothing


@pytest.mark.parametrize(
    "headers",
    [{"Origin": None}, {"Origin": "https://evil.example"}, {"Origin": "null"}, {"Sec-Fetch-Site": "cross-site"}],
)
def test_another_page_cannot_log_anybody_in_or_out(team: Team, headers: dict[str, str | None]) -> None:
    assert log_in(team.client(), team.secrets["ben"], headers).status == 403
    assert team.client("ana").post("/logout", {}, headers).status == 403
    http = f"http://127.0.0.1:{team.server.port}"
    assert log_in(team.client(), team.secrets["ben"], {"Origin": http}).status == 403


@pytest.mark.parametrize(
    "body",
    [b"", b"[]", b'"x"', b"{}", b'{"login": 5}', b'{"login": null}', b"[" * 5_000, b"\xff", b'{"login": "\\ud800"}'],
)
def test_login_that_is_no_text_is_a_wrong_one(team: Team, body: bytes) -> None:
    assert team.client().post("/login", body).status == 401


def test_body_of_a_login_is_small_json(team: Team) -> None:
    client = team.client()
    assert client.post("/login", b"login=x", {"Content-Type": "application/x-www-form-urlencoded"}).status == 415
    assert client.post("/login", b"", {"Content-Length": "1000000"}).status == 413
    assert client.post("/login", b"", {"Content-Length": None}).status == 411


def test_many_wrong_logins_are_slowed_and_nobody_is_kept_out(team: Team) -> None:
    client = team.client()
    assert [log_in(client, "x" * 43).status for _ in range(12)] == [401] * 10 + [429] * 2
    assert team.said == ["more than 10 wrong logins within a minute: somebody may be guessing"]
    assert log_in(client, team.secrets["ben"]).status == 200
    same = {log_in(client, wrong).body for wrong in ("x" * 43, "ana", team.secrets["ana"].lower(), "")}
    assert len(same) == 1  # nothing says what is wrong, or whom there is


def test_person_who_was_removed_or_whose_login_ended_is_out_at_once(
    team: Team, monkeypatch: pytest.MonkeyPatch
) -> None:
    ana, ben = team.client("ana"), team.client("ben")
    team.service.log.remove_person("ben")
    assert (ana.get("/api/state").status, ben.get("/api/state").status) == (200, 401)
    assert answer(ben, "t0", 0).status == 401
    assert log_in(team.client(), team.secrets["ben"]).status == 401
    again = new_login(team.service.log, "ben")
    assert ben.get("/api/state").status == 401
    assert log_in(team.client(), again).status == 200
    later = time.time() + 31 * 86_400
    monkeypatch.setattr(time, "time", lambda: later)
    assert ana.get("/api/state").status == 401


def test_login_outlives_the_server(team: Team) -> None:
    ana = team.client("ana")
    team.server.stop()
    team.server.start()
    assert ana.get("/api/state").status == 200


def test_one_cookie_reads_undoes_and_settles_nothing_of_others(team: Team) -> None:
    ana, ben, cem = (team.client(who) for who in PEOPLE)
    (row, *_) = (each["id"] for each in ben.get("/api/state").json["rows"])
    cem.get("/api/state")
    assert answer(ben, row, 0, KEY + "1").json["saved"]["who"] == "ben"
    assert answer(cem, row, 1, KEY + "2").json["saved"]["who"] == "cem"
    for path in ("/api/history?who=ben", "/api/history?q=patient"):
        assert [each["answer"]["who"] for each in cem.get(path).json["rows"]] in ([], ["cem"])
    assert cem.get("/api/disputes").status == 403
    assert cem.post("/api/adjudicate", {"row": row, "classes": [1], "key": KEY + "3", "replaces": None}).status == 403
    assert cem.post("/api/classes", {"do": "add", "name": "new", "key": KEY + "4"}).status == 403
    assert cem.post("/api/undo", {"key": KEY + "5"}).json["undone"]["row"] == row  # her own
    assert cem.post("/api/undo", {"key": KEY + "6"}).json["undone"] is None
    standing = {event.who: event.row for event in team.service.log.history()}
    assert standing == {"ben": row}
    assert answer(cem, row, 1, KEY + "7").status == 200
    assert len(ana.get("/api/disputes").json["rows"]) == 1
    assert ana.post("/api/adjudicate", {"row": row, "classes": [1], "key": KEY + "8", "replaces": None}).status == 200
    # A cookie of one person next to that of another does not add up: the first one that is valid counts.
    both = team.client()
    both.cookie = f"{ben.cookie}; {ana.cookie}"
    assert both.get("/api/state").json["me"]["who"] == "ben"


def test_log_that_cannot_be_read_is_trouble_that_may_pass(team: Team) -> None:
    ana = team.client("ana")
    team.service.log.close()
    for reply in (ana.get("/api/state"), log_in(ana, team.secrets["ana"])):
        assert reply.status == 503
        assert "is closed" in str(reply.json["error"])
        assert "content-security-policy" in reply.headers


def test_person_logs_out(team: Team) -> None:
    ana = team.client("ana")
    reply = ana.post("/logout", {})
    assert (reply.status, reply.json) == (200, {})
    name, *attributes = reply.headers["set-cookie"].split("; ")
    assert name == f"__Host-dal{team.server.port}="
    assert "Max-Age=0" in attributes
    assert "Secure" in attributes


def test_host_and_origin_are_those_of_the_certificate(team: Team) -> None:
    ana = team.client("ana")
    port = team.server.port
    for host in (
        "evil.example",
        "label.test",
        f"evil.label.test:{port}",
        f"label.test:{port}@evil.example",
        "127.0.0.1",
    ):
        assert ana.get("/", Host=host).status == 403
        assert ana.get("/api/state", Host=host).status == 403
        assert log_in(ana, team.secrets["ana"], {"Host": host}).status == 403
    for origin in (
        f"http://127.0.0.1:{port}",
        "https://127.0.0.1",
        f"https://label.test:{port}",
        "https://evil.example",
    ):
        assert ana.get("/api/state", Origin=origin).status == 403


def test_plain_http_and_old_tls_get_nothing(team: Team, capfd: pytest.CaptureFixture[str]) -> None:
    port = team.server.port
    request = f"GET / HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\n\r\n".encode()
    with contextlib.suppress(ConnectionError):
        assert exchange(port, request) == b""
    old = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    old.check_hostname, old.verify_mode = False, ssl.CERT_NONE
    old.set_ciphers("ALL:@SECLEVEL=0")
    with pytest.warns(DeprecationWarning, match="TLSVersion"):
        old.minimum_version = old.maximum_version = ssl.TLSVersion.TLSv1_1
    with socket.create_connection(("127.0.0.1", port)) as plain, pytest.raises((ssl.SSLError, ConnectionError)):
        old.wrap_socket(plain).close()
    assert team.client("ana").get("/api/state").status == 200
    assert capfd.readouterr() == ("", "")


def test_connection_without_a_request_is_closed(team: Team, monkeypatch: pytest.MonkeyPatch) -> None:
    """Idle connections count towards the limit of all connections: two hundred would keep everybody out."""
    monkeypatch.setattr("dal.annotate.connections.HEAD_SECONDS", 0.3)
    client = team.client("ana")
    context = ssl.create_default_context(cafile=TLS / "server.pem")
    plain = socket.create_connection(("127.0.0.1", team.server.port), timeout=20)
    with context.wrap_socket(plain, server_hostname="127.0.0.1") as silent:
        assert silent.recv(1) == b""
    assert client.get("/api/state").status == 200


def test_no_login_is_printed_or_kept_in_clear(team: Team, capfd: pytest.CaptureFixture[str]) -> None:
    client = team.client("ana")
    log_in(client, team.secrets["ben"], {"Origin": "https://evil.example"})
    client.get(f"/{team.secrets['ben']}")
    client.get(f"/api/history?since={team.secrets['ben']}")

    def broken() -> None:
        raise ZeroDivisionError(team.secrets["cem"])

    broken_client = team.client("cem")
    team.service.progress = lambda who: broken()
    assert broken_client.get("/api/progress").status == 500
    shown = capfd.readouterr()
    assert [secret for secret in (team.secrets["ana"], team.secrets["ben"]) if secret in shown.out + shown.err] == []
    folder = team.service.log.path.parent
    files = b"".join(path.read_bytes() for path in folder.rglob("*") if path.is_file())
    assert [who for who, secret in team.secrets.items() if secret.encode() in files] == []


# -- behind a proxy ------------------------------------------------------------------------------------------------


@pytest.fixture
def proxy() -> Iterator[TlsProxy]:
    proxy = TlsProxy()
    yield proxy
    proxy.stop()


@pytest.fixture
def behind(tmp_path: Path, proxy: TlsProxy) -> Iterator[Team]:
    team = Team(tmp_path / "ddi", tls=None, origin=f"https://{proxy.host}", hosts=[proxy.host])
    proxy.backend = team.server.port
    yield team
    team.end()


def through(proxy: TlsProxy, method: str, path: str, content: object = None, **headers: str) -> Reply:
    """Send a request through the proxy, as a browser that opened label.test does."""
    body = b"" if content is None else json.dumps(content).encode()
    lines = {"Host": proxy.host, "Connection": "close", "Content-Length": str(len(body))}
    if method == "POST":
        lines |= {"Origin": f"https://{proxy.host}", "Content-Type": "application/json"}
    lines |= {name.replace("_", "-"): value for name, value in headers.items()}
    head = "".join(f"{name}: {value}\r\n" for name, value in lines.items())
    return parsed(exchange(proxy.port, f"{method} {path} HTTP/1.1\r\n{head}\r\n".encode() + body, tls=True))


def test_proxy_that_passes_host_on_serves_people(behind: Team, proxy: TlsProxy) -> None:
    for method, path in ROUTES:
        assert through(proxy, method, path, ANSWER if method == "POST" else None).status in (401, 403)
    reply = through(proxy, "POST", "/login", {"login": behind.secrets["ben"]})
    assert reply.status == 200
    cookie = reply.headers["set-cookie"].partition(";")[0]
    assert cookie.startswith(f"__Host-dal{proxy.port}=")
    assert "; Secure" in reply.headers["set-cookie"]
    assert reply.headers["strict-transport-security"] == "max-age=2592000"
    row = through(proxy, "GET", "/api/state", Cookie=cookie).json["rows"][0]["id"]
    saved = through(proxy, "POST", "/api/answer", ANSWER | {"row": row}, Cookie=cookie)
    assert saved.json["saved"]["who"] == "ben"
    for forged in ({"Host": "evil.example"}, {"Origin": "http://label.test"}, {"Origin": "https://evil.example"}):
        assert through(proxy, "POST", "/api/answer", ANSWER, Cookie=cookie, **forged).status == 403
