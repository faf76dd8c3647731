"""Choice of classes by keys, with few and many classes, one and several a text."""

from typing import Any

from dal.annotate.class_choice import ClassChoice


def classes(*names: str, **letters: str) -> list[dict[str, Any]]:
    return [{"id": n, "name": name, "letter": letters.get(name)} for n, name in enumerate(names)]


THREE = classes("none", "mild", "severe", severe="x")
MANY = classes(*(f"class {chr(97 + n)}" for n in range(12)), "type 2", "Résumé")


def press(choice: ClassChoice, *keys: str) -> list[int] | None:
    found = None
    for key in keys:
        assert found is None, "a key after the answer"
        found = choice.key(key)
    return found


def test_digit_or_letter_answers() -> None:
    assert press(ClassChoice(THREE, multilabel=False), "2") == [1]
    assert press(ClassChoice(THREE, multilabel=False), "x") == [2]
    for key in ("0", "4", "y", "enter", "X", "²"):
        assert press(ClassChoice(THREE, multilabel=False), key) is None


def test_several_classes_are_toggled_and_enter_commits() -> None:
    assert press(ClassChoice(THREE, multilabel=True), "3", "1", "3", "2", "enter") == [0, 1]


def test_no_class_needs_enter_twice() -> None:
    choice = ClassChoice(THREE, multilabel=True)
    assert press(choice, "enter") is None
    assert choice.warning
    assert press(choice, "enter") == []
    choice = ClassChoice(THREE, multilabel=True)
    assert press(choice, "enter", "1", "1", "enter") is None  # a toggle in between starts over


def test_earlier_answer_is_shown_and_selected_when_multilabel() -> None:
    answer = {"classes": [2], "skipped": False}
    assert press(ClassChoice(THREE, multilabel=True, answer=answer), "1", "enter") == [0, 2]
    single = ClassChoice(THREE, multilabel=False, answer=answer)
    assert single.marked == {2}
    assert press(single, "enter") is None  # shown, not selected


def test_letters_search_and_enter_takes_the_best_match() -> None:
    choice = ClassChoice(MANY, multilabel=False)
    assert choice.best == -1
    assert press(choice, "enter") is None  # nothing is marked before something is typed
    assert press(choice, *"resume", "enter") == [13]
    assert press(ClassChoice(MANY, multilabel=False), *"class", " ", "c", "1") == [2]
    assert press(ClassChoice(MANY, multilabel=False), *"'2", "enter") == [12]
    assert press(ClassChoice(MANY, multilabel=False), *"cla", "down", "down", "up", "enter") == [1]
    assert press(ClassChoice(MANY, multilabel=False), "z", "z", "enter") is None


def test_escape_and_backspace_edit_the_search() -> None:
    choice = ClassChoice(MANY, multilabel=False)
    press(choice, *"type", "backspace")
    assert choice.typed == "typ"
    press(choice, "escape")
    assert (choice.typed, len(choice.shown), choice.best) == ("", 14, -1)


def test_latest_classes_come_first_where_letters_search() -> None:
    choice = ClassChoice(MANY, multilabel=False, recent=[12, 3])
    assert [each["id"] for each in choice.shown[:4]] == [12, 3, 0, 1]
    assert [each["id"] for each in ClassChoice(THREE, multilabel=False, recent=[2]).shown] == [0, 1, 2]


def test_capital_is_the_letter_of_a_class_where_letters_search() -> None:
    bound = classes(*(f"class {chr(97 + n)}" for n in range(12)), **{"class b": "t"})
    assert press(ClassChoice(bound, multilabel=False), "T") == [1]
    assert press(ClassChoice(bound, multilabel=False), "t") is None
