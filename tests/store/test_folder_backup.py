"""Backups: whole and consistent while people work, and refused where they could do harm."""

import os
import sqlite3
import stat
import subprocess
import sys
import threading
import zipfile
from pathlib import Path

import pytest

from dal.errors import ConfigError, DalError, SessionError
from dal.store.events import Answer
from dal.store.folder_backup import restore_backup, write_backup
from dal.store.label_log import LabelLog


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    folder = tmp_path / "project"
    (folder / "model").mkdir(parents=True)
    (folder / "config.yaml").write_text("kind: ask\n")
    (folder / "model" / "model.safetensors").write_bytes(bytes(1000))
    (folder / "metrics.jsonl").write_text('{"labels": 1}\n')
    (folder / ".lock").write_text("1")
    with LabelLog(folder / "labels.db") as log:
        log.tell([Answer("a", "x"), Answer("\u00e9\U0001f600", "y")])
    return folder


def test_backup_restores_the_same_folder_without_lock_and_log_files(folder: Path, tmp_path: Path) -> None:
    with LabelLog(folder / "labels.db") as log:  # open, with a write-ahead log next to it
        log.tell([Answer("b", "x")])
        names = write_backup(folder, tmp_path / "copy.zip")
    assert sorted(names) == ["config.yaml", "labels.db", "metrics.jsonl", "model/model.safetensors"]
    assert stat.S_IMODE((tmp_path / "copy.zip").stat().st_mode) == 0o600
    assert restore_backup(tmp_path / "copy.zip", tmp_path / "new") == names
    for name in names:
        if name != "labels.db":
            assert (tmp_path / "new" / name).read_bytes() == (folder / name).read_bytes()
    with LabelLog(tmp_path / "new" / "labels.db") as log:
        assert log.last_event == 3
        assert log.counts() == {"answered": 3}
    assert stat.S_IMODE((tmp_path / "new" / "labels.db").stat().st_mode) == 0o600


def test_plain_unzip_restores_it_too(folder: Path, tmp_path: Path) -> None:
    write_backup(folder, tmp_path / "copy.zip")
    subprocess.run([sys.executable, "-m", "zipfile", "-e", tmp_path / "copy.zip", tmp_path / "new"], check=True)
    with LabelLog(tmp_path / "new" / "labels.db") as log:
        assert log.counts() == {"answered": 2}


def test_backup_while_answers_arrive_holds_what_was_acknowledged_before_it(folder: Path, tmp_path: Path) -> None:
    stop, acknowledged = threading.Event(), [0]

    def work() -> None:
        with LabelLog(folder / "labels.db") as log:
            while not stop.is_set():
                log.tell([Answer(f"r{acknowledged[0]}", "x")])
                acknowledged[0] += 1

    thread = threading.Thread(target=work)
    thread.start()
    try:
        for i in range(5):
            before = acknowledged[0]
            write_backup(folder, tmp_path / f"{i}.zip")
            restore_backup(tmp_path / f"{i}.zip", tmp_path / str(i))
            with LabelLog(tmp_path / str(i) / "labels.db") as log:
                assert 2 + before <= log.counts()["answered"] <= 2 + acknowledged[0] + 1
    finally:
        stop.set()
        thread.join()


@pytest.mark.parametrize(
    ("output", "message"),
    [
        ("project/copy.zip", "inside the folder"),
        ("missing/copy.zip", "no folder"),
        ("taken.zip", "already exists"),
        ("project", "is a folder"),
    ],
)
def test_backup_that_cannot_be_written_is_one_line(folder: Path, tmp_path: Path, output: str, message: str) -> None:
    (tmp_path / "taken.zip").write_text("mine")
    with pytest.raises(ConfigError, match=message):
        write_backup(folder, tmp_path / output)
    assert (tmp_path / "taken.zip").read_text() == "mine"
    assert not [name for name in os.listdir(tmp_path) if "new" in name]


def test_folder_without_a_config_and_a_damaged_store_are_refused(folder: Path, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="not a project or a run folder"):
        write_backup(tmp_path, tmp_path / "copy.zip")
    content = bytearray((folder / "labels.db").read_bytes())
    content[4096:8192] = bytes(4096)
    (folder / "labels.db").write_bytes(content)
    with pytest.raises(SessionError, match=r"damaged|malformed"):
        write_backup(folder, tmp_path / "copy.zip")
    assert not (tmp_path / "copy.zip").exists()


def _archive(path: Path, *entries: tuple[str, bytes, int]) -> None:
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content, mode in entries:
            entry = zipfile.ZipInfo("x")
            entry.filename = name
            entry.external_attr = mode << 16
            entry.compress_type = zipfile.ZIP_DEFLATED
            archive.writestr(entry, content)


