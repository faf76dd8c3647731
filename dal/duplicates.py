"""How much of a batch of questions repeats itself."""

import re
from collections.abc import Sequence

import numpy as np
import torch
from scipy.sparse import csr_matrix
from torch import Tensor

#: Texts that share at least this part of their words are near-duplicates.
SHARED_WORDS = 0.8
#: Vectors closer than this part of the usual distance are near-duplicates.
CLOSE = 0.2
#: A larger batch is judged by its first rows.
_LARGEST = 2000

_WORD = re.compile(r"\w+")


def near_duplicate_texts(texts: Sequence[str]) -> float:
    """The share of the texts, 0 to 1, that have a near-duplicate among the others: at least 0.8 of their words agree.

    Words are compared without case, order and repetition (Jaccard similarity of their sets).

    Example:
        >>> near_duplicate_texts(["My parcel is late!", "my parcel is late", "the login fails", "a lovely menu"])
        0.5
    """
    vocabulary: dict[str, int] = {}
    columns, ends = [], [0]
    for text in texts[:_LARGEST]:
        words = {vocabulary.setdefault(word, len(vocabulary)) for word in _WORD.findall(text.lower())}
        columns += sorted(words)
        ends.append(len(columns))
    if len(ends) <= 2 or not columns:
        return 0.0
    shape = (len(ends) - 1, len(vocabulary))
    words_of = csr_matrix((np.ones(len(columns), np.int32), columns, ends), shape=shape)
    shared = (words_of @ words_of.T).toarray()  # (n, n) common words
    sizes = np.diff(ends)
    union = sizes[:, None] + sizes[None, :] - shared
    close = shared >= SHARED_WORDS * np.maximum(union, 1)
    np.fill_diagonal(close, False)
    return float(close.any(1).mean())


def near_duplicate_vectors(vectors: Tensor, usual: Tensor) -> float:
    """The share of the vectors, 0 to 1, that have another one at less than 0.2 of the usual distance.

    Args:
        vectors: (n, D), the batch.
        usual: (m, D), rows of the whole pool; the median of their distances is the usual distance.
    """
    vectors, usual = vectors[:_LARGEST].double(), usual.double()
    if len(vectors) < 2 or len(usual) < 2:
        return 0.0
    threshold = CLOSE * torch.nn.functional.pdist(usual).median()
    distances = torch.cdist(vectors, vectors, compute_mode="donot_use_mm_for_euclid_dist")
    distances.fill_diagonal_(torch.inf)
    return float((distances.amin(1) <= threshold).double().mean())
