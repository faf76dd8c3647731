"""Files that are written whole or not at all."""

import os
import signal
import stat
from collections.abc import Callable
from contextlib import nullcontext, suppress
from pathlib import Path
from typing import Any

import pytest
from dying import processes, run_until

from dal.errors import ConfigError
from dal.store import atomic_files as durable
from dal.store.atomic_files import check_output, recover, replacing, temporary_name, write_whole


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


# -- folders -------------------------------------------------------------------------------------------------------


def write_folder(folder: Path, text: str, *, twice: bool = False) -> None:
    """Write a folder whole; `twice`: as a learner does that saves whole what is being written whole."""
    with replacing(folder) as outer, replacing(outer) if twice else nullcontext(outer) as partial:
        (partial / "one").write_text(text)
        (partial / "inner").mkdir()
        (partial / "inner" / "two").write_text(text)


def content(folder: Path) -> set[str]:
    """The texts in a folder, whose files must all be of the same write."""
    return {(folder / name).read_text() for name in ("one", "inner/two")}


def replaced_until(folder: Path, die_at: int | None, before: bool, exchanges: bool, twice: bool, count: Any) -> None:
    if not exchanges:
        durable._exchange = lambda one, other: False
    run_until(lambda: write_folder(folder, "new", twice=twice), die_at, count, before=before)


def in_a_process(work: Callable[..., None], *arguments: Any) -> int | None:
    process = processes.Process(target=work, args=arguments)
    process.start()
    process.join(60)
    code: int | None = process.exitcode
    process.close()
    return code


@pytest.mark.parametrize("exchanges", [True, False])
@pytest.mark.parametrize("there_before", [True, False])
@pytest.mark.parametrize("twice", [False, True])
def test_folder_is_whole_after_a_kill_between_any_two_system_calls(
    tmp_path: Path, there_before: bool, exchanges: bool, twice: bool
) -> None:
    count = processes.Value("i", 0)
    (tmp_path / "counted").mkdir()
    if there_before:
        write_folder(tmp_path / "counted" / "folder", "old")
    assert in_a_process(replaced_until, tmp_path / "counted" / "folder", None, True, exchanges, twice, count) == 0
    assert count.value > 8
    for die_at in range(1, count.value + 1):
        for before in (True, False):
            place = tmp_path / f"{die_at}-{before}"
            place.mkdir()
            folder = place / "folder"
            if there_before:
                write_folder(folder, "old")
            code = in_a_process(replaced_until, folder, die_at, before, exchanges, twice, None)
            assert code == -signal.SIGKILL or (code == 0 and not before)  # a call that raises never returns
            recover(folder)
            assert os.listdir(place) in (["folder"], [] if not there_before else ["folder"])
            assert not folder.exists() or content(folder) in ({"old"}, {"new"})
            write_folder(folder, "later")
            assert (os.listdir(place), content(folder)) == (["folder"], {"later"})


def test_the_exchange_of_two_folders_leaves_no_instant_without_one(tmp_path: Path) -> None:
    one, other = tmp_path / "one", tmp_path / "other"
    write_folder(one, "1")
    write_folder(other, "2")
    if not durable._exchange(one, other):
        pytest.skip("this system or file system cannot exchange names")
    assert (content(one), content(other)) == ({"2"}, {"1"})


def test_after_an_error_the_folder_is_as_before_and_nothing_is_left(tmp_path: Path) -> None:
    write_folder(tmp_path / "folder", "old")
    with suppress(RuntimeError), replacing(tmp_path / "folder") as partial:
        (partial / "one").write_text("half")
        raise RuntimeError
    assert os.listdir(tmp_path) == ["folder"]
    assert content(tmp_path / "folder") == {"old"}


def test_a_file_is_not_replaced_by_a_folder(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("mine")
    with pytest.raises(ConfigError, match="is a file, where a folder is to be written"):
        write_folder(tmp_path / "file", "new")
    assert (tmp_path / "file").read_text() == "mine"


def test_what_another_process_is_writing_stays(tmp_path: Path) -> None:
    with replacing(tmp_path / "folder") as theirs:
        (theirs / "one").write_text("theirs")
        recover(tmp_path / "folder")
        with replacing(tmp_path / "folder") as ours:
            (ours / "one").write_text("ours")
        assert (theirs / "one").read_text() == "theirs"
    assert os.listdir(tmp_path) == ["folder"]


def test_names_that_only_look_alike_are_not_cleaned_up(tmp_path: Path) -> None:
    names = [".folder.new", ".folder.old", "folder.old", ".folder.other.0123456789ab.old", ".folders.0123456789ab.old"]
    for name in names:
        (tmp_path / name).mkdir()
    recover(tmp_path / "folder")
    assert sorted(os.listdir(tmp_path)) == sorted(names)


def test_a_folder_that_an_earlier_version_left_aside_is_put_back(tmp_path: Path) -> None:
    write_folder(tmp_path / "folder", "old")
    (tmp_path / "folder").rename(tmp_path / ".folder.0123456789ab.old")
    recover(tmp_path / "folder")
    assert os.listdir(tmp_path) == ["folder"]
    assert content(tmp_path / "folder") == {"old"}


def test_names_of_the_greatest_length_are_replaced(tmp_path: Path) -> None:
    for name in ("x" * 255, "\u00e9" * 127):
        write_folder(tmp_path / name, "old")
        write_folder(tmp_path / name, "new")
        assert content(tmp_path / name) == {"new"}
        assert len(os.fsencode(temporary_name(name, "new"))) <= 255
    assert len(os.listdir(tmp_path)) == 2


def written_until(path: Path, die_at: int | None, before: bool, count: Any) -> None:
    run_until(lambda: write_whole(path, "new"), die_at, count, before=before)


def test_file_is_whole_after_a_kill_and_what_was_left_goes_with_the_next_write(tmp_path: Path) -> None:
    count = processes.Value("i", 0)
    assert in_a_process(written_until, tmp_path / "counted", None, True, count) == 0
    for die_at in range(1, count.value + 1):
        for before in (True, False):
            place = tmp_path / f"{die_at}-{before}"
            place.mkdir()
            (place / "file").write_text("old")
            in_a_process(written_until, place / "file", die_at, before, None)
            assert (place / "file").read_text() in {"old", "new"}
            write_whole(place / "file", "later")
            assert os.listdir(place) == ["file"]


def test_names_in_a_folder_are_on_disk_after_a_rename(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    synchronised: list[Path] = []
    real = durable.synchronise_folder
    monkeypatch.setattr(durable, "synchronise_folder", lambda folder: (synchronised.append(folder), real(folder)))
    write_folder(tmp_path / "new" / "folder", "text")
    assert {tmp_path, tmp_path / "new"} <= set(synchronised)
    assert any(folder.name == "inner" for folder in synchronised)
