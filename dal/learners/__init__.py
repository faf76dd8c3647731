"""Learners: model families that fit a predictor to labeled rows."""
