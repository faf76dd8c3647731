import random
import sys
import threading
import time
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from annotation_project import answer_all, make_project, open_trained, true_class

from dal.annotate.rankings import Rankings
from dal.annotate.service import open_service
from dal.annotate.status_words import status_words
from dal.errors import SessionError
from dal.store.label_log import LabelLog
from dal.store.log_figures import rows_that_stay

RECALL = "candidates: 300 of 960 rows contain {} of the 40 that the whole pool would have given"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return make_project(tmp_path / "p")


def header(service: Any, who: str = "ana") -> dict[str, Any]:
    return service.state(who)["header"]  # type: ignore[no-any-return]


# -- when --------------------------------------------------------------------------------------------------------------


def test_ranking_is_requested_at_the_start_and_after_every_ten_answers(folder: Path) -> None:
    service, trainer = open_trained(folder)
    assert len(trainer.requests) == 1
    trainer.work()
    answer_all(service, "ana", 9)
    assert len(trainer.requests) == 1
    answer_all(service, "ana", 1)
    assert len(trainer.requests) == 2
    assert trainer.requests[1]["event"] > trainer.requests[0]["event"]
    service.close()


def test_person_who_comes_is_a_reason_to_rank_again(folder: Path) -> None:
    """A session shorter than ten answers would otherwise have the ranking of its start to its end."""
    service, trainer = open_trained(folder)
    trainer.work()
    service.state("ben")
    assert len(trainer.requests) == 1  # nothing is new
    answer_all(service, "ana", 3)
    assert len(trainer.requests) == 1
    service.state("ben")  # she reads two texts already
    assert len(trainer.requests) == 1
    service.state("eva")
    assert len(trainer.requests) == 2
    assert trainer.requests[1]["event"] == service.log.labels_event
    trainer.work()
    service.log.answer("t59", "mild", who="a file", key="1", replaces=None)
    service.state("eva")
    assert len(trainer.requests) == 2
    service.state("zoe")
    assert len(trainer.requests) == 3
    service.close()


def test_at_most_one_ranking_is_in_progress(folder: Path) -> None:
    service, trainer = open_trained(folder, every=2)
    answer_all(service, "ana", 9)
    assert len(trainer.requests) == 1
    trainer.work()
    answer_all(service, "ana", 1)
    assert len(trainer.requests) == 2
    service.close()


def test_corrections_and_changes_of_classes_count_as_new(folder: Path) -> None:
    service, trainer = open_trained(folder, every=3)
    (row,) = answer_all(service, "ana", 1)
    trainer.work()
    event = service.history("ana")["rows"][0]["answer"]["event"]
    for n in range(3):  # not one more label
        event = service.answer("ana", row=row, classes=[n % 2], key=f"c{n}", replaces=event)["saved"]["event"]
    assert len(trainer.requests) == 2
    trainer.work()
    service.change_classes("ana", change={"do": "merge", "id": 0, "into": 1}, key="m")
    assert len(trainer.requests) == 3
    service.close()


def test_few_free_rows_are_a_reason_to_rank_again(folder: Path) -> None:
    service, trainer = open_trained(folder, ranked=6)
    trainer.work()
    answer_all(service, "ana", 1)
    assert len(trainer.requests) == 2  # of six rows two are held: fewer than five are free
    service.close()


def test_rows_that_are_read_or_half_answered_are_not_ranked(tmp_path: Path) -> None:
    service, trainer = open_trained(make_project(tmp_path / "p"), overlap="1:2", every=3)
    trainer.work()
    done = answer_all(service, "ana", 3)
    held = [row["id"] for row in service.state("ana")["rows"]]
    assert set(trainer.requests[-1]["keep"]) >= {*done, held[0]}
    service.close()


def test_failed_training_is_shown_in_one_line_and_people_go_on(folder: Path) -> None:
    service, trainer = open_trained(folder)
    trainer.work()
    trainer.error = "out of memory:\n needs 12 GB"
    answer_all(service, "ana", 10)
    trainer.work()
    shown = header(service)
    assert shown["trainer"]["state"] == "failed"
    assert shown["trainer"]["error"].startswith("out of memory")
    assert shown["ranking"]["answers_since"] == 10  # the last ranking goes on
    requests = len(trainer.requests)
    assert len(answer_all(service, "ana", 9)) == 9
    assert len(trainer.requests) == requests  # no new job with each answer
    answer_all(service, "ana", 1)
    assert len(trainer.requests) == requests + 1
    trainer.error = None
    trainer.work()
    assert header(service)["trainer"] == {
        "state": "idle",
        "stage": None,
        "done": None,
        "total": None,
        "left": None,
        "error": None,
    }
    service.close()


def test_ranking_that_cannot_be_stored_is_an_error_and_not_a_crash(folder: Path) -> None:
    service, trainer = open_trained(folder)
    ranking = trainer.ranking(trainer.requests[0])
    trainer.jobs.clear()
    trainer.state = {**trainer.state, "state": "idle"}
    service.receive({**ranking, "rows": [{"score": 1.0}]})
    assert "could not be stored" in header(service)["trainer"]["error"]
    service.receive({"job": 1, "stage": "fitting", "done": 1, "total": 9})
    assert len(answer_all(service, "ana", 3)) == 3
    service.close()


