"""The report of a run: a self-contained HTML page, the learning curve, and all plots and tables as files."""

import functools
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from jinja2 import Environment, FileSystemLoader, StrictUndefined, Template
from markupsafe import Markup

from dal.evaluation import CurveComparison
from dal.experiments.heartbeat import duration
from dal.report.cautions import cautions
from dal.report.exports import FOLDER, export, names
from dal.report.measures import LABELS, figure_of, metric_name, number, spent
from dal.report.page_parts import Section
from dal.report.plots.curve_plot import curves
from dal.report.png import png
from dal.report.run_reading import Run, class_name, read
from dal.report.sections import (
    answer_sources,
    candidate_recall,
    class_labels,
    costs,
    encoder_shares,
    forecast,
    label_savings,
    provenance,
    quality,
    rounds,
    selections,
)
from dal.report.sections import batch_measures as batches
from dal.report.sections import calibration_diagrams as calibration
from dal.report.sections import learning_curves as learning
from dal.report.sections import maps as pool
from dal.report.sections import successor_table as successor
from dal.report.series import band_words, of_run
from dal.report.svg import STYLE, svg
from dal.report.verdict import Conclusion, comparisons, joint_statement, too_few_seeds, verdicts
from dal.report.wording import WRITERS, in_markup, listed, seed_numbers, unbroken
from dal.store.atomic_files import write_whole


def write_report(
    folder: Path | str,
    *,
    files: bool = True,
    rows: int = selections.MAX_ROWS,
    maps: int = pool.MAX_MAPS,
    metric: str | None = None,
) -> Path:
    """Write `report.html`, `learning_curve.png`, `learning_curve.svg` and `report/` to `folder`.

    The page is self-contained: it opens from disk without a network and runs no script. `report/` contains every plot
    as PNG and SVG and every table as CSV and JSON; the page links to them but does not need them. Each file, and
    `report/` as a whole, is replaced atomically, so that a report can be updated while somebody reads it, and during a
    run: unfinished cells are marked. Texts of the pool appear only if the config sets `show_texts: true` and the
    records contain them.

    Args:
        folder: folder of an experiment (with one folder `<Strategy>-seed<k>` per cell), or of a single cell.
        files: whether to write `report/` and link to it.
        rows: largest number of chosen rows listed on the page; rows of the first seeds take precedence.
        maps: largest number of maps of the pool, with the same precedence; None for as many as the page can hold.
        metric: name of the metric of the verdict; None for that of the config, or the accuracy.

    Returns:
        The path of `report.html`.

    Raises:
        ConfigError: the folder has no scores of the metric.
        DataError: there is no `metrics.jsonl` in the folder or its subfolders.
    """
    run = read(folder, metric)
    metric = next((metric for metric in learning.plotted(run) if of_run(run, metric)), None)
    conclusions = verdicts(run, metric or "accuracy")
    saving = None
    if metric is not None:
        results = list(comparisons(run, metric).values())
        if len(results) == 1 and conclusions[0].kind == "better":
            saving = results[0]  # drawn only for a single strategy that beat the baseline
        series = of_run(run, metric)
        drawing = curves(series, metric_name(metric), width=720, height=420, note=band_words(series), saving=saving)
        write_whole(run.folder / "learning_curve.svg", str(svg(drawing, name="curve", standalone=True)))
        write_whole(run.folder / "learning_curve.png", png(drawing))
    sections = _sections(run, metric, saving, rows, maps)
    problem = export(run.folder, sections) if files else ""
    if problem:
        run = replace(run, remarks=(*run.remarks, problem))
    page = run.folder / "report.html"
    write_whole(page, in_markup(_render(run, metric, conclusions, sections, linked=files and not problem)))
    return page


def verdict_sentences(folder: Path | str) -> list[str]:
    """The sentences of the verdict at the head of the page: what the strategies have in common, then each of them.

    Raises:
        DataError: there is no `metrics.jsonl` in the folder or its subfolders.
    """
    run = read(folder)
    metric = next((metric for metric in learning.plotted(run) if of_run(run, metric)), None)
    conclusions = verdicts(run, metric or "accuracy")
    together = joint_statement(run, conclusions)
    few = too_few_seeds(run, metric or "accuracy")
    return [each for each in (together, *(verdict.text for verdict in conclusions), few) if each]


def _sections(
    run: Run, shown: str | None, saving: CurveComparison | None, rows: int, maps: int | None
) -> list[Section]:
    """The sections that have data, in the order of the page."""
    sections = (
        learning.section(run, shown, saving),
        label_savings.section(run),
        forecast.section(run, shown),
        successor.section(run),
        quality.section(run),
        quality.classes(run),
        class_labels.section(run),
        quality.groups(run),
        calibration.section(run),
        batches.section(run),
        batches.overlap(run),
        candidate_recall.section(run),
        encoder_shares.section(run),
        pool.section(run, maps),
        selections.section(run, rows),
        selections.label_issues(run),
        answer_sources.section(run, shown),
        costs.section(run),
        rounds.section(run),
        provenance.section(run),
    )
    return [section for section in sections if section is not None]


@functools.cache
def _template() -> Template:
    environment = Environment(
        loader=FileSystemLoader(Path(__file__).parent),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters.update(written=lambda value, kind: WRITERS[kind](value), percent=_percent, unbroken=unbroken)
    environment.globals.update(svg=svg, ident=id)
    return environment.get_template("report.html")


def _percent(value: object) -> str:
    """CSS width of a bar for a score of 0 to 1."""
    return f"{100 * min(1.0, max(0.0, value)):.1f}%" if number(value) else "0%"


def _render(
    run: Run, shown: str | None, conclusions: Sequence[Conclusion], sections: Sequence[Section], *, linked: bool
) -> str:
    challengers = listed(run.challengers or run.strategies)
    return _template().render(
        run=run,
        title=f"{challengers} against {run.baseline}" if run.baseline else challengers,
        facts=_facts(run),
        verdicts=conclusions,
        together=joint_statement(run, conclusions),
        cautions=cautions(run, shown or "accuracy", conclusions),
        sections=sections,
        names=names(sections),
        files=FOLDER if linked else "",
        most_tabs=max((len(p.panels) for s in sections for p in s.parts if hasattr(p, "panels")), default=0),
        plot_style=Markup(STYLE),
    )


def _facts(run: Run) -> list[tuple[str, str]]:
    """Key facts of the run for the head of the page: data, learner, labels, seeds, computing time."""
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
    facts.append(("Seeds", seed_numbers({cell.seed for cell in run.cells})))
    times = [[x for x in spent(cell.records, "time") if x is not None] for cell in run.cells]
    total = sum(each[-1] for each in times if each)
    if total:
        facts.append(("Computing", duration(total)))
    return facts
