"""A cell in a process of its own says what it does in a file, which the command shows and nothing depends on."""

import io
import os
import signal
import sys
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest
import torch
from command import Command
from rich.console import Console as RichConsole

from dal.data import TextData
from dal.experiments import cell_progress, processes
from dal.experiments.cell_progress import PROGRESS, CellReporter, CellsProgress
from dal.experiments.comparison import Comparison
from dal.experiments.console import Console
from dal.experiments.executor import SubprocessExecutor
from dal.experiments.experiment import Experiment
from dal.experiments.interrupts import Interrupted
from dal.experiments.spinner import Spinner
from dal.learners.tfidf_learner import TfidfLearner
from dal.strategies import Random
from dal.strategy import Query


class Clock:
    now = 0.0

    def __call__(self) -> float:
        return self.now


def wait_for(happened: Callable[[], object]) -> None:
    deadline = time.monotonic() + 20
    while not happened():
        assert time.monotonic() < deadline
        time.sleep(0.01)


def text_of(file: Path) -> str:
    return file.read_text(encoding="utf-8") if file.exists() else ""


@pytest.fixture
def often(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cell_progress, "_EVERY", 0.05)


def test_line_of_a_log_is_in_the_file_while_the_cell_runs(often: None, tmp_path: Path) -> None:
    file, checks = tmp_path / PROGRESS, list[int]()
    with CellReporter(tmp_path, "BADGE~2, seed 3") as reporter:
        reporter.stage("reading tickets.csv")
        wait_for(lambda: text_of(file) == "BADGE~2, seed 3: reading tickets.csv (0 s)\n")
        reporter.plan(3, "rounds")
        reporter.cell("BADGE", 3)
        monitor = reporter.monitor(lambda: checks.append(1))
        monitor.started("fit", 400)
        monitor.advanced(21)
        wait_for(lambda: text_of(file) == "BADGE~2, seed 3: fit, 21 of 400 (0 s); 0 of 3 rounds done\n")
        monitor.halved(64)
        monitor.finished()
        reporter.round({})
        reporter.parts_dropped(1)
        wait_for(lambda: text_of(file) == "BADGE~2, seed 3 (0 s); 1 of 2 rounds done, about 0 s left\n")
        assert len(checks) == 2
    assert list(tmp_path.iterdir()) == []


def test_nothing_fails_where_the_file_cannot_be_written(often: None, tmp_path: Path) -> None:
    (tmp_path / "a folder" / PROGRESS).mkdir(parents=True)
    for folder in (tmp_path / "a folder", tmp_path / "missing"):
        with CellReporter(folder, "Margin, seed 0") as reporter:
            for _ in range(3):
                time.sleep(0.06)
                reporter.monitor(lambda: None).advanced(1)
    assert [each.name for each in (tmp_path / "a folder").iterdir()] == [PROGRESS]
    assert not (tmp_path / "missing").exists()


@pytest.mark.skipif(sys.platform == "win32", reason="has no limits of resources")
def test_full_disk_ends_no_cell_and_keeps_no_file(tmp_path: Path) -> None:
    import resource

    reporter = CellReporter(tmp_path, "Margin, seed 0")
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (0, before[1]))  # writes fail from now on
    try:
        reporter._write("  ... Margin, seed 0 (5 s)")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert list(tmp_path.iterdir()) == []
    reporter._write("  ... Margin, seed 0 (10 s)")
    assert text_of(tmp_path / PROGRESS) == "Margin, seed 0 (10 s)\n"


def test_link_is_replaced_and_not_written_through(tmp_path: Path) -> None:
    (tmp_path / "mine").write_text("precious", encoding="utf-8")
    (tmp_path / PROGRESS).symlink_to(tmp_path / "mine")
    CellReporter(tmp_path, "")._write("new")
    assert (text_of(tmp_path / "mine"), text_of(tmp_path / PROGRESS)) == ("precious", "new\n")


def write(folder: Path, cell: str, text: str) -> None:
    (folder / cell).mkdir(exist_ok=True)
    (folder / cell / PROGRESS).write_text(text, encoding="utf-8")


def test_lines_are_those_of_cells_that_run_in_their_order(tmp_path: Path) -> None:
    clock = Clock()
    write(tmp_path, "killed", "killed before the command began\n")
    write(tmp_path, "runs", "of an earlier job, 1 of 3\n")
    progress = CellsProgress(tmp_path, ["runs", "killed", "waits", "ends"], clock)
    write(tmp_path, "runs", "of an earlier job, 2 of 3\n")
    write(tmp_path, "ends", "ends\n")
    assert progress.lines() == []
    clock.now = 5
    assert progress.lines() == ["of an earlier job, 2 of 3", "ends"]
    progress.ended("ends")
    (tmp_path / "runs" / PROGRESS).unlink()
    assert progress.lines() == ["of an earlier job, 2 of 3"]  # files are read every five seconds only
    clock.now = 10
    assert progress.lines() == []
    write(tmp_path, "waits", "works\n")
    for clock.now, shown in ((15, ["works"]), (134, ["works"]), (136, [])):  # killed, or its node is gone
        assert progress.lines() == shown


