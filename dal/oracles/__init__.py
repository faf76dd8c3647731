"""Oracles: annotators that are not people."""
