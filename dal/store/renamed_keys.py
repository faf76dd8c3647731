"""A line of `metrics.jsonl`, whose renamed keys are read under both names."""

import warnings
from collections.abc import Mapping
from typing import Any

from dal.errors import RenamedWarning, renaming_note

#: Key in version 0.1 -> key now.
RENAMED_KEYS = {
    "acting": "acting_strategy",
    "doubts": "label_issues",
    "scaled": "temperature_scaled",
    "why": "reason",
}


class MetricsLine(dict[str, Any]):
    """A line of `metrics.jsonl` under the present keys.

    A line of version 0.1 gets the present keys. `line[key]` and `line.get(key)` with a key of `RENAMED_KEYS` return
    the value of its present key, with a `RenamedWarning`; this ends with version 0.3.

    Args:
        entries: keys and JSON values, of any version.
    """

    def __init__(self, entries: Mapping[str, Any]) -> None:
        super().__init__({RENAMED_KEYS.get(key, key): value for key, value in entries.items()})

    def __missing__(self, key: str) -> Any:
        return self._renamed(key, stacklevel=3)

    def get(self, key: str, default: Any = None) -> Any:
        """The value of a key under its present or old name; `default` without it."""
        if key in self:
            return self[key]
        return self._renamed(key, stacklevel=3) if RENAMED_KEYS.get(key) in self else default

    def _renamed(self, key: str, stacklevel: int) -> Any:
        now = RENAMED_KEYS.get(key)
        if now is None or now not in self:
            raise KeyError(key)
        warnings.warn(renaming_note(f"the key {key} of metrics.jsonl", now), RenamedWarning, stacklevel)
        return self[now]
