"""Long work says what it does: every ten seconds in a log, by a bar on a terminal."""

import io
import time
from pathlib import Path

import pytest
import torch
from rich.console import Console as RichConsole

from dal.data import Rows, Splits
from dal.experiments.console import Console
from dal.experiments.experiment import Experiment
from dal.experiments.heartbeat import Heartbeat, duration, seconds_left
from dal.learners.probe_learner import ProbeLearner
from dal.stopping.budget_rules import Labels
from dal.strategies.random import Random
from dal.strategy import Query


class Clock:
    now = 0.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


def test_a_line_comes_after_ten_seconds_of_silence_and_says_what_is_done_and_left(clock: Clock) -> None:
    lines: list[str] = []
    heartbeat = Heartbeat(lines.append, clock=clock)
    heartbeat.plan(24, "rounds")
    heartbeat.stage("Margin, seed 0")
    heartbeat.work("fit", 400)
    clock.now = 9
    heartbeat.advanced(30)
    assert lines == []
    clock.now = 11
    heartbeat.advanced(10)
    assert lines == ["  ... Margin, seed 0: fit, 40 of 400 (11 s); 0 of 24 rounds done"]
    heartbeat.advanced(10)
    assert len(lines) == 1
    heartbeat.finished()
    clock.now = 40
    heartbeat.part_done()
    heartbeat.part_done()
    heartbeat.beat()
    assert lines[1:] == ["  ... Margin, seed 0 (40 s); 2 of 24 rounds done, about 7 min 20 s left"]


def test_rounds_that_a_rule_saves_are_not_waited_for(clock: Clock) -> None:
    heartbeat = Heartbeat(lambda line: None, clock=clock)
    heartbeat.plan(20, "rounds")
    heartbeat.stage("Margin")
    clock.now = 60
    heartbeat.part_done()
    heartbeat.parts_dropped(9)
    assert heartbeat.text().endswith("1 of 11 rounds done, about 10 min left")


def test_the_estimate_of_what_is_left_falls_while_a_part_runs(clock: Clock) -> None:
    heartbeat = Heartbeat(lambda line: None, clock=clock)
    heartbeat.plan(3, "rounds")
    heartbeat.stage("Margin")
    clock.now = 60
    heartbeat.part_done()
    left = []
    for clock.now in (60, 90, 130):  # the last is later than expected
        left.append(heartbeat.text().rpartition("about ")[2])
    assert left == ["2 min left", "1 min 30 s left", "1 min left"]
    heartbeat.part_done()
    heartbeat.part_done()
    assert heartbeat.text() == "  ... Margin (2 min 10 s); 3 of 3 rounds done"


def test_parts_that_run_at_the_same_time_are_taken_for_half_done(clock: Clock) -> None:
    heartbeat = Heartbeat(lambda line: None, clock=clock)
    heartbeat.plan(2, "cells", at_once=2)
    heartbeat.stage("running 2 cells")
    clock.now = 120
    heartbeat.part_done()
    assert heartbeat.text().endswith("1 of 2 cells done, about 40 s left")
    assert seconds_left(120, 1, 5) == 600
    assert seconds_left(120, 1, 5, 3) == 120 / 2 * 4  # two others are half done, of five
    assert seconds_left(120, 4, 1, 8) == 120 / 4.5 * 0.5


def test_other_lines_count_as_signs_of_life_and_nothing_is_said_about_nothing(clock: Clock) -> None:
    lines: list[str] = []
    heartbeat = Heartbeat(lines.append, clock=clock)
    clock.now = 60
    heartbeat.beat()
    assert lines == []
    heartbeat.stage("loading the data")
    heartbeat.printed()
    clock.now = 69
    heartbeat.beat()
    assert lines == []
    clock.now = 71
    heartbeat.beat()
    assert lines == ["  ... loading the data (11 s)"]


def test_work_that_reports_no_progress_is_spoken_for_by_the_thread_which_ends() -> None:
    lines: list[str] = []
    heartbeat = Heartbeat(lines.append, silence=0.05)
    heartbeat.stage("selecting")
    heartbeat.start()
    deadline = time.monotonic() + 5
    while len(lines) < 2 and time.monotonic() < deadline:
        time.sleep(0.02)
    heartbeat.stop()
    time.sleep(0.1)
    seen = len(lines)
    time.sleep(0.2)
    assert seen >= 2
    assert len(lines) == seen
    assert all("selecting" in line for line in lines)


@pytest.mark.parametrize(
    ("seconds", "shown"),
    [
        (9, "9 s"),
        (59.6, "1 min"),
        (118, "2 min"),
        (126, "2 min 10 s"),
        (600, "10 min"),
        (3596, "1 h"),
        (9000, "2 h 30 min"),
    ],
)
def test_durations_are_short(seconds: float, shown: str) -> None:
    assert duration(seconds) == shown


def test_no_two_lines_of_a_log_state_the_same_time(clock: Clock) -> None:
    lines: list[str] = []
    heartbeat = Heartbeat(lines.append, clock=clock)
    heartbeat.stage("Margin, seed 0")
    for clock.now in range(11, 3600, 11):
        heartbeat.beat()
    assert len(lines) == len(set(lines)) == 327


class Slow(Random):
    """Takes a while to choose."""

    def select(self, query: Query) -> torch.Tensor:
        time.sleep(0.4)
        return super().select(query)


def run_logged(folder: Path | None, **options: object) -> str:
    """What a run prints into a log."""
    inputs = torch.randn(60, 4, generator=torch.Generator().manual_seed(0))
    labels = (inputs[:, 0] > 0).long().tolist()
    parts = [Rows.from_inputs(inputs[place], labels[place], ["no", "yes"]) for place in (slice(40), slice(40, 60))]
    reporter = Console()
    log = io.StringIO()
    reporter._console = RichConsole(file=log, highlight=False)
    assert reporter.heartbeat is not None
    reporter.heartbeat._silence = 0.1
    Experiment(
        Splits(pool=parts[0], test=parts[1]),
        ProbeLearner(model=None),
        Slow(),
        start=4,
        batch=4,
        rounds=2,
        report=False,
        folder=folder,
        **options,  # type: ignore[arg-type]
    ).run(reporter=reporter)
    return log.getvalue()


def test_a_run_without_a_terminal_says_what_it_is_at_and_how_much_is_left(tmp_path: Path) -> None:
    text = run_logged(tmp_path / "run")
    assert text.startswith("loading the data ...\n")
    beats = [line for line in text.splitlines() if line.startswith("  ... ")]
    assert any("Slow, seed 0" in line and "of 6 rounds done" in line for line in beats), text
    assert any("left" in line for line in beats), text


def test_rounds_after_a_stopping_rule_are_taken_out_of_the_plan(tmp_path: Path) -> None:
    text = run_logged(tmp_path / "run", stop=Labels(max_labels=4), baseline=None, seeds=[0, 1])
    beats = [line for line in text.splitlines() if line.startswith("  ... ")]
    assert any("Slow, seed 1" in line and "1 of 4 rounds done" in line for line in beats), text
