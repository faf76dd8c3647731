"""`dal annotate --terminal` line by line: answers and commands from a file, a pipe or a person."""

import io
import os
from collections.abc import Callable
from pathlib import Path

import pytest
from annotation_project import make_project, open_trained
from command import Command

from dal.annotate.labeling_session import LabelingSession
from dal.annotate.line_view import LineView
from dal.annotate.service import AnnotationService, open_service
from dal.commands.annotate_in_terminal import answer_in_terminal
from dal.errors import AnswerError
from dal.store.label_log import LabelLog

Run = Callable[..., str]


def typed(service: AnnotationService, *lines: str, strict: bool = False) -> str:
    """What is printed for these lines."""
    output = io.StringIO()
    LineView(LabelingSession(service, "ana"), lines=lines, output=output, strict=strict).run()
    return output.getvalue()


def answers(folder: Path) -> list[object]:
    """Values of the answers, in order."""
    with LabelLog(folder / "labels.db", access="read") as log:
        return [event.value for event in reversed(log.history())]


@pytest.fixture
def run(tmp_path: Path) -> Run:
    def run(*lines: str, strict: bool = False, **options: object) -> str:
        folder = tmp_path / "p"
        if not folder.exists():
            make_project(folder, **options)  # type: ignore[arg-type]
        service = open_service(folder, trainer=False)
        try:
            return typed(service, *lines, strict=strict)
        finally:
            service.close()

    return run


def test_numbers_names_beginnings_and_letters_answer(run: Run, tmp_path: Path) -> None:
    make_project(tmp_path / "p")
    with LabelLog(tmp_path / "p" / "labels.db") as log:
        log.change_classes({"do": "bind", "id": 1, "letter": "m"})
    out = run("1", "severe", "sev", "m", "2")
    assert answers(tmp_path / "p") == ["none", "severe", "severe", "mild", "mild"]
    assert "-- 1 none  2 mild (m)  3 severe" in out
    assert out.count("patient number") == 6


def test_what_cannot_be_read_is_asked_again(run: Run, tmp_path: Path) -> None:
    out = run("4", "0", "sever", "zz", "", "1 2", "flag", ":what", "1")
    assert answers(tmp_path / "p") == ["severe", "none"]
    assert "there is no class number 4; they go from 1 to 3." in out
    assert "there is no class 'zz'; ? shows what a line may be." in out
    assert "flag needs a note after it" in out
    assert "there is no command ':what'" in out


def test_beginning_of_several_classes_is_refused(run: Run, tmp_path: Path) -> None:
    out = run("ra", "rash", classes=["rash", "rash late", "other"])
    assert "'ra' is the beginning of 2 classes: rash, rash late." in out
    assert answers(tmp_path / "p") == ["rash"]


def test_wrong_line_of_a_file_ends_before_it_shifts_the_rest(run: Run, tmp_path: Path) -> None:
    with pytest.raises(AnswerError, match=r"line 3: there is no class 'zz'.*; the lines before it were done"):
        run("1", "2", "zz", "3", strict=True)
    assert answers(tmp_path / "p") == ["none", "mild"]


@pytest.mark.parametrize("bad", [b"\xff", b"mi\xe4ld", b"flag caf\xe9"])
def test_bytes_that_are_no_text_cost_their_own_line_only(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, bad: bytes
) -> None:
    """They arrive in one piece with the lines before them, which are answers."""
    folder = make_project(tmp_path / "p")
    reading, writing = os.pipe()
    os.write(writing, b"\xef\xbb\xbf1\r\n2\n" + bad + b"\n3\n")
    os.close(writing)
    service = open_service(folder, trainer=False)
    with open(reading, encoding="utf-8") as pipe:
        monkeypatch.setattr("sys.stdin", pipe)
        with pytest.raises(AnswerError, match=r"line 3: character \d+ of the line"):
            answer_in_terminal(service, "ana", "lines", folder)
    service.close()
    assert answers(folder) == ["none", "mild"]


def test_person_types_a_line_that_is_no_text_again(run: Run, tmp_path: Path) -> None:
    out = run("mi\udce4ld", "2")
    assert "character 3 of the line cannot be read: write it as UTF-8." in out
    assert answers(tmp_path / "p") == ["mild"]


def test_commands(run: Run, tmp_path: Path) -> None:
    out = run("1", "undo", "2", "later", "decline", "flag it is odd", "hints", "text", "?", "3", "quit", "1", "1")
    assert "Undone: your answer (none)." in out
    assert "-- was: none" in out
    assert "Put last." in out
    assert "Declined." in out
    assert "Note stored." in out
    assert "why: taken in random order" in out
    assert "A line is an answer or a command:" in out
    assert answers(tmp_path / "p") == ["mild", None, "severe"]


def test_class_with_the_name_of_a_command_is_a_class(run: Run, tmp_path: Path) -> None:
    out = run("later", "undo", ":undo", ":later", "flag", classes=["later", "undo", "flag"])
    assert "Undone: your answer (undo)." in out
    assert answers(tmp_path / "p") == ["later", "flag"]


