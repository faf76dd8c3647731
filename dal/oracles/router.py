"""Machines answer first; a person where they are unsure or disagree, and for a random share that audits them."""

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from dal.errors import ConfigError
from dal.functional.checking import Options
from dal.oracle import LATER, Annotation, Oracle, StoredAnswers, one_said_per_row
from dal.oracles.llm_oracle import called, named_apart
from dal.oracles.merging import Merged, Merger
from dal.session.answer_values import by_index
from dal.store.events import SKIP
from dal.store.proposals import MERGED, latest

#: What happens to a row, in the order in which the reasons are looked at.
AUDIT, UNSURE, DISAGREE, MACHINE = "audit", "unsure", "disagree", "machine"

#: What the word of the model that is trained is stored under.
CLASSIFIER = "classifier"


def drawn(row: str, share: float, seed: int) -> bool:
    """Whether the row with this id is among the share, 0 to 1, that a person answers at random."""
    digest = hashlib.sha256(f"{seed} {row}".encode("utf-8", "surrogatepass")).digest()
    return int.from_bytes(digest[:8], "big") < share * 2**64


@dataclass(frozen=True)
class Router(Oracle):
    """Takes the machines' answer where all give the same one and are sure of it; otherwise a person's.

    A random share of all rows goes to the person whatever the machines say: on it their errors are measured without
    bias (`dal audit`), because what is sent for being unsure is harder than the rest. Which rows these are depends on
    `seed` and the row's id alone. Everything that a machine says is stored, also where a person's answer counts.

    Once the audit has `merge` rows, where all machines are sure the answers of several sources (the classifier is one)
    are merged by the model of Dawid and Skene (1979), with the error rates that the audit found: the class that is
    most probable then counts if its probability reaches `threshold`, whether they agree or not, and a person answers
    otherwise. So the better source overrules the worse one, and sources that are often wrong are not believed because
    they agree. The model takes errors to be independent: sources that err alike make it too sure. Answers of several
    classes each are not merged.

    Args:
        machines: one oracle or more, such as `LLMOracle`.
        person: who answers the rest; null leaves it for `dal ask` and `dal tell`.
        threshold: the least confidence of every machine for its answer to count.
        audit: share of the rows that a person answers as well, 0 to 1.
        classifier: send to the person, too, what the model that is trained predicts differently.
        merge: rows of the audit on which all machines were sure, at least, for answers to be merged; null for never.
        seed: draws the audit.
    """

    machines: list[Oracle]
    person: Oracle | None = None
    threshold: float = 0.9
    audit: float = 0.1
    classifier: bool = False
    merge: int | None = 50
    seed: int = 0

    source = "router"

    def __post_init__(self) -> None:
        if not self.machines:
            raise ConfigError("Router needs at least one machine, such as LLMOracle")
        options = Options(self)
        options.number("threshold", "audit", least=0, most=1)
        options.flag("classifier")
        options.whole("merge", least=1, optional=True, said="at least 1, or null for never")
        options.whole("seed", least=0)
        named_apart(self.machines)
        taken = [name for name in (CLASSIFIER, MERGED) if name in self._names]
        if taken:
            raise ConfigError(
                f"no machine can be called {taken[0]}, a name of the router's own: give it another `name`"
            )

    @property
    def hides_labels(self) -> bool:  # type: ignore[override]
        """Whether any of them does."""
        parts = [*self.machines, *([] if self.person is None else [self.person])]
        return any(part.hides_labels for part in parts)

    @property
    def needs(self) -> frozenset[str]:  # type: ignore[override]
        """Predictions where the classifier is listened to; the record where answers are merged, or the classifier's.

        The classifier's word on a row must not change before the row is answered.
        """
        predictions = {"predictions"} if self.classifier else set()
        return frozenset(predictions | ({"record"} if self.classifier or self._merges else set()))

    @property
    def _merges(self) -> bool:
        return self.merge is not None and len(self.machines) + self.classifier > 1

    @property
    def _names(self) -> list[str]:
        """What the machines' answers are stored under."""
        return [called(machine) for machine in self.machines]

    def audited(self, row: str) -> bool:
        """Whether the row with this id belongs to the audit."""
        return drawn(row, self.audit, self.seed)

    def answer(self, rows: Tensor, data: Any) -> Sequence[Annotation]:
        """The answers, without a look at the classifier or at what is stored."""
        return self.answer_beside(rows, data, None)

    def answer_beside(
        self, rows: Tensor, data: Any, predicted: Tensor | None, record: StoredAnswers | None = None
    ) -> Sequence[Annotation]:
        """One answer per row, with all that the machines said; `LATER` where a person is to answer later."""
        ids = [data.ids[row] for row in rows.tolist()]
        machines = [_full(machine, rows, data) for machine in self.machines]
        words = self._of_classifier(ids, data, predicted, record)
        beside = [(*each, *word) for *each, word in zip(*machines, words, strict=True)]  # row by row
        merger = self.merger(record, data)
        merged = [self._merged(each, merger) for each in beside]
        ways = [self.route(*each) for each in zip(ids, beside, merged, strict=True)]
        answers = self._of_person(rows, data, torch.tensor([way != MACHINE for way in ways], dtype=torch.bool))
        return [_answer(each, answers.get(i), merged[i]) for i, each in enumerate(beside)]

    def merger(self, record: StoredAnswers | None, data: Any) -> Merger | None:
        """Who merges the answers: None while the audit has too few rows, or where nothing is merged."""
        if self.merge is None or not self._merges or record is None or data.multilabel:
            return None
        others = [CLASSIFIER] if self.classifier else []
        found = Merger.of_audit(record, self.audited, self._names, others, data.classes, self.threshold)
        return found if found.rows >= self.merge else None

    def route(self, row: str, said: Sequence[Annotation], merged: Merged | None = None) -> str:
        """Why the row with this id is answered by whom: one of `AUDIT`, `UNSURE`, `DISAGREE`, `MACHINE`.

        Args:
            row: its id.
            said: what the machines say of it, and the classifier where it is heard.
            merged: what that comes to; None where it is not merged.
        """
        if self.audited(row):
            return AUDIT
        if any(self._unsure(each) for each in said):
            return UNSURE
        alike = all(each.value == said[0].value for each in said)
        if merged is None:
            return MACHINE if alike else DISAGREE
        if merged.probability >= self.threshold:
            return MACHINE
        return UNSURE if alike else DISAGREE

    def _merged(self, said: Sequence[Annotation], merger: Merger | None) -> Merged | None:
        """What the words on a row come to, where all machines are sure of theirs."""
        if merger is None or any(self._unsure(each) for each in said):
            return None
        return merger.merge([_vote(word) for word in said])

    def _unsure(self, said: Annotation) -> bool:
        """Whether a machine gives no answer, or is not sure enough of it; the classifier states no confidence."""
        if said.source == CLASSIFIER:
            return False
        return said.value is SKIP or said.confidence is None or said.confidence < self.threshold

    def _of_classifier(
        self, ids: Sequence[str], data: Any, predicted: Tensor | None, record: StoredAnswers | None
    ) -> list[tuple[Annotation, ...]]:
        """The classifier's word on each row: what it said when the row was first seen, else what it predicts now."""
        if not self.classifier:
            return [() for _ in ids]
        before = latest([] if record is None else record.proposals)
        now = [None] * len(ids) if predicted is None else _values(predicted)
        stored = [before.get((row, CLASSIFIER)) for row in ids]
        values = [code if word is None else _index(word.value, data) for word, code in zip(stored, now, strict=True)]
        return [() if value is None else (Annotation(value, CLASSIFIER, CLASSIFIER),) for value in values]

    def _of_person(self, rows: Tensor, data: Any, asked: Tensor) -> Mapping[int, Annotation]:
        """Place -> what the person says, for the rows that are asked."""
        places = asked.nonzero().flatten().tolist()
        if self.person is None or not places:
            return dict.fromkeys(places, Annotation(LATER))
        return dict(zip(places, _full(self.person, rows[asked], data), strict=True))


