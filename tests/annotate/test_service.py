import json
import sys
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from annotation_project import CLASSES, answer_all, make_project, open_trained, true_class

from dal.annotate.near_copies import near_copies
from dal.annotate.overlap import Overlap
from dal.annotate.service import open_service
from dal.annotate.service_contract import OutdatedAnswerError, Service
from dal.errors import AnswerError, BusyError, ConfigError, SessionError
from dal.store.label_log import LabelLog
from dal.store.project_rows import ProjectRow, ProjectRows


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return make_project(tmp_path / "p")


def header(service: Any, who: str = "ana") -> dict[str, Any]:
    return service.state(who)["header"]  # type: ignore[no-any-return]


# -- the first rows, and one answer ------------------------------------------------------------------------------------


def test_without_a_model_two_rows_come_in_random_order(folder: Path) -> None:
    service: Service = open_service(folder, trainer=False)
    state = service.state("ana")
    assert [row["top_up"] for row in state["rows"]] == [True, True]
    assert state["rows"][0]["text"].startswith("patient number")
    assert state["rows"][0]["answer"] is None
    assert [each["name"] for each in state["classes"]] == list(CLASSES)
    assert state["project"] == {"name": "p", "multilabel": False, "guide": ""}
    assert state["header"]["trainer"]["state"] == "stopped"
    assert json.loads(json.dumps(state)) == state
    service.close()


def test_answers_of_a_person_are_counted_at_her_first_request_whatever_it_is(folder: Path) -> None:
    """As after a restart of the server in the middle of her work."""

    def restarted() -> Service:
        return open_service(folder, trainer=False)

    service = restarted()
    first, second = (row["id"] for row in service.state("ana")["rows"])
    service.answer("ana", row=first, classes=[1], key="1")
    service.close()
    service = restarted()
    assert service.answer("ana", row=second, classes=[1], key="2")["header"]["mine"] == 2
    service.close()
    service = restarted()
    assert service.answer("ana", row=second, classes=[1], key="2")["header"]["mine"] == 2  # repeated
    service.close()
    service = restarted()
    assert service.undo("ana", key="3")["header"]["mine"] == 1
    assert [header(service, who)["mine"] for who in ("ana", "ben")] == [1, 0]
    service.close()


def test_answer_is_stored_and_the_next_row_comes_with_the_reply(folder: Path) -> None:
    service = open_service(folder, trainer=False)
    first, second = service.state("ana")["rows"]
    seen = {"model": False, "near": True, "why": False}
    reply = service.answer("ana", row=first["id"], classes=[1], key="k", seconds=3.5, seen=seen)
    assert reply["saved"]["classes"] == [1]
    assert reply["saved"]["who"] == "ana"
    assert reply["rows"][0]["id"] == second["id"]
    assert reply["header"]["answered"] == reply["header"]["mine"] == 1
    service.close()
    with LabelLog(folder / "labels.db") as log:
        event = log.answers_by(first["id"])["ana"]
        assert event.value == "mild"
        assert event.seconds == 3.5
        assert json.loads(event.seen or "") == seen


def test_a_repeated_request_stores_nothing_and_gets_the_same_answer(folder: Path) -> None:
    service = open_service(folder, trainer=False)
    row = service.state("ana")["rows"][0]["id"]
    first = service.answer("ana", row=row, classes=[1], key="k")
    again = service.answer("ana", row=row, classes=[2], key="k")  # of another tab that resends
    assert again["saved"] == first["saved"]
    assert again["header"]["mine"] == 1
    service.close()
    service = open_service(folder, trainer=False)
    assert service.answer("ana", row=row, classes=[1], key="k")["saved"] == first["saved"]
    service.close()


def test_keys_of_two_people_do_not_meet(folder: Path) -> None:
    service = open_service(folder, trainer=False)
    first, second = (service.state(who)["rows"][0]["id"] for who in ("ana", "ben"))
    service.answer("ana", row=first, classes=[1], key="k")
    saved = service.answer("ben", row=second, classes=[2], key="k")["saved"]
    assert (saved["who"], saved["classes"]) == ("ben", [2])
    service.close()


