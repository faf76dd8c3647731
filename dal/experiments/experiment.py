"""A whole run: strategies against a baseline over seeds, answered by an oracle, resumable at every instant."""

import math
import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from torch import Tensor

from dal.config.kinds import CELL, RUN
from dal.config.stored import CONFIG, describe, write_config
from dal.data import Rows, Splits, TextData
from dal.errors import ConfigError, DataError, SessionError, shortened
from dal.experiments.console import Console, Quiet
from dal.experiments.environment import record_environment
from dal.experiments.interrupts import InterruptCheck, interruptible
from dal.experiments.loggers import check_loggers, following
from dal.learner import SILENT, Learner, Monitor, Prepared
from dal.oracle import Oracle
from dal.oracles.answering import let_answer
from dal.oracles.simulated import Simulated
from dal.oracles.weak_labels import LLMWeakLabels
from dal.session.checked_arguments import check_needs, is_whole, reads_trained, require_classes, require_kind
from dal.session.session import Session, loaded
from dal.stopping.recorded_figures import check as check_rule
from dal.stopping.rule import StoppingRule
from dal.store.folder_lock import held
from dal.store.run_folder import check_folder, read_metrics
from dal.strategies.auto import Auto
from dal.strategies.candidates import Candidates, as_candidates, check_candidates
from dal.strategies.random import Random
from dal.strategy import Strategy, name_of

if TYPE_CHECKING:
    from dal.experiments.first_round import FirstRounds
    from dal.experiments.round_record import RoundLines

#: Fields that do not decide what a run computes: the same folder takes them with any value.
FREE = ("folder", "quiet", "report")

#: What is said where an experiment has weak labels and its data has labels to start from.
UNUSED_WEAK_LABELS = "weak_labels is not used: the data has labels to start from"

#: Fields that decide only what is recorded of a run besides its scores: written down, and free to change.
MEASURED = ("pool_sample", "measure_distances", "price_per_label", "price_per_hour", "seconds_per_label")


