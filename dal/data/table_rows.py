"""Conversion of tables to rows, and their split into pool, test and validation rows."""

import warnings
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import torch
from numpy.typing import NDArray

from dal.data.class_descriptions import NAME_ALONE, described_classes
from dal.data.columns import TextColumn, TextPairs, digests, hash_ids
from dal.data.file_source import FileSource
from dal.data.label_codes import Encoded, UnknownLabelError, checked_classes, encode, from_python, refuse_two_meanings
from dal.data.label_values import NOT_ENCODABLE, first_not_encodable, reason, shown
from dal.data.rows import Rows, Splits, named_ids, strings, unique_ids
from dal.data.seeded_samples import Keys, distinct, keys, sample, share, strata
from dal.data.summary import Summary
from dal.errors import DataError, printable

if TYPE_CHECKING:
    from dal.data.text_data import TextData

# Random streams (see `dal.data.seeded_samples.keys`).
_TEST, _VALIDATION, _LIMIT, _TEST_LIMIT = range(4)


class DataWarning(UserWarning):
    """A property of the data that the user should know, such as skipped rows."""


@dataclass(frozen=True, eq=False)
class _Part:
    """Rows with the information needed to split them.

    Attributes:
        rows: rows with a non-empty text.
        kept: row number of each in the source. Not updated by `take`.
        empty: number of rows with an empty text.
        named: whether the ids come from an id column.
        where: function that names a row of the source in messages.
    """

    rows: Rows
    kept: NDArray[np.int64]
    empty: int
    named: bool
    where: Callable[[int], str]

    def take(self, index: NDArray[np.int64]) -> "_Part":
        return replace(self, rows=self.rows.take(index))

    @property
    def digest(self) -> Keys:
        """Hash of the text of each row."""
        return digests(self.rows.inputs)

    def keys(self, seed: int, stream: int) -> Keys:
        return keys(digests(self.rows.ids), seed, stream)


def _part(source: FileSource, recipe: "TextData", classes: tuple[str, ...] | None) -> _Part:
    texts = [source.table[name] for name in (recipe.text, recipe.text_pair) if name is not None]
    empty = np.zeros(len(source.table), np.bool_)
    for column in texts:
        blank = pc.or_(pc.utf8_is_space(column), pc.equal(pc.binary_length(column), 0))
        empty |= np.asarray(pc.fill_null(blank, True))
    kept = np.flatnonzero(~empty)
    if not len(kept):
        raise DataError(f"{source.name}: every text is empty ({len(empty):,} rows), column {shown(recipe.text)}")
    index = kept if empty.any() else None
    columns = [TextColumn(column.fill_null("") if column.null_count else column, index) for column in texts]
    inputs = columns[0] if len(columns) == 1 else TextPairs(columns[0], columns[1])
    id_column = source.id_column or recipe.id
    named = id_column is not None and id_column in source.table.column_names
    groups = None
    if recipe.group is not None and recipe.group in source.table.column_names:
        groups = TextColumn(source.table[recipe.group].fill_null(""), index)
    rows = Rows(
        inputs=inputs,
        ids=_named_ids(source, str(id_column), kept) if named else hash_ids(digests(inputs)),
        groups=groups,
        multilabel=recipe.multilabel,
        source=source.name,
        **vars(_labels(source, recipe, kept, classes)),
    )
    return _Part(rows, kept, int(empty.sum()), named, source.where(id_column))


def rows_of(source: FileSource, recipe: "TextData") -> tuple[Rows, NDArray[np.int64]]:
    """All rows of a source with a non-empty text, not split, and the number of each in the source, (N,).

    Raises:
        DataError: see `TextData`.
    """
    part = _part(source, recipe, None if recipe.classes is None else checked_classes(recipe.classes))
    return part.rows, part.kept


def _named_ids(source: FileSource, column: str, kept: NDArray[np.int64]) -> TextColumn:
    where = source.where(column)
    values = source.table[column]
    blank = np.asarray(pc.fill_null(pc.equal(values, ""), True))[kept]
    if blank.any():
        raise DataError(f"{where(int(kept[np.argmax(blank)]))}: the id is empty")
    return unique_ids(TextColumn(TextColumn(values.fill_null("")).arrow(kept)), lambda row: where(int(kept[row])), kept)


def _labels(
    source: FileSource, recipe: "TextData", kept: NDArray[np.int64], classes: tuple[str, ...] | None
) -> Encoded:
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


