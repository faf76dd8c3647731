"""How passes are cut into batches, kept with the labels, so that a resumed pass is cut in the same way."""

from dal.learner import Monitor
from dal.store.label_store import LabelStore


class BatchPlan(Monitor):
    """Passes on what the work tells, and keeps the batch plan in the store."""

    def __init__(self, watcher: Monitor, store: LabelStore) -> None:
        self._watcher, self._store = watcher, store
        self.token_budget = store.token_budget

    def started(self, what: str, total: int) -> None:
        """Pass it on."""
        self._watcher.started(what, total)

    def advanced(self, count: int) -> None:
        """Pass it on."""
        self._watcher.advanced(count)

    def halved(self, token_budget: int) -> None:
        """Store the smaller budget at once, so that this pass and the next start from it if this process is killed."""
        self._store.record_budget(token_budget)
        self.token_budget = token_budget
        self._watcher.halved(token_budget)

    def finished(self) -> None:
        """Pass it on."""
        self._watcher.finished()
