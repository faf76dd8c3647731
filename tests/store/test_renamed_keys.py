"""Keys of `metrics.jsonl` under the names of earlier versions."""

import json
import warnings
from pathlib import Path

import pytest

from dal.errors import RenamedWarning, SessionError
from dal.report.run_reading import read
from dal.store.renamed_keys import RENAMED_KEYS, MetricsLine
from dal.store.run_folder import append_metrics, read_metrics

ISSUES = [{"row": "a", "given": "x", "suggested": "y", "confidence": 0.9}]

#: A value that a file may hold under each present key.
VALUES = {
    "acting_strategy": "Margin",
    "label_issues": ISSUES,
    "reason": "few labels",
    "temperature_scaled": {"temperature": 2.0},
}


@pytest.mark.parametrize(("old", "now"), RENAMED_KEYS.items())
def test_stored_old_key_is_read_without_a_warning_under_its_present_name(tmp_path: Path, old: str, now: str) -> None:
    (tmp_path / "metrics.jsonl").write_text(json.dumps({"round": 0, "labels": 5, old: VALUES[now]}) + "\n")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert read_metrics(tmp_path) == [{"round": 0, "labels": 5, now: VALUES[now]}]
        (cell,) = read(tmp_path).cells
        assert cell.last[now] == VALUES[now]


@pytest.mark.parametrize(("old", "now"), RENAMED_KEYS.items())
def test_old_key_in_code_warns_and_gives_the_value(old: str, now: str) -> None:
    line = MetricsLine({now: VALUES[now]})
    with pytest.warns(RenamedWarning, match=f"the key {old} of metrics.jsonl is called {now}") as warned:
        assert line[old] == VALUES[now]
    assert warned[0].filename == __file__
    with pytest.warns(RenamedWarning, match=f"the key {old}") as warned:
        assert line.get(old) == VALUES[now]
    assert warned[0].filename == __file__


@pytest.mark.parametrize("old", RENAMED_KEYS)
def test_key_that_a_line_lacks_under_both_names_is_missing(old: str) -> None:
    line = MetricsLine({"round": 1})
    assert line.get(old) is None
    assert line.get("round") == 1
    with pytest.raises(KeyError, match=old):
        line[old]


def test_round_without_a_batch_is_read(tmp_path: Path) -> None:
    line = {"round": 0, "labels": 5, "acting_strategy": None, "reason": ""}
    append_metrics(tmp_path, line)
    assert read_metrics(tmp_path) == [line]


@pytest.mark.parametrize(("old", "wrong"), [("why", 3), ("acting", [])])
def test_old_key_is_checked_as_its_present_one(tmp_path: Path, old: str, wrong: object) -> None:
    (tmp_path / "metrics.jsonl").write_text(json.dumps({"round": 0, "labels": 5, old: wrong}) + "\n")
    with pytest.raises(SessionError, match=f"line 1: {old} is"):
        read_metrics(tmp_path)


def test_lines_are_written_under_the_present_keys(tmp_path: Path) -> None:
    append_metrics(tmp_path, MetricsLine({"round": 1, "doubts": ISSUES}))
    assert json.loads((tmp_path / "metrics.jsonl").read_text()) == {"round": 1, "label_issues": ISSUES}
