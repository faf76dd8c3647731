"""Section on the successor: another learner trained on the labels that a strategy selected."""

from collections.abc import Mapping

from dal.experiments.successor import KEY, agreement_texts, conclusion
from dal.report.measures import figure_of
from dal.report.page_parts import Part, Section, Statement, Table, TableColumn
from dal.report.run_reading import Record, Run


def section(run: Run) -> Section | None:
    """One sentence for each strategy, and the figures of `successor.json` for the existing rounds."""
    cells = {f"{cell.name}-seed{cell.seed}": [r for r in cell.records if _has_scores(r)] for cell in run.cells}
    result = conclusion(cells, run.baseline)
    if not result:
        return None
    strategies = result["strategies"]
    parts: list[Part] = [Statement(each["text"], "lead") for each in strategies.values()]
    if strategies:
        parts.append(_table(strategies, str(run.baseline), result["learner"]))
    else:
        parts.append(
            Statement(f"{result['learner']} was trained on the same labels; there is no baseline to compare with.")
        )
    parts += [Statement(text) for text in agreement_texts(cells).values()]
    return Section("successor", "How well the labels serve another model", "Successor", tuple(parts))


def _has_scores(record: Record) -> bool:
    """Whether the record has valid scores of the successor."""
    scores = record.get(KEY)
    return isinstance(scores, Mapping) and "learner" in scores and figure_of(scores, "accuracy") is not None


def _table(strategies: dict[str, dict[str, object]], baseline: str, learner: str) -> Table:
    columns = (
        TableColumn("strategy", "Labels of", "text"),
        TableColumn("labels", "Labels", "whole"),
        TableColumn("accuracy", "Accuracy"),
        TableColumn("baseline", f"With labels of {baseline}"),
        TableColumn("difference", "Mean lead", "signed"),
        TableColumn("p", "p"),
        TableColumn("seeds", "Seeds", "whole"),
    )
    keys = [column.key for column in columns[1:]]
    rows = [(name, *(figures[key] for key in keys)) for name, figures in strategies.items()]
    caption = (
        f"Mean accuracy of {learner} over the seeds, at as many labels; lead over the whole curve, p of a paired "
        "permutation test with Holm’s correction (Lowell, Lipton and Wallace 2019)."
    )
    return Table("successor", f"Accuracy of {learner}", columns, rows, caption)
