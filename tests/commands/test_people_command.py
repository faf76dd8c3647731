"""`dal people`, and `dal annotate --people` over TLS, from the links to a person who is removed while it runs."""

import re
import ssl
import sys
from pathlib import Path
from typing import Any

import pytest
from command import Command
from page_server import TLS
from serving_command import ServingCommand
from test_annotate_command import KEY, make_project

from dal.store.label_log import LabelLog

TLS_OPTIONS = ("--certfile", str(TLS / "server.pem"), "--keyfile", str(TLS / "server-key.pem"))


@pytest.fixture
def dal(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Command:
    monkeypatch.chdir(tmp_path)
    return Command(capsys)


@pytest.fixture
def project(tmp_path: Path) -> Path:
    return make_project(tmp_path / "ddi")


class People(ServingCommand):
    """A running `dal annotate` for several people, and requests to it."""

    def __init__(self, folder: Path, port: int, *arguments: str, lines: int) -> None:
        super().__init__("annotate", folder, "--port", port, *arguments, *TLS_OPTIONS)
        for _ in range(lines):
            self.line()
        self.port = int(self.lines[0].rpartition(":")[2].rstrip("/"))
        self.address = f"https://127.0.0.1:{self.port}"

    def ask(self, path: str, secret: str = "", body: object = None) -> tuple[int, Any]:
        trusting = ssl.create_default_context(cafile=TLS / "server.pem")
        cookie = f"__Host-dal{self.port}={secret}"
        return self.request(path, body, trusting=trusting, Cookie=cookie, Origin=self.address)


@pytest.mark.skipif(sys.platform == "win32", reason="Windows sends no Ctrl-C to another process")
def test_people_log_in_over_tls_and_a_login_outlives_a_restart(project: Path, dal: Command) -> None:
    with People(project, 0, "--host", "0.0.0.0", "--people", "ana,ben", lines=3) as served:
        address, *links = served.lines
        assert address == f"https://label.test:{served.port}/"
        assert all(re.fullmatch(rf"\w+: {re.escape(address)}#login=[\w-]{{43}}", link) for link in links)
        ana, ben = (link.partition("#login=")[2] for link in links)
        assert served.ask("/login", body={"login": "wrong"})[0] == 401
        assert served.ask("/login", body={"login": ana}) == (200, {})
        status, state = served.ask("/api/state", ana)
        assert (status, state["me"]) == (200, {"who": "ana", "rights": ["adjudicate", "classes"]})
        answer = {"row": state["rows"][0]["id"], "classes": [state["classes"][1]["id"]], "key": KEY}
        answer |= {"replaces": None, "seconds": 2, "seen": {}}
        assert served.ask("/api/answer", ana, answer)[1]["saved"]["who"] == "ana"
        assert served.ask("/api/state", ben)[1]["me"] == {"who": "ben", "rights": []}
        code, out, err = served.end()
        assert code == 0
        assert ana not in out + err
        assert err == ""
        assert "Go on with: dal annotate" in out
        assert "--people ana,ben --certfile" in out
    # The same command again: cookies are valid, nothing is shown twice, and ben is removed while it runs.
    with People(project, served.port, "--host", "0.0.0.0", "--people", "ana,ben", lines=3) as again:
        assert [line.partition(" until ")[0] for line in again.lines[1:]] == ["ana: has a login", "ben: has a login"]
        assert again.ask("/api/state", ana)[0] == again.ask("/api/state", ben)[0] == 200
        assert dal("people", project, "remove", "ben").code == 0
        assert (again.ask("/api/state", ana)[0], again.ask("/api/state", ben)[0]) == (200, 401)
        made = dal("people", project, "login", "ben").out.partition("#login=")[2][:43]
        assert again.ask("/login", body={"login": made})[0] == 200
        assert again.ask("/api/state", made)[1]["me"]["who"] == "ben"


def test_people_are_listed_with_logins_answers_and_rights(dal: Command, project: Path) -> None:
    assert dal("people", project).out == f"no logins yet: dal annotate {project} --people ana,ben makes them\n"
    with LabelLog(project / "labels.db") as log:
        log.answer("t1", "effect", who="Zoë", key="1", replaces=None)
        log.set_person("Zoë", token=b"1" * 32, rights=["adjudicate"], until=4_102_444_800.0 + 43_200)
        log.set_person("old", token=b"2" * 32, until=946_684_800.0 + 43_200)
        log.set_person("removed", token=b"3" * 32)
        log.remove_person("removed")
        log.set_person("\x1b[2J", token=None, rights=["\x07"])
    lines = [" ".join(line.split()) for line in dal("people", project).out.splitlines()]
    assert lines[:3] == [
        "\\x1b[2J 0 no login \\x07",
        "Zoë 1 login until 2100-01-01 adjudicate",
        "old 0 login ended 2000-01-01",
    ]
    assert re.fullmatch(r"removed 0 removed \d{4}-\d\d-\d\d", lines[3])


def test_new_login_is_shown_once_and_stored_as_a_digest(dal: Command, project: Path) -> None:
    made = dal("people", project, "login", "ana", "--days", "7")
    assert made.code == 0
    secret = re.fullmatch(r"ana: #login=([\w-]{43})", made.out.splitlines()[0])[1]
    assert "name everybody in --people" in made.out
    assert secret.encode() not in b"".join(path.read_bytes() for path in project.iterdir() if path.is_file())
    assert secret not in dal("people", project, "login", "ana").out
    assert secret not in dal("people", project).out


@pytest.mark.parametrize(
    ("arguments", "reason"),
    [
        (["remove", "ana"], "there is no login of 'ana'; logins are of ben"),
        (["remove", "bem"], "there is no login of 'bem'; did you mean 'ben'?"),
        (["remove"], "remove takes NAME [NAME ...]"),
        (["login"], "login takes one NAME"),
        (["login", "a", "b"], "login takes one NAME"),
        (["login", "Ben"], "the name 'Ben' looks like 'ben', who is in this project"),
        (["login", "a\u202eb"], "a name has 1 to 200 printable characters"),
        (["login", "cem", "--days", "0"], "days are a number from 1 to 3,650"),
        (["promote", "ben"], "invalid choice"),
    ],
)
def test_wrong_arguments_are_one_line_and_change_nothing(
    dal: Command, project: Path, arguments: list[str], reason: str
) -> None:
    with LabelLog(project / "labels.db") as log:
        log.set_person("ben", token=b"1" * 32)
        before = log.people()
    ended = dal("people", project, *arguments)
    assert ended.code == 2
    assert reason in ended.messages[-1]
    assert len(ended.messages) == 1
    with LabelLog(project / "labels.db") as log:
        assert log.people() == before


@pytest.mark.parametrize(
    ("arguments", "reason"),
    [
        (["--host", "0.0.0.0"], "which needs a login per person (--people ana,ben) and TLS (--certfile FILE"),
        (["--host", "0.0.0.0", "--people", "ana"], "lets other computers in, which needs TLS"),
        (["--people", "ana,Ana"], "looks like 'ana': each person needs a name"),
        (["--people", "ana", "--who", "ben"], "--who is the name of a single person"),
        (["--certfile", "nothing.pem", "--keyfile", "nothing.pem"], "nothing.pem cannot be read: No such file"),
        (["--behind-proxy", "--people", "ana"], "--behind-proxy needs the name that people open (--allow-host"),
        (["--allow-host", "label.example.org"], "is another computer's, and TLS is missing"),
    ],
)
def test_unsafe_start_is_refused_in_one_line(dal: Command, project: Path, arguments: list[str], reason: str) -> None:
    ended = dal("annotate", project, "--port", "0", "--no-open", *arguments)
    assert ended.code == 2
    assert reason in ended.messages[-1]
    assert len(ended.messages) == 1
    with LabelLog(project / "labels.db") as log:
        assert log.people() == []


def test_removed_person_is_not_let_in_by_the_command_of_before(dal: Command, project: Path) -> None:
    dal("people", project, "login", "ana")
    dal("people", project, "remove", "ana")
    ended = dal("annotate", project, "--port", "0", "--people", "ana,ben")
    assert ended.code == 2
    assert "ana was removed: leave out the name, or give a login with dal people " in ended.messages[-1]
    assert ended.messages[-1].endswith(f"{project.name} login ana")
    assert [line.split()[0] for line in dal("people", project).out.splitlines()] == ["ana"]
