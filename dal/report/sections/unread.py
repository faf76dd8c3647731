"""Answers of language models that could not be read: how many, and some of them as they came."""

from collections.abc import Iterable

from dal.report.measures import figure_of
from dal.report.page_parts import Fold, Part, Statement, Table, TableColumn
from dal.report.run_reading import Run
from dal.report.wording import share

#: Answers of each machine that are shown, and characters of each.
SHOWN, LONGEST = 5, 300


def parts(run: Run) -> list[Part]:
    """A sentence for each machine and each learner that gave some, and a few of those, where texts may be shown."""
    said = [*_of_machines(run), *_of_learners(run)]
    if not said:
        return []
    found: list[Part] = [Statement(" ".join(said))]
    if not any(cell.unread for cell in run.cells):
        return found
    if run.config.get("show_texts") is not True:
        return [*found, Statement("They may quote texts of the pool, so they are shown only with show_texts: true.")]
    return [*found, Fold("Some of these answers", (_table(run),))]


def _of_machines(run: Run) -> Iterable[str]:
    """Over all seeds and strategies: how many of a machine's answers could not be read."""
    for who in dict.fromkeys(each.who for cell in run.cells for each in cell.unread):
        lost = sum(len({each.row for each in cell.unread if each.who == who}) for cell in run.cells)
        heard = sum(cell.heard.get(who, 0) for cell in run.cells)
        yield f"{lost:,} of {heard:,} answers of {who} could not be read ({share(lost / heard)})."


def _of_learners(run: Run) -> Iterable[str]:
    """Of the models that were trained, or asked in the place of training: what the last records say."""
    for name in run.strategies:
        lost = heard = 0.0
        for where in ("unread", "pool.unread"):
            for cell in run.of(name):
                part, count = figure_of(cell.last, f"{where}.share"), figure_of(cell.last, f"{where}.count")
                if part is not None and count is not None:
                    lost, heard = lost + part * count, heard + count
        if lost:
            yield (
                f"With {name} the learner was asked about {heard:,.0f} texts after the last round; "
                f"{share(lost / heard)} of its answers could not be read and count as unsure."
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
    some = [row for found in rows.values() for row in found[:SHOWN]]
    caption = f"The first {SHOWN} of each machine, as they came, cut to {LONGEST} characters; all are in labels.db."
    return Table("unread", "Answers that could not be read", columns, some, caption)


def _short(text: str) -> str:
    return text if len(text) <= LONGEST else text[: LONGEST - 1] + "…"
