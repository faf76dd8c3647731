"""The backend as Label Studio calls it, by recorded requests, and attacks on it."""

import asyncio
import base64
import http.client
import json
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from threading import Thread
from typing import Any

import pytest
import uvicorn
from annotation_project import AlphabeticalTrainer, make_project
from label_studio_api import LEGACY, recorded

from dal.annotate.label_studio_server import MAX_BODY, MAX_HINT, backend_application
from dal.annotate.label_studio_service import LAST, LabelStudioService, open_label_studio_service
from dal.annotate.server import hosts_of, listen, server_config
from dal.errors import ConfigError
from dal.formats.label_studio import labeling_config

USER, PASSWORD = "dal", "a long password"
CLASSES = ("delivery", "payment", "login")
ROUTES = [("GET", "/health"), ("POST", "/setup"), ("POST", "/predict"), ("POST", "/webhook"), ("GET", "/")]


def basic(user: str, password: str) -> str:
    return "Basic " + base64.b64encode(f"{user}:{password}".encode()).decode()


class Backend:
    """A running backend of a project whose texts are those of the recorded tasks."""

    def __init__(self, folder: Path) -> None:
        self.service: LabelStudioService = open_label_studio_service(folder, trainer=False)
        self.trainer = AlphabeticalTrainer(folder, [f"t{i}" for i in range(12)])
        self.trainer.service = self.service
        self.service.start(self.trainer)
        self.hints, self.projects, self.lines = 0, list[int](), list[str]()
        listening = listen(0)
        self.port = listening.getsockname()[1]
        app = backend_application(
            self.service,
            user=USER,
            password=PASSWORD,
            hosts=hosts_of(self.port),
            hint=self._hint,
            use_project=self._use,
            show=self.lines.append,
        )
        self._server = uvicorn.Server(server_config(app, listening))
        self._thread = Thread(target=lambda: asyncio.run(self._server.serve(sockets=[listening])), daemon=True)
        self._thread.start()

    def _hint(self) -> None:
        self.hints += 1

    def _use(self, number: int) -> None:
        if number == 9:
            raise ConfigError("this folder serves another project")
        self.projects.append(number)

    def send(
        self, method: str, path: str, body: Any = None, *, known: bool = True, **headers: str | None
    ) -> tuple[int, Any, dict[str, str]]:
        data = body if isinstance(body, bytes) else None if body is None else json.dumps(body).encode()
        given: dict[str, str | None] = {"Host": f"127.0.0.1:{self.port}"}
        given |= {"Authorization": basic(USER, PASSWORD)} if known else {}
        given |= {} if data is None else {"Content-Type": "application/json", "Content-Length": str(len(data))}
        given |= {name.replace("_", "-"): value for name, value in headers.items()}
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=10)
        connection.putrequest(method, path, skip_host=True, skip_accept_encoding=True)
        for name, value in given.items():
            if value is not None:
                connection.putheader(name, value)
        connection.endheaders(data)
        reply = connection.getresponse()
        content = reply.read()
        connection.close()
        heads = {name.lower(): value for name, value in reply.getheaders()}
        return reply.status, json.loads(content) if content else None, heads

    def stop(self) -> None:
        self._server.should_exit = self._server.force_exit = True
        self._thread.join(10)
        self.service.close()


@pytest.fixture
def backend(tmp_path: Path) -> Iterator[Backend]:
    backend = Backend(make_project(tmp_path / "p", n=12, classes=CLASSES))
    yield backend
    backend.stop()


def tasks(*rows: str) -> dict[str, Any]:
    """A recorded request for predictions, with the tasks of these rows."""
    request = recorded("backend.predict.json")
    form = request["tasks"][0]
    made = [form | {"id": 50 + n, "data": {"dal_id": row, "text": "any"}} for n, row in enumerate(rows)]
    return request | {"tasks": made, "params": {"login": None, "password": None, "context": None}}


# -- as Label Studio calls it ------------------------------------------------------------------------------------------


