"""Experiments: runs and comparisons of strategies, their records, loggers, console output and executors."""
