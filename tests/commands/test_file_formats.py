"""The page about file formats names every column, key and file that there is, and no other."""

import re
import sqlite3
import zipfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from command import Command, probe, read_rows, write_tickets

from dal.experiments.saved_model import _KINDS
from dal.formats.corpus import COLUMNS
from dal.formats.corpus_parquet import _ANSWER
from dal.store.events import KINDS
from dal.store.label_log import LabelLog
from dal.store.project_rows import ProjectRows

DOCS = Path(__file__).parents[2] / "docs"
PAGE = (DOCS / "file_formats.md").read_text(encoding="utf-8")


def named(before: str, page: str = PAGE) -> list[str]:
    """The names in the first column of the table that follows a text on a page."""
    assert page.count(before) == 1, before
    lines = page[page.index(before) :].splitlines()
    start = next(number for number, line in enumerate(lines) if line.startswith("|")) + 2
    names: list[str] = []
    for line in lines[start:]:
        if not line.startswith("|"):
            break
        names += re.findall(r"`([^`]+)`", line.split(" | ")[0])
    return names


def tables(path: Path) -> Iterator[tuple[str, list[str]]]:
    """The tables of a database with their columns; those of the index of words and of SQLite itself are left out."""
    connection = sqlite3.connect(path)
    query = "SELECT name FROM sqlite_master WHERE type = 'table' AND name NOT LIKE 'sqlite%' AND name NOT LIKE 'words%'"
    for (table,) in connection.execute(query).fetchall():
        yield table, [column[1] for column in connection.execute(f"PRAGMA table_info({table})").fetchall()]
    connection.close()


def test_every_column_of_the_databases_is_described(tmp_path: Path) -> None:
    LabelLog(tmp_path / "labels.db").close()
    ProjectRows.create(tmp_path / "rows.db").close()
    for file, section in (("labels.db", "## Answers: labels.db"), ("rows.db", "## Rows of a project: rows.db")):
        page = PAGE[PAGE.index(section) :].split("\n## ")[0]
        found = dict(tables(tmp_path / file))
        assert sorted(found) == sorted(set(re.findall(r"Table `(\w+)`", page)) - {"words"})
        for table, columns in found.items():
            assert sorted(named(f"Table `{table}`", page)) == sorted(columns), table


def test_every_kind_of_event_is_described() -> None:
    line = next(line for line in PAGE.splitlines() if line.startswith("| `kind` |"))
    words = re.findall(r"`(\w+)`", line)
    assert set(KINDS) <= set(words)


def test_every_column_of_an_exported_file_is_described() -> None:
    assert named("## The corpus") == list(COLUMNS)
    keys = named("### An entry of `answers`")
    assert set(keys) == {field.name for field in _ANSWER} | {"declined"}


def test_every_key_and_file_of_a_saved_model_is_described(with_tickets: Command, tiny_bert: Path) -> None:
    assert sorted(named("Keys of `dal_model.json`:")) == sorted(_KINDS)
    described = set(named("## A saved model"))
    options = ["--data", "tickets.csv", "--text", "text", "--label", "label"]
    fast = f"{{TransformerLearner: {{model: {tiny_bert}, min_steps: 2, max_steps: 2, max_length: 16}}}}"
    committee = f"{{SklearnCommittee: {{model: {tiny_bert}, max_length: 16, estimators: [logistic], repeats: 2}}}}"
    for number, learner in enumerate(("TfidfLearner", probe(tiny_bert), committee, fast)):
        with_tickets.configured(learner=f"learner: {learner}\nstrategy: Random\n")
        assert with_tickets("init", f"p{number}", *options, "--config", "learner.yaml").code == 0
        ended = with_tickets("export", f"p{number}", "--model", f"m{number}")
        assert ended.code == 0, ended.err
        files = {path.name for path in Path(f"m{number}").iterdir()}
        assert files - described - {"vocab.txt", "special_tokens_map.json"} == set(), learner


def test_columns_of_predictions_are_described(with_tickets: Command) -> None:
    write_tickets(Path("new.csv"), 12, labels=False, seed=4)
    Path("bare.csv").write_text("\n".join(["text", *(row["text"] for row in read_rows("new.csv"))]) + "\n")
    options = ["--text", "text", "--id", "id", "--learner", "TfidfLearner"]
    assert with_tickets("init", "p", "--data", "tickets.csv", "--label", "label", *options).code == 0
    for file, missing in (("new.csv", {"text", "text_pair"}), ("bare.csv", {"text_pair"})):
        assert with_tickets("predict", "p", file, "-o", "out.csv", "--force").code == 0
        rows = read_rows("out.csv")
        assert [name for name in named("## Predictions") if name not in missing] == list(rows[0])
    assert [row["text"] for row in rows] == [row["text"] for row in read_rows("new.csv")]


def test_files_of_a_backup_are_described(with_tickets: Command) -> None:
    options = ["--text", "text", "--id", "id", "--learner", "TfidfLearner"]
    assert with_tickets("init", "p", "--data", "tickets.csv", "--label", "label", *options).code == 0
    assert with_tickets("predict", "p", "tickets.csv", "-o", "out.csv").code == 0
    assert with_tickets("backup", "p", "-o", "p.zip").code == 0
    listed = named("## What is in the file", (DOCS / "backup.md").read_text("utf-8"))
    with zipfile.ZipFile("p.zip") as archive:
        for name in archive.namelist():
            assert name in listed or f"{name.split('/')[0]}/" in listed, name


@pytest.mark.parametrize("name", ["labels.db", "rows.db"])
def test_ids_of_the_formats_are_those_in_the_files(tmp_path: Path, name: str) -> None:
    path = tmp_path / name
    if name == "labels.db":
        LabelLog(path).close()
    else:
        ProjectRows.create(path).close()
    connection = sqlite3.connect(path)
    application = connection.execute("PRAGMA application_id").fetchone()[0]
    version = connection.execute("PRAGMA user_version").fetchone()[0]
    connection.close()
    section = PAGE[PAGE.index(f": {name}\n") :]
    assert f"application id `{application:#x}`" in section
    assert f"`PRAGMA user_version` {version}" in re.sub(r"\s+", " ", section[: section.index("Table `")])
