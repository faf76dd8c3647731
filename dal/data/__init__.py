"""Data sets: rows with stable ids and labels, and loaders that split files into pool, test and validation rows."""

from dal.data.columns import TextColumn, TextPairs
from dal.data.rows import Rows, Splits
from dal.data.summary import Summary
from dal.data.table_rows import DataWarning
from dal.data.text_data import TextData

__all__ = ["DataWarning", "Rows", "Splits", "Summary", "TextColumn", "TextData", "TextPairs"]
