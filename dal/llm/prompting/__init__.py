"""Prompt construction and reply parsing."""
