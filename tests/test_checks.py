"""Draws and their answers, as they are kept."""

from pathlib import Path

import pytest

from dal.checks import Check, read_checks
from dal.errors import SessionError
from dal.events import SKIP

CHECK = Check(2, 30, 41, 100, 0.5, ("a", "b", "c"), (0.1, 0.2, 1 / 3), ("x", "y", "x"))
SEVERAL = Check(1, 3, 4, 9, 1.0, ("a", "b", "c"), (0.1, 0.2, 0.3), ((), ("x", "y"), ("x",)))


def test_checks_are_read_as_they_were_saved(tmp_path: Path) -> None:
    told = CHECK.told({"a": "x", "b": SKIP})
    told.save(tmp_path)
    SEVERAL.told({"a": ()}).save(tmp_path)
    assert read_checks(tmp_path) == [SEVERAL.told({"a": ()}), told]
    assert read_checks(tmp_path / "elsewhere") == []


def test_rows_are_answered_in_the_order_of_drawing() -> None:
    assert CHECK.answered == 0
    assert CHECK.told({"b": "y", "c": "x"}).answered == 0
    assert CHECK.told({"b": "y", "c": "x"}).told({"a": "x"}).answered == 3


def test_a_declined_row_is_not_right_and_several_classes_have_no_order() -> None:
    assert CHECK.told({"a": "x", "b": SKIP, "c": "y"}).right == [True, False, False]
    assert SEVERAL.told({"a": (), "b": ("y", "x"), "c": ("x", "y")}).right == [True, True, False]
    assert SEVERAL.told({"a": SKIP}).right == [False]


@pytest.mark.parametrize("content", ["{", "{}", '{"number": 1}', "[]"])
def test_a_file_that_is_no_check_is_named(content: str, tmp_path: Path) -> None:
    (tmp_path / "checks").mkdir()
    (tmp_path / "checks" / "1.json").write_text(content)
    with pytest.raises(SessionError, match=r"1\.json cannot be read"):
        read_checks(tmp_path)
