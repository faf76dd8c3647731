"""`dal add`: add rows and known labels to a project, and retire rows."""

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from dal.annotate.edited_texts import MOST_COMPARED, edited_texts
from dal.annotate.imported_corpus import CorpusImport, CorpusRows, check_people
from dal.annotate.imported_labels import LabelImport
from dal.annotate.project import add_to_project, project_experiment
from dal.annotate.sheet import check_classes
from dal.commands.new_project import about_alike
from dal.commands.terminal import asks, chosen, confirmed, say
from dal.data.file_source import ColumnRequest
from dal.data.imported_rows import ImportedRows, read_imported
from dal.data.load_table import read
from dal.data.text_data import TextData
from dal.errors import ConfigError, DataError, counted, printable
from dal.experiments.console import Console
from dal.experiments.experiment import Experiment
from dal.experiments.interrupts import interruptible
from dal.experiments.pool_distances import NEW_SAMPLE, POOL_SAMPLE, shift_note, shift_of_texts
from dal.formats.corpus_files import is_corpus, read_corpus, table_path
from dal.learner import Monitor
from dal.store.atomic_files import typed
from dal.store.folder_lock import held
from dal.store.label_log import LabelLog
from dal.store.log_figures import names_in
from dal.store.project_rows import ProjectRow, ProjectRows, RowChanges
from dal.store.run_folder import LABELS, ROWS
from dal.store.visible_names import alike

_SHOWN = 5  # ids in a message
_PLACEHOLDERS = ("a", "b")  # of the classes, which neither rows nor embeddings depend on


def add_rows(options: argparse.Namespace) -> int:
    """Run `dal add` and return the exit code.

    Raises:
        ConfigError: edited texts were found, and nobody said what to do with them. Nothing is written.
        DataError: the file, a label or an id in it cannot be used. Nothing is written.
        BusyError: another process, such as `dal annotate`, works in the folder.
    """
    folder: Path = options.folder
    with held(folder), interruptible(None) as check, Console(stderr=True) as reporter:
        experiment = project_experiment(folder, _PLACEHOLDERS)
        retired, restored = (_ids(file, options, experiment, folder) for file in (options.retire, options.restore))
        imported, labels, changes = None, None, list[dict[str, Any]]()
        left_out: frozenset[str] = frozenset()
        if options.file is not None:
            reporter.stage(f"reading {printable(str(options.file))}")
            imported, labels, changes = _read(options, experiment, folder)
            reporter.stage("comparing with the project")
            left_out = _compare(imported, options, experiment, folder, reporter.monitor(check))
            reporter.clear()
        if labels is not None and imported is not None:
            labels = labels.without(left_out)
            for line in labels.lines:
                print(line)
        if options.dry_run:
            print("nothing was written")
            return 0
        if labels is not None and labels.labels and not confirmed("import these labels?"):
            print("nothing was written")
            return 2
        done = add_to_project(
            folder,
            imported,
            replace=options.changed == "new",
            left_out=left_out,
            retired=retired,
            restored=restored,
            changes=changes,
            labels=labels,
            who=options.who,
        )
        for line in _summary(folder, imported, done, labels, retired, restored):
            print(line)
    return 0


def _read(
    options: argparse.Namespace, experiment: Experiment, folder: Path
) -> tuple[ImportedRows, LabelImport | None, list[dict[str, Any]]]:
    """The rows of the file, its labels, and the classes that they bring to a project without any."""
    data: TextData = experiment.data
    with LabelLog(folder / LABELS, access="read") as log:
        classes = [entry.name for entry in log.classes.active]
        if is_corpus(options.file) and not (options.label or options.text or options.id):
            return _read_corpus(options.file, data, classes, log)
        recipe = TextData(
            str(options.file),
            text=options.text or data.text,
            text_pair=data.text_pair,
            label=options.label,
            id=options.id or data.id,
            group=data.group,
            classes=classes if options.label and len(classes) > 1 else None,
            multilabel=data.multilabel,
            label_separator=data.label_separator,
            delimiter=options.delimiter,
        )
        imported = read_imported(recipe)
        for note in imported.notes:
            say(note)
        if options.label is None:
            return imported, None, []
        found = imported.rows.classes
        unknown = [name for name in found if name not in classes]
        if classes and unknown:
            raise _no_class(f"{options.file}, column {printable(options.label)}", unknown, classes, folder)
        check_classes(found, multilabel=data.multilabel)
        for note in about_alike([] if classes else found):
            say(note)
        labels = LabelImport.of(imported.labels, len(imported), multilabel=data.multilabel, log=log)
    return imported, labels, [{"do": "add", "name": name} for name in unknown]


