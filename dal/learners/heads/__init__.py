"""Linear heads: posteriors, draws, and probabilities for held-out rows."""
