"""What long work tells those who watch. Imports nothing, so that work without tensors can be watched too."""


class Monitor:
    """What long work tells those who watch. This one is silent; the session's draws a bar and keeps the batch plan.

    Attributes:
        token_budget: the tokens per batch that a pass must start from, None for its own default. Recorded by the
            session, so that a resumed pass is cut into the same batches as the one that was killed.
    """

    token_budget: int | None = None

    def started(self, what: str, total: int) -> None:
        """Work on `total` rows (or steps) begins."""

    def advanced(self, count: int) -> None:
        """`count` more rows (or steps) are done."""

    def halved(self, token_budget: int) -> None:
        """The pass ran out of memory and goes on with this smaller budget."""

    def finished(self) -> None:
        """The work is done."""


SILENT = Monitor()
