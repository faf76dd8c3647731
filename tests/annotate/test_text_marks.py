"""Texts in a terminal: marks of invisible characters, widths, and lines."""

import unicodedata

import pytest

from dal.annotate.text_marks import cells, cut, marked, marked_lines, width, wrapped


def lines(text: str, columns: int) -> list[str]:
    return ["".join(cell.text for cell in line) for line in wrapped(cells(text), columns)]


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("a\x1b[2Jb", "a[ESC][2Jb"),
        ("evil \u202etxt.exe", "evil [RLO]txt.exe"),
        ("zero\u200bwidth \ufeff", "zero[ZWSP]width [BOM]"),
        ("a\x00b\x9bc", "a[NUL]b[U+009B]c"),
        ("tag \U000e0041", "tag [U+E0041]"),
        ("half \ud800", "half [U+D800]"),
        ("👩\u200d🔬 stays", "👩\u200d🔬 stays"),
        ("می\u200cخواهم", "می\u200cخواهم"),
        ("a\u200cb", "a[ZWNJ]b"),
        ("❤\ufe0f", "❤\ufe0f"),
        ("a\tb", "a b"),
    ],
)
def test_invisible_characters_are_marks_and_joiners_at_work_are_not(text: str, shown: str) -> None:
    assert marked(text) == shown


def test_line_breaks_of_every_kind_break_lines() -> None:
    assert marked_lines("a\r\nb\nc\rd\u2028e") == "a\nb\nc[U+000D]\nd[LS]\ne"


def test_no_cell_holds_a_control_character() -> None:
    every = "".join(map(chr, range(0x3000))) + "".join(map(chr, range(0xD800, 0xE000))) + "\U000e0001\ufeff"
    for cell in cells(every):
        kinds = {unicodedata.category(char) for char in cell.text if char not in "\u200c\u200d"}  # joiners at work
        assert not kinds & {"Cc", "Cf", "Cs", "Zl", "Zp"}, repr(cell)


def test_what_the_model_does_not_read_has_its_own_style() -> None:
    styles = [(cell.text, cell.style) for cell in cells("abc\u200bd", 2)]
    assert styles == [("a", ""), ("b", ""), ("c", "unread"), ("[ZWSP]", "mark"), ("d", "unread")]


def test_lines_are_broken_between_words_and_long_words_anywhere() -> None:
    assert lines("the patient had a rash", 11) == ["the patient", "had a rash"]
    assert lines("a pneumonoultramicroscopic b", 10) == ["a ", "pneumonoul", "tramicrosc", "opic b"]
    assert lines("one\n\ntwo", 10) == ["one", "", "two"]
    assert lines("", 10) == [""]


@pytest.mark.parametrize(
    "text", ["日本語の文章は空白がない", "e\u0301" * 30, "a\u202e" * 20, "word " * 30, "👩\u200d🔬" * 9]
)
def test_no_line_is_wider_than_the_screen_and_nothing_is_lost(text: str) -> None:
    for columns in (6, 7, 20):
        found = wrapped(cells(text), columns)
        assert all(sum(cell.width for cell in line) <= columns for line in found)
        shown = "".join(cell.text for line in found for cell in line).replace(" ", "")
        assert shown == marked(text).replace(" ", "")


def test_cut_keeps_to_the_width() -> None:
    assert cut("日本語の文章", 7) == "日本..."
    assert cut("short", 7) == "short"
    assert width(cut("x" * 50, 20)) == 20