def test_a_second_tab_cannot_replace_an_answer_that_it_does_not_know(folder: Path) -> None:
    service = open_service(folder, trainer=False)
    row = service.state("ana")["rows"][0]["id"]
    saved = service.answer("ana", row=row, classes=[1], key="one")["saved"]
    with pytest.raises(OutdatedAnswerError) as caught:
        service.answer("ana", row=row, classes=[2], key="two")
    assert caught.value.stands == saved
    for how in ("later", "decline"):
        with pytest.raises(OutdatedAnswerError):
            service.skip("ana", row=row, key=f"skip {how}", how=how)
    changed = service.answer("ana", row=row, classes=[2], key="three", replaces=saved["event"])
    assert changed["saved"]["classes"] == [2]
    assert changed["header"]["mine"] == 1
    service.close()


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"row": "nowhere"}, "no text with the id"),
        ({"classes": [7]}, "no class with the number 7"),
        ({"classes": []}, "one class"),
        ({"classes": [0, 1]}, "one class"),
        ({"seconds": float("nan")}, "seconds"),
        ({"seconds": -1.0}, "seconds"),
        ({"key": ""}, "key"),
    ],
)
def test_wrong_answer_stores_nothing(folder: Path, wrong: dict[str, Any], message: str) -> None:
    service = open_service(folder, trainer=False)
    given = {"row": service.state("ana")["rows"][0]["id"], "classes": [0], "key": "k", **wrong}
    with pytest.raises(AnswerError, match=message):
        service.answer("ana", **given)
    assert header(service)["answered"] == 0
    service.close()


def test_multilabel_answers_hold_any_number_of_classes(tmp_path: Path) -> None:
    service = open_service(make_project(tmp_path / "p", multilabel=True), trainer=False)
    rows = [row["id"] for row in service.state("ana")["rows"]]
    assert service.answer("ana", row=rows[0], classes=[2, 0, 2], key="a")["saved"]["classes"] == [0, 2]
    assert service.answer("ana", row=rows[1], classes=[], key="b")["saved"]["classes"] == []
    assert header(service)["answered"] == 2
    service.close()


# -- skips, notes and undo ---------------------------------------------------------------------------------------------


def test_a_row_put_off_comes_after_all_others(tmp_path: Path) -> None:
    service = open_service(make_project(tmp_path / "p", n=14), trainer=False)
    row = service.state("ana")["rows"][0]["id"]
    reply = service.skip("ana", row=row, key="later", how="later")
    assert row not in [each["id"] for each in reply["rows"]]
    assert answer_all(service, "ana", 20)[-1] == row
    service.close()


def test_a_declined_row_does_not_come_back(tmp_path: Path) -> None:
    service = open_service(make_project(tmp_path / "p", n=6), trainer=False)
    row = service.state("ana")["rows"][0]["id"]
    reply = service.skip("ana", row=row, key="no", how="decline")
    assert reply["saved"]["skipped"]
    assert row not in answer_all(service, "ana", 20)
    assert header(service)["declined"] == 1
    service.close()


def test_undo_goes_back_any_number_of_own_steps(folder: Path) -> None:
    service = open_service(folder, trainer=False)
    done = answer_all(service, "ana", 3)
    other = answer_all(service, "ben", 1)
    row = service.state("ana")["rows"][0]["id"]
    service.skip("ana", row=row, key="later", how="later")
    service.flag("ana", row=row, key="flag", text="a typing error?")
    with pytest.raises(AnswerError, match="a note is a text that can be seen"):
        service.flag("ana", row=row, key="unseen", text="\u200b \u3164")
    undone = [service.undo("ana", key=f"u{i}") for i in range(6)]
    kinds = [each["undone"] and each["undone"]["kind"] for each in undone]
    assert kinds == ["noted", "deferred", "answered", "answered", "answered", None]
    assert [each["rows"][0]["id"] for each in undone[1:5]] == [row, *reversed(done)]
    assert undone[2]["rows"][0]["was"]["classes"] == [true_class(done[-1])]
    assert undone[2]["rows"][0]["answer"] is None
    assert undone[-1]["header"]["mine"] == 0
    assert service.state("ben")["header"]["mine"] == len(other)
    service.close()


