"""Readers and writers of files: the labeled corpus, and the formats of other annotation programs."""
