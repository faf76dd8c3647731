"""The output of ranks is removed with the run, and that of a killed run by one that starts a day later."""

import os
import shutil
import tempfile
import time
from pathlib import Path

import pytest

from dal.distributed.rank_logs import rank_logs
from dal.errors import RankError
from dal.store.folder_lock import Lock

pytestmark = pytest.mark.skipif(os.name == "nt", reason="ranks need Linux or macOS")

DAY = 24 * 3600


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder for temporary files."""
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "temporary"))
    (tmp_path / "temporary").mkdir()
    return tmp_path / "temporary"


def left_by_killed_run(place: Path, name: str, hours: float) -> Path:
    """A folder of logs whose run has ended, written to last some hours ago."""
    folder = place / name
    folder.mkdir()
    (folder / "rank1.log").write_text("output", encoding="utf-8")
    Lock(folder).release()
    set_age(folder, hours)
    return folder


def set_age(folder: Path, hours: float) -> None:
    then = time.time() - 3600 * hours
    for path in (*folder.iterdir(), folder):
        os.utime(path, (then, then), follow_symlinks=False)


def start_run() -> None:
    with rank_logs():
        pass


def test_output_is_removed_with_the_run_unless_a_rank_was_lost(place: Path) -> None:
    with rank_logs() as folder:
        (folder / "rank1.log").touch()
    with pytest.raises(KeyboardInterrupt), rank_logs():
        raise KeyboardInterrupt
    assert list(place.iterdir()) == []
    with pytest.raises(RankError, match="killed by signal 9"), rank_logs():
        raise RankError("rank 1 was killed by signal 9; its output is in")
    (folder,) = place.iterdir()
    start_run()
    assert folder.exists()
    set_age(folder, 25)
    start_run()
    assert list(place.iterdir()) == []


def test_folder_of_a_killed_run_is_removed_after_a_day_without_output(place: Path) -> None:
    old, recent = (left_by_killed_run(place, f"dal-ranks-{hours}", hours) for hours in (25, 23))
    written = left_by_killed_run(place, "dal-ranks-written", 25)
    os.utime(written / "rank1.log")
    other = left_by_killed_run(place, "other", 25)
    start_run()
    assert not old.exists()
    assert all((folder / "rank1.log").exists() for folder in (recent, written, other))


def test_folder_of_a_run_that_lives_is_kept_however_old(place: Path) -> None:
    with rank_logs() as folder:
        (folder / "rank1.log").touch()
        set_age(folder, 1000)
        start_run()
        assert (folder / "rank1.log").exists()
    assert not folder.exists()


def test_links_and_folders_of_others_are_kept(place: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    mine = left_by_killed_run(tmp_path, "mine", 25)
    (place / "dal-ranks-link").symlink_to(mine)
    inner = left_by_killed_run(place, "dal-ranks-inner", 25)
    (inner / "link").symlink_to(mine)
    set_age(inner, 25)
    unlocked = left_by_killed_run(place, "dal-ranks-unlocked", 25)  # of an earlier version, perhaps still in use
    (unlocked / ".lock").unlink()
    linked = left_by_killed_run(place, "dal-ranks-linked", 25)
    (linked / ".lock").unlink()
    (linked / ".lock").symlink_to(mine / "rank1.log")
    for folder in (unlocked, linked):
        set_age(folder, 25)
    (place / "dal-ranks-file").write_text("a file", encoding="utf-8")
    start_run()
    assert not inner.exists()
    assert (mine / "rank1.log").read_text(encoding="utf-8") == "output"
    expected = {"dal-ranks-link", "dal-ranks-unlocked", "dal-ranks-linked", "dal-ranks-file"}
    assert {path.name for path in place.iterdir()} == expected
    (place / "dal-ranks-link").unlink()
    left_by_killed_run(place, "dal-ranks-theirs", 25)
    monkeypatch.setattr(os, "getuid", lambda: 4242)
    start_run()
    assert (place / "dal-ranks-theirs" / "rank1.log").exists()


def test_nothing_fails_where_there_are_no_locks(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import fcntl

    old = left_by_killed_run(place, "dal-ranks-old", 25)

    def refuse(*arguments: object) -> None:
        raise OSError(38, "Function not implemented")

    monkeypatch.setattr(fcntl, "flock", refuse)
    with rank_logs() as folder:
        assert folder.is_dir()
    assert not folder.exists()
    assert old.exists()
    shutil.rmtree(old)
