"""Texts of a pool that are like a given one: by embeddings that need no labels, or by TF-IDF vectors of their words."""

from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from dal.data.columns import TextColumn, TextPairs
from dal.data.rows import Rows
from dal.errors import LearnerError, SessionError
from dal.learners.tfidf_learner import TfidfLearner
from dal.outputs import closure
from dal.session import Session

_CHUNK = 8192  # rows that are centred together
_PLACEHOLDERS = ("a", "b")  # classes of a typed text, which its embedding does not depend on


class WordVectors:
    """TF-IDF vectors of the texts of a pool, with unit length: those of a `TfidfLearner`, else of single words.

    Args:
        session: session of the pool.

    Raises:
        DalError: the rows are not texts, or have no words.
    """

    def __init__(self, session: Session) -> None:
        if isinstance(session.learner, TfidfLearner):
            self._vectorizer, self._matrix = session.learner.vectors(session.prepared)
            return
        if not isinstance(session.pool.inputs, TextColumn | TextPairs):
            raise SessionError("the rows of the pool are not texts")
        from sklearn.feature_extraction.text import TfidfVectorizer

        self._vectorizer = TfidfVectorizer(sublinear_tf=True)
        try:
            self._matrix = self._vectorizer.fit_transform([_joined(each) for each in session.pool.inputs]).tocsr()
        except ValueError as error:
            raise SessionError("the texts of the pool have no words to compare") from error

    def nearest(self, rows: Tensor, among: Tensor, k: int) -> list[list[int]]:
        """For each row, the positions in `among` of the k rows with the most similar words, most similar first.

        Rows that share no word with it are left out.

        Args:
            rows: (n,) rows of the pool.
            among: (m,) rows of the pool.
            k: largest number of positions.
        """
        cosines = (self._matrix[rows.numpy()] @ self._matrix[among.numpy()].T).tocsr()  # (n, m)
        return [_best(cosines[place], k)[0].tolist() for place in range(len(rows))]

    def similar(self, text: str, n: int) -> tuple[list[int], list[float]]:
        """Up to n rows with words of the text, most similar first, and their cosines."""
        found, cosines = _best((self._vectorizer.transform([text]) @ self._matrix.T).tocsr(), n)
        return found.tolist(), cosines.tolist()


class EmbeddedTexts:
    """Embeddings of the texts of a pool, which need no labels. Computed once, and read from the cache afterwards.

    Args:
        session: session of the pool, whose learner provides the embeddings.

    Raises:
        LearnerError: an embedding is NaN or infinite.
    """

    def __init__(self, session: Session) -> None:
        self._learner = session.learner
        # Like the trained model untrained on the pool: embeddings may depend on its centre.
        self._model = session.learner.untrained(session.prepared)
        points: Tensor = session.read(torch.arange(len(session.pool)), {"embeddings"})["embeddings"].float().cpu()
        # Texts of one pool have much in common: without the mean, all cosines are high, and their order is noise.
        self._mean = points.mean(0)
        if not bool(torch.isfinite(self._mean).all()):
            raise LearnerError("embeddings of the pool are NaN or infinite: check the encoder")
        self._points = points.clone()
        for chunk in self._points.split(_CHUNK):
            chunk.copy_(F.normalize(chunk - self._mean, dim=1))

    def similar(self, text: str, n: int) -> tuple[list[int], list[float]]:
        """The n rows with the most similar embeddings, most similar first, and their cosines."""
        typed = self._learner.prepare(Rows.from_inputs([text], classes=list(_PLACEHOLDERS)))
        point = self._model.outputs(typed, None, {"embeddings"})["embeddings"].float().cpu()[0]
        top = (self._points @ F.normalize(point - self._mean, dim=0)).topk(min(n, len(self._points)))
        return top.indices.tolist(), top.values.tolist()


class SimilarTexts:
    """Finds the texts of a pool that are most like a typed one. It keeps no session.

    Args:
        session: session of the pool.

    Raises:
        DalError: the rows are not texts, have no words, or an embedding is NaN or infinite.
    """

    def __init__(self, session: Session) -> None:
        self._ids = session.pool.ids
        embeds = "embeddings" in closure(session.learner.label_free)
        self._texts = EmbeddedTexts(session) if embeds else WordVectors(session)

    def of(self, text: str, n: int) -> list[list[Any]]:
        """Id and cosine of up to n texts, most similar first."""
        rows, cosines = self._texts.similar(text, n)
        return [[self._ids[row], round(float(cosine), 4)] for row, cosine in zip(rows, cosines, strict=True)]


def _best(cosines: Any, n: int) -> tuple[np.ndarray, np.ndarray]:
    """Columns and values of the n largest entries of a sparse row, largest first; of equal ones the first column."""
    order = np.lexsort((cosines.indices, -cosines.data))[:n]
    return cosines.indices[order], cosines.data[order]


def _joined(text: Any) -> str:
    return text if isinstance(text, str) else " ".join(text)
