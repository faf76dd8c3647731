"""`dal backup` as typed."""

from pathlib import Path

import pytest

from dal.cli import main
from dal.store.events import Answer
from dal.store.label_log import LabelLog


def test_a_folder_goes_to_a_file_and_back(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = tmp_path / "project"
    folder.mkdir()
    (folder / "config.yaml").write_text("kind: ask\n")
    with LabelLog(folder / "labels.db") as log:
        log.tell([Answer("a", "x")])
    assert main(["backup", str(folder), "-o", str(tmp_path / "copy.zip")]) == 0
    assert "2 files" in capsys.readouterr().out
    assert main(["backup", str(tmp_path / "new"), "--restore", str(tmp_path / "copy.zip")]) == 0
    assert "2 files restored" in capsys.readouterr().out
    with LabelLog(tmp_path / "new" / "labels.db") as log:
        assert log.counts() == {"answered": 1}
    assert main(["backup", str(folder), "-o", str(tmp_path / "copy.zip")]) == 2
    assert "already exists" in capsys.readouterr().err
    assert main(["backup", str(folder), "-o", str(tmp_path / "copy.tar")]) == 2
    assert "name it" in capsys.readouterr().err
    assert main(["backup", str(folder), "--restore", str(tmp_path / "none.zip")]) == 2
    assert "no such file" in capsys.readouterr().err
