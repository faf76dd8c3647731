"""`dal cache` shows what is cached on disk, and removes what can be computed again."""

import os
from pathlib import Path

import material
import pytest
import torch
from command import Command

from dal.data import Rows
from dal.learners.probe_learner import ProbeLearner
from dal.store import cache_contents
from dal.store.atomic_files import named
from dal.store.cache_contents import cache_entries
from dal.store.row_segments import locked


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("DAL_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


def embed(model: Path, length: int) -> None:
    learner = ProbeLearner(model=str(model), head=None, max_length=length, precision="float32")
    data = learner.prepare(Rows.from_inputs(*material.tickets(30)))
    assert torch.isfinite(learner.untrained(data).outputs(data, names={"embeddings"}).embeddings).all()


def test_an_empty_cache_is_named(folder: Path, with_tickets: Command) -> None:
    shown = with_tickets("cache")
    assert (shown.code, shown.out) == (0, f"{folder}: 0 B (set by DAL_CACHE)\n")


def test_every_store_is_shown_with_its_model_rows_and_size(
    folder: Path, with_tickets: Command, tiny_bert: Path
) -> None:
    embed(tiny_bert, 16)
    first, _, head, *lines = with_tickets("cache").out.splitlines()
    assert head.split() == ["kind", "rows", "size", "last", "used", "model"]
    distinct = len(set(material.tickets(30)[0]))
    assert sorted(line.split()[:2] for line in lines) == [["embeddings", str(distinct)], ["tokens", str(distinct)]]
    assert all(str(tiny_bert)[:20] in line for line in lines)
    assert "masked mean, float32" in "".join(lines)
    assert "at most 16 tokens" in "".join(lines)
    assert first.startswith(f"{folder}: ")


def test_model_of_an_installed_package_has_the_name_that_a_config_gives_it(
    folder: Path, with_tickets: Command, tiny_bert: Path, tmp_path: Path
) -> None:
    model = tmp_path / ("a long path" * 10) / "site-packages" / "tiny" / "model"
    model.parent.mkdir(parents=True)
    model.symlink_to(tiny_bert, target_is_directory=True)
    embed(model, 16)
    assert with_tickets("cache").out.count("  package:tiny/model, ") == 2


def test_trimming_removes_the_least_recently_used(folder: Path, with_tickets: Command, tiny_bert: Path) -> None:
    for length in (16, 12, 8):
        embed(tiny_bert, length)
    for age, entry in enumerate(reversed(cache_entries(folder))):
        os.utime(entry.path / "store.json", (1e9 - age, 1e9 - age))
    before = cache_entries(folder)
    total = sum(entry.size for entry in before)
    removed = with_tickets("cache", "--trim", f"{total - 1}B")
    assert removed.out.count("removed") == 1
    assert cache_entries(folder) == before[1:]
    assert with_tickets("cache", "--trim", "1GB").out == "nothing to remove\n"
    embed(tiny_bert, 16)


def test_clearing_keeps_replies_that_were_paid_for(folder: Path, with_tickets: Command, tiny_bert: Path) -> None:
    embed(tiny_bert, 16)
    (folder / "replies.db").write_bytes(b"paid")
    assert with_tickets("cache", "--clear").out.count("removed") == 2
    assert (folder / "replies.db").read_bytes() == b"paid"
    (line,) = [line for line in with_tickets("cache").out.splitlines() if line.startswith("replies")]
    assert "paid" in line
    embed(tiny_bert, 16)


def test_files_of_earlier_versions_are_shown_and_go_first(folder: Path, with_tickets: Command, tiny_bert: Path) -> None:
    embed(tiny_bert, 16)
    (folder / "tokens" / "0f").mkdir(parents=True)
    (folder / "tokens" / "0f" / "tokens.int32").write_bytes(bytes(50_000))
    shown = with_tickets("cache")
    assert "earlier" in shown.out.splitlines()[3]
    assert "files of an earlier version are never read" in shown.err
    assert with_tickets("cache", "--trim", "20kB").out.startswith("removed earlier: tokens of an earlier version")
    assert not (folder / "tokens").exists()
    assert len(cache_entries(folder)) == 2


@pytest.mark.parametrize("size", ["", "much", "-1GB", "1 parsec", "GB", "1e9"])
def test_a_size_that_is_none_is_refused_in_one_line(folder: Path, with_tickets: Command, size: str) -> None:
    ended = with_tickets("cache", f"--trim={size}")
    assert ended.code == 2
    assert ended.err.count("\n") == 1


def test_a_damaged_store_is_shown_and_removed(folder: Path, with_tickets: Command) -> None:
    (folder / "rows" / "tokens" / "0f").mkdir(parents=True)
    assert "damaged" in with_tickets("cache").out
    assert with_tickets("cache", "--clear").code == 0
    assert cache_entries(folder) == []


@pytest.mark.parametrize("kind", ["link", "folder"])
def test_entry_whose_lock_is_none_is_kept_with_a_line_and_the_others_are_removed(
    folder: Path, with_tickets: Command, tiny_bert: Path, tmp_path: Path, kind: str
) -> None:
    embed(tiny_bert, 16)
    (tmp_path / "mine").write_text("precious", encoding="utf-8")
    kept = next((folder / "rows" / "tokens").glob("[0-9a-f]*"))
    lock = kept.with_name(f".{kept.name}.lock")
    lock.unlink()
    lock.symlink_to(tmp_path / "mine") if kind == "link" else lock.mkdir()
    ended = with_tickets("cache", "--clear")
    assert ended.code == 2
    assert ended.out.startswith("removed")
    assert "embeddings" in ended.out
    said, error = ended.err.splitlines()
    assert said.startswith("dal: kept ")
    assert said.endswith(f"{named(lock)}: is a link or a folder, not a lock file: remove it")
    assert error.endswith(f" are left in the cache {named(folder)}: an entry could not be removed")
    assert [entry.path for entry in cache_entries(folder)] == [kept]
    assert (tmp_path / "mine").read_text(encoding="utf-8") == "precious"


def test_next_entries_are_removed_in_place_of_one_that_another_process_writes_to(
    folder: Path, with_tickets: Command, tiny_bert: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cache_contents, "_PATIENCE", 0.1)
    for length in (16, 8):
        embed(tiny_bert, length)
    first, second, *others = cache_entries(folder)
    with locked(first.path):
        left = sum(entry.size for entry in (first, *others))
        ended = with_tickets("cache", "--trim", f"{left}B")
    assert ended.code == 0, ended.err
    assert ended.out.count("removed") == 1
    assert ended.err.endswith(f"{named(first.path)}: another process writes to it\n")
    assert cache_entries(folder) == [first, *others]
    assert second not in cache_entries(folder)


@pytest.mark.parametrize("place", ["rows/embeddings/0f", "passes/0f", "tokens"])
def test_entry_that_is_a_link_is_removed_without_what_it_leads_to(
    folder: Path, with_tickets: Command, tmp_path: Path, place: str
) -> None:
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "file").write_text("precious", encoding="utf-8")
    (folder / place).parent.mkdir(parents=True)
    (folder / place).symlink_to(tmp_path / "mine")
    ended = with_tickets("cache", "--clear")
    assert (ended.code, ended.err) == (0, "")
    assert (tmp_path / "mine" / "file").read_text(encoding="utf-8") == "precious"
    assert not [path for path in folder.rglob("*") if path.is_symlink()]
    assert with_tickets("cache", "--clear").out == "nothing to remove\n"


def test_link_that_an_interrupted_removal_has_left_is_removed(
    folder: Path, with_tickets: Command, tmp_path: Path
) -> None:
    (tmp_path / "mine").mkdir()
    left = folder / "rows" / "tokens" / ".0f.0123456789ab.old"
    left.parent.mkdir(parents=True)
    left.symlink_to(tmp_path / "mine")
    assert with_tickets("cache", "--clear").code == 0
    assert not left.is_symlink()
    assert (tmp_path / "mine").is_dir()
