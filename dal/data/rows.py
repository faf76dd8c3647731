"""Immutable tables of inputs, ids and labels: the pool, the test rows and the validation rows."""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import torch
from numpy.typing import NDArray
from torch import Tensor

from dal.data.class_descriptions import (
    NAME_ALONE,
    Descriptions,
    check_template,
    class_descriptions,
    described_classes,
    read_descriptions,
)
from dal.data.columns import (
    Positions,
    TextColumn,
    TextPairs,
    as_inputs,
    digests,
    fingerprint,
    first_not_finite,
    hash_ids,
    in_rows,
    labels_in_rows,
    positions,
    select,
)
from dal.data.label_codes import checked_classes, codes_of_values, encode
from dal.data.label_names import normalize
from dal.data.label_values import NOT_ENCODABLE, encodable, first_not_encodable, is_missing, shown
from dal.data.summary import Summary
from dal.errors import DataError


@dataclass(frozen=True, eq=False, repr=False)
class Rows:
    """Immutable, row-aligned table. Texts and ids stay in Arrow memory.

    Attributes:
        inputs: N inputs for a learner: a `TextColumn`, `TextPairs`, a tensor, an array or any sequence.
        ids: N unique, stable ids.
        labels: (N,) int64, -1 where unlabeled; (N, C) bool when multi-label.
        known: (N,) bool, whether the row has a label. A labeled multi-label row may be all False ("none of them").
        classes: C class names, in the order of the codes; empty if unknown.
        multilabel: whether a row may have several classes.
        groups: N group names (such as documents or patients), or None.
        source: name of these rows in error messages.
        described: for each class the texts that the user gave to describe it; empty tuples where none was given.
        description_template: template of the texts of other classes, see `descriptions`.

    Example:
        >>> rows = Rows.from_inputs(["good", "bad", "fine"], ["pos", "neg", None])
        >>> rows.classes, rows.labels.tolist(), rows[1]
        (('neg', 'pos'), [1, 0, -1], 'bad')
    """

    inputs: Any
    ids: TextColumn
    labels: Tensor
    known: Tensor
    classes: tuple[str, ...] = ()
    multilabel: bool = False
    groups: TextColumn | None = None
    source: str = "the data"
    described: tuple[tuple[str, ...], ...] = ()
    description_template: str = NAME_ALONE

    def __post_init__(self) -> None:
        object.__setattr__(self, "classes", tuple(map(normalize, self.classes)))
        object.__setattr__(self, "described", self.described or ((),) * len(self.classes))
        if len(self.described) != len(self.classes):
            counts = f"{len(self.described)} and {len(self.classes)}"
            raise DataError(f"{self.source}: descriptions and classes differ in number: {counts}")
        check_template(self.description_template)
        wrong = first_not_encodable(self.classes)
        if wrong is not None:
            raise DataError(f"{self.source}: the class {shown(self.classes[wrong])} {NOT_ENCODABLE}")
        lengths = {"inputs": len(self.inputs), "ids": len(self.ids), "labels": len(self.labels)}
        lengths |= {"known": len(self.known)} | ({} if self.groups is None else {"groups": len(self.groups)})
        if len(set(lengths.values())) > 1:
            raise DataError(f"{self.source}: the columns differ in length: {lengths}")

    @classmethod
    def from_inputs(
        cls,
        inputs: Any,
        labels: Any = None,
        classes: Sequence[str] | None = None,
        *,
        multilabel: bool = False,
        ids: Sequence[str] | None = None,
        groups: Sequence[str] | None = None,
        source: str = "the data",
        descriptions: Descriptions | None = None,
        description_template: str = NAME_ALONE,
    ) -> "Rows":
        """Build rows from any inputs: a list of texts or text pairs, a tensor or array, a sequence of arrays.

        Args:
            inputs: N inputs.
            labels: None, or N labels: class names or integers, None where unlabeled. When multi-label, N lists of
                these or of C bools, or an (N, C) tensor or array of zeros and ones. They are interpreted as in a file
                (see `TextData`): integers are indices of `classes`, where -1 is unlabeled, or class names where
                `classes` has numbers or is not given.
            classes: class names; by default the sorted names found, or "0", "1", ... up to the largest index.
            multilabel: whether a row may have several classes.
            ids: N unique ids; by default a hash of the input and an occurrence number.
            groups: N group names.
            source: name of these rows in error messages.
            descriptions: class name -> text or texts that describe the class, or the path of a file (see `TextData`).
            description_template: template of the texts of other classes, with one `{}` for the readable name.

        Raises:
            DataError: a label is not one of the classes or is ambiguous, an id is used twice, a number in the inputs is
                not finite, the lengths differ, or a description is empty or of an unknown class.
        """
        inputs = as_inputs(inputs)
        names = None if classes is None else checked_classes(classes)
        labels, ids, groups = (
            None if column is None else as_rows(column, f"{source}: {what}")
            for what, column, as_rows in (
                ("labels", labels, labels_in_rows),
                ("ids", ids, in_rows),
                ("groups", groups, in_rows),
            )
        )
        for what, column in (("labels", labels), ("ids", ids), ("groups", groups)):
            if column is not None and len(column) != len(inputs):
                raise DataError(f"{source}: {len(inputs)} inputs but {len(column)} {what}")
        encoded = encode(labels, len(inputs), names, multilabel=multilabel, where=_where(source))
        refuse_not_finite(inputs, source)
        texts, where = read_descriptions(descriptions)
        rows = cls(
            inputs=inputs,
            ids=hash_ids(digests(inputs)) if ids is None else unique_ids(named_ids(ids, source), _where(source, "ids")),
            labels=encoded.labels,
            known=encoded.known,
            classes=encoded.classes,
            multilabel=multilabel,
            groups=None if groups is None else strings(groups, _where(source, "groups")),
            source=source,
            described=described_classes(encoded.classes, texts, where=where),
            description_template=description_template,
        )
        rows.__dict__["_finite"] = True
        return rows

    def __len__(self) -> int:
        return len(self.ids)

    def __getitem__(self, row: int) -> Any:
        return self.inputs[row]

    def __repr__(self) -> str:
        return f"Rows({len(self)} rows, {int(self.known.sum())} labeled, {len(self.classes)} classes)"

    @cached_property
    def descriptions(self) -> tuple[tuple[str, ...], ...]:
        """For each class the texts that describe it, C tuples: the given ones, else its readable name.

        A class whose name is a code has none unless they were given.

        Example:
            >>> Rows.from_inputs(["a", "b"], ["lost_card", "fee"], descriptions={"fee": "fees, charges"}).descriptions
            (('fees, charges',), ('lost card',))
        """
        given = {name: texts for name, texts in zip(self.classes, self.described, strict=True) if texts}
        return class_descriptions(self.classes, given, self.description_template)

    @cached_property
    def fingerprint(self) -> str:
        """Hash of the inputs in order, a cache key. It does not depend on how the rows were loaded."""
        return fingerprint(self.inputs)

    @cached_property
    def _finite(self) -> bool:
        refuse_not_finite(self.inputs, self.source)
        return True

    def require_finite(self) -> None:
        """Check that all numbers of the inputs are finite. The result is cached.

        Raises:
            DataError: a number is NaN or infinite; the message names its row.
        """
        assert self._finite

    def take(self, rows: Positions) -> "Rows":
        """Select rows, in the given order, as a new table. Texts are not copied."""
        index = positions(rows, len(self))
        tensor = torch.from_numpy(index)
        taken = Rows(
            inputs=select(self.inputs, index),
            ids=self.ids.take(index),
            labels=self.labels[tensor],
            known=self.known[tensor],
            classes=self.classes,
            multilabel=self.multilabel,
            groups=None if self.groups is None else self.groups.take(index),
            source=self.source,
            described=self.described,
            description_template=self.description_template,
        )
        if "_finite" in self.__dict__:
            taken.__dict__["_finite"] = True
        return taken

    def rows_of(self, ids: Sequence[str]) -> Tensor:
        """Row indices of the ids, (n,) int64, in the same order.

        Raises:
            DataError: no row has one of the ids.
        """
        ids = ids if isinstance(ids, TextColumn) else list(ids)
        wrong = None if isinstance(ids, TextColumn) else first_not_encodable(ids)
        if wrong is not None:
            raise DataError(f"{self.source} has no row with the id {shown(ids[wrong])}, which {NOT_ENCODABLE}")
        given = ids.arrow() if isinstance(ids, TextColumn) else pa.array(ids, pa.large_string())
        found = self._first_places(given)
        if (found >= 0).all():  # each of them once
            return torch.from_numpy(found)
        wanted = given.dictionary_encode()
        rows = self._first_places(wanted.dictionary)
        unknown = np.flatnonzero(rows < 0)
        if len(unknown):
            names = ", ".join(shown(wanted.dictionary[int(i)].as_py()) for i in unknown[:5])
            more = f" and {len(unknown) - 5} more" if len(unknown) > 5 else ""
            raise DataError(f"{self.source} has no row with the id {names}{more}")
        return torch.from_numpy(rows[wanted.indices.to_numpy(zero_copy_only=False)])

    def _first_places(self, ids: Any) -> NDArray[np.int64]:
        """Row of each id of an Arrow array, (n,), -1 for unknown ids and for repetitions of another one."""
        hits = pc.index_in(self.ids.arrow(), value_set=ids)
        rows = np.full(len(ids), -1, np.int64)
        rows[hits.drop_null().to_numpy(zero_copy_only=False)] = np.flatnonzero(np.asarray(hits.is_valid()))
        return rows

    def texts(self, rows: Positions | None = None) -> list[Any]:
        """Texts of `rows` (all rows by default) as a list of str, or of (str, str) for pairs.

        Raises:
            DataError: the inputs are not text.
        """
        index = positions(slice(None) if rows is None else rows, len(self))
        if isinstance(self.inputs, TextColumn):
            out: list[Any] = self.inputs.arrow(index).to_pylist()
            return out
        if isinstance(self.inputs, TextPairs):
            return list(self.inputs.take(index))
        raise DataError(f"{self.source} has no texts: its inputs are {type(self.inputs).__name__}")

    def names_of(self, codes: Any) -> list[Any]:
        """Convert codes to class names: (n,) to n names, None for -1; multi-label (n, C) to n lists of names.

        Example:
            >>> Rows.from_inputs(["a", "b"], ["no", "yes"]).names_of([1, -1])
            ['yes', None]
        """
        values = codes.tolist() if isinstance(codes, Tensor | np.ndarray) else list(codes)
        wrong = [] if self.multilabel else [code for code in values if not -1 <= code < len(self.classes)]
        if wrong:
            raise DataError(f"{self.source} has {len(self.classes)} classes: there is no code {shown(wrong[0])}")
        if self.multilabel:
            return [[name for name, on in zip(self.classes, row, strict=True) if on] for row in values]
        return [None if code == -1 else self.classes[code] for code in values]

    def codes_of(self, values: Sequence[Any]) -> Tensor:
        """Convert class names or indices to codes, (n,) int64; lists of them when multi-label, (n, C) bool.

        When multi-label, a row of C bools is used unchanged, and an empty list means no class. If the class names are
        numbers, numbers are names, as in files.

        Raises:
            DataError: a value is not a class or is ambiguous; the message gives its position and the nearest name.

        Example:
            >>> rows = Rows.from_inputs(["a", "b"], [["x"], ["x", "y"]], multilabel=True)
            >>> rows.codes_of([["y"], []]).tolist()
            [[False, True], [False, False]]
        """
        return codes_of_values(values, self.classes, self.multilabel)

    def require(self, n: int, what: str = "labels", *, labeled: bool = False) -> None:
        """Check that there are at least `n` rows (with a label, if `labeled`).

        Raises:
            DataError: there are fewer.
        """
        held = int(self.known.sum()) if labeled else len(self)
        if held < n:
            kind = "labeled rows" if labeled else "rows"
            raise DataError(f"{self.source} has {held} {kind}, fewer than the {n} {what} asked for")


