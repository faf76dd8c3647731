"""Logistic regression on TF-IDF vectors, without an encoder or a network."""

import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from safetensors.numpy import save_file
from torch import Tensor

from dal.errors import DataError, LearnerError, NeedError
from dal.functional.checking import Options
from dal.learner import SILENT, Learner, Monitor, Predictor, Prepared
from dal.learners.sklearn_committee import Member, fit_estimator
from dal.learners.training.saved_files import read_class_facts, read_tensors, refusing_damage
from dal.learners.training.training_labels import checked_labels, row_weights
from dal.outputs import Outputs, closure
from dal.store.atomic_files import replacing

_LOGITS = frozenset({"logits"})


class WordsPrepared(Prepared):
    """Rows as plain texts, with the two texts of a pair concatenated. A batch is `{"texts": [...]}`."""

    def __init__(self, texts: Sequence[str], classes: Sequence[str], multilabel: bool) -> None:
        self.texts = texts
        self.classes, self.multilabel = tuple(classes), multilabel
        self.lengths = torch.tensor([1 + text.count(" ") for text in texts], dtype=torch.int64)
        self.vectors: dict[Any, tuple[Any, Any]] = {}  # n-gram length -> fitted vectorizer and TF-IDF matrix (N, V)

    def __len__(self) -> int:
        return len(self.texts)

    def batch(self, rows: Sequence[int]) -> dict[str, Any]:
        """Return the texts of the rows."""
        return {"texts": [self.texts[int(row)] for row in rows]}


class TfidfPredictor(Predictor):
    """Trained regression and its vectorizer; without them, a predictor without outputs."""

    def __init__(self, vectorizer: Any = None, member: Member | None = None, classes: Sequence[str] = ()) -> None:
        self._vectorizer, self._member, self._classes = vectorizer, member, tuple(classes)

    def outputs(
        self,
        data: Prepared,
        rows: Tensor | None = None,
        names: Iterable[str] = _LOGITS,
        *,
        seed: int = 0,
        exact: bool = False,
        monitor: Monitor = SILENT,
    ) -> Outputs:
        """Compute the logits of `rows` and outputs derived from them; always exact, regardless of `seed`."""
        names = frozenset(names)
        if missing := names - (closure(_LOGITS) if self._member is not None else frozenset()):
            when = "" if self._member is not None else " before anything is fitted"
            raise NeedError(f"{', '.join(sorted(missing))} cannot be computed{when}: TfidfLearner provides logits only")
        index = list(range(len(data))) if rows is None else rows.tolist()
        tensors = {}
        if self._member is not None and names:
            monitor.started("pass", len(index))
            vectors = self._vectorizer.transform(data.batch(index)["texts"]) if index else np.zeros((0, 1))
            logits = self._member.logits(vectors) if index else np.zeros((0, len(data.classes)))
            tensors = {"logits": torch.from_numpy(logits).float()}
            monitor.finished()
        return Outputs(tensors, length=len(index), multilabel=data.multilabel)

    def save(self, folder: Path) -> None:
        """Write the weights (`tfidf.safetensors`) and the terms (`tfidf.json`)."""
        if self._member is None:
            raise LearnerError("nothing was fitted yet, so there is nothing to save")
        tensors = {"idf": np.ascontiguousarray(self._vectorizer.idf_)}
        for number, (estimator, seen) in enumerate(zip(self._member.estimators, self._member.seen, strict=True)):
            tensors[f"seen.{number}"] = np.ascontiguousarray(seen)
            if estimator is not None:
                tensors[f"weight.{number}"] = np.ascontiguousarray(estimator.coef_)
                tensors[f"bias.{number}"] = np.ascontiguousarray(estimator.intercept_)
        terms = self._vectorizer.get_feature_names_out().tolist()
        facts = {"classes": list(self._classes), "multilabel": self._member.multilabel, "terms": terms}
        with replacing(Path(folder)) as target:
            save_file(tensors, target / "tfidf.safetensors")
            (target / "tfidf.json").write_text(json.dumps(facts, ensure_ascii=False), encoding="utf-8")


