"""How figures are written on the page."""

import re
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from dal.report.measures import number

MISSING = "–"


def figure(value: object) -> str:
    """Three decimals for scores; a dash for what is missing or not a number."""
    if not number(value):
        return MISSING
    return f"{value:.3f}" if abs(value) < 100 else f"{value:.0f}"


def signed(value: object) -> str:
    """Three decimals with their sign."""
    return f"{value:+.3f}".replace("-", "−") if number(value) else MISSING


def seconds(value: object) -> str:
    """As many decimals as a time of that length deserves."""
    if not number(value):
        return MISSING
    return f"{value:,.{3 if value < 0.1 else 2 if value < 10 else 1}f}"


def whole(value: object) -> str:
    """No decimals, thousands apart."""
    return f"{value:,.0f}" if number(value) else MISSING


def share(value: object) -> str:
    """In percent."""
    return f"{100 * value:.0f} %" if number(value) else MISSING


def money(value: object) -> str:
    """Dollars with cents."""
    return f"{value:,.2f}" if number(value) else MISSING


def times(value: object) -> str:
    """A ratio, with two decimals."""
    return f"{value:.2f}" if number(value) else MISSING


def never(value: object) -> str:
    """A number of labels; None is one that was never reached."""
    return "never" if value is None else whole(value)


def words(value: object) -> str:
    """Text as it stands."""
    return MISSING if value is None else str(value)


#: By the kinds of columns.
WRITERS: dict[str, Callable[[object], str]] = {
    "text": words,
    "id": words,
    "words": lambda value: "" if value is None else str(value),
    "figure": figure,
    "signed": signed,
    "seconds": seconds,
    "whole": whole,
    "share": share,
    "money": money,
    "times": times,
    "never": never,
    "bar": figure,
}


def slug(words: str) -> str:
    """The words as part of a file's name or an id."""
    return re.sub(r"[^A-Za-z0-9_.~-]+", "_", words)[:80].strip("._") or "unnamed"


def flat(value: Mapping[str, Any]) -> Iterable[tuple[str, str]]:
    """Nested keys and values as one list of lines."""
    for key, item in value.items():
        if isinstance(item, Mapping):
            yield from flat(item)
        else:
            shown = ", ".join(map(str, item)) if isinstance(item, list) else str(item)
            yield str(key), "none" if item is None or item == [] else shown
