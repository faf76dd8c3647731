"""`dal predict FOLDER FILE`: predict the rows of a file with a stored model."""

import argparse
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence

import torch

from dal.annotate.sheet import check_classes
from dal.commands.error_lines import naming_options
from dal.commands.guaranteed_labels import (
    about_guarantee,
    decisions_as_csv,
    decisions_for,
    wants_guarantee,
    warning_about,
)
from dal.commands.paths import check_sources, sources_of
from dal.commands.terminal import escape_controls, say
from dal.data import Rows, TextColumn, TextData, TextPairs
from dal.data.csv_files import delimiter_of
from dal.data.demos import DEMOS
from dal.data.file_source import ColumnRequest
from dal.data.label_cells import cell_of
from dal.data.load_table import read
from dal.data.table_rows import split
from dal.errors import printable
from dal.experiments.console import Console, reading
from dal.experiments.interrupts import interruptible
from dal.experiments.pool_distances import NEW_SAMPLE, POOL_SAMPLE, shift_note, shift_of_texts
from dal.experiments.saved_model import SavedModel
from dal.experiments.stored_model import Place, StoredModel, read_model
from dal.experiments.text_predictions import Predictions
from dal.functional.drawing import spread_rows
from dal.learner import Monitor
from dal.store.atomic_files import named
from dal.store.spreadsheet import as_csv, write_csv

_POOL_ROWS = 5000  # texts of the pool, at most, whose confidences are thresholds to test


def predict_file(place: Place, options: argparse.Namespace) -> int:
    """Run `dal predict FOLDER FILE` and return the exit code."""
    with interruptible(None) as check, Console(stderr=True) as reporter:
        if options.output is not None:
            check_sources(options.output, [options.file, *sources_of(place.experiment)])
        reporter.stage(f"reading {printable(str(options.file))}")
        data = place.experiment.data
        rows, named_rows = read_rows({"text": data.text, "text_pair": data.text_pair, "id": data.id}, options)
        reporter.stage(reading(place.experiment.data))
        with read_model(place, reporter.monitor(check)) as model:
            check_classes(model.classes, multilabel=model.multilabel)
            reporter.stage("loading the model")
            predictions = model.predict(rows.inputs)
            reporter.stage("measuring the accuracy")
            lines = [*model.trust.splitlines(), *unparsed_note(predictions)]
            reporter.stage("comparing with the pool")
            lines += filter(None, [_distance_note(rows, model, reporter.monitor(check))])
            if wants_guarantee(options):
                more, text = _decided(model, rows, predictions, options)
                lines += more
            else:
                text = predictions_as_csv(rows, predictions, model.classes, texts=not named_rows)
            reporter.clear()
    put_out(lines, text, options, say)
    return 0


def predict_with_saved(options: argparse.Namespace) -> int:
    """Run `dal predict MODEL FILE`, with a model that was saved on its own, and return the exit code."""
    with interruptible(None) as check, Console(stderr=True) as reporter:
        if options.output is not None:
            check_sources(options.output, [options.file])
        reporter.stage("loading the model")
        with SavedModel(options.folder, reporter.monitor(check)) as model:
            check_classes(model.classes, multilabel=model.multilabel)
            reporter.stage(f"reading {printable(str(options.file))}")
            rows, named_rows = read_rows(model.columns, options)
            reporter.stage("predicting")
            predictions = model.predict(rows.inputs)
            lines = [*model.trust.splitlines(), *unparsed_note(predictions)]
            text = predictions_as_csv(rows, predictions, model.classes, texts=not named_rows)
            reporter.clear()
    put_out(lines, text, options, say)
    return 0


def put_out(lines: Iterable[str], text: str, options: argparse.Namespace, message: Callable[[str], None]) -> None:
    """Print the messages, and write the CSV text to the file of `-o` or to stdout, unless it is a dry run."""
    for line in lines:
        message(line)
    if options.dry_run:
        return
    if options.output is not None:
        write_csv(options.output, text)
        message(f"written: {named(options.output)}")
    else:
        print(escape_controls(text) if sys.stdout.isatty() else text, end="")


