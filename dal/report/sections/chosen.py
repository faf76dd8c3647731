"""The rows that were chosen in each round, why, and the labels that deserve a second look."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from dal.errors import shortened
from dal.report.measures import number
from dal.report.page_parts import Fold, Part, Section, Statement, Table, TableColumn
from dal.report.run_reading import CellRecord, Record, Run
from dal.report.sections.quality import mean
from dal.report.wording import LONGEST, MISSING, figure, share, whole

#: More chosen rows than this are left to `metrics.jsonl`, so that the page stays light.
MAX_ROWS = 5_000

Row = tuple[object, ...]


def section(run: Run, most: int = MAX_ROWS) -> Section | None:
    """For each strategy, what it chose in every round of every seed, folded away.

    At most so many rows are listed, those of the first seeds of all strategies before others.
    """
    texts = run.config.get("show_texts") is True
    nearest = any("nearest" in record for cell in run.cells for record in cell.records)
    columns = _columns(texts, nearest)
    folds, long = [], []
    rooms = _rooms(run, most)
    for name in run.strategies:
        batches: list[Part] = []
        for cell in run.of(name):
            text_of = wordings(cell) if texts else None
            room = rooms[cell.name, cell.seed]
            for record in cell.records:
                rows = _rows(record, cell, text_of, nearest)
                if rows:
                    batches.append(_batch(record, cell, columns, rows, room))
                    long += [(name, cell.seed, record.get("round"), *row) for row in rows[:room]]
                    room = max(0, room - len(rows))
        if batches:
            folds.append(Fold(name, tuple(batches), f"{len(batches)} batches"))
    if not folds:
        return None
    where = (
        TableColumn("strategy", "Strategy", "text"),
        TableColumn("seed", "Seed", "whole"),
        TableColumn("round", "Round", "whole"),
    )
    table = Table("chosen", "Rows chosen", (*where, *columns), long, hidden=True)
    note = "Best first. The score is what made the row win, in the units of the strategy."
    if not texts:
        note += " Texts are left out; ids are those of the data."
    return Section("chosen", "Rows chosen in each round", "Chosen rows", (Statement(note), *folds, table))


def _rooms(run: Run, most: int) -> dict[tuple[str, int], int]:
    """How many rows of each cell are listed: all of the first seeds, as long as there is room."""
    rooms = {}
    for cell in sorted(run.cells, key=lambda cell: cell.seed):
        chosen = sum(len(_list(record.get("rows"))) for record in cell.records)
        rooms[cell.name, cell.seed] = min(most, chosen)
        most -= rooms[cell.name, cell.seed]
    return rooms


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


def _batch(record: Record, cell: CellRecord, columns: tuple[TableColumn, ...], rows: list[Row], room: int) -> Fold:
    number_ = record.get("round")
    round = number_ if isinstance(number_, int) else 0
    where = f"{cell.name}, seed {cell.seed}, round {round}"
    status = f"{len(rows)} rows"
    if number(record.get("labels")):
        status += f", {whole(record['labels'])} labels with them"
    acting = record.get("acting")
    if acting and acting != cell.name:
        status += f", by {shortened(str(acting), 200)}"
    parts: list[Part] = []
    said = _notes(record)
    if said:
        parts.append(Statement(said))
    if rows[:room]:
        parts.append(Table("", f"Rows of {where}", columns, rows[:room], where))
    if len(rows) > room:
        parts.append(Statement(f"{len(rows) - room} more are in metrics.jsonl; this page does not list all rows."))
    return Fold(f"Seed {cell.seed}, round {round}", tuple(parts), status)


def _notes(record: Record) -> str:
    """What was said of the batch: why it was chosen so, and figures."""
    notes = record.get("notes")
    said = [f"{str(k).replace('_', ' ')}: {figure(v)}" for k, v in notes.items()] if isinstance(notes, Mapping) else []
    if number(record.get("near_duplicates")):
        said.append(f"near-duplicates: {share(record['near_duplicates'])}")
    why = record.get("why")
    return shortened("; ".join(([why] if isinstance(why, str) and why else []) + said), LONGEST)


def _rows(record: Record, cell: CellRecord, text_of: Mapping[str, str] | None, nearest: bool) -> list[Row]:
    """What is shown of each row of a batch; texts where there is a mapping for them."""
    scores, texts, near = (_list(record.get(key)) for key in ("scores", "texts", "nearest"))
    rows: list[Row] = []
    for i, row in enumerate(map(str, _list(record.get("rows")))):
        label = cell.given.get(row, "") if row in cell.given else MISSING
        found: list[object] = [row, scores[i] if i < len(scores) else None, "skipped" if label is None else label]
        if text_of is not None:
            found.append(_text(texts[i]) if i < len(texts) else "")
        if nearest:
            other = near[i] if i < len(near) else None
            found.append(None if other is None else _named(other, cell))
            found += [] if text_of is None else [text_of.get(str(other), "")]
        rows.append(tuple(found))
    return rows


def _named(row: object, cell: CellRecord) -> str:
    """The row's id with its label, where one is known."""
    label = cell.given.get(str(row))
    return f"{row} ({label})" if label else str(row)


