"""Every plot as PNG and SVG and every table as CSV and JSON, in a folder next to the page."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path

from dal.report.measures import number
from dal.report.page_parts import Plot, Section, Table, leaves
from dal.report.png import png
from dal.report.svg import svg
from dal.report.wording import slug
from dal.store.atomic_files import replacing
from dal.store.spreadsheet import as_csv

FOLDER = "report"
INDEX = "index.json"


def names(sections: Sequence[Section]) -> dict[int, str]:
    """A name for every plot and every exported table, by the identity of the part; no two are alike."""
    found: dict[int, str] = {}
    taken: set[str] = set()
    places: dict[str, int] = {}  # the number that was last given to a name
    for part in leaves([part for section in sections for part in section.parts]):
        kind, name = part.part, slug(part.name)
        if isinstance(part, Table) and not part.name:
            continue
        first = f"{kind} {name.lower()}"
        while f"{kind} {name.lower()}" in taken:
            places[first] = places.get(first, 1) + 1
            name = f"{slug(part.name)}-{places[first]}"
        taken.add(f"{kind} {name.lower()}")
        found[id(part)] = name
    return found


def export(folder: Path, sections: Sequence[Section]) -> str:
    """Writes all of them into `folder / "report"`, whole or not at all; why it did not, or nothing when it did.

    A folder of that name that was not written by a report is left alone.
    """
    target = folder / FOLDER
    if target.exists() and not (target / INDEX).is_file() and (not target.is_dir() or any(target.iterdir())):
        return f"{FOLDER}/ in this folder is not a report's: plots and tables were not written as files."
    named = names(sections)
    index: list[dict[str, object]] = []
    with replacing(target) as partial:
        for part in leaves([part for section in sections for part in section.parts]):
            name = named.get(id(part))
            if name is None:
                continue
            files = _plot(part, name) if isinstance(part, Plot) else _table(part)
            for ending, content in files.items():
                (partial / f"{name}.{ending}").write_bytes(content)
            title = part.drawing.title if isinstance(part, Plot) else part.label
            index.append({"title": title, "files": [f"{name}.{ending}" for ending in files]})
        text = json.dumps(index, indent=1)
        (partial / INDEX).write_text(text + "\n", encoding="utf-8")
    return ""


def _plot(plot: Plot, name: str) -> Mapping[str, bytes]:
    whole = str(svg(plot.drawing, name=name, standalone=True))
    return {"png": png(plot.drawing), "svg": whole.encode()}


def _table(table: Table) -> Mapping[str, bytes]:
    return {"csv": _csv(table).encode("utf-8", "replace"), "json": _json(table).encode("utf-8")}


def _csv(table: Table) -> str:
    """Comma-separated values; an empty field is one that is missing."""
    return as_csv([[column.key for column in table.columns], *table.rows], digits=None)


def _json(table: Table) -> str:
    """A list of objects; null is a value that is missing, or no finite number."""
    keys = [column.key for column in table.columns]
    rows = [dict(zip(keys, map(_plain, row), strict=True)) for row in table.rows]
    return json.dumps(rows, indent=1) + "\n"


def _plain(value: object) -> object:
    return (
        value
        if value is None or isinstance(value, str | bool) or number(value)
        else None
        if isinstance(value, float)
        else str(value)
    )
