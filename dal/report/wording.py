"""How figures are written on the page."""

import re
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from dal.errors import shortened
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


#: Characters of a value on the page; the exported tables have all of it.
LONGEST = 2000

# What XML forbids, and control characters that HTML does.
_NO_MARKUP = re.compile("[^\t\n\r\x20-\x7e\xa0-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")


def in_markup(text: str) -> str:
    """The text with a replacement character for each that HTML or XML forbids; "?" for lone surrogates."""
    return _NO_MARKUP.sub("\ufffd", text.encode("utf-8", "replace").decode())


def words(value: object) -> str:
    """Text as it stands, its middle left out where it is very long."""
    return MISSING if value is None else shortened(str(value), LONGEST)


#: By the kinds of columns.
WRITERS: dict[str, Callable[[object], str]] = {
    "text": words,
    "id": words,
    "words": lambda value: "" if value is None else words(value),
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
    return re.sub(r"[^A-Za-z0-9_.~-]+", "_", words[:1000])[:80].strip("._") or "unnamed"


def flat(value: Mapping[str, Any]) -> Iterable[tuple[str, str]]:
    """Nested keys and values as one list of lines."""
    for key, item in value.items():
        if isinstance(item, Mapping):
            yield from flat(item)
        else:
            shown = ", ".join(map(str, item)) if isinstance(item, list) else str(item)
            yield str(key), "none" if item is None or item == [] else shown
