"""Reading of the recorded advice on a run's encoder, without torch. `encoder_figures.py` computes what is recorded."""

from collections.abc import Mapping
from typing import Any

from dal.errors import shortened

#: Key of a line of `metrics.jsonl`.
KEY = "encoders"

_LONGEST = 1000  # characters of the advice


def advice_in(line: Mapping[str, Any]) -> str:
    """The advice in a line of `metrics.jsonl`; empty without one."""
    found = line.get(KEY)
    text = found.get("advice") if isinstance(found, Mapping) else None
    return shortened(text, _LONGEST) if isinstance(text, str) else ""
