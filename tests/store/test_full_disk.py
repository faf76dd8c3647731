"""A disk that is full at any write: nothing of the call is stored, and the call can be repeated."""

import signal
from pathlib import Path
from typing import Any

import pytest

from dal.errors import SessionError
from dal.store.label_log import LabelLog
from dal.store.sqlite_files import log_of

resource = pytest.importorskip("resource", reason="limits of file sizes are those of Unix")


def call(log: LabelLog, step: int) -> Any:
    """One of the calls that people make, with a key that makes it the same call when it is repeated."""
    key, row = f"k{step}", f"r{step // 8}"
    active = log.classes.active
    calls = [
        lambda: log.change_classes({"do": "add", "name": f"class {step}"}, key=key),
        lambda: log.change_classes({"do": "rename", "id": active[-1].id, "name": f"name {step}"}, key=key),
        lambda: log.rank([f"r{step // 8 + i}" for i in range(8)], strategy="S", details={"text": "x" * 5000}),
        lambda: log.answer(row, active[-1].name, who="ada", key=key, replaces=None),
        lambda: log.change_classes({"do": "retire", "id": active[-1].id}, key=key),
        lambda: log.undo_of("ada", key=key),
        lambda: log.change_classes({"do": "restore", "id": step // 8}, key=key),
        lambda: log.claim("ada", 3),
    ]
    return calls[step % 8]()


def state_of(log: LabelLog) -> tuple[Any, ...]:
    return dict(log.classes.entries), log.counts(), log.queue(), log.last_event, log.class_counts(), log.readers()


@pytest.mark.parametrize("journal", ["wal", "rollback"])
def test_what_is_in_memory_equals_the_file_after_a_write_that_did_not_fit(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, journal: str
) -> None:
    monkeypatch.setenv("DAL_JOURNAL", journal)
    path = tmp_path / "labels.db"
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    handler = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)  # a write beyond the limit fails, as on a full disk
    failed = set()
    try:
        with LabelLog(path) as log:
            for step in range(160):
                # A log grows at its end, a rollback journal from its beginning in each transaction.
                size = max(each.stat().st_size for each in (path, log_of(path)) if each.exists())
                size = size if journal == "wal" else 0
                stored = state_of(log)
                resource.setrlimit(resource.RLIMIT_FSIZE, (size + step % 7 * 1500, before[1]))
                try:
                    call(log, step)
                except SessionError as error:
                    failed.add((step % 8, "nothing of this call was stored" in str(error)))
                    resource.setrlimit(resource.RLIMIT_FSIZE, before)
                    assert state_of(log) == stored
                    call(log, step)
                finally:
                    resource.setrlimit(resource.RLIMIT_FSIZE, before)
                with LabelLog(path, access="read") as fresh:
                    assert state_of(log) == state_of(fresh)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
        signal.signal(signal.SIGXFSZ, handler)
    assert failed == {(kind, True) for kind in range(8)}
