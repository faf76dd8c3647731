"""Error rates of model annotators, measured on a random sample of rows that a person answered."""

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from dal.evaluation.binomial import lower_bound, upper_bound
from dal.evaluation.dawid_skene import Consensus, dawid_skene
from dal.store.proposals import MERGED, Proposal, latest
from dal.store.unread_answers import Unread


@dataclass(frozen=True)
class Share:
    """A binomial proportion: `found` successes in `of` trials, with its Clopper-Pearson interval.

    Example:
        >>> few = Share(1, 20)
        >>> f"{few.share:.2f}, {few.low:.3f} to {few.high:.3f}"
        '0.05, 0.001 to 0.249'
    """

    found: int
    of: int
    confidence: float = 0.95

    @property
    def share(self) -> float:
        """The observed proportion, 0 to 1; NaN for no trials."""
        return self.found / self.of if self.of else float("nan")

    @property
    def low(self) -> float:
        """Lower end of the interval; 0 for no trials."""
        return lower_bound(self.found, self.of, (1 - self.confidence) / 2)

    @property
    def high(self) -> float:
        """Upper end of the interval; 1 for no trials."""
        return upper_bound(self.found, self.of, (1 - self.confidence) / 2)


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
    proposals: Iterable[Proposal],
    person: Mapping[str, str],
    audited: Collection[str],
    classes: Sequence[str],
    threshold: float,
    unread: Iterable[Unread] = (),
) -> list[Audit]:
    """Audit each model, in alphabetical order.

    Args:
        proposals: the models' answers.
        person: the class that a person gave, by row id.
        audited: ids of the rows drawn at random for the person, whatever the models' confidence. Other rows do not
            count: those that a person answered because a model was uncertain are harder than the rest.
        classes: C class names.
        threshold: lowest confidence at which a model's answer is accepted.
        unread: the models' answers that could not be read.
    """
    answered: dict[str, list[Proposal]] = {}
    for (_, who), proposal in latest(proposals).items():
        answered.setdefault(who, []).append(proposal)
    unreadable: dict[str, list[Unread]] = {}
    for kept in {(each.row, each.who): each for each in unread}.values():
        unreadable.setdefault(kept.who, []).append(kept)
    return [
        _audit(who, answered.get(who, ()), unreadable.get(who, ()), person, audited, classes, threshold)
        for who in sorted({*answered, *unreadable})
    ]


def _audit(
    who: str,
    answered: Sequence[Proposal],
    unreadable: Sequence[Unread],
    person: Mapping[str, str],
    audited: Collection[str],
    classes: Sequence[str],
    threshold: float,
) -> Audit:
    code = {name: i for i, name in enumerate(classes)}
    both = [proposal for proposal in answered if proposal.row in person and proposal.row in audited]
    pairs = [(code[person[proposal.row]], code[str(proposal.value)]) for proposal in both]
    sure = [truth != value for (truth, value), p in zip(pairs, both, strict=True) if (p.confidence or 0.0) >= threshold]
    confusion = np.zeros((len(classes), len(classes)), dtype=np.int64)
    np.add.at(confusion, tuple(np.array(pairs, dtype=np.int64).reshape(-1, 2).T), 1)
    wrong = confusion.sum(1) - confusion.diagonal()
    per_class = {name: Share(int(wrong[i]), int(confusion[i].sum())) for name, i in code.items() if confusion[i].sum()}
    return Audit(
        who,
        Share(int(wrong.sum()), len(pairs)),
        Share(sum(sure), len(sure)),
        per_class,
        confusion,
        sum(proposal.cost or 0.0 for proposal in answered) + sum(kept.cost or 0.0 for kept in unreadable),
        len(answered),
        len({each.row for each in unreadable} - {proposal.row for proposal in answered}),
    )


def merged(
    proposals: Iterable[Proposal], person: Mapping[str, str], classes: Sequence[str]
) -> tuple[list[str], Consensus]:
    """Ids of all rows that a model answered, and the consensus of all answers to them.

    A person's answer is taken as the truth, which also informs the models' error rates. Answers that result from an
    earlier merge are left out.
    """
    code = {name: i for i, name in enumerate(classes)}
    votes_of = latest(proposal for proposal in proposals if proposal.source != MERGED)
    rows = list(dict.fromkeys(row for row, _ in votes_of))
    sources = sorted({who for _, who in votes_of})
    votes = np.array(
        [[code[str(votes_of[row, who].value)] if (row, who) in votes_of else -1 for who in sources] for row in rows],
        dtype=np.int64,
    ).reshape(len(rows), len(sources))
    known = np.array([code[person[row]] if row in person else -1 for row in rows], dtype=np.int64)
    return rows, dawid_skene(votes, len(classes), known=known)
