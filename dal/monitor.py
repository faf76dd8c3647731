"""Progress callbacks. This module imports nothing, so that code without tensors can report progress too."""


class Monitor:
    """Progress callbacks of a long operation. This base class is silent; the session's subclass draws a progress bar.

    Attributes:
        token_budget: initial number of tokens per batch; `None` for the default of the pass. The session records it,
            so that a resumed pass forms the same batches as the interrupted one.
    """

    token_budget: int | None = None

    def started(self, what: str, total: int) -> None:
        """Report the start of work on `total` rows (or steps)."""

    def advanced(self, count: int) -> None:
        """Report that `count` more rows (or steps) are done."""

    def halved(self, token_budget: int) -> None:
        """Report that the pass ran out of memory and continues with this smaller token budget."""

    def finished(self) -> None:
        """Report that the work is done."""


SILENT = Monitor()


class JoinedPasses(Monitor):
    """Reports several passes as one; `finished` of each is ignored, and `close` reports the end of all.

    Args:
        monitor: receives the reports.
        total: number of rows of all passes.
    """

    def __init__(self, monitor: Monitor, total: int) -> None:
        self._monitor, self.token_budget = monitor, monitor.token_budget
        monitor.started("pass", total)

    def advanced(self, count: int) -> None:
        """Report that `count` more rows are done."""
        self._monitor.advanced(count)

    def halved(self, token_budget: int) -> None:
        """Report the smaller token budget, with which the next pass begins."""
        self.token_budget = token_budget
        self._monitor.halved(token_budget)

    def close(self) -> None:
        """Report that all passes are done."""
        self._monitor.finished()
