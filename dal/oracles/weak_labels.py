"""Cold start from weak labels: confident answers of a labeler train the first model, people label uncertain rows."""

from dataclasses import dataclass, field

import torch
from torch import Tensor

from dal.evaluation.cost import WEAK
from dal.functional.checking import Options
from dal.learner import Learner
from dal.oracles.labeler import LabelerAnswers, check_labeler, label_rows
from dal.session import Session
from dal.store.unread_answers import Unread
from dal.strategies.random import Random
from dal.strategy import Strategy


@dataclass(frozen=True)
class LLMWeakLabels:
    """Labels part of the pool with a language model before the first question.

    Confident answers are stored as weak labels. They train the model with a reduced weight, are not used as ground
    truth in any metric, do not count as labels, and are replaced by a person's answer. The rows with the lowest
    confidence are asked first. Answers below the threshold are stored with weight 0, to account for their cost.

    Args:
        labeler: learner that labels without training, such as `LLMLearner`.
        threshold: minimum confidence of a weak label, 0 to 1.
        rows: number of pool rows to label.
        choose: strategy that selects these rows: random, or a diverse selection by a strategy that needs no training,
            such as ClusterCenters.
        weight: training weight of a weak label, above 0 and at most 1; a person's answer has weight 1.
        name: name under which the weak labels are stored; the class name of the labeler if empty.
    """

    labeler: Learner
    threshold: float = 0.85
    rows: int = 200
    choose: Strategy = field(default_factory=Random)
    weight: float = 0.5
    name: str = ""

    def __post_init__(self) -> None:
        check_labeler(self.labeler, type(self).__name__)
        options = Options(self)
        options.number("threshold", least=0, most=1)
        options.number("weight", above=0, most=1)
        options.whole("rows", least=1, description="at least 1")

    def begin(self, session: Session, n: int) -> None:
        """Store the weak labels and ask the n rows with the lowest confidence.

        Does nothing after the first question. If the process is killed in between, a second call completes the work.
        """
        if session.round:
            return
        rows = session.choose(self.choose, self.rows).rows
        answers = label_rows(self.labeler, session.pool, rows)
        confident = (answers.confidence >= self.threshold) & ~answers.unparsed
        self._store(session, rows, answers, confident)
        order = torch.argsort(answers.confidence, stable=True)[:n]
        session.ask_these(
            rows[order],
            strategy=type(self).__name__,
            scores=1 - answers.confidence[order].double(),
            reason=f"least sure of {len(rows)} rows, {int(confident.sum())} of which got a weak label",
            notes={"weak_labels": float(confident.sum())},
        )

    def _store(self, session: Session, rows: Tensor, answers: LabelerAnswers, confident: Tensor) -> None:
        """Store the answers once: weak labels with `weight`, the others with weight 0 to account for their cost."""
        who, store = self.name or type(self.labeler).__name__, session.store
        if any(proposal.who == who and proposal.source == WEAK for proposal in store.proposals):
            return
        costs = [None] * len(rows) if answers.dollars is None else answers.dollars.tolist()
        ids, unread = [session.pool.ids[row] for row in rows.tolist()], answers.unparsed.nonzero().flatten().tolist()
        if unread:
            store.keep_unread([Unread(ids[i], answers.verbatim.get(i, ""), who, WEAK, cost=costs[i]) for i in unread])
        parsed = (~answers.unparsed).nonzero().flatten()
        if len(parsed):
            session.propose(
                rows[parsed],
                session.pool.names_of(answers.codes[parsed]),
                weight=(confident[parsed] * self.weight).tolist(),
                who=who,
                source=WEAK,
                confidence=answers.confidence[parsed].tolist(),
                cost=[costs[i] for i in parsed.tolist()],
            )
