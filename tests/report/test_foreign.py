"""Folders from others: whatever stands in them, a report is made within bounds, or one line says why not."""

import json
import os
import random
import re
import xml.etree.ElementTree as ET

import pytest
import yaml
from made_up import measured, record, write_cell, write_measured_run, write_run
from test_page import Page

from dal.report import write_report
from dal.report.exports import names
from dal.report.measures import number
from dal.report.page_parts import Section, Table, TableColumn
from dal.report.wording import in_markup, words

CONTROL = "\x00\x01\x08\x0b\x1b[31m\x7f\x85\ud800\ufffe"
ODD = [None, True, "", "x", CONTROL, -1, 0, 1.5, float("nan"), float("inf"), 10**400, [], {}, [None], {"a": [1]}, [[]]]


def test_control_characters_leave_every_picture_and_the_page_well_formed(tmp_path):
    name = f"Mar{CONTROL}gin"
    lines = [
        measured(record("Margin", 0, r, stopping={"stop": True, "text": CONTROL}, texts=[CONTROL] * 25))
        for r in range(3)
    ]
    for line in lines:
        line["strategy"] = line["acting_strategy"] = name
        line["per_class"][CONTROL] = {"precision": 0.1, "recall": 0.2, "f1": 0.3, "count": 4}
        line["rows"] = [f"{row}{CONTROL}" for row in line["rows"]]
        line["reason"] = CONTROL
    write_cell(tmp_path / "cell", lines, answers=False)
    page = write_report(tmp_path).read_text(encoding="utf-8")
    pictures = [*(tmp_path / "report").glob("*.svg"), tmp_path / "learning_curve.svg"]
    assert len(pictures) > 5
    for path in pictures:
        ET.fromstring(path.read_text(encoding="utf-8"))
    for svg in re.findall(r"<svg.*?</svg>", page, re.DOTALL):
        ET.fromstring(svg)
    assert not re.search(r"[\x00-\x08\x0b-\x1f\x7f-\x9f]", page)


def test_only_what_markup_forbids_is_replaced():
    assert in_markup("a\tb\r\nc é 你 😀") == "a\tb\r\nc é 你 😀"
    assert in_markup("\x00\x1f\x7f\x9f\uffff\ud800") == "\ufffd" * 5 + "?"


def test_names_of_a_million_characters_are_shown_cut_and_exported_whole(tmp_path):
    long = "n" * 1_000_000
    line = measured(record(long, 0, 0, acting=long, why=long, rows=[long], scores=[0.5]))
    line["per_class"] = {long: {"precision": 0.1, "recall": 0.2, "f1": 0.3, "count": 4}}
    line["stopping"] = {"stop": True, "text": long}
    write_cell(tmp_path / "cell", [line], answers=False)
    page = write_report(tmp_path)
    assert page.stat().st_size < 1_000_000
    assert json.loads((tmp_path / "report/chosen.json").read_text())[0]["row"] == long
    assert words(long).startswith("nnn")
    assert len(words(long)) == 2000


@pytest.mark.parametrize(
    "config",
    [
        "a: &a [x, x, x, x, x, x, x, x, x]\n"
        + "".join(f"{chr(98 + i)}: &{chr(98 + i)} [{', '.join(['*' + chr(97 + i)] * 9)}]\n" for i in range(9)),
        "strategy: " + "[" * 5000,
        "strategy: " + "{a: " * 300,
        "rounds: " + "9" * 5000,
        "x: " + "y" * (1 << 21),
        "- a\n",
        "\x00\x01",
    ],
    ids=["aliases", "lists", "mappings", "digits", "length", "list", "binary"],
)
def test_a_config_beyond_bounds_is_remarked(config, tmp_path):
    folder = write_run(tmp_path, seeds=[0], rounds=1, answers=False)
    (folder / "config.yaml").write_text(config)
    page = Page(write_report(folder, files=False).read_text(encoding="utf-8"))
    assert "not valid YAML" in page.text or config.startswith("- a")


def test_deep_json_is_left_out_and_remarked(tmp_path):
    folder = write_run(tmp_path, seeds=[0], rounds=1, answers=False)
    deep = "[" * 100_000 + "]" * 100_000
    (folder / "environment.json").write_text(deep)
    (folder / "Margin-seed0/map.json").write_text(deep)
    with (folder / "Margin-seed0/metrics.jsonl").open("a") as file:
        file.write(f'{{"labels": 99, "notes": {deep}}}\n{{"labels": {"9" * 5000}}}\n')
    page = Page(write_report(folder, files=False).read_text(encoding="utf-8"))
    assert "environment.json could not be read" in page.text
    assert "2 lines of Margin-seed0/metrics.jsonl could not be read" in page.text


def test_a_config_that_promises_millions_of_cells_is_told_in_part(tmp_path):
    config = {"seeds": list(range(3000)), "strategies": {f"S{i}": {} for i in range(3000)}}
    folder = write_run(tmp_path, seeds=[0], rounds=1, config=config, answers=False)
    assert write_report(folder, files=False).stat().st_size < 3_000_000


def test_pipes_and_folders_under_the_names_of_files_are_not_opened(tmp_path):
    folder = write_run(tmp_path, seeds=[0], rounds=1, answers=False)
    (folder / "environment.json").unlink()
    for name in ("environment.json", "Margin-seed0/map.json", "Margin-seed0/labels.db"):
        os.mkfifo(folder / name)
    (folder / "other").mkdir()
    os.mkfifo(folder / "other/metrics.jsonl")
    assert write_report(folder).is_file()


@pytest.mark.parametrize("seed", range(6))
def test_odd_values_anywhere_in_the_records_do_not_stop_a_report(seed, tmp_path):
    chance = random.Random(seed)
    folder = write_measured_run(tmp_path, seeds=[0], rounds=2, answers=False)
    for path in [*folder.glob("*/metrics.jsonl"), *folder.glob("*/map.json"), folder / "environment.json"]:
        parts = [json.loads(line) for line in path.read_text().splitlines()]
        for _ in range(4):
            mutate(chance.choice(parts), chance)
        path.write_text("".join(json.dumps(part) + "\n" for part in parts))
    config = yaml.safe_load((folder / "config.yaml").read_text())
    for _ in range(2):
        mutate(config, chance)
    (folder / "config.yaml").write_text(yaml.safe_dump(config))
    assert write_report(folder, files=seed == 0).is_file()


def mutate(value, chance):
    """Replace something in a value by something odd."""
    while True:
        places = [*value] if isinstance(value, dict) else [*range(len(value))]
        if not places:
            return
        place = chance.choice(places)
        if not isinstance(value[place], dict | list) or chance.random() < 0.4:
            value[place] = chance.choice(ODD)
            return
        value = value[place]


def test_names_of_many_parts_that_are_alike_are_found_in_few_steps(monkeypatch):
    tables = tuple(Table("same", "T", (TableColumn("a", "A"),), []) for _ in range(2000))
    calls = []
    monkeypatch.setattr("dal.report.exports.slug", lambda name: calls.append(name) or name)
    found = names([Section("s", "S", "S", tables)])
    assert len(set(found.values())) == 2000
    assert len(calls) < 3 * 2000


@pytest.mark.parametrize("value", [10**400, -(10**400), float("nan"), float("inf"), True, "1", None])
def test_what_no_float_can_hold_is_no_number(value):
    assert not number(value)
