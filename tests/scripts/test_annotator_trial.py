"""The script that plays an annotator: what it would notice, and a short hour of it in a real browser."""

import subprocess
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import pyarrow
import pyarrow.parquet
import pytest

from dal.store.events import SKIP
from dal.store.label_log import LabelLog
from dal.store.project_rows import ProjectRow, ProjectRows

SCRIPTS = Path(__file__).parents[2] / "scripts"


@pytest.fixture
def ledger(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    monkeypatch.syspath_prepend(SCRIPTS)
    import annotator_ledger

    return annotator_ledger


@pytest.fixture
def project(tmp_path: Path) -> Path:
    with ProjectRows.create(tmp_path / "rows.db") as rows:
        rows.add((ProjectRow(f"t{i}", f"text {i}", None, {}) for i in range(5)), source="pool.csv")
    with LabelLog(tmp_path / "labels.db") as log:
        for name in ("none", "mild"):
            log.change_classes({"do": "add", "name": name})
        log.ask([f"t{i}" for i in range(5)])
    return tmp_path


def give(project: Path, row: str, value: Any, key: str, replaces: int | None = None) -> int:
    with LabelLog(project / "labels.db") as log:
        return log.answer(row, value, who="ana", key=key, replaces=replaces).event


def test_step_with_its_events_passes_and_is_counted(ledger: ModuleType, project: Path) -> None:
    mine = ledger.Ledger(project)
    with mine.step("answer", "answered") as new:
        give(project, "t1", "mild", "a")
    mine.expect(new, "text 1", ["mild"])
    with mine.step("decline", "skipped") as new:
        give(project, "t2", SKIP, "b")
    mine.stands["t2"] = SKIP
    mine.agree()
    assert mine.done == {"answer": 1, "decline": 1}


def test_doubled_answer_is_noticed(ledger: ModuleType, project: Path) -> None:
    mine = ledger.Ledger(project)
    doubled = pytest.raises(ledger.TrialError, match=r"answer: .*answered.* expected, got .*answered.*answered")
    with doubled, mine.step("answer", "answered"):
        give(project, "t1", "mild", "b", replaces=give(project, "t1", "mild", "a"))


def test_answer_to_another_text_or_with_another_class_is_noticed(ledger: ModuleType, project: Path) -> None:
    mine = ledger.Ledger(project)
    with mine.step("answer", "answered") as new:
        give(project, "t1", "mild", "a")
    with pytest.raises(ledger.TrialError, match=r"'text 3' was shown, but t1 was answered"):
        mine.expect(new, "text 3", ["mild"])
    with pytest.raises(ledger.TrialError, match=r"'none'.* was pressed, but .*'mild'.* stored"):
        mine.expect(new, "text 1", ["none"])


def test_lost_and_foreign_answers_are_noticed(ledger: ModuleType, project: Path) -> None:
    mine = ledger.Ledger(project)
    mine.stands["t1"] = ["mild"]
    with pytest.raises(ledger.TrialError, match=r"lost or changed: .*t1"):
        mine.agree()
    give(project, "t1", "mild", "a")
    mine.agree()
    give(project, "t3", "none", "c")
    with pytest.raises(ledger.TrialError, match=r"never answered, but stored: .*t3"):
        mine.agree()


@pytest.mark.slow
def test_a_short_hour_loses_and_doubles_nothing(tmp_path: Path) -> None:
    pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
    from page_server import CHROMIUM

    if CHROMIUM is None:
        pytest.skip("no Chromium on this machine")
    drugs = ("aspirin", "warfarin", "heparin", "digoxin", "statin", "codeine", "insulin", "lithium")
    rows = [
        (f"Patient {i} took {drugs[i % 8]} and {drugs[i // 8 % 8]}.", ("interaction", "none", "none")[i % 3])
        for i in range(150)
    ]
    (tmp_path / "ddi2013_sent").mkdir()
    table = pyarrow.table({"text": [text for text, _ in rows], "label_name": [label for _, label in rows]})
    pyarrow.parquet.write_table(table, tmp_path / "ddi2013_sent" / "train.parquet")
    options = ["--only", "ddi2013_sent", "--answers", "45", "--formats", "csv", "--learner", "TfidfLearner"]
    folders = ["--folder", str(tmp_path / "hour"), "--data", str(tmp_path), "--chromium", CHROMIUM]
    command = [sys.executable, str(SCRIPTS / "annotator_trial.py"), *folders, *options]
    done = subprocess.run(command, capture_output=True, text=True, timeout=500)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "none lost, none doubled" in done.stdout
    assert "server killed 3" in done.stdout
    assert "trainer killed 1" in done.stdout
    assert len(list((tmp_path / "hour").glob("*_390_dark.png"))) > 8
