"""Reporters of a run: progress bars, a table with a row per round, and a summary."""

import sys
from collections.abc import Callable, Mapping, Sequence
from statistics import mean, stdev
from typing import Any, Self

from dal.errors import printable, shortened
from dal.evaluation.curves import named_score
from dal.experiments.candidate_text import candidates_text
from dal.experiments.encoder_advice import advice_in
from dal.experiments.heartbeat import CheckingMonitor, CountingMonitor, Heartbeat, halved_text
from dal.experiments.spinner import Spinner, draws, live_options
from dal.experiments.successor import agreement_text, agreement_texts
from dal.learner import Monitor

_COLUMNS: Sequence[tuple[str, str, str]] = (
    ("round", "round", "d"),
    ("labels", "labels", "d"),
    ("acting_strategy", "strategy", "s"),
    ("accuracy", "accuracy", ".3f"),
    ("macro_f1", "macro-F1", ".3f"),
    ("log_loss", "logloss", ".3f"),
    ("ece", "ECE", ".3f"),
    ("fit_seconds", "fit s", ".1f"),
    ("pass_seconds", "pass s", ".1f"),
    ("select_seconds", "sel. s", ".2f"),
)
_WIDE = 14


class Quiet:
    """Reporter that shows nothing, and base class of reporters. A context: long work runs inside."""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        """Called when the work has ended, also by an error."""

    def stage(self, text: str) -> None:
        """Called at the start of a stage, such as loading the data."""

    def plan(self, parts: int, noun: str, at_once: int = 1) -> None:
        """Called when the number of rounds (or cells) to compute is known."""

    def part_done(self) -> None:
        """Called after each of these."""

    def parts_dropped(self, count: int) -> None:
        """Called when some of these will not be computed, because a stopping rule ended a cell."""

    def watch(self, details: Callable[[], Sequence[str]]) -> None:
        """Called with a function that returns lines on work in other processes, to show them until the next stage."""

    def headline(self, metric: str) -> None:
        """Called at the start with the name of the verdict's metric."""

    def stored(self, line: Mapping[str, Any]) -> None:
        """Called with the line of a round that an earlier run has computed."""
        self.round(line)

    def say(self, text: str) -> None:
        """Show a line."""

    def cell(self, name: str, seed: int) -> None:
        """Called when the run of a strategy with a seed starts or resumes."""

    def round(self, line: Mapping[str, Any]) -> None:
        """Called after a round with its line of `metrics.jsonl`."""

    def summary(self, cells: Mapping[str, Sequence[Mapping[str, Any]]]) -> None:
        """Called after all cells with their lines by name."""

    def monitor(self, check: Callable[[], None]) -> Monitor:
        """Monitor of fits and passes. It must call `check`, which may raise, whenever the work advances."""
        return CheckingMonitor(check)


