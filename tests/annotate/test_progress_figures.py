import json
import time
from pathlib import Path
from typing import Any

import pytest
from annotation_project import answer_all, make_project, open_trained, true_class
from reference import agreement as reference

from dal.annotate.progress_figures import pace
from dal.annotate.service import open_service
from dal.store.events import Answer
from dal.store.label_log import LabelLog


def test_pace_leaves_out_idle_time() -> None:
    assert pace([(3600.0 + i * -36, None) for i in range(50)]) == 100
    assert pace([(7200.0, None), (3600.0, None), (3540.0, None)]) == 40  # an hour of lunch counts as two minutes
    assert pace([(7200.0, 30.0), (3600.0, 30.0)]) == 120
    assert pace([(5.0, None)]) is None
    assert pace([(5.0, None), (5.0, None)]) is None
    assert pace([(60.0, None), (3600.0, None), (3540.0, None)]) == 120  # the clock was set back


def test_progress_counts_answers_by_day_class_and_person(tmp_path: Path) -> None:
    folder = make_project(tmp_path / "p", extra="price_per_hour: 180\n")
    with LabelLog(folder / "labels.db") as log:
        log.tell([Answer("t59", "severe", "", "import")])
    service = open_service(folder, trainer=False)
    ana = answer_all(service, "ana", 5, lambda row: true_class(row) % 2)
    ben = answer_all(service, "ben", 3, lambda row: true_class(row) % 2)
    progress = service.progress("ana")
    days = [time.strftime("%Y-%m-%d", time.localtime(time.time() - back)) for back in (86400, 0)]
    assert sum(n for _, n in progress["answers_by_day"]) == 8
    assert {day for day, _ in progress["answers_by_day"]} <= set(days)
    zeros = sum(true_class(row) % 2 == 0 for row in [*ana, *ben])
    assert progress["per_class"] == [[0, zeros], [1, 8 - zeros], [2, 1]]
    assert progress["without"] == []
    assert [(each["who"], each["answers"]) for each in progress["people"]] == [("ana", 5), ("ben", 3)]
    assert progress["people"][0]["per_hour"] == 1800  # two seconds each
    assert progress["dollars"] == service.state("ana")["header"]["dollars"] == round(16 / 3600 * 180, 2)
    assert progress["agreement"] is None
    assert progress["curve"] == []
    service.answer("ana", row=ana[0], classes=[2], key="c", replaces=service.own_answer(ana[0], "ana"))  # changed
    assert sum(n for _, n in service.progress("ana")["answers_by_day"]) == 8
    service.undo("ben", key="u")
    assert service.progress("ana")["people"][1]["answers"] == 2
    service.close()


def test_classes_without_answers_are_named(tmp_path: Path) -> None:
    service = open_service(make_project(tmp_path / "p"), trainer=False)
    answer_all(service, "ana", 2, lambda row: 1)
    assert service.progress("ana")["without"] == [0, 2]
    assert service.state("ana")["header"]["dollars"] is None
    service.close()


def test_learning_curve_takes_guesses_made_before_the_answers(tmp_path: Path) -> None:
    service, trainer = open_trained(make_project(tmp_path / "p"), every=100, ranked=25)
    answer_all(service, "ana", 3, lambda row: 1)
    trainer.work()  # of the start: nothing was known
    service.wait_for_ranking(timeout=0)
    trainer.work()  # guesses "mild" always
    held = [row["id"] for row in service.state("ana")["rows"]]
    done = answer_all(service, "ana", 24)
    (point,) = service.progress("ana")["curve"]
    guessed = [row for row in done if row not in held]
    right = sum(true_class(row) == 1 for row in guessed)
    assert (point["kind"], point["labels"], point["texts"], point["right"]) == ("chosen", 3, len(guessed), right)
    assert point["accuracy"] == round(right / len(guessed), 4)
    assert point["low"] < point["accuracy"] < point["high"]
    assert service.progress("ana")["forecast"] == {"more": 100, "value": 0.02, "low": 0.0, "high": 0.05}
    wrong = service.history("ana", disagree=True, limit=100)
    assert {each["row"]["id"] for each in wrong["rows"]} == {row for row in guessed if true_class(row) != 1}
    service.close()


