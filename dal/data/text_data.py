"""Text data sets from files, the Hugging Face hub or lists, split into pool, test and validation rows."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from os import PathLike, fspath
from typing import Any

from dal.data.class_descriptions import NAME_ALONE, Descriptions, check_template, read_descriptions
from dal.data.columns import in_rows, labels_in_rows
from dal.data.csv_files import delimiter_of
from dal.data.data_paths import is_file_name, missing, path_of
from dal.data.file_source import ColumnRequest, FileSource
from dal.data.label_codes import checked_classes
from dal.data.label_values import listing
from dal.data.load_table import read
from dal.data.rows import Splits
from dal.data.summary import Summary
from dal.data.table_rows import codes_as_names, listed, split
from dal.errors import DataError, printable


@dataclass(frozen=True)
class TextData:
    """Text data set from a file, a folder, the Hugging Face hub or a packaged demo. Read on the first `load`.

    Args:
        path: a .csv, .tsv, .jsonl, .json or .parquet file, the rows.db of a project, a folder saved by `datasets`, a
            hub data set ("name" or "name:config", whose "train" split is the pool), or a demo of the extra `demo`:
            "demo:diagnoses", 11,900 diagnoses and their 21 chapters of ICD-10-CM, or "demo", 8,530 film review
            sentences, negative or positive.
        text: column of the text.
        text_pair: column of a second text, for sentence pairs.
        label: column of the label, with class names or integers, empty (null) where unlabeled; `None` for a pool
            without labels. The pool may lack the column if the test has it.
        id: column of unique row ids; by default a hash of the text and an occurrence number.
        group: column of the group that a row belongs to, such as a document or a patient.
        classes: class names, in the order of the codes; by default the sorted names found. Integers are then indices
            in this list, and -1 is unlabeled; without it, or if it contains numbers, integers are class names
            ("-1", "0", ...). Names are compared in Unicode form NFC.
        multilabel: whether a row may have several classes, as a list or as a string split at `label_separator`. An
            empty list is a label ("none of them"), null is unlabeled. A list of bools, one per class, is an indicator
            vector; an ambiguous list of zeros and ones is refused.
        label_separator: separator of several labels in a string; a cell with only the separator is an empty list.
        test: a file, the name of a split of `path`, or a share of the labeled rows to hold out, in (0, 1).
        validation: share of the pool's labeled rows to set aside, in [0, 1); never trained on or selected.
        limit: maximum number of pool rows, sampled with `seed`.
        test_limit: maximum number of test rows, sampled with `seed`.
        seed: seed of shares and samples, which do not depend on the order of the rows.
        delimiter: cell separator of .csv and .tsv files, one character or "tab". By default a comma (.tsv: a tab), or
            the semicolon, tab or bar with which the file has the named columns. Tab-separated cells are read as
            unquoted unless the file shows otherwise. Refused if neither `path` nor `test` is such a file.
        descriptions: class name -> text or texts that describe the class, or a file with a column of the class
            (`class`, `label` or `name`) and a column `description`, a line for each text. Classes may be omitted.
        description_template: template of the texts of other classes, with one `{}` for their readable name ("card
            arrival" for card_arrival); a class whose name is a code has no such text.

    Raises:
        DataError: an invalid share, limit, list of classes or description; from `load`, unusable data. The message is
            one line with the file, the row (from 1), its line and the column.

    Example:
        >>> splits = TextData.from_lists(["good", "bad", "fine", "poor"], ["pos", "neg", "pos", "neg"], test=0.5)
        >>> len(splits.pool), len(splits.test), splits.pool.classes
        (2, 2, ('neg', 'pos'))
    """

    path: str
    text: str = "text"
    text_pair: str | None = None
    label: str | None = "label"
    id: str | None = None
    group: str | None = None
    classes: list[str] | None = None
    multilabel: bool = False
    label_separator: str = ";"
    test: float | str | None = None
    validation: float = 0.0
    limit: int | None = None
    test_limit: int | None = None
    seed: int = 0
    delimiter: str | None = None
    descriptions: dict[str, str | list[str]] | str | None = None
    description_template: str = "{}"

    def __post_init__(self) -> None:
        for name in ("path", "test", "descriptions"):
            if isinstance(value := getattr(self, name), PathLike):
                object.__setattr__(self, name, fspath(value))
        if isinstance(self.test, str) and _number(self.test) is not None:
            object.__setattr__(self, "test", _number(self.test))
        for name in ("path", "test"):
            if isinstance(value := getattr(self, name), str) and not value.strip():
                raise DataError(f"{name} is empty: name a file, a folder or a hub data set")
        if isinstance(self.test, float | int) and not 0 < self.test < 1:
            raise DataError(f"test: {self.test} is not a share: expected a number between 0 and 1, a file or a split")
        if not 0 <= self.validation < 1:
            raise DataError(f"validation: {self.validation} is not a share: expected at least 0 and less than 1")
        for name, value in (("limit", self.limit), ("test_limit", self.test_limit)):
            if value is not None and value < 1:
                raise DataError(f"{name}: {value} is not a number of rows: expected at least 1, or null for all")
        if self.seed < 0:
            raise DataError(f"seed: {self.seed} is negative")
        if self.multilabel and not self.label_separator:
            raise DataError("label_separator is empty")
        check_template(self.description_template)
        if isinstance(self.descriptions, str) and not self.descriptions.strip():
            raise DataError("descriptions is empty: give texts by class, or name a file")
        if not isinstance(self.descriptions, str) or self.descriptions.lstrip().startswith(("{", "[")):
            read_descriptions(self.descriptions)  # raises what can be seen without the file
        delimiter_of(self.delimiter)
        files = [self.path, *([self.test] if isinstance(self.test, str) else [])]
        if self.delimiter is not None and not any(file.lower().endswith((".csv", ".tsv")) for file in files):
            raise DataError(
                f"delimiter: {printable(self.path, 200)} has no cells that it could separate, which only .csv and .tsv "
                "files have: leave it out, or give the file that name"
            )
        if self.classes is not None and len(checked_classes(self.classes)) < (1 if self.multilabel else 2):
            raise DataError(f"classes: {listing(self.classes)} is too few: a classifier needs two")

    def load(self) -> Splits:
        """Read the data and return its pool, test and validation rows. Cached after the first call.

        Warns:
            DataWarning: rows with an empty text were skipped.

        Raises:
            DataError: see the class.
        """
        return self._splits

    @property
    def summary(self) -> Summary:
        """Counts of the rows that were read, skipped and dropped."""
        return self.load().summary

    @cached_property
    def given_descriptions(self) -> Mapping[str, tuple[str, ...]]:
        """The given descriptions as class -> texts, read from the file if they are in one, once."""
        return read_descriptions(self.descriptions)[0]

    @cached_property
    def _splits(self) -> Splits:
        pool = self._pool_source()
        return split(self, pool, self._test_source(pool))

    def _pool_source(self) -> FileSource:
        labeled_test = isinstance(self.test, str) and self.label is not None
        return read(self.path, self._wanted(frozenset({self.label}) if labeled_test else frozenset()))

    def _wanted(self, optional: frozenset[str | None]) -> ColumnRequest:
        texts = (self.text,) if self.text_pair is None else (self.text, self.text_pair)
        others = tuple(column for column in (self.id, self.group) if column is not None)
        named = {getattr(self, name): f"data.{name}" for name in ("group", "id", "label", "text_pair", "text")}
        return ColumnRequest(
            texts,
            self.label,
            others,
            frozenset(column for column in optional if column is not None),
            {column: option for column, option in named.items() if column is not None},
            delimiter_of(self.delimiter),
            self.id,
        )

    def _test_source(self, pool: FileSource) -> FileSource | None:
        if not isinstance(self.test, str):
            return None
        if self.label is None:
            raise DataError("test: evaluating on a test needs its labels: name the label column")
        wanted = self._wanted(frozenset({self.id, self.group}))
        if self.test in pool.splits or (pool.splits and not is_file_name(self.test)):
            return read(self.path, wanted, split=self.test)
        if "/" not in self.test and not is_file_name(self.test):
            raise DataError(f"test: {missing(path_of(self.test))}, and {pool.name} has no splits")
        return read(self.test, wanted)

    @classmethod
    def from_lists(
        cls,
        texts: Sequence[str] | Sequence[tuple[str, str]],
        labels: Any = None,
        *,
        ids: Sequence[str] | None = None,
        groups: Sequence[str] | None = None,
        classes: Sequence[str] | None = None,
        multilabel: bool = False,
        test: "float | tuple[Sequence[Any], Any] | None" = None,
        validation: float = 0.0,
        limit: int | None = None,
        test_limit: int | None = None,
        seed: int = 0,
        descriptions: Descriptions | None = None,
        description_template: str = NAME_ALONE,
    ) -> Splits:
        """Build splits from Python lists, with the checks and options of a file.

        Args:
            texts: N texts, or N pairs of texts.
            labels: None, or N labels: class names or integers, None where unlabeled; when multi-label lists of these or
                of bools, or an (N, C) array or tensor of zeros and ones. Interpreted as in a file.
            ids: N unique ids.
            groups: N group names.
            classes: class names; by default the sorted names found, or "0", "1", ... up to the largest integer.
            multilabel: whether a row may have several classes.
            test: share to hold out, or a tuple (texts, labels).
            validation: share to set aside, see the class.
            limit: maximum number of pool rows.
            test_limit: maximum number of test rows.
            seed: seed of shares and samples.
            descriptions: class name -> text or texts that describe the class, or the path of a file.
            description_template: template of the texts of other classes, see the class.

        Raises:
            DataError: as for a file; rows are counted from 1.
        """
        texts = in_rows(texts, "texts")
        pair = bool(len(texts)) and not isinstance(texts[0], str | None)
        columns: dict[str, Any] = {
            "label": None if labels is None else labels_in_rows(labels, "labels"),
            "id": None if ids is None else in_rows(ids, "ids"),
            "group": None if groups is None else in_rows(groups, "groups"),
        }
        if isinstance(test, tuple):
            given, test_labels = in_rows(test[0], "the test"), test[1]
            test_labels = None if test_labels is None else labels_in_rows(test_labels, "labels of the test")
            if labels is None and test_labels is None:
                raise DataError("test: evaluating on a test needs its labels")
        names, label_columns = codes_as_names(
            classes, {"texts": columns["label"], "the test": test_labels if isinstance(test, tuple) else None}
        )
        recipe = cls(
            path="texts",
            text_pair="text_pair" if pair else None,
            label="label",
            id=None if ids is None else "id",
            group=None if groups is None else "group",
            classes=names,
            multilabel=multilabel,
            test=None if isinstance(test, tuple) else test,
            validation=validation,
            limit=limit,
            test_limit=test_limit,
            seed=seed,
            descriptions=descriptions,  # type: ignore[arg-type]
            description_template=description_template,
        )
        columns["label"] = label_columns[0]
        pool = listed("texts", texts, columns, pair)
        held_out = listed("the test", given, {"label": label_columns[1]}, pair) if isinstance(test, tuple) else None
        return split(recipe, pool, held_out)


def _number(text: str) -> float | None:
    try:
        return float(text)
    except ValueError:
        return None
