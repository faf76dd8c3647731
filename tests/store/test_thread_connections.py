"""Connections of threads that come and go."""

import os
import threading
from pathlib import Path

import pytest

from dal.store.label_log import LabelLog
from dal.store.project_rows import ProjectRow, ProjectRows


@pytest.mark.skipif(not Path("/proc/self/fd").exists(), reason="open files are counted in /proc")
def test_threads_that_have_ended_leave_no_open_files(tmp_path: Path) -> None:
    with ProjectRows.create(tmp_path / "rows.db") as rows, LabelLog(tmp_path / "labels.db") as log:
        rows.add([ProjectRow("a", "text")], source="pool.csv")

        def work(number: int) -> None:
            assert rows.get(["a"])[0] is not None
            log.note("a", "odd", who="ana", key=f"k{number}")

        opened = []
        for number in range(40):
            thread = threading.Thread(target=work, args=(number,))
            thread.start()
            thread.join()
            opened.append(len(os.listdir("/proc/self/fd")))
        assert max(opened) <= opened[0] + 4  # the connections of one more thread
        assert len(log.notes("a")) == 40


def test_threads_that_work_at_once_keep_their_connections(tmp_path: Path) -> None:
    with LabelLog(tmp_path / "labels.db") as log:
        barrier = threading.Barrier(8)
        failed: list[BaseException] = []

        def work(who: str) -> None:
            try:
                for number in range(10):
                    barrier.wait()
                    log.note("a", "odd", who=who, key=f"{who}{number}")
            except BaseException as error:
                failed.append(error)
                barrier.abort()

        threads = [threading.Thread(target=work, args=(f"w{place}",)) for place in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert failed == []
        assert len(log.notes("a")) == 80
