"""`dal audit` after a run with a router, as a user types it."""

import csv
from pathlib import Path

import pytest
from command import Command, write_tickets

from dal.store.label_store import LabelStore

RUN = """\
data: {path: tickets.csv, id: id, test: 0.3}
learner: {ProbeLearner: {model: MODEL, max_length: 16}}
strategy: Random
baseline: null
oracle:
  Router:
    models:
      - LLMOracle: {labeler: {labelers.WordLabeler: {wrong: 0.2, unsure: 0.3}}, name: first}
      - LLMOracle: {labeler: {labelers.WordLabeler: {wrong: 0.1, salt: x}}, name: second}
    person: Simulated
    audit: 0.5
start: 40
batch: 20
rounds: 1
report: false
folder: out
"""


@pytest.fixture
def dal(
    tmp_path: Path, tiny_bert: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Command:
    monkeypatch.chdir(tmp_path)
    write_tickets(tmp_path / "tickets.csv", 150)
    (tmp_path / "run.yaml").write_text(RUN.replace("MODEL", str(tiny_bert)))
    return Command(capsys)


def test_says_how_often_each_machine_is_wrong_and_merges_what_was_said(dal: Command, tmp_path: Path) -> None:
    assert dal("run", "run.yaml").code == 0
    ended = dal("audit", "out/Random-seed0", "--merge", "merged.csv")
    assert ended.code == 0, ended.err
    assert "60 answers" in ended.out
    assert "by simulated" in ended.out
    assert "first: answered 60 rows, for 0.06 dollars" in ended.out
    assert ended.out.count("of the audited rows") == 2
    with open("merged.csv", newline="", encoding="utf-8-sig") as file:
        lines = list(csv.DictReader(file))
    assert len(lines) == 60
    assert {line["by"] for line in lines} == {"person", "machines"}
    assert all(0.25 <= float(line["probability"]) <= 1 for line in lines)


def test_an_audit_with_nothing_to_merge_prints_and_writes_nothing(dal: Command) -> None:
    assert dal("run", "run.yaml").code == 0
    store = Path("out/Random-seed0/labels.db")
    for each in store.parent.glob("labels.db*"):
        each.unlink()
    LabelStore(store).close()
    ended = dal("audit", "out/Random-seed0", "--merge", "merged.csv")
    assert (ended.code, ended.out) == (2, "")
    assert "nothing to merge" in ended.err
    assert not Path("merged.csv").exists()


def test_says_how_many_answers_could_not_be_read(dal: Command) -> None:
    Path("run.yaml").write_text(Path("run.yaml").read_text().replace("salt: x}", "salt: x, mute: 0.2}"))
    assert dal("run", "run.yaml").code == 0
    lines = dal("audit", "out/Random-seed0").out.splitlines()
    first, second = (next(line for line in lines if line.startswith(f"  {name}")) for name in ("first", "second"))
    assert "answered 60 rows" in first
    heard = int(second.split(" rows")[0].rsplit(" ", 1)[1])
    assert 40 < heard < 60
    assert second.endswith("for 0.06 dollars")
    assert f"    {60 - heard} of 60 answers could not be read ({(60 - heard) / 60:.0%})" in lines


def test_weak_labels_of_the_same_name_are_no_answers_of_the_machine(dal: Command) -> None:
    weak = "weak_labels: {labeler: {labelers.WordLabeler: {price: 5.0}}, rows: 50, name: first}\n"
    Path("weak.yaml").write_text(Path("run.yaml").read_text() + weak)
    assert dal("run", "weak.yaml").code == 0
    assert "first: answered 60 rows, for 0.06 dollars" in dal("audit", "out/Random-seed0").out


def test_needs_a_router(dal: Command) -> None:
    (Path("plain.yaml")).write_text(Path("run.yaml").read_text().partition("oracle:")[0] + "folder: plain\n")
    assert dal("run", "plain.yaml", "--start", 10, "--batch", 5, "--rounds", 0).code == 0
    ended = dal("audit", "plain")
    assert ended.code == 2
    assert "names no oracle; an audit needs a Router" in ended.err


def test_a_person_answers_what_a_router_leaves_to_her(dal: Command) -> None:
    text = Path("run.yaml").read_text().replace("    person: Simulated\n", "")
    text = text.replace("folder: out\n", "").replace(
        "test: 0.3", "label: null, classes: [billing, access, shipping, feedback]"
    )
    Path("ask.yaml").write_text(text)
    ended = dal("ask", "mine", "--config", "ask.yaml", "-n", 20)
    assert ended.code == 0, ended.err
    assert "Router answered" in ended.err
    with open("todo.csv", newline="", encoding="utf-8-sig") as file:
        left = list(csv.DictReader(file))
    assert 0 < len(left) < 20
