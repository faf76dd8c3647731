"""Tokens, embeddings and surprisal of texts, computed once and kept."""
