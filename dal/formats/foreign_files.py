"""Answers from any file that holds them: exports of other programs, and corpora that `dal export` wrote."""

from pathlib import Path

from dal.errors import ConfigError, one_line
from dal.formats.corpus_files import json_lines, read_corpus
from dal.formats.foreign_answers import Answerable, ForeignAnswer, ForeignAnswers, refuse_mistakes
from dal.formats.label_studio_export import read_label_studio
from dal.formats.prodigy import read_prodigy
from dal.store.atomic_files import named
from dal.store.events import SKIP

#: Suffixes of the files that `read_foreign` reads.
SUFFIXES = (".json", ".jsonl", ".parquet")


def read_foreign(path: Path, known: Answerable) -> ForeignAnswers:
    """Read the answers of a file, by its suffix and content.

    A .json file is an export of Label Studio; a .jsonl file is one of Prodigy, or a corpus of `dal export`, as are
    .parquet files.

    Args:
        path: the file.
        known: rows and classes that it is checked against.

    Raises:
        ConfigError: the suffix is not one of `SUFFIXES`.
        AnswerError: lists what is wrong; nothing may be stored.
        DataError: the file cannot be read.
    """
    suffix = path.suffix.lower()
    if suffix not in SUFFIXES:
        raise ConfigError(f"{named(path)}: answers are read from files that end in {', '.join(SUFFIXES)} or .csv")
    if suffix == ".json":
        return read_label_studio(path, known)
    if suffix == ".jsonl" and "answers" not in next(json_lines(path), (0, {}))[1]:
        return read_prodigy(path, known)
    return _of_corpus(path, known)


def _of_corpus(path: Path, known: Answerable) -> ForeignAnswers:
    """The answers of a corpus that stand; answers that came with the data are left out."""
    answers: list[ForeignAnswer] = []
    mistakes: list[str] = []
    empty = 0
    for row in read_corpus(path).rows:
        answer = row.answer
        if answer is None or answer.source == "data":
            empty += answer is None
            continue
        try:
            texts = {"text": row.text} | ({} if row.pair is None else {"text_pair": row.pair})
            id = known.check_row(row.id, texts)
            value = SKIP if answer.classes is None else known.value(answer.classes)
            place = f"row {row.id!r}"
            answers.append(ForeignAnswer(id, value, answer.who, answer.at, answer.seconds, place=place))
        except ValueError as error:
            mistakes.append(f"row {row.id!r}: {one_line(error)}")
    refuse_mistakes(path, mistakes)
    return ForeignAnswers(tuple(answers), empty)
