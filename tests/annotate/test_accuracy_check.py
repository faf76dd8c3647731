"""An accuracy check as a service: the drawn texts only, blind, durable, and apart from the labels."""

import json
import subprocess
import sys
import threading
from pathlib import Path

import pytest
from annotation_project import make_project, true_class

from dal.annotate.accuracy_check import AccuracyCheck, open_check
from dal.errors import AnswerError, BusyError
from dal.store.accuracy_samples import AccuracySample, read_checks
from dal.store.check_log import tell_check_log
from dal.store.events import SKIP
from dal.store.folder_backup import restore_backup, write_backup
from dal.store.label_log import LabelLog

DRAWN = ("t7", "t3", "t40", "t1", "t22", "t5")


def sample(folder: Path, **changes: object) -> AccuracySample:
    values: dict[str, object] = {
        "number": 1,
        "labels": 0,
        "event": 0,
        "population": 60,
        "uniform": 1.0,
        "ids": DRAWN,
        "probabilities": tuple(1 / (60 - n) for n in range(len(DRAWN))),
        "guesses": ("none",) * len(DRAWN),
    }
    found = AccuracySample(**{**values, **changes})  # type: ignore[arg-type]
    found.save(folder)
    return found


def reported(each: AccuracySample) -> tuple[list[str], list[str]]:
    return [f"{sum(each.right)} of {len(each.right)} right"], []


def open_one(folder: Path) -> AccuracyCheck:
    return open_check(folder, read_checks(folder)[-1], report=reported)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    folder = make_project(tmp_path / "p")
    sample(folder)
    return folder


def answered(check: AccuracyCheck, n: int, who: str = "ana") -> list[str]:
    """Answer up to `n` texts truly, as they come, and return their ids."""
    done: list[str] = []
    rows = check.state(who)["rows"]
    while rows and len(done) < n:
        row = rows[0]["id"]
        seen = {"why": True, "model": False}
        rows = check.answer(who, row=row, classes=[true_class(row)], key=f"{who}-{row}", seen=seen)["rows"]
        done.append(row)
    return done


def test_drawn_texts_come_in_the_order_of_drawing_and_no_others(folder: Path) -> None:
    check = open_one(folder)
    assert answered(check, 100) == list(DRAWN)
    assert check.state("ana")["rows"] == []
    assert check.is_complete
    check.close()


def test_each_answer_is_in_the_sample_before_the_reply_and_no_label(folder: Path) -> None:
    check = open_one(folder)
    for n in range(1, 4):
        answered(check, 1)
        names = ("none", "mild", "severe")
        expected = {row: names[true_class(row)] for row in DRAWN[:n]}
        assert dict(read_checks(folder)[0].answers) == expected
    check.skip("ana", row=DRAWN[3], key="skipped")
    assert read_checks(folder)[0].answers[DRAWN[3]] is None
    check.undo("ana", key="back")
    check.undo("ana", key="back again")
    assert list(read_checks(folder)[0].answers) == list(DRAWN[:2])
    check.close()
    with LabelLog(folder / "labels.db", access="read") as log:
        assert log.counts() == {}
        assert log.history() == []


def test_check_is_blind(folder: Path) -> None:
    check = open_one(folder)
    answered(check, 2)
    row = check.state("ana")["rows"][0]
    hints = check.hints("ana", row=row["id"])
    assert (hints["guesses"], hints["near"]) == ([], [])
    assert row["read_up_to"] is None
    assert check.copies("ana", row=DRAWN[0]) == {"rows": []}
    assert "none" not in json.dumps(check.progress("ana")["curve"])
    assert check.history("ben")["rows"] == []  # nobody sees the answers of others
    with pytest.raises(AnswerError, match="right"):
        check.change_classes("ana", change={"do": "add", "name": "new"}, key="k")
    check.close()


def test_text_that_was_not_drawn_is_refused(folder: Path) -> None:
    check = open_one(folder)
    for call in (
        lambda: check.answer("ana", row="t0", classes=[0], key="k"),
        lambda: check.skip("ana", row="t0", key="k", how="later"),
        lambda: check.take("ana", row="t0"),
        lambda: check.flag("ana", row="t0", key="k", text="odd"),
    ):
        with pytest.raises(AnswerError, match="'t0' was not drawn for this check"):
            call()
    assert {row["id"] for row in check.search("ana", q="patient", limit=50)["rows"]} == set(DRAWN)
    check.close()


def test_two_people_get_each_text_once(folder: Path) -> None:
    check = open_one(folder)
    done: list[str] = []
    while not check.is_complete:
        done += answered(check, 1, "ana") + answered(check, 1, "ben")
    assert sorted(done) == sorted(DRAWN)
    check.close()


