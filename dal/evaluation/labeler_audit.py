"""Error rates of model annotators, measured on a random sample of rows that a person answered."""

import hashlib
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from dal.config.moved import accepts_old_options
from dal.evaluation.binomial import lower_bound, upper_bound
from dal.evaluation.dawid_skene import Consensus, dawid_skene


def in_audit_sample(row: str, share: float, seed: int) -> bool:
    """Return whether a row belongs to the random sample of rows that a person answers.

    Args:
        row: row id.
        share: expected share of the rows in the sample, 0 to 1.
        seed: seed of the sample.
    """
    digest = hashlib.sha256(f"{seed} {row}".encode("utf-8", "surrogatepass")).digest()
    return int.from_bytes(digest[:8], "big") < share * 2**64


@dataclass(frozen=True)
class ModelAnswer:
    """Answer of one model to one row.

    Attributes:
        row: row id.
        who: name of the model.
        value: class name; None for an answer that could not be read.
        confidence: confidence in [0, 1]; None if unknown.
        dollars: cost in dollars; None if unknown.
    """

    row: str
    who: str
    value: str | None
    confidence: float | None = None
    dollars: float | None = None


@accepts_old_options
@dataclass(frozen=True)
class Share:
    """A binomial proportion: successes in a number of trials, with its Clopper-Pearson interval.

    Example:
        >>> few = Share(1, 20)
        >>> f"{few.share:.2f}, {few.low:.3f} to {few.high:.3f}"
        '0.05, 0.001 to 0.249'
    """

    successes: int
    trials: int
    confidence: float = 0.95

    @property
    def share(self) -> float:
        """The observed proportion, 0 to 1; NaN for no trials."""
        return self.successes / self.trials if self.trials else float("nan")

    @property
    def low(self) -> float:
        """Lower end of the interval; 0 for no trials."""
        return lower_bound(self.successes, self.trials, (1 - self.confidence) / 2)

    @property
    def high(self) -> float:
        """Upper end of the interval; 1 for no trials."""
        return upper_bound(self.successes, self.trials, (1 - self.confidence) / 2)


@dataclass(frozen=True, eq=False)
class Audit:
    """Comparison of one model with the person, on the audited rows that both answered.

    Attributes:
        who: name of the model.
        error: error rate on all of these rows, an unbiased estimate for every row that was asked.
        sure: error rate on those where the model's confidence reached the threshold.
        per_class: error rate by the class that the person gave.
        confusion: (C, C); entry [c, l] is the number of rows that the person labeled c and the model l.
        dollars: cost of all its answers, audited or not, readable or not.
        answered: number of rows it answered.
        unread: number of further rows whose answer could not be read.
    """

    who: str
    error: Share
    sure: Share
    per_class: Mapping[str, Share]
    confusion: NDArray[np.int64]
    dollars: float
    answered: int
    unread: int = 0


def audits(
    answers: Iterable[ModelAnswer],
    person: Mapping[str, str],
    audited: Collection[str],
    classes: Sequence[str],
    threshold: float,
) -> list[Audit]:
    """Audit each model, in alphabetical order.

    Args:
        answers: the models' answers. The last answer of a model to a row counts, and its last unreadable one.
        person: the class that a person gave, by row id.
        audited: ids of the rows drawn at random for the person, whatever the models' confidence. Other rows do not
            count: those that a person answered because a model was uncertain are harder than the rest.
        classes: C class names.
        threshold: lowest confidence at which a model's answer is accepted.
    """
    readable: dict[str, dict[str, ModelAnswer]] = {}
    unreadable: dict[str, dict[str, ModelAnswer]] = {}
    for answer in answers:
        (unreadable if answer.value is None else readable).setdefault(answer.who, {})[answer.row] = answer
    return [
        _audit(who, readable.get(who, {}), unreadable.get(who, {}), person, audited, classes, threshold)
        for who in sorted({*readable, *unreadable})
    ]


def _audit(
    who: str,
    readable: Mapping[str, ModelAnswer],
    unreadable: Mapping[str, ModelAnswer],
    person: Mapping[str, str],
    audited: Collection[str],
    classes: Sequence[str],
    threshold: float,
) -> Audit:
    code = {name: i for i, name in enumerate(classes)}
    both = [answer for row, answer in readable.items() if row in person and row in audited]
    pairs = [(code[person[answer.row]], code[str(answer.value)]) for answer in both]
    sure = [truth != value for (truth, value), a in zip(pairs, both, strict=True) if (a.confidence or 0.0) >= threshold]
    confusion = np.zeros((len(classes), len(classes)), dtype=np.int64)
    # `add.at`, since an assignment with `+=` counts equal pairs once.
    np.add.at(confusion, tuple(np.array(pairs, dtype=np.int64).reshape(-1, 2).T), 1)
    wrong = confusion.sum(1) - confusion.diagonal()
    per_class = {name: Share(int(wrong[i]), int(confusion[i].sum())) for name, i in code.items() if confusion[i].sum()}
    return Audit(
        who,
        Share(int(wrong.sum()), len(pairs)),
        Share(sum(sure), len(sure)),
        per_class,
        confusion,
        sum(answer.dollars or 0.0 for answer in (*readable.values(), *unreadable.values())),
        len(readable),
        len(unreadable.keys() - readable.keys()),
    )


def merged(
    answers: Iterable[ModelAnswer], person: Mapping[str, str], classes: Sequence[str]
) -> tuple[list[str], Consensus]:
    """Ids of all rows that a model answered, and the consensus of all answers to them.

    A person's answer is taken as the truth, which also informs the models' error rates. The answers must not include
    results of an earlier merge.
    """
    code = {name: i for i, name in enumerate(classes)}
    votes_of = {(answer.row, answer.who): answer.value for answer in answers if answer.value is not None}
    rows = list(dict.fromkeys(row for row, _ in votes_of))
    sources = sorted({who for _, who in votes_of})
    votes = np.array(
        [[code[votes_of[row, who]] if (row, who) in votes_of else -1 for who in sources] for row in rows],
        dtype=np.int64,
    ).reshape(len(rows), len(sources))
    known = np.array([code[person[row]] if row in person else -1 for row in rows], dtype=np.int64)
    return rows, dawid_skene(votes, len(classes), known=known)
