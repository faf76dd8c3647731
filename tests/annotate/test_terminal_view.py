"""`dal annotate --terminal` with single keys, in a pseudo-terminal."""

import json
import random
import signal
import sqlite3
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from annotation_project import CLASSES, make_project, true_class

from dal.store.label_log import LabelLog
from dal.store.project_rows import ProjectRow, ProjectRows

pty = pytest.importorskip("pty", reason="a pseudo-terminal is needed")

from terminal_process import PACE, TerminalProcess  # noqa: E402

CONFIG = "learner: TfidfLearner\nstrategy: Margin\n"

Open = Callable[..., TerminalProcess]


@pytest.fixture
def terminal(tmp_path: Path) -> Iterator[Open]:
    running: list[TerminalProcess] = []

    def start(folder: Path, *arguments: object, size: tuple[int, int] = (80, 24)) -> TerminalProcess:
        found = TerminalProcess("annotate", folder, "--terminal", "--who", "ana", *arguments, size=size)
        running.append(found)
        return found

    yield start
    for each in running:
        each.__exit__()


def answers(folder: Path) -> dict[str, object]:
    with LabelLog(folder / "labels.db", access="read") as log:
        return {event.row: event.value for event in log.history(limit=1_000)}


def row_on(screen: str) -> str:
    """Id of the text on a screen."""
    return f"t{screen.partition('patient number ')[2].split()[0]}"


def test_digits_answer_and_move_on_and_everything_is_stored(tmp_path: Path, terminal: Open) -> None:
    folder = make_project(tmp_path / "p", extra=CONFIG)
    shown = terminal(folder)
    given = {}
    screen = shown.wait_for("0 of 60 answered")
    for n in range(5):
        row = row_on(screen)
        given[row] = CLASSES[true_class(row)]
        shown.type(str(true_class(row) + 1))
        screen = shown.wait_for(f"{n + 1} of 60 answered")
        assert row_on(screen) != row
        assert answers(folder) == given  # on disk before the next text is shown
    shown.type("\x03")
    assert shown.end() == 0
    assert shown.is_restored
    assert f"Stopped; all answers are stored. Go on with: dal annotate {folder} --terminal" in shown.written
    with LabelLog(folder / "labels.db", access="read") as log:
        events = log.history()
    assert {event.who for event in events} == {"ana"}
    assert all(event.seconds is not None and PACE / 2 < event.seconds < 30 for event in events)
    assert all(not any(json.loads(event.seen or "null").values()) for event in events)


def test_commands_of_the_page(tmp_path: Path, terminal: Open) -> None:
    folder = make_project(tmp_path / "p", extra=CONFIG)
    shown = terminal(folder)
    first = row_on(shown.wait_for("0 of 60 answered"))
    shown.type("2")
    second = row_on(shown.wait_for("Saved: mild."))
    shown.type("\x7f")
    screen = shown.wait_for("Undone: your answer (mild).")
    assert row_on(screen) == first
    assert "2 mild <- was" in screen
    assert answers(folder) == {}
    shown.type("3")
    shown.wait_for("Saved: severe.")
    shown.type("s")
    third = row_on(shown.wait_for("Put last."))
    assert third not in (first, second)
    shown.type("d")
    assert row_on(shown.wait_for("Declined.")) not in (first, second, third)
    shown.type("u")
    assert row_on(shown.wait_for("Undone: declining.")) == third
    shown.type("h")
    shown.wait_for("taken in random order")
    shown.type("f")
    shown.wait_for("note: _")
    shown.send("1dd \x1b[200~pasted\x1b[201~!")  # no digit answers here, and a paste is text
    shown.wait_for("note: 1dd pasted!_")
    shown.type("\r")
    shown.wait_for("Note stored.")
    shown.type("1")
    shown.wait_for("Saved: none.")
    shown.type("?")
    assert "decline: this text cannot be answered" in shown.wait_for("1 ... 9")
    shown.type("x")
    shown.wait_for("patient number")
    shown.type("q")
    assert shown.end() == 0
    with LabelLog(folder / "labels.db", access="read") as log:
        assert [event.value for event in log.notes(third)] == ["1dd pasted!"]
        seen = {event.row: json.loads(event.seen or "null") for event in log.history()}
        assert set(seen[third].values()) == {True}
        assert not any(seen[first].values())
        assert {event.row: event.value for event in log.history()} == {first: "severe", third: "none"}


def test_undo_goes_on_after_a_restart(tmp_path: Path, terminal: Open) -> None:
    folder = make_project(tmp_path / "p", extra=CONFIG)
    shown = terminal(folder)
    first = row_on(shown.wait_for("0 of 60 answered"))
    shown.type("2")
    shown.wait_for("Saved")
    shown.type("\x04")
    assert shown.end() == 0
    shown = terminal(folder)
    shown.wait_for("1 of 60 answered")
    shown.type("u")
    assert row_on(shown.wait_for("Undone")) == first
    shown.type("u")
    shown.wait_for("There is nothing to undo.")