@dataclass(frozen=True, eq=False)
class Splits:
    """The parts of a data set. A session accepts any object with these attributes.

    Attributes:
        pool: rows to select from; rows with a label are the starting set.
        test: rows for evaluation only.
        validation: labeled rows that are never trained on or selected.
        summary: counts of the rows that were read, skipped and dropped.
    """

    pool: Rows
    test: Rows | None = None
    validation: Rows | None = None
    summary: Summary = field(default_factory=Summary)


def rows_by_id(pool: Rows, names: Iterable[str]) -> dict[str, int]:
    """The rows of the names that are ids of the pool, unlike `Rows.rows_of`, which refuses other names."""
    wanted = pa.array(sorted({name for name in names if encodable(name)}), pa.large_string())
    hits = pc.index_in(pool.ids.arrow(), value_set=wanted)
    rows = np.flatnonzero(np.asarray(hits.is_valid())).tolist()
    return dict(zip(wanted.take(hits.drop_null()).to_pylist(), rows, strict=True))


def refuse_not_finite(inputs: Any, source: str) -> None:
    """Check that all numbers of the inputs are finite.

    Raises:
        DataError: a number is NaN or infinite; the message names its row.
    """
    row = first_not_finite(inputs)
    if row is not None:
        raise DataError(
            f"{source}: row {row + 1} of inputs (index {row}) holds a number that is NaN or infinite: leave the row "
            "out, or mend what computed it"
        )