def listed(name: str, texts: Any, columns: dict[str, Any], pair: bool) -> FileSource:
    """Build a source from Python lists."""
    if not len(texts):
        raise DataError(f"{name} are empty: there are no rows")
    table: dict[str, Any] = {}
    for index, column in enumerate(("text", "text_pair") if pair else ("text",)):
        try:
            values = [text if text is None or not pair else text[index] for text in texts] if pair else texts
            table[column] = pa.array(values, pa.large_string(), from_pandas=True)  # NaN and NA become null
        except UnicodeEncodeError:
            row = first_not_encodable(values) or 0
            raise DataError(f"{name}: row {row + 1}: {shown(values[row])} {NOT_ENCODABLE}") from None
        except (pa.ArrowInvalid, pa.ArrowTypeError, TypeError, IndexError) as error:
            expected = "pairs of texts" if pair else "texts"
            raise DataError(f"{name}: {expected} expected: {reason(error)}") from error
    for column, values in columns.items():
        if values is not None:
            if len(values) != len(texts):
                raise DataError(f"{name}: {len(texts)} rows but {len(values)} in {column!r}")
            if column == "id":
                values = named_ids(values, name)
            where = FileSource(name, None).where(column)
            table[column] = values if column == "label" else strings(values, where).arrow()
    return FileSource(name, pa.table(table))


def codes_as_names(classes: Sequence[str] | None, labels: dict[str, Any]) -> tuple[list[str] | None, list[Any]]:
    """The classes, and the labels of each source as an Arrow column.

    The classes are the given ones, or "0", "1", ... if all labels are indices, else None.
    """
    names = None if classes is None else checked_classes(classes)
    columns: list[Any] = []
    sizes: list[int | None] = []
    for name, values in labels.items():
        where = FileSource(name, None).where("label")
        if values is None:
            columns.append(None)
            continue
        if isinstance(values, torch.Tensor):
            refuse_two_meanings(values, names, where)
        column, numbered = from_python(values, where)
        columns.append(column)
        if column.null_count == len(column):
            continue
        sizes.append(None if numbered is None else len(numbered))
    if names is not None or not sizes or None in sizes:
        return (None if names is None else list(names)), columns
    return [str(code) for code in range(max(size for size in sizes if size is not None))], columns


def split(recipe: "TextData", pool_source: FileSource, test_source: FileSource | None) -> Splits:
    """Split the tables into pool, test and validation rows as the recipe specifies."""
    pool, test = _parts(recipe, pool_source, test_source)
    for note in (*pool_source.notes, *(() if test_source is None else test_source.notes)):
        warnings.warn(note, DataWarning, stacklevel=4)
    left_out = Counter(empty=pool.empty + (0 if test is None else test.empty))
    if left_out["empty"]:
        message = f"{pool.rows.source}: {left_out['empty']:,} rows with an empty text were skipped"
        warnings.warn(message, DataWarning, stacklevel=4)
    if test is not None:
        _refuse_shared_ids(pool, test)
        test = _labeled(test, left_out)
    elif recipe.test is not None:
        pool, test = _held_out(pool, float(recipe.test), recipe.seed, _TEST, "test")
    if test is not None:
        pool = _without(pool, test, left_out)
        test = _limited(test, recipe.test_limit, recipe.seed, _TEST_LIMIT, left_out)
    pool = _limited(pool, recipe.limit, recipe.seed, _LIMIT, left_out)
    validation = None
    if recipe.validation:
        pool, validation = _held_out(pool, recipe.validation, recipe.seed, _VALIDATION, "validation")
        pool = _without(pool, validation, left_out)
    known = pool.rows.labels[pool.rows.known]
    counts = known.sum(0) if pool.rows.multilabel else torch.bincount(known, minlength=len(pool.rows.classes))
    summary = Summary(
        source=pool_source.name,
        rows=len(pool_source.table),
        pool=len(pool.rows),
        labeled=int(pool.rows.known.sum()),
        duplicates=len(pool.rows) - distinct(pool.digest),
        test=0 if test is None else len(test.rows),
        test_source="" if test_source is None else test_source.name,
        validation=0 if validation is None else len(validation.rows),
        classes=dict(zip(pool.rows.classes, counts.tolist(), strict=True)),
        **left_out,
    )
    test_rows, validation_rows = (None if part is None else part.rows for part in (test, validation))
    return Splits(pool.rows, test_rows, validation_rows, summary)