def test_waiting_for_a_ranking_ends_with_one_that_knows_all_answers(folder: Path) -> None:
    service, trainer = open_trained(folder)
    trainer.work()
    answer_all(service, "ana", 2)
    assert not service.wait_for_ranking(timeout=0.05)
    assert len(trainer.jobs) == 1
    trainer.work()
    assert service.wait_for_ranking(timeout=0.05)
    trainer.error = "no"
    answer_all(service, "ana", 1)
    assert not service.wait_for_ranking(timeout=0.05)
    trainer.work()
    begin = time.monotonic()
    assert not service.wait_for_ranking(timeout=60)
    assert time.monotonic() - begin < 30  # it does not wait for a trainer that failed
    service.close()


def test_in_rounds_people_wait_and_each_ranking_knows_all_answers(folder: Path) -> None:
    service, trainer = open_trained(folder, ranked=4, rounds=True)
    assert service.state("ana")["rows"] == []
    for done in (0, 4, 8):
        trainer.work()
        assert service.wait_for_ranking(timeout=0)
        assert len(trainer.requests) == 1 + done // 4
        assert answer_all(service, "ana", 9) == sorted(trainer.ids)[done : done + 4]
    assert len(trainer.jobs) == 1
    service.close()


def test_round_that_an_earlier_process_began_is_finished_first(folder: Path) -> None:
    service, trainer = open_trained(folder, ranked=4, rounds=True)
    trainer.work()
    assert answer_all(service, "ana", 1) == ["t0"]
    service.close()
    service, trainer = open_trained(folder, ranked=4, rounds=True)
    assert trainer.jobs == []  # a ranking now would replace the rest of the round
    assert not service.state("ana")["header"]["waiting"]
    assert answer_all(service, "ana", 9) == sorted(trainer.ids)[1:4]
    assert service.state("ana")["header"]["waiting"]
    trainer.work()
    assert answer_all(service, "ana", 2) == sorted(trainer.ids)[4:6]
    service.close()


# -- what --------------------------------------------------------------------------------------------------------------


def test_ranking_replaces_the_rows_that_nobody_reads(folder: Path) -> None:
    service, trainer = open_trained(folder)
    held = [row["id"] for row in service.state("ana")["rows"]]
    trainer.work()
    done = answer_all(service, "ana", 12)
    assert done[:2] == held
    assert done[2:] == [row for row in sorted(trainer.ids) if row not in held][:10]
    assert [row["top_up"] for row in service.state("ana")["rows"]] == [False, False]
    service.close()


def test_row_put_off_is_not_replaced(folder: Path) -> None:
    service, trainer = open_trained(folder)
    row = service.state("ana")["rows"][0]["id"]
    service.skip("ana", row=row, key="later", how="later")
    trainer.work()
    service.close()
    with LabelLog(folder / "labels.db") as log:
        assert log.row(row).state == "pending"


def test_rows_that_a_ranking_does_not_replace_are_not_ranked(folder: Path) -> None:
    service, trainer = open_trained(folder, every=2)
    trainer.work()
    late = service.state("ana")["rows"][0]["id"]
    service.skip("ana", row=late, key="later", how="later")
    (back,) = answer_all(service, "ana", 1)
    service.undo("ana", key="undo")
    for row in service.state("ana")["rows"]:
        service._log.release(row["id"], "ana")
    assert rows_that_stay(service._log) == sorted([late, back])
    answer_all(service, "ben", 3)  # the row whose answer was taken back comes first
    assert rows_that_stay(service._log) == [late]
    assert late in trainer.requests[-1]["keep"]
    service.close()


def test_header_counts_the_answers_since_the_last_ranking_of_a_model(folder: Path) -> None:
    service, trainer = open_trained(folder, every=100)
    assert header(service)["ranking"] is None
    trainer.work()
    answer_all(service, "ana", 7)
    ranking = header(service)["ranking"]
    assert (ranking["answers_since"], ranking["strategy"]) == (7, "Alphabetical")
    assert ranking["reason"] == "in order of the ids"
    assert 0 <= ranking["age_seconds"] < 60
    service.close()
    service = open_service(folder, trainer=False)
    answer_all(service, "ana", 30)  # rows in random order, which are no ranking
    assert header(service)["ranking"]["answers_since"] == 37
    service.close()


