"""`dal serve-label-studio`: the command, with a real project and a stand-in for the server of Label Studio."""

import base64
import signal
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from command import Command
from label_studio_api import LEGACY, LabelStudioApi, recorded
from serving_command import ServingCommand

from dal.formats.label_studio import labeling_config
from dal.store.folder_lock import held
from dal.store.label_log import LabelLog
from dal.store.project_rows import ProjectRow, ProjectRows

CLASSES = ("none", "effect")


def make_project(folder: Path) -> dict[str, str]:
    folder.mkdir()
    config = "kind: project\ndata: {path: rows.db, label: null}\nlearner: TfidfLearner\nstrategy: Random\n"
    (folder / "config.yaml").write_text(config)
    texts = {f"t{i}": f"text number {i} about {'rash' if i % 2 else 'nothing'}" for i in range(20)}
    with ProjectRows.create(folder / "rows.db") as rows:
        rows.add((ProjectRow(id, text) for id, text in texts.items()), source="pool.csv")
    with LabelLog(folder / "labels.db") as log:
        for name in CLASSES:
            log.change_classes({"do": "add", "name": name})
    return texts


@pytest.fixture
def dal(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Command:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("DAL_LABEL_STUDIO_PASSWORD", raising=False)
    return Command(capsys)


@pytest.fixture
def api(dal: Command) -> Iterator[LabelStudioApi]:
    api = LabelStudioApi()
    api.import_tasks(make_project(Path("ddi")))
    Path("token").write_text(LEGACY + "\n")
    yield api
    api.close()


class Backend(ServingCommand):
    """A running `dal serve-label-studio`, and requests with its password."""

    def __init__(self, *arguments: str, **environment: str) -> None:
        super().__init__("serve-label-studio", "ddi", "--port", 0, *arguments, **environment)
        # Up to the last line of the start: what was read ahead of it would be missing in the output at the end.
        while self.line() != "Ctrl-C ends it.":
            pass
        self.address = self.lines[0].split("Model: ")[1].split()[0]
        self.password = self.lines[2].split(maxsplit=1)[1].strip()

    def ask(self, path: str, body: Any = None, *, password: str | None = None, user: str = "dal") -> tuple[int, Any]:
        known = base64.b64encode(f"{user}:{password or self.password}".encode()).decode()
        return self.request(path, body, **({} if path == "/webhook" else {"Authorization": f"Basic {known}"}))


def until(condition: Callable[[], bool], seconds: float = 240) -> None:
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.05)


def answers() -> dict[str, Any]:
    with LabelLog(Path("ddi/labels.db"), access="read") as log:
        return {row: event.value for row in (f"t{i}" for i in range(20)) for event in log.answers_by(row).values()}


@pytest.mark.skipif(sys.platform == "win32", reason="Windows sends no Ctrl-C to another process")
def test_random_password_is_shown_and_annotations_are_read_also_after_a_kill(api: LabelStudioApi) -> None:
    address = ("--label-studio", f"{api.address}/projects/3", "--token-file", "token")
    with Backend(*address) as running:
        assert len(running.password) == 24
        setup = recorded("backend.setup.json") | {"schema": labeling_config(CLASSES), "access_token": LEGACY}
        assert running.ask("/setup", setup)[1]["model_version"].startswith("dal ")
        assert running.ask("/setup", setup, password="guess")[0] == 401
        api.annotate(1, "none")
        running.ask("/webhook", {"action": "ANNOTATION_CREATED"})
        until(lambda: answers() == {"t0": "none"})
        until(lambda: api.model_version.startswith("dal 1"))  # the trainer's ranking
        assert len(api.next_rows()) == 19
        api.annotate(2, "effect")
        running.end(signal.SIGKILL)
    api.annotate(3, "none")
    with Backend(*address) as running:
        until(lambda: answers() == {"t0": "none", "t1": "effect", "t2": "none"})
        code, out, err = running.end()
        assert code == 0, err
        assert "Stopped; all answers that were read are stored." in out
        assert "2 answers stored" in err
        assert LEGACY not in "".join(running.lines) + out + err
    with LabelLog(Path("ddi/labels.db"), access="read") as log:
        given = [event for row in ("t0", "t1", "t2") for event in log.history(rows=[row])]
        assert len(given) == 3
    assert all(LEGACY.encode() not in path.read_bytes() for path in Path("ddi").rglob("*") if path.is_file())


