"""A whole run: strategies against a baseline over seeds, answered by an oracle, resumable at every instant."""

import math
import signal
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING, Any

from dal.candidates import Candidates, as_candidates, check_candidates
from dal.choice import Asked, check_needs, reads_trained
from dal.data import Splits, TextData
from dal.errors import ConfigError, DalError, SessionError
from dal.learner import Learner, Prepared
from dal.loggers import check_loggers, following
from dal.oracles.oracle import Oracle
from dal.oracles.simulated import Simulated
from dal.oracles.storing import let_answer
from dal.reporter import Console, Quiet
from dal.runfolder import Lock, describe, read_metrics, record_environment, write_config
from dal.session import Session
from dal.stopping.record import check as check_rule
from dal.stopping.rule import History, StoppingRule
from dal.strategies.auto import Auto
from dal.strategies.random import Random
from dal.strategy import Strategy, name_of
from dal.weak import LLMWeakLabels

if TYPE_CHECKING:
    from dal.grid.first_round import FirstRounds
    from dal.measuring import Measures

#: Fields that do not decide what a run computes: the same folder takes them with any value.
FREE = ("folder", "quiet", "report")

#: Fields that decide only what is recorded of a run beside its scores: written down, and free to change.
MEASURED = ("pool_sample", "measure_distances", "price_per_label", "price_per_hour", "seconds_per_label")


class Interrupted(DalError):
    """Ctrl-C. Everything that was acknowledged is on disk; the message says how to go on."""

    exit_code = 130


@dataclass(frozen=True)
class Cell:
    """One strategy with one seed: a run folder of its own, called `name`."""

    name: str
    strategy: Strategy
    seed: int


@dataclass(frozen=True)
class Results:
    """What an experiment found.

    Attributes:
        cells: the lines of `metrics.jsonl` by cell name, such as "Margin-seed0".
        folder: where they are stored, None for a run in memory.
        report: the HTML report, None when none was written.
    """

    cells: Mapping[str, Sequence[Mapping[str, Any]]]
    folder: Path | None = None
    report: Path | None = None

    def curve(self, cell: str, metric: str = "accuracy") -> list[tuple[int, float]]:
        """(labels, metric) of each round of a cell."""
        return [(int(line["labels"]), float(line[metric])) for line in self.cells[cell]]


