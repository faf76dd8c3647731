"""The report of a run: one HTML file that opens from disk, and its main picture."""

import functools
import math
import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined, Template
from markupsafe import Markup

from dal.durable import write_whole
from dal.evaluation import Comparison
from dal.report.png import png
from dal.report.reading import Cell, Record, Run, class_name, read
from dal.report.series import MAX_WITH_SEEDS, Series
from dal.report.svg import STYLE, svg
from dal.report.verdict import METRICS, Verdict, comparisons, count, trust, verdicts
from dal.reporter import duration

#: More chosen rows than this are left to `metrics.jsonl`, so that the page stays light.
MAX_ROWS = 5_000

_PLOTTED = ("accuracy", "macro_f1", "log_loss")
_TABLED = ("accuracy", "macro_f1", "log_loss", "ece")
_SECONDS = (("fit_seconds", "fit"), ("pass_seconds", "pass"), ("select_seconds", "selection"))
_MISSING = "–"


def write_report(folder: Path | str) -> Path:
    """The path of `report.html`, written into `folder` beside `learning_curve.png` and `learning_curve.svg`.

    The page is self-contained: it opens from disk without a network and runs no script. Each file is written whole or
    not at all, so that a report can be renewed while somebody reads it, and during a run, too: what is unfinished is
    shown as such. Texts of the pool appear only where the config says `show_texts: true` and the records hold them.

    Args:
        folder: of an experiment (one folder `<Strategy>-seed<k>` for each cell), or of a single cell.

    Raises:
        DataError: there is no `metrics.jsonl` in it or in a folder of it.
    """
    run = read(folder)
    shown = next((metric for metric in _PLOTTED if any(run.curves(name, metric) for name in run.strategies)), None)
    said = verdicts(run, shown or "accuracy")
    saving = None if shown is None else _best(run, shown, said)
    if shown is not None:
        series = _series(run, shown)
        note = _band_words(series)
        figure = svg(
            series, METRICS[shown], name="curve", width=720, height=420, note=note, saving=saving, standalone=True
        )
        write_whole(run.folder / "learning_curve.svg", _encodable(str(figure)))
        _write_bytes(run.folder / "learning_curve.png", png(series, METRICS[shown], note=note, saving=saving))
    page = run.folder / "report.html"
    write_whole(page, _encodable(_render(run, shown, said, saving)))
    return page


def _encodable(text: str) -> str:
    """The text without lone surrogates, which JSON can hold and UTF-8 cannot."""
    return text.encode("utf-8", "replace").decode("utf-8")


def _write_bytes(path: Path, content: bytes) -> None:
    partial = path.with_name(f".{path.name}.{os.getpid()}")
    partial.write_bytes(content)
    partial.replace(path)


