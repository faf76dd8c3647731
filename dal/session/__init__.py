"""The session that asks and learns from answers, and its parts."""
