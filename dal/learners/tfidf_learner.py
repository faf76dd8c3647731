"""Logistic regression on TF-IDF: no encoder, no network, a second opinion on what labels are worth."""

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
from dal.learners.training.saved_files import check_classes, check_kind, read_facts, read_tensors, refusing_damage
from dal.learners.training.training_labels import checked_labels, row_weights
from dal.outputs import Outputs, closure
from dal.store.atomic_files import replacing

_LOGITS = frozenset({"logits"})


class WordsPrepared(Prepared):
    """Rows as their texts; both texts of a pair one after the other. A batch is `{"texts": [...]}`."""

    def __init__(self, texts: Sequence[str], classes: Sequence[str], multilabel: bool) -> None:
        self.texts = texts
        self.classes, self.multilabel = tuple(classes), multilabel
        self.lengths = torch.tensor([1 + text.count(" ") for text in texts], dtype=torch.int64)
        self.vectors: dict[Any, tuple[Any, Any]] = {}  # by options: the vectorizer fitted on them, and what it made

    def __len__(self) -> int:
        return len(self.texts)

    def batch(self, rows: Sequence[int]) -> dict[str, Any]:
        """The rows' texts."""
        return {"texts": [self.texts[int(row)] for row in rows]}


class TfidfPredictor(Predictor):
    """A trained regression and the vectorizer that it reads; without both, nothing."""

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
        """The logits of `rows`, or what follows from them; always exact, whatever `seed`."""
        names = frozenset(names)
        if missing := names - (closure(_LOGITS) if self._member is not None else frozenset()):
            when = "" if self._member is not None else " before anything is fitted"
            raise NeedError(f"{', '.join(sorted(missing))} cannot be read{when}: TF-IDF has logits alone")
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
        """Write `tfidf.safetensors` and `tfidf.json`: weights, and the terms that they belong to."""
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
    """Logistic regression on the TF-IDF weights of words and word pairs: no encoder, seconds for ten thousand texts.

    Terms and their frequencies come from the whole pool, labels or none. One-vs-rest when multi-label. It offers
    `logits` alone, so that strategies that read probabilities work on it, and it is the usual successor: a model of
    another kind, on which `successor` tests what the labels are worth.

    Args:
        C: inverse strength of the penalty.
        ngrams: words in the longest term.
        class_weights: "balanced" gives every class the same total weight.

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
    advice = "No encoder at all: a cheap baseline, and a second opinion on a labeled set."

    def __post_init__(self) -> None:
        options = Options(self, named="")
        options.number("C", above=0, said="positive and finite")
        options.whole("ngrams", least=1)
        options.one_of("class_weights", (None, "balanced"))

    def prepare(self, data: Any) -> WordsPrepared:
        """The texts as they are.

        Raises:
            DataError: the inputs are no texts.
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
        """The regression on these labels, which alone decide it."""
        targets = checked_labels(labels, data.classes, data.multilabel)  # (L, C)
        counted = row_weights(targets, weights, self.class_weights, data.multilabel).numpy()
        vectorizer, vectors = self._vectors(data)
        answers = targets.long().numpy()
        columns = list(answers.T) if data.multilabel else [answers.argmax(1)]
        fitted = [fit_estimator(self._regression(), vectors[rows.numpy()], column, counted) for column in columns]
        seen = tuple(np.unique(column) for column in columns)
        member = Member(len(data.classes), data.multilabel, tuple(fitted), seen)
        return TfidfPredictor(vectorizer, member, data.classes)

    def untrained(self, data: Prepared) -> TfidfPredictor:
        """Nothing: it has no label-free names."""
        return TfidfPredictor()

    def load(self, folder: Path, data: Prepared) -> TfidfPredictor:
        """The regression that `save` wrote.

        Raises:
            LearnerError: it was trained for other classes, or is damaged.
        """
        facts = read_facts(folder, "tfidf.json", {"classes": list, "multilabel": bool, "terms": list})
        check_classes(folder, facts["classes"], data.classes)
        check_kind(folder, facts["multilabel"], data.multilabel)
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

    def _vectors(self, data: Prepared) -> tuple[Any, Any]:
        """The vectorizer fitted on all rows, and the rows as it sees them: made once."""
        if not isinstance(data, WordsPrepared):
            raise LearnerError("these rows were prepared by another learner: use this learner's prepare")
        if self.ngrams not in data.vectors:
            vectorizer = self._vectorizer()
            try:
                data.vectors[self.ngrams] = (vectorizer, vectorizer.fit_transform(data.texts).tocsr())
            except ValueError as error:
                raise LearnerError(f"the texts have no words that TF-IDF could weigh: {error}") from error
        return data.vectors[self.ngrams]

    def _vectorizer(self, **options: Any) -> Any:
        from sklearn.feature_extraction.text import TfidfVectorizer

        return TfidfVectorizer(ngram_range=(1, self.ngrams), sublinear_tf=True, **options)

    def _regression(self) -> Any:
        from sklearn.linear_model import LogisticRegression

        return LogisticRegression(C=self.C, max_iter=1000)


def _shapes(names: set[str], count: int) -> dict[str, str]:
    """The dimensions of what the regressions of a saved model hold."""
    wanted = {"idf": "V"}
    for number in range(count):
        wanted[f"seen.{number}"] = f"S{number}"
        if f"weight.{number}" in names:
            wanted |= {f"weight.{number}": f"B{number} V", f"bias.{number}": f"B{number}"}
    return wanted


def _check_member(number: int, seen: np.ndarray, tensors: dict[str, np.ndarray], classes: int) -> None:
    """Make sure that a regression tells the classes apart that it says it has seen (ValueError)."""
    if not len(seen) or not np.issubdtype(seen.dtype, np.integer) or seen.min() < 0 or seen.max() >= classes:
        raise ValueError(f"seen.{number} holds no classes")
    if len(np.unique(seen)) != len(seen) or (len(seen) > 1) != (f"weight.{number}" in tensors):
        raise ValueError(f"seen.{number} does not fit the weights")
    expected = 1 if len(seen) == 2 else len(seen)
    if len(seen) > 1 and len(tensors[f"weight.{number}"]) != expected:
        raise ValueError(f"weight.{number} is not of {len(seen)} classes")


def _text(given: Any) -> str:
    if isinstance(given, str):
        return given
    if isinstance(given, Sequence) and given and all(isinstance(part, str) for part in given):
        return " ".join(given)
    raise DataError(f"TF-IDF reads texts, not {type(given).__name__}: give a learner that reads numbers, or texts")
