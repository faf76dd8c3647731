"""Tolerant reader of run folders: damaged lines, missing files and unfinished cells do not make it fail."""

import functools
import itertools
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from dal.config.bounded_yaml import parse_yaml
from dal.errors import ConfigError, DataError, SessionError, shortened
from dal.evaluation import Curve, curve
from dal.evaluation.cost import LLM
from dal.evaluation.curves import LOWER_IS_BETTER, OWN_METRICS
from dal.objective import name_in_config
from dal.report.measures import METRICS, figure_of, spent
from dal.report.measures import number as is_number
from dal.store.bounded_json import parse_json
from dal.store.events import Event, Value
from dal.store.label_store import LabelStore
from dal.store.log_state import current_answers
from dal.store.proposals import Proposal
from dal.store.renamed_keys import MetricsLine
from dal.store.unread_answers import Unread

_CELL = re.compile(r"(?P<name>.+)-seed(?P<seed>\d+)")

Record = Mapping[str, Any]

#: Limits: bytes read of a config or environment, characters of a strategy's name, cells reported as not started.
MAX_TEXT, MAX_NAME, MAX_ABSENT = 1 << 20, 200, 1000


@dataclass(frozen=True)
class CellRecord:
    """One strategy with one seed.

    Attributes:
        name: name of the strategy in the folder name or the records.
        seed: the seed.
        records: the rounds of `metrics.jsonl`, each once, by number of labels (shared by rounds with a declined batch).
        given: current answer by row id, None for a declined row; empty without a label store.
        by: source of that answer by row id.
        proposals: proposals of the label store.
        unread: answers of models that could not be read.
        response_counts: number of rows that each model answered, readable or not.
        planned: number of evaluations in the config; None when unknown.
        folder: folder of the cell; None for a cell that has not started.
    """

    name: str
    seed: int
    records: tuple[Record, ...] = ()
    given: Mapping[str, str | None] = field(default_factory=dict)
    planned: int | None = None
    folder: Path | None = None
    by: Mapping[str, str] = field(default_factory=dict)
    proposals: tuple[Proposal, ...] = ()
    unread: tuple[Unread, ...] = ()
    response_counts: Mapping[str, int] = field(default_factory=dict)

    @property
    def status(self) -> str:
        """State of the cell in words."""
        done = len(self.records)
        if self.planned is None:
            return f"{done} evaluations"
        if not done:
            return "not started"
        if self.stopped:
            return f"stopped by its rule: {self.stopped}"
        return "finished" if done >= self.planned else f"unfinished: {done} of {self.planned} evaluations"

    @property
    def finished(self) -> bool:
        """Whether all planned evaluations exist or a stopping rule ended the cell; True when no plan is known."""
        return self.planned is None or len(self.records) >= self.planned or bool(self.stopped)

    @property
    def stopped(self) -> str:
        """Why a stopping rule ended the cell; empty when none did."""
        last = self.records[-1].get("stopping") if self.records else None
        if not isinstance(last, Mapping) or not last.get("stop"):
            return ""
        return shortened(str(last.get("text") or "its rule said so"), 500)

    def curve(self, metric: str) -> Curve:
        """Learning curve of a metric such as "accuracy" or "batch.novelty"."""
        return self._by_labels([figure_of(record, metric) for record in self.records])

    def costs(self, over: str) -> Curve:
        """Cumulative cost at each number of labels: dollars for "money", seconds for "time"."""
        return self._by_labels(spent(self.records, over))

    def _by_labels(self, values: Sequence[float | None]) -> Curve:
        labels = [record.get("labels") for record in self.records]
        return curve([{"labels": x, "value": y} for x, y in zip(labels, values, strict=True)], "value")

    @property
    def last(self) -> Record:
        """The last record; empty without any."""
        return self.records[-1] if self.records else {}


