"""Unreadable answers of language models: their number, and some examples."""

from collections.abc import Iterable

from dal.report.measures import figure_of
from dal.report.page_parts import Details, Part, Statement, Table, TableColumn
from dal.report.run_reading import Run
from dal.report.wording import share

#: Largest number of answers shown of each model, and of characters of each answer.
SHOWN, LONGEST = 5, 300


def parts(run: Run) -> list[Part]:
    """A sentence for each model and learner with unreadable answers, and examples if texts may be shown."""
    sentences = [*_of_models(run), *_of_learners(run)]
    if not sentences:
        return []
    summary: list[Part] = [Statement(" ".join(sentences))]
    if not any(cell.unread for cell in run.cells):
        return summary
    if run.config.get("show_texts") is not True:
        return [*summary, Statement("They may quote texts of the pool, so they are shown only with show_texts: true.")]
    return [*summary, Details("Some of these answers", (_table(run),))]


def _of_models(run: Run) -> Iterable[str]:
    """Share of each oracle model's answers that could not be read, over all seeds and strategies."""
    for who in dict.fromkeys(each.who for cell in run.cells for each in cell.unread):
        unread = sum(len({each.row for each in cell.unread if each.who == who}) for cell in run.cells)
        total = sum(cell.response_counts.get(who, 0) for cell in run.cells)
        yield f"{unread:,} of {total:,} answers of {who} could not be read ({share(unread / total)})."


def _of_learners(run: Run) -> Iterable[str]:
    """Share of each strategy's learner's answers that could not be read after the last round."""
    for name in run.strategies:
        unread = total = 0.0
        for where in ("unread", "pool.unread"):
            for cell in run.of(name):
                part, count = figure_of(cell.last, f"{where}.share"), figure_of(cell.last, f"{where}.count")
                if part is not None and count is not None:
                    unread, total = unread + part * count, total + count
        if unread:
            yield (
                f"With {name} the learner was asked about {total:,.0f} texts after the last round; "
                f"{share(unread / total)} of its answers could not be read and count as unsure."
            )


def _table(run: Run) -> Table:
    columns = (
        TableColumn("strategy", "Strategy", "text"),
        TableColumn("who", "Who", "text"),
        TableColumn("row", "Row", "id"),
        TableColumn("text", "Answer", "words"),
    )
    rows: dict[tuple[str, str], list[tuple[object, ...]]] = {}
    for cell in run.cells:
        for each in {(each.row, each.who): each for each in cell.unread}.values():
            rows.setdefault((cell.name, each.who), []).append((cell.name, each.who, each.row, _short(each.text)))
    some = [row for group in rows.values() for row in group[:SHOWN]]
    caption = f"The first {SHOWN} of each model, unchanged but cut to {LONGEST} characters; all are in labels.db."
    return Table("unread", "Answers that could not be read", columns, some, caption)


def _short(text: str) -> str:
    return text if len(text) <= LONGEST else text[: LONGEST - 1] + "…"
