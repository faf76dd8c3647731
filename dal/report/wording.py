"""Formatting of values on the page."""

import re
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from typing import Any

from dal.errors import shortened
from dal.report.measures import number

MISSING = "–"


def figure(value: object) -> str:
    """Score with three decimals, or none from 100 on; a dash for a missing value."""
    if not number(value):
        return MISSING
    return f"{value:.3f}" if abs(value) < 100 else f"{value:.0f}"


def signed(value: object) -> str:
    """Signed number with three decimals."""
    return f"{value:+.3f}".replace("-", "−") if number(value) else MISSING


def seconds(value: object) -> str:
    """Seconds with one to three decimals, fewer for longer times."""
    if not number(value):
        return MISSING
    return f"{value:,.{3 if value < 0.1 else 2 if value < 10 else 1}f}"


def whole(value: object) -> str:
    """Whole number with thousands separators."""
    return f"{value:,.0f}" if number(value) else MISSING


def share(value: object) -> str:
    """Share in percent."""
    return f"{100 * value:.0f} %" if number(value) else MISSING


def money(value: object) -> str:
    """Dollars with two decimals."""
    return f"{value:,.2f}" if number(value) else MISSING


def times(value: object) -> str:
    """Ratio with two decimals."""
    return f"{value:.2f}" if number(value) else MISSING


def never(value: object) -> str:
    """Number of labels; "never" for None."""
    return "never" if value is None else whole(value)


#: Largest number of characters of a value on the page; the exported tables are not shortened.
LONGEST = 2000

# Characters that XML forbids, and control characters that HTML forbids.
_NO_MARKUP = re.compile("[^\t\n\r\x20-\x7e\xa0-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")


def in_markup(text: str) -> str:
    """Replace characters that HTML or XML forbid by U+FFFD, and lone surrogates by "?"."""
    return _NO_MARKUP.sub("\ufffd", text.encode("utf-8", "replace").decode())


def words(value: object) -> str:
    """Text, shortened to `LONGEST` characters."""
    return MISSING if value is None else shortened(str(value), LONGEST)


def listed(names: Sequence[str]) -> str:
    """The names joined by commas and "and"."""
    return names[0] if len(names) == 1 else f"{', '.join(names[:-1])} and {names[-1]}"


def unbroken(text: str) -> str:
    """Join a number and its percent sign by a no-break space."""
    return re.sub(r"(?<=\d) %", "\N{NO-BREAK SPACE}%", text)


def seed_numbers(seeds: Collection[int]) -> str:
    """How many seeds there are, with their numbers, such as "1 (number 0)"; of many with gaps only how many."""
    numbers = sorted(seeds)
    if len(numbers) > 2 and numbers[-1] - numbers[0] == len(numbers) - 1:
        which = f"numbers {numbers[0]} to {numbers[-1]}"
    elif len(numbers) <= 6:
        which = f"number{'s' * (len(numbers) > 1)} {listed([str(each) for each in numbers])}"
    else:
        return f"{len(numbers)}"
    return f"{len(numbers)} ({which})"


#: Formats by kind of column.
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
    """The words as part of a file name or an id."""
    return re.sub(r"[^A-Za-z0-9_.~-]+", "_", words[:1000])[:80].strip("._") or "unnamed"


def flat(value: Mapping[str, Any]) -> Iterable[tuple[str, str]]:
    """Flatten nested mappings to pairs of innermost keys and values."""
    for key, item in value.items():
        if isinstance(item, Mapping):
            yield from flat(item)
        else:
            shown = ", ".join(map(str, item)) if isinstance(item, list) else str(item)
            yield str(key), "none" if item is None or item == [] else shown
