"""The parts of an experiment: its learner, strategy and oracle, and all that they contain."""

import dataclasses
from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from typing import Any

from dal.data import Rows, Splits


def config_parts(value: Any, place: str = "") -> Iterator[tuple[str, Any]]:
    """Every part of a configurable value with its dotted place, the outermost first."""
    yield place, value
    pairs: Sequence[tuple[Any, Any]] = ()
    if dataclasses.is_dataclass(value) and not isinstance(value, type | Rows | Splits):
        pairs = [(field.name, getattr(value, field.name)) for field in dataclasses.fields(value) if field.init]
    elif isinstance(value, Mapping):
        pairs = list(value.items())
    elif isinstance(value, list | tuple):
        pairs = list(enumerate(value))
    elif isinstance(value, partial):
        pairs = list(value.keywords.items())
    for key, inner in pairs:
        if not isinstance(inner, str | int | float | None):
            yield from config_parts(inner, f"{place}.{key}" if place else str(key))
