import errno
import fcntl
import functools
import json
import os
import signal
import stat
import subprocess
import sys
import threading
from abc import ABC, abstractmethod
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
import torch

from dal.config.stored import describe, read_config, write_config
from dal.errors import BusyError, ConfigError, DataError, SessionError
from dal.experiments.environment import environment, record_environment
from dal.store import run_folder as runfolder
from dal.store.folder_lock import Lock
from dal.store.run_folder import append_metrics, check_folder, keep_model, read_metrics, trained_on


class Shape(ABC):
    @abstractmethod
    def area(self) -> float: ...


@dataclass(frozen=True)
class Circle(Shape):
    radius: float = 1.0

    def area(self) -> float:
        return 3.14159 * self.radius**2


@dataclass(frozen=True)
class Plain:
    shape: Shape
    path: Path = Path("some/file.csv")
    names: tuple[str, ...] = ("a", "b")
    make: Callable[..., Any] = field(default=functools.partial(torch.nn.Linear, 3, bias=False))
    call: Callable[..., Any] = torch.nn.Linear


def test_plain_dataclass_is_its_fields_and_a_chosen_class_names_itself() -> None:
    described = describe(Plain(Circle(2.0)))
    assert described["shape"]["init_args"] == {"radius": 2.0}
    assert described["shape"]["class_path"].endswith(".Circle")
    assert (described["path"], described["names"]) == ("some/file.csv", ["a", "b"])
    assert described["make"] == {"class_path": "torch.nn.modules.linear.Linear", "init_args": {"bias": False}}
    assert described["call"] == "torch.nn.modules.linear.Linear"


def test_metrics_are_read_from_a_folder_that_is_text(tmp_path: Path) -> None:
    append_metrics(tmp_path, {"round": 0, "labels": 5})
    assert read_metrics(str(tmp_path)) == read_metrics(tmp_path) == [{"round": 0, "labels": 5}]
    assert read_metrics(str(tmp_path / "none")) == []


def test_metrics_of_a_whole_run_name_one_of_its_cells(tmp_path: Path) -> None:
    for name in ("Random-seed0", "Margin-seed0"):
        (tmp_path / name).mkdir()
        append_metrics(tmp_path / name, {"round": 0, "labels": 5})
    with pytest.raises(DataError, match=r"is the folder of a run, .* name one of them, such as .*Margin-seed0"):
        read_metrics(str(tmp_path))


def test_folder_without_a_finished_round_may_be_deleted(tmp_path: Path) -> None:
    write_config(tmp_path, {"rounds": 1}, kind="run")
    with pytest.raises(ConfigError, match="rounds is 1 there and 2 here; choose another folder, or delete this one"):
        write_config(tmp_path, {"rounds": 2}, kind="run")
    with pytest.raises(ConfigError, match=r"choose another folder$"):  # it may hold the answers of people
        write_config(tmp_path, {"rounds": 2}, kind="ask")
    (tmp_path / "Margin-seed0").mkdir()
    append_metrics(tmp_path / "Margin-seed0", {"round": 0, "labels": 5})
    with pytest.raises(ConfigError, match=r"choose another folder$"):
        write_config(tmp_path, {"rounds": 2}, kind="run")


def test_description_survives_yaml(tmp_path: Path) -> None:
    config = {"data": describe(Plain(Circle())), "seeds": (1, 2), "folder": None}
    write_config(tmp_path, config, kind="run")
    write_config(tmp_path, config, kind="run")
    assert read_config(tmp_path)["seeds"] == [1, 2]


def test_config_that_differs_is_refused_by_key_both_ways(tmp_path: Path) -> None:
    write_config(tmp_path, {"a": {"b": 1, "c": "x"}, "free": 1}, kind="run")
    with pytest.raises(ConfigError, match=r"a\.b is 1 there and 2 here"):
        write_config(tmp_path, {"a": {"b": 2, "c": "x"}, "free": 1}, kind="run")
    with pytest.raises(ConfigError, match=r"a\.c is \"x\" there and absent here"):
        write_config(tmp_path, {"a": {"b": 1}, "free": 1}, kind="run")
    write_config(tmp_path, {"a": {"b": 1, "c": "x"}, "free": 2}, kind="run", ignored=["free"])
    assert read_config(tmp_path)["free"] == 1


