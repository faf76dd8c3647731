"""What a run folder holds, read with care: a torn line, a missing file or an unfinished cell is no reason to fail."""

import itertools
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from dal.config.bounded_yaml import parse_yaml
from dal.errors import DataError, SessionError, shortened
from dal.evaluation import Curve, curve
from dal.evaluation.cost import MACHINE
from dal.report.measures import figure_of, spent
from dal.report.measures import number as is_number
from dal.store.bounded_json import parse_json
from dal.store.events import Event, Value, standing
from dal.store.label_store import LabelStore
from dal.store.proposals import Proposal
from dal.store.unread_answers import Unread

_CELL = re.compile(r"(?P<name>.+)-seed(?P<seed>\d+)")

Record = Mapping[str, Any]

#: Characters of a config and an environment that are read, of a strategy's name, and cells that are told as not begun.
MAX_TEXT, MAX_NAME, MAX_ABSENT = 1 << 20, 200, 1000


@dataclass(frozen=True)
class CellRecord:
    """One strategy with one seed.

    Attributes:
        name: the strategy as the folder or the records name it.
        seed: the seed.
        records: the rounds of `metrics.jsonl`, each once, by number of labels.
        given: row id -> the answer that stands, None for a row that was declined; empty without a label store.
        by: row id -> the source of that answer.
        proposals: what was said next to the answers.
        unread: answers of machines that could not be read.
        heard: machine -> how many rows it gave an answer to, readable or not.
        planned: how many evaluations the config asks for, None when unknown.
        folder: where it lies; None for one that nobody has begun.
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
    heard: Mapping[str, int] = field(default_factory=dict)

    @property
    def status(self) -> str:
        """Whether the cell is finished, in words for a person."""
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
        """Whether all that was planned is there, or a rule ended it; True when no plan is known."""
        return self.planned is None or len(self.records) >= self.planned or bool(self.stopped)

    @property
    def stopped(self) -> str:
        """Why a stopping rule ended the cell; empty when none did."""
        last = self.records[-1].get("stopping") if self.records else None
        return (
            shortened(str(last.get("text") or "its rule said so"), 500)
            if isinstance(last, Mapping) and last.get("stop")
            else ""
        )

    def curve(self, metric: str) -> Curve:
        """The learning curve of a metric such as "accuracy" or "batch.novelty"."""
        return self._by_labels([figure_of(record, metric) for record in self.records])

    def costs(self, over: str) -> Curve:
        """What had been spent with each number of labels: dollars for "money", seconds for "time"."""
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
    """A run folder: one or many cells, and what they were made from.

    Attributes:
        folder: where it lies.
        cells: of the strategies first, of the baseline last, by seed.
        baseline: the name of the baseline among the cells, None without one.
        config: `config.yaml`, parsed; empty when there is none.
        config_text: the same as it is written.
        environment: `environment.json`.
        remarks: what could not be read, for the reader to know.
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
        """The names among the cells, the baseline last."""
        return tuple(dict.fromkeys(cell.name for cell in self.cells))

    @property
    def challengers(self) -> tuple[str, ...]:
        """The strategies that are not the baseline."""
        return tuple(name for name in self.strategies if name != self.baseline)

    @property
    def finished(self) -> bool:
        """Whether every cell is."""
        return all(cell.finished for cell in self.cells)

    def of(self, name: str) -> tuple[CellRecord, ...]:
        """The cells of one strategy, by seed."""
        return tuple(cell for cell in self.cells if cell.name == name)

    def curves(self, name: str, metric: str) -> dict[int, Curve]:
        """Seed -> learning curve, of the cells of one strategy that have any."""
        curves = {cell.seed: cell.curve(metric) for cell in self.of(name)}
        return {seed: c for seed, c in curves.items() if len(c)}

    def title(self, name: str) -> str:
        """The strategy's name, with those that acted for it when it is a schedule.

        A strategy that acts itself is none, though a cold start may have chosen its first batch.
        """
        acting = [
            [shortened(r["acting"], MAX_NAME) for r in c.records if isinstance(r.get("acting"), str)]
            for c in self.of(name)
        ]
        later = {a for each in acting for a in each[1:]}
        distinct = dict.fromkeys(a for each in acting for a in each)
        return f"{name} ({', then '.join(distinct)})" if later and name not in later else name


def sources_of(cell: CellRecord) -> Mapping[str, Record]:
    """Source -> what its answers came to at the end; empty where the records do not say."""
    sources = cell.last.get("sources")
    found = sources.items() if isinstance(sources, Mapping) else ()
    return {str(name): said for name, said in found if isinstance(said, Mapping)}


def read(folder: Path | str) -> Run:
    """The run in `folder`: that of an experiment, with one folder per cell, or that of a single cell.

    Raises:
        DataError: the folder holds no `metrics.jsonl`, neither itself nor in a folder of its own.
    """
    folder = Path(folder)
    remarks: list[str] = []
    config_text = _text(folder / "config.yaml")
    config = _config(config_text, remarks)
    single = (folder / "metrics.jsonl").is_file()
    found = () if single else folder.glob("*/metrics.jsonl")
    folders = [folder] if single else sorted(path.parent for path in found if path.is_file())
    if not folders:
        raise DataError(f"{folder} is not a run folder: there is no metrics.jsonl in it or in a folder of it")
    planned = _planned(config)
    cells = [_cell(path, planned, remarks) for path in folders]
    strategy, baseline = title(config.get("strategy")), title(config.get("baseline", "Random"))
    if baseline == strategy and baseline is not None:
        baseline = f"{baseline}-baseline"  # as the experiment calls it, when it differs in its options alone
    others = {cell.name for cell in cells} - {baseline}
    if len(others) == 1:
        (strategy,) = others  # a strategy may have a title of its own, which the config does not tell
    if not single and "baseline" in config:
        compared = config.get("strategies")
        listed = list(compared) if isinstance(compared, Mapping) else [strategy, baseline]
        promised = [shortened(str(n), MAX_NAME) for n in listed if n and not str(n).endswith("-baseline")]
        cells += _absent(cells, promised, config.get("seeds"), planned)
    names = {cell.name for cell in cells}
    baseline = baseline if baseline in names and len(names) > 1 else None
    cells.sort(key=lambda cell: (cell.name == baseline, cell.name != strategy, cell.name, cell.seed))
    environment = _environment(_text(folder / "environment.json"), remarks)
    return Run(folder, tuple(cells), baseline, config, config_text, environment, tuple(remarks))


