"""Forms of label names that are the same label. Imports no PyTorch, NumPy or Arrow."""

import re
import unicodedata

_WHOLE = re.compile(r"(-?(?:0|[1-9][0-9]*))(?:\.0+)?")


def normalize(name: str) -> str:
    """Normalise a class name to Unicode form NFC, so that composed and decomposed accents are equal."""
    return unicodedata.normalize("NFC", name)


def whole(text: str) -> str | None:
    """Canonical form of an integer given as text ("3", "3.0", "-0"), or None."""
    match = _WHOLE.fullmatch(text)
    return None if match is None else "0" if match.group(1) == "-0" else match.group(1)