@pytest.mark.parametrize(("how", "kind"), [("later", "deferred"), ("decline", "skipped")])
def test_undone_skip_of_a_row_that_others_have_answered_is_not_shown_again(folder: Path, how: str, kind: str) -> None:
    service = open_service(folder, trainer=False)
    row = service.state("ana")["rows"][0]["id"]
    service.skip("ana", row=row, key="skip", how=how)
    if how == "decline":  # which is final for others
        with LabelLog(folder / "labels.db") as log:
            log.set_person("ben", token=None, rights=("adjudicate",))
    service.take("ben", row=row)
    service.answer("ben", row=row, classes=[true_class(row)], key="b", replaces=None)
    reply = service.undo("ana", key="undo")
    assert reply["undone"] == {"kind": kind, "row": row}
    assert row not in [each["id"] for each in reply["rows"]]
    with pytest.raises(AnswerError, match="another person has answered this text meanwhile"):
        service.answer("ana", row=row, classes=[0], key="a", replaces=None)
    service.close()


def test_repeated_undo_undoes_one_step(folder: Path) -> None:
    service = open_service(folder, trainer=False)
    answer_all(service, "ana", 2)
    first = service.undo("ana", key="u")
    again = service.undo("ana", key="u")
    assert again["undone"] == first["undone"]
    assert again["header"]["mine"] == 1
    service.close()


def test_undo_works_after_a_restart_and_shows_the_answer_taken_back(folder: Path) -> None:
    service = open_service(folder, trainer=False)
    (row,) = answer_all(service, "ana", 1)
    service.close()
    service = open_service(folder, trainer=False)
    reply = service.undo("ana", key="u")
    assert reply["undone"] == {"kind": "answered", "row": row}
    assert reply["rows"][0]["was"]["classes"] == [true_class(row)]
    service.close()


@pytest.mark.skipif(sys.platform == "win32", reason="a file that is open cannot be moved there")
def test_answers_are_refused_while_the_folder_is_gone(folder: Path) -> None:
    """SQLite goes on writing to a file that was removed: the answers would be lost without an error."""
    service = open_service(folder, trainer=False)
    row = service.state("ana")["rows"][0]["id"]
    folder.rename(folder.with_name("elsewhere"))
    with pytest.raises(SessionError, match=r"was moved or removed: nothing was stored; put it back"):
        service.answer("ana", row=row, classes=[0], key="k")
    folder.with_name("elsewhere").rename(folder)
    assert service.answer("ana", row=row, classes=[0], key="k")["saved"]["classes"] == [0]
    service.close()


# -- several people ----------------------------------------------------------------------------------------------------


def test_threads_of_two_people_never_get_one_row_twice(tmp_path: Path) -> None:
    service = open_service(make_project(tmp_path / "p", n=80), trainer=False)
    with ThreadPoolExecutor(4) as pool:
        done = list(pool.map(lambda who: answer_all(service, who, 80), ("ana", "ben", "cem", "dia")))
    rows = [row for each in done for row in each]
    assert len(rows) == len(set(rows)) == 80
    assert header(service)["answered"] == 80
    service.close()


def test_rows_wanted_twice_are_answered_by_two_people_each(tmp_path: Path) -> None:
    overlap = Overlap(0.3, 2)
    service = open_service(make_project(tmp_path / "p", n=40), trainer=False, overlap="0.3:2")
    for who in ("ana", "ben", "cem", "ana", "ben", "cem"):
        answer_all(service, who, 12)
    counts = Counter(row for who in ("ana", "ben", "cem") for row in own_answers(service, who))
    service.close()
    assert dict(counts) == {f"t{i}": overlap.wanted(f"t{i}") for i in range(40)}
    assert sum(n == 2 for n in counts.values()) > 5


def own_answers(service: Any, who: str) -> list[str]:
    return [each["row"]["id"] for each in service.history(who, person=who, limit=100)["rows"]]


def test_overlap_of_a_later_start_holds_for_texts_that_wait_in_the_queue(tmp_path: Path) -> None:
    folder = make_project(tmp_path / "p", n=12)
    service = open_service(folder, trainer=False)
    (answered,) = answer_all(service, "ana", 1)
    later = service.state("ana")["rows"][0]["id"]
    service.skip("ana", row=later, key="later", how="later")
    waiting = service.log.queue()
    service.close()
    service = open_service(folder, trainer=False, overlap="1:2")
    assert service.log.queue() == [later]  # put off: it stays
    assert len(answer_all(service, "ana", 12)) == 11
    states = service.log.states([answered, *waiting])
    assert {row for row, state in states.items() if state.wanted == 2} == set(waiting) - {later}
    service.close()
    service = open_service(folder, trainer=False)  # texts that one of two people has answered still wait
    assert len(answer_all(service, "ben", 12)) == 10
    service.close()


