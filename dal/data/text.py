"""TextData: the recipe that turns a file, a hub data set or lists into a pool, a test and a validation share."""

import warnings
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import torch
from numpy.typing import NDArray

from dal.data.classes import Encoded, encode, from_python, listing
from dal.data.columns import Column, Pairs, digests, hash_ids
from dal.data.read import Source, Wanted, is_file_name, missing, read
from dal.data.rows import Rows, Splits, strings, unique_ids
from dal.data.split import Keys, keys, sample, share, strata
from dal.data.summary import Summary
from dal.errors import DataError

# What random numbers are drawn for (see `dal.data.split.keys`).
_TEST, _VALIDATION, _LIMIT, _TEST_LIMIT = range(4)


class DataWarning(UserWarning):
    """Something about the data that a person should know, such as rows that were skipped."""


@dataclass(frozen=True)
class TextData:
    """Texts from a file, a folder, the Hugging Face hub or the packaged demo. Nothing is read before `load`.

    Args:
        path: a .csv, .tsv, .jsonl, .json or .parquet file, a folder that `datasets` saved, a hub data set ("name" or
            "name:config"; its "train" split is the pool), or "demo": 8,530 film review sentences, negative or positive
            (extra `demo`).
        text: the column of the text.
        text_pair: the column of a second text, for sentence pairs.
        label: the column of the label: class names or whole numbers, empty (null) where unlabeled. null for a pool
            without labels. The pool may lack the column when the test has it.
        id: the column of unique row ids; by default a hash of the text and an occurrence number.
        group: the column that says which rows belong together (a document, a patient).
        classes: the class names, in the order of the codes; by default the sorted names found. Whole numbers count
            from 0 in this list; without it they are class names themselves ("0", "1", ...).
        multilabel: whether a row may have several classes: a list column, or strings cut at `label_separator`. An empty
            list is an answer ("none of them"), null is unlabeled.
        label_separator: cuts a string into several labels; a cell with nothing else is an empty list.
        test: a file, the name of a split of `path`, or a share of the labeled rows held out, 0 < share < 1.
        validation: a share of the pool's labeled rows set aside, never trained on or selected.
        limit: take at most so many rows for the pool, a seeded sample.
        test_limit: the same for the test.
        seed: decides shares and samples, which do not depend on the order of the rows.

    Raises:
        DataError: a share, limit or list of classes that makes no sense; at `load`, data that cannot be used. One line
            with the file, the row (from 1) and line, and the column.

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

    def __post_init__(self) -> None:
        if isinstance(self.test, str) and _number(self.test) is not None:
            object.__setattr__(self, "test", _number(self.test))
        if isinstance(self.test, float | int) and not 0 < self.test < 1:
            raise DataError(f"test: {self.test} is no share: it lies between 0 and 1, or names a file or split")
        if not 0 <= self.validation < 1:
            raise DataError(f"validation: {self.validation} is no share: it is at least 0 and less than 1")
        for name, value in (("limit", self.limit), ("test_limit", self.test_limit)):
            if value is not None and value < 1:
                raise DataError(f"{name}: {value} rows are no sample: it is at least 1, or null for all")
        if self.seed < 0:
            raise DataError(f"seed: {self.seed} is negative")
        if self.multilabel and not self.label_separator:
            raise DataError("label_separator is empty")
        if self.classes is not None:
            repeated = sorted({name for name in self.classes if self.classes.count(name) > 1})
            if repeated:
                raise DataError(f"classes: {repeated[0]!r} is named twice")
            if any(not name.strip() or name != name.strip() for name in self.classes):
                raise DataError("classes: a name is empty, or begins or ends with a space")
            if len(self.classes) < (1 if self.multilabel else 2):
                raise DataError(f"classes: {listing(self.classes)} is too few: a classifier needs two")

    def load(self) -> Splits:
        """The pool, the test and the validation share, read once.

        Warns:
            DataWarning: rows with an empty text were skipped.

        Raises:
            DataError: see the class.
        """
        return self._splits

    @property
    def summary(self) -> Summary:
        """What was read, skipped and dropped."""
        return self.load().summary

    @cached_property
    def _splits(self) -> Splits:
        labeled_test = isinstance(self.test, str) and self.label is not None
        pool = read(str(self.path), self._wanted(frozenset({self.label}) if labeled_test else frozenset()))
        return _split(self, pool, self._test_source(pool))

    def _wanted(self, optional: frozenset[str | None]) -> Wanted:
        texts = (self.text,) if self.text_pair is None else (self.text, self.text_pair)
        others = tuple(column for column in (self.id, self.group) if column is not None)
        return Wanted(texts, self.label, others, frozenset(column for column in optional if column is not None))

    def _test_source(self, pool: Source) -> Source | None:
        if not isinstance(self.test, str):
            return None
        if self.label is None:
            raise DataError("test: evaluating on a test needs its labels: name the label column")
        wanted = self._wanted(frozenset({self.id, self.group}))
        if self.test in pool.splits or (pool.splits and not is_file_name(self.test)):
            return read(str(self.path), wanted, split=self.test)
        if "/" not in self.test and not is_file_name(self.test):
            raise DataError(f"test: {missing(self.test)}, and {pool.name} has no splits")
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
    ) -> Splits:
        """Splits from Python lists, with the checks and options of a file.

        Args:
            texts: N texts, or N pairs of texts.
            labels: None, or N of: class names or codes, None where unlabeled; lists of those when multi-label.
            ids: N unique ids.
            groups: N group names.
            classes: the class names; by default the sorted names found, or "0", "1", ... for codes.
            multilabel: whether a row may have several classes.
            test: a share held out, or a tuple (texts, labels).
            validation: see the class, as for `limit`, `test_limit` and `seed`.

        Raises:
            DataError: as for a file; rows are counted from 1.
        """
        pair = bool(len(texts)) and not isinstance(texts[0], str)
        columns = {"label": labels, "id": ids, "group": groups}
        if isinstance(test, tuple):
            given, test_labels = test
            if labels is None and test_labels is None:
                raise DataError("test: evaluating on a test needs its labels")
        names, found = _codes_as_names(classes, [labels, test[1] if isinstance(test, tuple) else None])
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
        )
        columns["label"] = found[0]
        pool = _listed("texts", texts, columns, pair)
        held_out = _listed("the test", given, {"label": found[1]}, pair) if isinstance(test, tuple) else None
        return _split(recipe, pool, held_out)


def _number(text: str) -> float | None:
    try:
        return float(text)
    except ValueError:
        return None


# -- From a source to rows ---------------------------------------------------------------------------------------------


@dataclass(frozen=True, eq=False)
class _Part:
    """Rows with what splitting them needs: hashes of inputs and of ids, how many were empty, whether ids are named."""

    rows: Rows
    digest: Keys
    read: int
    named: bool

    def take(self, index: NDArray[np.int64]) -> "_Part":
        return replace(self, rows=self.rows.take(index), digest=self.digest[index])

    def keys(self, seed: int, stream: int) -> Keys:
        return keys(digests(self.rows.ids), seed, stream)


def _part(source: Source, recipe: TextData, classes: tuple[str, ...] | None) -> _Part:
    texts = [source.table[name] for name in (recipe.text, recipe.text_pair) if name is not None]
    empty = np.zeros(len(source.table), np.bool_)
    for column in texts:
        blank = pc.or_(pc.utf8_is_space(column), pc.equal(pc.binary_length(column), 0))
        empty |= np.asarray(pc.fill_null(blank, True))
    kept = np.flatnonzero(~empty)
    if not len(kept):
        raise DataError(f"{source.name}: every text is empty ({len(empty):,} rows), column {recipe.text!r}")
    index = kept if empty.any() else None
    columns = [Column(column.fill_null("") if column.null_count else column, index) for column in texts]
    inputs = columns[0] if len(columns) == 1 else Pairs(columns[0], columns[1])
    digest = digests(inputs)
    named = recipe.id is not None and recipe.id in source.table.column_names
    rows = Rows(
        inputs=inputs,
        ids=_named_ids(source, str(recipe.id), kept) if named else hash_ids(digest),
        groups=_groups(source, recipe.group, index),
        multilabel=recipe.multilabel,
        source=source.name,
        **vars(_labels(source, recipe, kept, classes)),
    )
    return _Part(rows, digest, len(empty), named)


def _named_ids(source: Source, column: str, kept: NDArray[np.int64]) -> Column:
    where = source.where(column)
    values = source.table[column]
    blank = np.asarray(pc.fill_null(pc.equal(values, ""), True))[kept]
    if blank.any():
        raise DataError(f"{where(int(kept[np.argmax(blank)]))}: the id is empty")
    return unique_ids(Column(Column(values.fill_null("")).arrow(kept)), lambda row: where(int(kept[row])), kept)


def _groups(source: Source, column: str | None, index: NDArray[np.int64] | None) -> Column | None:
    if column is None or column not in source.table.column_names:
        return None
    return Column(source.table[column].fill_null(""), index)


def _labels(source: Source, recipe: TextData, kept: NDArray[np.int64], classes: tuple[str, ...] | None) -> Encoded:
    values = None
    if recipe.label is not None and recipe.label in source.table.column_names:
        values = source.table[recipe.label]
        values = values if len(kept) == len(values) else values.take(pa.array(kept))
    place = source.where(recipe.label)
    return encode(
        values,
        len(kept),
        classes,
        multilabel=recipe.multilabel,
        where=lambda row: place(int(kept[row])),
        separator=recipe.label_separator,
        names=source.class_names.get(recipe.label or ""),
    )


def _listed(name: str, texts: Sequence[Any], columns: dict[str, Any], pair: bool) -> Source:
    """Python lists as a source."""
    if not len(texts):
        raise DataError(f"{name} are empty: there are no rows")
    table: dict[str, Any] = {}
    for place, column in enumerate(("text", "text_pair") if pair else ("text",)):
        try:
            values = [text if text is None or not pair else text[place] for text in texts] if pair else texts
            table[column] = pa.array(values, pa.large_string())
        except (pa.ArrowInvalid, pa.ArrowTypeError, TypeError, IndexError, UnicodeEncodeError) as error:
            raise DataError(f"{name}: {'pairs of texts' if pair else 'texts'} expected: {error}") from error
    for column, values in columns.items():
        if values is not None:
            if len(values) != len(texts):
                raise DataError(f"{name}: {len(texts)} rows but {len(values)} in {column!r}")
            table[column] = values if column == "label" else strings(values).arrow()
    return Source(name, pa.table(table))


def _codes_as_names(classes: Sequence[str] | None, labels: Sequence[Any]) -> tuple[list[str] | None, list[Any]]:
    """Arrow columns of Python labels, and the classes: those given, or "0", "1", ... where all labels are codes."""
    found: list[Any] = []
    numbered: list[tuple[str, ...] | None] = []
    for values in labels:
        if values is None:
            found.append(None)
            continue
        values = values.tolist() if isinstance(values, torch.Tensor | np.ndarray) else values
        array, names = from_python(values, lambda row: f"texts: row {row + 1}, column 'label'")
        found.append(array)
        numbered.append(names)
    codes = [names for names in numbered if names is not None]
    if classes is not None or not codes or len(codes) < len(numbered):
        return (None if classes is None else list(classes)), found
    return list(max(codes, key=len)), found


# -- From rows to splits -----------------------------------------------------------------------------------------------


def _split(recipe: TextData, pool_source: Source, test_source: Source | None) -> Splits:
    declared = None if recipe.classes is None else tuple(recipe.classes)
    pool = _part(pool_source, recipe, declared)
    test = None
    if test_source is not None:
        fixed = declared if declared is not None else pool.rows.classes or None
        test = _part(test_source, recipe, fixed)
        if pool.rows.classes != test.rows.classes:  # the pool has no labels to deduce classes from
            pool = replace(pool, rows=_relabeled(pool.rows, test.rows.classes))
    read_rows, empty = pool.read, pool.read - len(pool.rows) + (test.read - len(test.rows) if test else 0)
    _refuse_one_class(recipe, pool, test)
    if empty:
        warnings.warn(f"{pool.rows.source}: {empty:,} rows with an empty text were skipped", DataWarning, stacklevel=4)
    unlabeled_test = 0
    if test is not None:
        known = np.flatnonzero(test.rows.known.numpy())
        if not len(known):
            raise DataError(f"{test.rows.source}: no row has a label: evaluating on a test needs them")
        unlabeled_test = len(test.rows) - len(known)
        test = test.take(known) if unlabeled_test else test
        _refuse_shared_ids(pool, test)
    elif isinstance(recipe.test, float | int):
        pool, test = _held_out(pool, recipe.test, recipe.seed, _TEST, "test")
    before = len(pool.rows)
    pool = _without(pool, test)
    sizes = [before - len(pool.rows)]
    sampled = 0
    if recipe.limit is not None:
        index = sample(pool.keys(recipe.seed, _LIMIT), recipe.limit)
        sampled += len(pool.rows) - len(index)
        pool = pool.take(index)
    if test is not None and recipe.test_limit is not None:
        index = sample(test.keys(recipe.seed, _TEST_LIMIT), recipe.test_limit)
        sampled += len(test.rows) - len(index)
        test = test.take(index)
    validation = None
    if recipe.validation:
        pool, validation = _held_out(pool, recipe.validation, recipe.seed, _VALIDATION, "validation")
        before = len(pool.rows)
        pool = _without(pool, validation)
        sizes.append(before - len(pool.rows))
    rows = pool.rows
    summary = Summary(
        source=pool_source.name,
        rows=read_rows,
        pool=len(rows),
        labeled=int(rows.known.sum()),
        duplicates=len(rows) - len(np.unique(pool.digest)),
        empty=empty,
        overlap=sum(sizes),
        sampled_out=sampled,
        test=0 if test is None else len(test.rows),
        test_source="" if test_source is None else test_source.name,
        test_unlabeled=unlabeled_test,
        validation=0 if validation is None else len(validation.rows),
        classes=_counts(rows),
    )
    return Splits(rows, None if test is None else test.rows, None if validation is None else validation.rows, summary)


def _relabeled(rows: Rows, classes: tuple[str, ...]) -> Rows:
    """Rows without any label, with the classes of the test."""
    labels = torch.zeros(len(rows), len(classes), dtype=torch.bool) if rows.multilabel else rows.labels
    return replace(rows, labels=labels, classes=classes)


def _counts(rows: Rows) -> dict[str, int]:
    labels = rows.labels[rows.known]
    counts = labels.sum(0) if rows.multilabel else torch.bincount(labels, minlength=len(rows.classes))
    return dict(zip(rows.classes, counts.tolist(), strict=True))


def _refuse_one_class(recipe: TextData, pool: _Part, test: _Part | None) -> None:
    rows = pool.rows
    if recipe.multilabel:
        return
    column = f"column {recipe.label!r}"
    if len(rows.classes) == 1:
        where = rows.source if rows.known.any() or test is None else test.rows.source
        hint = "; name all classes with `classes` if the others are still to be found"
        raise DataError(f"{where}: {column} has one class only ({rows.classes[0]!r}): a classifier needs two{hint}")
    if len(rows) > 1 and bool(rows.known.all()) and bool((rows.labels == rows.labels[0]).all()):
        name = rows.classes[int(rows.labels[0])]
        raise DataError(f"{rows.source}: {column} has one class only ({name!r}) in all {len(rows):,} rows")


def _refuse_shared_ids(pool: _Part, test: _Part) -> None:
    if not (pool.named and test.named):
        return
    shared = pc.index_in(test.rows.ids.arrow(), value_set=pool.rows.ids.arrow())
    rows = np.flatnonzero(np.asarray(shared.is_valid()))
    if len(rows):
        first, other = int(rows[0]), int(shared[int(rows[0])].as_py())
        raise DataError(
            f"{test.rows.source}: {len(rows):,} ids also stand in the pool, first {test.rows.ids[first]!r} "
            f"(row {first + 1}, in {pool.rows.source} row {other + 1}, rows with an empty text not counted)"
        )


def _held_out(part: _Part, fraction: float, seed: int, stream: int, what: str) -> tuple[_Part, _Part]:
    """What is left, and a stratified share of the labeled rows."""
    labeled = np.flatnonzero(part.rows.known.numpy())
    if len(labeled) < 2:
        raise DataError(
            f"{part.rows.source}: {what} is a share of the labeled rows, but {len(labeled)} of {len(part.rows):,} "
            "rows have a label"
        )
    chosen = labeled[
        share(part.keys(seed, stream)[labeled], strata(part.rows.labels[torch.from_numpy(labeled)]), fraction)
    ]
    left = np.setdiff1d(np.arange(len(part.rows)), chosen)
    if not len(left):
        raise DataError(f"{part.rows.source}: a {what} share of {fraction} leaves no rows in the pool")
    return part.take(left), part.take(chosen)


def _without(pool: _Part, other: _Part | None) -> _Part:
    """The pool less the rows whose text also stands in the other part."""
    if other is None:
        return pool
    left = np.flatnonzero(~np.isin(pool.digest, other.digest))
    if not len(left):
        raise DataError(
            f"{pool.rows.source}: every text of the pool also stands in {other.rows.source}: nothing is left"
        )
    return pool if len(left) == len(pool.rows) else pool.take(left)
