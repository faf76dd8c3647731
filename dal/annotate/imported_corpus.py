"""Labels that `dal export` wrote, imported into a new project with everybody's answers and their provenance."""

from collections.abc import Iterator
from dataclasses import dataclass, replace

from dal.annotate.imported_labels import LabelImport
from dal.data.imported_rows import ImportedRows
from dal.formats.corpus import ANSWERED, COLUMNS, Corpus, foreign_name
from dal.formats.log_corpus import store_corpus
from dal.store.label_log import LabelLog
from dal.store.project_rows import ProjectRow


@dataclass(frozen=True, eq=False)
class CorpusRows(ImportedRows):
    """Rows of an exported file: its own columns are no columns of the user's data."""

    def project_rows(self) -> Iterator[ProjectRow]:
        """The rows as a project stores them, in the order of the file."""
        for row in super().project_rows():
            fields = {foreign_name(name): value for name, value in row.fields.items() if name not in COLUMNS}
            yield replace(row, fields=fields)


@dataclass(frozen=True)
class CorpusImport(LabelImport):
    """The answers of an exported file.

    Attributes:
        corpus: the file.
        multilabel: whether a row may have several classes.
    """

    corpus: Corpus
    multilabel: bool

    @classmethod
    def of_corpus(cls, corpus: Corpus, *, multilabel: bool) -> "CorpusImport":
        """The import of all answers of a corpus into a new project."""
        labels: dict[str, str | tuple[str, ...]] = {}
        for row in corpus.only(ANSWERED).rows:
            if row.answer is not None and row.answer.classes is not None:
                labels[row.id] = row.answer.classes if multilabel else row.answer.classes[0]
        return cls(labels, 0, (), 0, len(corpus.rows) - len(labels), corpus, multilabel)

    def store(self, log: LabelLog, *, who: str = "") -> None:
        """Store the answers under the names of those who gave them; `who` is not used."""
        store_corpus(log, self.corpus, multilabel=self.multilabel)
