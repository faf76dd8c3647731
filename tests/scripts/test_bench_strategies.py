"""The benchmark of strategies on a small made-up task: what it runs, what it keeps, what it concludes."""

import gzip
import importlib.util
import json
import math
import re
import subprocess
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import material
import pytest
import torch
from safetensors.torch import save_file

SCRIPT = Path(__file__).parents[2] / "scripts" / "bench" / "strategies.py"


@pytest.fixture(scope="module")
def bench() -> ModuleType:
    spec = importlib.util.spec_from_file_location("bench_of_strategies", SCRIPT)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A data set whose embeddings are made already, and a file for the cells."""
    (tmp_path / "data" / "tiny").mkdir(parents=True)
    (tmp_path / "data" / "tiny" / "train.parquet").touch()
    (tmp_path / "cache").mkdir()
    held = {}
    for part, rows, seed in (("pool", 150, 0), ("test", 60, 1)):
        held[part], held[f"{part}_labels"] = material.clusters(rows, 6, 3, seed)
    middles = torch.stack([held["pool"][held["pool_labels"] == code].mean(0) for code in range(3)])
    held |= {"names": middles.roll(1, 0), "descriptions": middles}
    save_file(held, tmp_path / "cache" / "tiny.safetensors", {"classes": json.dumps(["a", "b", "c"])})
    return tmp_path


def options(bench: ModuleType, folder: Path, *more: str) -> Any:
    given = ["--data", folder / "data", "--cache", folder / "cache", "--out", folder / "cells.jsonl"]
    return bench.arguments([*map(str, given), "--start", "6", "--batch", "5", "--rounds", "2", *more])


def line(bench: ModuleType, data: str, strategy: str, seed: int, area: float, **more: Any) -> dict[str, Any]:
    cell = bench.Cell(data, strategy, seed, 20, 20, 8, False, None)
    curve = {name: [area, area] for name in ("accuracy", "macro_f1", "micro_f1")}
    seconds = {"pass_seconds": [0.0, 0.5], "select_seconds": [0.0, 0.25]}
    other = {"labels": [20, 40], "classes": [2, 3], "multilabel": False, "seconds": 3.0}
    return {**vars(cell), **curve, **seconds, **other, **more}


def test_a_cell_starts_from_the_same_random_labels_whatever_the_strategy(bench, folder):
    made = options(bench, folder)
    file = bench.task_file(made, "tiny")
    cells = {cell.strategy: cell for cell in bench.cells(options(bench, folder, "--strategies", "Margin", "CoreSet"))}
    found = {name: bench.run_cell(cells[name], file) for name in ("Random", "Margin", "CoreSet")}
    assert {tuple(line["labels"]) for line in found.values()} == {(6, 11, 16)}
    assert len({line["accuracy"][0] for line in found.values()}) == 1
    assert found["CoreSet"]["acting"] == ["Random", "CoreSet", "CoreSet"]
    assert found["Margin"]["accuracy"] != found["Random"]["accuracy"]
    assert bench.run_cell(cells["Margin"], file)["accuracy"] == found["Margin"]["accuracy"]


def test_systems_differ_in_the_head_and_share_the_first_labels(bench, folder):
    systems = ["adjusted", "named", "both", "gated", "gated-names", "no-pool"]
    made = options(bench, folder, "--strategies", "Margin", "--systems", *systems)
    cells = {cell.strategy: cell for cell in bench.cells(made) if cell.seed == 0}
    assert list(cells) == [f"{name}{by}" for by in ("", *(f" @ {s}" for s in systems)) for name in ("Random", "Margin")]
    found = {name: bench.run_cell(cell, bench.task_file(made, "tiny")) for name, cell in cells.items()}
    first = {name: line["accuracy"][0] for name, line in found.items() if name.startswith("Random")}
    assert first["Random @ gated"] >= first["Random"]
    assert first["Random @ gated-names"] >= first["Random @ adjusted"]  # these names are exchanged, and not used
    assert found["Random @ gated"]["accuracy"] != found["Random @ no-pool"]["accuracy"]
    assert first["Random @ both"] != first["Random @ adjusted"]
    assert found["Random"]["accuracy"] == bench.run_cell(cells["Random"], bench.task_file(made, "tiny"))["accuracy"]


def test_report_of_a_strategy_has_its_systems(bench, folder):
    made = options(bench, folder, "--strategies", "Margin", "--systems", "gated")
    assert all(bench.belongs(cell, made) for cell in bench.cells(made))
    assert not any(
        bench.belongs(cell, options(bench, folder, "--strategies", "BADGE"))
        for cell in bench.cells(made)
        if "Margin" in cell.strategy
    )


def test_efficiency_is_the_ratio_of_the_labels_to_the_same_score(bench):
    random = line(bench, "a", "Random", 0, 0, labels=[20, 60, 180], accuracy=[0.4, 0.6, 0.8], classes=[2, 2, 2])
    better = line(bench, "a", "Random @ gated", 0, 0, labels=[20, 60, 180], accuracy=[0.5, 0.7, 0.9], classes=[2, 2, 2])
    best = line(bench, "a", "Auto @ gated", 0, 0, labels=[20, 60, 180], accuracy=[0.7, 0.75, 0.79], classes=[2, 2, 2])
    rows = bench.efficiency_table("Accuracy", [random, better, best], "accuracy", True).splitlines()
    assert rows[6:] == [
        "| Auto @ gated | >=3.0 / <1.0 | 3.0 | 1.0 |",
        "| Random @ gated | 1.5 / 1.5 | 1.5 | 1.5 |",  # .6 at 40 labels, .8 at 120
        "| Random | 1.0 / 1.0 | 1.0 | 1.0 |",
    ]


def test_a_cell_of_one_class_is_scored_and_goes_on_at_random(bench, folder):
    made = options(bench, folder, "--start", "1", "--batch", "1", "--strategies", "Margin")
    [cell] = [cell for cell in bench.cells(made) if cell.strategy == "Margin" and cell.seed == 0]
    found = bench.run_cell(cell, bench.task_file(made, "tiny"))
    assert found["classes"][0] == 1
    assert found["acting"][:2] == ["Random", "Random"]
    assert 0 < found["accuracy"][0] < 1


def test_label_free_strategies_start_by_themselves_when_told_to(bench, folder):
    made = options(bench, folder, "--own-start", "--strategies", "Margin", 'CoreSet("embeddings")')
    acting = {
        cell.strategy: bench.run_cell(cell, bench.task_file(made, "tiny"))["acting"]
        for cell in bench.cells(made)
        if cell.seed == 0
    }
    assert acting["Margin"] == ["Random", "Margin", "Margin"]
    assert acting['CoreSet("embeddings")'] == ["CoreSet", "CoreSet", "CoreSet"]


def test_what_is_done_is_not_done_again_and_a_torn_line_is(bench, folder):
    out = folder / "cells.jsonl"
    command = [sys.executable, str(SCRIPT), "--data", str(folder / "data"), "--cache", str(folder / "cache")]
    command += ["--out", str(out), "--start", "6", "--batch", "5", "--rounds", "1", "--seeds", "1", "--jobs", "1"]
    command += ["--strategies", "Margin", "Nothing"]
    first = subprocess.run(command, capture_output=True, text=True, check=True)
    assert "3 cells to run, 0 done" in first.stderr
    assert "unknown strategy 'Nothing'" in first.stderr
    lines = out.read_text().splitlines(keepends=True)
    assert len(lines) == 3
    out.write_text("".join(lines)[:-40])
    again = subprocess.run(command, capture_output=True, text=True, check=True)
    assert "1 cells to run, 2 done" in again.stderr
    parsed = list(bench.read(out))
    assert [line["strategy"] for line in parsed] == ["Random", "Margin", "Nothing"]
    shown = subprocess.run([*command, "--report"], capture_output=True, text=True, check=True).stdout
    assert "2 cells: 2 strategies, 1 data sets, 1 seeds; labels 6 + 1 x 5" in shown
    assert re.search("Nothing: [A-Za-z]+Error: unknown strategy", shown)
    packed = folder / "cells.jsonl.gz"
    packed.write_bytes(gzip.compress(out.read_bytes()))
    assert list(bench.read(packed)) == parsed
    with pytest.raises(SystemExit):
        bench.arguments(["--data", str(folder), "--out", str(packed)])


def test_cells_of_other_budgets_are_not_in_the_report(bench, folder):
    out = folder / "cells.jsonl"
    out.write_text("".join(json.dumps(line(bench, "tiny", name, 0, 0.5)) + "\n" for name in ("Random", "Margin")))
    usual = bench.arguments(["--out", str(out), "--report"])
    assert "2 cells" in bench.report(usual)
    assert "there are no finished cells" in bench.report(
        bench.arguments(["--out", str(out), "--report", "--rounds", "3"])
    )


def test_slow_strategies_get_fewer_seeds(bench, folder):
    made = options(bench, folder, "--slow", "10", "--slow-seeds", "2", "--seeds", "5", "--strategies", "Margin")
    plan = bench.Plan(bench.cells(made), [], made)
    first = [plan.next() for _ in range(2)]
    assert [cell.strategy for cell in first] == ["Random", "Margin"]
    plan.add({**vars(first[0]), "labels": [6], "seconds": 1.0})
    plan.add({**vars(first[1]), "labels": [6], "seconds": 30.0})
    left = []
    while (cell := plan.next()) is not None:
        left.append((cell.strategy, cell.seed))
    assert left == [("Random", 1), ("Margin", 1), ("Random", 2), ("Random", 3), ("Random", 4)]


def test_leads_are_paired_by_seed(bench):
    areas = {"Random": [0.5, 0.7, 0.6], "Margin": [0.6, 0.8]}
    lines = [line(bench, "tiny", name, seed, area) for name, of in areas.items() for seed, area in enumerate(of)]
    found = bench.leads(lines, "accuracy", True)["tiny"]["Margin"]
    assert found.area == pytest.approx(70)
    assert list(found.leads) == pytest.approx([10, 10])  # not 70 - 60, the mean of all three seeds


def test_wins_are_shares_of_pairs_over_data_sets(bench):
    assert bench.win_rate([[1.0, -1.0, 0.0, 2.0], [3.0]]) == pytest.approx((0.625 + 1.0) / 2)


def test_an_interval_covers_what_resampled_seeds_give(bench):
    low, high = bench.interval([[1.0, 2.0, 3.0], [5.0, 5.0, 5.0]], bench.mean_of_all)
    assert low == pytest.approx((1 + 5) / 2, abs=0.2)
    assert high == pytest.approx((3 + 5) / 2, abs=0.2)
    assert bench.interval([[1.0]], bench.mean_of_all) == (-math.inf, math.inf)
    assert bench.sign_of((0.1, 0.3)) == "+"
    assert bench.sign_of((-0.1, 0.3)) == ""


def test_ranks_count_who_is_above_on_each_data_set(bench):
    areas = {("x", "Random"): 0.5, ("x", "A"): 0.6, ("x", "B"): 0.4, ("y", "Random"): 0.5, ("y", "A"): 0.5}
    lines = [line(bench, data, name, 0, area) for (data, name), area in areas.items()]
    ranks = dict(bench.ranked(bench.leads(lines, "accuracy", True)))
    assert ranks == {"A": pytest.approx(25), "Random": pytest.approx(50), "B": pytest.approx(100)}


def test_expressions_make_strategies(bench):
    from dal import BADGE, ClusterCenters, Margin, Phases

    assert bench.strategy_of("Margin") == Margin()
    assert bench.strategy_of("Phases(ClusterCenters(), BADGE(seeding='k-center'), until=40)") == Phases(
        ClusterCenters(), BADGE(seeding="k-center"), until=40
    )
    assert bench.strategy_of("dal.strategies.uncertainty:Margin") == Margin()
    with pytest.raises(TypeError, match="makes a int, expected a strategy"):
        bench.strategy_of("len((1, 2))")


def test_files_of_vectors_are_read_back(bench, folder):
    task = bench.load_task(folder / "cache" / "tiny.safetensors")
    assert task.pool.inputs.shape == (150, 6)
    assert task.pool.classes == ("a", "b", "c")
    assert task.test_labels.dtype == torch.int64


def test_the_slowest_seed_says_when_every_class_had_a_label(bench):
    seen = {("Random", 0): [1, 2], ("Random", 1): [2, 3], ("Margin", 0): [3, 3], ("Margin", 1): [2, 3]}
    lines = [line(bench, "tiny", name, seed, 0.5, classes=classes) for (name, seed), classes in seen.items()]
    rows = bench.classes_table(lines).splitlines()[-2:]
    assert rows == ["| Margin | 40 |", "| Random | 1 of 2 seeds |"]


def test_the_average_precision_of_the_rarest_class_is_recorded_and_shown(bench, folder):
    made = options(bench, folder, "--strategies", "Margin", "--seeds", "1")
    lines = [
        bench.run_cell(cell, bench.task_file(made, "tiny")) | {**vars(cell), "seconds": 1.0}
        for cell in bench.cells(made)
    ]
    assert all(0 < value <= 1 for line in lines for value in line[bench.RAREST])
    (folder / "cells.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    assert "Average precision of the rarest class: against Random" in bench.report(made)