@dataclass(frozen=True)
class Experiment:
    """A strategy and a baseline over the same seeds, from `start` labels through `rounds` batches, scored on the test.

    Cells of the same seed share their random streams: a random start is the same rows for both. With a `folder`, every
    question, answer and figure is on disk before the next step begins; running again on the folder goes on where it
    stopped, to the very same choices, and a finished experiment is only read.

    Args:
        data: the pool and the test set.
        learner: the model that is trained each round.
        strategy: what chooses the batches.
        oracle: who answers; without one the labels in the data, hidden from the run, if every row of the pool has one.
        baseline: what the strategy is compared with; null for nothing.
        cold_start: chooses the first batch where the strategy reads a trained model and nothing is labeled yet.
        weak_labels: lets a language model label a share of the pool before anything is asked, trains on what it is sure
            of, and asks the rest first; in the place of the cold start. In a run the baseline starts without, so that
            the report shows what it brings; with a common start all cells start with it.
        common_start: let the cold start choose the first batch of every strategy, so that all begin with the same
            labels; null for no in a run and yes in a comparison.
        start: rows in the first batch. Left out where the data has labels that the oracle does not hide.
        batch: rows in each further batch.
        rounds: how many further batches, at most.
        stop: the rule that ends the run of a strategy with a seed before its last round (`dal list stopping`); null
            for none.
        successor: another learner that is trained on the same labels after every round and scored on the test set, to
            see whether they serve it as well; null for none. Each round costs one more fit, of this learner.
        seeds: one run of strategy and baseline for each.
        candidates: rows of the pool to score each round: so many random ones, or a generator such as SEALS; null for
            all.
        folder: where to keep everything; null keeps it in memory and writes nothing.
        save_model: keep the latest model of each cell.
        report: write `report.html` into the folder.
        show_texts: store the chosen texts with the figures and show them in the report, which may then not be passed on
            where the texts may not.
        loggers: Lightning loggers that receive the figures of each round, with the labels as step: names such as
            TensorBoardLogger, alone or with their options, or import paths; null for none.
        pool_sample: rows of the pool not yet labeled, with a hidden label that is known, that are scored each round; 0
            for none.
        measure_distances: measure how redundant and new each batch is and how it covers the pool, and draw the pool's
            map; costs one pass of the pretrained encoder over the pool where nothing else reads embeddings.
        price_per_label: dollars for an answer that has no cost of its own; null when unknown.
        price_per_hour: dollars for an hour of those who answer; null when unknown.
        seconds_per_label: that an answer takes which has no time of its own; null when unknown.
        quiet: print nothing.
    """

    data: TextData
    learner: Learner
    strategy: Strategy = field(default_factory=Auto)
    oracle: Oracle | None = None
    baseline: Strategy | None = field(default_factory=Random)
    cold_start: Strategy = field(default_factory=Random)
    weak_labels: LLMWeakLabels | None = None
    common_start: bool | None = None
    start: int = 20
    batch: int = 25
    rounds: int = 4
    stop: StoppingRule | None = None
    successor: Learner | None = None
    seeds: list[int] = field(default_factory=lambda: [0])
    candidates: int | Candidates | None = None
    folder: str | None = None
    save_model: bool = True
    report: bool = True
    show_texts: bool = False
    loggers: list[str | dict[str, Any]] | None = None
    pool_sample: int = 1000
    measure_distances: bool = True
    price_per_label: float | None = None
    price_per_hour: float | None = None
    seconds_per_label: float | None = None
    quiet: bool = False

    def __post_init__(self) -> None:
        for name, least in (("start", 1), ("batch", 1), ("rounds", 0), ("pool_sample", 0)):
            if getattr(self, name) < least:
                raise ConfigError(f"{name} must be at least {least}, got {getattr(self, name)}")
        for name in MEASURED[2:]:
            price = getattr(self, name)
            if price is not None and not 0 <= price < math.inf:
                raise ConfigError(f"{name} must be at least 0, got {price}")
        as_candidates(self.candidates)
        if not self.seeds or min(self.seeds) < 0 or len(set(self.seeds)) != len(self.seeds):
            raise ConfigError(f"seeds must be distinct numbers that are not negative, at least one, got {self.seeds}")

    @property
    def cells(self) -> list[Cell]:
        """The runs that the experiment consists of, in order."""
        name = name_of(self.strategy)
        strategies = [(name, self.strategy)]
        if self.baseline is not None and self.baseline != self.strategy:
            other = name_of(self.baseline)
            strategies.append((other if other != name else f"{other}-baseline", self.baseline))
        return [Cell(f"{name}-seed{seed}", strategy, seed) for seed in self.seeds for name, strategy in strategies]

    def run(self, *, config: Mapping[str, Any] | None = None, reporter: Quiet | None = None) -> Results:
        """The figures of all cells, computed or read from the folder.

        Args:
            config: what `config.yaml` should say, when the fields cannot tell (by default `describe(self)`).
            reporter: shows the run; by default the console, or nothing when `quiet`.

        Raises:
            ConfigError: the folder holds another experiment, or the parts do not fit each other.
            DataError: fewer rows than labels asked for.
            BusyError: another process works in the folder.
            Interrupted: Ctrl-C.
        """
        reporter = reporter or (Quiet() if self.quiet else Console())
        folder = None if self.folder is None else Path(self.folder)
        if folder is not None and not folder.exists():
            self.load()  # what cannot be run is refused before anything is written
        with held(folder), interruptible(folder) as check:
            if folder is not None:
                sign(folder, dict(config or self.described()), reporter)
            whole = self._finished(folder)
            lines = self._run_cells(folder, reporter, check)
            report = self._report(folder, current=whole)
        reporter.summary(lines)
        if report is not None:
            reporter.say(f"\nreport: {report}")
        return Results(lines, folder, report)

    def _run_cells(self, folder: Path | None, reporter: Quiet, check: "Check") -> dict[str, list[dict[str, Any]]]:
        lines: dict[str, list[dict[str, Any]]] = {}
        splits: Splits | None = None
        prepared: dict[str, Prepared] = {}
        for cell in self.cells:
            place = None if folder is None else folder / cell.name
            reporter.cell(name_of(cell.strategy), cell.seed)
            lines[cell.name] = [] if place is None else read_metrics(place)
            for line in lines[cell.name]:
                reporter.round(line)
            if not self.is_over(lines[cell.name]):
                splits = splits or self.load()
                lines[cell.name] = self.run_cell(cell, place, splits, prepared, reporter, check)
        return lines

    def _finished(self, folder: Path | None) -> bool:
        return folder is not None and all(self.is_over(read_metrics(folder / cell.name)) for cell in self.cells)

    def is_over(self, lines: Sequence[Mapping[str, Any]]) -> bool:
        """Whether a cell has all its rounds, or was ended by the stopping rule."""
        return len(lines) > self.rounds or bool(lines and lines[-1].get("stopping", {}).get("stop"))

    def load(self) -> Splits:
        """The data, once it is sure that the run can be made with it.

        Raises:
            ConfigError: the parts do not fit each other, or nobody can answer.
            DataError: fewer rows than labels asked for.
        """
        data: Any = self.data
        splits: Splits = data.load() if hasattr(data, "load") else data
        pool, oracle = splits.pool, self._oracle(splits)
        for strategy in (self.strategy, self.baseline, self.cold_start):
            if strategy is not None:
                check_needs(strategy, self.learner, multilabel=pool.multilabel)
        check_candidates(as_candidates(self.candidates), self.learner)
        if self.loggers:
            check_loggers(self.loggers)
        if self.stop is not None:
            check_rule(self.stop, splits)
        if oracle.hides_labels:
            if splits.test is None or not bool(splits.test.known.any()):
                raise ConfigError("a simulated run is scored on a test set: give data.test a file, a split or a share")
            pool.require(self.start + self.rounds * self.batch)
        else:
            pool.take(~pool.known).require(self.rounds * self.batch + (0 if bool(pool.known.any()) else self.start))
        return splits

    def _oracle(self, splits: Splits) -> Oracle:
        missing = int((~splits.pool.known).sum())
        hides = self.oracle is None or self.oracle.hides_labels
        if hides and missing:
            raise ConfigError(
                f"{missing} of {len(splits.pool)} rows of the pool have no label, so nobody can answer for them: give "
                "an oracle, or let a person answer with `dal ask` and `dal tell`"
            )
        return self.oracle or Simulated()

    def run_cell(
        self,
        cell: Cell,
        folder: Path | None,
        splits: Splits,
        prepared: dict[str, Prepared],
        reporter: Quiet,
        check: "Check",
        first: "FirstRounds | None" = None,
    ) -> list[dict[str, Any]]:
        """The lines of a cell's rounds: those that its folder has, and the rest, run now.

        Args:
            cell: the strategy and the seed.
            folder: of this cell; None keeps it in memory.
            splits: from `load`.
            prepared: the parts that were made ready before, shared between cells on the same data and learner.
            reporter: shows the run.
            check: called between steps; raises to end the run.
            first: where the first round is taken from, or left, that cells of the same seed have in common.
        """
        oracle = self._oracle(splits)
        if folder is not None:
            write_config(folder, self._cell_config(cell), ignored=MEASURED)
        with (
            Session(
                splits,
                self.learner,
                cell.strategy,
                folder=folder,
                seed=cell.seed,
                candidates=self.candidates,
                hide_labels=oracle.hides_labels,
                budget=self.start + self.rounds * self.batch,
                save_model=self.save_model,
                monitor=reporter.monitor(check),
                prepared=prepared,
            ) as session,
            following(self.loggers or (), folder, cell.name, session.metrics) as log,
        ):
            measures, given = self._measures(session), session.given
            for round in range(len(session.metrics), self.rounds + 1):
                check()
                asked = round + (0 if given else 1)  # batches that belong to the rounds up to this one
                if session.round < asked:
                    self._ask(session, round)
                let_answer(oracle, session, check)
                self._answered(session)
                batch = session.last_selection if asked and session.round == asked else None
                made = partial(self._line, session, cell, batch, round, measures)
                common = first if round == 0 and oracle.hides_labels else None
                line = made() if common is None else common.line(session, made, check)
                line |= {"strategy": name_of(cell.strategy)} | self._texts(session, batch, line)
                line |= self._judged(session, line)
                if self.is_over([*session.metrics, line]):
                    line |= measures.at_end()
                log(line)  # a kill before it is stored makes the round, and this, anew
                session.record(line)
                reporter.round(session.metrics[-1])
                if self.is_over(session.metrics):
                    break
            return session.metrics

    def _measures(self, session: Session) -> "Measures":
        from dal.evaluation.cost import Prices
        from dal.measuring import Measures

        prices = Prices(self.price_per_label, self.price_per_hour, self.seconds_per_label)
        return Measures(session, pool_sample=self.pool_sample, distances=self.measure_distances, prices=prices)

    def _judged(self, session: Session, line: Mapping[str, Any]) -> dict[str, Any]:
        """What the stopping rule reads of the round, and what it says: stored with the round, so that it stands."""
        if self.stop is None:
            return {}
        read = session.observe(self.stop)
        verdict = self.stop.judge(History((*session.metrics, {**line, **read})))
        notes = {name: _finite(value) for name, value in verdict.notes.items()}
        return read | {"stopping": {"stop": verdict.stop, "text": verdict.text, "notes": notes}}

    def _texts(self, session: Session, batch: Asked | None, line: Mapping[str, Any]) -> dict[str, Any]:
        """The texts of a round's batch, for the report, where they are wanted.

        Those of their nearest labeled rows are in the lines that chose them; the texts of rows whose label came with
        the data are added, by id.
        """
        if not self.show_texts or batch is None:
            return {}
        pool, asked = session.pool, {event.row for event in session.store.events() if event.kind == "asked"}
        given = [row for row in dict.fromkeys(line.get("nearest", ())) if row is not None and row not in asked]
        near = dict(zip(given, pool.texts(pool.rows_of(given)), strict=True)) if given else {}
        return {"texts": pool.texts(batch.rows)} | ({"nearest_texts": near} if near else {})

    def _line(
        self, session: Session, cell: Cell, batch: Asked | None, round: int, measures: "Measures"
    ) -> dict[str, Any]:
        """The line of a round: its scores, what was measured, and what another model makes of the same labels."""
        line = _line(session, cell, batch, round) | measures.of_round(batch)
        if self.successor is None or not session.can_evaluate:
            return line
        from dal.grid.successor import succeeded

        return line | succeeded(session, self.successor)

    def _ask(self, session: Session, round: int) -> None:
        weakly = self.weak_labels is not None and (self.common_start or session.strategy != self.baseline)
        if weakly and session.round == 0 and not session.given:
            assert self.weak_labels is not None
            self.weak_labels.begin(session, self.start)
        else:
            session.ask(self.start if round == 0 else self.batch, strategy=self.start_of(session), measured=True)

    def _answered(self, session: Session) -> None:
        """Make sure that nobody is to answer later: a run goes on at once."""
        if len(session.pending):
            raise SessionError(
                f"the oracle leaves {len(session.pending)} rows to a person: give it one (Simulated answers from the "
                "labels in the data), or use `dal ask` and `dal tell` in the place of `dal run`"
            )

    def start_of(self, session: Session) -> Strategy | None:
        """The cold start, while nothing is labeled, where all start alike or the strategy reads a trained model."""
        cold = not len(session.labels) and (
            self.common_start or reads_trained(session.strategy.resolve(session.state), self.learner)
        )
        return self.cold_start if cold else None

    def described(self) -> dict[str, Any]:
        """What `config.yaml` says of it, all defaults filled in."""
        config: dict[str, Any] = describe(self)
        if not isinstance(self.data, TextData):  # rows made in Python: their fingerprints are all there is to say
            parts = ("pool", "test", "validation")
            config["data"] = {part: describe(getattr(self.data, part, None)) for part in parts}
        return config

    def _cell_config(self, cell: Cell) -> dict[str, Any]:
        config = self.described()
        for key in (*FREE, "baseline", "seeds"):
            del config[key]
        return {**config, "strategy": describe(cell.strategy), "seed": cell.seed}

    def _report(self, folder: Path | None, *, current: bool) -> Path | None:
        """The report, written anew unless the one that is there is of these very figures."""
        if folder is None or not self.report:
            return None
        if current and (folder / "report.html").exists():
            return folder / "report.html"
        from dal.report import write_report

        return Path(write_report(folder))


