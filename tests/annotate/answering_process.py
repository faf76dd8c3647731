"""A process that answers the rows of a project as they come, and can kill itself in the middle of it.

Usage: python answering_process.py FOLDER WHO DIE_AT [KEY ROW CLASS]

It prints "ready", and waits for a line of stdin. Then it prints "try KEY ROW CLASS" before each request and "got KEY"
after the reply. A request whose reply was lost is given as KEY ROW CLASS: it is repeated first, as a page does. DIE_AT
is the number of the SQL statement, counted from the first request on, at which the process sends itself SIGKILL; 0 for
never.
"""

import os
import signal
import sys
from pathlib import Path
from typing import Any

from dal.annotate.project_settings import ProjectSettings
from dal.annotate.service import AnnotationService
from dal.annotate.service_contract import OutdatedAnswerError
from dal.errors import AnswerError
from dal.store.label_log import LabelLog
from dal.store.project_rows import ProjectRows


def main(folder: Path, who: str, die_at: int, lost: list[str]) -> None:
    # Without the lock of the folder: two such processes may work on one project, as a test of the leases does.
    settings = ProjectSettings.of(folder)
    log = LabelLog(folder / "labels.db")
    service = AnnotationService(log, ProjectRows(folder / "rows.db"), settings, overlap=None)
    executed = 0

    def watch(frame: Any, event: str, argument: Any) -> None:
        nonlocal executed
        if event == "c_call" and getattr(argument, "__name__", "") in ("execute", "executemany"):
            executed += 1
            if executed == die_at:
                os.kill(os.getpid(), signal.SIGKILL)

    print("ready", flush=True)
    sys.stdin.readline()
    sys.setprofile(watch)
    if lost:
        send(service, who, *lost)
    while rows := service.state(who)["rows"]:
        row = rows[0]["id"]
        send(service, who, f"{who}-{os.getpid()}-{row}", row, str(int(row[1:]) % 3))
    sys.setprofile(None)
    service.close()


def send(service: AnnotationService, who: str, key: str, row: str, number: str) -> None:
    print("try", key, row, number, flush=True)
    try:
        service.answer(who, row=row, classes=[int(number)], key=key)
    except (OutdatedAnswerError, AnswerError):
        print("refused", key, flush=True)
        return
    print("got", key, flush=True)


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2], int(sys.argv[3]), sys.argv[4:7])
