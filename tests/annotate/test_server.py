"""Requests of the page and what the server makes of the service's replies and errors."""

import asyncio
import socket
import subprocess
import sys
from collections.abc import Iterator

import pytest
from memory_service import MemoryService
from page_server import PageServer
from test_request_guard import ANSWER, KEY, Client

from dal.annotate.server import hosts_of, listen
from dal.annotate.service_contract import CLASSES
from dal.errors import ConfigError, SessionError


@pytest.fixture
def service() -> MemoryService:
    texts = {"a": "aspirin and warfarin", "b": "ibuprofen", "c": "aspirin or warfarin"}
    people = {"ben": (), "eva": (CLASSES,)}
    return MemoryService(texts, ["none", "effect"], people=people, wanted={"a": 2})


@pytest.fixture
def server(service: MemoryService) -> Iterator[PageServer]:
    server = PageServer(service)
    yield server
    server.stop()


@pytest.fixture
def client(server: PageServer) -> Client:
    return entered(server, "ana")


def entered(server: PageServer, who: str) -> Client:
    client = Client(server)
    assert client.enter(who).status == 200
    return client


def answer(
    client: Client, row: str = "a", classes: tuple[int, ...] = (0,), key: str = KEY, replaces: int | None = None
):
    return client.post("/api/answer", ANSWER | {"row": row, "classes": list(classes), "key": key, "replaces": replaces})


def test_answer_is_stored_under_the_name_of_the_cookie(client: Client, service: MemoryService) -> None:
    reply = answer(client)
    assert reply.status == 200
    assert reply.json["saved"]["who"] == "ana"
    assert [row["id"] for row in reply.json["rows"]] == ["b", "c"]
    assert service.labels("ana") == {"a": ("none",)}


def test_repeated_request_stores_nothing(client: Client, service: MemoryService) -> None:
    assert answer(client).json["saved"] == answer(client).json["saved"]
    assert len(service.stored("answered")) == 1


def test_outdated_answer_gets_what_stands(client: Client, service: MemoryService) -> None:
    answer(client)
    reply = answer(client, classes=(1,), key=KEY + "2")
    assert reply.status == 409
    assert reply.json["stands"]["classes"] == [0]
    assert answer(client, classes=(1,), key=KEY + "3", replaces=reply.json["stands"]["event"]).status == 200
    assert service.labels() == {"a": ("effect",)}


def test_trouble_that_may_pass_is_told_from_a_refusal(client: Client, service: MemoryService) -> None:
    def full(call: str) -> None:
        raise SessionError("labels.db: the disk is full")

    service.before = full
    reply = answer(client)
    assert reply.status == 503
    assert reply.json["error"] == "labels.db: the disk is full"
    service.before = lambda call: None
    assert answer(client, row="no such row").status == 400
    assert answer(client).status == 200


def test_bug_of_the_service_is_one_line(client: Client, service: MemoryService, capfd: pytest.CaptureFixture) -> None:
    def broken(call: str) -> None:
        raise ZeroDivisionError("secret\nof many lines")

    service.before = broken
    reply = answer(client)
    assert reply.status == 500
    assert "ZeroDivisionError" in reply.json["error"]
    shown = capfd.readouterr()
    assert shown.err.count("\n") == 1
    assert "/api/answer failed: ZeroDivisionError" in shown.err
    assert shown.out == ""
    service.before = lambda call: None
    assert answer(client).status == 200


def test_people_do_not_read_or_undo_the_answers_of_others(server: PageServer, client: Client) -> None:
    answer(client, row="a")
    ben = entered(server, "ben")
    assert ben.get("/api/history").json == {"rows": [], "more": False}
    assert ben.get("/api/history?who=ana").json == {"rows": [], "more": False}
    assert ben.post("/api/undo", {"key": KEY + "b"}).json["undone"] is None
    state = ben.get("/api/state").json
    assert {row["id"]: row["answer"] for row in state["rows"]} == {"a": None}  # the others are leased
    assert len(client.get("/api/history").json["rows"]) == 1


@pytest.mark.parametrize(("who", "status"), [("ben", 403), ("eva", 200), ("ana", 200)])
def test_classes_are_changed_with_the_right_only(server: PageServer, who: str, status: int) -> None:
    reply = entered(server, who).post("/api/classes", {"do": "add", "name": "new", "key": KEY})
    assert reply.status == status
    assert len(server.service.classes) == (3 if status == 200 else 2)


@pytest.mark.parametrize(("who", "status"), [("ben", 403), ("eva", 403), ("ana", 200)])
def test_disputes_are_seen_and_decided_with_the_right_only(server: PageServer, who: str, status: int) -> None:
    answer(entered(server, "one"), classes=(0,))
    answer(entered(server, "two"), classes=(1,), key=KEY + "2")
    client = entered(server, who)
    seen = client.get("/api/disputes")
    assert seen.status == status
    decided = client.post("/api/adjudicate", {"row": "a", "classes": [1], "key": KEY + "3", "replaces": None})
    assert decided.status == status
    if status == 200:
        assert sorted(each["classes"] for each in seen.json["rows"][0]["answers"]) == [[0], [1]]
        assert "one" not in seen.body.replace('"none"', "")
        assert decided.json["left"] == 0
    assert len(server.service.stored("adjudicated")) == (status == 200)


def test_queries_are_checked(client: Client) -> None:
    for path in (
        "/api/history?class=x",
        "/api/history?limit=999999",
        "/api/history?since=tomorrow",
        "/api/history?since=nan",
        "/api/search?q=",
        "/api/search?q=a&by=sound",
        "/api/hints",
        "/api/search?q=" + "x" * 10_001,
    ):
        assert client.get(path).status == 400, path
    assert client.get("/api/history?q=&class=&since=&before=").status == 200
    assert client.get("/api/hints?row=unknown").status == 400
    assert client.get("/api/search?q=a&by=meaning").status == 200


def test_text_that_is_no_unicode_is_sent(server: PageServer, service: MemoryService, client: Client) -> None:
    service.texts["a"]["text"] = "half of a pair \ud83d, NUL \0, \u2028"
    assert client.get("/api/state").json["rows"][0]["text"] == "half of a pair \ud83d, NUL \0, \u2028"


def test_port_in_use_is_named_with_the_way_out() -> None:
    with listen(0) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(ConfigError, match=rf"port {port} is in use by another program: choose one with --port"):
            listen(port)
    assert hosts_of(80) == ["127.0.0.1:80", "localhost:80"]


def test_replies_do_not_wait_for_acknowledgements() -> None:
    sent = []

    class Protocol(asyncio.Protocol):
        def connection_made(self, transport: asyncio.BaseTransport) -> None:
            sent.append(transport.get_extra_info("socket").getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY))
            transport.close()

    async def connect() -> None:
        with listen(0) as listening:
            async with await asyncio.get_running_loop().create_server(Protocol, sock=listening):
                _, writer = await asyncio.open_connection(*listening.getsockname())
                while not sent:
                    await asyncio.sleep(0.01)
                writer.close()

    asyncio.run(connect())
    assert sent[0] != 0


def test_server_is_imported_without_tensors() -> None:
    heavy = "torch", "numpy", "pyarrow", "sklearn", "transformers", "dal.data", "dal.session", "pydantic", "asyncpg"
    modules = "sys, dal.annotate.page_routes, dal.annotate.server"
    program = f"import {modules}; print([name for name in {heavy} if name in sys.modules])"
    found = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert found.stdout.strip() == "[]"