def strings(values: Any, where: Callable[[int], str]) -> TextColumn:
    """Convert strings or numbers to a column of strings; missing values become empty.

    Raises:
        DataError: a string cannot be encoded as UTF-8; the message shows `where(row)`.
    """
    if isinstance(values, TextColumn):
        return values
    if isinstance(values, Tensor | np.ndarray | pa.Array | pa.ChunkedArray):
        values = values.tolist()
    scalars = (value.item() if isinstance(value, Tensor) and value.dim() == 0 else value for value in values)
    texts = ["" if is_missing(value) else str(value) for value in scalars]
    wrong = first_not_encodable(texts)
    if wrong is not None:
        raise DataError(f"{where(wrong)}: {shown(texts[wrong])} {NOT_ENCODABLE}")
    return TextColumn.of(texts)


def named_ids(values: Any, source: str) -> TextColumn:
    """Convert ids to a column of strings.

    Raises:
        DataError: an id is missing or empty.
    """
    ids = strings(values, _where(source, "ids"))
    empty = np.flatnonzero(np.asarray(pc.equal(pc.binary_length(ids.arrow()), 0)))
    if len(empty):
        raise DataError(f"{_where(source, 'ids')(int(empty[0]))}: the id is empty")
    return ids


def _where(source: str, column: str = "labels") -> Any:
    return lambda row: f"{source}: row {row + 1} of {column}"


def unique_ids(ids: TextColumn, where: Any, rows: Any = None) -> TextColumn:
    """Check that the ids are unique, and return them.

    Args:
        ids: column of ids.
        where: function that names a row for messages.
        rows: (n,) original row numbers of the ids, for messages; the positions by default.

    Raises:
        DataError: an id is used twice; the message names both rows.
    """
    encoded = ids.arrow().dictionary_encode()
    if len(encoded.dictionary) == len(ids):
        return ids
    codes = encoded.indices.to_numpy(zero_copy_only=False)
    first = np.unique(codes, return_index=True)[1]
    second = int(np.setdiff1d(np.arange(len(codes)), first)[0])
    other = int(first[codes[second]])
    if rows is not None:
        other = int(rows[other])
    name = shown(ids[second])
    raise DataError(f"{where(second)}: the id {name} is already used by row {other + 1}; ids must be unique")