def sign(folder: Path, config: Mapping[str, Any], reporter: Quiet) -> None:
    """Write what is run, and on what, into the folder, or make sure that it is the same as before.

    Raises:
        ConfigError: the folder holds something else.
    """
    write_config(folder, {key: value for key, value in config.items() if key not in FREE}, ignored=(*FREE, *MEASURED))
    changed = record_environment(folder)
    if changed:
        reporter.say(
            f"{folder} was begun with other {', '.join(changed)}: nothing is lost or asked twice, but choices may "
            "differ from an uninterrupted run's"
        )


def _line(session: Session, cell: Cell, batch: Asked | None, round: int) -> dict[str, Any]:
    """The line of `metrics.jsonl` for a round whose answers are in."""
    from dal.measuring import whole

    state = session.state
    predictor = session.predictor  # fitted before anything else, so that its time is its own
    figures = whole(session.evaluate()) if session.can_evaluate else {}
    del predictor
    return {
        "round": round,
        "labels": state.labels,
        "strategy": name_of(cell.strategy),
        "acting": None if batch is None else batch.strategy,
        "why": "" if batch is None else batch.why,
        "seed": cell.seed,
        **{name: None if value is None else _finite(value) for name, value in figures.items()},
        "fit_seconds": session.fit_seconds,
        "pass_seconds": 0.0 if batch is None else batch.seconds.get("pass", 0.0),
        "select_seconds": 0.0 if batch is None else batch.seconds.get("select", 0.0),
        "evaluate_seconds": session.evaluate_seconds,
        "rows": [] if batch is None else [session.pool.ids[row] for row in batch.rows.tolist()],
        "scores": None if batch is None or batch.scores is None else [_finite(x) for x in batch.scores.tolist()],
        "notes": {} if batch is None else {name: _finite(value) for name, value in batch.notes.items()},
        "near_duplicates": 0.0 if batch is None else batch.near_duplicates,
        "class_counts": list(state.per_class),
    }


