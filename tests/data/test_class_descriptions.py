"""Descriptions of classes: names made readable, names that are codes, and the texts that a user gives."""

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dal.config.build import build
from dal.config.settings_tree import Node, options, read
from dal.data import Rows, Splits, TextData
from dal.data.class_descriptions import class_descriptions, is_code, is_remainder, readable
from dal.errors import ConfigError, DataError

TEXTS = [f"text {i} about {'fees' if i % 2 else 'cards'}" for i in range(24)]
LABELS = ["fee_charged" if i % 2 else "lostCard" for i in range(24)]
CLASSES = ("fee_charged", "lostCard")
GIVEN = {"fee_charged": ["fees", "charges"]}
DESCRIBED = (("fees", "charges"), ())
DESCRIPTIONS = (("fees", "charges"), ("lost card",))


@pytest.fixture(autouse=True)
def _in_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    lines = [json.dumps({"text": text, "label": label}) for text, label in zip(TEXTS, LABELS, strict=True)]
    Path("texts.jsonl").write_text("\n".join(lines))


# -- names -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("card_arrival", "card arrival"),
        ("cardArrival", "card arrival"),
        ("card-arrival", "card arrival"),
        ("REFUND-REQ", "refund req"),
        ("Business", "Business"),
        ("Sci/Tech", "Sci Tech"),
        ("HUM:ind", "HUM ind"),
        ("AIDS", "AIDS"),
        ("HTMLParser", "HTML parser"),
        ("refundREQ", "refund REQ"),
        ("iPhone", "iPhone"),
        ("v2.0__beta", "v2.0 beta"),
        ("2020-21", "2020-21"),
        ("C++", "C++"),
        ("ÉCOLE_NORMALE", "école normale"),
        ("grüneKarte", "grüne karte"),
        ("情報_技術", "情報 技術"),
        ("e\u0301te\u0301", "été"),
        ("--", "--"),
        ("", ""),
    ],
)
def test_names_are_made_readable(name: str, expected: str) -> None:
    assert readable(name) == expected


@pytest.mark.parametrize(
    "name", ["3", "B2", "C_01", "LABEL_7", "x", "", "class A", "topic-3", "CS101", "-1", "24/7", "??", "ж"]
)
def test_names_that_are_codes_are_recognised(name: str) -> None:
    assert is_code(name)


@pytest.mark.parametrize(
    "name",
    [
        *("hum", "AIDS", "ham", "Berlin", "C++", "C#", "R&D", "non-spam", "情報", "猫", "हिंदी", "👍"),
        *("covid19", "COVID19", "top10", "level 3", "topic 3: sports", "label", "no", "US"),
    ],
)
def test_names_that_say_something_are_not_codes(name: str) -> None:
    assert not is_code(name)


@pytest.mark.parametrize(
    "name",
    [
        *("other", "Others", "OTHER", "misc.", "Miscellaneous", "none", "None of the above", "unknown", "Unclassified"),
        *(
            "other_topics",
            "class: other",
            "otherCategory",
            "other/unknown",
            "N/A",
            "something else",
            "Sonstiges",
            "autres",
        ),
    ],
)
def test_name_of_a_remainder_describes_nothing_next_to_descriptions_of_other_classes(name: str) -> None:
    assert is_remainder(name)
    assert class_descriptions(["sports", "art", name], {"sports": "games and teams"}) == (
        ("games and teams",),
        ("art",),
        (),
    )
    assert class_descriptions(["sports", name])[1] == (readable(name),)  # bare names of all classes are alike
    assert class_descriptions(["sports", name], {name: "small talk"}, "About {}.") == (
        ("About sports.",),
        ("small talk",),
    )


@pytest.mark.parametrize(
    "name", ["other income", "unknown sender", "nonexistent", "another", "no", "neutral", "rest", "topic", "", "7"]
)
def test_names_that_say_more_than_a_remainder_are_none(name: str) -> None:
    assert not is_remainder(name)


@given(st.text(max_size=20))
def test_any_name_has_a_readable_form_on_one_line(name: str) -> None:
    words = readable(name)
    assert words == words.strip()
    assert bool(words) == bool(name.strip())
    assert len(words.splitlines()) <= 1
    assert isinstance(is_code(name), bool)


# -- texts of classes ------------------------------------------------------------------------------------------------


def test_a_class_has_the_given_texts_or_its_readable_name_and_a_code_has_none() -> None:
    classes = ["cardArrival", "fee", "B2", "7"]
    assert class_descriptions(classes) == (("card arrival",), ("fee",), (), ())
    found = class_descriptions(classes, {"fee": "  charges ", 7: ["seven", "seven", "a week"]})
    assert found == (("card arrival",), ("charges",), (), ("seven", "a week"))


def test_the_template_is_for_names_and_leaves_given_texts_as_they_are() -> None:
    found = class_descriptions(["cardArrival", "fee", "B2"], {"fee": "about {} and fees"}, "This is about {}!")
    assert found == (("This is about card arrival!",), ("about {} and fees",), ())
    assert class_descriptions(["any {} fee"], template="<{}>") == (("<any {} fee>",),)