def test_folder_without_a_readable_config_is_no_run_folder(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"not a run folder"):
        read_config(tmp_path)
    (tmp_path / "config.yaml").write_text("a: [1, 2")
    with pytest.raises(ConfigError, match="cannot be read"):
        read_config(tmp_path)
    (tmp_path / "config.yaml").write_text("just words")
    with pytest.raises(ConfigError, match="keys and values"):
        read_config(tmp_path)


def test_torn_last_line_of_the_metrics_is_dropped_and_written_over(tmp_path: Path) -> None:
    append_metrics(tmp_path, {"round": 0})
    append_metrics(tmp_path, {"round": 1})
    path = tmp_path / "metrics.jsonl"
    path.write_bytes(path.read_bytes() + b'{"round": 2, "accu')
    assert [line["round"] for line in read_metrics(tmp_path)] == [0, 1]
    append_metrics(tmp_path, {"round": 2})
    assert [line["round"] for line in read_metrics(tmp_path)] == [0, 1, 2]


def test_damage_within_the_metrics_is_named_by_line(tmp_path: Path) -> None:
    (tmp_path / "metrics.jsonl").write_text('{"round": 0}\nnonsense\n{"round": 2}\n')
    with pytest.raises(SessionError, match=r"metrics\.jsonl, line 2"):
        read_metrics(tmp_path)


def test_model_is_kept_whole_or_not_at_all(tmp_path: Path) -> None:
    with keep_model(tmp_path, "first") as folder:
        (folder / "weights").write_text("1")
    assert trained_on(tmp_path) == ("first", 0.0)
    with suppress(RuntimeError), keep_model(tmp_path, "second") as folder:
        (folder / "weights").write_text("half of")
        raise RuntimeError
    assert trained_on(tmp_path) == ("first", 0.0)
    with keep_model(tmp_path, "third") as folder:
        (folder / "weights").write_text("3")
    assert trained_on(tmp_path) == ("third", 0.0)
    assert (tmp_path / "model" / "weights").read_text() == "3"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["model"]


def test_last_model_is_put_back_when_a_kill_struck_during_its_replacement(tmp_path: Path) -> None:
    with keep_model(tmp_path, "first") as folder:
        (folder / "weights").write_text("1")
    (tmp_path / "model").rename(tmp_path / "model.old")
    assert trained_on(tmp_path) == ("first", 0.0)
    (tmp_path / "model" / "trained_on.json").write_text("torn")
    assert trained_on(tmp_path) is None


def test_lock_is_free_again_after_release(tmp_path: Path) -> None:
    lock = Lock(tmp_path / "run")
    with pytest.raises(BusyError, match="this very process"):
        Lock(tmp_path / "run")
    lock.release()
    lock.release()
    Lock(tmp_path / "run").release()


@pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")
def test_forked_worker_does_not_hold_the_lock_after_its_parent(tmp_path: Path) -> None:
    lock = Lock(tmp_path)
    ready, done = os.pipe(), os.pipe()
    child = os.fork()
    if child == 0:
        os.write(ready[1], b"x")
        os.read(done[0], 1)
        os._exit(0)
    os.read(ready[0], 1)
    lock.release()
    Lock(tmp_path).release()
    os.write(done[1], b"x")
    os.waitpid(child, 0)
    for end in (*ready, *done):
        os.close(end)


@pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")
def test_forked_worker_does_not_hold_the_lock_of_a_killed_parent(tmp_path: Path) -> None:
    program = f"""
import os, time
from pathlib import Path
from dal.store.folder_lock import Lock
lock = Lock(Path({str(tmp_path)!r}))
child = os.fork()
if child:
    print(child, flush=True)
time.sleep(600)
"""
    parent = subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE, text=True)
    assert parent.stdout is not None
    child = int(parent.stdout.readline())
    parent.kill()
    parent.wait()
    try:
        Lock(tmp_path).release()
    finally:
        os.kill(child, signal.SIGKILL)
        parent.stdout.close()


def test_sessions_of_version_0_1_and_of_now_exclude_each_other(tmp_path: Path) -> None:
    path = tmp_path / ".lock"
    with path.open("a+b") as file:  # version 0.1 locks the file and writes its process id
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        file.write(str(os.getppid()).encode())
        file.flush()
        with pytest.raises(BusyError, match=rf"another process \(pid {os.getppid()}\)"):
            Lock(tmp_path)
        assert path.read_text() == str(os.getppid())
    inode = path.stat().st_ino
    lock = Lock(tmp_path)
    assert path.read_text() == str(os.getpid())
    with path.open("a+b") as file, pytest.raises(BlockingIOError):
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    lock.release()
    with path.open("a+b") as file:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    assert path.stat().st_ino == inode