@functools.cache
def _template() -> Template:
    environment = Environment(
        loader=FileSystemLoader(Path(__file__).parent),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters.update(figure=_figure, seconds=_seconds, signed=_signed, whole=_whole)
    return environment.get_template("report.html")


def _render(run: Run, shown: str | None, said: Sequence[Verdict], saving: Comparison | None) -> str:
    metric = shown or "accuracy"
    return _template().render(
        run=run,
        title=_title(run),
        facts=_facts(run),
        verdicts=said,
        trust=trust(run, metric),
        hero=_hero(run, metric, saving) if shown else None,
        plots=[_plot(run, other) for other in _PLOTTED if other != shown and _measured(run, other)],
        spread=_spread_words(run, metric),
        reach=_reach(run),
        averages=[_Average.of(run, name) for name in run.strategies],
        metrics={name: METRICS[name] for name in _TABLED},
        timings=dict(_SECONDS),
        choices=_choices(run),
        max_rows=MAX_ROWS,
        show_texts=run.config.get("show_texts") is True,
        environment=list(_flat(run.environment)),
        plot_style=Markup(STYLE),
    )


# -- what is said at the top ---------------------------------------------------------------------------------------


def _title(run: Run) -> str:
    names = list(run.challengers) or list(run.strategies)
    ours = names[0] if len(names) == 1 else ", ".join(names[:-1]) + " and " + names[-1]
    return f"{ours} against {run.baseline}" if run.baseline else ours


def _facts(run: Run) -> list[tuple[str, str]]:
    """A few words on what was run, where they are known."""
    facts = []
    data, learner = run.config.get("data"), run.config.get("learner")
    path = data.get("path", data.get("init_args", {}).get("path")) if isinstance(data, Mapping) else data
    if isinstance(path, str):
        facts.append(("Data", path))
    if class_name(learner):
        options = learner.get("init_args", {}) if isinstance(learner, Mapping) else {}
        model = options.get("model") if isinstance(options, Mapping) else None
        facts.append(("Learner", f"{class_name(learner)}, {model}" if model else str(class_name(learner))))
    labels = [r["labels"] for c in run.cells for r in c.records if _number(r.get("labels"))]
    if labels:
        facts.append(("Labels", f"{min(labels)} to {max(labels)}" if min(labels) < max(labels) else str(labels[0])))
    seeds = sorted({cell.seed for cell in run.cells})
    facts.append(("Seeds", ", ".join(map(str, seeds)) if len(seeds) <= 6 else f"{len(seeds)}"))
    spent = sum(r[key] for c in run.cells for r in c.records for key, _ in _SECONDS if _number(r.get(key)))
    if spent:
        facts.append(("Computing", duration(spent)))
    return facts


# -- plots ---------------------------------------------------------------------------------------------------------


def _series(run: Run, metric: str) -> list[Series]:
    colors = _colors(run)
    return [Series(n, tuple(run.curves(n, metric).values()), colors.get(n)) for n in run.strategies]


def _colors(run: Run) -> dict[str, int]:
    return {name: i for i, name in enumerate(run.challengers)}


def _best(run: Run, metric: str, said: Sequence[Verdict]) -> Comparison | None:
    """The comparison to draw: only one that was won, and only when there is no second one to confuse it with."""
    results = list(comparisons(run, metric).values())
    return results[0] if len(results) == 1 and said[0].kind == "better" else None


def _measured(run: Run, metric: str) -> bool:
    return any(run.curves(name, metric) for name in run.strategies)


def _plot(run: Run, metric: str) -> Markup:
    return svg(_series(run, metric), _axis(metric), name=f"plot-{metric}")


def _hero(run: Run, metric: str, saving: Comparison | None) -> tuple[Markup, Markup]:
    """The main plot for a wide page and for a narrow one."""
    series = _series(run, metric)
    wide = svg(series, _axis(metric), name="wide", width=860, height=420, saving=saving)
    return wide, svg(series, _axis(metric), name="narrow", width=380, height=340, saving=saving)


def _axis(metric: str) -> str:
    return METRICS[metric] + (" (nats, lower is better)" if metric == "log_loss" else "")


def _band_words(series: Sequence[Series]) -> str:
    seeds = max((s.band.seeds for s in series), default=0)
    return f"mean of {seeds} seeds, band from lowest to highest" if seeds > 1 else "one seed"


def _spread_words(run: Run, metric: str) -> str:
    seeds = max((len(run.curves(name, metric)) for name in run.strategies), default=0)
    if seeds < 2:
        return "One seed, so there is no spread to show."
    each = ", thin lines the single seeds" if len(run.strategies) <= MAX_WITH_SEEDS else ""
    return (
        f"Thick lines are means over {count(seeds)} seeds{each}; the bands reach from the lowest seed to the highest."
    )


# -- tables --------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class _Reach:
    """One line of the table of labels needed."""

    name: str
    metric: str
    result: Comparison

    @property
    def per_seed(self) -> str:
        """What each seed needed, or from what to what when there are many."""
        found = dict(zip(self.result.seeds, self.result.needed_per_seed, strict=True))
        if len(found) <= 3:
            words = {seed: "never" if needed is None else f"{needed:.0f}" for seed, needed in found.items()}
            return ", ".join(f"{needed} (seed {seed})" for seed, needed in words.items())
        reached = [needed for needed in found.values() if needed is not None]
        if not reached:
            return f"never in {len(found)} seeds"
        return f"{min(reached):.0f} to {max(reached):.0f} in {len(reached)} of {len(found)} seeds"


def _reach(run: Run) -> list[_Reach]:
    results = [(metric, comparisons(run, metric)) for metric in _PLOTTED]
    return [_Reach(name, METRICS[metric], result) for metric, found in results for name, result in found.items()]


@dataclass(frozen=True)
class _Average:
    """The rounds of one strategy, averaged over its seeds, and its cells."""

    name: str
    title: str
    color: str
    rounds: list[dict[str, float | None]]
    cells: tuple[Cell, ...]

    @classmethod
    def of(cls, run: Run, name: str) -> "_Average":
        cells = run.of(name)
        longest = max((len(cell.records) for cell in cells), default=0)
        keys = ("labels", *_TABLED, *(key for key, _ in _SECONDS))
        rounds: list[dict[str, float | None]] = []
        for i in range(longest):
            records = [cell.records[i] for cell in cells if i < len(cell.records)]
            means = {key: _mean(record.get(key) for record in records) for key in keys}
            rounds.append({**means, "seeds": float(len(records))})
        color = Series(name, (), _colors(run).get(name)).variable
        return cls(name, run.title(name), color, rounds, cells)


def _mean(values: Iterable[object]) -> float | None:
    numbers = [float(value) for value in values if _number(value)]  # type: ignore[arg-type]
    return sum(numbers) / len(numbers) if numbers else None


def _number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)


