"""A process is killed between any two statements: the log is whole, and the same calls bring it to the same state."""

import os
import signal
import sqlite3
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from reference.log_replay import compare_with_replay

from dal.store.events import SKIP, Answer
from dal.store.label_log import LabelLog

pytestmark = pytest.mark.skipif(not hasattr(os, "fork"), reason="the process that is killed is forked")


def calls(log: LabelLog) -> None:
    """Calls of every kind, with keys: what is stored already is not stored again."""
    for number, name in enumerate(("x", "y", "z")):
        log.change_classes({"do": "add", "name": name}, key=f"add {number}")
    if log.round == 0:
        log.rank([f"r{i}" for i in range(12)], strategy="S", wanted={"r1": 2, "r2": 3}, details={"n": 1})
    for row in range(6):
        for who in ("ada", "ben")[: 1 + (row in (1, 2))]:
            value = "z" if who == "ben" else "xyz"[row % 3]
            log.answer(f"r{row}", value, who=who, key=f"{who} {row}", replaces=None)
    log.adjudicate("r1", "x", who="eve", key="adjudicated")
    log.defer("r7", who="ada", key="later")
    log.note("r7", "look", who="ada", key="note")
    log.change_classes({"do": "retire", "id": 2}, key="retired")
    log.change_classes({"do": "merge", "id": 1, "into": 0}, key="merged")
    log.undo_of("ada", key="undone")
    log.retire(["r3"], who="eve")
    log.change_classes({"do": "restore", "id": 2}, key="restored")
    log.answer("r8", SKIP, who="ben", key="skipped", replaces=None)
    if log.row("r11").state != "answered":
        log.tell([Answer("r11", "x", "", "import")])
    log.claim("ada", 2)


def died(work: Callable[[], Any], die_at: int) -> bool:
    """Whether a forked process killed itself at its SQL statement number `die_at`."""
    child = os.fork()
    if child:
        return os.waitpid(child, 0)[1] == signal.SIGKILL
    done = 0

    def watch(frame: Any, event: str, argument: Any) -> None:
        nonlocal done
        if event == "c_call" and getattr(argument, "__name__", "") in ("execute", "executemany"):
            done += 1
            if done == die_at:
                os.kill(os.getpid(), signal.SIGKILL)

    try:
        sys.setprofile(watch)
        work()
    finally:
        os._exit(0)


def state_of(log: LabelLog) -> tuple[Any, ...]:
    states = {row: state for row in (f"r{i}" for i in range(12)) if (state := log.row(row))}
    plain = {row: (each.state, each.people, each.answer and each.answer.key) for row, each in states.items()}
    return plain, log.counts(), log.classes.entries, log.readers().keys(), log.last_event


def test_log_is_whole_after_a_kill_between_any_two_statements(tmp_path: Path) -> None:
    with LabelLog(tmp_path / "whole.db") as log:
        calls(log)
        compare_with_replay(log)
        expected = state_of(log)
    die_at = kills = 0
    killed = True
    while killed:
        die_at += 7  # of some 500 statements
        path = tmp_path / f"{die_at}.db"

        def work(path: Path = path) -> None:
            with LabelLog(path) as log:
                calls(log)

        killed = died(work, die_at)
        kills += killed
        with LabelLog(path) as log:
            compare_with_replay(log)
            calls(log)
            compare_with_replay(log)
            assert state_of(log) == expected
        with sqlite3.connect(path) as connection:
            assert connection.execute("PRAGMA integrity_check").fetchone() == ("ok",)
        connection.close()
    assert kills > 30