def _distance_note(rows: Rows, model: StoredModel, monitor: Monitor) -> str:
    """A sentence if the texts lie farther from the pool than its own texts do; else ""."""
    pool = model.session.pool.inputs
    if not isinstance(pool, TextColumn | TextPairs):
        return ""
    own = pool.take(spread_rows(len(pool), POOL_SAMPLE).numpy())
    new = rows.inputs.take(spread_rows(len(rows), NEW_SAMPLE).numpy())
    return shift_note(shift_of_texts(own, new, model.session.learner, monitor=monitor))


def _decided(
    model: StoredModel, rows: Rows, predictions: Predictions, options: argparse.Namespace
) -> tuple[list[str], str]:
    """Messages about the automatic labels of the file, and the CSV text of all rows, in the order of the file."""
    # Thresholds are quantiles of the pool, and not of the file, so that they are the same for every file: a guarantee
    # covers one choice of a threshold.
    unlabeled = None
    if "dollars" not in model.session.learner.provides:  # answers of a language model have a price
        unlabeled = model.logits("pool", spread_rows(len(model.session.pool), _POOL_ROWS))
    held, found = decisions_for(model, predictions.logits, options, unlabeled=unlabeled)
    parsed = torch.tensor([name is not None for name in predictions.classes], dtype=torch.bool)
    automatic = found.automatic & parsed
    count, warning = int(automatic.sum()), warning_about(model, held)
    lines = [
        *about_guarantee(model, held, found),
        *([warning] if warning else []),
        f"automatic: {count:,} of {len(rows):,} texts; to a person: {len(rows) - count:,}",
        "the guarantee is about texts like the held-out ones, and nothing tells whether those of the file are",
    ]
    facts = (list(rows.ids), rows.texts(), predictions.classes, found.confidence, automatic)
    return lines, decisions_as_csv(*facts, model.classes)


def unparsed_note(predictions: Predictions) -> list[str]:
    """A sentence about the rows without a prediction; none if there are none."""
    unparsed = sum(name is None for name in predictions.classes)
    of = f"{unparsed:,} of {len(predictions):,} responses of the language model could not be parsed"
    return [f"{of}: no class is given"] if unparsed else []


def read_rows(columns: Mapping[str, str | None], options: argparse.Namespace) -> tuple[Rows, bool]:
    """Read the texts and ids of the file, and return whether it has a column of ids.

    Args:
        columns: `text`, `text_pair` and `id` of the data that the model was trained on, where the options name none.
        options: `file`, and `text`, `id` and `delimiter` or None.

    Raises:
        DataError: the file cannot be read, or a column is missing.
    """
    path = f"./{options.file}" if str(options.file) in DEMOS else str(options.file)  # a file, not the packaged demo
    text, column = options.text or columns["text"] or "text", options.id or columns["id"] or "id"
    pair = columns["text_pair"]
    recipe = TextData(path, text=text, text_pair=pair, label=None, id=column, delimiter=options.delimiter)
    hints = {text: "--text", column: "--id"} | ({} if pair is None else {pair: "the config"})
    wanted = ColumnRequest(
        texts=(text,) if pair is None else (text, pair),
        others=(column,),
        optional=frozenset() if options.id else frozenset({column}),
        options=hints,
        delimiter=delimiter_of(options.delimiter),
    )
    with naming_options({"data.delimiter": "--delimiter"}):
        source = read(path, wanted)
    return split(recipe, source, None).pool, column in source.table.column_names


def predictions_as_csv(rows: Rows, predictions: Predictions, classes: Sequence[str], *, texts: bool) -> str:
    """The CSV text of all rows, with the columns id, class and confidence.

    Args:
        rows: the rows.
        predictions: their predictions.
        classes: class names.
        texts: add the texts, as ids that are hashes do not tell which row is which.
    """
    pairs = isinstance(rows.inputs, TextPairs)
    columns = ["text", "text_pair"] if pairs else ["text"]
    lines: list[list[object]] = [["id", *(columns if texts else []), "class", "confidence"]]
    shown = rows.texts() if texts else [()] * len(rows)
    facts = (rows.ids, shown, predictions.classes, predictions.confidence.tolist())
    for name, text, value, confidence in zip(*facts, strict=True):
        cells = (text,) if isinstance(text, str) else text
        lines.append([name, *cells, "" if value is None else cell_of(value, classes), confidence])
    return as_csv(lines)
