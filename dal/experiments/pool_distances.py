"""Distances of new texts to the texts of a pool, in the embedding space of a learner."""

from collections.abc import Sequence
from typing import Any

import torch
from torch.nn import functional as F

from dal.data.rows import Rows
from dal.errors import LearnerError
from dal.evaluation.pool_shift import LEAST_ROWS, PoolShift, pool_shift
from dal.functional.neighbors import nearest_distance
from dal.learner import SILENT, Learner, Monitor
from dal.outputs import closure

#: Rows of the pool, and new ones, that are compared at most. A sample suffices for distributions of distances.
POOL_SAMPLE, NEW_SAMPLE = 1_000, 500


def shift_of_texts(
    pool: Sequence[Any], new: Sequence[Any], learner: Learner, *, monitor: Monitor = SILENT
) -> PoolShift | None:
    """Compare the distances of new texts to a pool with the distances within it.

    The space is that of the learner's embeddings, which need no labels; for a learner without them that of TF-IDF
    vectors of the words. Equal texts, also of the pool and the new ones, count once.

    Args:
        pool: texts, or pairs of texts, of a random sample of the pool, of which at most `POOL_SAMPLE` are used.
        new: new texts or pairs, of which at most `NEW_SAMPLE` are used.
        learner: learner of the project.
        monitor: receives the progress.

    Returns:
        The comparison; None with too few different texts.
    """
    known = list(dict.fromkeys(pool))[:POOL_SAMPLE]
    others = [text for text in dict.fromkeys(new) if text not in set(known)][:NEW_SAMPLE]
    if min(len(known), len(others)) < LEAST_ROWS:
        return None
    points = _points([*known, *others], learner, monitor)
    own = nearest_distance(points[: len(known)])
    far = nearest_distance(points[len(known) :], among=points[: len(known)])
    return pool_shift(own.double().numpy(), far.double().numpy())


def shift_note(shift: PoolShift | None) -> str:
    """A sentence for the user if new texts lie farther away; else ""."""
    if shift is None or not shift.is_shifted:
        return ""
    return (
        f"the new texts lie farther from the pool than its own: {shift.beyond:.0%} of {shift.rows:,} beyond 95% of it; "
        "accuracy and guarantees do not hold for them"
    )


def _points(texts: list[Any], learner: Learner, monitor: Monitor) -> torch.Tensor:
    """Unit vectors of texts, (N, D)."""
    if "embeddings" in closure(learner.label_free):
        rows = Rows.from_inputs(texts, classes=["a", "b"])
        prepared = learner.prepare(rows)
        outputs = learner.untrained(prepared).outputs(prepared, None, {"embeddings"}, monitor=monitor)
        points = outputs["embeddings"].float().cpu()
        if not bool(torch.isfinite(points).all()):
            raise LearnerError("embeddings of the new texts are NaN or infinite: check the encoder")
        return F.normalize(points, dim=1)
    from sklearn.feature_extraction.text import TfidfVectorizer

    words = [text if isinstance(text, str) else " ".join(text) for text in texts]
    try:  # fitted to all: words of the pool alone would make new texts with words of their own look near
        vectors = TfidfVectorizer(sublinear_tf=True).fit_transform(words)
    except ValueError:  # no words
        return torch.zeros(len(texts), 1)
    return torch.from_numpy(vectors.toarray()).float()
