"""Fixtures of the tests of the annotation page."""

from page_visit import browser, visit

__all__ = ["browser", "visit"]
