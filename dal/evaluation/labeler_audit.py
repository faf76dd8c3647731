"""How often each machine is wrong, measured on the rows that a person answered at random."""

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
    """So many of so many, with the exact interval of the share behind it.

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
        """0 to 1; nan of nothing."""
        return self.found / self.of if self.of else float("nan")

    @property
    def low(self) -> float:
        """The lower end (Clopper and Pearson 1934); 0 of nothing."""
        return lower_bound(self.found, self.of, (1 - self.confidence) / 2)

    @property
    def high(self) -> float:
        """The upper end; 1 of nothing."""
        return upper_bound(self.found, self.of, (1 - self.confidence) / 2)


@dataclass(frozen=True, eq=False)
class Audit:
    """One machine against the person, on the rows of the audit that both answered.

    Attributes:
        who: the machine.
        error: how often it was wrong on all of them: an unbiased estimate for every row that was asked.
        sure: the same on those that it was sure enough of to be taken at its word.
        per_class: the class that the person gave -> how often the machine said another.
        confusion: (C, C), how often the person gave c and the machine l.
        dollars: what all its answers cost, audited or not, readable or not.
        answered: how many rows it said something of.
        unread: of how many more its answer could not be read.
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
    """One audit for each machine, in the order of its name.

    Args:
        proposals: what the machines said.
        person: row id -> the class that a person gave.
        audited: ids of the rows that were drawn at random for the person, sure or not. No others count here: what a
            person was asked because a machine was unsure is harder than the rest.
        classes: C names.
        threshold: the least confidence at which a machine is taken at its word.
        unread: the machines' answers that could not be read.
    """
    said: dict[str, list[Proposal]] = {}
    for (_, who), proposal in latest(proposals).items():
        said.setdefault(who, []).append(proposal)
    lost: dict[str, list[Unread]] = {}
    for kept in {(each.row, each.who): each for each in unread}.values():
        lost.setdefault(kept.who, []).append(kept)
    return [
        _audit(who, said.get(who, ()), lost.get(who, ()), person, audited, classes, threshold)
        for who in sorted({*said, *lost})
    ]


def _audit(
    who: str,
    said: Sequence[Proposal],
    lost: Sequence[Unread],
    person: Mapping[str, str],
    audited: Collection[str],
    classes: Sequence[str],
    threshold: float,
) -> Audit:
    code = {name: i for i, name in enumerate(classes)}
    both = [proposal for proposal in said if proposal.row in person and proposal.row in audited]
    pairs = [(code[person[proposal.row]], code[str(proposal.value)]) for proposal in both]
    sure = [truth != said for (truth, said), p in zip(pairs, both, strict=True) if (p.confidence or 0.0) >= threshold]
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
        sum(proposal.cost or 0.0 for proposal in said) + sum(kept.cost or 0.0 for kept in lost),
        len(said),
        len({each.row for each in lost} - {proposal.row for proposal in said}),
    )


def merged(
    proposals: Iterable[Proposal], person: Mapping[str, str], classes: Sequence[str]
) -> tuple[list[str], Consensus]:
    """The ids of all rows that a machine said something of, and what all answers to them say together.

    A person's answer is taken as the truth, and teaches the machines' error rates. What was merged before is left out.
    """
    code = {name: i for i, name in enumerate(classes)}
    said = latest(proposal for proposal in proposals if proposal.source != MERGED)
    rows = list(dict.fromkeys(row for row, _ in said))
    sources = sorted({who for _, who in said})
    votes = np.array(
        [[code[str(said[row, who].value)] if (row, who) in said else -1 for who in sources] for row in rows],
        dtype=np.int64,
    ).reshape(len(rows), len(sources))
    known = np.array([code[person[row]] if row in person else -1 for row in rows], dtype=np.int64)
    return rows, dawid_skene(votes, len(classes), known=known)
