"""Section on the frozen encoder of a run: whether it tells the classes apart, compared with TF-IDF."""

from collections.abc import Mapping, Sequence

from dal.experiments.encoder_advice import KEY, advice_in
from dal.report.measures import figure_of
from dal.report.page_parts import Section, Statement, Table, TableColumn
from dal.report.run_reading import CellRecord, Run

_FIGURES = ("share", "low", "high", "chance", "p_chance", "lead", "p_lead")


def section(run: Run) -> Section | None:
    """The advice of one cell, and the scores of all cells that have some."""
    rows = [(cell.name, cell.seed, *row) for cell in run.cells for row in _scores(cell)]
    if not rows:
        return None
    columns = (
        TableColumn("strategy", "Labels of", "text"),
        TableColumn("seed", "Seed", "whole"),
        TableColumn("encoder", "Encoder", "text"),
        TableColumn("compared", "Rows", "whole"),
        TableColumn("share", "Predicted"),
        TableColumn("low", "from"),
        TableColumn("high", "to"),
        TableColumn("chance", "By chance"),
        TableColumn("p_chance", "p"),
        TableColumn("lead", "Lead over own", "signed"),
        TableColumn("p_lead", "p"),
    )
    caption = (
        "Share of labeled rows whose nearest labeled neighbours predict their label, mean over classes, with a 95 % "
        "interval. The first encoder of each run is its own."
    )
    # Random labels are those of the whole pool; a strategy selects rows that are hard for the own encoder.
    named = sorted(run.cells, key=lambda cell: cell.name != run.baseline)
    texts = [(cell, text) for cell in named if _scores(cell) and (text := advice_in(cell.last))]
    lead = [Statement(f"With the labels of {cell.name}: {text}.", "lead") for cell, text in texts[:1]]
    note = Statement("dal encoders compares all encoders that are installed, or that are named.")
    table = Table("encoders", "Encoders", columns, rows, caption)
    return Section("encoders", "Whether the encoder tells the classes apart", "Encoder", (*lead, table, note))


def _scores(cell: CellRecord) -> list[tuple[object, ...]]:
    """Encoder, number of rows and figures for each valid score in the last line of a cell."""
    found = cell.last.get(KEY)
    scores = found.get("scores") if isinstance(found, Mapping) else None
    if not isinstance(found, Mapping) or not isinstance(scores, Sequence) or isinstance(scores, str):
        return []
    compared = figure_of(found, "compared")
    return [
        (str(score["name"]), compared, *(figure_of(score, key) for key in _FIGURES))
        for score in scores
        if isinstance(score, Mapping) and "name" in score and figure_of(score, "share") is not None
    ]
