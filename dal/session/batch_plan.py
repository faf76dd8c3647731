"""Token budget of a batch, stored with the labels so that a resumed run cuts its passes in the same way."""

from dal.learner import Monitor
from dal.store.label_store import LabelStore


class BatchPlan(Monitor):
    """Monitor that stores reductions of the token budget and forwards all events to another monitor."""

    def __init__(self, watcher: Monitor, store: LabelStore) -> None:
        self._watcher, self._store = watcher, store
        self.token_budget = store.token_budget

    def started(self, what: str, total: int) -> None:
        """Forward the event."""
        self._watcher.started(what, total)

    def advanced(self, count: int) -> None:
        """Forward the event."""
        self._watcher.advanced(count)

    def halved(self, token_budget: int) -> None:
        """Store the smaller budget at once: after a crash this pass and later ones start with it."""
        self._store.record_budget(token_budget)
        self.token_budget = token_budget
        self._watcher.halved(token_budget)

    def finished(self) -> None:
        """Forward the event."""
        self._watcher.finished()
