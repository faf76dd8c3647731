"""Export of all plots as PNG and SVG and all tables as CSV and JSON, to a folder next to the page."""

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
    """Unique file names of all plots and exported tables, by the `id` of the part."""
    names_of: dict[int, str] = {}
    taken: set[str] = set()
    places: dict[str, int] = {}  # last number appended to each name
    for part in leaves([part for section in sections for part in section.parts]):
        kind, name = part.part, slug(part.name)
        if isinstance(part, Table) and not part.name:
            continue
        first = f"{kind} {name.lower()}"
        while f"{kind} {name.lower()}" in taken:
            places[first] = places.get(first, 1) + 1
            name = f"{slug(part.name)}-{places[first]}"
        taken.add(f"{kind} {name.lower()}")
        names_of[id(part)] = name
    return names_of


def export(folder: Path, sections: Sequence[Section]) -> str:
    """Write all plots and tables to `folder / "report"` atomically.

    A folder of that name that was not written by a report is left unchanged.

    Returns:
        Why nothing was written; empty on success.
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
            files: Mapping[str, bytes]
            if isinstance(part, Plot):
                title = part.drawing.title
                whole = str(svg(part.drawing, name=name, standalone=True))
                files = {"png": png(part.drawing), "svg": whole.encode()}
            else:
                title = part.label
                cells = as_csv([[column.key for column in part.columns], *part.rows], digits=None)
                keys = [column.key for column in part.columns]
                objects = [dict(zip(keys, map(_plain, row), strict=True)) for row in part.rows]
                text = json.dumps(objects, indent=1) + "\n"
                files = {"csv": cells.encode("utf-8", "replace"), "json": text.encode("utf-8")}
            for ending, content in files.items():
                (partial / f"{name}.{ending}").write_bytes(content)
            index.append({"title": title, "files": [f"{name}.{ending}" for ending in files]})
        text = json.dumps(index, indent=1)
        (partial / INDEX).write_text(text + "\n", encoding="utf-8")
    return ""


def _plain(value: object) -> object:
    """A value that JSON can represent; missing values and non-finite numbers are null."""
    if value is None or isinstance(value, str | bool) or number(value):
        return value
    return None if isinstance(value, float) else str(value)