_CONFIG = ("config.yaml", b"kind: ask\n", stat.S_IFREG | 0o600)


@pytest.mark.parametrize(
    ("entries", "message"),
    [
        ([_CONFIG, ("../evil", b"x", 0)], "leads outside"),
        ([_CONFIG, ("/etc/evil", b"x", 0)], "leads outside"),
        ([_CONFIG, ("C:/evil", b"x", 0)], "leads outside"),
        ([_CONFIG, ("a\\..\\evil", b"x", 0)], "leads outside"),
        ([_CONFIG, ("labels.db", b"/etc/passwd", stat.S_IFLNK | 0o777)], "is a link"),
        ([_CONFIG, ("pipe", b"", stat.S_IFIFO | 0o600)], "is a link"),
        ([_CONFIG, ("model/", b"", stat.S_IFDIR | 0o700)], "is a link or a folder"),
        ([_CONFIG, ("A", b"x", 0), ("a", b"y", 0)], "occurs twice"),
        ([_CONFIG, ("a", b"x", 0), ("a/b", b"y", 0)], "occurs twice"),
        ([_CONFIG, ("zeros", bytes(300 << 20), 0)], "would become"),
        ([("labels.db", b"x", 0)], "holds no config.yaml"),
        ([_CONFIG, *[(f"f{i}", b"", 0) for i in range(10_001)]], "files, which no backup"),
    ],
)
def test_archive_that_could_do_harm_is_refused_and_nothing_is_written(
    tmp_path: Path, entries: list[tuple[str, bytes, int]], message: str
) -> None:
    _archive(tmp_path / "copy.zip", *entries)
    before = sorted(os.listdir(tmp_path.parent))
    with pytest.raises(ConfigError, match=message):
        restore_backup(tmp_path / "copy.zip", tmp_path / "new")
    assert sorted(os.listdir(tmp_path)) == ["copy.zip"]
    assert sorted(os.listdir(tmp_path.parent)) == before


def test_entry_that_is_larger_than_it_says_leaves_nothing(tmp_path: Path) -> None:
    _archive(tmp_path / "copy.zip", _CONFIG, ("labels.db", bytes(5000), 0))
    content = (tmp_path / "copy.zip").read_bytes()
    small = content.replace((5000).to_bytes(4, "little"), (50).to_bytes(4, "little"))
    (tmp_path / "copy.zip").write_bytes(small)
    with pytest.raises(DalError):
        restore_backup(tmp_path / "copy.zip", tmp_path / "new")
    assert sorted(os.listdir(tmp_path)) == ["copy.zip"]


def test_file_that_is_no_archive_and_a_folder_in_use_are_refused(folder: Path, tmp_path: Path) -> None:
    (tmp_path / "no.zip").write_text("hello")
    with pytest.raises(ConfigError, match="not a backup"):
        restore_backup(tmp_path / "no.zip", tmp_path / "new")
    write_backup(folder, tmp_path / "copy.zip")
    with pytest.raises(ConfigError, match="not empty"):
        restore_backup(tmp_path / "copy.zip", folder)
    connection = sqlite3.connect(folder / "labels.db")
    assert connection.execute("SELECT count(*) FROM events").fetchone() == (2,)
    connection.close()


@pytest.mark.parametrize("name", ["labels.db", "config.yaml"])
def test_folder_whose_answers_lie_elsewhere_is_refused_instead_of_copied_without_them(
    folder: Path, tmp_path: Path, name: str
) -> None:
    (folder / name).rename(tmp_path / "elsewhere")
    (folder / name).symlink_to(tmp_path / "elsewhere")
    with pytest.raises(ConfigError, match=f"{name} is a link"):
        write_backup(folder, tmp_path / "copy.zip")
    assert not (tmp_path / "copy.zip").exists()


def test_archive_whose_entries_share_their_bytes_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "copy.zip"
    _archive(path, _CONFIG, ("a", bytes(1 << 20), 0))
    with zipfile.ZipFile(path, "a") as archive:
        shared = archive.getinfo("a")
        for number in range(200):
            entry = zipfile.ZipInfo(f"b{number}")
            for name in ("compress_type", "compress_size", "file_size", "CRC", "header_offset", "external_attr"):
                setattr(entry, name, getattr(shared, name))
            archive.filelist.append(entry)
        archive._didModify = True
    with pytest.raises(ConfigError, match="overlap"):
        restore_backup(path, tmp_path / "new")
    assert not (tmp_path / "new").exists()
