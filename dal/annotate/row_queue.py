"""The rows that people get next: those of the last ranking, and rows in one fixed random order where these run out."""

import time

from dal.annotate.overlap import Overlap
from dal.annotate.rankings import FOUND_BY_SEARCH, TOP_UP
from dal.store.label_log import LabelLog
from dal.store.log_figures import free_rows, known_rows, latest_batch, rows_that_stay
from dal.store.project_rows import ProjectRows
from dal.store.row_state import NEW

#: Rows leased to a person: the one that is shown and the next, since more could not be replaced by a new ranking.
LEASED = 2
#: Duration of a lease in seconds. It is extended with every request of the person.
LEASE = 600.0
#: Rows that are asked in random order at a time.
TOP_UP_ROWS = 10

_PAGE = 200  # rows of the random order that are looked at together


class RowQueue:
    """Leases of rows, and rows in random order where the queue runs out.

    Args:
        log: questions and answers.
        rows: texts.
        overlap: which rows several people answer; None for none.
        lease: duration of a lease, in seconds.
        ranked_only: whether people wait for a ranking instead of getting rows in random order.
    """

    def __init__(
        self,
        log: LabelLog,
        rows: ProjectRows,
        overlap: Overlap | None,
        *,
        lease: float = LEASE,
        ranked_only: bool = False,
    ) -> None:
        self._log, self._rows, self._overlap, self._lease, self._ranked_only = log, rows, overlap, lease, ranked_only
        stored = latest_batch(log, TOP_UP)
        place = 0 if stored is None else stored.details.get("place")
        self._place = place if type(place) is int and 0 <= place < 1 << 63 else 0  # last row of the order looked at
        self._exhausted = False
        self._withdraw_outdated()

    def wanted(self, row: str) -> int:
        """Number of people who are to answer a row."""
        return 1 if self._overlap is None else self._overlap.wanted(row)

    def next(self, who: str, n: int = LEASED) -> list[str]:
        """Lease the next rows to a person, first those that are leased to her already. Call it in a transaction."""
        now = time.time()
        held = sum(who in people for people in self._log.readers(at=now).values())
        # Deferred rows do not count: they come after the rows in random order.
        missing = n - held - free_rows(self._log, who, now, n)
        if missing > 0 and not self._exhausted and not self._ranked_only:
            self._top_up(max(missing, TOP_UP_ROWS))
        return self._log.claim(who, n, seconds=self._lease, at=now)

    def open_to_others(self, row: str) -> None:
        """Ask a row that nobody was asked, if several people are to answer it. Call it before its first answer.

        Rows that were found by a search, and near-copies of an answered text, are answered without a question; without
        one, the first answer would end them.
        """
        if (people := self.wanted(row)) > 1 and self._log.row(row).state == NEW:
            self._log.ask([row], strategy=FOUND_BY_SEARCH, wanted={row: people})

    def take(self, row: str, who: str) -> bool:
        """Lease a certain row to a person; False if somebody else is reading it."""
        return self._log.claim_row(row, who, seconds=self._lease)

    def reopen(self) -> None:
        """Look for new rows again, after questions were withdrawn or answers retracted."""
        self._exhausted = False

    def _withdraw_outdated(self) -> None:
        """Take rows out of the queue that the project does not have, or that another number of people is to answer now.

        Unknown rows that are leased to a person would hide the others. Rows that somebody has answered or put off stay.
        """
        queue, stay = self._log.queue(), set(rows_that_stay(self._log))
        states = self._log.states(queue)
        outdated = [
            row
            for row, found in zip(queue, self._rows.get(queue), strict=True)
            if found is None or (row not in stay and states[row].wanted != self.wanted(row))
        ]
        if outdated:
            self._log.withdraw(outdated)

    def _top_up(self, n: int) -> None:
        """Ask up to `n` new rows of the random order, from the last one on and around its end."""
        found: list[str] = []
        start = place = self._place
        around = False
        while len(found) < n:
            page = self._rows.shuffled(place, _PAGE)
            if not page or (around and page[0][0] > start):
                if around or not start:
                    break
                place, around = 0, True
                continue
            known = known_rows(self._log, [row for _, row in page])
            for place, row in page:
                if len(found) == n or (around and place > start):
                    break
                self._place = place
                if row not in known:
                    found.append(row)
            else:
                continue
            if around and place > start:
                break
        self._exhausted = len(found) < n
        if found:
            wanted = {row: people for row in found if (people := self.wanted(row)) > 1}
            details = {TOP_UP: True, "place": self._place}
            self._log.ask(found, strategy="Random", details=details, wanted=wanted)
