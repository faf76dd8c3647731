"""Reader of a project's rows into an Arrow table."""

from collections.abc import Collection, Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa

from dal.data.file_source import TEXT, ColumnRequest, FileSource, collect_batches
from dal.errors import DataError, printable
from dal.store.project_rows import ProjectRow, ProjectRows


def read_project(file: Path, wanted: ColumnRequest, *, retired: Collection[str] = ()) -> FileSource:
    """Read texts, ids and foreign columns of a project's rows, in the order of addition, in pages.

    The first text column is the text, whatever its name, and the second one the second text of a pair. The ids are
    those that are stored.

    Args:
        file: the file of the rows, see `dal.store.project_rows`.
        wanted: columns to read.
        retired: ids of rows to leave out.

    Raises:
        DataError: no row is left, or the rows are no pairs, or lack a column.
        SessionError: the file is missing or damaged.
    """
    name = printable(str(file), 200)
    left_out = frozenset(retired)
    id_column = wanted.id or "id"
    while id_column in wanted.texts:
        id_column += "_"
    with ProjectRows(file) as rows:
        if not len(rows):
            raise DataError(f"{name} is empty: it has no rows")
        foreign = {column for column in wanted.columns if column not in (*wanted.texts, id_column)}
        columns = wanted.select_from([id_column, *wanted.texts, *_foreign_columns(rows, foreign)], name)
        present = [column for column in columns if column != id_column]
        schema = pa.schema([(column, TEXT) for column in (id_column, *present)])

        def batches() -> Iterator[Any]:
            for page in rows.pages():
                kept = [row for row in page if row.id not in left_out]
                columns: list[list[str | None]] = [[row.id for row in kept]]
                columns += [_values(kept, column, wanted.texts, name) for column in present]
                yield pa.record_batch([pa.array(values, TEXT) for values in columns], schema=schema)

        table = collect_batches(batches(), schema)
    if not len(table):
        raise DataError(f"{name}: all {len(left_out):,} rows are retired: restore some, or add others")
    return FileSource(name, table, id_column=id_column)


def _foreign_columns(rows: ProjectRows, wanted: set[str]) -> list[str]:
    """The wanted foreign columns that any row has. Stops once all are found."""
    found: set[str] = set()
    for page in rows.pages() if wanted else ():
        found.update(*(wanted & row.fields.keys() for row in page))
        if found == wanted:
            break
    return sorted(found)


def _values(rows: list[ProjectRow], column: str, texts: tuple[str, ...], name: str) -> list[str | None]:
    if column == texts[0]:
        return [row.text for row in rows]
    if column in texts:
        single = next((row.id for row in rows if row.pair is None), None)
        if single is not None:
            raise DataError(f"{name}: row {printable(single)} has one text, and {printable(column)} is a second one")
        return [row.pair for row in rows]
    values = [row.fields.get(column) for row in rows]
    return [value if value is None or isinstance(value, str) else str(value) for value in values]