def test_the_random_order_does_not_begin_with_the_rows_wanted_twice(tmp_path: Path) -> None:
    service = open_service(make_project(tmp_path / "p", n=300), trainer=False, overlap="0.2:2")
    done = answer_all(service, "ana", 60)
    service.close()
    assert 3 <= sum(Overlap(0.2).wanted(row) == 2 for row in done) <= 22  # 12 expected


def test_second_answers_are_blind(tmp_path: Path) -> None:
    service = open_service(make_project(tmp_path / "p", n=4), trainer=False, overlap="1:2")
    (row,) = answer_all(service, "ana", 1)
    service.skip("ana", row=row, key="x", how="later", replaces=service.history("ana")["rows"][0]["answer"]["event"])
    seen = {each["id"]: each for _ in range(4) for each in service.state("ben")["rows"]}
    assert all(each["answer"] is None for each in seen.values())
    assert service.history("ben")["rows"] == []  # although ben may adjudicate: he may still be asked
    assert all(each["answer"] is None for each in service.search("ben", q="patient")["rows"])
    service.close()


def test_lease_expires_and_the_late_answer_does_not_overwrite_the_other(tmp_path: Path) -> None:
    service = open_service(make_project(tmp_path / "p", n=1), trainer=False, lease=0.2)
    (row,) = (each["id"] for each in service.state("ana")["rows"])
    assert service.state("ben")["rows"] == []
    time.sleep(0.3)
    assert [each["id"] for each in service.state("ben")["rows"]] == [row]
    service.answer("ben", row=row, classes=[2], key="b")
    with pytest.raises(AnswerError, match="another person has answered"):
        service.answer("ana", row=row, classes=[1], key="a")
    service.close()


def test_page_that_is_looked_at_again_is_told_whether_its_text_may_still_be_answered(tmp_path: Path) -> None:
    service = open_service(make_project(tmp_path / "p", n=6), trainer=False, lease=0.1)
    first, second = (each["id"] for each in service.state("ana")["rows"])
    assert service.state("ana", shown=first)["gone"] is None
    time.sleep(0.2)
    assert service.state("ana", shown=first)["gone"] is None  # it is hers again
    assert first in service.log.readers()
    time.sleep(0.2)
    assert service.state("ben")["rows"][0]["id"] == first
    assert service.state("ana", shown=first)["gone"] == "another person is reading this text"
    service.answer("ben", row=first, classes=[2], key="b")
    assert service.state("ana", shown=first)["gone"] == "another person has answered this text meanwhile"
    event = service.answer("ana", row=second, classes=[1], key="a")["saved"]["event"]
    assert service.state("ana", shown=second)["gone"] == "this text was answered elsewhere, as in another tab"
    assert service.state("ana", shown=second, replaces=event)["gone"] is None
    service.undo("ana", key="u")
    assert service.state("ana", shown=second, replaces=event)["gone"] is not None
    service.log.retire([second])
    assert service.state("ana", shown=second)["gone"] == "this text was taken out of the project"
    service.close()


def test_a_late_answer_counts_where_nobody_else_answered(tmp_path: Path) -> None:
    service = open_service(make_project(tmp_path / "p", n=1), trainer=False, lease=0.1)
    (row,) = (each["id"] for each in service.state("ana")["rows"])
    time.sleep(0.2)
    assert service.state("ben")["rows"][0]["id"] == row
    assert service.answer("ana", row=row, classes=[1], key="a")["saved"]["classes"] == [1]
    with pytest.raises(AnswerError, match="another person has answered"):
        service.answer("ben", row=row, classes=[2], key="b")
    service.close()


def disputed(tmp_path: Path, n: int = 10) -> Any:
    """A service with `n` rows, all answered differently by ana and ben."""
    service = open_service(make_project(tmp_path / "p", n=n), trainer=False, overlap="1:2")
    assert len(answer_all(service, "ana", n, lambda row: 0)) == n
    assert len(answer_all(service, "ben", n, lambda row: 1)) == n
    return service


