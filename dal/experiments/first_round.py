"""The round that all strategies of a seed have in common: computed by one of them, taken over by the others."""

import hashlib
import json
import shutil
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from dal.errors import BusyError
from dal.experiments.interrupts import InterruptCheck
from dal.session import Session
from dal.store.atomic_files import read_regular, write_whole
from dal.store.folder_lock import Lock

_FOLDER = ".first"  # in the folder of the grid
_LINE = "line.json"
_POLL = 0.1  # seconds


@dataclass(frozen=True)
class FirstRounds:
    """The models of first rounds, and their lines, left in the folder of a grid for other cells, in whatever process.

    A round is another cell's when the batch and all that its model follows from are the same: learner, seed, pool,
    labels. So nothing has to be known of strategies, and what is taken over is what would have been computed. One
    process computes a round at a time, the others wait for it; one that is killed leaves nothing, or all.

    Args:
        folder: of the grid.
    """

    folder: Path

    def line(self, session: Session, compute: Callable[[], dict[str, Any]], check: InterruptCheck) -> dict[str, Any]:
        """The line of the first round: taken over, with its model and a mark `shared`, or computed and left here.

        The seconds in a line that was taken over are those of the cell that computed it.

        Args:
            session: at the end of its first round, with all answers; it gets the model.
            compute: the line, where nobody has left one.
            check: called while another process computes it; raises to end.
        """
        place = self.folder / _FOLDER / _digest(session)
        with _alone(place, check):
            written = place / _LINE
            if written.exists() and session.adopt(place):
                found: dict[str, Any] = json.loads(read_regular(written))
                return found | {"shared": True}
            line = compute()
            session.leave(place)
            write_whole(written, json.dumps(line, ensure_ascii=False))
            return line

    def forget(self) -> None:
        """Remove them all; a cell that is made again computes its own."""
        shutil.rmtree(self.folder / _FOLDER, ignore_errors=True)


def _digest(session: Session) -> str:
    """Which first round it is: the batch, as it was asked, and the model."""
    batch = session.last_selection
    asked = (
        None if batch is None else [batch.strategy, batch.why, [session.pool.ids[row] for row in batch.rows.tolist()]]
    )
    return hashlib.sha256(json.dumps([session.marker, asked]).encode()).hexdigest()[:24]


@contextmanager
def _alone(place: Path, check: InterruptCheck) -> Iterator[None]:
    """Be the one process that works on this round."""
    while True:
        check()
        try:
            lock = Lock(place)
            break
        except BusyError:
            time.sleep(_POLL)
    try:
        yield
    finally:
        lock.release()
