"""Ids of answered rows are read in pages, in any characters and order, each once."""

import pytest

from dal.store import standing_answers
from dal.store.events import Answer
from dal.store.label_store import LabelStore


@pytest.mark.parametrize("page", [1, 3, 100])
def test_all_ids_are_read_whatever_characters_they_have(page: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(standing_answers, "_PAGE", page)
    ids = ["b", "a", 'with "quotes"', "a\\n", "new\nline", "\x01", "ü", "z\u2028", "😀", "[1,2]", "A", "a ", "null"]
    with LabelStore(None) as store:
        store.ask(ids)
        store.tell([Answer(row, "odd" if i % 2 else "even") for i, row in enumerate(ids)])
        pages = list(store.rows_by_answer())
    found = [(row, value) for value, rows in pages for row in rows]
    assert sorted(found) == sorted((row, "odd" if i % 2 else "even") for i, row in enumerate(ids))
    assert max(len(rows) for _, rows in pages) <= page
