"""What a page is made of: sections of plots, tables, sentences, tabs and folds. The page and the exports walk it."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

from dal.report.drawing import Drawing


@dataclass(frozen=True)
class TableColumn:
    """One column of a table.

    Attributes:
        key: in JSON and in the head of the CSV file.
        head: on the page.
        kind: how its values are written: "text", "id", "words", or one of `wording.WRITERS`.
    """

    key: str
    head: str
    kind: str = "figure"

    @property
    def left(self) -> bool:
        """Whether it is set to the left."""
        return self.kind in ("text", "id", "words")


@dataclass(frozen=True)
class Table:
    """Values under heads; the first column names the row.

    Attributes:
        name: of the exported files, unique; empty for a table that is part of an exported one.
        label: what it is, for those who hear the page.
        columns: in order.
        rows: one value for each column; None where there is none.
        caption: what stands over it.
        hidden: whether it is exported alone, and not on the page.
    """

    name: str
    label: str
    columns: tuple[TableColumn, ...]
    rows: Sequence[Sequence[object]]
    caption: str = ""
    hidden: bool = False
    part: str = field(default="table", init=False)


@dataclass(frozen=True)
class Plot:
    """A drawing, and another one for a narrow page; `name` is that of the exported files.

    A `large` one has no other for a narrow page, but room for larger words there.
    """

    name: str
    drawing: Drawing
    narrow: Drawing | None = None
    large: bool = False
    part: str = field(default="plot", init=False)


@dataclass(frozen=True)
class Statement:
    """A paragraph: `kind` is "note", "lead" or "caution"."""

    text: str
    kind: str = "note"
    part: str = field(default="said", init=False)


@dataclass(frozen=True)
class Raw:
    """A file as it is written."""

    text: str
    label: str
    part: str = field(default="raw", init=False)


@dataclass(frozen=True)
class Head:
    """A heading within a section, with the colour of a strategy."""

    text: str
    color: str = ""
    part: str = field(default="head", init=False)


@dataclass(frozen=True)
class Side:
    """Plots next to each other, as many as fit."""

    plots: tuple[Plot, ...]
    small: bool = False
    part: str = field(default="side", init=False)

    @property
    def parts(self) -> tuple[Plot, ...]:
        """The plots."""
        return self.plots


@dataclass(frozen=True)
class Panel:
    """What one tab shows."""

    title: str
    parts: "tuple[Part, ...]"


@dataclass(frozen=True)
class Tabs:
    """Panels of which one is seen at a time; in print all of them."""

    name: str
    label: str
    panels: tuple[Panel, ...]
    part: str = field(default="tabs", init=False)

    @property
    def parts(self) -> "tuple[Part, ...]":
        """Those of all panels."""
        return tuple(part for panel in self.panels for part in panel.parts)


@dataclass(frozen=True)
class Fold:
    """What is folded away under a line; `status` follows it, `open` likewise but in the colour of a warning."""

    summary: str
    parts: "tuple[Part, ...]"
    status: str = ""
    open: tuple[str, ...] = ()
    part: str = field(default="fold", init=False)


Part = Table | Plot | Statement | Raw | Head | Side | Tabs | Fold


@dataclass(frozen=True)
class Section:
    """A heading of the page and what stands under it; `short` is its name in the list of contents."""

    id: str
    title: str
    short: str
    parts: tuple[Part, ...]


def leaves(parts: Sequence[Part]) -> Iterator[Plot | Table]:
    """Every plot and table in the parts, from first to last."""
    for part in parts:
        match part:
            case Plot() | Table():
                yield part
            case Side() | Tabs() | Fold():
                yield from leaves(part.parts)


def tabs(name: str, label: str, panels: Sequence[Panel]) -> tuple[Part, ...]:
    """Tabs for several panels; the parts themselves for a single one."""
    if len(panels) < 2:
        return tuple(part for panel in panels for part in panel.parts)
    return (Tabs(name, label, tuple(panels)),)