def title(value: object) -> str | None:
    """What the strategy that a config value describes is called: its class, or the parts of a schedule."""
    name = class_name(value)
    if name == "Phases" and isinstance(value, Mapping):
        options = value.get("init_args", value.get(name))
        if isinstance(options, Mapping):
            return "+".join(title(options.get(part)) or "?" for part in ("first", "then"))
    return name


def class_name(value: object) -> str | None:
    """The class that a config value names, without its module: a short name, an import path or a `class_path`."""
    if isinstance(value, Mapping):
        value = value.get("class_path", next(iter(value), None) if len(value) == 1 else None)
    return shortened(value.rsplit(".", 1)[-1], MAX_NAME) if isinstance(value, str) and value else None


def options(value: object) -> Mapping[str, Any]:
    """The options of a config value, in whichever of the forms it is written; empty without any."""
    if not isinstance(value, Mapping):
        return {}
    given = value.get("init_args") if "class_path" in value else next(iter(value.values()), None)
    return given if isinstance(given, Mapping) else {}


def _text(path: Path, most: int = MAX_TEXT) -> str:
    """What a file says, as far as it is read; nothing without a file that can be."""
    try:
        if not path.is_file():
            return ""
        with path.open("rb") as file:
            return file.read(most + 1).decode("utf-8", "replace")  # one more, so that a parser sees what is too long
    except OSError:
        return ""


def _config(text: str, remarks: list[str]) -> Mapping[str, Any]:
    try:
        config = parse_yaml(text)
    except ValueError as error:
        remarks.append(f"config.yaml is not valid YAML; it is shown as it stands ({shortened(str(error), 200)}).")
        return {}
    return config if isinstance(config, Mapping) else {}


def _environment(text: str, remarks: list[str]) -> Mapping[str, Any]:
    try:
        environment = parse_json(text) if text else {}
    except ValueError:
        remarks.append("environment.json could not be read.")
        return {}
    return environment if isinstance(environment, Mapping) else {}


def _planned(config: Mapping[str, Any]) -> int | None:
    rounds = config.get("rounds")
    return rounds + 1 if is_number(rounds) and isinstance(rounds, int) else None


def _absent(cells: Sequence[CellRecord], names: Sequence[str], seeds: object, planned: int | None) -> list[CellRecord]:
    """The cells that the config promises and nobody has begun."""
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
        remarks.append(f"{lines} of {folder.name}/metrics.jsonl could not be read and {_was(torn)} left out.")
    last = records[-1] if records else {}
    named = _CELL.fullmatch(folder.name)
    name = named["name"] if named else shortened(str(last.get("strategy") or folder.name), MAX_NAME)
    seed = int(named["seed"][:18]) if named else last.get("seed")
    stored = _answers(folder / "labels.db", remarks)
    return CellRecord(name, seed if isinstance(seed, int) else 0, records, planned=planned, folder=folder, **stored)


def _was(count: int) -> str:
    return "was" if count == 1 else "were"


def _records(path: Path) -> tuple[tuple[Record, ...], int]:
    """The rounds by number of labels, the later of two with the same, and how many lines could not be read."""
    rounds: dict[tuple[float, int], Record] = {}
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
        labels = record.get("labels")
        key = (labels, 0) if is_number(labels) else (float("inf"), number)
        rounds[key] = record
    return tuple(rounds[key] for key in sorted(rounds)), torn


def _answers(path: Path, remarks: list[str]) -> dict[str, Any]:
    """What a cell's label store holds, by the names of `CellRecord`: answers that stand, and proposals."""
    if not path.is_file():
        return {}
    try:
        with LabelStore(path) as store:
            events, proposals, unread = list(store.events()), tuple(store.proposals), tuple(store.unread)
    except (SessionError, OSError) as error:
        remarks.append(f"The answers of {path.parent.name} could not be read: {error}")
        return {}
    stand = standing(events)
    return {
        "given": {row: _written(event.value) for row, event in stand.items()},
        "by": {row: event.source or "person" for row, event in stand.items()},
        "proposals": proposals,
        "unread": unread,
        "heard": _heard(events, proposals, unread),
    }


def _heard(events: Sequence[Event], proposals: Sequence[Proposal], unread: Sequence[Unread]) -> dict[str, int]:
    """Machine -> how many rows it said something of."""
    told = [event for event in events if event.source == MACHINE and event.kind in ("answered", "skipped")]
    said = [(each.who or "", each.row) for each in told]
    said += [(each.who, each.row) for each in proposals] + [(each.who, each.row) for each in unread]
    rows: dict[str, set[str]] = {}
    for who, row in said:
        rows.setdefault(who, set()).add(row)
    return {who: len(those) for who, those in rows.items()}


def _written(value: Value | None) -> str | None:
    return value if value is None or isinstance(value, str) else ", ".join(value) or "(none of them)"
