"""Labels needed to reach the baseline's final score."""

from dal.evaluation import CurveComparison
from dal.report.measures import METRICS
from dal.report.page_parts import Section, Statement, Table, TableColumn
from dal.report.run_reading import Run
from dal.report.sections.learning_curves import PLOTTED
from dal.report.verdict import comparisons


def section(run: Run) -> Section | None:
    """For every plotted metric and strategy: the labels needed, how many times fewer, and the leads."""
    found = [(metric, name, c) for metric in PLOTTED for name, c in comparisons(run, metric).items()]
    if not found:
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
    rows = [(METRICS[metric], name, *_figures(c)) for metric, name, c in found]
    caption = (
        f"Where the mean curve over the seeds first reaches the score that {run.baseline} ends with, interpolated "
        f"between rounds. {run.baseline} is credited with its own first arrival."
    )
    note = (
        "Leads are paired by seed and signed so that more is better: the final lead at the last number of labels, the "
        "mean lead over the whole curve."
    )
    table = Table("labels-needed", "Labels needed", columns, rows, caption)
    return Section(
        "needed", f"Labels needed to reach {run.baseline}’s final score", "Labels needed", (table, Statement(note))
    )


def _figures(c: CurveComparison) -> tuple[object, ...]:
    leads = (c.final_difference, c.area_difference)
    return (c.needed, c.baseline_needed, c.ratio, c.target, c.budget, *leads, _per_seed(c))


def _per_seed(c: CurveComparison) -> str:
    """What each seed needed, or from what to what when there are many."""
    found = dict(zip(c.seeds, c.needed_per_seed, strict=True))
    if len(found) <= 3:
        words = {seed: "never" if needed is None else f"{needed:.0f}" for seed, needed in found.items()}
        return ", ".join(f"{needed} (seed {seed})" for seed, needed in words.items())
    reached = [needed for needed in found.values() if needed is not None]
    if not reached:
        return f"never in {len(found)} seeds"
    return f"{min(reached):.0f} to {max(reached):.0f} in {len(reached)} of {len(found)} seeds"
