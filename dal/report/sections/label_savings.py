"""Section on the labels needed to reach the baseline's final score."""

from dal.evaluation import CurveComparison
from dal.report.measures import metric_name
from dal.report.page_parts import Section, Statement, Table, TableColumn
from dal.report.run_reading import Run
from dal.report.sections.learning_curves import plotted
from dal.report.verdict import comparisons


def section(run: Run) -> Section | None:
    """Labels needed, ratio to the baseline, and leads, for every plotted metric and strategy."""
    compared = [(metric, name, c) for metric in plotted(run) for name, c in comparisons(run, metric).items()]
    if not compared:
        return None
    columns = (
        TableColumn("score", "Score", "text"),
        TableColumn("strategy", "Strategy", "text"),
        TableColumn("needed", "Labels needed", "never"),
        TableColumn("baseline_needed", f"{run.baseline} needed", "whole"),
        TableColumn("ratio", "Times fewer", "times"),
        TableColumn("target", f"{run.baseline}’s final"),
        TableColumn("at", "at labels", "whole"),
        TableColumn("final_lead", "Final lead", "signed"),
        TableColumn("mean_lead", "Mean lead", "signed"),
        TableColumn("per_seed", "Needed per seed", "text"),
    )
    rows: list[tuple[object, ...]] = []
    for metric, name, c in compared:
        leads = (c.final_difference, c.area_difference)
        needed = (c.needed, c.baseline_needed, c.ratio, c.target, c.budget)
        rows.append((metric_name(metric), name, *needed, *leads, _per_seed(c)))
    caption = (
        f"Where the mean curve over the seeds first reaches the final score of {run.baseline}, interpolated between "
        f"rounds. {run.baseline} is credited with the first time it reached that score."
    )
    note = (
        "Leads are paired by seed and signed so that higher is better: the final lead at the last number of labels, "
        "the mean lead over the whole curve."
    )
    table = Table("labels-needed", "Labels needed", columns, rows, caption)
    return Section(
        "needed", f"Labels needed to reach {run.baseline}’s final score", "Labels needed", (table, Statement(note))
    )


def _per_seed(c: CurveComparison) -> str:
    """Labels needed by each seed, or their range for more than three seeds."""
    needed_by = dict(zip(c.seeds, c.needed_per_seed, strict=True))
    if len(needed_by) <= 3:
        words = {seed: "never" if needed is None else f"{needed:.0f}" for seed, needed in needed_by.items()}
        return ", ".join(f"{needed} (seed {seed})" for seed, needed in words.items())
    reached = [needed for needed in needed_by.values() if needed is not None]
    if not reached:
        return f"never in {len(needed_by)} seeds"
    return f"{min(reached):.0f} to {max(reached):.0f} in {len(reached)} of {len(needed_by)} seeds"
