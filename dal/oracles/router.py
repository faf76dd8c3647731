"""Route rows to models first, and to a person where they are uncertain, disagree, or the row is audited."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from dal.config.moved import accepts_old_options
from dal.errors import ConfigError
from dal.evaluation.labeler_audit import in_audit_sample
from dal.functional.checking import Options
from dal.oracle import LATER, Annotation, Oracle, StoredAnswers, checked_annotations
from dal.oracles.llm_oracle import check_distinct_names, oracle_name
from dal.oracles.merging import Merged, Merger
from dal.session.answer_values import by_index
from dal.store.events import SKIP
from dal.store.proposals import MERGED, latest

#: Routes of a row, in order of precedence: the first three go to a person.
AUDIT, UNSURE, DISAGREE, MODEL = "audit", "unsure", "disagree", "machine"

#: Name under which the predictions of the trained classifier are stored.
CLASSIFIER = "classifier"


@accepts_old_options
@dataclass(frozen=True)
class Router(Oracle):
    """Uses the answer of one or more models if they agree with sufficient confidence, otherwise that of a person.

    A random share of all rows goes to the person regardless of the models. It gives an unbiased estimate of their error
    rates (`dal audit`), which rows routed for low confidence would not, because these are harder than the rest. The
    sample depends only on `seed` and the row ids. Every answer of a model is stored, also where the person's is used.

    Once the audit has `merge` rows, answers of several confident sources (the classifier is one) are merged by the
    model of Dawid and Skene (1979) with the error rates measured in the audit. The most probable class is used if its
    probability reaches `threshold`, whether or not the sources agree; otherwise a person answers. A more accurate
    source thus overrules a less accurate one, and agreement of inaccurate sources is not sufficient. The model assumes
    independent errors: it is overconfident for sources with correlated errors. Multi-label answers are not merged.

    Args:
        models: one or more oracles, such as `LLMOracle`.
        person: oracle for the remaining rows; None leaves them pending for `dal ask` and `dal tell`.
        threshold: minimum confidence of every model, and minimum probability of a merged answer, 0 to 1.
        audit: share of the rows that are audited by a person, 0 to 1.
        classifier: whether rows on which the trained classifier disagrees go to the person as well.
        merge: minimum number of audited rows with confident models for merging answers; None to never merge.
        seed: seed of the audit sample.
    """

    models: list[Oracle]
    person: Oracle | None = None
    threshold: float = 0.9
    audit: float = 0.1
    classifier: bool = False
    merge: int | None = 50
    seed: int = 0

    source = "router"

    def __post_init__(self) -> None:
        if not self.models:
            raise ConfigError("models of Router must name at least one oracle, such as LLMOracle")
        options = Options(self)
        options.number("threshold", "audit", least=0, most=1)
        options.flag("classifier")
        options.whole("merge", least=1, optional=True, description="at least 1, or null for never")
        options.whole("seed", least=0)
        check_distinct_names(self.models)
        taken = [name for name in (CLASSIFIER, MERGED) if name in self._names]
        if taken:
            raise ConfigError(f"the name {taken[0]} is reserved by Router: give the oracle another `name`")

    @property
    def hides_labels(self) -> bool:  # type: ignore[override]
        """Whether any of the oracles hides the labels in the data."""
        parts = [*self.models, *([] if self.person is None else [self.person])]
        return any(part.hides_labels for part in parts)

    @property
    def needs(self) -> frozenset[str]:  # type: ignore[override]
        """Predictions if the classifier is used; the record if the classifier is used or answers are merged.

        The record keeps the classifier's first prediction for a row, which must not change until the row is answered.
        """
        predictions = {"predictions"} if self.classifier else set()
        return frozenset(predictions | ({"record"} if self.classifier or self._merges else set()))

    @property
    def _merges(self) -> bool:
        return self.merge is not None and len(self.models) + self.classifier > 1

    @property
    def _names(self) -> list[str]:
        """Names under which the models' answers are stored."""
        return [oracle_name(model) for model in self.models]

    def audited(self, row: str) -> bool:
        """Return whether the row with this id belongs to the audit sample."""
        return in_audit_sample(row, self.audit, self.seed)

    def answer(self, rows: Tensor, data: Any) -> Sequence[Annotation]:
        """Return one answer per row, without classifier predictions and stored answers."""
        return self.answer_with_context(rows, data, None)

    def answer_with_context(
        self, rows: Tensor, data: Any, predicted: Tensor | None, record: StoredAnswers | None = None
    ) -> Sequence[Annotation]:
        """Return one answer per row, with every model's answer in `proposals`; `LATER` for rows left to a person."""
        ids = [data.ids[row] for row in rows.tolist()]
        by_model = [_annotations(model, rows, data) for model in self.models]
        predictions = self._of_classifier(ids, data, predicted, record)
        proposals = [(*each, *prediction) for *each, prediction in zip(*by_model, predictions, strict=True)]  # per row
        merger = self.merger(record, data)
        merged: list[Merged | None] = [None] * len(ids)
        for i, each in enumerate(proposals):
            # The merger knows the error rates on rows on which all models are sure, so only such rows are merged.
            if merger is not None and not any(self._unsure(one) for one in each):
                merged[i] = merger.merge([one.value if isinstance(one.value, int) else None for one in each])
        routes = [self.route(*each) for each in zip(ids, proposals, merged, strict=True)]
        asked = torch.tensor([route != MODEL for route in routes], dtype=torch.bool)
        answers = dict.fromkeys(asked.nonzero().flatten().tolist(), Annotation(LATER))
        if self.person is not None and answers:
            answers = dict(zip(answers, _annotations(self.person, rows[asked], data), strict=True))
        return [_answer(each, answers.get(i), merged[i]) for i, each in enumerate(proposals)]

    def merger(self, record: StoredAnswers | None, data: Any) -> Merger | None:
        """Return the merger fitted on the audited rows; None with fewer than `merge` rows, or if nothing is merged."""
        if self.merge is None or not self._merges or record is None or data.multilabel:
            return None
        others = [CLASSIFIER] if self.classifier else []
        merger = Merger.of_audit(record, self.audited, self._names, others, data.classes, self.threshold)
        return merger if merger.rows >= self.merge else None

    def route(self, row: str, said: Sequence[Annotation], merged: Merged | None = None) -> str:
        """Return the route of a row: `AUDIT`, `UNSURE` or `DISAGREE` (to a person), or `MODEL`.

        Args:
            row: row id.
            said: annotations of the models and, where used, of the classifier.
            merged: the merged answer; None if answers are not merged.
        """
        if self.audited(row):
            return AUDIT
        if any(self._unsure(each) for each in said):
            return UNSURE
        unanimous = all(each.value == said[0].value for each in said)
        if merged is None:
            return MODEL if unanimous else DISAGREE
        if merged.probability >= self.threshold:
            return MODEL
        return UNSURE if unanimous else DISAGREE

    def _unsure(self, annotation: Annotation) -> bool:
        """Whether a model gave no answer or is below the threshold; the classifier states no confidence."""
        if annotation.source == CLASSIFIER:
            return False
        return annotation.value is SKIP or annotation.confidence is None or annotation.confidence < self.threshold

    def _of_classifier(
        self, ids: Sequence[str], data: Any, predicted: Tensor | None, record: StoredAnswers | None
    ) -> list[tuple[Annotation, ...]]:
        """The classifier's prediction per row: the stored one if the row was seen before, else the current one."""
        if not self.classifier:
            return [() for _ in ids]
        proposals = latest([] if record is None else record.proposals)
        current = [None] * len(ids) if predicted is None else _values(predicted)
        stored = [proposals.get((row, CLASSIFIER)) for row in ids]
        values = [code if old is None else _index(old.value, data) for old, code in zip(stored, current, strict=True)]
        return [() if value is None else (Annotation(value, CLASSIFIER, CLASSIFIER),) for value in values]


