"""`dal annotate`: the command, from its link to Ctrl-C, with a real project."""

import re
import socket
import sys
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from command import Command
from serving_command import ServingCommand

from dal.annotate.server import listen
from dal.store.folder_lock import held
from dal.store.label_log import LabelLog
from dal.store.project_rows import ProjectRow, ProjectRows

KEY = "0123456789abcdef"


def make_project(folder: Path) -> Path:
    folder.mkdir()
    (folder / "config.yaml").write_text(
        "kind: project\ndata: {path: rows.db, label: null}\nlearner: TfidfLearner\nstrategy: Random\n"
    )
    rows = ProjectRows.create(folder / "rows.db")
    rows.add((ProjectRow(f"t{i}", f"text number {i}", None, {}) for i in range(20)), source="pool.csv")
    rows.close()
    with LabelLog(folder / "labels.db") as log:
        for name in ("none", "effect"):
            log.change_classes({"do": "add", "name": name})
    return folder


@pytest.fixture
def dal(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Command:
    monkeypatch.chdir(tmp_path)
    return Command(capsys)


@pytest.fixture
def project(tmp_path: Path) -> Path:
    return make_project(tmp_path / "ddi")


class Page(ServingCommand):
    """A running `dal annotate`, and requests with its cookie."""

    def __init__(self, folder: Path, *arguments: str) -> None:
        super().__init__("annotate", folder, "--no-open", "--port", "0", *arguments)

    def enter(self) -> None:
        """Read the link, and open it."""
        self.link = self.line()
        self.address = self.link.partition("/?")[0]
        with urllib.request.urlopen(self.link) as reply:
            self.page = reply.read().decode()
            self.cookie = reply.headers["Set-Cookie"].partition(";")[0]

    def ask(self, path: str, body: object = None) -> dict[str, Any]:
        status, reply = self.request(path, body, Cookie=self.cookie, Origin=self.address)
        assert status == 200, reply
        return reply


@pytest.fixture
def running(project: Path) -> Iterator[Page]:
    with Page(project, "--who", "ana") as running:
        running.enter()
        yield running


@pytest.mark.skipif(sys.platform == "win32", reason="Windows sends no Ctrl-C to another process")
def test_answer_is_stored_and_ctrl_c_ends_cleanly(running: Page, project: Path) -> None:
    assert re.fullmatch(r"http://127\.0\.0\.1:\d+/\?token=[\w-]{43}", running.link)
    state = running.ask("/api/state")
    row = state["rows"][0]["id"]
    body = {"row": row, "classes": [state["classes"][1]["id"]], "key": KEY, "replaces": None, "seconds": 2, "seen": {}}
    assert running.ask("/api/answer", body)["saved"]["who"] == "ana"
    with pytest.raises(urllib.error.HTTPError, match="401"):
        urllib.request.urlopen(running.link)
    code, out, err = running.end()
    assert code == 0
    assert out.splitlines()[-1] == f"Stopped; all answers are stored. Go on with: dal annotate {project}"
    token = running.link.partition("=")[2]
    assert token not in out + err
    assert "Traceback" not in err
    with LabelLog(project / "labels.db", access="read") as log:
        assert {event.row: (event.value, event.who) for event in log.history()} == {row: ("effect", "ana")}
    with held(project):  # it is free again
        pass
    assert sorted(path.name for path in project.iterdir() if path.suffix == ".html") == []


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="needs /proc")
def test_server_needs_little_memory_and_no_torch(running: Page) -> None:
    running.ask("/api/state")
    process = Path("/proc") / str(running.process.pid)
    resident = re.search(r"VmRSS:\s+(\d+) kB", (process / "status").read_text())
    assert resident is not None
    assert int(resident[1]) < 64 * 1024
    maps = (process / "maps").read_text()
    assert not [name for name in ("libtorch", "numpy", "libarrow") if name in maps]


def test_folder_in_use_is_refused_with_the_process(dal: Command, running: Page, project: Path) -> None:
    ended = dal("annotate", project, "--no-open", "--port", "0")
    assert ended.code == 2
    holder = f"is in use by another process (pid {running.process.pid}): end it (dal annotate: Ctrl-C)"
    assert holder in ended.messages[-1]


def test_port_in_use_is_one_line(dal: Command, project: Path) -> None:
    with listen(0) as taken:
        port = taken.getsockname()[1]
        ended = dal("annotate", project, "--no-open", "--port", port)
    assert ended.code == 2
    assert f"port {port} is in use by another program: choose one with --port" in ended.messages[-1]


def test_port_is_free_again_after_a_refusal(dal: Command, tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    assert dal("annotate", "nothing", "--port", port).code == 2
    listen(port).close()


@pytest.mark.parametrize("port", ["-1", "65536", "http", "1e3", ""])
def test_port_is_a_number(dal: Command, project: Path, port: str) -> None:
    ended = dal("annotate", project, f"--port={port}")
    assert ended.code == 2
    assert "a port is a number from 0 to 65,535" in ended.messages[-1]


def test_run_folder_and_missing_folder_are_refused(dal: Command, tmp_path: Path) -> None:
    ended = dal("annotate", "nothing", "--port", "0")
    assert ended.code == 2
    assert "dal init" in ended.messages[-1]
    Path("run").mkdir()
    Path("run", "config.yaml").write_text("data: {path: tickets.csv}\nlearner: TfidfLearner\nstrategy: Random\n")
    ended = dal("annotate", "run", "--port", "0")
    assert ended.code == 2
    assert "not a project" in ended.messages[-1]
    assert [path.name for path in Path("run").iterdir()] == ["config.yaml"]


@pytest.mark.parametrize("module", ["starlette", "uvicorn"])
def test_missing_extra_is_named(dal: Command, project: Path, monkeypatch: pytest.MonkeyPatch, module: str) -> None:
    monkeypatch.setitem(sys.modules, module, None)
    ended = dal("annotate", project)
    assert ended.code == 2
    assert f"{module} is not installed: pip install 'deep-active-learning[annotate]'" in ended.messages[-1]