class Console(Quiet):
    """Reporter that prints to the console with rich.

    A terminal shows a bar for each fit and pass, and a spinner with the stage at all other times. Elsewhere, as in a
    log or a notebook, each stage has a line, and another one says what is being done whenever nothing was printed for
    ten seconds.

    Args:
        stderr: whether to print to stderr, for commands whose result is on stdout.
    """

    def __init__(self, *, stderr: bool = False) -> None:
        from rich.console import Console as RichConsole

        # Notebooks and CI services set FORCE_COLOR, which rich takes for a terminal: no colours where there is none.
        # In a notebook rich would also make an output of its own of every line.
        terminal = None if (sys.stderr if stderr else sys.stdout).isatty() else False
        self._console = RichConsole(stderr=stderr, force_jupyter=False, highlight=False, force_terminal=terminal)
        self._stage = ""
        self._details: Callable[[], Sequence[str]] = tuple
        self._causes: dict[str, str] = {}
        self._metric = "accuracy"
        self._spinner: Spinner | None = None
        self.heartbeat = None if draws(self._console) else Heartbeat(self._print)

    def __enter__(self) -> Self:
        if self.heartbeat is not None:
            self.heartbeat.start()
        return self

    def __exit__(self, *error: object) -> None:
        self._stage = ""
        self.clear()
        if self.heartbeat is not None:
            self.heartbeat.stop()

    def clear(self) -> None:
        """Remove the spinner of a terminal."""
        if self._spinner is not None:
            self._spinner.stop()
            self._spinner = None

    def spin(self) -> None:
        """Show the spinner of the stage again, after a bar."""
        if self._stage and self._spinner is None:
            self._spinner = Spinner(self._console, self._stage, self._details)

    def _print(self, text: Any, **options: Any) -> None:
        """Print text at once, also into a pipe."""
        self._console.print(text, soft_wrap=True, **options)
        self._console.file.flush()
        if self.heartbeat is not None:
            self.heartbeat.printed()

    def say(self, text: str) -> None:
        """Print the line."""
        self._print(text, markup=False)

    def stage(self, text: str) -> None:
        """Show a spinner with the text on a terminal; elsewhere print it."""
        if self.heartbeat is not None:
            self.heartbeat.stage(text)
            self.say(f"{text} ...")
        else:
            self._show(text)

    def _show(self, stage: str) -> None:
        """Name the stage in the spinner of a terminal."""
        self._stage, self._details = stage, tuple
        if self._spinner is None:
            self.spin()
        else:
            self._spinner.update(stage)

    def watch(self, details: Callable[[], Sequence[str]]) -> None:
        """Show the lines below the spinner of a terminal; elsewhere print them with each sign of life."""
        if self.heartbeat is not None:
            self.heartbeat.watch(details)
            return
        self._details = details
        if self._spinner is not None:
            self._spinner.update(self._stage, details)

    def plan(self, parts: int, noun: str, at_once: int = 1) -> None:
        """Note the number of parts, to say how many are left."""
        if self.heartbeat is not None:
            self.heartbeat.plan(parts, noun, at_once)

    def part_done(self) -> None:
        """Count a part."""
        if self.heartbeat is not None:
            self.heartbeat.part_done()

    def parts_dropped(self, count: int) -> None:
        """Count these parts as not planned."""
        if self.heartbeat is not None:
            self.heartbeat.parts_dropped(count)

    def headline(self, metric: str) -> None:
        """Show the metric in the table and the summary."""
        self._metric = metric

    @property
    def _columns(self) -> Sequence[tuple[str, str, str]]:
        """Key, title and format of the columns of the table."""
        if self._metric in (key for key, _, _ in _COLUMNS):
            return _COLUMNS
        return (*_COLUMNS[:4], (self._metric, _plain(self._metric), ".3f"), *_COLUMNS[4:])

    def stored(self, line: Mapping[str, Any]) -> None:
        """Print one row of the table."""
        self._row(line)

    def cell(self, name: str, seed: int) -> None:
        """Print the column headers of the table."""
        self._causes = {}
        from rich.text import Text

        stage = f"{_plain(name)}, seed {seed}"
        if self.heartbeat is not None:
            self.heartbeat.stage(stage)
        else:
            self._show(stage)
        self._print(Text.assemble("\n", (_plain(name), "bold"), f", seed {seed}"))
        heads = [title.ljust(_WIDE) if kind == "s" else title.rjust(_width(title)) for _, title, kind in self._columns]
        self._print(" ".join(heads), style="dim")

    def round(self, line: Mapping[str, Any]) -> None:
        """Print one row of the table, and count the round."""
        self._row(line)
        self.part_done()

    def _row(self, line: Mapping[str, Any]) -> None:
        cells = [_cell(named_score(line, key), title, kind) for key, title, kind in self._columns]
        self._print(" ".join(cells), markup=False)
        if declined := line.get("declined", 0):
            asked = len(line.get("rows") or ())
            self.say(f"  {declined} of {asked} rows were declined and get no label: a batch is not refilled")
        self._explain("candidates", candidates_text(line), "(")
        if agreement := agreement_text(line):
            self.say(f"  {agreement}")
        self._explain("reason", line.get("reason") or "", ":")
        self._explain("training", str(line.get("training", {}).get("text") or ""), "(")
        stopping = line.get("stopping", {})
        if stopping.get("stop"):
            self.say(f"stopped: {stopping['text']}")

    def _explain(self, what: str, text: str, mark: str) -> None:
        """Print an explanation of a round unless the part before the mark is that of the round before."""
        cause = text.split(mark)[0]
        if cause != self._causes.get(what, ""):
            self._causes[what] = cause
            if text:
                self.say(f"  {text}")

    def summary(self, cells: Mapping[str, Sequence[Mapping[str, Any]]]) -> None:
        """Print the metric of each strategy by number of labels, mean and spread over the seeds."""
        self._stage = ""
        self.clear()
        for name, lines in cells.items():
            stopping = lines[-1].get("stopping", {}) if lines else {}
            if stopping and not stopping["stop"]:
                self.say(f"\n{name} was not stopped: {stopping['text']}")
        self._table(self._metric, _plain(self._metric), cells)
        successors = {
            name: [{**line, **line["successor"]} for line in lines if line.get("successor")]
            for name, lines in cells.items()
        }
        learner = next((line["learner"] for lines in successors.values() for line in lines), "")
        self._table("accuracy", f"accuracy of the successor {learner}", successors)
        for text in agreement_texts(cells).values():
            self.say(text)
        # Once, and from random labels if there are any: those that a strategy chose are hard for its encoder.
        advised = [(_chosen(lines), text) for lines in cells.values() if lines and (text := advice_in(lines[-1]))]
        if advised:
            chosen, text = min(advised, key=lambda each: each[0])
            others = "" if text.startswith("keep") else "; dal encoders compares others"
            warning = " (less sure than it looks: a strategy chose these labels with the present encoder)"
            self.say(f"encoder: {text}{warning if chosen and text.startswith('try') else ''}{others}")

    def _table(self, metric: str, title: str, cells: Mapping[str, Sequence[Mapping[str, Any]]]) -> None:
        from rich.table import Column, Table
        from rich.text import Text

        curves: dict[str, dict[int, dict[str, float]]] = {}  # by strategy, labels and cell
        seeds: dict[str, int] = {}
        for name, lines in cells.items():
            strategy = name.rpartition("-seed")[0] or name  # "BADGE~2": a strategy with other options is another one
            seeds[strategy] = seeds.get(strategy, 0) + 1
            for line in lines:
                score = named_score(line, metric)
                if score is not None:
                    # The last of several rounds with the same labels counts: the batches between were declined.
                    curves.setdefault(strategy, {}).setdefault(int(line["labels"]), {})[name] = float(score)
        if not curves:
            return
        table = Table("labels", *(Column(Text(_plain(name))) for name in curves))
        fewer = apart = False
        for labels in sorted({labels for curve in curves.values() for labels in curve}):
            scores = {name: list(curve.get(labels, {}).values()) for name, curve in curves.items()}
            table.add_row(str(labels), *(_spread(each, seeds[name]) for name, each in scores.items()))
            fewer |= any(0 < len(each) < seeds[name] for name, each in scores.items())
            apart |= not all(scores.values())
        some = "; (1 of 2): only some seeds were measured with so many labels" if fewer else ""
        self._print(f"\n{title} by number of labels, mean ± standard deviation over the seeds{some}")
        self._console.print(table)
        if apart and any(line.get("declined") for lines in cells.values() for line in lines):
            self.say("- : rows were declined, so not every run has a round of so many labels; the report interpolates")

    def monitor(self, check: Callable[[], None]) -> Monitor:
        """A progress bar that disappears when the work is done; without a terminal, lines now and then."""
        if self.heartbeat is not None:
            return CountingMonitor(check, self.heartbeat, self.say)
        return _Bar(self._console, check, self)