def _annotations(oracle: Oracle, rows: Tensor, data: Any) -> list[Annotation]:
    """The oracle's annotations of the rows, with class indices as values."""
    annotations = checked_annotations(oracle, oracle.answer(rows, data), [data.ids[row] for row in rows.tolist()])
    return [replace(each, value=_index(each.value, data)) for each in annotations]


def _index(value: Any, data: Any) -> Any:
    """The answer as a class index, or a sorted list of them, so that two answers can be compared."""
    return value if value is SKIP or value is LATER else _values(data.codes_of([by_index(value, data.classes)]))[0]


def _values(predicted: Tensor) -> list[Any]:
    if predicted.dim() == 1:
        return predicted.tolist()
    return [row.nonzero().flatten().tolist() for row in predicted]


def _answer(annotations: Sequence[Annotation], person: Annotation | None, merged: Merged | None) -> Annotation:
    """The person's answer if there is one, else the merged answer, else that of the first model.

    All annotations are kept in `proposals` with their cost, also those that could not be parsed. So is the merged
    answer, so that the audit measures its error rate like that of the models.
    """
    combined = [] if merged is None else [Annotation(merged.value, MERGED, MERGED, merged.probability)]
    proposals = (*annotations, *combined)
    if person is not None:
        return replace(person, proposals=proposals)
    if merged is not None:
        return Annotation(merged.value, MERGED, annotations[0].source, merged.probability, proposals=proposals)
    confidence = min(each.confidence or 0.0 for each in annotations if each.source != CLASSIFIER)
    return replace(annotations[0], confidence=confidence, cost=None, proposals=proposals)  # the cost is in `proposals`