def _full(oracle: Oracle, rows: Tensor, data: Any) -> list[Annotation]:
    """What an oracle says, with its name and kind, classes as indices."""
    said = one_said_per_row(oracle, oracle.answer(rows, data), [data.ids[row] for row in rows.tolist()])
    return [replace(each, value=_index(each.value, data)) for each in said]


def _index(value: Any, data: Any) -> Any:
    """The answer as a class index, or a sorted list of them, so that two answers can be compared."""
    return value if value is SKIP or value is LATER else _values(data.codes_of([by_index(value, data.classes)]))[0]


def _values(predicted: Tensor) -> list[Any]:
    if predicted.dim() == 1:
        return predicted.tolist()
    return [row.nonzero().flatten().tolist() for row in predicted]


def _vote(said: Annotation) -> int | None:
    """What counts of a word when answers are merged: a class index."""
    return said.value if isinstance(said.value, int) else None


def _answer(said: Sequence[Annotation], person: Annotation | None, merged: Merged | None) -> Annotation:
    """The person's answer where there is one, else the merged one, else the first machine's.

    What a machine's answer cost is kept with what else was said, also where it could not be read. The merged answer is
    kept there too, so that where a person answers at random it is audited like the machines it comes from.
    """
    together = [] if merged is None else [Annotation(merged.value, MERGED, MERGED, merged.probability)]
    beside = (*said, *together)
    if person is not None:
        return replace(person, beside=beside)
    if merged is not None:
        return Annotation(merged.value, MERGED, said[0].source, merged.probability, beside=beside)
    sure = min(each.confidence or 0.0 for each in said if each.source != CLASSIFIER)
    return replace(said[0], confidence=sure, cost=None, beside=beside)
