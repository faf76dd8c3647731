"""Confidence of language models: computation, recalibration, and evaluation."""
