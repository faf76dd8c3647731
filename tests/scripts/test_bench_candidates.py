"""The benchmarks of candidate generators and of proxy mode on small made-up tasks."""

import importlib.util
import json
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import material
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from safetensors.torch import save_file

from dal.strategies.candidates import SEALS

FOLDER = Path(__file__).parents[2] / "scripts" / "bench"


def loaded(name: str) -> ModuleType:
    """A script, which imports others of its folder: tests/strategies has the name of one of them."""
    others, path = {each: sys.modules.pop(each, None) for each in ("strategies", "candidates", "proxy")}, list(sys.path)
    try:
        return executed(name)
    finally:
        sys.path[:] = path
        for each, module in others.items():
            sys.modules.pop(each, None)
            if module is not None:
                sys.modules[each] = module


def executed(name: str) -> ModuleType:
    spec = importlib.util.spec_from_file_location(f"bench_of_{name}", FOLDER / f"{name}.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def bench() -> ModuleType:
    return loaded("candidates")


@pytest.fixture(scope="module")
def proxy() -> ModuleType:
    return loaded("proxy")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A data set whose embeddings are made already."""
    (tmp_path / "cache").mkdir()
    held = {}
    for part, rows, seed in (("pool", 200, 0), ("test", 30, 1)):
        held[part], held[f"{part}_labels"] = material.clusters(rows, 6, 3, seed)
    middles = torch.stack([held["pool"][held["pool_labels"] == code].mean(0) for code in range(3)])
    held |= {"names": middles.roll(1, 0), "descriptions": middles}
    save_file(held, tmp_path / "cache" / "tiny.safetensors", {"classes": json.dumps(["a", "b", "c"])})
    return tmp_path


def run(bench: ModuleType, folder: Path, *more: str) -> list[dict[str, Any]]:
    places = ["--data", str(folder), "--cache", str(folder / "cache"), "--out", str(folder / "recall.jsonl")]
    sizes = ["--start", "12", "--batch", "5", "--rounds", "2"]
    assert bench.main([*places, "--sets", "tiny", *sizes, *more]) == 0
    return [json.loads(line) for line in (folder / "recall.jsonl").read_text(encoding="utf-8").splitlines()]


def test_cells_are_run_once_and_reported(bench, folder, capsys):
    first = run(bench, folder, "--seeds", "1", "--strategies", "Margin")
    lines = run(bench, folder, "--seeds", "2", "--strategies", "Margin", "CoreSet")
    assert lines[0] == first[0]  # not run again
    assert [(line["strategy"], line["seed"]) for line in lines] == [
        ("Margin", 0),
        ("CoreSet", 0),
        ("Margin", 1),
        ("CoreSet", 1),
    ]
    for line in lines:
        assert line["labels"] == [12, 17]
        for name in ("RandomSubset", "SEALS", "AnchorAL", "LinearProxy"):
            shares = [sum(each) for each in line["recall"][name]]
            assert all(0 <= recall <= 1 for each in line["recall"][name] for recall in each)
            if name == "LinearProxy":
                assert shares == sorted(shares)  # more candidates of one ranking contain more
    table = capsys.readouterr().out
    assert "| gated | Margin | LinearProxy |" in table
    assert "| gated | CoreSet | SEALS |" in table
    assert table.count("±") > 4


def test_depth_of_seals_is_the_largest_that_fits_the_size(bench, folder):
    task = bench.load_task(folder / "cache" / "tiny.safetensors")
    labeled, seeds = torch.arange(0, 60, 4), bench.Seeds(0, 1)
    for size, rows in zip((30, 90), bench.seals_rows(task, labeled, 5, seeds, (30, 90)), strict=True):
        unions = [SEALS(k).choose(bench.query_of(task, labeled, 5, seeds)) for k in range(1, 40)]
        fitting = [union for union in unions if len(union) <= size]
        assert torch.equal(rows, fitting[-1])
        assert len(unions[len(fitting)]) > size


def test_torn_last_line_is_left_out_and_not_continued(bench, folder):
    run(bench, folder, "--seeds", "1", "--strategies", "Margin")
    with (folder / "recall.jsonl").open("a", encoding="utf-8") as out:
        out.write('{"data": "ti')
    assert len(bench.read_lines(folder / "recall.jsonl")) == 1
    bench.append_line(folder / "recall.jsonl", {"data": "other"})
    assert [line["data"] for line in bench.read_lines(folder / "recall.jsonl")] == ["tiny", "other"]


@pytest.fixture
def ticket_files(tmp_path: Path) -> Path:
    """A folder with the data set `tiny`."""
    words = {"billing": "invoice money refund", "access": "password login locked"}
    (tmp_path / "tiny").mkdir()
    for part, count in (("train", 60), ("test", 20)):
        labels = [("billing", "access")[i % 2] for i in range(count)]
        texts = [f"{words[label]} {part} {i}" for i, label in enumerate(labels)]
        pq.write_table(pa.table({"text": texts, "label_name": labels}), tmp_path / "tiny" / f"{part}.parquet")
    return tmp_path


def test_proxy_mode_is_run_and_compared(proxy, ticket_files, tiny_bert, monkeypatch, capsys):
    monkeypatch.setattr(proxy, "MODEL", str(tiny_bert))
    given = ["--data", ticket_files, "--sets", "tiny", "--seeds", 1, "--start", 8, "--batch", 4, "--rounds", 1]
    given += ["--pool", 60, "--steps", 1, "--folder", ticket_files / "runs", "--out", ticket_files / "proxy.jsonl"]
    assert proxy.main(list(map(str, given))) == 0
    [line] = [json.loads(each) for each in (ticket_files / "proxy.jsonl").read_text(encoding="utf-8").splitlines()]
    assert set(line["accuracy"]) == {"probe", "random", "transformer", "candidates"}
    assert line["agreement"]["rows"] == 48  # unasked rows after two batches
    assert len(line["recall"]) == 1
    assert 0 <= line["other_seed"] <= 1
    assert "| tiny | 1 |" in capsys.readouterr().out


def test_refreshed_candidates_are_run_and_compared(ticket_files, tiny_bert, monkeypatch, capsys):
    refreshed = loaded("refreshed_candidates")
    monkeypatch.setattr(refreshed, "MODEL", str(tiny_bert))
    given = ["--data", ticket_files, "--sets", "tiny", "--seeds", 1, "--start", 8, "--batch", 4, "--rounds", 4]
    given += ["--pool", 60, "--steps", 1, "--size", 20, "--min_recall", 0.01, "--folder", ticket_files / "runs"]
    for _ in range(2):  # the second time everything is there
        assert refreshed.main(list(map(str, [*given, "--out", ticket_files / "refreshed.jsonl"]))) == 0
    [line] = [json.loads(each) for each in (ticket_files / "refreshed.jsonl").read_text(encoding="utf-8").splitlines()]
    assert [each["of"] for each in line["by_round"]] == [52, 48, 44, 40]
    assert line["by_round"][0] == {"labels": 12, "scored": 52, "of": 52, "recall": None}
    assert line["by_round"][1]["scored"] == 48
    assert all(0 <= each["recall"] <= 1 for each in line["by_round"][1:])
    assert {arm: len(each) for arm, each in line["accuracy"].items()} == {"candidates": 5, "whole": 5}
    assert line["accuracy"]["candidates"][:3] == line["accuracy"]["whole"][:3]
    assert "| tiny | 1 |" in capsys.readouterr().out


def test_interval_of_paired_differences_is_that_of_student(proxy):
    assert proxy.interval([1.5]) == "+1.5"
    assert proxy.interval([1.0, 2.0, 3.0]) == "+2.0 (-0.5 to +4.5)"  # 2 -+ 4.303 / sqrt(3)