@pytest.mark.parametrize(
    ("descriptions", "message"),
    [
        (
            {"fee_chargd": "x"},
            "descriptions: 'fee_chargd' is not one of the classes fee_charged, lostCard; did you mea",
        ),
        ({"lostCard": " \n"}, "descriptions: the description of 'lostCard' is empty"),
        ({"lostCard": []}, "descriptions: the description of 'lostCard' is empty"),
        ({"lostCard": ["a", ""]}, "descriptions: the description of 'lostCard' is empty"),
        ({"lostCard": 3}, "descriptions: 'lostCard' takes a text or a list of texts, not 3"),
        ({"lostCard": "a", "lostCard ": "b"}, "descriptions: the class 'lostCard' is given twice"),
        ({"lostCard": "\ud800"}, "descriptions: the description of 'lostCard' holds half of a surrogate pair"),
        ({("a",): "b"}, r"descriptions: \('a',\) is not a class name"),
        ({None: "b"}, "descriptions: None is not a class name"),
        ([("lostCard", "a")], "descriptions: expected texts by class, or the path of a file, not"),
        ("{lostCard: {a: b}}", "descriptions: '{lostCard: {a: b}}' is not texts by class"),
    ],
)
def test_wrong_descriptions_are_one_line(descriptions: Any, message: str) -> None:
    with pytest.raises(DataError, match=message) as raised:
        TextData.from_lists(TEXTS, LABELS, descriptions=descriptions)
    assert "\n" not in str(raised.value)
    with pytest.raises(DataError, match=message):
        Rows.from_inputs(TEXTS, LABELS, descriptions=descriptions)


def test_composed_and_decomposed_names_are_one_class() -> None:
    rows = Rows.from_inputs(["a", "b"], ["été", "hiver"], descriptions={"e\u0301te\u0301": "summer"})
    assert rows.described == ((), ("summer",)) or rows.described == (("summer",), ())
    with pytest.raises(DataError, match="the class 'été' is given twice"):
        class_descriptions(["été"], {"été": "a", "e\u0301te\u0301": "b"})


@pytest.mark.parametrize("template", ["no name", "{} and {}", "", 3])
def test_a_template_has_one_place_for_the_name(template: Any) -> None:
    with pytest.raises(DataError, match=r"description_template: .* must have one \{\}"):
        TextData("texts.jsonl", description_template=template)


def test_descriptions_without_classes_say_that_classes_are_missing() -> None:
    with pytest.raises(DataError, match="'fee' is not a class: name the classes with `classes`"):
        TextData.from_lists(TEXTS, descriptions={"fee": "x"})


# -- rows and splits -------------------------------------------------------------------------------------------------


def test_all_parts_of_the_data_have_the_same_descriptions() -> None:
    data = TextData("texts.jsonl", test=0.25, validation=0.25, limit=6, descriptions=GIVEN)
    splits = data.load()
    assert splits.test is not None
    assert splits.validation is not None
    for part in (splits.pool, splits.test, splits.validation, splits.pool.take([1, 0])):
        assert (part.classes, part.described, part.descriptions) == (CLASSES, DESCRIBED, DESCRIPTIONS)
        assert len(part.descriptions) == len(part.classes)


def test_a_pool_without_labels_takes_classes_and_descriptions_with_those_of_the_test() -> None:
    splits = TextData.from_lists(["one", "two"], test=(TEXTS, LABELS), descriptions=GIVEN, description_template="A {}.")
    assert splits.test is not None
    assert splits.pool.described == splits.test.described == DESCRIBED
    assert splits.pool.descriptions == splits.test.descriptions == (("fees", "charges"), ("A lost card.",))


def test_data_without_descriptions_has_the_names() -> None:
    rows = TextData("texts.jsonl").load().pool
    assert rows.described == ((), ())
    assert rows.descriptions == (("fee charged",), ("lost card",))
    assert Rows.from_inputs(["a", "b"]).descriptions == ()


def test_as_many_descriptions_as_classes_are_needed() -> None:
    rows = Rows.from_inputs(["a", "b"], ["x", "y"])
    with pytest.raises(DataError, match="descriptions and classes differ in number: 1 and 2"):
        Rows(rows.inputs, rows.ids, rows.labels, rows.known, rows.classes, described=(("one",),))


def test_descriptions_change_neither_ids_nor_parts_nor_the_keys_of_cached_work() -> None:
    def parts(**given: Any) -> list[Any]:
        splits: Splits = TextData("texts.jsonl", test=0.25, validation=0.25, limit=6, seed=3, **given).load()
        rows = [splits.pool, splits.test, splits.validation]
        return [(list(part.ids), part.labels.tolist(), part.fingerprint) for part in rows if part is not None]

    assert parts() == parts(descriptions=GIVEN, description_template="This text is about {}.")


# -- files -----------------------------------------------------------------------------------------------------------

LINES = [("fee_charged", "fees"), ("lostCard", "cards that were lost, or stolen"), ("fee_charged", "charges")]


