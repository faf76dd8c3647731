"""Ten people at once, with overlap, leases that expire while they read, undo, disputes and changes of classes."""

import random
import threading
import time
from collections import Counter
from pathlib import Path
from typing import Any

from annotation_project import make_project
from reference.log_replay import compare_with_replay, given_answers

from dal.annotate.overlap import Overlap
from dal.annotate.service import AnnotationService, open_service
from dal.annotate.service_contract import OutdatedAnswerError
from dal.errors import AnswerError
from dal.store.label_log import LabelLog
from dal.store.label_store import LabelStore
from dal.store.log_figures import work_of
from dal.store.row_state import ADJUDICATED

ROWS, STEPS = 150, 40
OVERLAP = "0.5:3"
REFUSED = (
    "has answered this text",
    "is reading this text",
    "do not disagree",
    "restore it first",
    "can be chosen",
    "needs the right",
)


def work(service: AnnotationService, who: str, acknowledged: dict[str, str]) -> None:
    """Random steps of one person; keys of answers that were acknowledged, with their rows, go to `acknowledged`."""
    point = random.Random(who)
    rows = service.state(who)["rows"]
    for step in range(STEPS):
        if not rows:
            rows = service.state(who)["rows"]
            continue
        key, row, choice = f"{who} {step}", rows[0], point.random()
        mine = row["answer"] and row["answer"]["event"]
        if choice < 0.1:
            time.sleep(0.06)  # longer than the lease
        try:
            if choice < 0.65:
                classes = [point.choice(service.state_of_classes())["id"]]
                rows = service.answer(who, row=row["id"], classes=classes, key=key, replaces=mine)["rows"]
                acknowledged[key] = row["id"]
                if point.random() < 0.1:  # a repeated request
                    assert service.answer(who, row=row["id"], classes=classes, key=key)["saved"]["who"] == who
            elif choice < 0.75:
                rows = service.undo(who, key=key)["rows"]
            elif choice < 0.85:
                how = point.choice(["later", "decline"])
                rows = service.skip(who, row=row["id"], key=key, replaces=mine, how=how)["rows"]
            elif choice < 0.9:
                rows = service.take(who, row=f"t{point.randrange(ROWS)}")["rows"]
            elif choice < 0.95:
                disputed = service.disputes(who)["rows"]
                if disputed:
                    service.adjudicate(who, row=disputed[0]["row"]["id"], classes=[0], key=key)
            else:
                change = {"do": "rename", "id": 1, "name": f"name {key}"}
                if point.random() < 0.2:
                    change = {"do": "merge", "id": 2, "into": 1}
                service.change_classes(who, change=change, key=key)
        except OutdatedAnswerError:
            rows = service.state(who)["rows"]
        except AnswerError as error:
            if not any(reason in str(error) for reason in REFUSED):
                raise
            rows = service.state(who)["rows"]


def test_ten_people_lose_nothing_and_no_text_gets_more_answers_than_wanted(tmp_path: Path) -> None:
    folder = make_project(tmp_path / "p", n=ROWS)
    service = open_service(folder, trainer=False, overlap=OVERLAP, lease=0.05)
    with LabelLog(folder / "labels.db") as log:  # nobody may answer a text that others have finished
        for who in [f"person {i}" for i in range(10)]:
            rights = ("classes", "adjudicate") if who == "person 0" else ()
            log.set_person(who, token=None, rights=rights)
    acknowledged: dict[str, str] = {}
    failures: list[BaseException] = []

    def run(who: str) -> None:
        try:
            work(service, who, acknowledged)
        except BaseException as error:  # shown by the test, not by the thread
            failures.append(error)

    threads = [threading.Thread(target=run, args=(f"person {i}",)) for i in range(10)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not failures, failures
    header = service.state("person 3")["header"]
    service.close()
    with LabelLog(folder / "labels.db") as log:
        compare_with_replay(log)
        assert header["answered"] == log.counts()["answered"]
        work_done = {each.who: each.rows for each in work_of(log)}
        assert header["mine"] == work_done["person 3"]
        with LabelStore(log.path, access="copy") as store:
            events = list(store.events())
    check(events, acknowledged)


def check(events: list[Any], acknowledged: dict[str, str]) -> None:
    keys = Counter(event.key for event in events if event.key)
    assert set(keys.values()) == {1}
    for key, row in acknowledged.items():
        who = key.rpartition(" ")[0]
        (event,) = (event for event in events if event.key == f"answer:{who}:{key}")
        assert (event.row, event.who, event.kind) == (row, who, "answered")
    overlap = Overlap.parse(OVERLAP)
    several = 0
    for number in range(ROWS):
        row = f"t{number}"
        given = given_answers([event for event in events if event.row == row])
        people = {event.who for event in given if event.source != ADJUDICATED}
        asked = any(event.row == row and event.kind == "asked" for event in events)
        assert len(people - {"person 0"}) <= (overlap.wanted(row) if asked else 1), row
        several += len(people) > 1
    assert several > 10
