"""Draws and their answers, as they are kept."""

import json
import os
from pathlib import Path

import pytest

from dal.errors import SessionError
from dal.store.accuracy_samples import AccuracySample, read_checks
from dal.store.events import SKIP

CHECK = AccuracySample(2, 30, 41, 100, 0.5, ("a", "b", "c"), (0.1, 0.2, 1 / 3), ("x", "y", "x"))
SEVERAL = AccuracySample(1, 3, 4, 9, 1.0, ("a", "b", "c"), (0.1, 0.2, 0.3), ((), ("x", "y"), ("x",)))


def test_checks_are_read_as_they_were_saved(tmp_path: Path) -> None:
    told = CHECK.with_answers({"a": "x", "b": SKIP})
    told.save(tmp_path)
    SEVERAL.with_answers({"a": ()}).save(tmp_path)
    assert read_checks(tmp_path) == [SEVERAL.with_answers({"a": ()}), told]
    assert read_checks(tmp_path / "elsewhere") == []


def test_rows_are_answered_in_the_order_of_drawing() -> None:
    assert CHECK.answered == 0
    assert CHECK.with_answers({"b": "y", "c": "x"}).answered == 0
    assert CHECK.with_answers({"b": "y", "c": "x"}).with_answers({"a": "x"}).answered == 3


def test_a_declined_row_is_not_right_and_several_classes_have_no_order() -> None:
    assert CHECK.with_answers({"a": "x", "b": SKIP, "c": "y"}).right == [True, False, False]
    assert SEVERAL.with_answers({"a": (), "b": ("y", "x"), "c": ("x", "y")}).right == [True, True, False]
    assert SEVERAL.with_answers({"a": SKIP}).right == [False]


@pytest.mark.parametrize("content", ["{", "{}", '{"number": 1}', "[]"])
def test_a_file_that_is_no_check_is_named(content: str, tmp_path: Path) -> None:
    (tmp_path / "checks").mkdir()
    (tmp_path / "checks" / "1.json").write_text(content)
    with pytest.raises(SessionError, match=r"1\.json cannot be read"):
        read_checks(tmp_path)


def test_a_pipe_among_the_checks_is_named(tmp_path: Path) -> None:
    (tmp_path / "checks").mkdir()
    os.mkfifo(tmp_path / "checks" / "1.json")
    with pytest.raises(SessionError, match=r"1\.json cannot be read"):
        read_checks(tmp_path)


@pytest.mark.parametrize(
    "change",
    [
        {"number": "2"},
        {"number": -2},
        {"labels": -1},
        {"of": -3},
        {"of": 2},
        {"ids": ["a", 1, "c"]},
        {"probabilities": [0.1, 10**400, 0.3]},
        {"probabilities": [0.1, 0, 0.3]},
        {"uniform": None},
        {"guesses": [1, 2, 3]},
        {"answers": {"a": {"b": 1}}},
        {"answers": []},
        {"more": 1},
    ],
    ids=str,
)
def test_values_of_another_kind_are_named(change: dict[str, object], tmp_path: Path) -> None:
    CHECK.save(tmp_path)
    path = tmp_path / "checks" / "2.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | change))
    with pytest.raises(SessionError, match=r"2\.json cannot be read"):
        read_checks(tmp_path)


def test_a_deep_file_is_named_and_a_new_one_is_for_its_owner_alone(tmp_path: Path) -> None:
    CHECK.save(tmp_path)
    assert (tmp_path / "checks" / "2.json").stat().st_mode & 0o777 == 0o600
    (tmp_path / "checks" / "3.json").write_text("[" * 100_000)
    with pytest.raises(SessionError, match=r"3\.json cannot be read"):
        read_checks(tmp_path)
