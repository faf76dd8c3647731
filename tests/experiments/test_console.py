import io
from collections.abc import Callable

import pytest
from rich.console import Console as RichConsole

from dal.experiments.console import Console, Quiet, _Bar
from dal.experiments.spinner import draws


class Stopped(Exception):
    pass


def _bar(console: RichConsole, check: Callable[[], None]) -> _Bar:
    """A bar of a reporter that prints to the console."""
    reporter = Console()
    reporter._console, reporter.heartbeat = console, None
    return _Bar(console, check, reporter)


def test_bar_shows_the_work_and_its_rate_and_vanishes() -> None:
    shown, calls = io.StringIO(), []
    bar = _bar(RichConsole(file=shown, force_terminal=True, width=120, highlight=False), lambda: calls.append(1))
    bar.started("pass", 100)
    for _ in range(4):
        bar.advanced(25)
    bar.halved(512)
    bar.finished()
    bar.finished()
    assert "pass (rows)" in shown.getvalue()
    assert "100/100" in shown.getvalue()
    assert "out of memory: going on with 512 tokens per batch" in shown.getvalue()
    assert len(calls) == 5


def test_bar_is_taken_away_when_the_work_is_stopped() -> None:
    stop = False

    def check() -> None:
        if stop:
            raise Stopped

    bar = _bar(RichConsole(file=io.StringIO(), force_terminal=True), check)
    bar.started("fit", 10)
    stop = True
    with pytest.raises(Stopped):
        bar.advanced(1)
    assert bar._progress is None


def test_nothing_is_drawn_where_there_is_no_terminal(capsys: pytest.CaptureFixture[str]) -> None:
    monitor, calls = Console().monitor(lambda: calls.append(1)), list[int]()
    monitor.started("fit", 10)
    monitor.advanced(10)
    monitor.finished()
    assert capsys.readouterr().out == ""
    monitor.halved(512)
    assert capsys.readouterr().out == "out of memory: going on with 512 tokens per batch\n"
    assert len(calls) == 2


def test_quiet_shows_nothing(capsys: pytest.CaptureFixture[str]) -> None:
    reporter = Quiet()
    reporter.say("x")
    reporter.cell("Margin", 0)
    reporter.round({"round": 0})
    reporter.summary({})
    reporter.monitor(lambda: None).halved(3)
    assert capsys.readouterr().out == ""


def test_figures_that_are_missing_are_shown_as_such(capsys: pytest.CaptureFixture[str]) -> None:
    console = Console()
    console.cell("Margin", 0)
    console.round({"round": 0, "labels": 30, "acting_strategy": None, "accuracy": None})
    head, line = capsys.readouterr().out.splitlines()[2:]
    assert len(head) <= 80
    assert line.split()[:4] == ["0", "30", "-", "-"]


def test_names_are_shown_as_they_are_and_obeyed_by_no_terminal(capsys: pytest.CaptureFixture[str]) -> None:
    console = Console()
    name = "[/bold] [red]\x1b[31m" + "x" * 10_000
    console.cell(name, 0)
    console.round({"round": 1, "labels": 20.0, "acting_strategy": "[/x]", "accuracy": "high", "strategy": name})
    console.summary({"a": [{"labels": 20, "accuracy": 0.5, "strategy": name}]})
    shown = capsys.readouterr().out
    assert "[/bold] [red]" in shown
    assert "[/x]" in shown
    assert "\x1b" not in shown
    assert len(shown) < 3000


def test_metric_of_the_verdict_has_a_column_and_the_summary(capsys: pytest.CaptureFixture[str]) -> None:
    console = Console()
    console.headline("cost")
    console.cell("Margin", 0)
    lines = [{"labels": 20, "accuracy": 0.9, "strategy": "Margin", "own_metrics": {"cost": 0.125}}]
    console.round({"round": 0, **lines[0]})
    console.summary({"Margin-seed0": lines})
    head, row, *summary = capsys.readouterr().out.splitlines()[2:]
    assert head.split()[3:6] == ["accuracy", "cost", "macro-F1"]
    assert row.split()[3:5] == ["0.900", "0.125"]
    assert "cost by number of labels, mean ± standard deviation over the seeds" in summary
    assert "0.125" in summary[-2]
    assert "0.900" not in summary[-2]


def test_one_class_with_two_sets_of_options_has_two_columns(capsys: pytest.CaptureFixture[str]) -> None:
    def lines(accuracy: float) -> list[dict[str, object]]:
        return [{"labels": 20, "accuracy": accuracy, "strategy": "BADGE"}]

    cells = {"BADGE-seed0": 0.5, "BADGE-seed1": 0.7, "BADGE~2-seed0": 0.3}
    Console().summary({name: lines(accuracy) for name, accuracy in cells.items()})
    shown = capsys.readouterr().out.splitlines()
    assert next(line for line in shown if "BADGE" in line).split()[1::2] == ["labels", "BADGE", "BADGE~2"]
    assert "0.600 ± 0.141" in shown[-2]  # n - 1 in the denominator, as in the table for a paper
    assert "0.300" in shown[-2]


