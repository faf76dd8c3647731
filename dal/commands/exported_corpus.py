"""`dal export`: write the corpus of a folder, or the tasks of other annotation programs."""

import argparse
import sys
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from dal.commands.paths import check_sources, sources_of
from dal.commands.terminal import escape_controls, say
from dal.config import settings_tree as tree
from dal.config.kinds import PROJECT, kind_of
from dal.config.stored import CONFIG
from dal.data.imported_rows import read_imported
from dal.data.text_data import TextData
from dal.errors import ConfigError, SessionError, counted
from dal.experiments.console import Console, reading
from dal.experiments.stored_experiments import stored_config
from dal.experiments.stored_model import Place, find
from dal.formats import hugging_face, label_studio, prodigy
from dal.formats.corpus import ANSWERED, Corpus, CorpusRow
from dal.formats.corpus_files import csv_text, write_corpus
from dal.formats.label_studio import Ranking, version_of
from dal.formats.log_corpus import corpus_of_log, pool_rows
from dal.store.atomic_files import named, write_whole
from dal.store.label_store import LabelStore
from dal.store.project_rows import ProjectRows
from dal.store.run_folder import LABELS, ROWS

_LEFT_OUT = (
    ("declined", "declined"),
    ("disputed", "with contradicting answers"),
    ("pending", "waiting for an answer"),
    ("new", "never asked"),
    ("retired", "taken out"),
)


def check_dataset(options: argparse.Namespace) -> None:
    """Raise ConfigError for a dataset folder that cannot be written; nothing is checked for other formats."""
    if options.to == "huggingface" and options.output is not None:
        hugging_face.check_folder(options.output, force=options.force)


def export_folder(options: argparse.Namespace) -> int:
    """Run `dal export` and return the exit code."""
    if (options.folder / CONFIG).is_file() and kind_of(options.folder) == PROJECT:
        corpus, ranking, gone = _read_project(options.folder)
    else:
        place = find(options.folder, options.cell)
        if str(options.output) != "-":
            check_sources(options.output, sources_of(place.experiment))
        with Console(stderr=True) as reporter:
            reporter.stage(reading(place.experiment.data))
            corpus, ranking, gone = _read(place)
            reporter.clear()
    if gone:
        say(f"{gone} answers are to rows that are no longer in the data; they stay in {LABELS}")
    if options.to in ("label-studio", "prodigy"):
        return _write_tasks(corpus, ranking, options)
    chosen = corpus if options.all else corpus.only(ANSWERED)
    if not chosen.rows:
        raise SessionError(f"{options.folder} has no labeled texts yet (--all exports those without a label)")
    if str(options.output) == "-":
        _print(csv_text(chosen))
    elif options.to == "huggingface":
        hugging_face.write_folder(options.output, chosen)
    else:
        write_corpus(options.output, chosen)
    say(_summary(corpus, len(chosen.rows), options))
    return 0


def _read(place: Place) -> tuple[Corpus, Ranking, int]:
    """The corpus of a folder, its pending rows in order, and the number of answers to rows that left the data."""
    experiment = place.experiment
    hidden = place.simulated and (experiment.oracle is None or experiment.oracle.hides_labels)
    pool = experiment.data.load().pool
    fields = foreign_fields(experiment.data)
    with LabelStore(place.folder / LABELS, access="read") as log:
        rows = pool_rows(pool, hide_labels=hidden, fields=fields)
        corpus, gone = corpus_of_log(rows, log, pool.classes, multilabel=pool.multilabel)
        return corpus, _ranking(log), gone


def _read_project(folder: Path) -> tuple[Corpus, Ranking, int]:
    """The corpus of a project, its pending rows in order, and the number of answers to rows that it lacks."""
    multilabel = tree.plain(tree.read(stored_config(folder))).get("data", {}).get("multilabel") is True
    with ProjectRows(folder / ROWS) as stored, LabelStore(folder / LABELS, access="read") as log:
        rows = (CorpusRow(row.id, row.text, row.pair, fields=row.fields) for row in stored)
        names = [entry.name for entry in log.classes.active]
        corpus, gone = corpus_of_log(rows, log, names, multilabel=multilabel)
        return corpus, _ranking(log), gone


def _ranking(log: LabelStore) -> Ranking:
    strategy = log.batch_details(log.round)[0] if log.round else ""
    return Ranking(log.queue(), version_of(log.round, strategy))


def foreign_fields(data: TextData) -> dict[str, Mapping[str, Any]]:
    """The other columns of a user's file, by row id; those of a hub data set, a folder or a demo are not read."""
    bare = replace(data, label=None, test=None, validation=0.0, limit=None, classes=None, descriptions=None)
    rows = read_imported(bare).project_rows()
    return {row.id: {name: value for name, value in row.fields.items() if name != data.label} for row in rows}


def _write_tasks(corpus: Corpus, ranking: Ranking, options: argparse.Namespace) -> int:
    present = {row.id for row in corpus.rows}
    ranking = Ranking([row for row in ranking.rows if row in present], ranking.version)
    chosen = corpus if options.all else corpus.only("pending")
    if not chosen.rows:
        raise ConfigError(f"no text of {options.folder} waits for an answer: dal ask it first, or export --all of them")
    module = label_studio if options.to == "label-studio" else prodigy
    text = module.tasks_text(chosen, ranking)
    if str(options.output) == "-":
        _print(text)
    else:
        if options.to == "label-studio":
            config = options.output.with_suffix(".xml")
            pairs = any(row.pair is not None for row in chosen.rows)
            write_whole(config, label_studio.labeling_config(corpus.classes, multilabel=corpus.multilabel, pairs=pairs))
            say(f"written: {named(config)}, the labeling config of the project")
        write_whole(options.output, text)
    say(f"{_written(options)}{counted(len(chosen.rows), 'task')}, {len(ranking.rows):,} of them ranked")
    return 0


def _print(text: str) -> None:
    """Write text to stdout, with control characters escaped on a terminal."""
    print(escape_controls(text) if sys.stdout.isatty() else text, end="")


def _written(options: argparse.Namespace) -> str:
    """The beginning of the last message: the file, unless it is the terminal."""
    return "" if str(options.output) == "-" else f"written: {named(options.output)}, "


def _summary(corpus: Corpus, written: int, options: argparse.Namespace) -> str:
    line = f"{_written(options)}{counted(written, 'text')}"
    counts = corpus.counts
    if options.all:
        return f"{line}, {counts[ANSWERED]:,} of them labeled"
    left = [f"{counts[state]:,} {words}" for state, words in _LEFT_OUT if counts[state]]
    return line + (f"; left out: {', '.join(left)} (--all)" if left else "")