def test_lock_can_be_released_by_another_thread(tmp_path: Path) -> None:
    lock = Lock(tmp_path)
    thread = threading.Thread(target=lock.release)
    thread.start()
    thread.join()
    Lock(tmp_path).release()


def test_environment_is_recorded_once_and_then_compared(tmp_path: Path) -> None:
    assert record_environment(tmp_path) == []
    assert record_environment(tmp_path) == []
    (tmp_path / "environment.json").write_text(json.dumps(environment() | {"python": "2.7"}))
    assert record_environment(tmp_path) == ["python"]


def test_lock_names_no_process_that_is_gone(tmp_path: Path) -> None:
    gone = subprocess.Popen([sys.executable, "-c", ""])
    gone.wait()
    lock = Lock(tmp_path)
    (tmp_path / ".lock").write_text(str(gone.pid))
    with pytest.raises(BusyError, match=rf"a process that pid {gone.pid}, which has ended, left behind"):
        Lock(tmp_path)
    (tmp_path / ".lock").write_bytes(b"\xff\x00 nonsense")
    with pytest.raises(BusyError, match="in use by another process: wait"):
        Lock(tmp_path)
    lock.release()


@pytest.mark.parametrize("number", [errno.ENOLCK, errno.ENOTSUP, errno.EIO, errno.ENOSYS])
def test_file_system_without_locks_is_told_as_such(
    tmp_path: Path, number: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(file: int, operation: int) -> None:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(fcntl, "flock", refuse)
    with pytest.raises(
        SessionError, match=r"on a file system without locks .*work in a folder on a local disk"
    ) as error:
        Lock(tmp_path)
    assert not isinstance(error.value, BusyError)


def test_lock_leaves_alone_what_is_no_lock(tmp_path: Path) -> None:
    (tmp_path / "mine").write_text("precious")
    (tmp_path / ".lock").symlink_to("mine")
    with pytest.raises(ConfigError, match="cannot be worked in"):
        Lock(tmp_path)
    assert (tmp_path / "mine").read_text() == "precious"
    (tmp_path / ".lock").unlink()
    os.mkfifo(tmp_path / ".lock")
    with pytest.raises(ConfigError, match="not a regular file"):
        Lock(tmp_path)


@pytest.mark.parametrize("name", ["environment.json", "metrics.jsonl", "labels.db", "report.html", "worker.log"])
def test_folder_whose_file_is_a_link_elsewhere_is_refused(tmp_path: Path, name: str) -> None:
    """In a folder from others, what is written there would go to a file of the user."""
    folder, mine = tmp_path / "theirs", tmp_path / "mine.txt"
    folder.mkdir()
    mine.write_text("precious")
    (folder / name).symlink_to(mine)
    with pytest.raises(ConfigError, match=rf"{name} is a link to .*mine.txt, which would be written to: put a copy"):
        check_folder(folder)
    (folder / name).unlink()
    (folder / "kept").write_text("")
    (folder / name).symlink_to("kept")
    assert check_folder(folder) == folder


def test_files_of_a_run_are_for_their_owner_and_keep_the_mode_that_they_are_given(tmp_path: Path) -> None:
    before = os.umask(0o022)
    try:
        write_config(tmp_path, {"a": 1}, kind="run")
        record_environment(tmp_path)
        append_metrics(tmp_path, {"round": 0})
        names = ("config.yaml", "environment.json", "metrics.jsonl")
        assert {stat.S_IMODE((tmp_path / name).stat().st_mode) for name in names} == {0o600}
        (tmp_path / "metrics.jsonl").chmod(0o660)
        append_metrics(tmp_path, {"round": 1})
        assert stat.S_IMODE((tmp_path / "metrics.jsonl").stat().st_mode) == 0o660
    finally:
        os.umask(before)


def test_appending_reads_the_end_of_the_metrics_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "metrics.jsonl").write_bytes(b'{"round": 0}\n' * 100_000 + b'{"torn')
    read = []
    real = runfolder._end_of_lines

    class Watched:
        def __init__(self, file: Any) -> None:
            self.file = file

        def seek(self, *place: int) -> int:
            found: int = self.file.seek(*place)
            return found

        def read(self, count: int) -> bytes:
            read.append(count)
            content: bytes = self.file.read(count)
            return content

    monkeypatch.setattr(runfolder, "_end_of_lines", lambda file: real(Watched(file)))  # type: ignore[arg-type]
    append_metrics(tmp_path, {"round": 1})
    assert sum(read) <= 1 << 16
    assert read_metrics(tmp_path)[-1] == {"round": 1}
    assert len(read_metrics(tmp_path)) == 100_001