def test_ten_disputes_are_adjudicated_without_names(tmp_path: Path) -> None:
    service = disputed(tmp_path)
    assert header(service, "cem")["disputed"] == 10
    found = service.disputes("cem")["rows"]
    assert len(found) == 10
    orders = {tuple(answer["classes"][0] for answer in each["answers"]) for each in found}
    assert orders == {(0, 1), (1, 0)}  # in no order that would tell who is who
    assert "ana" not in json.dumps(found)
    assert service.disputes("cem")["rows"] == found
    for left, each in zip(reversed(range(10)), found, strict=True):
        reply = service.adjudicate("cem", row=each["row"]["id"], classes=[2], key=each["row"]["id"])
        assert reply["left"] == left
        assert reply["saved"]["source"] == "adjudicated"
    service.close()
    with LabelLog(tmp_path / "p" / "labels.db") as log:
        assert log.class_counts() == {0: 0, 1: 0, 2: 10}
        assert {who: event.value for who, event in log.answers_by("t0").items()} == {
            "ana": "none",
            "ben": "mild",
            "cem": "severe",
        }


def test_adjudication_is_undone_and_only_disputes_are_adjudicated(tmp_path: Path) -> None:
    service = disputed(tmp_path, 2)
    row = service.disputes("cem")["rows"][0]["row"]["id"]
    first = service.adjudicate("cem", row=row, classes=[2], key="k")
    assert service.adjudicate("cem", row=row, classes=[0], key="k")["saved"] == first["saved"]
    undone = service.undo("cem", key="u")
    assert undone["undone"] == {"kind": "adjudicated", "row": row}
    assert undone["header"]["disputed"] == 2
    service.close()
    service = open_service(make_project(tmp_path / "other"), trainer=False)
    (agreed,) = answer_all(service, "ana", 1)
    with pytest.raises(AnswerError, match="do not disagree"):
        service.adjudicate("cem", row=agreed, classes=[1], key="k")
    service.close()


def test_second_decision_of_a_dispute_is_told_of_the_first(tmp_path: Path) -> None:
    service = disputed(tmp_path, 1)
    (listed,) = service.disputes("cem")["rows"]
    row = listed["row"]["id"]
    first = service.adjudicate("cem", row=row, classes=[2], key="c")["saved"]
    with pytest.raises(OutdatedAnswerError) as outdated:  # a list that was read before
        service.adjudicate("dora", row=row, classes=[0], key="d")
    assert outdated.value.stands == first
    assert service.labels() == {row: "severe"}
    service.adjudicate("dora", row=row, classes=[0], key="d2", replaces=first["event"])
    assert service.labels() == {row: "none"}
    service.close()


def test_rights_end_with_the_access(tmp_path: Path) -> None:
    folder, now = make_project(tmp_path / "p"), time.time()
    with LabelLog(folder / "labels.db") as log:
        log.set_person("old", token=None, rights=["classes"], until=now - 1)
        service = open_service(folder, trainer=False)
        assert service.rights("old") == ()
        assert set(service.rights("owner")) == {"classes", "adjudicate"}  # nobody is on the list any more
        log.set_person("ana", token=None, rights=["classes"], until=now + 3600)
        assert (service.rights("ana"), service.rights("owner")) == (("classes",), ())
    service.close()


def test_rights_limit_what_a_person_can_do(tmp_path: Path) -> None:
    folder = make_project(tmp_path / "p")
    with LabelLog(folder / "labels.db") as log:
        log.set_person("ana", token=None, rights=["classes", "adjudicate"])
        log.set_person("ben", token=None, rights=[])
    service = open_service(folder, trainer=False)
    assert service.rights("ben") == ()
    assert set(service.rights("ana")) == {"classes", "adjudicate"}
    assert service.rights("stranger") == ()
    (row,) = answer_all(service, "ana", 1)
    for call in (
        lambda: service.change_classes("ben", change={"do": "guide", "text": "x"}, key="1"),
        lambda: service.disputes("ben"),
        lambda: service.adjudicate("ben", row=row, classes=[1], key="2"),
        lambda: service.take("ben", row=row),
        lambda: service.answer("ben", row=row, classes=[1], key="3"),
    ):
        with pytest.raises(AnswerError):
            call()
    assert service.history("ben", person="ana") == {"rows": [], "more": False}
    assert service.history("ben")["rows"] == []
    assert service.undo("ben", key="4")["undone"] is None
    assert [each["answer"]["who"] for each in service.history("ana")["rows"]] == ["ana"]
    service.close()