def reading(data: Any) -> str:
    """Stage of loading the data of an experiment: "reading tickets.csv", or without a path "loading the data"."""
    path = getattr(data, "path", None)
    return f"reading {printable(path)}" if isinstance(path, str) else "loading the data"


class _Bar(CheckingMonitor):
    """A progress bar with a rate: rows per second for a pass, steps per second for a fit."""

    def __init__(self, console: Any, check: Callable[[], None], reporter: Console) -> None:
        super().__init__(check)
        self._console, self._reporter = console, reporter
        self._progress: Any = None
        self._task: Any = None

    def started(self, what: str, total: int) -> None:
        self.finished()  # removes the bar of work that ended with an error
        super().started(what, total)
        self._reporter.clear()
        from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

        unit = "rows" if "pass" in what else "steps"
        rate = TextColumn("{task.fields[rate]}")
        columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), rate, TimeRemainingColumn())
        self._progress = Progress(*columns, console=self._console, **live_options())
        self._progress.start()
        self._task = self._progress.add_task(f"{what} ({unit})", total=total, rate="")
        self._unit = unit

    def advanced(self, count: int) -> None:
        if self._progress is not None:
            self._progress.advance(self._task, count)
            speed = self._progress.tasks[0].speed
            self._progress.update(self._task, rate="" if speed is None else f"{speed:,.0f} {self._unit}/s")
        try:
            super().advanced(count)
        except BaseException:
            self.finished()
            raise

    def halved(self, token_budget: int) -> None:
        self._reporter.say(halved_text(token_budget))

    def finished(self) -> None:
        if self._progress is not None:
            self._progress.stop()
            self._progress = None
            self._reporter.spin()


def _width(title: str) -> int:
    return max(5, len(title))


def _cell(value: Any, title: str, kind: str) -> str:
    if kind == "s":
        name = _plain(str(value or "-"))
        return (name if len(name) <= _WIDE else name[: _WIDE - 1] + "…").ljust(_WIDE)
    try:
        shown = format(int(value) if kind == "d" else value, kind) if isinstance(value, int | float) else "-"
    except (ValueError, OverflowError):  # NaN or infinite
        shown = "-"
    return shown.rjust(_width(title))


def _chosen(lines: Sequence[Mapping[str, Any]]) -> bool:
    """Whether a strategy other than random selection acted in a round."""
    return any(line.get("acting_strategy", line.get("strategy")) != "Random" for line in lines)


def _plain(name: str) -> str:
    """Replace control characters in a name, and shorten it to fit on a line."""
    return "".join(char if char.isprintable() else "\ufffd" for char in shortened(name, 60))


def _spread(values: Sequence[float], seeds: int) -> str:
    """Mean and standard deviation (n - 1 in the denominator), with the number of values if fewer than `seeds`."""
    if not values:
        return "-"
    spread = f" ± {stdev(values):.3f}" if len(values) > 1 else ""
    return f"{mean(values):.3f}{spread}" + (f" ({len(values)} of {seeds})" if len(values) < seeds else "")
