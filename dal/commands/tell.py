"""`dal tell`: store the answers of a file that a person filled in."""

import argparse
import os
from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from dal.commands.experiment_settings import asked_experiment, open_session
from dal.commands.paths import check_input, path_of, require_stored
from dal.commands.shared_options import add_cell, add_person
from dal.commands.terminal import Parser, say
from dal.config.kinds import PROJECT, kind_of
from dal.errors import AnswerError, ConfigError, DalError, DataError, counted, shortened
from dal.experiments.spinner import loading_packages
from dal.store.atomic_files import typed
from dal.store.run_folder import LABELS

if TYPE_CHECKING:
    from dal.annotate.people_answers import StoredAnswers
    from dal.data.text_data import TextData
    from dal.formats.foreign_answers import ForeignAnswer
    from dal.session import Session


def tell(arguments: list[str]) -> int:
    """`dal tell`."""
    options = _options(arguments)
    with loading_packages(stderr=True):
        from dal.annotate.person_names import check_names
        from dal.commands.accuracy_estimate import find_sample_place, read_check
        from dal.formats.foreign_files import SUFFIXES
        from dal.store.log_figures import names_in

        foreign = options.file.suffix.lower() in SUFFIXES
        sample = None if foreign else find_sample_place(options)
    if foreign and options.partial:
        raise ConfigError("--partial is for CSV files: a file of another program is stored whole or not at all")
    if sample is not None:
        if options.partial:
            raise ConfigError(f"--partial: {options.file} is that of `dal ask --check`, which is read from the top")
        return read_check(sample, options)
    for name, given in (("--keep", options.keep), ("--cell", options.cell is not None)):
        if given:
            raise ConfigError(
                f"{name} is for a file of `dal ask {typed(options.folder)} --check`, and {options.file} is none"
            )
    rest = options.file.with_suffix(".rest.csv")
    if options.partial and os.path.lexists(rest):
        raise ConfigError(f"{rest} already exists and may contain answers: `dal tell` it first, or remove it")
    experiment = asked_experiment(options.folder, None, None)
    if not os.path.lexists(options.folder / LABELS):  # a new one would be created, and hide that answers are gone
        raise ConfigError(
            f"{options.folder} has no {LABELS}: nothing was asked there yet, or the file must be restored"
        )
    with open_session(experiment, options.folder) as session:
        if options.who:
            check_names([options.who], names_in(session.store))
        several = kind_of(options.folder) == PROJECT  # people may answer the same text, and contradict each other
        try:
            if foreign:
                told = _tell_people(options, session) if several else _tell_foreign(options, session)
            else:
                told = _tell_sheet(session, options, rest, several=several)
        except (AnswerError, DataError) as error:
            hint = _about_adding(options, session, experiment.data) if several else ""
            if hint:
                separator = "\n  " if "\n" in str(error) else "; "
                error.args = (f"{error}{separator}{hint}",)
            raise
        store = session.store
        for line in _about_disputes(options.folder, told.disputed):
            say(line)
        # The state of a session does not know the answers that were stored past it.
        pending = len(store.pending) if several else len(session.pending)
        labeled = store.answered if several else len(session.labels)
        print(
            f"{counted(told.new, 'new answer')} stored, {counted(told.known, 'was', 'were')} already stored; "
            f"{counted(pending, 'text is', 'texts are')} still to be answered, "
            f"{counted(labeled, 'has', 'have')} a label"
        )
    return 0