def test_names_of_others_are_hidden_as_long_as_a_text_is_disputed(tmp_path: Path) -> None:
    service = open_service(make_project(tmp_path / "p", n=8), trainer=False, overlap="1:2")
    rows = answer_all(service, "ana", 3, lambda row: 0)
    for row in rows:
        assert service.take("ben", row=row)
        service.answer("ben", row=row, classes=[1], key=f"ben{row}xxxx")

    def names(**options: Any) -> list[str]:
        return [each["answer"]["who"] for each in service.history("cem", **options)["rows"]]

    assert names() == [""] * 6
    assert service.history("cem", person="ana") == {"rows": [], "more": False}  # a search by name would tell, too
    own = service.history("ana")["rows"]
    assert sorted(each["answer"]["who"] for each in own) == ["", "", "", "ana", "ana", "ana"]
    for row in rows:
        service.adjudicate("cem", row=row, classes=[1], key=f"cem{row}xxxx")
    assert sorted(names()) == ["ana"] * 3 + ["ben"] * 3 + ["cem"] * 3
    assert names(person="ana") == ["ana"] * 3
    service.close()


# -- lists -------------------------------------------------------------------------------------------------------------


def test_history_is_filtered_by_words_class_person_and_time(folder: Path) -> None:
    service = open_service(folder, trainer=False)
    ana, ben = answer_all(service, "ana", 8), answer_all(service, "ben", 4)
    everything = service.history("ana")["rows"]
    assert [each["row"]["id"] for each in everything] == [*reversed(ben), *reversed(ana)]
    assert own_answers(service, "ben") == list(reversed(ben))
    severe = service.history("ana", class_id=2)["rows"]
    assert {each["row"]["id"] for each in severe} == {row for row in [*ana, *ben] if true_class(row) == 2}
    strokes = service.history("ana", q="stroke")["rows"]
    assert {each["row"]["id"] for each in strokes} == {each["row"]["id"] for each in severe}
    assert service.history("ana", since=time.time() + 60)["rows"] == []
    page = service.history("ana", limit=5)
    assert page["more"]
    rest = service.history("ana", before=page["rows"][-1]["answer"]["event"], limit=50)
    assert not rest["more"]
    assert [*page["rows"], *rest["rows"]] == everything
    service.close()


def test_row_found_by_search_is_taken_first_and_answered(folder: Path) -> None:
    service = open_service(folder, trainer=False)
    row = service.search("ana", q="number 41")["rows"][0]["id"]
    assert row == "t41"
    taken = service.take("ana", row=row)["rows"]
    assert [taken[0]["id"], len(taken)] == [row, 2]
    with pytest.raises(AnswerError, match="another person is reading"):
        service.take("ben", row=row)
    assert row not in [each["id"] for each in service.state("ben")["rows"]]
    reply = service.answer("ana", row=row, classes=[2], key="k")
    assert reply["rows"][0]["id"] == taken[1]["id"]
    service.close()
    with LabelLog(folder / "labels.db") as log:
        assert log.row(row).state == "answered"
        assert log.readers().get(row) is None


def test_search_by_meaning_waits_for_the_model_or_says_why_there_is_none(folder: Path) -> None:
    service, trainer = open_trained(folder)
    found = service.search("ana", q="headaches", by="meaning", limit=3)
    assert ([row["id"] for row in found["rows"]], found["why"]) == (["t0", "t12", "t15"], None)
    assert service.search("ana", q="headaches", limit=3)["rows"] == []  # no text has this word
    service._log.retire(["t0", "t12"])  # which the model may not know yet
    assert len(service.search("ana", q="headaches", by="meaning", limit=3)["rows"]) == 3
    row = found["rows"][2]["id"]
    service.take("ana", row=row)
    service.answer("ana", row=row, classes=[0], key="k")
    assert service.hints("ana", row=row)["why"] == "found by a search, not asked by a strategy"
    trainer.error = "the model is reading the texts"
    assert service.search("ana", q="headaches", by="meaning") == {"rows": [], "why": trainer.error, "again": True}
    service.close()
    alone = open_service(folder, trainer=False)
    assert alone.search("ana", q="x", by="meaning") == {"rows": [], "why": "no model is running", "again": False}
    alone.close()


