"""The files next to the page: every plot as PNG and SVG, every table as CSV and JSON, whole or not at all."""

import csv
import json
import xml.etree.ElementTree as ET

import pytest
from made_up import record, write_cell, write_measured_run, write_run
from test_page import Page

from dal.report import write_report
from dal.report.exports import export, names
from dal.report.page_parts import Plot, Section, Table, TableColumn, leaves
from dal.report.plots.pool_map import pool_map


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = write_measured_run(tmp_path_factory.mktemp("run"), seeds=[0, 1], answers=False)
    write_report(folder)
    return folder


def test_every_plot_is_there_as_png_and_svg(folder):
    pictures = sorted((folder / "report").glob("*.svg"))
    stems = {path.stem for path in pictures}
    assert stems >= {"accuracy-by-labels", "accuracy-by-money", "accuracy-by-time", "reliability-Margin", "overlap"}
    assert stems >= {"map-Margin-seed0", "redundancy-by-labels", "f1-by-class", "prediction"}
    for path in pictures:
        ET.fromstring(path.read_text(encoding="utf-8"))
        assert path.with_suffix(".png").read_bytes().startswith(b"\x89PNG")


def test_every_table_is_there_as_csv_and_json_with_the_same_values(folder):
    tables = sorted((folder / "report").glob("*.csv"))
    assert {path.stem for path in tables} >= {"rounds", "chosen", "quality", "calibration", "classes", "cost"}
    for path in tables:
        rows = json.loads(path.with_suffix(".json").read_text(encoding="utf-8"))
        with path.open(encoding="utf-8", newline="") as file:
            lines = list(csv.DictReader(file))
        assert [list(line) for line in lines] == [list(row) for row in rows]
        told = [["" if v is None else str(v) for v in row.values()] for row in rows]
        assert [list(line.values()) for line in lines] == told


def test_rounds_hold_every_figure_in_full(folder):
    rows = json.loads((folder / "report/rounds.json").read_text())
    line = json.loads((folder / "Margin-seed1/metrics.jsonl").read_text().splitlines()[2])
    (row,) = [r for r in rows if (r["strategy"], r["seed"], r["round"]) == ("Margin", 1, 2)]
    assert row["accuracy"] == line["accuracy"]
    assert row["batch.redundancy"] == line["batch"]["redundancy"]
    assert row["pool.accuracy"] == line["pool"]["accuracy"]


def test_index_lists_every_file_and_nothing_else_lies_there(folder):
    index = json.loads((folder / "report/index.json").read_text())
    listed = [name for entry in index for name in entry["files"]]
    assert sorted([*listed, "index.json"]) == sorted(path.name for path in (folder / "report").iterdir())
    assert len(set(map(str.lower, listed))) == len(listed)


def test_new_report_takes_the_place_of_all_files_of_the_old_one(tmp_path):
    folder = write_measured_run(tmp_path, gains={"Margin": 0.03, "BADGE": 0.02, "Random": 0}, seeds=[0], rounds=2)
    write_report(folder)
    assert (folder / "report/map-BADGE-seed0.svg").exists()
    (folder / "BADGE-seed0/map.json").unlink()
    write_report(folder)
    assert not (folder / "report/map-BADGE-seed0.svg").exists()
    assert not [path for path in folder.iterdir() if path.name.startswith(".report")]


def test_failure_half_way_leaves_the_old_files(tmp_path):
    plot = Plot("map", pool_map([], "empty", "PCA"))
    good = Table("t", "T", (TableColumn("a", "A"),), [(1.5,)])
    assert export(tmp_path, [Section("s", "S", "S", (plot, good))]) == ""
    before = {path.name: path.read_bytes() for path in (tmp_path / "report").iterdir()}
    bad = Table("u", "U", (TableColumn("a", "A"),), [(1.5, 2.5)])
    with pytest.raises(ValueError, match="zip"):
        export(tmp_path, [Section("s", "S", "S", (plot, bad))])
    assert {path.name: path.read_bytes() for path in (tmp_path / "report").iterdir()} == before
    assert [path.name for path in tmp_path.iterdir()] == ["report"]


def test_folder_of_somebody_else_is_left_alone_and_remarked(tmp_path):
    folder = write_run(tmp_path, seeds=[0], answers=False)
    (folder / "report").mkdir()
    (folder / "report/thesis.tex").write_text("mine")
    page = Page(write_report(folder).read_text(encoding="utf-8"))
    assert [path.name for path in (folder / "report").iterdir()] == ["thesis.tex"]
    assert "report/ in this folder is not a report's" in page.text
    assert not [a for tag, a in page.attributes if tag == "a" and a["href"].startswith("report/")]


def test_cell_that_a_spreadsheet_would_run_is_made_text(tmp_path):
    lines = [record("Margin", 0, 0, rows=["=1+1", "-2", "plain"], scores=[0.5, -0.25, 0.1])]
    write_cell(tmp_path / "Margin-seed0", lines, answers=False)
    write_report(tmp_path)
    with (tmp_path / "report/chosen.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert [(row["row"], row["score"]) for row in rows] == [("'=1+1", "0.5"), ("'-2", "-0.25"), ("plain", "0.1")]
    assert json.loads((tmp_path / "report/chosen.json").read_text())[0]["row"] == "=1+1"


def test_texts_are_exported_only_where_they_are_allowed(tmp_path):
    for allowed in (False, True):
        folder = write_run(tmp_path / str(allowed), seeds=[0], config={"show_texts": allowed}, answers=False)
        lines = [record("Margin", 0, r, texts=["private"] * 25) for r in range(3)]
        write_cell(folder / "Margin-seed0", lines, answers=False)
        write_report(folder)
        assert any(b"private" in path.read_bytes() for path in (folder / "report").iterdir()) is allowed


def test_names_of_files_are_safe_and_no_two_are_alike():
    drawing = pool_map([], "empty", "PCA")
    plots = tuple(Plot(name, drawing) for name in ("a/b", "a b", "A_B", "../up", "", "x" * 300))
    found = list(names([Section("s", "S", "S", plots)]).values())
    assert len({name.lower() for name in found}) == len(plots) == len(list(leaves(plots)))
    assert not any("/" in name or name.startswith(".") or len(name) > 90 for name in found)


def test_figures_that_are_not_finite_are_null(tmp_path):
    write_cell(tmp_path / "Margin-seed0", [record("Margin", 0, 0, scores=[float("nan")] * 20)], answers=False)
    write_report(tmp_path)
    rows = json.loads((tmp_path / "report/chosen.json").read_text())
    assert rows[0]["score"] is None
