"""Clients that are slow on purpose: they are disconnected, and keep nobody from the page who is logged in."""

import socket
import ssl
import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest
from page_server import TLS
from test_network_access import Team
from test_request_guard import parsed

from dal.annotate import connections
from dal.annotate.connections import MAX_OF_ADDRESS, MAX_STRANGERS

HEAD = "GET / HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\n"
LOGIN = (
    "POST /login HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\nOrigin: https://127.0.0.1:{port}\r\n"
    "Content-Type: application/json\r\nContent-Length: 60000\r\n\r\n"
)


@pytest.fixture
def team(tmp_path: Path) -> Iterator[Team]:
    team = Team(tmp_path / "ddi")
    yield team
    team.end()


def connected(team: Team) -> ssl.SSLSocket:
    """A connection after its TLS handshake."""
    plain = socket.create_connection(("127.0.0.1", team.server.port), timeout=20)
    return ssl.create_default_context(cafile=TLS / "server.pem").wrap_socket(plain, server_hostname="127.0.0.1")


def state_request(team: Team, who: str) -> bytes:
    """A request with a login that leaves the connection open."""
    cookie = f"__Host-dal{team.server.port}={team.secrets[who]}"
    head = f"GET /api/state HTTP/1.1\r\nHost: 127.0.0.1:{team.server.port}\r\nCookie: {cookie}\r\n\r\n"
    return head.encode()


def read_reply(connection: socket.socket) -> bytes:
    """One reply, with the length that its head says."""
    received = b""
    while b"\r\n\r\n" not in received:
        received += connection.recv(65_536)
    head, _, body = received.partition(b"\r\n\r\n")
    length = int(head.lower().partition(b"content-length: ")[2].split(b"\r\n")[0])
    while len(body) < length:
        body += connection.recv(65_536)
    return head + b"\r\n\r\n" + body


def open_ones(sockets: Sequence[socket.socket]) -> list[socket.socket]:
    """The connections that the server has not ended."""
    return [each for each in sockets if is_open(each)]


def is_open(connection: socket.socket) -> bool:
    connection.setblocking(False)
    try:
        return connection.recv(1) != b""
    except (BlockingIOError, ssl.SSLWantReadError):
        return True
    except OSError:
        return False


def drip_until_closed(connection: socket.socket) -> None:
    """Send a byte now and then, until the server disconnects."""
    for _ in range(200):
        try:
            connection.send(b"x")
        except OSError:
            return
        time.sleep(0.05)
    raise AssertionError("the connection is still open")


@pytest.mark.parametrize(
    ("stage", "sent"), [("HEAD_SECONDS", ""), ("HEAD_SECONDS", HEAD + "X-Slow: "), ("BODY_SECONDS", LOGIN)]
)
def test_request_that_comes_byte_by_byte_has_a_deadline_as_a_whole(
    team: Team, monkeypatch: pytest.MonkeyPatch, stage: str, sent: str
) -> None:
    monkeypatch.setattr(connections, stage, 0.3)
    with connected(team) as slow:
        slow.sendall(sent.format(port=team.server.port).encode())
        drip_until_closed(slow)
    assert team.client("ana").get("/api/state").status == 200


def test_second_request_has_a_deadline_too(team: Team, monkeypatch: pytest.MonkeyPatch) -> None:
    with connected(team) as slow:
        slow.sendall(state_request(team, "ana"))
        assert parsed(read_reply(slow)).status == 200
        monkeypatch.setattr(connections, "HEAD_SECONDS", 0.3)
        slow.sendall(b"GET ")
        drip_until_closed(slow)


def test_client_that_does_not_read_is_disconnected(team: Team, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(connections, "READ_SECONDS", 0.3)
    with connected(team) as silent:
        silent.setblocking(False)
        requests = state_request(team, "ana").replace(b"/api/state", b"/page.css") * 500
        until = time.monotonic() + 30
        sent = 0
        while time.monotonic() < until:
            try:
                sent += silent.send(requests[sent % len(requests) :])
            except (ssl.SSLWantWriteError, ssl.SSLWantReadError):
                time.sleep(0.02)
            except OSError:
                break
        else:
            pytest.fail("the connection is still open")


@pytest.mark.skipif(sys.platform == "win32", reason="connections are not counted there")
@pytest.mark.parametrize("stage", ["handshake", "head"])
def test_strangers_are_limited_and_people_stay_connected(
    team: Team, monkeypatch: pytest.MonkeyPatch, stage: str
) -> None:
    monkeypatch.setattr(connections, "GRACE", 0.2)
    with connected(team) as person:
        person.sendall(state_request(team, "ana"))
        assert parsed(read_reply(person)).status == 200
        slow: list[socket.socket] = []
        try:
            for _ in range(3 * MAX_OF_ADDRESS):
                if stage == "head":
                    slow.append(connected(team))
                    slow[-1].sendall(HEAD.format(port=team.server.port).encode())
                else:
                    slow.append(socket.create_connection(("127.0.0.1", team.server.port), timeout=20))
                    slow[-1].sendall(b"\x16\x03")  # the beginning of a handshake
            time.sleep(0.3)
            assert team.client("ben").get("/api/state").status == 200  # a new connection
            assert len(open_ones(slow)) <= MAX_OF_ADDRESS
            person.sendall(state_request(team, "ana"))
            assert parsed(read_reply(person)).status == 200
        finally:
            for each in slow:
                each.close()


def test_many_people_may_open_the_page_at_the_same_time(team: Team) -> None:
    """Connections that are new are not closed, although none of them has sent its login."""
    people = [socket.create_connection(("127.0.0.1", team.server.port), timeout=20) for _ in range(3 * MAX_OF_ADDRESS)]
    try:
        assert team.client("ana").get("/api/state").status == 200
        assert open_ones(people) == people
    finally:
        for each in people:
            each.close()


@pytest.mark.skipif(sys.platform != "linux", reason="other systems have one loopback address")
def test_strangers_of_all_addresses_are_limited(team: Team) -> None:
    strangers = [
        socket.create_connection(("127.0.0.1", team.server.port), 20, source_address=(f"127.0.0.{2 + n % 9}", 0))
        for n in range(MAX_STRANGERS + 20)
    ]
    try:
        assert team.client("ana").get("/api/state").status == 200
        assert len(open_ones(strangers)) <= MAX_STRANGERS
    finally:
        for each in strangers:
            each.close()
