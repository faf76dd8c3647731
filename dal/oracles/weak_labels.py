"""A cold start by weak labels: what a labeler is sure of trains the first model, people are asked the rest."""

from dataclasses import dataclass, field

import torch
from torch import Tensor

from dal.evaluation.cost import WEAK
from dal.functional.checking import Options
from dal.learner import Learner
from dal.oracles.labeler import LabelerAnswers, check_labeler, opinions
from dal.session import Session
from dal.store.unread_answers import Unread
from dal.strategies.random import Random
from dal.strategy import Strategy


@dataclass(frozen=True)
class LLMWeakLabels:
    """Lets a language model label a share of the pool before anything is asked.

    What it is sure of is stored as weak labels: they train the model with a smaller weight, are no ground truth in any
    figure, count as no label anywhere, and give way to a person's answer. What it is least sure of is asked first.
    What it is not sure enough of is kept for its price, without a weight.

    Args:
        labeler: a learner that answers without training, such as `LLMLearner`.
        threshold: the least confidence, 0 to 1, of a weak label.
        rows: how many rows of the pool it labels.
        choose: which ones: random rows, or a diverse share by a strategy that needs no training, such as
            ClusterCenters.
        weight: what a weak label counts in training, above 0 and at most 1; a person's counts 1.
        name: what the weak labels are stored under; by default the labeler's class.
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
        options.whole("rows", least=1, said="at least 1")

    def begin(self, session: Session, n: int) -> None:
        """Store the weak labels and ask the n rows of the share that the labeler is least sure of.

        Does nothing once something was asked. Killed in between, it does the rest when it is called again.
        """
        if session.round:
            return
        share = session.choose(self.choose, self.rows).rows
        found = opinions(self.labeler, session.pool, share)
        sure = (found.confidence >= self.threshold) & ~found.silent
        self._store(session, share, found, sure)
        order = torch.argsort(found.confidence, stable=True)[:n]
        session.ask_these(
            share[order],
            strategy=type(self).__name__,
            scores=1 - found.confidence[order].double(),
            why=f"least sure of {len(share)} rows, {int(sure.sum())} of which got a weak label",
            notes={"weak_labels": float(sure.sum())},
        )

    def _store(self, session: Session, share: Tensor, found: LabelerAnswers, sure: Tensor) -> None:
        """What was said of the share, once: with a weight where it is sure, for its price alone where it is not."""
        who, store = self.name or type(self.labeler).__name__, session.store
        if any(proposal.who == who and proposal.source == WEAK for proposal in store.proposals):
            return
        costs = [None] * len(share) if found.dollars is None else found.dollars.tolist()
        ids, lost = [session.pool.ids[row] for row in share.tolist()], found.silent.nonzero().flatten().tolist()
        if lost:
            store.keep_unread([Unread(ids[i], found.verbatim.get(i, ""), who, WEAK, cost=costs[i]) for i in lost])
        said = (~found.silent).nonzero().flatten()
        if len(said):
            session.propose(
                share[said],
                session.pool.names_of(found.codes[said]),
                weight=(sure[said] * self.weight).tolist(),
                who=who,
                source=WEAK,
                confidence=found.confidence[said].tolist(),
                cost=[costs[i] for i in said.tolist()],
            )
