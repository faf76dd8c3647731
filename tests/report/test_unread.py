"""What the report says of answers that could not be read."""

import json

import pytest
import yaml
from labelers import WordLabeler
from test_answer_sources import data
from test_page import report
from test_sections import row, tables

from dal.experiments.experiment import Experiment
from dal.oracles.llm_oracle import LLMOracle
from dal.oracles.router import Router
from dal.oracles.simulated import Simulated
from dal.report.run_reading import read
from dal.report.sections import answer_sources
from dal.report.sections.unread import LONGEST, SHOWN
from dal.store.label_store import LabelStore
from dal.strategies import Random


def run(folder, oracle, **options):
    settings = {"start": 40, "batch": 10, "rounds": 1, "quiet": True, "baseline": None, "folder": str(folder)}
    Experiment(data(), WordLabeler(salt="learner"), Random(), oracle, **settings | options).run()
    return folder


@pytest.fixture(scope="module")
def alone(tmp_path_factory):
    """A run answered by one model that is mute on a quarter of the texts."""
    oracle = LLMOracle(WordLabeler(mute=0.25), "claude", hide_labels=True)
    return run(tmp_path_factory.mktemp("alone"), oracle, show_texts=True)


def lost(folder):
    with LabelStore(folder / "Random-seed0" / "labels.db") as store:
        return {each.row: each.text for each in store.unread}, len(store.answers) + len(store.skipped)


def test_says_how_many_of_whose_answers_could_not_be_read(alone):
    unread, total = lost(alone)
    assert total == 50
    assert 5 < len(unread) < 25
    assert (
        f"{len(unread)} of 50 answers of claude could not be read ({100 * len(unread) / 50:.0f} %)."
        in report(alone).text
    )


def test_shows_a_few_as_they_came_and_as_data(alone):
    unread, _ = lost(alone)
    table = tables(answer_sources.section(read(alone), None))["Answers that could not be read"]
    assert len(table.rows) == SHOWN
    for strategy, who, id_, text in table.rows:
        assert (strategy, who, text) == ("Random", "claude", unread[id_])
    markup = (alone / "report.html").read_text()
    assert "&lt;b&gt;I cannot say&lt;/b&gt;" in markup
    assert "<b>I cannot say" not in markup


def test_shows_none_where_texts_are_not_to_be_shown(alone, tmp_path):
    config = yaml.safe_load((alone / "config.yaml").read_text())
    cell = tmp_path / "Random-seed0"
    cell.mkdir()
    (cell / "labels.db").write_bytes((alone / "Random-seed0" / "labels.db").read_bytes())
    (cell / "metrics.jsonl").write_bytes((alone / "Random-seed0" / "metrics.jsonl").read_bytes())
    (tmp_path / "config.yaml").write_text(yaml.safe_dump(config | {"show_texts": False}))
    page = report(tmp_path)
    assert "could not be read" in page.text
    assert "I cannot say" not in page.text
    assert not list((tmp_path / "report").rglob("*unread*"))


def test_long_answers_are_cut(alone):
    from dal.report.sections.unread import _short

    assert _short("x" * LONGEST) == "x" * LONGEST
    assert _short("x" * (LONGEST + 1)) == "x" * (LONGEST - 1) + "…"


def test_of_a_routers_machines_each_is_told_apart_and_the_audit_pays_for_all(tmp_path):
    machines = [LLMOracle(WordLabeler(mute=0.3, price=0.5), "a"), LLMOracle(WordLabeler(salt="x", price=0.25), "b")]
    folder = run(tmp_path, Router(machines, Simulated(), audit=0.3))
    unread, _ = lost(folder)
    assert f"{len(unread)} of 50 answers of a could not be read" in report(folder).text
    assert "answers of b could" not in report(folder).text
    audit = tables(answer_sources.section(read(folder), None))["Audit of each model"]
    first = row(audit, "Random", "a")
    assert (first["answered"], first["dollars"]) == (50 - len(unread), pytest.approx(25.0))


def test_says_it_of_a_learner_that_answers_in_words(tmp_path):
    folder = tmp_path
    Experiment(
        data(),
        WordLabeler(mute=0.2),
        Random(),
        Simulated(),
        None,
        start=20,
        rounds=0,
        quiet=True,
        folder=str(folder),
    ).run()
    last = json.loads((folder / "Random-seed0" / "metrics.jsonl").read_text().splitlines()[-1])
    count = last["unread"]["count"] + last["pool"]["unread"]["count"]
    share = sum(part["share"] * part["count"] for part in (last["unread"], last["pool"]["unread"])) / count
    assert 0.05 < share < 0.4
    page = report(folder)
    assert f"asked about {count} texts after the last round; {100 * share:.0f} % of its answers could not" in page.text


def test_says_nothing_where_all_could_be_read(tmp_path):
    assert "could not be read" not in report(run(tmp_path, Simulated())).text