def test_several_classes_in_a_line(run: Run, tmp_path: Path) -> None:
    run("1 3", "none", "mild|severe", "2,1", "sev, rash late", classes=["rash late", "mild", "severe"], multilabel=True)
    assert answers(tmp_path / "p") == [
        ("rash late", "severe"),
        (),
        ("mild", "severe"),
        ("rash late", "mild"),
        ("rash late", "severe"),
    ]


def test_numbers_stay_when_there_are_many_classes(run: Run, tmp_path: Path) -> None:
    run("12", "12", "1", classes=[f"topic {chr(97 + n)}" for n in range(14)])
    assert answers(tmp_path / "p") == ["topic l", "topic l", "topic a"]


def test_number_of_any_length_is_a_wrong_one(run: Run) -> None:
    assert "there is no class number 1111" in run("1" * 5_000)


def test_controls_are_marks(run: Run, tmp_path: Path) -> None:
    out = run("1", classes=["a\x1b[31m", "b\u202e"])
    assert "1 a[ESC][31m  2 b[RLO]" in out
    assert "\x1b" not in out


def test_end_of_the_texts_ends_the_command(run: Run) -> None:
    out = run("1", "2", "3", "1", n=2)
    assert out.endswith("No text is left to answer.\n")
    assert "2 of 2 answered" in out


def test_texts_that_others_read_are_named_at_the_end(tmp_path: Path) -> None:
    service = open_service(make_project(tmp_path / "p", n=3), trainer=False)
    service.state("ben")  # reads two of them
    assert typed(service, "1", "1").endswith("No text is left to answer. 2 texts wait for other people.\n")
    service.close()


def test_round_is_waited_for(tmp_path: Path) -> None:
    folder = make_project(tmp_path / "p", n=6)
    service, trainer = open_trained(folder, 6, rounds=True, ranked=2)
    trainer.work()
    output = io.StringIO()
    session = LabelingSession(service, "ana")
    waits: list[int] = []

    def work() -> None:
        waits.append(len(answers(folder)))
        trainer.work()

    LineView(session, lines=["1"] * 6, output=output, wait=work).run()
    service.close()
    assert len(answers(folder)) == 6
    assert waits[:2] == [2, 4]
    assert "No text is left to answer" in output.getvalue()


def test_step_that_failed_is_repeated_with_its_key(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As on a full disk: whether it was stored is not known, and a second answer must not be made of it."""
    from dal.errors import SessionError

    folder = make_project(tmp_path / "p")
    service = open_service(folder, trainer=False)
    session = LabelingSession(service, "ana")
    assert session.row is not None
    row = session.row["id"]
    answer = service.answer

    def stored_but_failed(*arguments: object, **options: object) -> None:
        answer(*arguments, **options)  # type: ignore[arg-type]
        raise SessionError("the disk is full")

    monkeypatch.setattr(service, "answer", stored_but_failed)
    assert not session.answer([1])
    assert session.message == "Not stored: the disk is full."
    assert session.row["id"] == row
    monkeypatch.setattr(service, "answer", answer)
    assert session.answer([1])
    assert session.row["id"] != row
    service.close()
    assert answers(folder) == ["mild"]


def test_answer_of_another_tab_is_shown_and_then_replaced(tmp_path: Path) -> None:
    folder = make_project(tmp_path / "p")
    service = open_service(folder, trainer=False)
    session = LabelingSession(service, "ana")
    assert session.row is not None
    service.answer("ana", row=session.row["id"], classes=[0], key="elsewhere")
    assert not session.answer([1])
    assert session.message == "Not stored: this text was answered elsewhere (none)."
    assert session.choice.marked == {0}
    assert session.answer([1])
    service.close()
    assert answers(folder) == ["mild"]


def test_command_reads_stdin(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = make_project(tmp_path / "p", extra="learner: TfidfLearner\nstrategy: Margin\n")
    monkeypatch.setattr("sys.stdin", io.StringIO("1\n2\nzz\n"))
    ended = Command(capsys)("annotate", folder, "--terminal", "--who", "ana")
    assert ended.code == 2
    assert "line 3: there is no class 'zz'" in ended.messages[-1]
    monkeypatch.setattr("sys.stdin", io.StringIO("3\n"))
    ended = Command(capsys)("annotate", folder, "--terminal", "lines", "--who", "ana")
    assert ended.code == 0
    assert ended.out.endswith(f"Go on with: dal annotate {folder} --terminal lines\n")
    assert answers(folder) == ["none", "mild", "severe"]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--terminal", "keys"], "--terminal keys needs a terminal on Linux or macOS"),
        (["--terminal", "mouse"], "invalid choice: 'mouse'"),
        (["--rounds", "0"], "at least 1, not 0"),
        (["--check", "1"], "--check must be at least 2, not 1"),
        (["--check", "5", "--rounds", "3"], "--check asks each drawn text once: leave --rounds out"),
        (["--check", "5", "--overlap", "0.1:2"], "leave --overlap out"),
        (["--keep"], "--keep needs --check N"),
        (["--random"], "--random needs --check N"),
    ],
)
def test_options_that_make_no_sense_are_one_line(
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    arguments: list[str],
    message: str,
) -> None:
    folder = make_project(tmp_path / "p")
    monkeypatch.setattr("sys.stdin", io.StringIO(""))
    ended = Command(capsys)("annotate", folder, *arguments)
    assert (ended.code, len(ended.messages)) == (2, 1)
    assert message in ended.messages[0]