def test_number_of_seeds_is_shown_where_some_were_stopped(capsys: pytest.CaptureFixture[str]) -> None:
    long = [{"labels": labels, "accuracy": 0.5} for labels in (20, 40)]
    cells = {"Margin-seed0": long, "Margin-seed1": long, "Margin-seed2": long[:1], "Random-seed0": long}
    Console().summary(cells)
    shown = capsys.readouterr().out.splitlines()
    assert "(1 of 2): only some seeds" in shown[1]
    first, second = shown[-3:-1]
    assert "0.500 ± 0.000" in first
    assert " of " not in first
    assert "0.500 ± 0.000 (2 of 3)" in second
    assert second.count(" of ") == 1


def test_rounds_with_the_same_labels_are_not_counted_as_seeds(capsys: pytest.CaptureFixture[str]) -> None:
    """A batch that was declined altogether adds a round and no labels."""
    lines = [{"labels": labels, "accuracy": accuracy} for labels, accuracy in ((4, 0.2), (6, 0.3), (6, 0.4))]
    Console().summary({"Random-seed0": lines})
    row = capsys.readouterr().out.splitlines()[-2]
    assert row.split()[1::2] == ["6", "0.400"]


def test_table_says_why_strategies_have_other_numbers_of_labels(capsys: pytest.CaptureFixture[str]) -> None:
    cells = {
        "Margin-seed0": [{"labels": 4, "accuracy": 0.2}, {"labels": 9, "accuracy": 0.3, "declined": 3}],
        "Random-seed0": [{"labels": 4, "accuracy": 0.2}, {"labels": 12, "accuracy": 0.3}],
    }
    Console().summary(cells)
    assert capsys.readouterr().out.splitlines()[-1].startswith("- : rows were declined, so not every run has a round")
    Console().summary({name: [{**line, "declined": 0} for line in lines] for name, lines in cells.items()})
    assert "declined" not in capsys.readouterr().out


def test_name_that_is_cut_in_the_table_says_so(capsys: pytest.CaptureFixture[str]) -> None:
    for name in ("LowestConfidence", "LeastConfidenc"):
        Console().round({"round": 0, "labels": 20, "acting_strategy": name})
    cut, whole = capsys.readouterr().out.splitlines()
    assert cut.split()[2] == "LowestConfide…"
    assert whole.split()[2] == "LeastConfidenc"


def test_reason_that_ends_prints_no_empty_line(capsys: pytest.CaptureFixture[str]) -> None:
    console = Console()
    for number, reason in enumerate(["by margin", None]):
        console.round({"round": number, "labels": 20, "reason": reason})
    shown = capsys.readouterr().out.splitlines()
    assert shown[1] == "  by margin"
    assert len(shown) == 3


def test_nothing_is_drawn_over_itself_where_colour_is_forced(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Notebooks and CI services set the variable, and neither is a terminal."""
    monkeypatch.setenv("FORCE_COLOR", "1")
    console = Console()
    with console:
        console.stage("loading the data")
        console.cell("Margin", 0)
        bar = console.monitor(lambda: None)
        bar.started("fit", 10)
        bar.advanced(10)
        bar.finished()
    out = capsys.readouterr().out
    assert out.startswith("loading the data ...\n\nMargin, seed 0\nround")
    assert not {"\x1b", "\r"} & set(out)


def test_a_file_is_not_drawn_upon_though_colors_are_forced(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FORCE_COLOR", "1")
    monkeypatch.setenv("TERM", "xterm-256color")
    console = RichConsole(file=io.StringIO())
    assert console.is_terminal
    assert not draws(console)


def test_advice_on_the_encoder_is_that_of_random_labels(capsys) -> None:
    def lines(strategy: str, advice: str) -> list[dict[str, object]]:
        return [{"labels": 40, "accuracy": 0.5, "acting_strategy": strategy, "encoders": {"advice": advice}}]

    cells = {"Auto-seed0": lines("UHerding", "try TF-IDF"), "Random-seed0": lines("Random", "keep mine")}
    Console().summary(cells)
    assert "encoder: keep mine\n" in capsys.readouterr().out
    Console().summary({"Auto-seed0": cells["Auto-seed0"]})
    shown = " ".join(capsys.readouterr().out.split())
    assert "encoder: try TF-IDF (less sure than it looks: a strategy chose these labels" in shown
    Console().summary({"Random-seed0": lines("Random", "try TF-IDF")})
    assert "encoder: try TF-IDF; dal encoders compares others" in " ".join(capsys.readouterr().out.split())
