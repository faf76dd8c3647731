"""Share of near-duplicates within a batch."""

import re
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from scipy.sparse import csr_matrix
from torch import Tensor

from dal.outputs import Outputs

#: Minimum Jaccard similarity of the words of near-duplicate texts.
SHARED_WORDS = 0.8
#: Maximum distance of near-duplicate vectors, as a fraction of the typical distance.
CLOSE = 0.2
#: Rows of a batch to compare at most, the first ones: the comparison is quadratic.
_LARGEST = 2000
#: Rows sampled to estimate the typical distance.
_USUAL = 256

_WORD = re.compile(r"\w+")


def near_duplicates(
    inputs: Sequence[Any], candidates: Tensor, positions: Tensor, pool: Outputs, generator: torch.Generator
) -> float:
    """Share of a batch, 0 to 1, that has a near-duplicate within the batch.

    Compares embeddings if the strategy read them; otherwise the words of texts, or the distances of numeric inputs.

    Args:
        inputs: inputs of all rows.
        candidates: (N,) candidate rows.
        positions: (n,) positions of the batch among the candidates.
        pool: outputs of the candidates.
        generator: random generator for the sample that gives the typical distance.
    """
    usual = torch.randperm(len(candidates), generator=generator)[:_USUAL]
    if len(positions) < 2:
        return 0.0
    if "embeddings" in pool.names:
        embeddings = pool.blockwise("embeddings")
        return near_duplicate_vectors(embeddings[positions.to(pool.device)], embeddings[usual])
    batch = [inputs[row] for row in candidates[positions].tolist()]
    if isinstance(batch[0], str | tuple):
        return near_duplicate_texts([item if isinstance(item, str) else " ".join(item) for item in batch])
    sample = [inputs[row] for row in candidates[usual].tolist()]
    try:
        vectors, others = (torch.stack([torch.as_tensor(item).flatten() for item in some]) for some in (batch, sample))
    except (TypeError, ValueError, RuntimeError):  # inputs of different shapes cannot be compared
        return 0.0
    return near_duplicate_vectors(vectors, others)


def near_duplicate_texts(texts: Sequence[str]) -> float:
    """Share of the texts, 0 to 1, that have a near-duplicate: a text with a Jaccard similarity of at least 0.8.

    The similarity is that of the sets of lower-case words.

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
    """Share of the vectors, 0 to 1, that have another one within 0.2 of the typical distance.

    Args:
        vectors: (n, D) batch.
        usual: (m, D) sample of the pool; the median of its pairwise distances is the typical distance.
    """
    vectors, usual = vectors[:_LARGEST].double(), usual.double()
    if len(vectors) < 2 or len(usual) < 2:
        return 0.0
    threshold = CLOSE * torch.nn.functional.pdist(usual).median()
    # By differences: matrix products would cancel for the near-duplicates that are looked for.
    distances = torch.cdist(vectors, vectors, compute_mode="donot_use_mm_for_euclid_dist")
    distances.fill_diagonal_(torch.inf)
    return float((distances.amin(1) <= threshold).double().mean())
