"""Sentences of the console on the candidates of a round, and on a number of candidates that leaves out no row."""

from collections.abc import Mapping
from typing import Any

from dal.functional.checking import as_integer
from dal.strategies.candidates import Candidates, as_candidates


def candidates_text(line: Mapping[str, Any]) -> str:
    """The rows that a round scored, or the measured recall of its candidates; empty where no model scored any.

    Args:
        line: line of the round in `metrics.jsonl`.
    """
    if recall := recall_text(line):
        return recall
    scored, of = _counts(line, "scored", "of")
    if not scored or not of:
        return ""
    if scored >= of:
        return f"candidates: all rows were scored ({of:,})"
    return f"candidates: {scored:,} of {of:,} rows were scored"


def recall_text(line: Mapping[str, Any]) -> str:
    """The measured recall of the candidates of a round; empty without one."""
    count, of, scored = _counts(line, "count", "of", "scored")
    candidates = line.get("candidates")
    recall = candidates.get("recall") if isinstance(candidates, Mapping) else None
    if count is None or not of or not isinstance(recall, int | float):
        return ""
    asked = len(line.get("rows") or ())
    chance = f"(recall {recall:.2f}, by chance {count / of:.2f})"
    found = f"{round(recall * asked)} of the {asked} that"
    if scored == of:
        return (
            f"candidates: all {of:,} rows were scored; {count:,} candidates from the pass before would have contained "
            f"{found} were chosen {chance}"
        )
    return f"candidates: {count:,} of {of:,} rows contain {found} the whole pool would have given {chance}"


def size_text(candidates: int | Candidates | None, rows: int) -> str:
    """A warning about an option `size` of the generator that leaves out none of the rows; empty without one.

    Args:
        candidates: option `candidates` of an experiment.
        rows: number of rows that can be asked.
    """
    size = as_integer(getattr(as_candidates(candidates), "size", None))
    if size is None or size < rows:
        return ""
    return f"candidates: size {size:,} is not below the {rows:,} rows that are left to ask, so none is left out"


def _counts(line: Mapping[str, Any], *keys: str) -> tuple[int | None, ...]:
    """Whole numbers in the `candidates` of a line; None for each that is missing."""
    candidates = line.get("candidates")
    return tuple(as_integer(candidates.get(key)) if isinstance(candidates, Mapping) else None for key in keys)