@dataclass(frozen=True)
class Run:
    """Contents of a run folder.

    Attributes:
        folder: the folder.
        cells: cells of the strategies in the order of the config, then of the baseline, by seed.
        baseline: name of the baseline among the cells; None without one.
        config: parsed `config.yaml`; empty when there is none.
        config_text: text of `config.yaml`.
        environment: parsed `environment.json`.
        remarks: messages about files that could not be read.
    """

    folder: Path
    cells: tuple[CellRecord, ...]
    baseline: str | None
    config: Mapping[str, Any]
    config_text: str
    environment: Mapping[str, Any]
    remarks: tuple[str, ...]

    @property
    def strategies(self) -> tuple[str, ...]:
        """The names among the cells in the order of the config, the baseline last."""
        return tuple(dict.fromkeys(cell.name for cell in self.cells))

    @property
    def challengers(self) -> tuple[str, ...]:
        """The strategies that are not the baseline."""
        return tuple(name for name in self.strategies if name != self.baseline)

    @property
    def finished(self) -> bool:
        """Whether every cell is finished."""
        return all(cell.finished for cell in self.cells)

    @functools.cached_property
    def own_metrics(self) -> tuple[str, ...]:
        """Keys of the user's own metrics, such as "own_metrics.cost", in order of first occurrence."""
        tables = [r.get(OWN_METRICS) for cell in self.cells for r in cell.records]
        names = dict.fromkeys(name for table in tables if isinstance(table, Mapping) for name in table)
        objective = name_in_config(self.config)
        kept = [name for name in names if name.isidentifier() or name == objective]
        return tuple(f"{OWN_METRICS}.{name}" for name in kept if len(name) <= MAX_NAME)

    @property
    def measured(self) -> tuple[str, ...]:
        """Keys of the metrics with a score in a record, the user's own last."""
        keys = (*METRICS, *self.own_metrics)
        return tuple(key for key in keys if any(self.curves(name, key) for name in self.strategies))

    @property
    def metric(self) -> str | None:
        """Key of the metric that the config names for the verdict, else that of its objective.

        None where it names none that was recorded.
        """
        name = self.config.get("metric") or name_in_config(self.config)
        known = {key.removeprefix(f"{OWN_METRICS}."): key for key in (*METRICS, *self.own_metrics)}
        return known.get(name) if isinstance(name, str) else None

    def lower_is_better(self, metric: str) -> bool:
        """Whether lower values of a metric are better."""
        if metric not in self.own_metrics:
            return metric in LOWER_IS_BETTER
        lower = [cell.last.get("lower_is_better") for cell in self.cells]
        return any(metric.removeprefix(f"{OWN_METRICS}.") in names for names in lower if isinstance(names, list))

    def of(self, name: str) -> tuple[CellRecord, ...]:
        """The cells of one strategy, by seed."""
        return tuple(cell for cell in self.cells if cell.name == name)

    def curves(self, name: str, metric: str) -> dict[int, Curve]:
        """Non-empty learning curves of one strategy, by seed."""
        curves = {cell.seed: cell.curve(metric) for cell in self.of(name)}
        return {seed: c for seed, c in curves.items() if len(c)}

    def title(self, name: str) -> str:
        """The strategy's name; for a schedule, followed by the strategies that acted for it.

        A strategy that acts itself is not a schedule, even if a cold start selected its first batch.
        """
        acting = [
            [shortened(r["acting_strategy"], MAX_NAME) for r in c.records if isinstance(r.get("acting_strategy"), str)]
            for c in self.of(name)
        ]
        later = {a for each in acting for a in each[1:]}
        distinct = dict.fromkeys(a for each in acting for a in each)
        return f"{name} ({', then '.join(distinct)})" if later and name not in later else name


def sources_of(cell: CellRecord) -> Mapping[str, Record]:
    """Totals of each source of answers at the last record; empty when not recorded."""
    sources = cell.last.get("sources")
    items = sources.items() if isinstance(sources, Mapping) else ()
    return {str(name): totals for name, totals in items if isinstance(totals, Mapping)}


