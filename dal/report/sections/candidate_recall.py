"""Section on the candidates: the measured share of the whole pool's choices that they contain."""

from collections.abc import Mapping
from statistics import mean

from dal.report.measures import number
from dal.report.page_parts import Part, Section, Statement, Table, TableColumn
from dal.report.run_reading import Record, Run

#: Mean recall below which the section advises more candidates.
LEAST_RECALL = 0.9


def section(run: Run) -> Section | None:
    """One sentence for each strategy with measured recall, and a table by number of labels."""
    sentences, rows = [], []
    for name in run.strategies:
        measured = [(r, recall) for c in run.of(name) for r in c.records if (recall := _recall(r)) is not None]
        if not measured:
            continue
        recalls, chances = zip(*(recall for _, recall in measured), strict=True)
        sentences.append(_sentence(name, mean(recalls), mean(chances), len(measured)))
        by_labels: dict[object, list[Record]] = {}
        for record, _ in measured:
            by_labels.setdefault(record.get("labels"), []).append(record["candidates"])
        for labels in sorted(label for label in by_labels if number(label)):  # type: ignore[type-var]
            means = [mean(float(each[key]) for each in by_labels[labels]) for key in ("count", "of", "recall")]
            rows.append((name, labels, *means, len(by_labels[labels])))
    if not sentences:
        return None
    parts: list[Part] = [Statement(each, "lead") for each in sentences]
    columns = (
        TableColumn("strategy", "Strategy", "text"),
        TableColumn("labels", "Labels after the batch", "whole"),
        TableColumn("candidates", "Candidates", "whole"),
        TableColumn("of", "of rows", "whole"),
        TableColumn("recall", "Recall"),
        TableColumn("seeds", "Seeds", "whole"),
    )
    caption = "Means over the seeds. Recall: share of the batch of the whole pool that is among the candidates."
    parts.append(Table("candidates", "Recall of the candidates", columns, rows, caption))
    return Section("candidates", "What the candidates leave out", "Candidates", tuple(parts))


def _recall(record: Record) -> tuple[float, float] | None:
    """The measured recall of a round and that of as many random rows; None if there is none."""
    measured = record.get("candidates")
    if not isinstance(measured, Mapping):
        return None
    recall, count, of = (measured.get(key) for key in ("recall", "count", "of"))
    if not (number(recall) and number(count) and number(of) and of > 0):
        return None
    return float(recall), count / of


def _sentence(name: str, recall: float, chance: float, rounds: int) -> str:
    where = "one round" if rounds == 1 else f"{rounds} rounds"
    text = (
        f"{name}: in {where} the candidates, {100 * chance:.0f} % of the rows, contained {100 * recall:.0f} % of the "
        "batch that the whole pool would have given."
    )
    if recall >= LEAST_RECALL:
        return text
    if recall <= 1.5 * chance:
        return f"{text} Random rows would contain about as much: use another generator, or a number of random rows."
    return f"{text} More candidates would contain more."
