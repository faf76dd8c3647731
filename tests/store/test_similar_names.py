"""Suggestions for paths that do not exist."""

from pathlib import Path

import pytest

from dal.store.similar_names import similar_entry


def test_similar_names_of_the_same_folder_are_suggested(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "tickets").mkdir()
    (tmp_path / "tickets.csv").touch()
    assert similar_entry(Path("tickts"), folders=True) == "; did you mean 'tickets'?"
    assert similar_entry(Path("tickts.csv"), folders=False) == "; did you mean 'tickets.csv'?"
    assert similar_entry(tmp_path / "tickts.csv") == f"; did you mean '{tmp_path}/tickets.csv'?"
    assert similar_entry(Path("elsewhere"), folders=True) == ""
    assert similar_entry(Path("nowhere/tickts")) == ""
