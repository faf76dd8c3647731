"""How sure a language model is, and what its confidence is worth."""