def test_accuracy_is_in_the_header_once_all_are_answered(folder: Path) -> None:
    ready = threading.Event()

    def slow(each: AccuracySample) -> tuple[list[str], list[str]]:
        assert ready.wait(20)
        return reported(each)

    check = open_check(folder, read_checks(folder)[0], report=slow)
    answered(check, 5)
    header = check.state("ana")["header"]
    assert (header["check"], header["stop"], header["waiting"]) == ({"number": 1, "answered": 5, "of": 6}, None, False)
    answered(check, 1)
    header = check.state("ana")["header"]
    assert header["waiting"]
    assert header["stop"]["text"] == "all texts of the check are answered; the accuracy is being computed"
    ready.set()
    for _ in range(200):
        header = check.state("ana")["header"]
        if not header["waiting"]:
            break
        threading.Event().wait(0.05)
    assert header["stop"] == {"stop": True, "text": "1 of 6 right"}
    assert check.result() == (["1 of 6 right"], [])
    check.undo("ana", key="back")
    assert check.state("ana")["header"]["stop"] is None
    assert check.result() is None
    check.close()


KILLED = """
import os, signal, sys
sys.path[:0] = [{tests!r}]
from pathlib import Path
from test_accuracy_check import answered, open_one
check = open_one(Path({folder!r}))
answered(check, {n})
row = check.state("ana")["rows"][0]["id"]
check._save = lambda: os.kill(os.getpid(), signal.SIGKILL)
check.answer("ana", row=row, classes=[1], key="killed")
"""


@pytest.mark.skipif(sys.platform == "win32", reason="needs SIGKILL")
def test_killed_between_log_and_sample_it_goes_on_with_every_answer(folder: Path) -> None:
    program = KILLED.format(tests=str(Path(__file__).parent), folder=str(folder), n=2)
    ended = subprocess.run([sys.executable, "-c", program], check=False, capture_output=True, text=True)
    assert ended.returncode == -9, ended.stderr
    assert len(read_checks(folder)[0].answers) == 2  # the third is in the log only
    check = open_one(folder)
    assert list(read_checks(folder)[0].answers) == list(DRAWN[:3])
    assert answered(check, 100) == list(DRAWN[3:])
    check.close()


def test_answers_of_a_file_count_here_and_answers_from_here_count_there(folder: Path) -> None:
    sample(folder, answers={"t7": "mild", "t3": None})
    check = open_one(folder)
    assert check.state("ana")["rows"][0]["id"] == "t40"
    answered(check, 1)
    check.close()
    tell_check_log(folder, 1, {"t7": "severe", "t1": SKIP, "t40": "mild"})
    check = open_one(folder)
    expected = {"t7": "severe", "t3": None, "t40": "mild", "t1": None}
    assert dict(read_checks(folder)[0].answers) == expected
    assert answered(check, 100) == ["t22", "t5"]
    check.close()


def test_answers_become_labels_of_their_people_once(folder: Path) -> None:
    check = open_one(folder)
    answered(check, 2, "ana")
    check.skip("ben", row="t40", key="s")
    assert check.keep() == (3, 0)
    assert check.keep() == (0, 0)
    check.close()
    with LabelLog(folder / "labels.db", access="read") as log:
        given = {event.row: (event.value, event.who) for event in log.history()}
        assert {json.loads(event.seen or "{}").get("why") for event in log.history(who="ana")} == {True}
    assert given == {"t7": ("mild", "ana"), "t3": ("none", "ana"), "t40": (None, "ben")}


def test_classes_stay_those_of_the_check_and_labels_get_the_current_names(folder: Path) -> None:
    check = open_one(folder)
    answered(check, 2)
    check.close()
    with LabelLog(folder / "labels.db") as log:
        log.change_classes({"do": "rename", "id": 1, "name": "light"})
        log.change_classes({"do": "retire", "id": 0})
    check = open_one(folder)
    assert check.classes_changed
    assert [each["name"] for each in check.state("ana")["classes"]] == ["none", "mild", "severe"]
    assert dict(read_checks(folder)[0].answers) == {"t7": "mild", "t3": "none"}  # comparable with the model's guesses
    assert check.keep() == (1, 1)
    check.close()
    with LabelLog(folder / "labels.db", access="read") as log:
        assert {event.row: event.value for event in log.history()} == {"t7": "light"}


def test_project_is_locked_and_free_again(folder: Path) -> None:
    check = open_one(folder)
    with pytest.raises(BusyError):
        open_one(folder)
    check.close()
    open_one(folder).close()


def test_backup_has_the_check(folder: Path, tmp_path: Path) -> None:
    check = open_one(folder)
    answered(check, 2)
    write_backup(folder, tmp_path / "copy.zip")
    answered(check, 2)
    check.close()
    restore_backup(tmp_path / "copy.zip", tmp_path / "back")
    check = open_one(tmp_path / "back")
    assert answered(check, 100) == list(DRAWN[2:])
    check.close()


PROGRAM = """
import sys
from pathlib import Path
from dal.annotate.accuracy_check import open_check
from dal.store.accuracy_samples import read_checks
folder = Path(sys.argv[1])
check = open_check(folder, read_checks(folder)[0], report=lambda each: ([], []))
for n in range(3):
    row = check.state("ana")["rows"][0]["id"]
    check.answer("ana", row=row, classes=[0], key=f"k{n}")
check.close()
heavy = "torch", "numpy", "pyarrow", "scipy", "pandas", "sklearn", "dal.data", "dal.session", "dal.learners"
print([name for name in heavy if name in sys.modules])
"""


def test_check_needs_no_torch(folder: Path) -> None:
    found = subprocess.run([sys.executable, "-c", PROGRAM, str(folder)], capture_output=True, text=True, check=True)
    assert found.stdout == "[]\n"
