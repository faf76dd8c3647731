"""Slow, obviously right versions of the mathematics, in float64 and plain loops. Nothing here is fast or clever."""