def test_guesses_on_rows_in_random_order_are_a_sample_of_their_own(tmp_path: Path) -> None:
    service, trainer = open_trained(make_project(tmp_path / "p"), every=100)
    answer_all(service, "ana", 2, lambda row: 1)
    trainer.work()
    service.wait_for_ranking(timeout=0)
    held = [row["id"] for row in service.state("ana")["rows"]]
    ranking = trainer.ranking(trainer.jobs.pop())
    service.receive({**ranking, "kept": [{"id": row, "guesses": [["mild", 0.8]]} for row in held]})
    for row in held:
        service.answer("ana", row=row, classes=[1], key=f"k{row}")
    (point,) = service.progress("ana")["curve"]
    assert (point["kind"], point["texts"], point["right"]) == ("random", 2, 2)
    assert point["low"] < 0.5  # of two
    service.close()


@pytest.mark.parametrize("multilabel", [False, True])
def test_agreement_has_counts_and_intervals_overall_and_by_class(tmp_path: Path, multilabel: bool) -> None:
    folder = make_project(tmp_path / "p", n=30, multilabel=multilabel)
    service = open_service(folder, trainer=False, overlap="1:2")
    given: dict[str, list[int]] = {f"t{i}": [] for i in range(30)}

    def choose(row: str) -> int:
        code = (true_class(row) + (len(given[row]) and int(row[1:]) % 5 == 0)) % 3
        given[row].append(code)
        return code

    answer_all(service, "ana", 30, choose)
    answer_all(service, "ben", 30, choose)
    found = service.progress("ana")["agreement"]
    answers = list(given.values())
    assert (found["texts"], found["answers"], found["people"]) == (30, 60, 2)
    assert found["raw"]["value"] == pytest.approx(reference.raw_agreement(answers), abs=1e-4)
    assert found["alpha"]["value"] == pytest.approx(reference.krippendorff_alpha(answers), abs=1e-4)
    assert found["ac1"]["value"] == pytest.approx(reference.gwet_ac1(answers, 3), abs=1e-4)
    assert found["alpha"]["low"] < found["alpha"]["value"] < found["alpha"]["high"]
    assert [each["id"] for each in found["per_class"]] == [0, 1, 2]
    for each in found["per_class"]:
        binary = [[code == each["id"] for code in text] for text in answers]
        assert each["raw"]["value"] == pytest.approx(reference.raw_agreement(binary), abs=1e-4)
        assert each["texts"] == sum(any(text) for text in binary)
    before = dict(found)
    for each in service.disputes("cem")["rows"]:
        service.adjudicate("cem", row=each["row"]["id"], classes=[0], key=each["row"]["id"])
    assert service.progress("ana")["agreement"] == before  # the adjudicator is not one of the two
    service.close()


def test_answer_changed_after_the_others_was_visible_does_not_raise_the_agreement(tmp_path: Path) -> None:
    service = open_service(make_project(tmp_path / "p", n=8), trainer=False, overlap="1:2")
    for who, code in (("ana", 0), ("ben", 1)):
        answer_all(service, who, 8, lambda row, code=code: code)
    before = service.progress("ana")["agreement"]
    assert before["raw"]["value"] == 0
    for each in service.history("ana", person="ana", limit=50)["rows"]:
        row, event = each["row"]["id"], each["answer"]["event"]
        service.answer("ana", row=row, classes=[1], key=f"key{event}", replaces=event, seen={})
    assert service.progress("ana")["agreement"] == before
    assert service.state("ana")["header"]["disputed"] == 0  # they are no dispute any more: that is another question
    service.close()


def test_pace_of_others_is_shown_to_adjudicators_only(tmp_path: Path) -> None:
    folder = make_project(tmp_path / "p", n=8)
    with LabelLog(folder / "labels.db") as log:
        log.set_person("ana", token=None, rights=["adjudicate"])
        log.set_person("ben", token=None, rights=[])
    service: Any = open_service(folder, trainer=False)
    answer_all(service, "ana", 3)
    answer_all(service, "ben", 2)
    everybody, own = service.progress("ana"), service.progress("ben")
    assert [each["who"] for each in everybody["people"]] == ["ana", "ben"]
    assert [(each["who"], each["answers"]) for each in own["people"]] == [("ben", 2)]
    assert own["total"] == everybody["total"]
    assert (own["total"]["people"], own["total"]["answers"]) == (2, 5)
    assert "ana" not in json.dumps(own)
    service.close()


def test_imported_answers_are_nobodys_pace(tmp_path: Path) -> None:
    folder = make_project(tmp_path / "p", n=8)
    with LabelLog(folder / "labels.db") as log:
        log.tell([Answer(f"t{i}", "none", "", "import") for i in range(4)])
    service: Any = open_service(folder, trainer=False)
    assert service.progress("ana")["people"] == []
    assert len(answer_all(service, "ana", 9)) == 4
    service.close()
