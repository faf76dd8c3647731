"""Stores on network file systems: no write-ahead log, and the same guarantees."""

import os
import random
import signal
import sqlite3
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from dal.errors import ConfigError, SessionError
from dal.llm.clients.replies_and_spending import ReplyCache
from dal.store import network_files, sqlite_files
from dal.store.events import Answer
from dal.store.folder_backup import write_backup
from dal.store.label_log import LabelLog
from dal.store.label_store import LabelStore
from dal.store.network_files import Mount, journal_of, network_mount
from dal.store.project_rows import ProjectRows

MOUNTS = """\
/dev/sda1 / ext4 rw,relatime 0 0
server:/home /home nfs4 rw,vers=4.2,local_lock=none 0 0
/dev/sdb1 /home/me/local xfs rw 0 0
server:/old /old nfs rw,vers=3,nolock,local_lock=all 0 0
10.0.0.1@tcp:/lustre /lustre lustre rw,flock 0 0
//server/my\\040share /mnt/my\\040share cifs rw,vers=3.1.1 0 0
me@host: /mnt/host fuse.sshfs rw,nosuid 0 0
tmpfs /home/me/local/memory tmpfs rw 0 0
beegfs_nodev /mnt/beegfs beegfs rw 0 0
ceph-fuse /mnt/ceph fuse.ceph-fuse rw 0 0
"""


@pytest.fixture
def mounts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """File that stands for /proc/mounts, of which the temporary folder is a local one."""
    monkeypatch.delenv(network_files.VARIABLE, raising=False)
    monkeypatch.setattr(sys, "platform", "linux")
    file = tmp_path / "mounts"
    file.write_text(MOUNTS)
    monkeypatch.setattr(network_files, "MOUNTS", file)
    return file


@pytest.fixture
def network(mounts: Path, tmp_path: Path) -> Path:
    """Folder on a network file system."""
    folder = tmp_path / "network"
    folder.mkdir()
    mounts.write_text(f"{MOUNTS}server:/n {folder.resolve()} nfs4 rw,vers=4.2,local_lock=none 0 0\n")
    return folder


@pytest.mark.parametrize(
    ("path", "kind"),
    [
        ("/tmp/runs/labels.db", None),
        ("/home/me/runs/labels.db", "nfs4"),
        ("/home", "nfs4"),
        ("/homeless/labels.db", None),
        ("/home/me/local/labels.db", None),
        ("/home/me/local/memory/labels.db", None),
        ("/lustre/labels.db", "lustre"),
        ("/mnt/my share/labels.db", "cifs"),
        ("/mnt/my/labels.db", None),
        ("/mnt/host/labels.db", "fuse.sshfs"),
        ("/mnt/beegfs/a", "beegfs"),
        ("/mnt/ceph/a", "fuse.ceph-fuse"),
    ],
)
def test_network_file_system_is_that_of_the_longest_mount_point(mounts: Path, path: str, kind: str | None) -> None:
    found = network_mount(Path(path))
    assert (None if found is None else found.kind) == kind


def test_last_mount_covers_earlier_ones_and_links_are_followed(mounts: Path, tmp_path: Path, network: Path) -> None:
    (tmp_path / "link").symlink_to(network)
    assert network_mount(tmp_path / "link" / "labels.db") is not None
    mounts.write_text(mounts.read_text() + f"tmpfs {network.resolve()} tmpfs rw 0 0\n")
    assert network_mount(tmp_path / "link" / "labels.db") is None


def test_without_a_list_of_mounts_all_file_systems_count_as_local(mounts: Path) -> None:
    mounts.unlink()
    assert journal_of(Path("/home/me/labels.db")) == "wal"


@pytest.mark.parametrize("path", ["/old/labels.db", "/mnt/host/labels.db"])
def test_file_systems_without_shared_locks_are_refused_in_one_line(mounts: Path, path: str) -> None:
    with pytest.raises(SessionError, match=r"whose locks other computers do not see.*DAL_JOURNAL=rollback") as refused:
        journal_of(Path(path))
    assert "\n" not in str(refused.value)


