"""Linear heads: fits, posteriors, samples, and out-of-fold probabilities."""
