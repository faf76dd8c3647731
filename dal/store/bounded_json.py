"""JSON parser with a limit on the nesting depth."""

import json
from typing import Any

#: Default maximum nesting depth of a document.
MAX_DEPTH = 64


class BoundsError(ValueError):
    """A document is nested too deep or too large."""


def parse_json(text: str | bytes, *, max_depth: int = MAX_DEPTH) -> Any:
    """Parse JSON.

    Args:
        text: document; bytes are decoded as UTF-8, UTF-16 or UTF-32.
        max_depth: maximum nesting depth of lists and objects.

    Raises:
        ValueError: the document is not JSON, is not text, is nested deeper than `max_depth`, or has a number of more
            than 4,300 digits.

    Example:
        >>> parse_json('{"a": [1, 2]}')
        {'a': [1, 2]}
    """
    try:
        value = json.loads(text)
    except RecursionError:
        raise _too_deep(max_depth) from None
    except json.JSONDecodeError:
        raise
    except UnicodeDecodeError as error:
        raise ValueError(f"byte {error.start + 1} is not UTF-8") from None
    except ValueError:
        raise BoundsError("a number has more than 4,300 digits") from None
    # Counting brackets is a hundred times cheaper than walking the value, and deep documents are rare.
    opening = text.count("[") + text.count("{") if isinstance(text, str) else text.count(b"[") + text.count(b"{")
    if opening > max_depth and _is_deeper(value, max_depth):
        raise _too_deep(max_depth)
    return value


def _is_deeper(value: Any, max_depth: int) -> bool:
    level = [value]
    for _ in range(max_depth):
        level = [
            inner
            for outer in level
            if isinstance(outer, dict | list)
            for inner in (outer.values() if isinstance(outer, dict) else outer)
        ]
        if not level:
            return False
    return any(isinstance(inner, dict | list) for inner in level)


def _too_deep(max_depth: int) -> BoundsError:
    return BoundsError(f"nested deeper than {max_depth} levels")
