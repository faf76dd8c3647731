"""Annotation by people in spreadsheets."""