def test_without_an_address_requests_are_answered_and_the_given_password_is_not_shown(api: LabelStudioApi) -> None:
    known = {"user": "ana", "password": "a given password"}
    with Backend("--user", "ana", DAL_LABEL_STUDIO_PASSWORD="a given password") as running:
        assert running.password == "the one that was given"
        assert running.ask("/health", **known)[1]["status"] == "UP"
        setup = recorded("backend.setup.json") | {"schema": labeling_config(["none", "fatal"])}
        assert running.ask("/setup", setup, **known)[0] == 400
        other = recorded("backend.setup.json") | {"schema": labeling_config(CLASSES)}
        assert running.ask("/setup", other, **known)[0] == 200
        assert running.ask("/setup", other | {"project": "4.1"}, **known)[0] == 400
        code, out, err = running.end()
    out = "\n".join([*running.lines, out])
    assert code == 0
    assert "Answers are not read" in out
    assert "a given password" not in out + err
    assert "refused: the labeling config offers 'fatal', which is no class of the project" in err
    assert "project 4 of Label Studio asks" in err
    assert api.requests == []


def test_what_is_wrong_is_one_line(api: LabelStudioApi, dal: Command, monkeypatch: pytest.MonkeyPatch) -> None:
    Path("short").write_text("1234567")
    Path("two").write_text("one line\nand another")
    Path("empty").write_text("")
    Path("binary").write_bytes(b"\xff\xfe")
    cases = [
        (("nowhere",), "there is no folder nowhere: make a project with `dal init nowhere --data FILE`"),
        (("ddi", "--port", "70000"), "a port is a number from 0 to 65,535"),
        (("ddi", "--user", "a:b"), "without a colon"),
        (("ddi", "--password-file", "short"), "a password has at least 8 characters"),
        (("ddi", "--password-file", "missing"), "missing cannot be read: No such file"),
        (("ddi", "--password-file", "two"), "two must have one line"),
        (("ddi", "--password-file", "empty"), "empty must have one line"),
        (("ddi", "--password-file", "binary"), "binary is not text"),
        (("ddi", "--label-studio", api.address), "belong together"),
        (("ddi", "--token-file", "token"), "belong together"),
        (("ddi", "--import"), "--import needs --label-studio URL and --token-file FILE"),
        (("ddi", "--label-studio", "here", "--token-file", "token"), "is no address of a Label Studio"),
        (("ddi", "--label-studio", api.address, "--token-file", "two"), "two must have one line"),
    ]
    for arguments, message in cases:
        ended = dal("serve-label-studio", *arguments)
        assert ended.code == 2, arguments
        assert message in ended.messages[-1], arguments
    monkeypatch.setenv("DAL_LABEL_STUDIO_PASSWORD", "a given password")
    assert "omit one" in dal("serve-label-studio", "ddi", "--password-file", "token").messages[-1]


def test_folder_in_use_and_missing_extra_are_named(
    api: LabelStudioApi, dal: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    with held(Path("ddi")):
        assert "ddi is in use by" in dal("serve-label-studio", "ddi", "--port", "0").messages[-1]
    monkeypatch.setitem(sys.modules, "uvicorn", None)
    assert "deep-active-learning[annotate]" in dal("serve-label-studio", "ddi", "--port", "0").messages[-1]


def test_token_over_an_open_connection_is_a_warning(
    api: LabelStudioApi, dal: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "uvicorn", None)  # ends the command before it listens
    for address, warned in (("http://ls.example", True), ("https://ls.example", False), (api.address, False)):
        ended = dal("serve-label-studio", "ddi", "--label-studio", address, "--token-file", "token")
        assert ("without encryption" in ended.err) == warned
