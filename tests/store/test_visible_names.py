"""Names that cannot be seen, and names between which people see no difference."""

import pytest

from dal.store.visible_names import alike, is_visible, name_form


@pytest.mark.parametrize(
    "text",
    ["", " ", "\t\n", "\u200b", "\u00ad\u2060", "\u3164", "\u115f", "\u2800", "\ufe0f", "\U000e0041", "\x1b", "\ud800"],
)
def test_text_without_a_character_that_shows_is_not_visible(text: str) -> None:
    assert not is_visible(text)
    assert is_visible(f"a{text}")


@pytest.mark.parametrize(
    "text", ["0", "-", "\u0e01\u0e33", "\u200f\u05d0", "\U0001f468\u200d\U0001f469", "\u2801", "\u0301"]
)
def test_letters_marks_signs_and_pictures_are_visible(text: str) -> None:
    assert is_visible(text)


def test_forms_differ_for_names_that_look_different() -> None:
    assert name_form("a\tb") == name_form("A b") != name_form("ab")
    assert name_form("mi\u200bld \u3164") == name_form("mild")
    assert alike(["mild", "severe", "Mild", "severe\ufe0f"]) == [("Mild", "mild"), ("severe\ufe0f", "severe")]