def test_recorded_connection_is_answered_with_the_version_of_the_ranking(backend: Backend) -> None:
    assert backend.send("GET", "/health")[:2] == (200, {"status": "UP", "model_class": "dal"})
    setup = recorded("backend.setup.json") | {"access_token": LEGACY}
    assert backend.send("POST", "/setup", setup)[:2] == (200, {"model_version": "dal 0"})
    backend.trainer.work()
    assert backend.send("POST", "/setup", setup)[:2] == (200, {"model_version": "dal 1 Alphabetical"})
    assert backend.projects == [3, 3]


def test_recorded_tasks_get_one_prediction_each(backend: Backend) -> None:
    request = recorded("backend.predict.json")
    status, reply, _ = backend.send("POST", "/predict", request)
    assert status == 200
    assert len(reply["results"]) == len(request["tasks"]) > 2
    assert reply["results"][0] == {"result": [], "score": LAST, "model_version": "dal 0"}


def test_predictions_hold_the_rank_in_the_order_of_the_tasks_and_a_new_ranking_another_version(
    backend: Backend,
) -> None:
    backend.trainer.work()
    request = tasks("t1", "t0", "nothing", "t9")
    reply = backend.send("POST", "/predict", request)[1]
    order = sorted(f"t{i}" for i in range(12))
    ranks = {row: round((order.index(row) + 1) / 12, 9) for row in order}
    assert [each["score"] for each in reply["results"]] == [ranks["t1"], ranks["t0"], LAST, ranks["t9"]]
    assert {each["model_version"] for each in reply["results"]} == {reply["model_version"]} == {"dal 1 Alphabetical"}
    backend.trainer.ids.reverse()
    for number, row in enumerate(order[:10]):
        backend.service.answer("ana", row=row, classes=[0], key=f"key{number}", leased=0)
    assert backend.trainer.work()
    again = backend.send("POST", "/predict", request)[1]
    assert again["model_version"] == "dal 2 Alphabetical"
    assert again["results"][3] == {"result": [], "score": 0.5, "model_version": "dal 2 Alphabetical"}


def test_task_without_an_id_is_found_by_its_exact_text(backend: Backend) -> None:
    backend.trainer.work()
    text = backend.service._rows.get(["t0"])[0].text
    request = tasks("t0", "t0", "t0", "t0", "t0")
    for task, data in zip(
        request["tasks"],
        ({"text": text}, {"text": text + " "}, {"text": 5}, {"text": "\ud800"}, {"dal_id": 7, "text": text}),
        strict=True,
    ):
        task["data"] = data
    scores = [each["score"] for each in backend.send("POST", "/predict", request)[1]["results"]]
    assert scores == [round(1 / 12, 9), LAST, LAST, LAST, round(1 / 12, 9)]


def test_predictions_suggest_a_class_only_on_request(tmp_path: Path) -> None:
    folder = make_project(tmp_path / "p", n=12, classes=CLASSES)
    for suggest, expected in ((False, []), (True, ["payment"])):
        service = open_label_studio_service(folder, trainer=False, suggest=suggest)
        trainer = AlphabeticalTrainer(folder, [f"t{i}" for i in range(12)])
        trainer.service = service
        service.start(trainer)
        if not suggest:
            service.answer("ana", row="t0", classes=[1], key="first")
        trainer.work()
        result = service.predictions(tasks("t1")["tasks"])[1][0]["result"]
        assert [name for each in result for name in each["value"]["choices"]] == expected
        service.close()


@pytest.mark.parametrize(
    ("config", "message"),
    [
        (labeling_config([*CLASSES, "refund"]), "offers 'refund', which is no class"),
        (labeling_config(CLASSES, multilabel=True), "one class per text"),
        (labeling_config(CLASSES).replace('name="label"', 'name="topic"'), "no control 'label'"),
        ("<View>", "not plain XML"),
        ('<!DOCTYPE v [<!ENTITY a "aaaa">]>' + labeling_config(CLASSES), "a document type"),
    ],
)
def test_config_that_does_not_fit_is_refused_and_named_here(backend: Backend, config: str, message: str) -> None:
    setup = recorded("backend.setup.json") | {"schema": config, "access_token": LEGACY}
    for _ in range(2):
        status, reply, _ = backend.send("POST", "/setup", setup)
        assert status == 400
        assert message in reply["error"]
    assert len(backend.lines) == 1  # Label Studio asks again and again
    assert message in backend.lines[0]


