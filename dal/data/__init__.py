"""Data sets: rows with stable ids and labels, and loaders that split files into pool, test and validation rows.

Names are loaded when they are first used, so that files about labels alone can be imported without PyTorch.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from dal.data.columns import TextColumn, TextPairs
    from dal.data.rows import Rows, Splits
    from dal.data.summary import Summary
    from dal.data.table_rows import DataWarning
    from dal.data.text_data import TextData

_HOMES = {
    "DataWarning": "dal.data.table_rows",
    "Rows": "dal.data.rows",
    "Splits": "dal.data.rows",
    "Summary": "dal.data.summary",
    "TextColumn": "dal.data.columns",
    "TextData": "dal.data.text_data",
    "TextPairs": "dal.data.columns",
}

__all__ = ["DataWarning", "Rows", "Splits", "Summary", "TextColumn", "TextData", "TextPairs"]


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'dal.data' has no attribute {name!r}")
    value = getattr(import_module(_HOMES[name]), name)
    globals()[name] = value
    return value