def write_classes(name: str, column: str) -> None:
    if name.endswith(".jsonl"):
        text = "\n".join(json.dumps({column: key, "description": text}) for key, text in LINES)
    else:
        mark = "\t" if name.endswith(".tsv") else ","
        quote = "" if mark == "\t" else '"'
        text = f"{column}{mark}description\n" + "".join(f"{key}{mark}{quote}{text}{quote}\n" for key, text in LINES)
    Path(name).write_text(text)


@pytest.mark.parametrize("name", ["classes.csv", "classes.tsv", "classes.jsonl"])
@pytest.mark.parametrize("column", ["class", "label", "name"])
def test_descriptions_are_read_from_a_file(name: str, column: str) -> None:
    write_classes(name, column)
    expected = (("fees", "charges"), ("cards that were lost, or stolen",))
    for path in (name, Path(name)):
        assert TextData("texts.jsonl", descriptions=path).load().pool.described == expected  # type: ignore[arg-type]
        assert Rows.from_inputs(TEXTS, LABELS, descriptions=path).described == expected


def test_names_of_classes_that_are_numbers_are_read_from_a_file() -> None:
    Path("classes.csv").write_text("class,description\n1,one\n0,none\n")
    Path("classes.jsonl").write_text('{"class": 1, "description": "one"}\n{"class": 0, "description": "none"}\n')
    for name in ("classes.csv", "classes.jsonl"):
        rows = Rows.from_inputs(["a", "b"], [0, 1], descriptions=name)
        assert rows.descriptions == (("none",), ("one",))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("class,description\nfee_charged,x\nlostCrd,y\n", "^classes.csv: 'lostCrd' is not one of .* 'lostCard'"),
        ("class,description\nfee_charged,x\nlostCard,\n", "row 2 .line 3., column 'description' is empty"),
        ("class,description\n,x\n", "row 1 .line 2., column 'class' is empty"),
        ("klass,description\nlostCard,x\n", "has no column of the class: name it 'class' or 'label' or 'name'"),
        ("class,text\nlostCard,x\n", "classes.csv has no column 'description'"),
        ("", "classes.csv is empty"),
    ],
)
def test_wrong_lines_of_a_file_are_named(text: str, message: str) -> None:
    Path("classes.csv").write_text(text)
    with pytest.raises(DataError, match=message):
        TextData("texts.jsonl", descriptions="classes.csv").load()


@pytest.mark.parametrize(
    ("path", "message"),
    [
        ("clases.csv", "descriptions: clases.csv does not exist; did you mean 'classes.csv'?"),
        ("demo", "descriptions: demo does not exist"),
        (".", r"descriptions: \. is not a file"),
        (" ", "descriptions is empty"),
    ],
)
def test_a_path_that_is_no_file_is_refused(path: str, message: str) -> None:
    write_classes("classes.csv", "class")
    with pytest.raises(DataError, match=message):
        TextData("texts.jsonl", descriptions=path).load()


# -- configs ---------------------------------------------------------------------------------------------------------


def described(*pairs: tuple[str, str], config: str = "path: texts.jsonl\n") -> tuple[tuple[str, ...], ...]:
    Path("data.yaml").write_text(config)
    data, _ = build(TextData, read(Path("data.yaml")), options(list(pairs)))
    return data.load().pool.described


def test_descriptions_come_from_a_config() -> None:
    inline = "path: texts.jsonl\ndescriptions:\n  fee_charged: [fees, charges]\n"
    assert described(config=inline) == DESCRIBED
    write_classes("classes.csv", "class")
    assert described(config="path: texts.jsonl\ndescriptions: classes.csv\n")[0] == ("fees", "charges")
    numbers = "path: texts.jsonl\nlabel: null\nclasses: ['3', 'no']\ndescriptions: {3: 4, no: never}\n"
    assert described(config=numbers) == (("4",), ("never",))


def test_descriptions_come_from_the_command_line() -> None:
    assert described(("descriptions", '{fee_charged: "fees, charges"}')) == (("fees, charges",), ())
    assert described(("descriptions", "{fee_charged: [fees, charges]}")) == DESCRIBED
    write_classes("classes.csv", "class")
    assert described(("descriptions", "classes.csv"))[0] == ("fees", "charges")
    assert described(("descriptions.fee_charged", "fees, charges")) == (("fees, charges",), ())
    inline = "path: texts.jsonl\ndescriptions: {fee_charged: fees}\n"
    assert described(("descriptions.lostCard", "cards"), config=inline) == (("fees",), ("cards",))


def test_option_inside_a_text_is_still_refused() -> None:
    with pytest.raises(ConfigError, match=r"descriptions takes .*; it has no option 'fee_charged'"):
        described(("descriptions.fee_charged", "fees"), config="path: texts.jsonl\ndescriptions: classes.csv\n")
    with pytest.raises(ConfigError, match=r"classes takes .*; it has no option 'x'"):
        build(TextData, Node({"path": Node("texts.jsonl")}), options([("classes.x", "1")]))
