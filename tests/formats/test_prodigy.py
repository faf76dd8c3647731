"""Prodigy: tasks of the choice interface, and the answers in the output of its database."""

import json
from pathlib import Path
from typing import Any

import pytest

from dal.errors import AnswerError, DataError
from dal.formats.corpus import Corpus, CorpusAnswer, CorpusRow
from dal.formats.foreign_answers import Answerable, ForeignAnswers
from dal.formats.label_studio import Ranking
from dal.formats.prodigy import read_prodigy, tasks_text
from dal.store.events import SKIP

RECORDED = Path(__file__).parents[1] / "data" / "prodigy"
CLASSES = ("billing", "access", "bug")
TEXTS = {"r1": ("one",), "r2": ("two",), "r3": ("three", "pair")}
KNOWN = Answerable(TEXTS, CLASSES)
SEVERAL = Answerable(TEXTS, CLASSES, multilabel=True)


def read(tmp_path: Path, *lines: Any, known: Answerable = KNOWN) -> ForeignAnswers:
    path = tmp_path / "out.jsonl"
    path.write_text("".join(json.dumps(line) + "\n" for line in lines), "utf-8")
    return read_prodigy(path, known)


def found(read: ForeignAnswers) -> list[tuple[str, Any]]:
    return [(answer.row, answer.value) for answer in read.answers]


def test_tasks_have_the_options_of_the_choice_interface() -> None:
    rows = [CorpusRow("r1", "one", fields={"year": 1990}), CorpusRow("r3", "three", "pair")]
    first, second = map(
        json.loads, tasks_text(Corpus(rows, CLASSES, True), Ranking(["r3"], "dal 1 Margin")).splitlines()
    )
    assert (first["dal_id"], first["text"]) == ("r3", "three\n\npair")
    assert first["options"] == [{"id": name, "text": name} for name in CLASSES]
    assert first["config"] == {"choice_style": "multiple"}
    assert first["meta"] == {"id": "r3", "rank": 1, "ranking": "dal 1 Margin"}
    assert (second["meta"], second["dal_fields"]) == ({"id": "r1"}, {"year": 1990})
    assert "answer" not in first


def test_written_answers_are_read_back(tmp_path: Path) -> None:
    rows = [
        CorpusRow("r1", "one", state="answered", answers=(CorpusAnswer(("bug",), stands=True),)),
        CorpusRow("r2", "two", state="declined", answers=(CorpusAnswer(None, stands=True),)),
        CorpusRow("r3", "three", "pair", state="pending"),
    ]
    path = tmp_path / "tasks.jsonl"
    path.write_text(tasks_text(Corpus(rows, CLASSES)), "utf-8")
    read = read_prodigy(path, KNOWN)
    assert (found(read), read.empty) == ([("r1", "bug"), ("r2", SKIP)], 1)


def test_recorded_output_of_both_interfaces() -> None:
    read = read_prodigy(RECORDED / "choice.jsonl", KNOWN)
    assert found(read) == [("r1", "billing"), ("r2", SKIP), ("r3", SKIP)]
    assert (read.answers[0].who, read.answers[0].at) == ("tickets-ana", 1700000000.0)
    assert found(read_prodigy(RECORDED / "choice_multiple.jsonl", SEVERAL)) == [("r1", ["billing", "bug"]), ("r2", [])]
    read = read_prodigy(RECORDED / "classification.jsonl", SEVERAL)
    assert sorted(found(read)) == [("r1", ["access"]), ("r3", SKIP)]
    assert read.notes == ("1 texts were only compared with some of the classes, and stay pending",)


def test_accepted_label_of_the_classification_interface_is_the_answer(tmp_path: Path) -> None:
    lines = [{"text": "one", "label": "bug", "answer": "accept"}, {"text": "two", "label": "bug", "answer": "reject"}]
    assert found(read(tmp_path, *lines)) == [("r1", "bug")]


def test_rejected_class_of_two_is_the_other_one(tmp_path: Path) -> None:
    known = Answerable(TEXTS, ("no", "yes"))
    assert found(read(tmp_path, {"text": "one", "label": "no", "answer": "reject"}, known=known)) == [("r1", "yes")]


def test_option_is_known_by_its_text_where_its_id_is_a_number(tmp_path: Path) -> None:
    options = [{"id": 1, "text": "bug"}, {"id": 0, "text": "billing"}]
    line = {"text": "one", "options": options, "accept": [1], "answer": "accept"}
    assert found(read(tmp_path, line)) == [("r1", "bug")]


def test_last_line_of_a_person_counts_and_people_are_kept_apart(tmp_path: Path) -> None:
    line = {"dal_id": "r1", "accept": ["bug"], "answer": "accept", "_annotator_id": "ana"}
    given = read(tmp_path, line, line | {"accept": ["access"]}, line | {"_annotator_id": "ben"})
    assert [(answer.value, answer.who) for answer in given.answers] == [("access", "ana"), ("bug", "ben")]


WRONG = {
    "class": ({"dal_id": "r1", "accept": ["bugs"], "answer": "accept"}, "'bugs' is not a class; did you mean 'bug'"),
    "none": ({"dal_id": "r1", "accept": [], "answer": "accept"}, "no choice instead of one class"),
    "two": ({"dal_id": "r1", "accept": ["bug", "access"], "answer": "accept"}, "'bug' and 'access' instead of one"),
    "answer": ({"dal_id": "r1", "accept": ["bug"], "answer": "yes"}, "answer is 'yes', not accept, reject or ignore"),
    "row": ({"dal_id": "r9", "accept": ["bug"], "answer": "accept"}, "there is no row 'r9'"),
    "text": ({"dal_id": "r1", "text": "two", "answer": "ignore"}, "its text is not that of the row 'r1'"),
    "nothing": ({"text": "unknown", "answer": "ignore"}, "no rows have its text"),
    "list": ({"dal_id": "r1", "accept": "bug", "answer": "accept"}, "accept is 'bug', not a list"),
    "nested": ({"dal_id": "r1", "accept": [["bug"]], "answer": "accept"}, "is not a class"),
    "label": ({"dal_id": "r1", "label": "bugs", "answer": "accept"}, "'bugs' is not a class"),
}


@pytest.mark.parametrize("case", WRONG)
def test_wrong_line_is_listed(tmp_path: Path, case: str) -> None:
    line, message = WRONG[case]
    with pytest.raises(AnswerError, match=f"nothing was stored\n  line 2: .*{message}"):
        read(tmp_path, {"dal_id": "r2", "accept": ["bug"], "answer": "accept"}, line)


def test_text_of_two_rows_does_not_name_one(tmp_path: Path) -> None:
    known = Answerable({"a": ("same",), "b": ("same",)}, CLASSES)
    with pytest.raises(AnswerError, match="it has no dal_id, and 2 rows have its text"):
        read(tmp_path, {"text": "same", "answer": "ignore"}, known=known)


def test_line_that_is_no_json_is_named(tmp_path: Path) -> None:
    path = tmp_path / "out.jsonl"
    path.write_text('{"text": "one"}\n{"text": \n')
    with pytest.raises(DataError, match=r"out.jsonl, line 2 is not JSON"):
        read_prodigy(path, KNOWN)
