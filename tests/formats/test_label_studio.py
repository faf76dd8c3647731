"""Label Studio: the labeling config, the tasks, and what its export says; no server is needed."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dal.errors import AnswerError, ConfigError
from dal.formats.corpus import Corpus, CorpusAnswer, CorpusRow
from dal.formats.exported_answers import mark_of
from dal.formats.foreign_answers import Answerable
from dal.formats.label_studio import Ranking, choices, labeling_config, tasks, tasks_text
from dal.formats.label_studio_export import read_label_studio
from dal.store.events import SKIP

RECORDED = Path(__file__).parents[1] / "data" / "label_studio" / "1.23.2"
CLASSES = ("none", "mild", "severe")
KNOWN = Answerable({"r1": ("one",), "r2": ("two",)}, CLASSES)
SEVERAL = Answerable(KNOWN.texts, CLASSES, multilabel=True)


def test_config_holds_class_names_that_xml_would_change() -> None:
    names = ["a & b", "<none>", "x|y;z", 'a "quote"', "it's", "two\nlines", " spaces ", "\U0001f600", "עברית"]
    root = ElementTree.fromstring(labeling_config(names, multilabel=True, pairs=True))
    assert [choice.get("value") for choice in root.iter("Choice")] == names
    assert root.find("Choices").attrib == {"name": "label", "toName": "text", "choice": "multiple", "required": "false"}
    assert [text.attrib for text in root.findall("Text")] == [
        {"name": "text", "value": "$text"},
        {"name": "text_pair", "value": "$text_pair"},
    ]


def test_config_of_one_class_per_text_demands_a_choice() -> None:
    choices = ElementTree.fromstring(labeling_config(["a", "b"])).find("Choices")
    assert (choices.get("choice"), choices.get("required")) == ("single", "true")


@given(
    st.lists(st.text(st.sampled_from("$ab[.{} "), min_size=1, max_size=5).filter(str.strip), min_size=1, unique=True)
)
def test_no_class_name_is_taken_for_a_variable(names: list[str]) -> None:
    found = list(ElementTree.fromstring(labeling_config(names)).iter("Choice"))
    assert [choice.get("alias") or choice.get("value") for choice in found] == names
    for choice in found:  # the pattern with which the program finds variables
        assert all(following not in "ab[.{}" for following in following_dollars(choice.get("value")))


def following_dollars(text: str) -> list[str]:
    return [text[place + 1] for place in range(len(text) - 1) if text[place] == "$"]


def test_class_with_a_control_character_is_refused() -> None:
    with pytest.raises(ConfigError, match="control character"):
        labeling_config(["a\x01"])


def test_no_classes_are_refused() -> None:
    with pytest.raises(ConfigError, match="no classes"):
        labeling_config([])


def test_tasks_are_ranked_by_ascending_scores_and_suggest_nothing() -> None:
    rows = [CorpusRow(f"r{n}", f"t{n}", state="pending", fields={"year": 1990 + n}) for n in range(4)]
    made = tasks(Corpus(rows, CLASSES), Ranking(["r2", "r0"], "dal 3 Margin"))
    assert [task["data"]["dal_id"] for task in made] == ["r2", "r0", "r1", "r3"]
    predictions = [task.get("predictions") for task in made]
    assert predictions[0] == [{"model_version": "dal 3 Margin", "score": 0.5, "result": []}]
    assert predictions[1][0]["score"] == 1.0
    assert predictions[2:] == [None, None]
    assert made[0]["data"] == {"dal_id": "r2", "text": "t2", "year": 1992}


def test_foreign_columns_do_not_replace_the_text() -> None:
    fields = {"text": "another", "dal_id": 5, "fields.text": "a third"}
    (task,) = tasks(Corpus([CorpusRow("r", "own", "pair", fields=fields)], CLASSES))
    assert task["data"] == {
        "dal_id": "r",
        "text": "own",
        "text_pair": "pair",
        "fields.text": "another",
        "fields.dal_id": 5,
        "fields.fields.text": "a third",
    }


def test_answers_are_annotations() -> None:
    given = (CorpusAnswer(("mild",), seconds=2.0, stands=True), CorpusAnswer(None))
    (task,) = tasks(Corpus([CorpusRow("r", "t", state="answered", answers=given)], CLASSES))
    marks = [mark_of("r", answer) for answer in given]
    assert task["annotations"] == [
        {
            "id": marks[0],
            "result": [choices(["mild"])],
            "was_cancelled": False,
            "ground_truth": False,
            "lead_time": 2.0,
        },
        {"id": marks[1], "result": [], "was_cancelled": True, "ground_truth": False},
    ]


def test_task_file_is_json_with_a_task_in_each_line() -> None:
    text = tasks_text(Corpus([CorpusRow("a", "x\ny"), CorpusRow("b", "\u2028")], CLASSES))
    assert [task["data"]["dal_id"] for task in json.loads(text)] == ["a", "b"]
    assert len(text.split("\n")) == 5


# -- reading ---------------------------------------------------------------------------------------------------------


def annotation(*names: str, **more: Any) -> dict[str, Any]:
    result = [choices(names)] if names else []
    return {"id": 7, "completed_by": 1, "result": result, "was_cancelled": False, "lead_time": 1.5} | more


def task(*annotations: Mapping[str, Any], row: str = "r1", text: str = "one", **more: Any) -> dict[str, Any]:
    return {"id": 31, "data": {"dal_id": row, "text": text}, "annotations": list(annotations)} | more


def read(tmp_path: Path, *given: Any, known: Answerable = KNOWN) -> list[tuple[str, Any, str]]:
    path = tmp_path / "export.json"
    path.write_text(json.dumps(list(given)), "utf-8")
    return [(answer.row, answer.value, answer.who) for answer in read_label_studio(path, known).answers]


def test_cancelled_annotation_declines_whatever_its_result_is(tmp_path: Path) -> None:
    assert read(tmp_path, task(annotation("mild", was_cancelled=True))) == [("r1", SKIP, "label-studio:1")]
    assert read(tmp_path, task(annotation("no class", was_cancelled=True))) == [("r1", SKIP, "label-studio:1")]


def test_empty_result_is_no_class_when_multilabel_and_a_mistake_otherwise(tmp_path: Path) -> None:
    assert read(tmp_path, task(annotation()), known=SEVERAL) == [("r1", [], "label-studio:1")]
    with pytest.raises(AnswerError, match="task 31: no choice instead of one class"):
        read(tmp_path, task(annotation()))


def test_several_annotations_are_several_people(tmp_path: Path) -> None:
    given = task(annotation("mild"), annotation("severe", completed_by={"id": 2, "email": "ben@x"}))
    assert read(tmp_path, given) == [("r1", "mild", "label-studio:1"), ("r1", "severe", "ben@x")]


def test_several_tasks_of_one_row_are_several_answers(tmp_path: Path) -> None:
    given = task(annotation("mild")), task(annotation("severe", completed_by=2), id=32)
    assert read(tmp_path, *given) == [("r1", "mild", "label-studio:1"), ("r1", "severe", "label-studio:2")]


def test_latest_of_a_persons_annotations_counts(tmp_path: Path) -> None:
    new, old = (annotation(name, updated_at=f"2026-01-0{day}T00:00:00Z") for name, day in (("mild", 2), ("none", 1)))
    assert read(tmp_path, task(new, old)) == [("r1", "mild", "label-studio:1")]
    assert read(tmp_path, task(old), task(new)) == [("r1", "mild", "label-studio:1")]


def test_time_and_comment_are_read(tmp_path: Path) -> None:
    path = tmp_path / "export.json"
    comment = {"from_name": "why", "to_name": "text", "type": "textarea", "value": {"text": ["unsure"]}}
    made = annotation("mild", created_at="2026-01-01T00:00:00Z")
    path.write_text(json.dumps([task({**made, "result": [*made["result"], comment]})]))
    (answer,) = read_label_studio(path, KNOWN).answers
    assert (answer.seconds, answer.at, answer.note) == (1.5, 1767225600.0, "unsure")


def test_classes_come_in_the_order_of_the_classes(tmp_path: Path) -> None:
    assert read(tmp_path, task(annotation("severe", "none")), known=SEVERAL)[0][1] == ["none", "severe"]


def test_tasks_without_an_annotation_are_counted(tmp_path: Path) -> None:
    path = tmp_path / "export.json"
    path.write_text(json.dumps([task(), task(annotation("mild"), row="r2", text="two")]))
    assert read_label_studio(path, KNOWN).empty == 1


WRONG = {
    "unknown class": (task(annotation("sever")), "'sever' is not a class; did you mean 'severe'"),
    "two classes": (task(annotation("mild", "none")), "'mild' and 'none' instead of one class"),
    "unknown row": (task(annotation("mild"), row="r9"), "there is no row 'r9'"),
    "row id that is a number": (task(annotation("mild"), row=1), "there is no row 1"),
    "no dal_id": ({"id": 31, "data": {"text": "one"}, "annotations": []}, "its data has no dal_id"),
    "another text": (task(annotation("mild"), text="two"), "its text is not that of the row 'r1', 'one'"),
    "wrong control": (
        task(annotation(result=[choices(["mild"]) | {"from_name": "topic"}])),
        "from_name of its result is 'topic', not 'label'",
    ),
    "wrong object": (
        task(annotation(result=[choices(["mild"]) | {"to_name": "text_pair"}])),
        "to_name of its result is 'text_pair', not 'text'",
    ),
    "wrong type": (
        task(annotation(result=[choices(["mild"]) | {"type": "labels"}])),
        "type of its result is 'labels', not 'choices'",
    ),
    "no list": (task(annotation(result=[choices(["mild"]) | {"value": {"choices": "mild"}}])), "choices are 'mild'"),
    "nested choice": (task(annotation(result=[choices([["mild"]])])), "is not a class"),  # type: ignore[list-item]
    "no value": (task(annotation(result=[choices([]) | {"value": None}])), "choices are None"),
    "two results": (task(annotation(result=[choices(["mild"])] * 2)), "2 choices of the control 'label'"),
    "no result": (task(annotation(result=None)), "its result is not a list"),
    "cancelled in words": (task(annotation("mild", was_cancelled="no")), "was_cancelled is 'no'"),
    "annotations that are none": (task(annotations=5), "its annotations are not a list"),
    "no data": ({"id": 31}, "it has no data"),
}


@pytest.mark.parametrize("case", WRONG)
def test_wrong_task_is_listed_and_the_others_are_too(tmp_path: Path, case: str) -> None:
    given, message = WRONG[case]
    other = task(annotation("worse"), row="r2", text="two", id=32)
    with pytest.raises(AnswerError) as raised:
        read(tmp_path, given, other)
    lines = str(raised.value).splitlines()
    assert lines[0].endswith("has 2 mistakes; nothing was stored")
    assert message in lines[1]
    assert lines[1].startswith("  task 31")
    assert "task 32: 'worse' is not a class" in lines[2]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("[", "is not JSON"),
        ("{}", "is a list of tasks: export the project as JSON"),
        ("[5]", "is a list of tasks"),
        ('[{"id": 1, "dal_id": "r1", "text": "one", "label": "mild"}]', "JSON-MIN export, which leaves out skipped"),
        ("[" * 100 + "]" * 100, "nested deeper"),
    ],
)
def test_file_of_another_form_is_refused(tmp_path: Path, content: str, message: str) -> None:
    path = tmp_path / "export.json"
    path.write_text(content)
    with pytest.raises(AnswerError, match=message):
        read_label_studio(path, KNOWN)


# -- recorded from a real server -------------------------------------------------------------------------------------


def recorded(name: str) -> Answerable:
    """What the recorded project was made of, read from the files that were imported into it."""
    config = ElementTree.fromstring((RECORDED / f"{name}.config.xml").read_text("utf-8"))
    imported = json.loads((RECORDED / f"{name}.tasks.json").read_bytes())
    classes = [choice.get("alias") or str(choice.get("value")) for choice in config.iter("Choice")]
    texts = {each["data"]["dal_id"]: (each["data"]["text"],) for each in imported}
    return Answerable(texts, classes, config.find("Choices").get("choice") == "multiple")


@pytest.mark.parametrize("name", ["single", "several"])
def test_recorded_export_has_the_answers_that_were_given(name: str) -> None:
    known = recorded(name)
    read = read_label_studio(RECORDED / f"{name}.json.json", known)
    bar = "/" if name == "several" else "|"
    assert known.classes == [f"a & b{bar}c;d", "<none>", "US$100", 'severe "x"']
    found = {answer.row: answer.value for answer in read.answers}
    for number in range(10):
        expected = known.classes[: number % 4] if name == "several" else known.classes[number % 4]
        assert found[f"r{number}"] == expected
    assert found["r10"] is SKIP
    assert found["r11"] is SKIP  # with a choice that had been made before
    assert {answer.seconds for answer in read.answers} == {2.5}


@pytest.mark.parametrize("name", ["single", "several"])
def test_recorded_short_export_is_refused(name: str) -> None:
    with pytest.raises(AnswerError, match="JSON-MIN"):
        read_label_studio(RECORDED / f"{name}.json_min.json", recorded(name))


def test_recorded_payloads_hold_no_token() -> None:
    for path in RECORDED.iterdir():
        text = path.read_text("utf-8").lower()
        assert "token" not in text
        assert "password" not in text
