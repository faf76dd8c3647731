"""The self-contained HTML report of a run, and its plots."""

from dal.report.page import write_report

__all__ = ["write_report"]
