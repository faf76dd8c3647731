"""JSON from files and replies, parsed within limits of depth."""

import json
from typing import Any

#: Levels of nesting that a document may have.
MAX_DEPTH = 64


class BoundsError(ValueError):
    """A document that is nested too deep or is too large."""


def parse_json(text: str | bytes, *, max_depth: int = MAX_DEPTH) -> Any:
    """Parse JSON.

    Args:
        text: the document; bytes are UTF-8, UTF-16 or UTF-32.
        max_depth: levels of lists and objects inside each other.

    Raises:
        ValueError: not JSON, not text, nested deeper than `max_depth`, or a number of more than 4,300 digits.

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


def _is_deeper(value: Any, most: int) -> bool:
    level = [value]
    for _ in range(most):
        level = [
            inner
            for outer in level
            if isinstance(outer, dict | list)
            for inner in (outer.values() if isinstance(outer, dict) else outer)
        ]
        if not level:
            return False
    return any(isinstance(inner, dict | list) for inner in level)


def _too_deep(most: int) -> BoundsError:
    return BoundsError(f"nested deeper than {most} levels")