def _read_corpus(
    file: Path, data: TextData, classes: Sequence[str], log: LabelLog
) -> tuple[CorpusRows, CorpusImport, list[dict[str, Any]]]:
    """The rows and answers of a file that `dal export` wrote, and the classes that they bring to a project without any.

    Raises:
        DataError: the file was changed by hand, or has a class that the project lacks, or several on a text.
    """
    corpus = read_corpus(file)
    if corpus.multilabel and not data.multilabel:
        raise DataError(f"{file} has texts with several classes or none of them, and a text of the project has one")
    unknown = [name for name in corpus.classes if name not in classes]
    if classes and unknown:
        assert log.path is not None
        raise _no_class(str(file), unknown, classes, log.path.parent)
    check_classes(corpus.classes, multilabel=data.multilabel)
    check_people(file, corpus, names_in(log))
    pair = "text_pair" if any(row.pair is not None for row in corpus.rows) else None
    if (pair is None) != (data.text_pair is None) and corpus.rows:
        has = {True: "single texts", False: "pairs of texts"}
        raise DataError(f"{file} has {has[pair is None]}, and the project {has[data.text_pair is None]}")
    recipe = TextData(str(table_path(file)), text="text", text_pair=pair, label=None, id="id")
    imported = CorpusRows.read(recipe)
    for note in imported.notes:
        say(note)
    labels = CorpusImport.of_corpus(corpus, multilabel=data.multilabel, log=log)
    return imported, labels, [{"do": "add", "name": name} for name in unknown]


def _no_class(place: str, unknown: Sequence[str], classes: Sequence[str], folder: Path) -> DataError:
    name = printable(unknown[0])
    similar = alike([*classes, unknown[0]])[-1:]
    if similar and similar[0][0] == unknown[0]:
        has = f"which has {printable(similar[0][1])}: write the label like this, or rename the class"
        return DataError(f"{place}: {name} is no class of the project, {has}")
    return DataError(f"{place}: {name} is no class of the project: `dal classes {typed(folder)} add` adds it")


def _compare(
    imported: ImportedRows, options: argparse.Namespace, experiment: Experiment, folder: Path, monitor: Monitor
) -> frozenset[str]:
    """Compare the rows of the file with the project: print what is found, and return the ids to leave out.

    Raises:
        ConfigError: texts were edited, and nobody said what to do with them.
    """
    with ProjectRows(folder / ROWS) as rows:
        new, changes = _new_rows(imported, rows)
        edited: Sequence[str] = changes.edited
        if edited:
            count = counted(len(edited), "id is", "ids are")
            say(f"{count} in the project with another text: {_some(edited)}{_answers(folder, edited)}")
        pairs: list[tuple[str, str]] = []
        if experiment.data.id is None and changes.known:  # a file that has grown, in which texts may have been edited
            pairs = edited_texts(new, rows, set(imported.rows.ids))
        if pairs:
            old = [known for _, known in pairs]
            compared = f" (the first {MOST_COMPARED:,} new texts were compared)" if len(new) > MOST_COMPARED else ""
            say(
                f"{len(pairs):,} new texts differ in a few words from texts that this file does not have any more: "
                f"{_some([f'{each} from {known}' for each, known in pairs])}{_answers(folder, old)}{compared}"
            )
        if edited or pairs:
            _decide(options)
        given_ids = experiment.data.id is not None or isinstance(imported, CorpusRows)
        repeated = _repeated(new, rows) if given_ids else 0
        if repeated:
            say(f"{repeated:,} new rows repeat a text of the project under another id")
        pool = [row for row in rows.get([each for _, each in rows.shuffled(0, POOL_SAMPLE)]) if row is not None]
        sample = sorted(new, key=lambda row: row.id)[:NEW_SAMPLE] if experiment.data.id is None else new[:NEW_SAMPLE]
        note = shift_note(
            shift_of_texts([*map(_text, pool)], [*map(_text, sample)], experiment.learner, monitor=monitor)
        )
        if note:
            say(note)
    return frozenset([*edited, *(each for each, _ in pairs)]) if options.changed == "keep" else frozenset()


