"""Plots and the self-contained HTML report."""

from dal.report.page import write_report

__all__ = ["write_report"]