def test_torn_line_longer_than_what_is_read_at_a_time_is_cut_off(tmp_path: Path) -> None:
    (tmp_path / "metrics.jsonl").write_bytes(b'{"round": 0}\n' + b"x" * 300_000)
    append_metrics(tmp_path, {"round": 1})
    assert read_metrics(tmp_path) == [{"round": 0}, {"round": 1}]
    (tmp_path / "metrics.jsonl").write_bytes(b"x" * 300_000)
    append_metrics(tmp_path, {"round": 1})
    assert read_metrics(tmp_path) == [{"round": 1}]


@pytest.mark.parametrize("line", ["[1]", '["ab"]', "null", "7", "[" * 100_000, "1" * 5000, "\udcff"])
def test_line_that_is_no_object_is_named(tmp_path: Path, line: str) -> None:
    (tmp_path / "metrics.jsonl").write_bytes(b"{}\n" + line.encode(errors="surrogateescape") + b"\n{}\n")
    with pytest.raises(SessionError, match=r"metrics\.jsonl, line 2"):
        read_metrics(tmp_path)


def test_metrics_that_cannot_be_written_are_told_in_one_line(tmp_path: Path) -> None:
    (tmp_path / "metrics.jsonl").mkdir()
    with pytest.raises(SessionError, match=r"metrics\.jsonl could not be written: Is a directory"):
        append_metrics(tmp_path, {"round": 0})
    with pytest.raises(SessionError, match="not a regular file"):
        read_metrics(tmp_path)


def test_half_a_pair_of_surrogates_in_a_text_is_kept_as_an_escape(tmp_path: Path) -> None:
    append_metrics(tmp_path, {"texts": ["\ud83d", "\u00e9"]})
    assert read_metrics(tmp_path) == [{"texts": ["\ud83d", "\u00e9"]}]


def test_config_with_an_option_that_is_no_number_is_the_same_again(tmp_path: Path) -> None:
    write_config(tmp_path, {"a": float("nan")}, kind="run")
    write_config(tmp_path, {"a": float("nan")}, kind="run")
    with pytest.raises(ConfigError, match="a is NaN there and 1 here"):
        write_config(tmp_path, {"a": 1}, kind="run")


@pytest.mark.parametrize(
    "text", ["a: &a [1,1,1,1]\nb: &b [*a,*a,*a,*a]\nc: [*b,*b]\nd: *d", "[" * 5000, "a: " + "[" * 100 + "]" * 100]
)
def test_config_that_is_a_bomb_is_refused_in_one_line(tmp_path: Path, text: str) -> None:
    (tmp_path / "config.yaml").write_text(text)
    with pytest.raises(ConfigError, match="cannot be read") as error:
        read_config(tmp_path)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("content", ["[]", "7", "[" * 100_000, "{"])
def test_environment_that_cannot_be_read_is_written_again(tmp_path: Path, content: str) -> None:
    (tmp_path / "environment.json").write_text(content)
    assert record_environment(tmp_path) == []
    assert json.loads((tmp_path / "environment.json").read_text()) == environment()


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("round", "word"),
        ("labels", -1),
        ("labels", 10**300),
        ("labels", True),
        ("labels", 1.5),
        ("accuracy", "high"),
        ("accuracy", [1]),
        ("fit_seconds", {}),
        ("strategy", 3),
        ("stopping", "yes"),
    ],
)
def test_a_line_whose_values_are_of_another_kind_is_named(tmp_path: Path, key: str, value: object) -> None:
    append_metrics(tmp_path, {"round": 0, "labels": 4, "accuracy": None, "own": "anything"})
    append_metrics(tmp_path, {key: value})
    with pytest.raises(SessionError, match=f"line 2: {key} is .*: restore the file"):
        read_metrics(tmp_path)