def test_more_cells_than_fit_are_shown_in_turn(tmp_path: Path) -> None:
    clock, names = Clock(), [f"cell{number}" for number in range(8)]
    progress = CellsProgress(tmp_path, names, clock)
    for name in names:
        write(tmp_path, name, f"{name}\n")
    clock.now = 10
    assert progress.lines() == [*names[6:], "and 6 other cells"]
    clock.now = 20
    assert progress.lines() == [*names[:6], "and 2 other cells"]


def test_cells_that_a_scheduler_has_not_started_are_counted(tmp_path: Path) -> None:
    clock = Clock()
    progress = CellsProgress(tmp_path, ["runs", "waits", "waits, too"], clock)
    assert progress.lines({"runs", "waits", "waits, too"}) == ["3 cells in the queue of the scheduler"]
    write(tmp_path, "runs", "works\n")
    clock.now = 5
    assert progress.lines({"runs", "waits"}) == ["works", "1 cell in the queue of the scheduler"]
    assert progress.lines({"runs"}) == ["works"]  # it has started since the scheduler was asked


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="has no pipes")
def test_files_that_are_no_line_are_not_shown_or_made_harmless(tmp_path: Path) -> None:
    clock, names = Clock(), ["link", "pipe", "folder", "bytes", "escape", "long"]
    progress = CellsProgress(tmp_path, names, clock)
    for name in names:
        (tmp_path / name).mkdir()
    (tmp_path / "secret").write_text("secret", encoding="utf-8")
    (tmp_path / "link" / PROGRESS).symlink_to(tmp_path / "secret")
    os.mkfifo(tmp_path / "pipe" / PROGRESS)
    (tmp_path / "folder" / PROGRESS).mkdir()
    (tmp_path / "bytes" / PROGRESS).write_bytes(b"\xff\xfe")
    write(tmp_path, "escape", "\x1b[2J\nsecond line")
    write(tmp_path, "long", "x" * 100_000)
    clock.now = 10
    shown = progress.lines()
    assert len(shown) == 3
    assert "".join(shown).isprintable()
    assert max(map(len, shown)) <= 400


def test_terminal_shows_the_lines_below_the_spinner() -> None:
    shown = io.StringIO()
    spinner = Spinner(RichConsole(file=shown, force_terminal=True, width=60), "running", lambda: ["[b]Margin[/b]: fit"])
    spinner.update("writing the report")
    before, _, after = shown.getvalue().partition("writing the report")
    spinner.stop()
    assert "  [b]Margin[/b]: fit" in before
    assert "Margin" not in after


@dataclass(frozen=True)
class Slow(Random):
    """Takes a while to choose."""

    def select(self, query: Query) -> torch.Tensor:
        time.sleep(0.5)
        return super().select(query)


def test_comparison_shows_what_its_cells_say(
    often: None, with_tickets: Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shared = Experiment(
        TextData("tickets.csv", id="id", test=0.3),
        TfidfLearner(),
        start=6,
        batch=4,
        rounds=2,
        report=False,
        folder=str(tmp_path / "grid"),
    )
    comparison = Comparison(shared, (Slow(),), jobs=2)

    class Threads(SubprocessExecutor):
        """Runs each cell in a thread, as its process would."""

        def work(self, name: str) -> str:
            comparison.run_cell(name)
            return ""

    monkeypatch.setattr(processes, "Processes", Threads)
    reporter, log = Console(), io.StringIO()
    reporter._console = RichConsole(file=log, highlight=False)
    assert reporter.heartbeat is not None
    reporter.heartbeat._silence = 0.1
    comparison.run(reporter=reporter)
    text = log.getvalue()
    assert "  ... running 2 cells in other processes (" in text
    assert "  ... Slow, seed 0 (0 s); 1 of 3 rounds done, about " in text
    assert not list((tmp_path / "grid").rglob(f"*{PROGRESS}*"))


@pytest.mark.skipif(sys.platform == "win32", reason="has no signal of Ctrl-C for one process")
def test_end_of_running_cells_is_announced(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "texts.csv").write_text("text,label\n" + "".join(f"text {i},{'ab'[i % 2]}\n" for i in range(20)))
    data = TextData(tmp_path / "texts.csv", test=0.3)
    shared = Experiment(data, TfidfLearner(), start=4, batch=2, rounds=1, folder=tmp_path / "grid", report=False)
    ended = threading.Event()

    class Interrupting(SubprocessExecutor):
        """Cells that end when they are asked to; meanwhile Ctrl-C is pressed."""

        def work(self, name: str) -> str:
            os.kill(os.getpid(), signal.SIGINT)
            assert ended.wait(20)
            return ""

        def stop(self) -> None:
            ended.set()

    monkeypatch.setattr(processes, "Processes", Interrupting)
    reporter, log = Console(), io.StringIO()
    reporter._console = RichConsole(file=log, highlight=False)
    with pytest.raises(Interrupted):
        Comparison(shared, (Random(),), jobs=2).run(reporter=reporter)
    assert log.getvalue().count("stopping: running cells end after their current step ...\n") == 1