def test_row_found_by_search_is_answered_by_as_many_people_as_the_overlap_wants(tmp_path: Path) -> None:
    service = open_service(make_project(tmp_path / "p"), trainer=False, overlap="1:2")
    service.take("ana", row="t41")
    service.answer("ana", row="t41", classes=[2], key="first")
    assert service._log.row("t41").state == "pending"
    assert service.hints("ben", row="t41")["why"] == "found by a search, not asked by a strategy"
    assert service.search("ben", q="number 41")["rows"][0]["answer"] is None  # blind
    seen = []
    while "t41" not in seen:
        row = service.state("ben")["rows"][0]["id"]
        seen.append(row)
        service.answer("ben", row=row, classes=[1], key=f"ben-{row}")
    assert service._log.row("t41").state == "disputed"
    assert [row["row"]["id"] for row in service.disputes("ana")["rows"]] == ["t41"]
    service.undo("ben", key="undo")
    service.close()


def test_undone_answer_to_a_row_found_by_search_leaves_no_question_behind_a_ranking(tmp_path: Path) -> None:
    service, trainer = open_trained(make_project(tmp_path / "p"), overlap="1:2")
    service.take("ana", row="t41")
    service.answer("ana", row="t41", classes=[2], key="first")
    assert service.undo("ana", key="undo")["rows"][0]["id"] == "t41"
    trainer.work()
    assert service.state("ana")["rows"][0]["id"] == "t41"  # she has it back
    service.close()


def test_near_copies_are_offered_together(tmp_path: Path) -> None:
    service = open_service(make_project(tmp_path / "p", n=12), trainer=False)
    (row,) = answer_all(service, "ana", 1)
    same = {f"t{i}" for i in range(12) if i % 3 == true_class(row)} - {row}
    assert {each["id"] for each in service.copies("ana", row=row)["rows"]} <= same
    assert len(service.copies("ana", row=row)["rows"]) >= 2  # none that ana holds is left out, and none of others
    copies = [each["id"] for each in service.copies("ana", row=row)["rows"]]
    service.take("ana", row=copies[0])
    service.answer("ana", row=copies[0], classes=[true_class(row)], key="k")
    assert copies[0] not in [each["id"] for each in service.copies("ana", row=row)["rows"]]
    service.close()


def test_near_copy_of_a_short_text_is_found_among_many_longer_ones(tmp_path: Path) -> None:
    with ProjectRows.create(tmp_path / "rows.db") as rows:
        words = "effect of the drug on the heart of a patient after seven days without a dose of something else"
        rows.add((ProjectRow(f"r{i}", f"no {words} {i}") for i in range(700)), source="a.csv")
        rows.add([ProjectRow("short", "no effect"), ProjectRow("same", "No effect (7 mg: 12)")], source="b.csv")
        assert near_copies(rows, "short") == []
        rows.add([ProjectRow("copy", "No effect (n = 7)!"), ProjectRow("other", "No effect: 7!")], source="c.csv")
        assert near_copies(rows, "short") == ["other"]
        assert set(near_copies(rows, "r5", 1000)) <= {f"r{i}" for i in range(700)}
        assert len(near_copies(rows, "r5", 1000)) >= 499


def test_a_skip_of_an_answered_text_is_no_answer_of_ones_own(folder: Path) -> None:
    service = open_service(folder, trainer=False)
    row, _ = answer_all(service, "ana", 2)
    event = service.own_answer(row, "ana")
    assert service.skip("ana", row=row, key="s", replaces=event, how="decline")["header"]["mine"] == 1
    assert service.undo("ana", key="u")["header"]["mine"] == 2
    assert service.undo("ana", key="u")["header"]["mine"] == 2
    assert service.undo("ana", key="v")["header"]["mine"] == 1
    service.close()
    service = open_service(folder, trainer=False)
    assert header(service)["mine"] == 1
    service.close()


