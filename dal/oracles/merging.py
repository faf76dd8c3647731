"""Several sources' answers to a row as one, by the error rates that an audit has measured."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from dal.evaluation.cost import MACHINE
from dal.evaluation.dawid_skene import Consensus, dawid_skene
from dal.oracle import StoredAnswers
from dal.store.events import Event
from dal.store.proposals import Proposal, latest


@dataclass(frozen=True)
class Merged:
    """The class that several answers make most probable, by its index, and its probability, 0 to 1."""

    value: int
    probability: float


@dataclass(frozen=True, eq=False)
class Merger:
    """Merges the answers of S sources by the model of Dawid and Skene, with error rates that are given.

    Attributes:
        consensus: the error rates and prevalences.
        rows: how many audited rows they were learnt from.
    """

    consensus: Consensus
    rows: int

    @classmethod
    def of_audit(
        cls,
        record: StoredAnswers,
        audited: Callable[[str], bool],
        sure: Sequence[str],
        others: Sequence[str],
        classes: Sequence[str],
        threshold: float,
    ) -> "Merger":
        """What the audit says of the sources, on rows such as those that are to be merged.

        Only rows count that a person answered at random and on which every machine was sure of its answer: what is
        merged is such a row, too, while the machines err more often where they are unsure.

        Args:
            record: what is stored.
            audited: whether the row with this id was drawn at random.
            sure: names of the machines.
            others: names of further sources, which state no confidence and may be silent.
            classes: C names.
            threshold: the least confidence of a machine that is sure.
        """
        code: dict[Any, int] = {name: i for i, name in enumerate(classes)}
        said, sources = latest(record.proposals), [*sure, *others]
        votes, truth = [], []
        for row, answer in record.answers.items():
            if not audited(row) or not _by_person(answer):
                continue
            if not all(_sure(said.get((row, who)), threshold) for who in sure):
                continue
            votes.append([code.get(said[row, who].value, -1) if (row, who) in said else -1 for who in sources])
            truth.append(code.get(answer.value, -1))
        table = np.array(votes, dtype=np.int64).reshape(len(votes), len(sources))
        known = np.array(truth, dtype=np.int64)
        held = known >= 0
        return cls(dawid_skene(table[held], len(classes), known=known[held]), int(held.sum()))

    def merge(self, votes: Sequence[int | None]) -> Merged:
        """What the answers to one row say together.

        Args:
            votes: in the order of the sources; None for one that is silent, as those are that are left out at the end.
        """
        codes = np.full((1, len(self.consensus.confusion)), -1, dtype=np.int64)
        codes[0, : len(votes)] = [-1 if vote is None else vote for vote in votes]
        posterior = self.consensus.judged(codes)[0]
        best = int(posterior.argmax())
        return Merged(best, float(posterior[best]))


def _by_person(answer: Event) -> bool:
    return answer.kind == "answered" and answer.source != MACHINE


def _sure(word: Proposal | None, threshold: float) -> bool:
    return word is not None and word.confidence is not None and word.confidence >= threshold
