"""Section with the maps of the pool."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from dal.report.measures import number
from dal.report.page_parts import Panel, Plot, Section, Statement, tabs
from dal.report.plots.pool_map import MapPoint, pool_map
from dal.report.run_reading import CellRecord, Run
from dal.report.sections.selections import wordings
from dal.report.wording import slug
from dal.store.bounded_json import parse_json

#: Largest numbers of maps and of dots on the page. The first seed of every strategy comes first.
MAX_MAPS, MAX_POINTS = 12, 24_000

MAP = "map.json"

#: Largest number of characters of a text in a tooltip.
MAX_TEXT = 300


def section(run: Run, most: int | None = None) -> Section | None:
    """One map for each strategy and seed that has one, at most `most` and as many as fit."""
    most = MAX_MAPS if most is None else most
    texts = run.config.get("show_texts") is True
    seeds = sorted({cell.seed for cell in run.cells})
    order = sorted(run.cells, key=lambda cell: seeds.index(cell.seed))
    panels: list[Panel] = []
    room, left = MAX_POINTS, 0
    for cell in order:
        drawn = _read(cell, texts)
        if drawn is None:
            continue
        method, points = drawn
        if len(points) > room or len(panels) >= most:
            left += 1
            continue
        room -= len(points)
        title = f"{cell.name}, seed {cell.seed}"
        plot = Plot(f"map-{slug(cell.name)}-seed{cell.seed}", pool_map(points, title, method), large=True)
        panels.append(Panel(title, (plot,)))
    if not panels:
        return None
    more = f" {left} more maps are in the {MAP} of their cells." if left else ""
    tell = "its id and text" if texts else "its id"
    note = Statement(
        "Nearby rows have similar meanings, as far as two dimensions can show it. Grey rows were never labeled; the "
        f"others have the colour of the round in which they were. Point at a labeled row for {tell}.{more}"
    )
    return Section("map", "Map of the pool", "Map", (*tabs("map", "Strategy and seed", panels), note))


def _read(cell: CellRecord, texts: bool) -> tuple[str, list[MapPoint]] | None:
    """Projection method and points of a cell's map; None without a readable map."""
    stored = _json(cell.folder / MAP) if cell.folder is not None else None
    if stored is None:
        return None
    columns = [stored.get(key) for key in ("ids", "x", "y", "round")]
    if not all(isinstance(column, list) for column in columns):
        return None
    texts_of = wordings(cell) if texts else {}
    points = [
        MapPoint(float(x), float(y), int(r), _tip(str(row), int(r), texts_of.get(str(row), "")))
        for row, x, y, r in zip(*columns, strict=False)  # type: ignore[arg-type]
        if number(x) and number(y) and number(r) and r >= 0
    ]
    return (str(stored.get("method") or "projection"), points) if points else None


def _json(path: Path) -> Mapping[str, Any] | None:
    try:
        found = parse_json(path.read_text(encoding="utf-8", errors="replace")) if path.is_file() else None
    except (OSError, ValueError):
        return None
    return found if isinstance(found, Mapping) else None


def _tip(row: str, round: int, text: str) -> str:
    when = f"{row}, labeled in round {round}" if round else f"{row}, never labeled"
    return f"{when}: {text[:MAX_TEXT]}{'…' if len(text) > MAX_TEXT else ''}" if text else when
