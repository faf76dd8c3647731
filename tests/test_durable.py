"""Files that are written whole or not at all."""

import os
import stat
from pathlib import Path

import pytest

from dal.durable import check_output, write_whole
from dal.errors import ConfigError


@pytest.fixture
def place(tmp_path: Path) -> Path:
    (tmp_path / "folder").mkdir()
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "file").write_text("old")
    (tmp_path / "loop").symlink_to("loop")
    return tmp_path


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("folder", "is a folder"),
        (".", "is a folder"),
        ("", "is a folder"),
        ("pipe", "is a device, a pipe or a socket"),
        ("missing/file", "there is no folder"),
        ("file/below", "Not a directory|there is no folder"),
        ("x" * 300, "File name too long"),
        ("a\0b", "null"),
        ("loop", "symbolic links"),
    ],
)
def test_what_is_no_file_to_write_to_is_refused_in_one_line(place: Path, name: str, reason: str) -> None:
    before = sorted(os.listdir(place))
    with pytest.raises(ConfigError, match=reason) as error:
        write_whole(place / name if name not in {"", "."} else Path(name), "new")
    assert "\n" not in str(error.value)
    assert sorted(os.listdir(place)) == before


def test_a_device_is_not_replaced() -> None:
    with pytest.raises(ConfigError, match="is a device"):
        write_whole(Path("/dev/null"), "new")
    assert stat.S_ISCHR(os.stat("/dev/null").st_mode)


def test_a_link_stays_a_link_and_its_target_gets_the_text(place: Path) -> None:
    (place / "link").symlink_to("folder/target")
    write_whole(place / "link", "one")
    write_whole(place / "link", "two")
    assert (place / "link").is_symlink()
    assert (place / "folder" / "target").read_text() == "two"
    assert os.listdir(place / "folder") == ["target"]


@pytest.mark.parametrize("mode", [0o600, 0o644, 0o640])
def test_an_existing_file_keeps_its_mode(place: Path, mode: int) -> None:
    (place / "file").chmod(mode)
    write_whole(place / "file", "new")
    assert stat.S_IMODE((place / "file").stat().st_mode) == mode


def test_a_new_file_follows_the_umask_and_a_private_one_is_for_its_owner_alone(place: Path) -> None:
    before = os.umask(0o022)
    try:
        write_whole(place / "public", "x")
        write_whole(place / "private", "x", private=True)
    finally:
        os.umask(before)
    assert [stat.S_IMODE((place / name).stat().st_mode) for name in ("public", "private")] == [0o644, 0o600]


def test_checking_writes_nothing(place: Path) -> None:
    before = sorted(os.listdir(place))
    assert check_output(place / "new") == (place / "new").resolve()
    assert sorted(os.listdir(place)) == before
