"""Sharing of the first round between cells of the same seed: one cell computes it, the others load it."""

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
from dal.store.renamed_keys import MetricsLine

_FOLDER = ".first"  # subfolder of the grid's folder
_LINE = "line.json"
_POLL = 0.1  # seconds


@dataclass(frozen=True)
class FirstRounds:
    """Models and lines of first rounds, stored in the folder of a grid for other cells and processes.

    Cells share a round if the batch and everything that determines the model are the same: learner, seed, pool and
    labels. The loaded result is therefore identical to a computed one, whatever the strategy. One process computes a
    round while the others wait; an interruption leaves either nothing or a complete round.

    Args:
        folder: folder of the grid.
    """

    folder: Path

    def line(self, session: Session, compute: Callable[[], dict[str, Any]], check: InterruptCheck) -> dict[str, Any]:
        """The line of the first round: loaded with its model, and marked `shared`, or computed and stored.

        Durations in a loaded line are those of the cell that computed it.

        Args:
            session: session at the end of its first round, with all answers; it receives the model.
            compute: function that computes the line.
            check: called while another process computes the round; raises to interrupt.
        """
        round_folder = self.folder / _FOLDER / _digest(session)
        with _exclusive(round_folder, check):
            path = round_folder / _LINE
            if path.exists() and session.import_model(round_folder):
                return MetricsLine(json.loads(read_regular(path))) | {"shared": True}
            line = compute()
            session.export_model(round_folder)
            write_whole(path, json.dumps(line, ensure_ascii=False))
            return line

    def remove(self) -> None:
        """Remove all stored rounds; a cell that is run again computes its own."""
        shutil.rmtree(self.folder / _FOLDER, ignore_errors=True)


def _digest(session: Session) -> str:
    """Digest that identifies a first round: its batch and its model."""
    batch = session.last_selection
    asked = (
        None
        if batch is None
        else [batch.strategy, batch.reason, [session.pool.ids[row] for row in batch.rows.tolist()]]
    )
    return hashlib.sha256(json.dumps([session.marker, asked]).encode()).hexdigest()[:24]


@contextmanager
def _exclusive(round_folder: Path, check: InterruptCheck) -> Iterator[None]:
    """Wait for exclusive access to a stored round, and hold it during the block."""
    while True:
        check()
        try:
            lock = Lock(round_folder)
            break
        except BusyError:
            time.sleep(_POLL)
    try:
        yield
    finally:
        lock.release()
