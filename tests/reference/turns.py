"""Likely rows of every class, one after the other, in float64."""

import numpy as np


def likely_per_class(logits: np.ndarray, counts: list[int], n: int, *, multilabel: bool) -> list[int]:
    """The class with the fewest labels, of equal ones the rarest, gets its most probable row that is not yet taken."""
    exponentials = np.exp(logits.astype(np.float64))
    probs = exponentials / (1 + exponentials) if multilabel else exponentials / exponentials.sum(1, keepdims=True)
    shares, counts, taken = probs.mean(0), list(counts), []
    for _ in range(n):
        c = min(range(len(counts)), key=lambda each: (counts[each], shares[each]))
        taken.append(max((row for row in range(len(probs)) if row not in taken), key=lambda row: probs[row, c]))
        counts[c] += 1
    return taken
