"""The report of a run: one HTML file that opens from disk, its main picture, and all plots and tables as files."""

import functools
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from jinja2 import Environment, FileSystemLoader, StrictUndefined, Template
from markupsafe import Markup

from dal.evaluation import CurveComparison
from dal.experiments.console import duration
from dal.report.cautions import cautions
from dal.report.exports import FOLDER, export, names
from dal.report.measures import LABELS, METRICS, figure_of, number, spent
from dal.report.page_parts import Section
from dal.report.plots.curve_plot import curves
from dal.report.png import png
from dal.report.run_reading import Run, class_name, read
from dal.report.sections import answered, batches, chosen, costs, forecast, made, needed, quality, rounds
from dal.report.sections import calibration_diagrams as calibration
from dal.report.sections import learning_curves as learning
from dal.report.sections import maps as pool
from dal.report.sections import successor_table as successor
from dal.report.series import band_words, of_run
from dal.report.svg import STYLE, svg
from dal.report.verdict import Conclusion, comparisons, together, verdicts
from dal.report.wording import WRITERS, in_markup
from dal.store.atomic_files import write_whole


def write_report(
    folder: Path | str, *, files: bool = True, rows: int = chosen.MAX_ROWS, maps: int = pool.MAX_MAPS
) -> Path:
    """The path of `report.html`, written to `folder` next to `learning_curve.png`, `learning_curve.svg` and `report/`.

    The page is self-contained: it opens from disk without a network and runs no script. In `report/` lies every plot as
    PNG and SVG and every table as CSV and JSON; the page links to them and does not need them. Each file, and `report/`
    as a whole, is written whole or not at all, so that a report can be renewed while somebody reads it, and during a
    run, too: what is unfinished is shown as such. Texts of the pool appear only where the config says
    `show_texts: true` and the records hold them.

    Args:
        folder: of an experiment (one folder `<Strategy>-seed<k>` for each cell), or of a single cell.
        files: write `report/`, too, and link to it; without, the page stands alone.
        rows: how many chosen rows the page lists at most, those of the first seeds before others.
        maps: how many maps of the pool it shows at most, likewise; None for as many as the page can carry.

    Raises:
        DataError: there is no `metrics.jsonl` in it or in a folder of it.
    """
    run = read(folder)
    shown = next((metric for metric in learning.PLOTTED if of_run(run, metric)), None)
    said = verdicts(run, shown or "accuracy")
    saving = None if shown is None else _best(run, shown, said)
    if shown is not None:
        _picture(run, shown, saving)
    sections = _sections(run, shown, saving, rows, maps)
    trouble = export(run.folder, sections) if files else ""
    if trouble:
        run = replace(run, remarks=(*run.remarks, trouble))
    page = run.folder / "report.html"
    write_whole(page, in_markup(_render(run, shown, said, sections, linked=files and not trouble)))
    return page


def _sections(
    run: Run, shown: str | None, saving: CurveComparison | None, rows: int, maps: int | None
) -> list[Section]:
    """Those that have data, in the order of the page."""
    found = (
        learning.section(run, shown, saving),
        needed.section(run),
        forecast.section(run, shown),
        successor.section(run),
        quality.section(run),
        quality.classes(run),
        quality.groups(run),
        calibration.section(run),
        batches.section(run),
        batches.overlap(run),
        pool.section(run, maps),
        chosen.section(run, rows),
        chosen.doubts(run),
        answered.section(run, shown),
        costs.section(run),
        rounds.section(run),
        made.section(run),
    )
    return [section for section in found if section is not None]


def _picture(run: Run, shown: str, saving: CurveComparison | None) -> None:
    """The learning curves as files of their own."""
    series = of_run(run, shown)
    drawing = curves(series, METRICS[shown], width=720, height=420, note=band_words(series), saving=saving)
    write_whole(run.folder / "learning_curve.svg", str(svg(drawing, name="curve", standalone=True)))
    write_whole(run.folder / "learning_curve.png", png(drawing))


def _best(run: Run, metric: str, said: Sequence[Conclusion]) -> CurveComparison | None:
    """The comparison to draw: only one that was won, and only when there is no second one to confuse it with."""
    results = list(comparisons(run, metric).values())
    return results[0] if len(results) == 1 and said[0].kind == "better" else None


@functools.cache
def _template() -> Template:
    environment = Environment(
        loader=FileSystemLoader(Path(__file__).parent),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters.update(written=lambda value, kind: WRITERS[kind](value), percent=_percent)
    environment.globals.update(svg=svg, ident=id)
    return environment.get_template("report.html")


def _percent(value: object) -> str:
    """As much of a bar as the score, for its width."""
    return f"{100 * min(1.0, max(0.0, value)):.1f}%" if number(value) else "0%"


def _render(
    run: Run, shown: str | None, said: Sequence[Conclusion], sections: Sequence[Section], *, linked: bool
) -> str:
    return _template().render(
        run=run,
        title=_title(run),
        facts=_facts(run),
        verdicts=said,
        together=together(run, said),
        cautions=cautions(run, shown or "accuracy", said),
        sections=sections,
        names=names(sections),
        files=FOLDER if linked else "",
        most_tabs=max((_tabs(section.parts) for section in sections), default=0),
        plot_style=Markup(STYLE),
    )


def _tabs(parts: Sequence[object]) -> int:
    return max((len(part.panels) for part in parts if hasattr(part, "panels")), default=0)


def _title(run: Run) -> str:
    ours = list(run.challengers) or list(run.strategies)
    listed = ours[0] if len(ours) == 1 else ", ".join(ours[:-1]) + " and " + ours[-1]
    return f"{listed} against {run.baseline}" if run.baseline else listed


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
    labels = [x for c in run.cells for r in c.records if (x := figure_of(r, LABELS.key)) is not None]
    if labels:
        low, high = min(labels), max(labels)
        facts.append(("Labels", f"{low:.0f} to {high:.0f}" if low < high else f"{high:.0f}"))
    seeds = sorted({cell.seed for cell in run.cells})
    facts.append(("Seeds", ", ".join(map(str, seeds)) if len(seeds) <= 6 else f"{len(seeds)}"))
    times = [[x for x in spent(cell.records, "time") if x is not None] for cell in run.cells]
    total = sum(each[-1] for each in times if each)
    if total:
        facts.append(("Computing", duration(total)))
    return facts