def test_letters_of_classes_come_before_commands(tmp_path: Path, terminal: Open) -> None:
    folder = make_project(tmp_path / "p", extra=CONFIG)
    with LabelLog(folder / "labels.db") as log:
        log.change_classes({"do": "bind", "id": 0, "letter": "q"})
        log.change_classes({"do": "bind", "id": 2, "letter": "u"})
    shown = terminal(folder)
    first = row_on(shown.wait_for("1 none (q)"))
    shown.type("q")
    second = row_on(shown.wait_for("Saved: none."))
    shown.type("u")
    shown.wait_for("Saved: severe.")
    assert answers(folder) == {first: "none", second: "severe"}


def test_many_classes_are_searched(tmp_path: Path, terminal: Open) -> None:
    names = [f"topic {n}" for n in range(30)] + ["Résumé", "card arrival"]
    folder = make_project(tmp_path / "p", classes=names, extra=CONFIG)
    shown = terminal(folder)
    first = row_on(shown.wait_for("class: _  (23 more)"))
    shown.type("card")
    shown.wait_for("1 card arrival")
    shown.type("\r")
    second = row_on(shown.wait_for("Saved: card arrival."))
    assert "1 card arrival" in shown.screen  # the latest used comes first
    shown.type("zz\x7f\x7fresu\r")
    shown.wait_for("Saved: Résumé.")
    assert answers(folder) == {first: "card arrival", second: "Résumé"}
    shown.type("S")
    shown.wait_for("Put last.")
    shown.type("Q")
    assert shown.end() == 0


def test_several_classes_are_toggled_and_enter_commits(tmp_path: Path, terminal: Open) -> None:
    folder = make_project(tmp_path / "p", multilabel=True, extra=CONFIG)
    shown = terminal(folder)
    first = row_on(shown.wait_for("1 [ ] none"))
    shown.type("31")
    shown.wait_for("Enter saves 2 classes: none, severe")
    assert answers(folder) == {}
    shown.type("\r")
    second = row_on(shown.wait_for("Saved: none, severe."))
    shown.type("\r")
    shown.wait_for("Nothing is selected. Enter once more")
    shown.type("\r")
    shown.wait_for("Saved: none of them.")
    assert answers(folder) == {first: ("none", "severe"), second: ()}


def test_keys_that_are_held_and_pastes_answer_once(tmp_path: Path, terminal: Open) -> None:
    folder = make_project(tmp_path / "p", extra=CONFIG)
    shown = terminal(folder)
    shown.wait_for("0 of 60 answered")
    time.sleep(PACE)
    shown.send("1")
    time.sleep(0.5)  # until a held key repeats
    for _ in range(20):
        shown.send("1")
        time.sleep(0.03)
    shown.wait_for("1 of 60 answered")
    time.sleep(PACE)
    shown.send("\x1b[200~2222\r3\x1b[201~")
    shown.send("2321")  # meant for one text: the keys after the first were pressed before the next one was shown
    shown.wait_for("2 of 60 answered")
    time.sleep(0.5)
    shown.read()
    assert len(answers(folder)) == 2


def test_long_text_is_paged_and_what_the_model_cannot_show_is_marked(tmp_path: Path, terminal: Open) -> None:
    folder = make_project(tmp_path / "p", n=1, extra=CONFIG)
    text = "evil \u202etext \x1b[2J\x1b]0;title\x07 " + " ".join(f"word{n}" for n in range(600)) + " THE END"
    with ProjectRows(folder / "rows.db") as rows, rows.changing():
        rows.add([ProjectRow("long", text, None, {})], source="more.csv")
    with LabelLog(folder / "labels.db") as log:
        log.ask(["long"])
    shown = terminal(folder)
    screen = shown.wait_for("evil [RLO]text [ESC][2J[ESC]]0;title[BEL]")
    assert "\x1b[2J" not in shown.written
    assert "\x1b]0" not in shown.written
    assert "more lines: Space" in screen
    assert "THE END" not in screen
    for _ in range(10):
        shown.type(" ")
    assert "more line" not in shown.wait_for("THE END")
    shown.send("\x1b[5~")
    shown.wait_for("more line")
    assert all(len(line) <= 80 for line in shown.screen.splitlines())


