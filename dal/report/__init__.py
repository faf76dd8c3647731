"""The self-contained HTML report of a run, and its plots."""

from dal.report.page import verdict_sentences, write_report

__all__ = ["verdict_sentences", "write_report"]