def read(folder: Path | str, metric: str | None = None) -> Run:
    """Read the run in a folder of an experiment, with one folder per cell, or of a single cell.

    Args:
        folder: the folder.
        metric: name of the metric of the verdict, in place of that of the config.

    Raises:
        ConfigError: no record of the folder has the metric.
        DataError: there is no `metrics.jsonl` in the folder or its subfolders.
    """
    folder = Path(folder)
    remarks: list[str] = []
    config_text = _text(folder / "config.yaml")
    config = _config(config_text, remarks)
    if metric is not None:
        config = {**config, "metric": metric}
    single = (folder / "metrics.jsonl").is_file()
    paths = () if single else folder.glob("*/metrics.jsonl")
    folders = [folder] if single else sorted(path.parent for path in paths if path.is_file())
    if not folders:
        raise DataError(f"{folder} is not a run folder: there is no metrics.jsonl in it or in a folder of it")
    rounds = config.get("rounds")
    planned = rounds + 1 if is_number(rounds) and isinstance(rounds, int) else None  # the start and the rounds
    cells = [_cell(path, planned, remarks) for path in folders]
    strategy, baseline = title(config.get("strategy")), title(config.get("baseline", "Random"))
    if baseline == strategy and baseline is not None:
        baseline = f"{baseline}-baseline"  # as named by the experiment when only the options differ
    others = {cell.name for cell in cells} - {baseline}
    if len(others) == 1:
        (strategy,) = others  # a strategy may have a custom title, which is not in the config
    if not single and "baseline" in config:
        compared = config.get("strategies")
        listed = list(compared) if isinstance(compared, Mapping) else [strategy, baseline]
        promised = [shortened(str(n), MAX_NAME) for n in listed if n and not str(n).endswith("-baseline")]
        cells += _absent(cells, promised, config.get("seeds"), planned)
    names = {cell.name for cell in cells}
    baseline = baseline if baseline in names and len(names) > 1 else None
    compared = config.get("strategies")
    order = [shortened(str(name), MAX_NAME) for name in compared] if isinstance(compared, Mapping) else []
    places = {name: place for place, name in enumerate(order)}
    cells.sort(
        key=lambda cell: (
            cell.name == baseline,
            cell.name != strategy,
            places.get(cell.name, len(places)),
            cell.name,
            cell.seed,
        )
    )
    environment = _environment(_text(folder / "environment.json"), remarks)
    run = Run(folder, tuple(cells), baseline, config, config_text, environment, tuple(remarks))
    if metric is not None and run.metric not in run.measured:
        measured = ", ".join(key.removeprefix(f"{OWN_METRICS}.") for key in run.measured) or "none"
        raise ConfigError(f"{folder} has no scores named {shortened(metric)}: its metrics are {measured}")
    return run


def title(value: object) -> str | None:
    """Title of the strategy in a config value: its class, or the parts of a schedule."""
    name = class_name(value)
    if name == "Phases" and isinstance(value, Mapping):
        options = value.get("init_args", value.get(name))
        if isinstance(options, Mapping):
            return "+".join(title(options.get(part)) or "?" for part in ("first", "then"))
    return name


def class_name(value: object) -> str | None:
    """Class name in a config value, without its module: from a short name, an import path or a `class_path`."""
    if isinstance(value, Mapping):
        value = value.get("class_path", next(iter(value), None) if len(value) == 1 else None)
    return shortened(value.rsplit(".", 1)[-1], MAX_NAME) if isinstance(value, str) and value else None


def options(value: object) -> Mapping[str, Any]:
    """Options of a config value, in either notation; empty without any."""
    if not isinstance(value, Mapping):
        return {}
    given = value.get("init_args") if "class_path" in value else next(iter(value.values()), None)
    return given if isinstance(given, Mapping) else {}


def _text(path: Path, most: int = MAX_TEXT) -> str:
    """Text of a file, at most `most` bytes plus one; empty when it cannot be read."""
    try:
        if not path.is_file():
            return ""
        with path.open("rb") as file:
            return file.read(most + 1).decode("utf-8", "replace")  # one more byte: the parser rejects longer files
    except OSError:
        return ""


def _config(text: str, remarks: list[str]) -> Mapping[str, Any]:
    try:
        config = parse_yaml(text)
    except ValueError as error:
        remarks.append(f"config.yaml is not valid YAML; its text is shown ({shortened(str(error), 200)}).")
        return {}
    return config if isinstance(config, Mapping) else {}