def test_hints_are_stored_and_follow_the_classes(folder: Path) -> None:
    service, trainer = open_trained(folder)
    row = service.state("ana")["rows"][0]["id"]
    assert "random order" in service.hints("ana", row=row)["why"]
    done = answer_all(service, "ana", 4, lambda row: 1)
    trainer.work()
    answer_all(service, "ana", 2, lambda row: 1)
    trainer.work()
    row = answer_all(service, "ana", 3)[-1]
    row = service.state("ana")["rows"][0]["id"]
    hints = service.hints("ana", row=row)
    assert hints["why"].startswith("number")
    service.close()
    service, trainer = open_trained(folder)  # read back from the log
    trainer.work()
    while not (hints := service.hints("ana", row=(row := service.state("ana")["rows"][0]["id"])))["guesses"]:
        service.answer("ana", row=row, classes=[1], key=row)
    assert hints["guesses"] == [[1, 0.9]]
    assert {near["id"] for near in hints["near"]} <= {*done, *own(service)}
    assert all(near["text"].startswith("patient") for near in hints["near"])
    service.change_classes("ana", change={"do": "merge", "id": 1, "into": 2}, key="m")
    merged = service.hints("ana", row=row)
    assert merged["guesses"] == [[2, 0.9]]
    assert {tuple(near["classes"]) for near in merged["near"]} <= {(2,), (0,)}
    assert service.hints("ana", row=service.search("ana", q="number 59")["rows"][0]["id"])["why"]
    service.close()


def own(service: Any) -> list[str]:
    return [each["row"]["id"] for each in service.history("ana", limit=100)["rows"]]


def test_stopping_rule_is_shown_and_survives_a_restart(folder: Path) -> None:
    service, trainer = open_trained(folder)
    trainer.stop = {"stop": True, "text": "the predictions are stable"}
    trainer.work()
    assert header(service)["stop"] == trainer.stop
    service.close()
    service = open_service(folder, trainer=False)
    assert header(service)["stop"] == trainer.stop
    service.close()


def test_recall_that_was_measured_last_is_shown_and_survives_a_restart(folder: Path) -> None:
    service, trainer = open_trained(folder)
    assert header(service)["ranking"] is None
    shown = []
    for measured in (RECALL.format(24), "", None, "", RECALL.format(31), ""):
        trainer.recall = measured
        trainer.work()
        shown.append(header(service)["ranking"]["recall"])
        answer_all(service, "ana", 10)
    first, last = RECALL.format(24), RECALL.format(31)
    assert shown == [first, first, "", "", last, last]
    assert last in status_words(header(service))
    service.close()
    service = open_service(folder, trainer=False)
    assert header(service)["ranking"]["recall"] == last
    service.close()


def test_all_rows_are_asked_once_with_rankings_in_between(folder: Path) -> None:
    service, trainer = open_trained(folder, every=4, ranked=7)
    generator, done = random.Random(0), []
    for step in range(200):
        who = generator.choice(["ana", "ben"])
        rows = service.state(who)["rows"]
        if not rows:
            break
        row = rows[0]["id"]
        if generator.random() < 0.1:
            service.skip(who, row=row, key=f"later {step}", how="later")
        else:
            service.answer(who, row=row, classes=[true_class(row)], key=f"answer {step}")
            done.append(row)
        if generator.random() < 0.4:
            trainer.work()
    assert sorted(done) == sorted(trainer.ids)
    assert set(Counter(done).values()) == {1}
    service.close()


def test_random_order_goes_on_after_a_restart_and_comes_back_to_rows_that_were_withdrawn(tmp_path: Path) -> None:
    folder = make_project(tmp_path / "p", n=25)
    service = open_service(folder, trainer=False)
    first = answer_all(service, "ana", 11)
    service.close()
    service, trainer = open_trained(folder, n=25, ranked=3)
    trainer.work()  # withdraws the rows that nobody reads
    service.close()
    service = open_service(folder, trainer=False)
    rest = answer_all(service, "ana", 25)
    assert sorted([*first, *rest]) == sorted(f"t{i}" for i in range(25))
    assert service.state("ana")["rows"] == []
    service.undo("ana", key="u")
    assert [row["id"] for row in service.state("ana")["rows"]] == rest[-1:]
    service.close()


def test_full_disk_stores_nothing_and_the_next_try_succeeds(folder: Path) -> None:
    service = open_service(folder, trainer=False)
    row = service.state("ana")["rows"][0]["id"]
    connection = service._log._connection()
    (pages,) = connection.execute("PRAGMA page_count").fetchone()
    connection.execute(f"PRAGMA max_page_count = {pages}")
    before = service._log.last_event
    with pytest.raises(SessionError, match="nothing of this call was stored"):
        service.flag("ana", row=row, key="more", text="x" * 500_000)
    assert service._log.last_event == before
    connection.execute("PRAGMA max_page_count = 1000000")
    assert service.answer("ana", row=row, classes=[0], key="k")["header"]["answered"] == 1
    service.close()


def test_batches_are_read_by_several_threads(tmp_path: Path) -> None:
    """As when the progress view and hints are asked for at once: the cache holds a few batches."""
    log = LabelLog(tmp_path / "labels.db")
    for round in range(1, 41):
        log.ask([f"r{round}"], details={"n": round})
    rankings, failures = Rankings(log), list[BaseException]()

    def read(first: int) -> None:
        try:
            for turn in range(400):
                round = (first + turn * 7) % 40 + 1
                assert rankings.batch(round).details == {"n": round}
        except BaseException as error:  # shown by the test, not by the thread
            failures.append(error)

    before = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    try:
        threads = [threading.Thread(target=read, args=(first,)) for first in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    finally:
        sys.setswitchinterval(before)
    log.close()
    assert failures == []
