"""Select the labeled examples nearest to a text, for few-shot prompts."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import islice
from typing import Any

import numpy as np
import torch
from torch import Tensor

from dal.llm.prompting.prompts import Example


@dataclass(frozen=True)
class ExamplePool:
    """Labeled texts from which the nearest are selected.

    Liu et al. 2022, "What Makes Good In-Context Examples for GPT-3?".

    Attributes:
        examples: L labeled texts.
        k: number of examples per prompt.
        encoder: hub name, folder or "package:NAME/FOLDER" of the encoder for the similarity; None for TF-IDF, fitted on
            the L texts.
    """

    examples: tuple[Example, ...]
    k: int
    encoder: str | None = None

    def nearest(self, texts: Sequence[str]) -> list[list[Example]]:
        """Return the k nearest examples of each text, the nearest last, so that it is adjacent to the text.

        Copies of the text itself are excluded, because they would reveal its label. Ties are broken by the order of the
        examples.
        """
        if not self.examples or not self.k:
            return [[] for _ in texts]
        similarity = self._similarity(texts)  # (N, L)
        candidates = np.array([example.text for example in self.examples], dtype=object)
        chosen = []
        for row, text in enumerate(texts):
            order = np.argsort(-similarity[row], kind="stable")
            nearest = list(islice((int(i) for i in order if candidates[i] != text), self.k))
            chosen.append([self.examples[i] for i in reversed(nearest)])
        return chosen

    def _similarity(self, texts: Sequence[str]) -> np.ndarray:
        """Cosine similarities (N, L), rounded so that ties do not depend on floating-point errors."""
        if self.encoder is not None:
            examples = embed([each.text for each in self.examples], self.encoder)
            cosine = _unit(embed(texts, self.encoder)) @ _unit(examples).T
            rounded: np.ndarray = np.round(cosine.double().numpy(), 5)
            return rounded
        vectorizer, vectors = self._tfidf
        if vectorizer is None:
            return np.zeros((len(texts), len(self.examples)))
        similarity: np.ndarray = np.round((vectorizer.transform(texts) @ vectors.T).toarray(), 9)
        return similarity

    @cached_property
    def _tfidf(self) -> tuple[Any, Any]:
        """The fitted vectorizer and the vectors of the examples; (None, None) if they contain no words."""
        from sklearn.feature_extraction.text import TfidfVectorizer

        vectorizer = TfidfVectorizer(sublinear_tf=True, token_pattern=r"\w+")
        try:
            return vectorizer, vectorizer.fit_transform([each.text for each in self.examples])
        except ValueError:  # an empty vocabulary
            return None, None


def embed(texts: Sequence[str], encoder: str) -> Tensor:
    """Return the embeddings (N, E) of the texts, cached on disk."""
    from dal.data import Rows
    from dal.learners.text.embeddings import Embedder
    from dal.learners.text.tokenizers import locate, prepare_texts
    from dal.learners.training.devices import device_of

    reader = Embedder(locate(encoder), "float32", 16384, device_of("auto"))
    return reader.embed(prepare_texts(Rows.from_inputs(list(texts)), encoder, 128)).inputs


def _unit(vectors: Tensor) -> Tensor:
    return torch.nn.functional.normalize(vectors.float(), dim=-1)
