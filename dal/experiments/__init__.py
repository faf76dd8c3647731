"""Runs and comparisons of strategies: rounds, records, measures, loggers, console, processes."""