def _parts(recipe: "TextData", pool_source: FileSource, test_source: FileSource | None) -> tuple[_Part, _Part | None]:
    """All rows of the pool and of a given test, with common classes: declared, or found in the pool or the test."""
    declared = None if recipe.classes is None else checked_classes(recipe.classes)
    pool = _part(pool_source, recipe, declared)
    test = None
    if test_source is not None:
        try:
            test = _part(test_source, recipe, declared or pool.rows.classes or None)
        except UnknownLabelError as error:
            hint = "" if declared else f", which were found in {pool_source.name}: name them all with `classes`"
            raise DataError(f"{error}{hint}") from None
        if pool.rows.classes != test.rows.classes:  # the pool has no labels: it takes the classes of the test
            rows, classes = pool.rows, test.rows.classes
            labels = torch.zeros(len(rows), len(classes), dtype=torch.bool) if rows.multilabel else rows.labels
            pool = replace(pool, rows=replace(rows, labels=labels, classes=classes))
    _refuse_one_class(recipe, pool, test)
    if not recipe.given_descriptions and recipe.description_template == NAME_ALONE:
        return pool, test
    where = printable(recipe.descriptions, 200) if isinstance(recipe.descriptions, str) else "descriptions"
    described = described_classes(pool.rows.classes, recipe.given_descriptions, where=where)

    def with_descriptions(part: _Part) -> _Part:
        template = recipe.description_template
        return replace(part, rows=replace(part.rows, described=described, description_template=template))

    return with_descriptions(pool), None if test is None else with_descriptions(test)


def _refuse_one_class(recipe: "TextData", pool: _Part, test: _Part | None) -> None:
    rows = pool.rows
    if recipe.multilabel:
        return
    column = f"column {shown(recipe.label)}"
    if len(rows.classes) == 1:
        where = rows.source if rows.known.any() or test is None else test.rows.source
        hint = "; name all classes with `classes` if the others are still to be found"
        only = shown(rows.classes[0])
        raise DataError(f"{where}: {column} has one class only ({only}): a classifier needs two{hint}")
    if len(rows) > 1 and bool(rows.known.all()) and bool((rows.labels == rows.labels[0]).all()):
        name = rows.classes[int(rows.labels[0])]
        raise DataError(f"{rows.source}: {column} has one class only ({shown(name)}) in all {len(rows):,} rows")


def _refuse_shared_ids(pool: _Part, test: _Part) -> None:
    if not (pool.named and test.named):
        return
    shared = pc.index_in(test.rows.ids.arrow(), value_set=pool.rows.ids.arrow())
    rows = np.flatnonzero(np.asarray(shared.is_valid()))
    if len(rows):
        first = int(rows[0])
        other = int(pool.kept[shared[first].as_py()]) + 1
        more = f" (and {len(rows) - 1:,} more)" if len(rows) > 1 else ""
        where = test.where(int(test.kept[first]))
        raise DataError(
            f"{where}: the id {shown(test.rows.ids[first])} also occurs in the pool, {pool.rows.source} row {other}"
            f"{more}; a test must not share rows with the pool"
        )


def _labeled(test: _Part, left_out: Counter[str]) -> _Part:
    """The labeled rows of the test."""
    known = np.flatnonzero(test.rows.known.numpy())
    if not len(known):
        raise DataError(f"{test.rows.source}: no row has a label: evaluating on a test needs them")
    left_out["test_unlabeled"] = len(test.rows) - len(known)
    return test.take(known)


def _limited(part: _Part, limit: int | None, seed: int, stream: int, left_out: Counter[str]) -> _Part:
    """A seeded sample of at most `limit` rows."""
    if limit is None or limit >= len(part.rows):
        return part
    left_out["sampled_out"] += len(part.rows) - limit
    return part.take(sample(part.keys(seed, stream), limit))


def _held_out(part: _Part, fraction: float, seed: int, stream: int, what: str) -> tuple[_Part, _Part]:
    """Hold out a stratified share of the labeled rows; return the remaining rows and the share."""
    labeled = np.flatnonzero(part.rows.known.numpy())
    if len(labeled) < 2:
        raise DataError(
            f"{part.rows.source}: {what} is a share of the labeled rows, but {len(labeled)} of {len(part.rows):,} "
            "rows have a label"
        )
    chosen = labeled[
        share(part.keys(seed, stream)[labeled], strata(part.rows.labels[torch.from_numpy(labeled)]), fraction)
    ]
    mask = np.ones(len(part.rows), np.bool_)
    mask[chosen] = False
    left = np.flatnonzero(mask)
    if not len(left):
        raise DataError(f"{part.rows.source}: a {what} share of {fraction} leaves no rows in the pool")
    return part.take(left), part.take(chosen)


def _without(pool: _Part, other: _Part, left_out: Counter[str]) -> _Part:
    """The pool without the rows whose text also occurs in the other part."""
    shared = pc.is_in(pa.array(pool.digest), value_set=pa.array(other.digest))  # uses hashing: faster than np.isin
    left = np.flatnonzero(~np.asarray(shared))
    if not len(left):
        source = other.rows.source
        raise DataError(f"{pool.rows.source}: every text of the pool also occurs in {source}: nothing is left")
    left_out["overlap"] += len(pool.rows) - len(left)
    return pool if len(left) == len(pool.rows) else pool.take(left)