def _about_adding(options: argparse.Namespace, session: "Session", data: "TextData") -> str:
    """What to type for a file that `dal add` reads: with texts that the project lacks, or of `dal export`."""
    from dal.data.imported_rows import columns_of, read_imported
    from dal.data.text_data import TextData
    from dal.formats.corpus_files import is_corpus

    pool = session.pool
    command = f"`dal add {typed(options.folder)} {typed(options.file)}`"
    if is_corpus(options.file):
        return f"{command} takes a file of `dal export` with its texts and everybody's answers"
    recipe = TextData(str(options.file), text=data.text, text_pair=data.text_pair, label=None)
    try:
        given = read_imported(replace(recipe, id="id" if "id" in columns_of(recipe) else None)).rows
    except DalError:
        return ""
    ids, texts = set(pool.ids), set(pool.texts())
    rows = zip(given.ids, given.texts(), strict=True)
    lacking = len({text for id, text in rows if id not in ids and text not in texts})  # a sheet may have changed texts
    return f"it has {counted(lacking, 'text')} that the project lacks: {command} adds them" if lacking else ""


def _tell_sheet(session: "Session", options: argparse.Namespace, rest: Path, *, several: bool) -> "StoredAnswers":
    """Store the answers of a sheet."""
    from dal.annotate.people_answers import StoredAnswers, store_answers
    from dal.annotate.sheet import keep_absent, read_answers, write_refused
    from dal.formats.foreign_answers import ForeignAnswer

    further = options.who if several and not options.correct else ""
    answers = read_answers(options.file, session, correct=options.correct, partial=options.partial, further=further)
    for note in answers.notes:
        say(note)
    if answers.refused:  # written before anything is stored, so that no line is in neither place
        write_refused(rest, answers.refused)
    told = StoredAnswers(0, 0)
    if further:
        ids = list(session.pool.ids.take(answers.rows))
        given = zip(ids, answers.values, strict=True)
        told = store_answers(session.store, [ForeignAnswer(id, value, further) for id, value in given])
    elif answers.rows:
        new = session.tell(answers.rows, answers.values, who=options.who, correct=options.correct)
        told = StoredAnswers(new, len(answers.rows) - new)
    kept = keep_absent(session, answers.absent, who=options.who)
    if answers.refused:
        lines = "1 line is" if len(answers.refused) == 1 else f"{len(answers.refused)} lines are"
        say(f"{lines} wrong: see the column why of {rest}, correct the labels there and `dal tell` that file")
    return StoredAnswers(told.new + kept, told.known + len(answers.absent) - kept, told.disputed)


def _read_foreign(options: argparse.Namespace, session: "Session") -> "tuple[ForeignAnswer, ...]":
    """The answers of a file of another program, with the name that the command gives to its only annotator.

    Raises:
        ConfigError: the command names one annotator, and the file has several.
        AnswerError: something in the file is wrong.
    """
    import numpy as np

    from dal.annotate.person_names import wrong_names
    from dal.formats.exported_answers import DATA, Origin, origins_of
    from dal.formats.foreign_answers import Answerable, refuse_mistakes
    from dal.formats.foreign_files import read_foreign
    from dal.store.log_figures import names_in

    pool, store, file, who = session.pool, session.store, options.file, options.who
    texts = (text if isinstance(text, tuple) else (text,) for text in pool.texts())
    rows = dict(zip(pool.ids.arrow().to_pylist(), texts, strict=True))
    absent = {*store.pending, *store.answers, *store.skipped} - rows.keys()
    labeled = set(pool.ids.take(np.flatnonzero(pool.known.numpy())))

    def origins(row: str) -> list[Origin]:
        return [*origins_of(store, row), *([DATA] if row in labeled else [])]

    read = read_foreign(file, Answerable(rows, pool.classes, pool.multilabel, absent, origins))
    for note in read.notes:
        say(note)
    if read.exported:
        say(f"{counted(read.exported, 'answer')} left out: written by `dal export`, and not changed since")
    people = sorted({answer.who for answer in read.answers})
    if who and len(people) > 1:
        named = ", ".join(shortened(name, 40) for name in people[:5])
        raise ConfigError(f"--who {shortened(who, 40)}: {file} has answers of {len(people)} people ({named})")
    if who:
        return tuple(replace(answer, who=who) for answer in read.answers)
    wrong = wrong_names(((answer.who, answer.place) for answer in read.answers), names_in(store))
    refuse_mistakes(file, list(wrong.values()))
    return read.answers