@dataclass(frozen=True)
class TfidfLearner(Learner):
    """Logistic regression on TF-IDF vectors of words and word pairs. Takes seconds for ten thousand texts.

    Terms and document frequencies are computed on the whole pool, labeled or not. One-vs-rest when multi-label. It
    provides `logits` only, which is sufficient for strategies based on probabilities. It is also the usual `successor`:
    a model of a different family, used to test how well the selected labels transfer.

    Args:
        C: inverse strength of the L2 penalty.
        ngrams: maximum number of words per term.
        class_weights: "balanced" gives every class the same total weight; None weights rows equally.

    Example:
        >>> from dal.data import Rows
        >>> rows = Rows.from_inputs(["a fine day", "fine", "a sad day", "sad"], ["good", "good", "bad", "bad"])
        >>> learner = TfidfLearner()
        >>> data = learner.prepare(rows)
        >>> learner.fit(data, torch.tensor([0, 2]), rows.labels[[0, 2]], seed=0).outputs(data).probs.argmax(1)
        tensor([1, 1, 0, 0])
    """

    C: float = 10.0
    ngrams: int = 2
    class_weights: Literal["balanced"] | None = None

    provides = _LOGITS
    advice = "A cheap baseline without an encoder, and a second model family for testing a labeled set."

    def __post_init__(self) -> None:
        options = Options(self, named="")
        options.number("C", above=0, description="positive and finite")
        options.whole("ngrams", least=1)
        options.one_of("class_weights", (None, "balanced"))

    def prepare(self, data: Any) -> WordsPrepared:
        """Return the rows as plain texts.

        Raises:
            DataError: the inputs are not texts.
        """
        return WordsPrepared([_text(each) for each in data.inputs], data.classes, data.multilabel)

    def fit(
        self,
        data: Prepared,
        rows: Tensor,
        labels: Tensor,
        *,
        seed: int,
        weights: Tensor | None = None,
        validation: tuple[Prepared, Tensor] | None = None,
        previous: Predictor | None = None,
        monitor: Monitor = SILENT,
    ) -> TfidfPredictor:
        """Fit the regression to the labeled rows, regardless of `seed`, `validation` and `previous`."""
        targets = checked_labels(labels, data.classes, data.multilabel)  # (L, C)
        sample_weights = row_weights(targets, weights, self.class_weights, data.multilabel).numpy()
        vectorizer, vectors = self.vectors(data)
        answers = targets.long().numpy()
        columns = list(answers.T) if data.multilabel else [answers.argmax(1)]
        x = vectors[rows.numpy()]
        fitted = [fit_estimator(self._regression(), x, column, sample_weights) for column in columns]
        seen = tuple(np.unique(column) for column in columns)
        member = Member(len(data.classes), data.multilabel, tuple(fitted), seen)
        return TfidfPredictor(vectorizer, member, data.classes)

    def untrained(self, data: Prepared) -> TfidfPredictor:
        """Return a predictor without outputs, because there are no label-free ones."""
        return TfidfPredictor()

    def load(self, folder: Path, data: Prepared) -> TfidfPredictor:
        """Load a regression written by `save`.

        Raises:
            LearnerError: the regression was trained for different classes, or a file is damaged.
        """
        facts = read_class_facts(folder, "tfidf.json", data, {"terms": list})
        count = len(data.classes) if data.multilabel else 1
        sizes = {"V": len(facts["terms"])}
        read = read_tensors(folder, "tfidf.safetensors", lambda names: _shapes(names, count), sizes)
        tensors = {name: value.numpy() for name, value in read.items()}
        with refusing_damage(folder, "tfidf.json"):
            vectorizer = self._vectorizer(vocabulary=[str(term) for term in facts["terms"]])
            vectorizer.idf_ = tensors["idf"]
        seen = tuple(tensors[f"seen.{number}"] for number in range(count))
        with refusing_damage(folder, "tfidf.safetensors"):
            for number, codes in enumerate(seen):
                _check_member(number, codes, tensors, 2 if data.multilabel else len(data.classes))
        estimators = tuple(self._restored(tensors, number) for number in range(len(seen)))
        member = Member(len(data.classes), facts["multilabel"], estimators, seen)
        return TfidfPredictor(vectorizer, member, data.classes)

    def _restored(self, tensors: dict[str, np.ndarray], number: int) -> Any:
        if f"weight.{number}" not in tensors:
            return None
        estimator = self._regression()
        estimator.coef_, estimator.intercept_ = tensors[f"weight.{number}"], tensors[f"bias.{number}"]
        estimator.classes_ = tensors[f"seen.{number}"]
        return estimator

    def vectors(self, data: Prepared) -> tuple[Any, Any]:
        """The vectorizer fitted on all rows and their TF-IDF matrix, computed once."""
        if not isinstance(data, WordsPrepared):
            raise LearnerError("these rows were prepared by another learner: use this learner's prepare")
        if self.ngrams not in data.vectors:
            vectorizer = self._vectorizer()
            try:
                data.vectors[self.ngrams] = (vectorizer, vectorizer.fit_transform(data.texts).tocsr())
            except ValueError as error:
                raise LearnerError(f"the texts contain no words for TF-IDF: {error}") from error
        return data.vectors[self.ngrams]

    def _vectorizer(self, **options: Any) -> Any:
        from sklearn.feature_extraction.text import TfidfVectorizer

        return TfidfVectorizer(ngram_range=(1, self.ngrams), sublinear_tf=True, **options)

    def _regression(self) -> Any:
        from sklearn.linear_model import LogisticRegression

        return LogisticRegression(C=self.C, max_iter=1000)


def _shapes(names: set[str], count: int) -> dict[str, str]:
    """The dimensions of the tensors of a saved model, by name."""
    wanted = {"idf": "V"}
    for number in range(count):
        wanted[f"seen.{number}"] = f"S{number}"
        if f"weight.{number}" in names:
            wanted |= {f"weight.{number}": f"B{number} V", f"bias.{number}": f"B{number}"}
    return wanted


def _check_member(number: int, seen: np.ndarray, tensors: dict[str, np.ndarray], classes: int) -> None:
    """Check that the weights of a saved regression fit the classes it has seen. Raises `ValueError`."""
    if not len(seen) or not np.issubdtype(seen.dtype, np.integer) or seen.min() < 0 or seen.max() >= classes:
        raise ValueError(f"seen.{number} holds no classes")
    if len(np.unique(seen)) != len(seen) or (len(seen) > 1) != (f"weight.{number}" in tensors):
        raise ValueError(f"seen.{number} does not fit the weights")
    expected = 1 if len(seen) == 2 else len(seen)
    if len(seen) > 1 and len(tensors[f"weight.{number}"]) != expected:
        raise ValueError(f"weight.{number} does not have {len(seen)} classes")


def _text(given: Any) -> str:
    if isinstance(given, str):
        return given
    if isinstance(given, Sequence) and given and all(isinstance(part, str) for part in given):
        return " ".join(given)
    raise DataError(f"TfidfLearner reads texts, not {type(given).__name__}: use a learner for tensors, or give texts")
