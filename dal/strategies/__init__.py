"""Acquisition strategies, one file per family."""