def test_size_of_the_terminal_is_followed(tmp_path: Path, terminal: Open) -> None:
    folder = make_project(tmp_path / "p", n=12, extra=CONFIG)
    shown = terminal(folder, size=(80, 24))
    shown.wait_for("0 of 12 answered")
    for columns, lines in ((40, 10), (100, 30), (20, 8), (5, 2)):
        before = len(shown.written)
        shown.resize(columns, lines)
        end = time.monotonic() + 20
        while "\x1b[H" not in shown.written[before:]:
            assert time.monotonic() < end
            shown.read(0.1)
        shown.read(0.2)
        drawn = shown.screen.split("\n")
        assert len(drawn) <= max(8, lines)
        assert all(len(line) <= max(20, columns) for line in drawn)
    shown.resize(80, 24)
    shown.wait_for("patient number")
    shown.type("1")
    shown.wait_for("1 of 12 answered")


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP, signal.SIGINT])
def test_terminal_is_restored_by_signals(tmp_path: Path, terminal: Open, number: int) -> None:
    folder = make_project(tmp_path / "p", extra=CONFIG)
    shown = terminal(folder)
    shown.wait_for("0 of 60 answered")
    shown.type("1")
    shown.wait_for("1 of 60 answered")
    shown.process.send_signal(number)
    assert shown.end() == (0 if number == signal.SIGINT else 128 + number)
    assert shown.is_restored
    assert len(answers(folder)) == 1
    shown = terminal(folder)  # the folder is free
    shown.wait_for("1 of 60 answered")


def test_terminal_is_restored_by_an_error(tmp_path: Path, terminal: Open) -> None:
    folder = make_project(tmp_path / "p", extra=CONFIG)
    shown = terminal(folder)
    shown.wait_for("0 of 60 answered")
    with sqlite3.connect(folder / "labels.db") as damaged:
        damaged.execute("DROP TABLE events")
    shown.type("1")
    time.sleep(1)
    if shown.process.poll() is None:  # the answer was refused: the text stays, and the reason is shown
        assert "Not stored" in shown.wait_for("Not stored")
        shown.type("q")
    shown.end()
    assert shown.is_restored
    assert "Traceback" not in shown.written


@pytest.mark.skipif(sys.platform == "darwin", reason="job control differs there")
def test_ctrl_z_gives_the_terminal_back_until_it_goes_on(tmp_path: Path, terminal: Open) -> None:
    folder = make_project(tmp_path / "p", extra=CONFIG)
    shown = terminal(folder)
    shown.wait_for("0 of 60 answered")
    shown.process.send_signal(signal.SIGCONT)  # harmless
    shown.type("\x1a")
    time.sleep(1)
    shown.read()
    # Its group is orphaned here, so that the system does not stop it: it goes on at once, and draws again.
    assert "\x1b[?1049l" in shown.written
    shown.process.send_signal(signal.SIGCONT)
    shown.wait_for("patient number")
    shown.type("1")
    shown.wait_for("1 of 60 answered")


def test_killed_at_any_instant_no_answer_that_was_shown_as_saved_is_lost(tmp_path: Path, terminal: Open) -> None:
    folder = make_project(tmp_path / "p", extra=CONFIG)
    generator = random.Random(0)
    confirmed: dict[str, str] = {}
    pressed: dict[str, str] = {}
    for _ in range(4):
        shown = terminal(folder)
        screen = shown.wait_for("patient number")
        for _ in range(generator.randint(1, 3)):
            row = row_on(screen)
            pressed[row] = CLASSES[true_class(row)]
            shown.type(str(true_class(row) + 1))
            screen = shown.wait_for("Saved")
            end = time.monotonic() + 20
            while row_on(screen) == row:
                assert time.monotonic() < end
                shown.read(0.05)
                screen = shown.screen
            confirmed[row] = pressed[row]
        row = row_on(screen)
        time.sleep(PACE)
        pressed[row] = CLASSES[true_class(row)]
        shown.send(str(true_class(row) + 1))
        time.sleep(generator.random() * 0.02)
        shown.process.kill()
        shown.process.wait()
        stored = answers(folder)
        assert confirmed.items() <= stored.items() <= pressed.items()
        confirmed = {row: str(value) for row, value in stored.items()}
    connection = sqlite3.connect(folder / "labels.db")
    assert connection.execute(
        "SELECT count(*), count(DISTINCT row) FROM events WHERE kind = 'answered'"
    ).fetchone() == (
        len(confirmed),
        len(confirmed),
    )
    assert connection.execute("PRAGMA integrity_check").fetchone() == ("ok",)
    connection.close()


def test_end_of_the_texts_is_said(tmp_path: Path, terminal: Open) -> None:
    folder = make_project(tmp_path / "p", n=2, extra=CONFIG)
    shown = terminal(folder)
    shown.wait_for("0 of 2 answered")
    shown.type("1")
    shown.wait_for("1 of 2 answered")
    shown.type("2")
    shown.wait_for("No text is left to answer.")
    shown.type("13sdfh\r ")  # nothing to answer
    shown.type("u")
    shown.wait_for("Undone")