#: More seeds than anyone runs: each is a cell with a folder of its own.
MAX_SEEDS = 10_000


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
        self._check_kinds()
        for name, least in (("start", 1), ("batch", 1), ("rounds", 0), ("pool_sample", 0)):
            value = getattr(self, name)
            if not is_whole(value) or value < least:
                raise ConfigError(f"{name} must be at least {least}, got {value!r}")
        for name in MEASURED[2:]:
            price = getattr(self, name)
            if price is not None and not (isinstance(price, int | float) and 0 <= price < math.inf):
                raise ConfigError(f"{name} must be at least 0, got {price!r}")
        as_candidates(self.candidates)
        seeds = list(self.seeds) if isinstance(self.seeds, Iterable) and not isinstance(self.seeds, str) else []
        if len(seeds) > MAX_SEEDS:
            raise ConfigError(f"seeds: {len(seeds):,} are more than the {MAX_SEEDS:,} that a run may have")
        if not seeds or not all(map(is_whole, seeds)) or min(seeds) < 0 or len(set(seeds)) != len(seeds):
            raise ConfigError(
                f"seeds must be distinct numbers that are not negative, at least one, got {shortened(repr(self.seeds))}"
            )
        object.__setattr__(self, "seeds", seeds)

    def _check_kinds(self) -> None:
        """Make sure that every part is what it should be, so that no mistake is found in the middle of a run."""
        data: Any = self.data
        if isinstance(data, type) or not (hasattr(data, "load") or hasattr(data, "pool")):
            loaded(data)  # says what is wrong
        require_kind(self.learner, Learner, "learner", "ProbeLearner()")
        require_kind(self.strategy, Strategy, "strategy", "Margin()")
        require_kind(self.cold_start, Strategy, "cold_start", "Random()")
        optional: tuple[tuple[str, Any, str], ...] = (
            ("baseline", Strategy, "Random()"),
            ("oracle", Oracle, "Simulated()"),
            ("weak_labels", LLMWeakLabels, "LLMWeakLabels(labeler)"),
            ("stop", StoppingRule, "Labels(max_labels=200)"),
            ("successor", Learner, "TfidfLearner()"),
            ("candidates", int | Candidates, "1000"),
            ("folder", str | os.PathLike, "'my-run'"),
        )
        for name, kind, example in optional:
            value = getattr(self, name)
            if value is not None:
                require_kind(value, kind, name, example)
        if self.folder is not None and not str(self.folder):
            raise ConfigError("folder is empty: name a folder, or leave it out to keep everything in memory")

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
        folder = self._place()
        splits = None
        if folder is not None and not (folder / CONFIG).exists():
            splits = self.load()  # what cannot be run is refused before anything is written
        with held(folder), interruptible(folder) as check:
            if folder is not None:
                sign(folder, dict(config or self.described()), RUN, reporter)
            whole = self._finished(folder)
            lines = self._run_cells(folder, reporter, check, splits)
            report = self._report(folder, current=whole)
        reporter.summary(lines)
        if report is not None:
            reporter.say(f"\nreport: {report}")
        return Results(lines, folder, report)

    def _place(self) -> Path | None:
        """The folder, None in memory.

        Raises:
            ConfigError: it or that of a cell is no folder and cannot become one.
        """
        if self.folder is None:
            return None
        folder = check_folder(self.folder)
        for cell in self.cells:
            check_folder(folder / cell.name)
        return folder

    def _run_cells(
        self, folder: Path | None, reporter: Quiet, check: InterruptCheck, splits: Splits | None
    ) -> dict[str, list[dict[str, Any]]]:
        lines: dict[str, list[dict[str, Any]]] = {}
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
        said = lines[-1].get("stopping") if lines else None
        return len(lines) > self.rounds or bool(isinstance(said, Mapping) and said.get("stop"))

    def load(self) -> Splits:
        """The data, once it is sure that the run can be made with it.

        Raises:
            ConfigError: the parts do not fit each other, or nobody can answer.
            DataError: fewer rows than labels asked for.
        """
        splits: Splits = loaded(self.data)
        pool, oracle = splits.pool, self._oracle(splits)
        require_classes(pool.classes)
        for strategy in (self.strategy, self.baseline, self.cold_start):
            if strategy is not None:
                check_needs(strategy, self.learner, multilabel=pool.multilabel)
        check_candidates(as_candidates(self.candidates), self.learner)
        if self.loggers:
            check_loggers(self.loggers)
        if self.stop is not None:
            check_rule(self.stop, splits)
        if oracle.hides_labels and (splits.test is None or not bool(splits.test.known.any())):
            raise ConfigError("a simulated run is scored on a test set: give data.test a file, a split or a share")
        self._require_rows(pool, oracle)
        return splits

    def _require_rows(self, pool: Rows, oracle: Oracle) -> None:
        """Make sure that there are as many rows to ask as the run asks for."""
        fewer = "lower start, batch or rounds, or give more rows"
        if oracle.hides_labels:
            wanted = self.start + self.rounds * self.batch
            if len(pool) < wanted:
                raise DataError(
                    f"{pool.source} has {len(pool)} rows, fewer than the {wanted} labels asked for: {fewer}"
                )
            return
        given = int(pool.known.sum())
        wanted, left = self.rounds * self.batch + (0 if given else self.start), len(pool) - given
        if left >= wanted:
            return
        answerer = type(oracle).__name__
        if not left:
            raise DataError(
                f"all {len(pool)} rows of {pool.source} have a label already, and {answerer} is only asked for rows "
                f"without one: give rows without a label, hide the labels (hide_labels: true, where {answerer} has "
                "it), or leave out the oracle, so that the labels in the data are hidden and answer"
            )
        raise DataError(
            f"{pool.source} has {left} rows without a label, fewer than the {wanted} labels asked for of {answerer}: "
            f"{fewer}"
        )

    def _oracle(self, splits: Splits) -> Oracle:
        missing = int((~splits.pool.known).sum())
        hides = self.oracle is None or self.oracle.hides_labels
        if hides and missing:
            raise ConfigError(
                f"{missing} of {len(splits.pool)} rows of the pool have no label, so nobody can answer for them: give "
                "an oracle, or let a person answer with `dal ask` and `dal tell`"
            )
        return self.oracle or Simulated()

    def session(
        self,
        cell: Cell,
        folder: Path | None,
        *,
        simulated: bool = True,
        data: Any = None,
        monitor: Monitor = SILENT,
        prepared: dict[str, Prepared] | None = None,
    ) -> Session:
        """The session of a cell: the same for a run, a comparison and every command that opens its folder.

        Args:
            cell: the strategy and the seed.
            folder: of this cell; None keeps it in memory.
            simulated: whether the oracle answers, and so decides whether the labels in the data are hidden; false where
                a person is asked.
            data: from `load`; by default it is loaded now.
            monitor: watches long work.
            prepared: the parts that were made ready before.
        """
        return Session(
            self.data if data is None else data,
            self.learner,
            cell.strategy,
            folder=folder,
            seed=cell.seed,
            candidates=self.candidates,
            hide_labels=simulated and (self.oracle is None or self.oracle.hides_labels),
            budget=self.start + self.rounds * self.batch,
            save_model=self.save_model,
            monitor=monitor,
            prepared=prepared,
        )

    def ask(self, session: Session, n: int, *, weakly: bool = True, measured: bool = False) -> Tensor:
        """The next rows to label, (n,) int64: the first ones by weak labels or the cold start, where they are wanted.

        Args:
            session: from `session`.
            n: how many.
            weakly: begin with `weak_labels` where the experiment has them.
            measured: see `Session.ask`.
        """
        if weakly and self.weak_labels is not None and not session.round and not session.given:
            self.weak_labels.begin(session, n)
            return session.pending
        return session.ask(n, strategy=self.start_of(session), measured=measured)

    def run_cell(
        self,
        cell: Cell,
        folder: Path | None,
        splits: Splits,
        prepared: dict[str, Prepared],
        reporter: Quiet,
        check: InterruptCheck,
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
            write_config(folder, self._cell_config(cell), kind=CELL, ignored=MEASURED)
        monitor = reporter.monitor(check)
        with (
            self.session(cell, folder, data=splits, monitor=monitor, prepared=prepared) as session,
            following(self.loggers or (), folder, cell.name, session.metrics) as log,
        ):
            lines, given = self._lines(session), session.given
            if given and self.weak_labels is not None:
                reporter.say(UNUSED_WEAK_LABELS)
            for round in range(len(session.metrics), self.rounds + 1):
                check()
                asked = round + (0 if given else 1)  # batches that belong to the rounds up to this one
                if session.round < asked:
                    self._ask(session, round)
                let_answer(oracle, session, check)
                self._answered(session)
                batch = session.last_selection if asked and session.round == asked else None
                made = partial(lines.line, batch, round)
                common = first if round == 0 and oracle.hides_labels else None
                line = made() if common is None else common.line(session, made, check)
                line = lines.completed(line, batch)
                if self.is_over([*session.metrics, line]):
                    line |= lines.measures.at_end()
                log(line)  # a kill before it is stored repeats the round, and this
                session.record(line)
                reporter.round(session.metrics[-1])
                if self.is_over(session.metrics):
                    break
            return session.metrics

    def _lines(self, session: Session) -> "RoundLines":
        from dal.evaluation.cost import Prices
        from dal.experiments.round_measures import Measures
        from dal.experiments.round_record import RoundLines

        prices = Prices(self.price_per_label, self.price_per_hour, self.seconds_per_label)
        measures = Measures(session, pool_sample=self.pool_sample, distances=self.measure_distances, prices=prices)
        return RoundLines(session, measures, self.successor, self.stop, self.show_texts)

    def _ask(self, session: Session, round: int) -> None:
        weakly = self.common_start or session.strategy != self.baseline
        self.ask(session, self.start if round == 0 else self.batch, weakly=weakly, measured=True)

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
        """The report, rewritten unless the one that is there is of these very figures."""
        if folder is None or not self.report:
            return None
        if current and (folder / "report.html").exists():
            return folder / "report.html"
        from dal.report import write_report

        return Path(write_report(folder))


def sign(folder: Path, config: Mapping[str, Any], kind: str, reporter: Quiet) -> None:
    """Write what is run, and on what, into the folder, or make sure that it is the same as before.

    Raises:
        ConfigError: the folder holds something else.
    """
    kept = {key: value for key, value in config.items() if key not in FREE}
    write_config(folder, kept, kind=kind, ignored=(*FREE, *MEASURED))
    changed = record_environment(folder)
    if changed:
        reporter.say(
            f"{folder} was begun with other {', '.join(changed)}: nothing is lost or asked twice, but choices may "
            "differ from an uninterrupted run's"
        )