def _environment(text: str, remarks: list[str]) -> Mapping[str, Any]:
    try:
        environment = parse_json(text) if text else {}
    except ValueError:
        remarks.append("environment.json could not be read.")
        return {}
    return environment if isinstance(environment, Mapping) else {}


def _absent(cells: Sequence[CellRecord], names: Sequence[str], seeds: object, planned: int | None) -> list[CellRecord]:
    """Cells of the config that have not started."""
    if not isinstance(seeds, Sequence) or isinstance(seeds, str):
        return []
    present = {(cell.name, cell.seed) for cell in cells}
    whole = [seed for seed in seeds if isinstance(seed, int) and not isinstance(seed, bool) and abs(seed) < 10**18]
    promised = itertools.islice(itertools.product(dict.fromkeys(names), dict.fromkeys(whole)), MAX_ABSENT)
    return [CellRecord(name, seed, planned=planned) for name, seed in promised if (name, seed) not in present]


def _cell(folder: Path, planned: int | None, remarks: list[str]) -> CellRecord:
    records, torn = _records(folder / "metrics.jsonl")
    if torn:
        lines = "1 line" if torn == 1 else f"{torn} lines"
        verb = "was" if torn == 1 else "were"
        remarks.append(f"{lines} of {folder.name}/metrics.jsonl could not be read and {verb} left out.")
    last = records[-1] if records else {}
    named = _CELL.fullmatch(folder.name)
    name = named["name"] if named else shortened(str(last.get("strategy") or folder.name), MAX_NAME)
    seed = int(named["seed"][:18]) if named else last.get("seed")
    stored = _answers(folder / "labels.db", remarks)
    return CellRecord(name, seed if isinstance(seed, int) else 0, records, planned=planned, folder=folder, **stored)


def _records(path: Path) -> tuple[tuple[Record, ...], int]:
    """Records by number of labels (the last of several of one round), and the number of unreadable lines."""
    rounds: dict[tuple[float, float], Record] = {}
    torn = 0
    try:
        text = path.read_text(encoding="utf-8", errors="replace")
    except OSError as error:
        raise DataError(f"{path} cannot be read: {error.strerror}") from error
    for number, line in enumerate(text.split("\n")):
        if not line.strip():
            continue
        try:
            record = parse_json(line)
        except ValueError:
            record = None
        if not isinstance(record, Mapping):
            torn += 1
            continue
        labels, round = record.get("labels"), record.get("round")
        # A batch that is declined altogether is a round of its own with the labels of the round before.
        key = (labels, round if is_number(round) else 0) if is_number(labels) else (float("inf"), number)
        rounds[key] = MetricsLine(record)
    return tuple(rounds[key] for key in sorted(rounds)), torn


def _answers(path: Path, remarks: list[str]) -> dict[str, Any]:
    """Current answers and proposals of a cell's label store, by the attribute names of `CellRecord`."""
    if not path.is_file():
        return {}
    try:
        with LabelStore(path) as store:
            events, proposals, unread = list(store.events()), tuple(store.proposals), tuple(store.unread)
    except (SessionError, OSError) as error:
        remarks.append(f"The answers of {path.parent.name} could not be read: {error}")
        return {}
    current = current_answers(events)
    return {
        "given": {row: _written(event.value) for row, event in current.items()},
        "by": {row: event.source or "person" for row, event in current.items()},
        "proposals": proposals,
        "unread": unread,
        "response_counts": _response_counts(events, proposals, unread),
    }


def _response_counts(
    events: Sequence[Event], proposals: Sequence[Proposal], unread: Sequence[Unread]
) -> dict[str, int]:
    """Number of rows that each model responded to."""
    own = [event for event in events if event.source == LLM and event.kind in ("answered", "skipped")]
    responses = [(each.who or "", each.row) for each in own]
    responses += [(each.who, each.row) for each in proposals] + [(each.who, each.row) for each in unread]
    rows: dict[str, set[str]] = {}
    for who, row in responses:
        rows.setdefault(who, set()).add(row)
    return {who: len(answered) for who, answered in rows.items()}


def _written(value: Value | None) -> str | None:
    return value if value is None or isinstance(value, str) else ", ".join(value) or "(none of them)"