# -- classes -----------------------------------------------------------------------------------------------------------


def test_classes_change_while_people_answer(folder: Path) -> None:
    service = open_service(folder, trainer=False)
    rows = answer_all(service, "ana", 3, lambda row: 1)
    change = service.change_classes
    reply = change("ana", change={"do": "rename", "id": 1, "name": "light"}, key="1")
    assert [each["name"] for each in reply["classes"]] == ["none", "light", "severe"]
    assert change("ana", change={"do": "add", "name": "fatal"}, key="2")["classes"][-1]["id"] == 3
    assert change("ana", change={"do": "add", "name": "fatal"}, key="2")["classes"][-1]["id"] == 3
    change("ana", change={"do": "merge", "id": 1, "into": 0}, key="3")
    assert {tuple(each["answer"]["classes"]) for each in service.history("ana")["rows"]} == {(0,)}
    with pytest.raises(AnswerError, match="number 1"):
        service.answer("ana", row=service.state("ana")["rows"][0]["id"], classes=[1], key="4")
    change("ana", change={"do": "restore", "id": 1}, key="5")
    assert {tuple(each["answer"]["classes"]) for each in service.history("ana")["rows"]} == {(1,)}
    change("ana", change={"do": "bind", "id": 2, "letter": "m"}, key="6")
    reply = change("ana", change={"do": "guide", "text": "Read all of it."}, key="7")
    assert reply["classes"][2]["letter"] == "m"
    assert reply["project"]["guide"] == "Read all of it."
    for letter in "sdf":
        with pytest.raises(AnswerError, match="letter"):
            change("ana", change={"do": "bind", "id": 2, "letter": letter}, key=letter)
    assert service.state("ana")["recent"] == [1]
    assert len(rows) == 3
    service.close()


def test_a_project_without_classes_shows_rows_and_takes_a_first_class(tmp_path: Path) -> None:
    service = open_service(make_project(tmp_path / "p", classes=()), trainer=False)
    state = service.state("ana")
    assert state["classes"] == []
    assert len(state["rows"]) == 2
    service.change_classes("ana", change={"do": "add", "name": "first"}, key="c")
    service.answer("ana", row=state["rows"][0]["id"], classes=[0], key="k")
    assert service.progress("ana")["per_class"] == [[0, 1]]
    service.close()


# -- opening -----------------------------------------------------------------------------------------------------------


def test_project_that_is_open_is_refused_with_the_process(folder: Path) -> None:
    service = open_service(folder, trainer=False)
    with pytest.raises(BusyError, match="in use"):
        open_service(folder, trainer=False)
    service.close()
    open_service(folder, trainer=False).close()


def test_folder_that_is_no_project_is_refused_in_one_line(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="dal init"):
        open_service(tmp_path / "nowhere")
    with pytest.raises(ConfigError, match="dal init"):
        open_service(tmp_path)
    (tmp_path / "config.yaml").write_text("kind: run\n")
    with pytest.raises(ConfigError, match="a folder of dal run"):
        open_service(tmp_path)


def test_missing_file_is_named_and_the_lock_is_released(folder: Path) -> None:
    (folder / "labels.db").rename(folder / "kept.db")
    with pytest.raises(SessionError, match=r"labels\.db is missing"):
        open_service(folder, trainer=False)
    assert not (folder / "labels.db").exists()
    (folder / "kept.db").rename(folder / "labels.db")
    (folder / "rows.db").rename(folder / "kept.db")
    with pytest.raises(SessionError, match=r"rows\.db"):
        open_service(folder, trainer=False)
    (folder / "kept.db").rename(folder / "rows.db")
    open_service(folder, trainer=False).close()


@pytest.mark.parametrize("text", ["", "x", "2:2", "-0.1", "0.1:1", "0.1:x", "nan:2", "0.1:99"])
def test_overlap_is_a_share_and_a_number_of_people(folder: Path, text: str) -> None:
    with pytest.raises(ConfigError, match="overlap"):
        open_service(folder, trainer=False, overlap=text)


def test_trained_helper_ranks(folder: Path) -> None:
    service, trainer = open_trained(folder)
    assert trainer.work() == 1
    assert header(service)["ranking"]["strategy"] == "Alphabetical"
    service.close()