def _text(wording: object) -> str:
    return " / ".join(map(str, wording)) if isinstance(wording, list) else str(wording)


def _list(value: object) -> Sequence[Any]:
    return value if isinstance(value, list) else []


#: Doubted rows on the page; all of them are in the exported table.
MAX_DOUBTS = 20


@dataclass
class _Doubt:
    """What the cells say of one row that they doubt."""

    given: object
    suggested: list[str]
    confidence: list[float]
    text: str


def doubts(run: Run) -> Section | None:
    """The rows whose given label trained models strongly doubt, those that most of them doubt first."""
    texts = run.config.get("show_texts") is True
    found: dict[str, _Doubt] = {}
    for cell in run.cells:
        told = [d for d in _list(cell.last.get("doubts")) if isinstance(d, Mapping) and d.get("row") is not None]
        text_of = wordings(cell) if texts and told else {}
        for said in told:
            row = str(said["row"])
            doubt = found.setdefault(row, _Doubt(said.get("given"), [], [], text_of.get(row, "")))
            doubt.suggested.append(str(said.get("suggested")))
            doubt.confidence += [float(said["confidence"])] if number(said.get("confidence")) else []
    ordered = sorted(found.items(), key=lambda each: (-len(each[1].suggested), -(mean(each[1].confidence) or 0.0)))
    rows: list[Row] = [
        (row, d.given, Counter(d.suggested).most_common(1)[0][0], mean(d.confidence), len(d.suggested))
        + ((d.text,) if texts else ())
        for row, d in ordered
    ]
    return _doubts_section(rows, texts) if rows else None


def _doubts_section(rows: list[Row], texts: bool) -> Section:
    columns = (
        TableColumn("row", "Row", "id"),
        TableColumn("given", "Given", "text"),
        TableColumn("suggested", "Model says", "text"),
        TableColumn("confidence", "Confidence"),
        TableColumn("times", "Runs that doubt it", "whole"),
        *((TableColumn("text", "Text", "words"),) if texts else ()),
    )
    caption = (
        "Given labels that the trained model strongly doubts (confident learning): some are mistakes, some hard rows."
    )
    shown = Table("", "Labels in doubt", columns, rows[:MAX_DOUBTS], caption)
    parts: list[Part] = [shown]
    if len(rows) > MAX_DOUBTS:
        parts.append(Statement(f"The first {MAX_DOUBTS} of {len(rows)}."))
    parts.append(Table("doubts", "Labels in doubt", columns, rows, hidden=True))
    return Section("doubts", "Labels worth a second look", "Doubts", tuple(parts))


def wordings(cell: CellRecord) -> dict[str, str]:
    """Row id -> text, where the records hold texts: of the rows that were chosen, and of those nearest to them."""
    found: dict[str, str] = {}
    for record in cell.records:
        near = record.get("nearest_texts")
        pairs = [*near.items()] if isinstance(near, Mapping) else []
        pairs += zip(_list(record.get("rows")), _list(record.get("texts")), strict=False)
        found |= {str(row): _text(wording) for row, wording in pairs}
    return found