def test_config_with_comments_and_without_a_class_is_taken(backend: Backend) -> None:
    config = "<!-- ours -->" + labeling_config(CLASSES[:2])
    setup = recorded("backend.setup.json") | {"schema": config}
    assert backend.send("POST", "/setup", setup)[0] == 200
    assert backend.lines == ["the labeling config lacks the class 'login'"]


def test_other_project_is_refused(backend: Backend) -> None:
    setup = recorded("backend.setup.json") | {"project": "9.1795889539"}
    assert backend.send("POST", "/setup", setup)[1] == {"error": "this folder serves another project"}


def test_recorded_webhooks_without_a_password_are_hints_of_which_nothing_is_read(backend: Backend) -> None:
    for action, body in recorded("backend.webhook.json").items():
        assert body["action"] == action
        assert backend.send("POST", "/webhook", body, known=False)[:2] == (200, {"status": "noted"})
    before = backend.hints
    assert before == len(recorded("backend.webhook.json")) >= 4
    assert backend.send("POST", "/webhook", b"[" * 1000, known=False)[0] == 200
    assert backend.send("POST", "/webhook", {"action": "START_TRAINING"})[0] == 200
    assert backend.hints == before + 2
    assert backend.service.labels() == {}


# -- attacks -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("method", "path"), [*ROUTES, ("GET", "/no/such/route"), ("POST", "/train")])
def test_no_or_a_wrong_password_is_refused_on_every_route(backend: Backend, method: str, path: str) -> None:
    body = {} if method == "POST" else None
    given = (
        None,
        basic(USER, "wrong"),
        basic("other", PASSWORD),
        basic("", ""),
        "Basic !",
        "Basic",
        f"Bearer {PASSWORD}",
    )
    for authorization in given:
        if path == "/webhook" and authorization is None:
            continue
        status, reply, headers = backend.send(method, path, body, known=False, Authorization=authorization)
        assert status == 401
        assert headers["www-authenticate"] == 'Basic realm="dal"'
        assert "password is wrong" in reply["error"]
    assert backend.hints == 0


@pytest.mark.parametrize("host", ["evil.example", "127.0.0.1", "localhost:1", "127.0.0.1:{}.", ""])
def test_foreign_host_is_refused(backend: Backend, host: str) -> None:
    for method, path in ROUTES:
        body = {} if method == "POST" else None
        assert backend.send(method, path, body, Host=host.format(backend.port))[0] == 403
    assert backend.send("GET", "/health", Host=f"localhost:{backend.port}")[0] == 200
    assert backend.hints == 0


@pytest.mark.parametrize("head", [{"Origin": "http://127.0.0.1"}, {"Origin": "null"}, {"Sec_Fetch_Site": "cross-site"}])
def test_page_in_a_browser_is_refused_also_at_the_webhook(backend: Backend, head: dict[str, str]) -> None:
    assert backend.send("POST", "/webhook", {}, known=False, **head)[0] == 403
    assert backend.send("GET", "/health", **head)[0] == 403
    assert backend.hints == 0


@pytest.mark.parametrize("method", ["HEAD", "PUT", "DELETE", "PATCH", "OPTIONS", "TRACE"])
def test_other_methods_are_refused(backend: Backend, method: str) -> None:
    assert backend.send(method, "/health")[0] == 405
    assert backend.send(method, "/webhook", known=False)[0] == 405


