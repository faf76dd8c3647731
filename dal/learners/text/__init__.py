"""Tokens, embeddings and surprisal of texts."""
