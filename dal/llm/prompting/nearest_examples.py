"""Labeled rows as examples in a prompt: those nearest to the text that is asked about."""

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
    """Labeled texts of which the nearest are shown.

    Liu et al. 2022, "What Makes Good In-Context Examples for GPT-3?".

    Attributes:
        examples: L labeled texts.
        k: how many are shown.
        encoder: hub name, folder or "package:NAME/FOLDER" of an encoder whose embeddings are compared; None compares
            the words (TF-IDF over the L texts).
    """

    examples: tuple[Example, ...]
    k: int
    encoder: str | None = None

    def near(self, texts: Sequence[str]) -> list[list[Example]]:
        """For each text its k nearest examples, the nearest last, where it stands next to the text.

        A text is never an example of itself, nor is a copy of it: that would give the answer away. Of equally near
        ones the first labeled are taken.
        """
        if not self.examples or not self.k:
            return [[] for _ in texts]
        likeness = self._likeness(texts)  # (N, L)
        held = np.array([example.text for example in self.examples], dtype=object)
        chosen = []
        for row, text in enumerate(texts):
            order = np.argsort(-likeness[row], kind="stable")
            fit = list(islice((int(at) for at in order if held[at] != text), self.k))
            chosen.append([self.examples[at] for at in reversed(fit)])
        return chosen

    def _likeness(self, texts: Sequence[str]) -> np.ndarray:
        """Cosine similarities (N, L), rounded so that rounding decides nothing."""
        if self.encoder is not None:
            found = (
                _unit(embed(texts, self.encoder)) @ _unit(embed([each.text for each in self.examples], self.encoder)).T
            )
            rounded: np.ndarray = np.round(found.double().numpy(), 5)
            return rounded
        vectorizer, held = self._words
        if vectorizer is None:
            return np.zeros((len(texts), len(self.examples)))
        likeness: np.ndarray = np.round((vectorizer.transform(texts) @ held.T).toarray(), 9)
        return likeness

    @cached_property
    def _words(self) -> tuple[Any, Any]:
        """The fitted TF-IDF and the examples' vectors; None where they hold no words."""
        from sklearn.feature_extraction.text import TfidfVectorizer

        vectorizer = TfidfVectorizer(sublinear_tf=True, token_pattern=r"\w+")
        try:
            return vectorizer, vectorizer.fit_transform([each.text for each in self.examples])
        except ValueError:  # an empty vocabulary
            return None, None


def embed(texts: Sequence[str], encoder: str) -> Tensor:
    """Embeddings (N, E) of the texts, cached on disk."""
    from dal.data import Rows
    from dal.learners.text.embeddings import Embedder
    from dal.learners.text.tokenizers import locate, prepare_texts
    from dal.learners.training.devices import device_of

    reader = Embedder(locate(encoder), "float32", 16384, device_of("auto"))
    return reader.embed(prepare_texts(Rows.from_inputs(list(texts)), encoder, 128)).inputs


def _unit(vectors: Tensor) -> Tensor:
    return torch.nn.functional.normalize(vectors.float(), dim=-1)
