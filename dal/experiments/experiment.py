"""Experiments: a strategy against a baseline over several seeds, answered by an oracle, resumable at any time."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from torch import Tensor

from dal.config.kinds import CELL, RUN
from dal.config.moved import accepts_old_attributes
from dal.config.stored import CONFIG, describe, write_config
from dal.data import Rows, Splits, TextData
from dal.errors import ConfigError, SessionError
from dal.evaluation.own_metrics import Metric, check_verdict_metric, load_metrics, objective_metrics
from dal.experiments.console import Console, Quiet, reading
from dal.experiments.experiment_checks import (
    check_labels_known,
    check_objectives,
    check_pool_size,
    check_settings,
    start_notes,
    with_objective,
)
from dal.experiments.folder_config import FREE, MEASURED, check_config, describe_data, describe_given
from dal.experiments.html_report import ReportWriter, html_report, verdict_sentences
from dal.experiments.interrupts import InterruptCheck, interruptible
from dal.experiments.loggers import check_loggers, open_loggers
from dal.experiments.results import Cell, Results
from dal.learner import SILENT, Learner, Monitor, Prepared
from dal.objective import Objective, as_objective, objective_name
from dal.oracle import Oracle
from dal.oracles.answering import answer_pending
from dal.oracles.simulated import Simulated
from dal.oracles.weak_labels import LLMWeakLabels
from dal.session.checked_arguments import check_needs, loaded, reads_trained, require_classes
from dal.session.session import Session
from dal.stopping.recorded_figures import check as check_rule
from dal.stopping.rule import StoppingRule
from dal.store.folder_lock import held
from dal.store.label_store import LabelStore
from dal.store.run_folder import check_folder, read_metrics
from dal.strategies.auto import Auto
from dal.strategies.candidates import Candidates, as_candidates, check_candidates
from dal.strategies.random import Random
from dal.strategy import Strategy, name_of

if TYPE_CHECKING:
    from dal.experiments.first_round import FirstRounds
    from dal.experiments.round_record import RoundLines

#: Message for an experiment with weak labels whose data has labels to start from.
UNUSED_WEAK_LABELS = "weak_labels is not used: the data has labels to start from"


@accepts_old_attributes
@dataclass(frozen=True)
class Experiment:
    """A strategy and a baseline over the same seeds: `start` labels, then up to `rounds` batches, scored on the test.

    Cells of the same seed share their random streams, so a random start has the same rows in both. With a `folder`,
    every query, answer and figure is on disk before the next step begins. Running again on the folder resumes the
    experiment with identical choices; a finished experiment is only read.

    Args:
        data: data set with a pool and a test part.
        learner: learner to train each round.
        strategy: query strategy.
        oracle: source of the answers; `None` for the labels in the data, which are then hidden from the run and must be
            complete.
        baseline: strategy to compare with; `None` for no comparison.
        cold_start: strategy for the first batch if `strategy` needs a trained model and nothing is labeled yet.
        weak_labels: language model that labels a share of the pool before the first query, instead of the cold start:
            confident labels are trained on, the other rows are queried first. In a run the baseline starts without
            them, so the report shows their effect; with a common start all cells start with them.
        common_start: whether the cold start selects the first batch of every strategy, so that all start with the same
            labels; `None` means no in a run and yes in a comparison.
        start: size of the first batch, at least 1. Skipped if the data has labels that the oracle does not hide.
        batch: size of each further batch, at least 1.
        rounds: maximum number of further batches.
        stop: stopping rule that ends a cell before its last round (`dal list stopping`); `None` for none.
        successor: another learner, trained on the same labels and scored on the test set, to test whether the labels
            transfer, or to choose with a cheap learner what an expensive one is trained on; `None` for none.
        successor_every: number of rounds between fits of the successor, from round 0 on and in the last round; 0 for
            the last round only.
        successor_sample: number of unasked rows, drawn at random, on which what the successor would choose next is
            compared with the choice of the learner whenever it is trained; 0 for none. Costs a pass over them.
        seeds: non-negative seeds, one run of strategy and baseline each.
        candidates: pool rows to score each round: a number of random rows, or a generator such as SEALS; `None` for
            all.
        recall_every: number k of rounds after which the recall of the candidates is measured again, from round 1 on:
            which share of the batch that a pass over the whole pool would have given they contain; 0 for never. Such a
            round costs that pass.
        folder: folder of the experiment; `None` keeps everything in memory.
        save_model: save the latest model of each cell.
        report: write `report.html` to the folder.
        show_texts: store the texts of the batches with the figures and show them in the report. Do not share the report
            then unless the texts may be shared.
        loggers: Lightning loggers that receive the figures of each round, with the number of labels as step: names such
            as TensorBoardLogger, alone or with options, or import paths; `None` for none.
        metrics: metrics of your own to record on the test set: functions of outputs and labels, as import paths
            (`my_package:cost`), short names of `dal list metrics`, or functions; `None` for none.
        metric: name of the metric of the report's verdict; `None` for the objective.
        objective: score that learners with this option, the verdict and stopping rules aim at, unless they say
            otherwise: a word such as macro_f1, or the keys recall_of and precision; `None` for the accuracy.
        pool_sample: number of unlabeled pool rows with a known hidden label to score each round; 0 for none.
        measure_distances: measure redundancy, novelty and coverage of each batch, and draw the map of the pool. Costs
            one pass of the pretrained encoder over the pool if nothing else reads embeddings.
        price_per_label: dollars for an answer without a stored cost; `None` if unknown.
        price_per_hour: dollars for an hour of annotation; `None` if unknown.
        seconds_per_label: seconds for an answer without a stored time; `None` if unknown.
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
    successor_every: int = 1
    successor_sample: int = 0
    seeds: list[int] = field(default_factory=lambda: [0])
    candidates: int | Candidates | None = None
    recall_every: int = 0
    folder: str | None = None
    save_model: bool = True
    report: bool = True
    show_texts: bool = False
    loggers: list[str | dict[str, Any]] | None = None
    metrics: list[Any] | None = None
    metric: str | None = None
    objective: Objective | None = None
    pool_sample: int = 1000
    measure_distances: bool = True
    price_per_label: float | None = None
    price_per_hour: float | None = None
    seconds_per_label: float | None = None
    quiet: bool = False

    def __post_init__(self) -> None:
        object.__setattr__(self, "objective", as_objective(self.objective))
        object.__setattr__(self, "seeds", check_settings(self))
        if self.objective is not None:
            object.__setattr__(self, "learner", with_objective(self.learner, self.objective))
            if self.successor is not None:
                object.__setattr__(self, "successor", with_objective(self.successor, self.objective))
            object.__setattr__(self, "metric", self.metric or objective_name(self.objective))

    @property
    def cells(self) -> list[Cell]:
        """The cells of the experiment, in order of execution."""
        name = name_of(self.strategy)
        strategies = [(name, self.strategy)]
        if self.baseline is not None and self.baseline != self.strategy:
            other = name_of(self.baseline)
            strategies.append((other if other != name else f"{other}-baseline", self.baseline))
        return [Cell(f"{name}-seed{seed}", strategy, seed) for seed in self.seeds for name, strategy in strategies]

    def run(
        self,
        *,
        config: Mapping[str, Any] | None = None,
        reporter: Quiet | None = None,
        write_report: ReportWriter = html_report,
    ) -> Results:
        """Run all cells, or read the finished ones from the folder.

        Args:
            config: content of `config.yaml`; by default `stored_config()`.
            reporter: reporter of the progress; by default the console, or none if `quiet`.
            write_report: writer of the report, which is called if the experiment has a folder and `report` is True.

        Raises:
            ConfigError: the folder holds another experiment, or the parts are incompatible.
            DataError: the data has fewer rows than the labels to ask for.
            BusyError: another process uses the folder.
            Interrupted: Ctrl-C was pressed.
        """
        reporter = reporter or (Quiet() if self.quiet else Console())
        with reporter:
            reporter.headline(self.metric or "accuracy")
            return self._run(config, reporter, write_report)

    def _run(self, config: Mapping[str, Any] | None, reporter: Quiet, write_report: ReportWriter) -> Results:
        folder = self._checked_folder()
        splits = None
        if folder is not None and not (folder / CONFIG).exists():
            reporter.stage(reading(self.data))
            splits = self.load()  # an invalid experiment is refused before anything is written
            self.check_rows(splits.pool)
        with held(folder), interruptible(folder) as check:
            if folder is not None:
                check_config(folder, dict(config or self.stored_config()), RUN, reporter)
            finished = folder is not None and all(
                self.is_finished(read_metrics(folder / cell.name)) for cell in self.cells
            )
            lines = self._run_cells(folder, reporter, check, splits)
            report = None
            if folder is not None and self.report:
                page = folder / "report.html"
                if not (finished and page.exists()):
                    reporter.stage("writing the report")
                report = page if finished and page.exists() else write_report(folder)
        reporter.summary(lines)
        if folder is not None and report is not None:
            reporter.say("\n".join(["", *verdict_sentences(folder), f"\nreport: {report}"]))
        return Results(lines, folder, report)

    def _checked_folder(self) -> Path | None:
        """The checked folder of the experiment; None in memory.

        Raises:
            ConfigError: it, or the folder of a cell, is not a folder and cannot be created.
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
        prepared: dict[str, Prepared] = {}
        lines = {cell.name: [] if folder is None else read_metrics(folder / cell.name) for cell in self.cells}
        left = [self.rounds + 1 - len(each) for each in lines.values() if not self.is_finished(each)]
        reporter.plan(sum(left), "rounds")
        if splits is None and left:
            reporter.stage(reading(self.data))
            splits = self.load()
        if splits is not None:
            for note in start_notes(self, splits):
                reporter.say(note)
        for cell in self.cells:
            cell_folder = None if folder is None else folder / cell.name
            reporter.cell(name_of(cell.strategy), cell.seed)
            for line in lines[cell.name]:
                reporter.stored(line)
            if splits is not None and not self.is_finished(lines[cell.name]):
                lines[cell.name] = self.run_cell(cell, cell_folder, splits, prepared, reporter, check)
        return lines

    def is_finished(self, lines: Sequence[Mapping[str, Any]]) -> bool:
        """Whether a cell has all its rounds, or was ended by the stopping rule."""
        verdict = lines[-1].get("stopping") if lines else None
        return len(lines) > self.rounds or bool(isinstance(verdict, Mapping) and verdict.get("stop"))

    def load(self) -> Splits:
        """Load the data, and check that the experiment can be run on it.

        Raises:
            ConfigError: the parts are incompatible, or a row has neither a label nor an oracle to answer.
            DataError: the data has fewer rows than the labels to ask for.
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
        check_objectives(self, pool)
        check_verdict_metric(self.metric, self.recorded_metrics(pool))
        if self.stop is not None:
            check_rule(self.stop, splits, self.learner, [each.name for each in self.recorded_metrics(pool)])
        if oracle.hides_labels and (splits.test is None or not bool(splits.test.known.any())):
            raise ConfigError("a simulated run is scored on a test set: give data.test a file, a split or a share")
        check_pool_size(self, pool, oracle)
        return splits

    def check_rows(self, pool: Rows) -> None:
        """Raise ConfigError or DataError if a learner cannot read the rows of the pool."""
        for learner in (self.learner, self.successor):
            if learner is not None:
                learner.check_rows(pool)

    def _oracle(self, splits: Splits) -> Oracle:
        if self.oracle is None or self.oracle.hides_labels:
            check_labels_known(splits.pool)
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
        store: LabelStore | None = None,
    ) -> Session:
        """Open the session of a cell, as runs, comparisons and commands do.

        Args:
            cell: strategy and seed.
            folder: folder of the cell; None keeps the session in memory.
            simulated: whether the oracle answers, and so decides whether the labels in the data are hidden; False for a
                human annotator.
            data: result of `load`; loaded by default.
            monitor: receives the progress of fits and passes.
            prepared: prepared parts of the data, by name.
            store: label store to read instead of the folder's; see `Session`.
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
            store=store,
            objective=self.objective,
            own_metrics=load_metrics(self.metrics or ()),
            recall_every=self.recall_every,
        )

    def ask(self, session: Session, n: int, *, use_weak_labels: bool = True, measured: bool = False) -> Tensor:
        """Select the next rows to label, (n,) int64. The first batch may come from `weak_labels` or the cold start.

        Args:
            session: session of a cell, from `session`.
            n: batch size.
            use_weak_labels: start with `weak_labels` if the experiment has them.
            measured: see `Session.ask`.
        """
        if use_weak_labels and self.weak_labels is not None and not session.round and not session.given:
            self.weak_labels.begin(session, n)
            return session.pending
        return session.ask(n, strategy=self.initial_strategy(session), measured=measured)

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
        """Run the remaining rounds of a cell and return the lines of all its rounds.

        Args:
            cell: strategy and seed.
            folder: folder of the cell; None keeps it in memory.
            splits: result of `load`.
            prepared: prepared parts of the data, shared between cells with the same data and learner.
            reporter: reporter of the progress.
            check: called between steps; raises to interrupt the run.
            first: store of the first rounds that cells of the same seed share; None to share none.
        """
        oracle = self._oracle(splits)
        if folder is not None:
            settings = {
                key: value for key, value in self.stored_config().items() if key not in (*FREE, "baseline", "seeds")
            }
            settings |= {"strategy": describe(cell.strategy), "seed": cell.seed}
            write_config(folder, settings, kind=CELL, ignored=MEASURED)
        monitor = reporter.monitor(check)
        with (
            self.session(cell, folder, data=splits, monitor=monitor, prepared=prepared) as session,
            open_loggers(self.loggers or (), folder, cell.name, session.metrics) as log,
        ):
            lines, given = self._lines(session), session.given
            if given and self.weak_labels is not None:
                reporter.say(UNUSED_WEAK_LABELS)
            for round in range(len(session.metrics), self.rounds + 1):
                check()
                asked = round + (0 if given else 1)  # batches that belong to the rounds up to this one
                if session.round < asked:
                    use_weak_labels = self.common_start or cell.strategy != self.baseline
                    self.ask(
                        session,
                        self.start if round == 0 else self.batch,
                        use_weak_labels=use_weak_labels,
                        measured=True,
                    )
                answer_pending(oracle, session, check)
                if len(session.pending):
                    raise SessionError(self._unanswered(oracle, len(session.pending), folder, session.metrics))
                batch = session.last_selection if asked and session.round == asked else None
                made = partial(lines.line, batch, round)
                common = first if round == 0 and oracle.hides_labels else None
                line = made() if common is None else common.line(session, made, check)
                line = lines.completed(line, batch)
                if self.is_finished([*session.metrics, line]):
                    line |= lines.at_end(line)
                log(line)  # before the record: after a kill in between, the round and this call are repeated
                session.record(line)
                reporter.round(session.metrics[-1])
                if self.is_finished(session.metrics):
                    reporter.parts_dropped(self.rounds + 1 - len(session.metrics))
                    break
            return session.metrics

    def _unanswered(self, oracle: Oracle, left: int, folder: Path | None, metrics: Sequence[object]) -> str:
        """Message about rows that the oracle left to a person."""
        name, rows = type(oracle).__name__, "1 row" if left == 1 else f"{left} rows"
        again = ""
        if folder is not None and not metrics:
            again = (
                f". {folder} keeps the answers so far: the same command resumes it, and a run with another oracle "
                "needs another folder (--folder), or this one deleted"
            )
        return (
            f"{name} leaves {rows} to a person, and this run has none: have it answer or SKIP every row; or make it "
            "one of the models of a Router, whose person answers what they leave (person: Simulated answers from the "
            f"labels in the data); or use `dal ask` and `dal tell` instead of `dal run`{again}"
        )

    def recorded_metrics(self, pool: Rows) -> tuple[Metric, ...]:
        """The metrics to record next to the built-in ones: those of the user, and that of the objective."""
        return (*load_metrics(self.metrics or ()), *objective_metrics(self.objective, pool.classes))

    def _lines(self, session: Session) -> "RoundLines":
        from dal.evaluation.cost import Prices
        from dal.experiments.round_measures import Measures
        from dal.experiments.round_record import RoundLines
        from dal.experiments.successor import Successor

        prices = Prices(self.price_per_label, self.price_per_hour, self.seconds_per_label)
        measures = Measures(
            session,
            pool_sample=self.pool_sample,
            distances=self.measure_distances,
            prices=prices,
            metrics=self.recorded_metrics(session.pool),
        )
        successor = None
        if self.successor is not None:
            successor = Successor(self.successor, self.successor_every, self.successor_sample, self.batch)
        return RoundLines(session, measures, successor, self.stop, self.show_texts)

    def initial_strategy(self, session: Session) -> Strategy | None:
        """The cold start if it applies, else None.

        It applies while nothing is labeled, with a common start or if the strategy needs a trained model.
        """
        cold = not len(session.labels) and (
            self.common_start or reads_trained(session.strategy.resolve(session.state), self.learner)
        )
        return self.cold_start if cold else None

    def stored_config(self) -> dict[str, Any]:
        """The content of `config.yaml`, with all defaults filled in."""
        config = describe_given(self)
        config["data"] = describe_data(self.data)
        return config
