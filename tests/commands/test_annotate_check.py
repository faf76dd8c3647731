"""`dal annotate --check`: the texts and the figures of `dal ask --check` and `dal tell`, also after a kill."""

import csv
import io
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import material
import pytest
from command import Command, read_rows, write_tickets
from test_annotate_command import Page

from dal.annotate.service import open_service
from dal.store.accuracy_samples import read_checks
from dal.store.label_log import LabelLog

ROWS, LABELS = 160, 30
TRUTH = {f"t{i}": topic for i, topic in enumerate(material.tickets(ROWS)[1])}


@pytest.fixture
def dal(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Command:
    """The command in a folder with the project `mails`, which has 30 labels."""
    monkeypatch.chdir(tmp_path)
    write_tickets(tmp_path / "tickets.csv", ROWS, labels=False)
    command = Command(capsys)
    made = ("--data", "tickets.csv", "--id", "id", "--classes", ",".join(sorted(material.TOPICS)))
    ended = command("init", "mails", *made, "--learner", "TfidfLearner", "--strategy", "Margin")
    assert ended.code == 0, ended.err
    service = open_service("mails", trainer=False)
    ids = {each["name"]: each["id"] for each in service.state_of_classes()}
    rows = service.state("ana")["rows"]
    for n in range(LABELS):
        row = rows[0]["id"]
        rows = service.answer("ana", row=row, classes=[ids[TRUTH[row]]], key=f"k{n}")["rows"]
    service.close()
    return command


def by_lines(monkeypatch: pytest.MonkeyPatch, folder: str, n: int | None = None) -> None:
    """Put true answers to the texts of the last check into stdin, all or the first of those without one."""
    sample = read_checks(Path(folder))[-1]
    left = [row for row in sample.ids if row not in sample.answers]
    monkeypatch.setattr("sys.stdin", io.StringIO("".join(f"{TRUTH[row]}\n" for row in left[:n])))


def labels(folder: str) -> int:
    with LabelLog(Path(folder) / "labels.db", access="read") as log:
        return log.counts().get("answered", 0)


def test_same_texts_and_the_same_accuracy_as_by_file(dal: Command, monkeypatch: pytest.MonkeyPatch) -> None:
    shutil.copytree("mails", "other")
    assert dal("ask", "other", "--check", 20, "-o", "check.csv").code == 0
    lines = read_rows("check.csv")
    for line in lines:
        line["label"] = TRUTH[line["id"]]
    with open("check.csv", "w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, list(lines[0]))
        writer.writeheader()
        writer.writerows(lines)
    told = dal("tell", "other", "check.csv")
    assert told.code == 0

    monkeypatch.setattr("sys.stdin", io.StringIO(""))
    ended = dal("annotate", "mails", "--check", 20, "--terminal", "--who", "ana")
    assert (ended.code, "the accuracy needs all of them" in ended.err) == (0, True)
    # 30 have a label, and 10 are asked already.
    assert "20 of 120 texts without a label were drawn to check the model of 30 labels" in ended.err
    assert ended.out.endswith("Go on with: dal annotate mails --terminal --check 20\n")
    mine, theirs = read_checks(Path("mails"))[0], read_checks(Path("other"))[0]
    assert (mine.ids, mine.probabilities, mine.guesses) == (theirs.ids, theirs.probabilities, theirs.guesses)

    by_lines(monkeypatch, "mails", 7)
    ended = dal("annotate", "mails", "--check", 20, "--terminal", "--who", "ana")
    assert "going on with check 1: 0 of 20 texts are answered" in ended.err
    assert "7 of 20 texts of the check are answered" in ended.err
    by_lines(monkeypatch, "mails")
    ended = dal("annotate", "mails", "--check", 20, "--terminal", "--who", "ana")
    assert ended.out.splitlines()[-3:-1] == told.out.splitlines()
    assert ended.out.endswith("Stopped; all answers are stored, and the check is complete.\n")
    assert [line for line in ended.messages if "are few" in line] == [line for line in told.messages if "few" in line]
    assert read_checks(Path("mails"))[0].answers == read_checks(Path("other"))[0].answers
    assert labels("mails") == LABELS
    assert "from 20 answers to `dal ask --check`" in dal("predict", "mails", "-o", "out.csv").err


def test_answers_are_kept_as_labels_when_told(dal: Command, monkeypatch: pytest.MonkeyPatch) -> None:
    assert dal("ask", "mails", "--check", 6, "--random", "-o", "check.csv").code == 0
    by_lines(monkeypatch, "mails")
    ended = dal("annotate", "mails", "--check", 6, "--random", "--keep", "--terminal", "--who", "ana")
    assert ended.code == 0, ended.err
    assert "going on with check 1: 0 of 6 texts are answered" in ended.err  # drawn for a file, answered here
    assert "6 answers are now labels" in ended.err
    assert "the plain average" not in ended.out
    assert labels("mails") == LABELS + 6
    # The next check is about the next model.
    monkeypatch.setattr("sys.stdin", io.StringIO(""))
    ended = dal("annotate", "mails", "--check", 6, "--random", "--terminal")
    assert "6 of 114 texts without a label were drawn to check the model of 36 labels" in ended.err
    assert [each.number for each in read_checks(Path("mails"))] == [1, 2]


def test_check_of_a_project_without_a_model_is_one_line(dal: Command) -> None:
    made = ("--data", "tickets.csv", "--id", "id", "--classes", "a,b", "--learner", "TfidfLearner")
    assert dal("init", "empty", *made, "--strategy", "Margin").code == 0
    ended = dal("annotate", "empty", "--check", 10, "--terminal")
    assert (ended.code, len(ended.messages)) == (2, 1)
    assert "nothing is labeled yet" in ended.messages[0]
    assert not Path("empty/checks").exists()


@pytest.mark.skipif(sys.platform == "win32", reason="needs SIGKILL")
def test_check_on_the_page_goes_on_after_a_kill(dal: Command) -> None:
    assert dal("ask", "mails", "--check", 6, "-o", "check.csv").code == 0
    ids = read_checks(Path("mails"))[0].ids
    with Page(Path("mails"), "--who", "ana", "--check", "6") as running:
        running.enter()
        for n, row in enumerate(ids[:3]):
            state = running.ask("/api/state")
            assert state["rows"][0]["id"] == row
            number = next(each["id"] for each in state["classes"] if each["name"] == TRUTH[row])
            body = {"row": row, "classes": [number], "key": f"0123456789{n}"}
            running.ask("/api/answer", body | {"replaces": None, "seconds": 2, "seen": {}})
            assert json.loads(Path("mails/checks/1.json").read_text())["answers"][row] == TRUTH[row]
    assert [row for row in ids if row in read_checks(Path("mails"))[0].answers] == list(ids[:3])
    with Page(Path("mails"), "--who", "ana", "--check", "6") as running:
        running.enter()
        state = running.ask("/api/state")
        assert state["rows"][0]["id"] == ids[3]
        assert state["header"]["check"] == {"number": 1, "answered": 3, "of": 6}
        code, _, err = running.end(signal.SIGINT)
    assert (code, "3 of 6 texts of the check are answered" in err) == (0, True)


@pytest.mark.skipif(sys.platform != "linux", reason="needs the list of child processes")
@pytest.mark.parametrize(("number", "after"), [(signal.SIGINT, 1.0), (signal.SIGTERM, 0.3)])
def test_end_while_texts_are_drawn_leaves_no_process_and_no_traceback(dal: Command, number: int, after: float) -> None:
    command = [sys.executable, "-m", "dal", "annotate", "mails", "--check", "20", "--terminal", "lines"]
    options = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    process = subprocess.Popen(command, start_new_session=True, **options)
    children = Path(f"/proc/{process.pid}/task/{process.pid}/children")
    while not children.read_text():
        assert process.poll() is None
        time.sleep(0.02)
    time.sleep(after)
    os.killpg(process.pid, number)  # as a terminal does
    _, err = process.communicate(timeout=30)  # the child holds the same stderr: this waits for its end, too
    assert process.returncode == 128 + number
    assert len(err.splitlines()) == 1
    assert "go on with: dal annotate mails --check 20 --terminal lines" in err
