"""Stored proposals and unreadable answers of models as the columns that an audit reads."""

from collections.abc import Iterable

from dal.evaluation.labeler_audit import ModelAnswer
from dal.store.proposals import MERGED, Proposal
from dal.store.unread_answers import Unread


def model_answers(proposals: Iterable[Proposal], unread: Iterable[Unread] = ()) -> list[ModelAnswer]:
    """Convert records of a label store, in order. The proposals must not be multi-label."""
    return [
        *(ModelAnswer(each.row, each.who, str(each.value), each.confidence, each.cost) for each in proposals),
        *(ModelAnswer(each.row, each.who, None, dollars=each.cost) for each in unread),
    ]


def unmerged_answers(proposals: Iterable[Proposal]) -> list[ModelAnswer]:
    """The models' own answers among the proposals of a label store, without those aggregated from them."""
    return model_answers(proposal for proposal in proposals if proposal.source != MERGED)
