"""Sections on the rows selected in each round, and on probable label errors."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from dal.errors import shortened
from dal.report.measures import number
from dal.report.page_parts import Details, Part, Section, Statement, Table, TableColumn
from dal.report.run_reading import CellRecord, Record, Run
from dal.report.sections.quality import mean
from dal.report.wording import LONGEST, MISSING, figure, share, whole

#: Largest number of rows listed on the page; `metrics.jsonl` has all of them.
MAX_ROWS = 5_000

Row = tuple[object, ...]


def section(run: Run, most: int = MAX_ROWS) -> Section | None:
    """The rows that each strategy selected in every round of every seed, collapsed.

    At most `most` rows are listed; those of the first seeds of all strategies take precedence.
    """
    texts = run.config.get("show_texts") is True
    nearest = any("nearest" in record for cell in run.cells for record in cell.records)
    columns = _columns(texts, nearest)
    details, long = [], []
    limits = _limits(run, most)
    for name in run.strategies:
        batches: list[Part] = []
        for cell in run.of(name):
            text_of = wordings(cell) if texts else None
            limit = limits[cell.name, cell.seed]
            for record in cell.records:
                rows = _rows(record, cell, text_of, nearest)
                if rows:
                    batches.append(_batch(record, cell, columns, rows, limit))
                    long += [(name, cell.seed, record.get("round"), *row) for row in rows[:limit]]
                    limit = max(0, limit - len(rows))
        if batches:
            details.append(Details(name, tuple(batches), f"{len(batches)} batches"))
    if not details:
        return None
    where = (
        TableColumn("strategy", "Strategy", "text"),
        TableColumn("seed", "Seed", "whole"),
        TableColumn("round", "Round", "whole"),
    )
    table = Table("chosen", "Selected rows", (*where, *columns), long, hidden=True)
    note = "Best first. The score is the value by which the strategy ranked the row, in its own units."
    if not texts:
        note += " Texts are left out; ids are those of the data."
    return Section("chosen", "Rows selected in each round", "Selected rows", (Statement(note), *details, table))


def _limits(run: Run, most: int) -> dict[tuple[str, int], int]:
    """Number of rows listed of each cell: at most `most` in total, the first seeds first."""
    limits = {}
    for cell in sorted(run.cells, key=lambda cell: cell.seed):
        chosen = sum(len(_list(record.get("rows"))) for record in cell.records)
        limits[cell.name, cell.seed] = min(most, chosen)
        most -= limits[cell.name, cell.seed]
    return limits


def _columns(texts: bool, nearest: bool) -> tuple[TableColumn, ...]:
    columns = [
        TableColumn("row", "Row", "id"),
        TableColumn("score", "Score"),
        TableColumn("label", "Label given", "text"),
    ]
    columns += [TableColumn("text", "Text", "words")] if texts else []
    columns += [TableColumn("nearest", "Nearest labeled row", "text")] if nearest else []
    columns += [TableColumn("nearest_text", "Text of the nearest", "words")] if nearest and texts else []
    return tuple(columns)


def _batch(record: Record, cell: CellRecord, columns: tuple[TableColumn, ...], rows: list[Row], limit: int) -> Details:
    number_ = record.get("round")
    round = number_ if isinstance(number_, int) else 0
    where = f"{cell.name}, seed {cell.seed}, round {round}"
    status = f"{len(rows)} rows"
    if number(record.get("labels")):
        status += f", {whole(record['labels'])} labels with them"
    acting = record.get("acting_strategy")
    if acting and acting != cell.name:
        status += f", by {shortened(str(acting), 200)}"
    parts: list[Part] = []
    notes = _notes(record)
    if notes:
        parts.append(Statement(notes))
    if rows[:limit]:
        parts.append(Table("", f"Rows of {where}", columns, rows[:limit], where))
    if len(rows) > limit:
        parts.append(Statement(f"{len(rows) - limit} more are in metrics.jsonl; this page does not list all rows."))
    return Details(f"Seed {cell.seed}, round {round}", tuple(parts), status)


def _notes(record: Record) -> str:
    """Reason and figures of the selection of a batch."""
    notes = record.get("notes")
    parts = [f"{str(k).replace('_', ' ')}: {figure(v)}" for k, v in notes.items()] if isinstance(notes, Mapping) else []
    if number(record.get("near_duplicates")):
        parts.append(f"near-duplicates: {share(record['near_duplicates'])}")
    if number(record.get("declined")):
        parts.append(f"declined: {record['declined']:.0f} rows")
    reason = record.get("reason")
    return shortened("; ".join(([reason] if isinstance(reason, str) and reason else []) + parts), LONGEST)


def _rows(record: Record, cell: CellRecord, text_of: Mapping[str, str] | None, nearest: bool) -> list[Row]:
    """Table cells of each row of a batch; with texts if there is a mapping of them."""
    scores, texts, near = (_list(record.get(key)) for key in ("scores", "texts", "nearest"))
    rows: list[Row] = []
    for i, row in enumerate(map(str, _list(record.get("rows")))):
        label = cell.given.get(row, "") if row in cell.given else MISSING
        values: list[object] = [row, scores[i] if i < len(scores) else None, "skipped" if label is None else label]
        if text_of is not None:
            values.append(_text(texts[i]) if i < len(texts) else "")
        if nearest:
            other = near[i] if i < len(near) else None
            known = cell.given.get(str(other))
            values.append(None if other is None else f"{other} ({known})" if known else str(other))
            values += [] if text_of is None else [text_of.get(str(other), "")]
        rows.append(tuple(values))
    return rows


def _text(wording: object) -> str:
    return " / ".join(map(str, wording)) if isinstance(wording, list) else str(wording)


def _list(value: object) -> Sequence[Any]:
    return value if isinstance(value, list) else []


#: Largest number of suspect labels on the page; the exported table has all of them.
MAX_DOUBTS = 20


@dataclass
class _Suspect:
    """A row with a probable label error, and the suggestions of the cells that report it."""

    given: object
    suggested: list[str]
    confidence: list[float]
    text: str


def label_issues(run: Run) -> Section | None:
    """Probable label errors, those reported by the most cells first."""
    texts = run.config.get("show_texts") is True
    suspects: dict[str, _Suspect] = {}
    for cell in run.cells:
        issues = [
            d for d in _list(cell.last.get("label_issues")) if isinstance(d, Mapping) and d.get("row") is not None
        ]
        text_of = wordings(cell) if texts and issues else {}
        for issue in issues:
            row = str(issue["row"])
            suspect = suspects.setdefault(row, _Suspect(issue.get("given"), [], [], text_of.get(row, "")))
            suspect.suggested.append(str(issue.get("suggested")))
            suspect.confidence += [float(issue["confidence"])] if number(issue.get("confidence")) else []
    ordered = sorted(suspects.items(), key=lambda each: (-len(each[1].suggested), -(mean(each[1].confidence) or 0.0)))
    rows: list[Row] = [
        (row, d.given, Counter(d.suggested).most_common(1)[0][0], mean(d.confidence), len(d.suggested))
        + ((d.text,) if texts else ())
        for row, d in ordered
    ]
    return _label_issues_section(rows, texts) if rows else None


def _label_issues_section(rows: list[Row], texts: bool) -> Section:
    columns = (
        TableColumn("row", "Row", "id"),
        TableColumn("given", "Given", "text"),
        TableColumn("suggested", "Suggested", "text"),
        TableColumn("confidence", "Confidence"),
        TableColumn("times", "Runs that disagree", "whole"),
        *((TableColumn("text", "Text", "words"),) if texts else ()),
    )
    caption = (
        "Given labels that a trained model confidently contradicts (confident learning): some are errors, some are "
        "hard rows."
    )
    shown = Table("", "Probable label errors", columns, rows[:MAX_DOUBTS], caption)
    parts: list[Part] = [shown]
    if len(rows) > MAX_DOUBTS:
        parts.append(Statement(f"The first {MAX_DOUBTS} of {len(rows)}."))
    parts.append(Table("label_issues", "Probable label errors", columns, rows, hidden=True))
    return Section("label_issues", "Probable label errors", "Label errors", tuple(parts))


def wordings(cell: CellRecord) -> dict[str, str]:
    """Texts in the records by row id: of the selected rows, and of those nearest to them."""
    text_of: dict[str, str] = {}
    for record in cell.records:
        near = record.get("nearest_texts")
        pairs = [*near.items()] if isinstance(near, Mapping) else []
        pairs += zip(_list(record.get("rows")), _list(record.get("texts")), strict=False)
        text_of |= {str(row): _text(wording) for row, wording in pairs}
    return text_of
