"""Data: rows with stable ids, their labels, and how files become a pool and a test."""

from dal.data.columns import TextColumn, TextPairs
from dal.data.rows import Rows, Splits
from dal.data.summary import Summary
from dal.data.table_rows import DataWarning
from dal.data.text_data import TextData

__all__ = ["DataWarning", "Rows", "Splits", "Summary", "TextColumn", "TextData", "TextPairs"]
