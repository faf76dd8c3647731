"""Values of rows on disk: each computed once, also after a kill, by several processes and on a damaged disk."""

import errno
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from dal.errors import LearnerError
from dal.learners.text import row_store
from dal.learners.text.row_store import Chunk, RowStore, items_of
from dal.store import row_segments


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("DAL_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


class Counted:
    """A store of the numbers k, k, ... (k % 3 + 1 times) of a row k, and the rows that were computed for it."""

    def __init__(self, size: int = 4) -> None:
        self.store = RowStore("numbers", "key", np.int32, ragged=True, model="counting")
        self.computed: list[list[int]] = []
        self.size = size

    def read(self, rows: list[int], **options: bool) -> list[list[int]]:
        keys = np.asarray(rows, np.uint64)
        digests = np.stack([keys // 2, keys], 1)  # the first halves of two digests are equal

        def compute(index: np.ndarray) -> Iterator[Chunk]:
            for part in np.split(index, range(self.size, len(index), self.size)):
                chosen = keys[part].astype(np.int64)
                self.computed.append(chosen.tolist())
                lengths = chosen % 3 + 1
                yield Chunk(digests[part], lengths, np.repeat(chosen, lengths).astype(np.int32)[:, None])

        stored = self.store.rows(digests, compute, **options)
        values = stored.values[items_of(stored.starts, stored.lengths), 0]
        return [part.tolist() for part in np.split(values, np.cumsum(stored.lengths)[:-1])]


def expected(rows: list[int]) -> list[list[int]]:
    return [[row] * (row % 3 + 1) for row in rows]


def folder(cache: Path) -> Path:
    return cache / "rows" / "numbers" / "key"


def test_rows_are_computed_once_in_any_order_and_number() -> None:
    first = Counted()
    assert first.read([5, 1, 5, 9, 2, 7]) == expected([5, 1, 5, 9, 2, 7])
    assert first.computed == [[5, 1, 9, 2], [7]]
    second = Counted()
    assert second.read([7, 3, 1, 3, 0]) == expected([7, 3, 1, 3, 0])
    assert second.computed == [[3, 0]]


@pytest.mark.parametrize("seed", range(5))
def test_any_sequence_of_pools_reads_what_was_asked_for(seed: int) -> None:
    generator, counted = np.random.default_rng(seed), Counted(size=7)
    for _ in range(6):
        rows = generator.integers(0, 60, generator.integers(1, 40)).tolist()
        assert counted.read(rows) == expected(rows)
    computed = [row for part in counted.computed for row in part]
    assert len(computed) == len(set(computed))


def test_a_kill_loses_only_the_segment_that_is_being_written(cache: Path) -> None:
    counted = Counted(size=2)
    counted.read([0, 1, 2, 3, 4, 5])
    lines = folder(cache) / row_segments.SEGMENTS
    whole = lines.read_bytes()
    lines.write_bytes(whole[: len(whole) - 9])  # the line of the last segment is torn
    after = Counted(size=2)
    assert after.read([0, 1, 2, 3, 4, 5]) == expected([0, 1, 2, 3, 4, 5])
    assert after.computed == [[4, 5]]
    assert lines.read_bytes() == whole


@pytest.mark.parametrize("name", ["digests.u128", "ends.int64", "values"])
@pytest.mark.parametrize("damage", ["flipped", "truncated", "missing"])
def test_a_damaged_segment_is_said_in_one_line_and_computed_again(
    cache: Path, name: str, damage: str, caplog: pytest.LogCaptureFixture
) -> None:
    Counted(size=3).read([0, 1, 2, 3, 4, 5, 6, 7, 8])
    path = folder(cache) / name
    content = path.read_bytes()
    half = len(content) // 2
    if damage == "missing":
        path.unlink()
    else:
        path.write_bytes(content[:half] + (b"" if damage == "truncated" else b"\xff\xfe\xff" + content[half + 3 :]))
    after = Counted(size=3)
    assert after.read([8, 0, 1, 2, 3, 4, 5, 6, 7]) == expected([8, 0, 1, 2, 3, 4, 5, 6, 7])
    assert 3 <= sum(map(len, after.computed)) < (9 if damage == "flipped" else 10)
    assert len(caplog.messages) == 1
    assert "damaged" in caplog.messages[0]
    caplog.clear()
    last = Counted(size=3)
    assert last.read([0, 1, 2, 3, 4, 5, 6, 7, 8]) == expected([0, 1, 2, 3, 4, 5, 6, 7, 8])
    assert last.computed == []
    assert caplog.messages == []


@pytest.mark.parametrize("name", ["store.json", "segments.jsonl", "verified.json"])
@pytest.mark.parametrize("content", [b"{", b"[]\n", b"null\n", b"[" * 100_000, b'{"rows": {}}\n', b"\xff", b""])
def test_damaged_facts_and_lines_are_made_again(cache: Path, name: str, content: bytes) -> None:
    Counted().read([0, 1, 2, 3])
    (folder(cache) / name).write_bytes(content)
    assert Counted().read([3, 2, 1, 0, 9]) == expected([3, 2, 1, 0, 9])
    last = Counted()
    assert last.read([0, 1, 2, 3, 9]) == expected([0, 1, 2, 3, 9])
    assert last.computed == []


@pytest.mark.parametrize("width", [-1, 0, 10**18, "1", None])
def test_store_with_an_impossible_width_is_made_again(cache: Path, width: object) -> None:
    Counted().read([0, 1, 2, 3])
    facts = json.loads((folder(cache) / "store.json").read_text(encoding="utf-8"))
    (folder(cache) / "store.json").write_text(json.dumps(facts | {"width": width}), encoding="utf-8")
    assert Counted().read([3, 2, 1, 0, 9]) == expected([3, 2, 1, 0, 9])
    last = Counted()
    assert last.read([0, 1, 2, 3, 9]) == expected([0, 1, 2, 3, 9])
    assert last.computed == []


def test_checksums_are_not_computed_again_while_the_files_are_unchanged(monkeypatch: pytest.MonkeyPatch) -> None:
    Counted().read([0, 1, 2])
    monkeypatch.setattr(row_store, "_checksum", lambda *args: pytest.fail("read whole, though unchanged"))
    assert Counted().read([0, 1, 2, 3]) == expected([0, 1, 2, 3])
    assert Counted().read([3]) == expected([3])


def test_a_full_disk_is_said_once_and_the_rows_stay_in_memory(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    Counted().read([0, 1])

    def full(*args: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(row_store, "append_segment", full)
    counted = Counted(size=2)
    assert counted.read([4, 0, 5, 1, 6, 4, 7]) == expected([4, 0, 5, 1, 6, 4, 7])
    assert [message for message in caplog.messages if "No space left" in message] == caplog.messages
    assert len(caplog.messages) == 1
    assert Counted().read([11]) == expected([11])  # another part of the data opens the store again
    assert len(caplog.messages) == 1
    assert caplog.messages[0].endswith("make room (dal cache --trim SIZE), or set DAL_CACHE to another folder")
    with pytest.raises(
        LearnerError, match=r"cannot be stored in .*No space left .* or set DAL_CACHE to another folder"
    ):
        Counted().read([8], in_memory=False)


@pytest.mark.skipif(os.name == "nt", reason="needs a limit of the size of files")
def test_a_segment_that_does_not_fit_leaves_no_bytes(cache: Path) -> None:
    import resource

    Counted(size=2).read([0, 1])
    before = {path.name: path.stat().st_size for path in folder(cache).iterdir()}
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (4096, limits[1]))
    try:
        assert Counted(size=900).read(list(range(900))) == expected(list(range(900)))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert {path.name: path.stat().st_size for path in folder(cache).iterdir()} == before
    after = Counted(size=900)
    assert after.read(list(range(900))) == expected(list(range(900)))
    assert after.computed == [list(range(2, 900))]


@pytest.mark.skipif(os.name == "nt", reason="needs links and pipes")
@pytest.mark.parametrize(
    "name", ["store.json", "segments.jsonl", "verified.json", "digests.u128", "ends.int64", "values"]
)
@pytest.mark.parametrize("kind", ["link", "pipe", "folder"])
def test_nothing_is_written_through_a_link_nor_read_from_a_pipe(
    cache: Path, tmp_path: Path, name: str, kind: str
) -> None:
    """Others may be able to write to a shared cache: a link in it could lead to any file of the user."""
    Counted().read([0, 1, 2])
    mine, path = tmp_path / "mine.txt", folder(cache) / name
    mine.write_bytes(path.read_bytes())  # the most convincing target: it has what is expected
    content = mine.read_bytes()
    path.unlink()
    if kind == "link":
        path.symlink_to(mine)
    elif kind == "pipe":
        os.mkfifo(path)
    else:
        path.mkdir()
    assert Counted().read([2, 0, 5]) == expected([2, 0, 5])
    assert mine.read_bytes() == content
    last = Counted()
    assert last.read([5, 2, 0]) == expected([5, 2, 0])
    assert last.computed == []


@pytest.mark.skipif(os.name == "nt" or os.geteuid() == 0, reason="root may write everywhere")
def test_a_folder_that_cannot_be_written_to_is_read(cache: Path, caplog: pytest.LogCaptureFixture) -> None:
    Counted().read([0, 1])
    for path in [*cache.rglob("*"), cache]:
        path.chmod(path.stat().st_mode & ~0o222)
    try:
        assert Counted().read([0, 1]) == expected([0, 1])
        assert caplog.messages == []
        assert Counted().read([0, 1, 2]) == expected([0, 1, 2])
        assert len(caplog.messages) == 1
    finally:
        for path in [cache, *cache.rglob("*")]:
            path.chmod(path.stat().st_mode | 0o200)


def test_a_file_in_the_way_of_the_cache_is_said_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("DAL_CACHE", str(tmp_path / "file"))
    assert Counted(size=1).read([2, 3]) == expected([2, 3])
    assert len(caplog.messages) == 1


def test_rows_of_another_process_are_not_stored_twice(cache: Path) -> None:
    first, second = Counted(), Counted()
    first.read([0])
    second.read([0])
    digests = np.asarray([[0, 0], [0, 1]], np.uint64)
    second.store._appended(Chunk(digests[1:], np.asarray([2]), np.asarray([[1], [1]], np.int32)), True)
    assert first.store._appended(Chunk(digests, np.asarray([1, 2]), np.asarray([[0], [1], [1]], np.int32)), True)
    assert (folder(cache) / "digests.u128").stat().st_size == 2 * 16
    assert Counted().read([0, 1]) == expected([0, 1])


PROGRAM = """
import sys; sys.path.insert(0, {tests!r})
from test_row_store import Counted, expected
counted = Counted(size=5)
rows = list(range({start}, {start} + 200))
for stop in range(20, 201, 20):
    assert counted.read(rows[:stop]) == expected(rows[:stop])
"""


def test_processes_share_a_store(cache: Path) -> None:
    tests = str(Path(__file__).parent)
    programs = [PROGRAM.format(tests=tests, start=start) for start in (0, 50, 100)]
    running = [subprocess.Popen([sys.executable, "-c", program]) for program in programs]
    assert [process.wait() for process in running] == [0, 0, 0]
    last = Counted()
    assert last.read(list(range(300))) == expected(list(range(300)))
    assert last.computed == []
    assert (folder(cache) / "digests.u128").stat().st_size == 300 * 16


def test_a_store_that_is_removed_meanwhile_is_made_again(cache: Path) -> None:
    counted = Counted()
    counted.read([0, 1, 2])
    shutil.rmtree(folder(cache))
    assert counted.read([2, 3, 0]) == expected([2, 3, 0])


def test_missing_rows_are_told_without_computing_them() -> None:
    counted = Counted()
    counted.read([0, 4])
    digests = np.asarray([[2, 4], [3, 7], [3, 7], [0, 1]], np.uint64)
    assert counted.store.missing(digests).tolist() == [1, 3]
