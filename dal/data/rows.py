"""A pool, a test set: an immutable table of inputs, ids and labels, row by row."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import torch
from torch import Tensor

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
from dal.data.label_values import NOT_ENCODABLE, first_not_encodable, is_missing, normal, shown
from dal.data.summary import Summary
from dal.errors import DataError


@dataclass(frozen=True, eq=False, repr=False)
class Rows:
    """An immutable, row-aligned table. Texts and ids stay in Arrow memory.

    Attributes:
        inputs: what a learner prepares: a `TextColumn`, `TextPairs`, a tensor, an array or any sequence.
        ids: N stable ids, unique.
        labels: (N,) int64, -1 where unlabeled; (N, C) bool when multi-label.
        known: (N,) bool: the row has a label. A multi-label row that is known may be all False ("none of them").
        classes: the C class names, in the order of the codes; empty when nothing names them.
        multilabel: whether a row may have several classes.
        groups: N group names (a document, a patient), or None.
        source: how errors call these rows.

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

    def __post_init__(self) -> None:
        object.__setattr__(self, "classes", tuple(map(normal, self.classes)))
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
    ) -> "Rows":
        """Rows of any inputs: a list of texts or of text pairs, a tensor or array of N rows, any sequence of arrays.

        Args:
            inputs: N inputs.
            labels: None, or N labels: class names or whole numbers, None where unlabeled. When multi-label, N lists of
                those or of C bools, or a tensor or array (N, C) of zeros and ones. They mean what they mean in a file
                (see `TextData`): whole numbers are indices of `classes`, where -1 is unlabeled, or class names where
                `classes` has numbers or is not given.
            classes: the class names; by default the sorted names found, or "0", "1", ... up to the largest index.
            multilabel: whether a row may have several classes.
            ids: N unique ids; by default a hash of the input and an occurrence number.
            groups: N group names.
            source: how errors call these rows.

        Raises:
            DataError: a label outside the classes or one that can mean two things, an id used twice, a number in the
                inputs that is not finite, or lengths that differ.
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
        rows = cls(
            inputs=inputs,
            ids=hash_ids(digests(inputs)) if ids is None else unique_ids(named_ids(ids, source), _where(source, "ids")),
            labels=encoded.labels,
            known=encoded.known,
            classes=encoded.classes,
            multilabel=multilabel,
            groups=None if groups is None else strings(groups, _where(source, "groups")),
            source=source,
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
    def fingerprint(self) -> str:
        """A hash of the inputs in their order: the key of caches. The same however the rows were loaded."""
        return fingerprint(self.inputs)

    @cached_property
    def _finite(self) -> bool:
        refuse_not_finite(self.inputs, self.source)
        return True

    def require_finite(self) -> None:
        """Nothing, when all numbers of the inputs are finite.

        Raises:
            DataError: one is not; its row is named.
        """
        assert self._finite

    def take(self, rows: Positions) -> "Rows":
        """The given rows, in that order, as a table of their own. Texts are not copied."""
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
        )
        if "_finite" in self.__dict__:
            taken.__dict__["_finite"] = True
        return taken

    def rows_of(self, ids: Sequence[str]) -> Tensor:
        """Where the ids stand, (n,) int64, in their order.

        Raises:
            DataError: an id that no row has; the nearest ones are suggested.
        """
        ids = ids if isinstance(ids, TextColumn) else list(ids)
        wrong = None if isinstance(ids, TextColumn) else first_not_encodable(ids)
        if wrong is not None:
            raise DataError(f"{self.source} has no row with the id {shown(ids[wrong])}, which {NOT_ENCODABLE}")
        wanted = (ids.arrow() if isinstance(ids, TextColumn) else pa.array(ids, pa.large_string())).dictionary_encode()
        hits = pc.index_in(self.ids.arrow(), value_set=wanted.dictionary)
        found = np.flatnonzero(np.asarray(hits.is_valid()))
        where = np.full(len(wanted.dictionary), -1, np.int64)
        where[hits.drop_null().to_numpy(zero_copy_only=False)] = found
        unknown = np.flatnonzero(where < 0)
        if len(unknown):
            names = ", ".join(shown(wanted.dictionary[int(i)].as_py()) for i in unknown[:5])
            more = f" and {len(unknown) - 5} more" if len(unknown) > 5 else ""
            raise DataError(f"{self.source} has no row with the id {names}{more}")
        return torch.from_numpy(where[wanted.indices.to_numpy(zero_copy_only=False)])

    def texts(self, rows: Positions | None = None) -> list[Any]:
        """The texts at `rows` (all when None) as a list of str, or of (str, str) for pairs.

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
        """Class names of codes: (n,) -> n names, None for -1; multi-label (n, C) -> n lists of names.

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
        """Codes of answers: class names or class indices -> (n,) int64; lists of those when multi-label -> (n, C) bool.

        A row of C bools is taken as it is when multi-label; an empty list is an answer. Where class names are numbers,
        numbers are names, as in files.

        Raises:
            DataError: a value that is not one of the classes, or could be two; its place among `values` and the nearest
                name are named.

        Example:
            >>> rows = Rows.from_inputs(["a", "b"], [["x"], ["x", "y"]], multilabel=True)
            >>> rows.codes_of([["y"], []]).tolist()
            [[False, True], [False, False]]
        """
        return codes_of_values(values, self.classes, self.multilabel)

    def require(self, n: int, what: str = "labels", *, labeled: bool = False) -> None:
        """Nothing, when there are at least `n` rows (with a known label, when `labeled`).

        Raises:
            DataError: there are fewer.
        """
        held = int(self.known.sum()) if labeled else len(self)
        if held < n:
            kind = "labeled rows" if labeled else "rows"
            raise DataError(f"{self.source} has {held} {kind}, fewer than the {n} {what} asked for")


@dataclass(frozen=True, eq=False)
class Splits:
    """The parts of a data set. Anything with these attributes is data for a session.

    Attributes:
        pool: the rows to choose from; rows with a known label are the starting set.
        test: rows that are only ever evaluated on.
        validation: labeled rows that are never trained on or selected.
        summary: what was read, skipped and dropped.
    """

    pool: Rows
    test: Rows | None = None
    validation: Rows | None = None
    summary: Summary = field(default_factory=Summary)


def refuse_not_finite(inputs: Any, source: str) -> None:
    """Nothing, when all numbers of the inputs are finite.

    Raises:
        DataError: one is not; its row is named.
    """
    row = first_not_finite(inputs)
    if row is not None:
        raise DataError(
            f"{source}: row {row + 1} of inputs (index {row}) holds a number that is NaN or infinite: leave the row "
            "out, or mend what computed it"
        )


def strings(values: Any, where: Callable[[int], str]) -> TextColumn:
    """A column of strings from strings, or from numbers; empty where a value is missing.

    Raises:
        DataError: one cannot be written as UTF-8; `where(row)` is shown.
    """
    if isinstance(values, TextColumn):
        return values
    if isinstance(values, Tensor | np.ndarray | pa.Array | pa.ChunkedArray):
        values = values.tolist()
    texts = ["" if is_missing(value) else str(_scalar(value)) for value in values]
    wrong = first_not_encodable(texts)
    if wrong is not None:
        raise DataError(f"{where(wrong)}: {shown(texts[wrong])} {NOT_ENCODABLE}")
    return TextColumn.of(texts)


def _scalar(value: Any) -> Any:
    return value.item() if isinstance(value, Tensor) and value.dim() == 0 else value


def named_ids(values: Any, source: str) -> TextColumn:
    """The ids as a column of strings.

    Raises:
        DataError: one is missing or empty.
    """
    ids = strings(values, _where(source, "ids"))
    empty = np.flatnonzero(np.asarray(pc.equal(pc.binary_length(ids.arrow()), 0)))
    if len(empty):
        raise DataError(f"{_where(source, 'ids')(int(empty[0]))}: the id is empty")
    return ids


def _where(source: str, column: str = "labels") -> Any:
    return lambda row: f"{source}: row {row + 1} of {column}"


def unique_ids(ids: TextColumn, where: Any, rows: Any = None) -> TextColumn:
    """The ids themselves.

    Raises:
        DataError: an id used twice; `where(row)` of both rows is shown.
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
