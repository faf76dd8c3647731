"""Names and notes that can be seen, and forms of names that are equal where people see no difference."""

import re
import unicodedata
from collections.abc import Iterable
from typing import Final

#: Characters that leave no trace on the screen although Unicode counts them as letters, marks or symbols: joiners,
#: fillers (also of Braille, music and Khitan), variation selectors, and reserved ones that programs ignore.
UNSEEN: Final = re.compile(
    "[\u034f\u115f\u1160\u17b4\u17b5\u180b-\u180f\u2065\u2800\u3164\ufe00-\ufe0f\uffa0\ufff0-\ufff8\U00016fe4"
    "\U0001d159\U000e0000-\U000e0fff]"
)

_UNSEEN = frozenset({"Cc", "Cf", "Cs"})  # categories of controls, format characters and halves of surrogate pairs


def seen(text: str) -> str:
    """A text without the characters that cannot be seen, except for white space.

    Example:
        >>> seen("mi\\u200bld\\u3164")
        'mild'
    """
    kept = (char for char in UNSEEN.sub("", text) if char.isspace() or unicodedata.category(char) not in _UNSEEN)
    return "".join(kept)


def is_visible(text: str) -> bool:
    """Whether a text has a character that can be seen.

    Example:
        >>> is_visible("mild"), is_visible(" \\u200b\\u3164")
        (True, False)
    """
    return bool(seen(text).strip())


def name_form(name: str) -> str:
    """The form that is equal for names that differ only in what people do not see as a difference.

    That is case, white space, the composition of accents, and characters that cannot be seen.

    Example:
        >>> name_form("Very  Severe\\u200b ") == name_form("very severe"), name_form("mild") == name_form("severe")
        (True, False)
    """
    plain = unicodedata.normalize("NFC", unicodedata.normalize("NFC", name).casefold())
    return " ".join(seen(plain).split())


def alike(names: Iterable[str]) -> list[tuple[str, str]]:
    """Pairs of a name and an earlier one of the same form, in the order of the names."""
    first: dict[str, str] = {}
    found = [(name, first.setdefault(name_form(name), name)) for name in names]
    return [(name, before) for name, before in found if name != before]
