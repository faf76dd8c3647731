"""Metrics and learning curves."""