def test_body_must_state_a_length_within_the_limit_before_anything_is_read(backend: Backend) -> None:
    for path, most, known in (("/predict", MAX_BODY, True), ("/webhook", MAX_HINT, False)):
        assert backend.send("POST", path, b"", known=known, Content_Length=str(most + 1))[0] == 413
        assert backend.send("POST", path, b"", known=known, Content_Length=None)[0] == 411
        assert backend.send("POST", path, b"{}", known=known, Content_Type="text/plain")[0] == 415
    chunked = b"2\r\n{}\r\n0\r\n\r\n"
    headers = {"Content_Length": None, "Transfer_Encoding": "chunked", "Content_Type": "application/json"}
    assert backend.send("POST", "/webhook", chunked, known=False, **headers)[0] == 411
    assert backend.hints == 0


@pytest.mark.parametrize(
    "body",
    [
        b"[" * 100_000,
        b'{"tasks":' * 6_000 + b"1" + b"}" * 6_000,
        b'{"tasks": ' + b"[" * 40 + b"]" * 40 + b"}",
        b'{"tasks": [5]}',
        b'{"tasks": {}}',
        b'{"n": ' + b"9" * 5_000 + b"}",
        b"\xff",
        b"",
        b"null",
        b"[]",
    ],
)
def test_deep_and_wrong_json_is_one_line_of_error(backend: Backend, body: bytes) -> None:
    for path in ("/predict", "/setup"):
        status, reply, _ = backend.send("POST", path, body)
        assert status == 400
        assert "\n" not in reply["error"]


@pytest.mark.parametrize(
    "change", [{"project": None}, {"project": "../3"}, {"project": -1}, {"schema": 5}, {"project": 2**70}]
)
def test_wrong_field_of_a_setup_is_refused(backend: Backend, change: dict[str, Any]) -> None:
    assert backend.send("POST", "/setup", recorded("backend.setup.json") | change)[0] == 400
    assert backend.projects == []


def test_websocket_is_refused(backend: Backend) -> None:
    head = f"GET /ws HTTP/1.1\r\nHost: 127.0.0.1:{backend.port}\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n"
    with socket.create_connection(("127.0.0.1", backend.port), timeout=10) as connection:
        connection.sendall(head.encode())
        assert connection.recv(4096).split()[1] in (b"401", b"403", b"404")


def test_token_of_a_setup_is_neither_shown_nor_stored(
    backend: Backend, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    for schema in (labeling_config(CLASSES), "<View>", 5):
        setup = recorded("backend.setup.json") | {"schema": schema, "access_token": LEGACY}
        assert LEGACY not in json.dumps(backend.send("POST", "/setup", setup)[1])
    assert backend.send("POST", "/setup", b'{"access_token": "' + LEGACY.encode() + b'", ')[0] == 400
    shown = capfd.readouterr()
    assert LEGACY not in shown.out + shown.err + "\n".join(backend.lines)
    backend.stop()
    assert all(LEGACY.encode() not in path.read_bytes() for path in tmp_path.rglob("*") if path.is_file())


PROGRAM = """
import sys
from pathlib import Path
import dal.cli
from dal.annotate import label_studio_client, label_studio_exchange, label_studio_server
from dal.annotate.label_studio_service import open_label_studio_service
service = open_label_studio_service(Path(sys.argv[1]), trainer=False)
tasks = [{"id": n, "data": {"dal_id": f"t{n}"}, "annotations": []} for n in range(1000)]
service.predictions(tasks)
service.store(service.read(tasks, "host/1"))
service.close()
print([name for name in ("torch", "numpy", "pyarrow", "scipy", "sklearn") if name in sys.modules])
print(next(line.split()[1] for line in open("/proc/self/status") if line.startswith("VmHWM")))
"""


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="the peak memory of a process is read from /proc")
def test_backend_needs_no_torch_and_little_memory(tmp_path: Path) -> None:
    folder = make_project(tmp_path / "p", n=5_000)
    command = [sys.executable, "-c", PROGRAM, str(folder)]
    imported, peak = subprocess.run(command, capture_output=True, text=True, check=True).stdout.splitlines()
    assert imported == "[]"
    assert int(peak) < 64 * 1024  # kB