def test_variable_overrides_the_choice(mounts: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DAL_JOURNAL", "wal")
    assert journal_of(Path("/old/labels.db")) == "wal"
    monkeypatch.setenv("DAL_JOURNAL", "rollback")
    assert journal_of(Path("/tmp/labels.db")) == journal_of(Path("/old/labels.db")) == "rollback"
    monkeypatch.setenv("DAL_JOURNAL", "none")
    with pytest.raises(ConfigError, match="DAL_JOURNAL is wal or rollback, not none"):
        journal_of(Path("/tmp/labels.db"))


def test_mounts_of_macos_and_shares_of_windows_are_recognised() -> None:
    text = "/dev/disk3s1 on / (apfs, local)\n//me@server/my share on /Volumes/my share (smbfs, nodev, mounted by me)\n"
    assert network_files._macos_mounts(text) == [
        Mount("/", "apfs", frozenset({"local"})),
        Mount("/Volumes/my share", "smbfs", frozenset({"nodev", "mounted by me"})),
    ]
    shares = [r"\\server\share\a", r"\\?\UNC\server\share\a"]
    assert [network_files._is_share(path) for path in [*shares, r"C:\a", r"\\?\C:\a", r"\\.\pipe\a"]] == [
        True,
        True,
        False,
        False,
        False,
    ]


# -- stores --------------------------------------------------------------------------------------------------------


def modes(path: Path) -> bytes:
    """The format versions in a file's header: 2 for write-ahead logging."""
    return path.read_bytes()[18:20]


def test_new_files_have_no_log_on_a_network_file_system_and_one_elsewhere(network: Path, tmp_path: Path) -> None:
    for folder, expected in ((network, b"\1\1"), (tmp_path, b"\2\2")):
        with LabelStore(folder / "labels.db") as store, ReplyCache(folder / "replies.db", "default"):
            store.ask(["a"])
            ProjectRows.create(folder / "rows.db").close()
            assert {modes(folder / f"{name}.db") for name in ("labels", "replies", "rows")} == {expected}
            assert (folder / "labels.db-wal").exists() == (expected == b"\2\2")
            assert sqlite_files.read_header(folder / "labels.db").version == 2


@pytest.mark.parametrize("access", ["write", "read", "copy"])
def test_file_with_a_log_is_taken_out_of_it_and_keeps_its_answers(
    network: Path, monkeypatch: pytest.MonkeyPatch, access: str
) -> None:
    path = network / "labels.db"
    with monkeypatch.context() as forced:
        forced.setenv("DAL_JOURNAL", "wal")
        child = os.fork()
        if not child:  # killed, so that its last answers are in the log alone
            store = LabelStore(path)
            store.ask(["a", "b"])
            store.tell([Answer("a", "x", "ada", "person")])
            os.kill(os.getpid(), signal.SIGKILL)
        os.waitpid(child, 0)
    assert modes(path) == b"\2\2"
    assert path.with_name("labels.db-wal").stat().st_size > 0
    with LabelStore(path, access=access) as store:  # type: ignore[arg-type]
        assert store.answers == {"a": "x"}
        assert store.pending == ["b"]
    assert modes(path) == b"\1\1"
    assert not path.with_name("labels.db-wal").exists()


def test_file_with_a_log_that_is_open_elsewhere_is_refused_in_one_line(
    network: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = network / "labels.db"
    monkeypatch.setattr(sqlite_files, "_LEAVING_SECONDS", 0.1)
    with monkeypatch.context() as forced:
        forced.setenv("DAL_JOURNAL", "wal")
        earlier = LabelStore(path)
        earlier.ask(["a"])
    with pytest.raises(SessionError, match=r"another process has it open.*end that process first") as refused:
        LabelStore(path)
    assert "\n" not in str(refused.value)
    earlier.tell([Answer("a", "x", "ada", "person")])
    earlier.close()
    with LabelStore(path) as store:
        assert store.answers == {"a": "x"}


def test_file_that_moved_to_a_local_disk_has_a_log_again(network: Path, tmp_path: Path) -> None:
    with LabelStore(network / "labels.db") as store:
        store.ask(["a"])
    (tmp_path / "labels.db").write_bytes((network / "labels.db").read_bytes())
    with LabelStore(tmp_path / "labels.db") as store:
        assert store.pending == ["a"]
    assert modes(tmp_path / "labels.db") == b"\2\2"


def test_journal_of_a_lost_file_is_not_played_into_a_new_one(network: Path) -> None:
    (network / "labels.db-journal").write_bytes(b"pages")
    with pytest.raises(SessionError, match=r"labels\.db is missing, and labels\.db-journal next to it belongs to it"):
        LabelStore(network / "labels.db")
    assert not (network / "labels.db").exists()


def test_reading_a_header_keeps_the_locks_of_other_threads(network: Path) -> None:
    """POSIX drops all locks of a process on a file with the first descriptor that is closed."""
    path = network / "labels.db"
    other = (
        "import sqlite3, sys\n"
        "try: sqlite3.connect(sys.argv[1], timeout=0, isolation_level=None).execute('BEGIN IMMEDIATE')\n"
        "except sqlite3.OperationalError: sys.exit(7)\n"
    )
    with LabelStore(path) as store, store.changing():
        sqlite_files.read_header(path)
        assert subprocess.run([sys.executable, "-c", other, str(path)], check=False).returncode == 7


WRITER = """\
import sys, time
from pathlib import Path
from dal.store.events import Answer
from dal.store.label_log import LabelLog
log = LabelLog(Path(sys.argv[1]))
for row in range(100_000):
    log.answer(f"r{row}", "x", who="ada", key=f"ada {row}", replaces=None)
    print(row, flush=True)
    time.sleep(0.01)  # SQLite's locks are not fair: without a pause, readers would seldom get theirs
"""


@pytest.mark.parametrize("trial", range(2))
def test_answers_survive_a_kill_and_others_read_meanwhile(
    network: Path, monkeypatch: pytest.MonkeyPatch, trial: int
) -> None:
    monkeypatch.setenv("DAL_JOURNAL", "rollback")  # the writer is another process
    path = network / "labels.db"
    with LabelLog(path) as log:
        log.change_classes({"do": "add", "name": "x"}, key="x")
        log.rank([f"r{i}" for i in range(2000)], strategy="S", wanted={}, details={})
    writer = subprocess.Popen([sys.executable, "-c", WRITER, str(path)], stdout=subprocess.PIPE)
    assert writer.stdout is not None
    writer.stdout.readline()
    with LabelStore(path, access="read") as reader:
        counts = [0]
        while counts[-1] < 5:
            reader.refresh()
            counts.append(len(reader.answers))
    assert counts == sorted(counts)
    time.sleep(random.Random(trial).uniform(0.0, 0.1))
    writer.kill()
    printed = writer.stdout.read().split()
    writer.wait()
    writer.stdout.close()
    (network / "config.yaml").touch()
    write_backup(network, network.parent / "copy.zip")  # only reads, and rolls back first
    with LabelStore(path) as store:
        assert store.answers.keys() >= {f"r{int(row)}" for row in printed}
        assert modes(path) == b"\1\1"


def test_interrupted_migration_is_seen_as_the_earlier_version(network: Path) -> None:
    path = network / "labels.db"
    with LabelStore(path) as store:
        store.ask(["a"])
    child = os.fork()
    if not child:  # killed while the changed pages are in the file and the journal holds the earlier ones
        connection = sqlite3.connect(path, isolation_level=None)
        connection.execute("PRAGMA cache_size = 1")
        connection.execute("BEGIN")
        connection.execute("PRAGMA user_version = 99")
        for number in range(200):
            connection.execute("INSERT INTO batches VALUES (?, 'S', ?)", (number + 5, "x" * 4000))
        os.kill(os.getpid(), signal.SIGKILL)
    os.waitpid(child, 0)
    assert path.with_name("labels.db-journal").stat().st_size > 0
    header = sqlite_files.read_header(path)
    assert sqlite_files.settled_version(path, header) == 2
    with LabelStore(path) as store:
        assert store.pending == ["a"]


def test_threads_of_a_service_read_while_one_writes(network: Path) -> None:
    errors: list[Exception] = []
    with LabelLog(network / "labels.db") as log:
        log.change_classes({"do": "add", "name": "x"}, key="x")
        log.rank([f"r{i}" for i in range(200)], strategy="S", wanted={}, details={})
        ended = threading.Event()

        def read() -> None:
            try:
                while not ended.is_set():
                    log.row("r1")
            except Exception as error:
                errors.append(error)

        readers = [threading.Thread(target=read) for _ in range(3)]
        for each in readers:
            each.start()
        for row in range(25):
            log.answer(f"r{row}", "x", who="ada", key=f"ada {row}", replaces=None)
        ended.set()
        for each in readers:
            each.join()
    assert not errors
