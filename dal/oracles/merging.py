"""Merge the answers of several sources to a row, weighted by error rates measured on audited rows."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from dal.evaluation.cost import LLM
from dal.evaluation.dawid_skene import Consensus, dawid_skene
from dal.oracle import StoredAnswers
from dal.store.proposals import latest


@dataclass(frozen=True)
class Merged:
    """Merged answer to a row.

    Attributes:
        value: index of the most probable class.
        probability: its posterior probability, 0 to 1.
    """

    value: int
    probability: float


@dataclass(frozen=True, eq=False)
class Merger:
    """Merges the answers of S sources by the model of Dawid and Skene (1979) with fixed error rates.

    Attributes:
        consensus: error rates of the sources and class prevalences.
        rows: number of audited rows from which they were estimated.
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
        """Estimate the error rates of the sources from the audited rows.

        Only audited rows on which every model reached the threshold are used, because only such rows are merged, and
        models make more errors on rows below the threshold.

        Args:
            record: stored answers and proposals.
            audited: predicate on row ids, True for rows of the random audit sample.
            sure: names of the models, which must have answered with sufficient confidence.
            others: names of sources without a confidence, which may be missing on a row.
            classes: C class names.
            threshold: minimum confidence of each model, 0 to 1.
        """
        code: dict[Any, int] = {name: i for i, name in enumerate(classes)}
        proposals, sources = latest(record.proposals), [*sure, *others]
        votes, truth = [], []
        for row, answer in record.answers.items():
            if not audited(row) or answer.kind != "answered" or answer.source == LLM:
                continue
            judged = [proposals.get((row, who)) for who in sure]
            if not all(p is not None and p.confidence is not None and p.confidence >= threshold for p in judged):
                continue
            given = [proposals.get((row, who)) for who in sources]
            votes.append([-1 if proposal is None else code.get(proposal.value, -1) for proposal in given])
            truth.append(code.get(answer.value, -1))
        table = np.array(votes, dtype=np.int64).reshape(len(votes), len(sources))
        known = np.array(truth, dtype=np.int64)
        valid = known >= 0
        return cls(dawid_skene(table[valid], len(classes), known=known[valid]), int(valid.sum()))

    def merge(self, votes: Sequence[int | None]) -> Merged:
        """Merge the answers to one row.

        Args:
            votes: class indices in the order of the sources, None for a source without an answer. Sources missing at
                the end count as None.
        """
        codes = np.full((1, len(self.consensus.confusion)), -1, dtype=np.int64)
        codes[0, : len(votes)] = [-1 if vote is None else vote for vote in votes]
        posterior = self.consensus.predict(codes)[0]
        best = int(posterior.argmax())
        return Merged(best, float(posterior[best]))