def _tell_people(options: argparse.Namespace, session: "Session") -> "StoredAnswers":
    """Store the answers of a file of another program in a project, and the notes.

    Raises:
        AnswerError: something in the file is wrong. Nothing was stored.
    """
    from dal.annotate.people_answers import check_answers, store_answers

    answers = _read_foreign(options, session)
    check_answers(options.file, session.store, answers, correct=options.correct)
    return store_answers(session.store, answers)


def _tell_foreign(options: argparse.Namespace, session: "Session") -> "StoredAnswers":
    """Store the answers of a file of another program in a folder whose rows have one answer, and the notes.

    Raises:
        AnswerError: something in the file is wrong, or its people contradict each other. Nothing was stored.
    """
    from dal.annotate.people_answers import StoredAnswers, store_notes
    from dal.annotate.sheet import check_given, keep_absent

    read, pool = _read_foreign(options, session), session.pool
    given = ((answer.row, answer.value, answer.place) for answer in read)
    answers = check_given(options.file, session, given, correct=options.correct)
    by_row = {answer.row: answer for answer in read}
    groups: dict[str, list[tuple[int, ForeignAnswer]]] = defaultdict(list)
    for row in answers.rows:
        answer = by_row[pool.ids[row]]
        groups[answer.who].append((row, answer))
    new = 0
    for name, some in groups.items():  # everything was checked: a person's answers are stored in one transaction
        new += session.tell(
            [row for row, _ in some],
            [answer.value for _, answer in some],
            who=name,
            seconds=[answer.seconds for _, answer in some],
            correct=options.correct,
        )
    new += keep_absent(session, answers.absent, who=options.who)
    store_notes(session.store, read)
    return StoredAnswers(new, len(answers.rows) + len(answers.absent) - new)


def _about_disputes(folder: Path, disputed: "Sequence[str]") -> Iterator[str]:
    """What to do about texts on which people disagree."""
    if disputed:
        ids = ", ".join(repr(shortened(id, 40)) for id in disputed[:5]) + (", ..." if len(disputed) > 5 else "")
        texts = "1 text" if len(disputed) == 1 else f"{len(disputed)} texts"
        yield f"people disagree on {texts} ({ids}): decide in dal annotate {typed(folder)}"


def _options(arguments: list[str]) -> argparse.Namespace:
    parser = Parser(
        "dal tell",
        description="Stores the answers of a CSV file that `dal ask` wrote and a person filled in. Rows with an empty "
        "label stay pending; `skip` declines a row. If any line is wrong, nothing is stored. Other files are the JSON "
        "export of Label Studio (.json), the output of `prodigy db-out` (.jsonl), and what `dal export` wrote. A file "
        "of `dal ask --check` is recognized by its ids: its answers are used to print the accuracy of the model with a "
        "95 % interval, and become no labels.",
        allow_abbrev=False,
    )
    parser.add_argument("folder", type=path_of, help="the folder given to `dal ask`")
    parser.add_argument("file", type=path_of, help="the file; of a CSV file, the columns id and label are read")
    about = "accept rows that were not asked, and replace earlier answers"
    parser.add_argument("--correct", action="store_true", help=about)
    about = "store the right lines, and write the wrong ones to FILE.rest.csv (todo.rest.csv for todo.csv)"
    parser.add_argument("--partial", action="store_true", help=about)
    about = "name of the annotator, stored with each answer; for files of other programs that of the only annotator"
    add_person(parser, about)
    about = "also store the answers of a check as labels: the next model is trained on them, so they cannot evaluate it"
    parser.add_argument("--keep", action="store_true", help=about)
    add_cell(parser, "cell of a run or comparison that a check was drawn for, such as Margin-seed0")
    options = parser.parse_args(arguments)
    check_input(options.file)
    require_stored(options.folder, None)
    return options