# -- the rows that were chosen -------------------------------------------------------------------------------------


@dataclass(frozen=True)
class _Row:
    id: str
    score: object
    label: str
    text: str


@dataclass(frozen=True)
class _Choice:
    """The batch of one round: its rows, and what was said of it."""

    seed: int
    round: int
    labels: object
    acting: str
    notes: list[tuple[str, str]]
    rows: list[_Row]
    left_out: int


def _choices(run: Run) -> list[tuple[str, list[_Choice]]]:
    """For each strategy, what it chose in every round of every seed."""
    texts = run.config.get("show_texts") is True
    room = MAX_ROWS
    choices: dict[str, list[_Choice]] = {}
    for cell in run.cells:
        for record in cell.records:
            rows = _rows(record, cell, texts)
            if rows:
                choices.setdefault(cell.name, []).append(_choice(record, cell, rows, room))
                room = max(0, room - len(rows))
    return list(choices.items())


def _choice(record: Record, cell: Cell, rows: list[_Row], room: int) -> _Choice:
    notes = record.get("notes")
    said = [(str(k).replace("_", " "), _figure(v)) for k, v in notes.items()] if isinstance(notes, Mapping) else []
    if _number(record.get("near_duplicates")):
        said.append(("near-duplicates", _share(record["near_duplicates"])))
    number = record.get("round")
    return _Choice(
        seed=cell.seed,
        round=number if isinstance(number, int) else 0,
        labels=record.get("labels"),
        acting=str(record.get("acting") or record.get("strategy") or ""),
        notes=said,
        rows=rows[:room],
        left_out=max(0, len(rows) - room),
    )


def _rows(record: Record, cell: Cell, texts: bool) -> list[_Row]:
    ids = _list(record.get("rows"))
    scores, wordings = _list(record.get("scores")), _list(record.get("texts")) if texts else []
    rows = []
    for i, row in enumerate(map(str, ids)):
        label = cell.given.get(row, "") if row in cell.given else _MISSING
        wording = wordings[i] if i < len(wordings) else ""
        text = " / ".join(map(str, wording)) if isinstance(wording, list) else str(wording)
        rows.append(_Row(row, scores[i] if i < len(scores) else None, "skipped" if label is None else label, text))
    return rows


def _list(value: object) -> Sequence[Any]:
    return value if isinstance(value, list) else []


# -- how figures are written ---------------------------------------------------------------------------------------


def _figure(value: object) -> str:
    """Three decimals for scores; a dash for what is missing or not a number."""
    if not _number(value):
        return _MISSING
    number = float(value)  # type: ignore[arg-type]
    return f"{number:.3f}" if abs(number) < 100 else f"{number:.0f}"


def _signed(value: float) -> str:
    return f"{value:+.3f}".replace("-", "−")


def _seconds(value: object) -> str:
    if not _number(value):
        return _MISSING
    number = float(value)  # type: ignore[arg-type]
    return f"{number:.{3 if number < 0.1 else 2 if number < 10 else 1}f}"


def _whole(value: object) -> str:
    return f"{value:.0f}" if _number(value) else _MISSING  # type: ignore[str-bytes-safe]


def _share(value: object) -> str:
    return f"{100 * float(value):.0f} %" if _number(value) else _MISSING  # type: ignore[arg-type]


def _flat(value: Mapping[str, Any]) -> Iterable[tuple[str, str]]:
    """Nested keys and values as one list of lines."""
    for key, item in value.items():
        if isinstance(item, Mapping):
            yield from _flat(item)
        else:
            shown = ", ".join(map(str, item)) if isinstance(item, list) else str(item)
            yield str(key), "none" if item is None or item == [] else shown