def _new_rows(imported: ImportedRows, rows: ProjectRows) -> tuple[list[ProjectRow], RowChanges]:
    """The rows of the file whose ids are not in the project, and how the others compare."""
    changes = rows.compare(imported.project_rows())
    new: list[ProjectRow] = []
    page: list[ProjectRow] = []
    for row in imported.project_rows() if changes.added else ():
        page.append(row)
        if len(page) == 1_000:
            new += _unknown(page, rows)
            page = []
    return [*new, *_unknown(page, rows)], changes


def _unknown(page: list[ProjectRow], rows: ProjectRows) -> list[ProjectRow]:
    return [row for row, known in zip(page, rows.get([row.id for row in page]), strict=True) if known is None]


def _decide(options: argparse.Namespace) -> None:
    if options.changed is None and asks():
        options.changed = chosen("keep the texts in the project, or take the new ones?", ("keep", "new")) or None
    if options.changed is None:
        raise ConfigError(
            "texts were edited: --changed keep leaves the project's texts as they are, --changed new takes the new "
            "ones; nothing was written"
        )


def _repeated(new: list[ProjectRow], rows: ProjectRows) -> int:
    """Number of new rows whose text the project has under another id."""
    texts = {_text(row) for row in new}
    known = {text for page in rows.pages() for text in map(_text, page) if text in texts} if texts else set()
    return sum(_text(row) in known for row in new)


def _text(row: ProjectRow) -> str | tuple[str, str]:
    return row.text if row.pair is None else (row.text, row.pair)


def _answers(folder: Path, ids: Sequence[str]) -> str:
    with LabelLog(folder / LABELS, access="read") as log:
        count = sum(state.people > 0 for state in log.states(ids).values())
    return f"; {count:,} of them have answers, which stay with the id" if count else ""


def _some(names: Sequence[str]) -> str:
    more = f" and {len(names) - _SHOWN:,} more" if len(names) > _SHOWN else ""
    return ", ".join(printable(name, 60) for name in names[:_SHOWN]) + more


def _ids(file: Path | None, options: argparse.Namespace, experiment: Experiment, folder: Path) -> list[str]:
    """The ids in a file, all of which are in the project."""
    if file is None:
        return []
    if file.suffix.lower() == ".txt":
        try:
            ids = [line.strip() for line in file.read_text(encoding="utf-8-sig").splitlines() if line.strip()]
        except UnicodeDecodeError as error:
            raise DataError(f"{file}: byte {error.start + 1} is not UTF-8: save it as UTF-8") from None
    else:
        column = options.id or experiment.data.id or "id"
        wanted = ColumnRequest((), others=(column,), options={column: "--id"})
        ids = [str(value) for value in read(str(file), wanted).table[column].to_pylist() if value]
    with ProjectRows(folder / ROWS) as rows:
        unknown = [name for name, row in zip(ids, rows.get(ids), strict=True) if row is None]
    if unknown:
        raise DataError(f"{file}: {len(unknown):,} of {len(ids):,} ids are not in the project: {_some(unknown)}")
    if not ids:
        raise DataError(f"{file} has no ids")
    return list(dict.fromkeys(ids))


def _summary(
    folder: Path,
    imported: ImportedRows | None,
    done: RowChanges,
    labels: LabelImport | None,
    retired: Sequence[str],
    restored: Sequence[str],
) -> list[str]:
    lines = []
    with ProjectRows(folder / ROWS) as rows:
        total = len(rows)
    if imported is not None:
        what = [f"{counted(done.added, 'text')} added"]
        if done.known:
            what.append(f"{counted(done.known, 'was', 'were')} in the project already")
        if imported.repeated:
            what.append(
                f"{counted(imported.repeated, 'of the file repeats', 'of the file repeat')} an earlier text of it"
            )
        if done.other_fields:
            what.append(f"{counted(done.other_fields, 'has', 'have')} other values in other columns")
        lines.append("; ".join(what))
    if labels is not None:
        lines.append(f"{counted(len(labels.labels), 'label')} imported")
    if retired:
        lines.append(f"{counted(len(retired), 'row')} retired; answers are kept")
    if restored:
        lines.append(f"{counted(len(restored), 'row')} brought back")
    lines.append(f"{folder} has {counted(total, 'text')}")
    return lines