def _finite(value: float) -> float | None:
    """The number, None where JSON has no word for it."""
    return value if math.isfinite(value) else None


@contextmanager
def held(folder: Path | None) -> Iterator[None]:
    """Be the one process that works in the folder meanwhile."""
    lock = None if folder is None else Lock(folder)
    try:
        yield
    finally:
        if lock is not None:
            lock.release()


class Check:
    """Raises `Interrupted` when Ctrl-C was pressed; called between batches, never in the middle of a write."""

    def __init__(self, folder: Path | None, command: str) -> None:
        self._folder, self._command = folder, command
        self.pressed = False

    def __call__(self) -> None:
        """Raise where Ctrl-C was pressed."""
        if self.pressed:
            again = f"go on with: dal {self._command} --resume {self._folder}"
            how = "nothing was kept" if self._folder is None else again
            raise Interrupted(f"stopped; {how}")

    def press(self, number: int, frame: FrameType | None) -> None:
        """The handler: the first Ctrl-C asks for a clean stop, a second one does not wait."""
        if self.pressed:
            raise KeyboardInterrupt
        self.pressed = True


@contextmanager
def interruptible(folder: Path | None, *, command: str = "run") -> Iterator[Check]:
    """Own Ctrl-C meanwhile: Lightning would turn it into an exit, and a half-finished fit must not be stored.

    Args:
        folder: what to go on with, as the message says.
        command: of `dal`, which does so.
    """
    check = Check(folder, command)
    if threading.current_thread() is not threading.main_thread():
        yield check
        return
    before = signal.signal(signal.SIGINT, check.press)
    try:
        yield check
    finally:
        signal.signal(signal.SIGINT, before)
