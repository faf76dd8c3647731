"""Records of a label store as the columns from which costs are computed."""

from collections import Counter
from collections.abc import Iterable

from dal.evaluation.cost import RecordedWork, RecordGroup
from dal.store.events import Event
from dal.store.log_state import AnnotationTotals, work
from dal.store.proposals import Proposal, unbilled
from dal.store.unread_answers import Unread


def recorded_work(
    done: Iterable[Event] | AnnotationTotals, proposals: Iterable[Proposal] = (), unread: Iterable[Unread] = ()
) -> RecordedWork:
    """Convert the records of a label store for `dal.evaluation.costs` and `dal.evaluation.sources`.

    Args:
        done: all events of a label store, or its `work`, which is faster.
        proposals: proposals of the label store.
        unread: unreadable answers of the label store.
    """
    totals, unread = done if isinstance(done, AnnotationTotals) else work(done), list(unread)
    return RecordedWork(
        [RecordGroup(*figures, count) for figures, count in totals.done.items()],
        [RecordGroup(each.source, each.cost, each.seconds) for each in unbilled(proposals, totals.paid)],
        [RecordGroup(each.source, each.cost, each.seconds) for each in unbilled(unread, totals.paid)],
        totals.current,
        Counter(each.source for each in unbilled(unread, ())),
    )
