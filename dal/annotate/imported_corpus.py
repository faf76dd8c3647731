"""Labels that `dal export` wrote, imported into a project with everybody's answers and their provenance."""

from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Self

from dal.annotate.imported_labels import LabelImport
from dal.annotate.person_names import wrong_names
from dal.data.imported_rows import ImportedRows, read_imported
from dal.data.text_data import TextData
from dal.errors import DataError, counted, printable, shortened
from dal.formats.corpus import ANSWERED, COLUMNS, DECLINED, DISPUTED, Corpus, CorpusRow, foreign_name
from dal.formats.log_corpus import store_corpus
from dal.store.atomic_files import named
from dal.store.label_log import LabelLog
from dal.store.project_rows import ProjectRow
from dal.store.row_state import NEW, PENDING, RETIRED

_PAGE = 5_000  # rows whose states are read at a time

_SHOWN = 10  # people of a preview


@dataclass(frozen=True, eq=False)
class CorpusRows(ImportedRows):
    """Rows of an exported file: its own columns are no columns of the user's data."""

    @classmethod
    def read(cls, recipe: TextData) -> Self:
        """Read the rows of an exported file."""
        return cls(**vars(read_imported(recipe)))

    def project_rows(self) -> Iterator[ProjectRow]:
        """The rows as a project stores them, in the order of the file."""
        for row in super().project_rows():
            fields = {foreign_name(name): value for name, value in row.fields.items() if name not in COLUMNS}
            yield replace(row, fields=fields)


@dataclass(frozen=True)
class CorpusImport(LabelImport):
    """The answers of an exported file, compared with the answers in the log.

    Attributes:
        corpus: the rows of the file whose answers and notes are stored. Those that have an answer in the log, or were
            retired there, are not among them.
        multilabel: whether a row may have several classes.
    """

    corpus: Corpus
    multilabel: bool

    @classmethod
    def of_corpus(cls, corpus: Corpus, *, multilabel: bool, log: LabelLog | None = None) -> "CorpusImport":
        """The import of all answers of a corpus.

        Args:
            corpus: the file.
            multilabel: whether a row of the project may have several classes.
            log: the log of the project; None for a new one.
        """
        kept: list[CorpusRow] = []
        same, retired, other = 0, 0, list[str]()
        for start in range(0, len(corpus.rows), _PAGE):
            page = corpus.rows[start : start + _PAGE]
            states = {} if log is None else log.states([row.id for row in page])
            for row in page:
                state = states.get(row.id)
                if state is None or (state.state in (NEW, PENDING) and not state.people):
                    kept.append(row)
                elif state.state == RETIRED:
                    retired += bool(row.answers)
                elif log is not None and row.answers and not _is_answered_alike(row, log):
                    other.append(row.id)
                else:
                    same += bool(row.answers)
        left = replace(corpus, rows=kept)
        labels = _labels(kept, multilabel=multilabel)
        unlabeled = len(corpus.rows) - len(labels) - same - len(other) - retired
        return cls(labels, same, tuple(other), retired, unlabeled, left, multilabel)

    def without(self, ids: Collection[str]) -> Self:
        """The import without the answers to some rows."""
        rows = [row for row in self.corpus.rows if row.id not in ids]
        labels = _labels(rows, multilabel=self.multilabel)
        return replace(self, labels=labels, corpus=replace(self.corpus, rows=rows))

    @property
    def lines(self) -> list[str]:
        """The preview: that of the labels, then who gave the answers, and what else is stored."""
        lines, rows = super().lines, self.corpus.rows
        people = Counter(answer.who for row in rows for answer in row.answers)
        if set(people) - {""}:
            given = ", ".join(f"{printable(name, 40) or 'no name'} {n:,}" for name, n in people.most_common(_SHOWN))
            given += f" and {len(people) - _SHOWN:,} more" if len(people) > _SHOWN else ""
            lines.append(f"{counted(people.total(), 'answer')} of {counted(len(people), 'person', 'people')}: {given}")
        states = Counter(row.state for row in rows)
        notes = sum(len(row.notes) for row in rows)
        for number, words in (
            (states[DECLINED], "declined"),
            (states[DISPUTED], "with contradicting answers"),
            (states[RETIRED], "taken out of the pool"),
        ):
            if number:
                lines.append(f"{counted(number, 'text')} {words}")
        return [*lines, counted(notes, "note")] if notes else lines

    def store(self, log: LabelLog, *, who: str = "") -> None:
        """Store the answers under the names of those who gave them; `who` is not used."""
        store_corpus(log, self.corpus, multilabel=self.multilabel)


def check_people(file: Path, corpus: Corpus, known: Iterable[str] = ()) -> None:
    """Check the names of the people in an exported file: nobody may pass for another.

    Args:
        file: the file, for the message.
        corpus: its rows.
        known: names of people in the project, which are accepted as they are.

    Raises:
        DataError: a name cannot be seen, or looks like another one; the message names its row.
    """
    given = (
        (who, f"row {shortened(row.id)!r}")
        for row in corpus.rows
        for who in (*(answer.who for answer in row.answers), *(note.who for note in row.notes))
    )
    wrong = list(wrong_names(given, known).values())
    if wrong:
        more = f" (and {len(wrong) - 1} more names)" if len(wrong) > 1 else ""
        raise DataError(f"{named(file)}, {wrong[0]}{more}; write another one in the columns answers and notes")


def _labels(rows: Sequence[CorpusRow], *, multilabel: bool) -> dict[str, str | tuple[str, ...]]:
    """The labels that stand, by row id."""
    labels: dict[str, str | tuple[str, ...]] = {}
    for row in rows:
        if row.state == ANSWERED and row.answer is not None and row.answer.classes is not None:
            labels[row.id] = row.answer.classes if multilabel or not row.answer.classes else row.answer.classes[0]
    return labels


def _is_answered_alike(row: CorpusRow, log: LabelLog) -> bool:
    """Whether each answer of a row is in the log, from the same person."""
    known = log.answers_by(row.id)
    for answer in row.answers:
        event = known.get(answer.who)
        value = None if event is None or event.value is None else event.value
        names = None if value is None else {value} if isinstance(value, str) else set(value)
        if event is None or names != (None if answer.classes is None else set(answer.classes)):
            return False
    return True
