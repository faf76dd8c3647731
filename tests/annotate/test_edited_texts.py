from pathlib import Path

import pytest

from dal.annotate.edited_texts import edited_texts
from dal.store.project_rows import ProjectRow, ProjectRows

OLD = {
    "a": "The patient took aspirin with warfarin and was bleeding on the third day.",
    "b": "The patient took aspirin with warfarin and was well on the third day.",
    "c": "A completely different abstract about insulin and the liver in forty mice.",
}


@pytest.fixture
def rows(tmp_path: Path) -> ProjectRows:
    created = ProjectRows.create(tmp_path / "rows.db")
    created.add([ProjectRow(name, text) for name, text in OLD.items()], source="pool.csv")
    return created


def test_text_with_a_few_other_words_is_an_edited_one(rows: ProjectRows) -> None:
    new = [
        ProjectRow("x", "The patients took aspirin with warfarin and was bleeding on the third day."),
        ProjectRow("y", "An abstract about insulin."),
        ProjectRow("z", "A completely different ABSTRACT about insulin and the liver in thirty mice!"),
        ProjectRow("!", "!!!"),
    ]
    assert edited_texts(new, rows, {"x", "y", "z"}) == [("x", "a"), ("z", "c")]


def test_text_that_the_file_still_has_was_not_edited(rows: ProjectRows) -> None:
    new = [ProjectRow("x", "The patients took aspirin with warfarin and was bleeding on the third day.")]
    assert edited_texts(new, rows, {"x", "a", "b"}) == []


def test_both_texts_of_a_pair_count(tmp_path: Path) -> None:
    with ProjectRows.create(tmp_path / "pairs.db") as rows:
        rows.add([ProjectRow("a", "one two three four five", "six seven eight nine ten")], source="pool.csv")
        near = ProjectRow("x", "one two three four five", "six seven eight nine eleven")
        far = ProjectRow("y", "one two three four five", "red green blue black white")
        assert edited_texts([near, far], rows, set()) == [("x", "a")]
