"""Elements of a page, rendered by the page and the exports: sections of plots, tables, paragraphs, tabs and details."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

from dal.report.shapes import Drawing


@dataclass(frozen=True)
class TableColumn:
    """One column of a table.

    Attributes:
        key: name in the JSON file and in the header of the CSV file.
        head: header on the page.
        kind: format of the values, a key of `wording.WRITERS`.
    """

    key: str
    head: str
    kind: str = "figure"

    @property
    def left(self) -> bool:
        """Whether the column is left-aligned."""
        return self.kind in ("text", "id", "words")


@dataclass(frozen=True)
class Table:
    """A table whose first column names the row.

    Attributes:
        name: unique name of the exported files; empty for a table that is part of an exported one.
        label: accessible label, for screen readers.
        columns: columns in order.
        rows: one value for each column; None for missing values.
        caption: text above the table.
        hidden: whether the table is only exported, not shown on the page.
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
    """A drawing, with an optional variant for narrow pages.

    Attributes:
        name: name of the exported files.
        drawing: the drawing.
        narrow: variant for narrow pages.
        large: whether the drawing has no such variant but room for larger text on narrow pages.
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
    part: str = field(default="statement", init=False)


@dataclass(frozen=True)
class Preformatted:
    """Preformatted text of a file."""

    text: str
    label: str
    part: str = field(default="raw", init=False)


@dataclass(frozen=True)
class Subheading:
    """A subheading, with an optional swatch in the colour of a strategy."""

    text: str
    color: str = ""
    part: str = field(default="head", init=False)


@dataclass(frozen=True)
class PlotRow:
    """Plots next to each other, as many as fit."""

    plots: tuple[Plot, ...]
    small: bool = False
    part: str = field(default="row", init=False)

    @property
    def parts(self) -> tuple[Plot, ...]:
        """The plots."""
        return self.plots


@dataclass(frozen=True)
class Panel:
    """Title and content of one tab."""

    title: str
    parts: "tuple[Part, ...]"


@dataclass(frozen=True)
class Tabs:
    """Tabbed panels, of which one is visible at a time; all are printed."""

    name: str
    label: str
    panels: tuple[Panel, ...]
    part: str = field(default="tabs", init=False)

    @property
    def parts(self) -> "tuple[Part, ...]":
        """The parts of all panels."""
        return tuple(part for panel in self.panels for part in panel.parts)


@dataclass(frozen=True)
class Details:
    """Collapsed content under a summary line, followed by `status`, and by `open` in the colour of a warning."""

    summary: str
    parts: "tuple[Part, ...]"
    status: str = ""
    open: tuple[str, ...] = ()
    part: str = field(default="details", init=False)


Part = Table | Plot | Statement | Preformatted | Subheading | PlotRow | Tabs | Details


@dataclass(frozen=True)
class Section:
    """A section of the page; `short` is its title in the table of contents."""

    id: str
    title: str
    short: str
    parts: tuple[Part, ...]


def leaves(parts: Sequence[Part]) -> Iterator[Plot | Table]:
    """All plots and tables in the parts, in order."""
    for part in parts:
        match part:
            case Plot() | Table():
                yield part
            case PlotRow() | Tabs() | Details():
                yield from leaves(part.parts)


def tabs(name: str, label: str, panels: Sequence[Panel]) -> tuple[Part, ...]:
    """Tabs for several panels; for a single panel its parts without tabs."""
    if len(panels) < 2:
        return tuple(part for panel in panels for part in panel.parts)
    return (Tabs(name, label, tuple(panels)),)
