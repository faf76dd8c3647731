"""Who answered: the section of a run whose answers came from several sources, and of one with a real router."""

import json
import shutil
from pathlib import Path

import material
import pytest
import yaml
from labelers import WordLabeler
from made_up import record, write_cell, write_run
from scipy.stats import binomtest
from test_page import report
from test_sections import row, tables

from dal.data import Rows, Splits
from dal.experiments.experiment import Experiment
from dal.oracles.llm_oracle import LLMOracle
from dal.oracles.router import Router
from dal.oracles.simulated import Simulated
from dal.report.price import people_price
from dal.report.run_reading import read
from dal.report.sections import answer_sources
from dal.store.label_store import LabelStore
from dal.strategies import Margin, Random

PRICES = {"price_per_label": 2.0}


def said(answers, proposals=0, dollars=None, seconds=None):
    return {"answers": answers, "proposals": proposals, "dollars": dollars, "seconds": seconds}


def written(folder, sources, seeds=2, **config):
    write_run(folder, gains={"Margin": 0}, seeds=range(seeds), baseline=None, rounds=2, answers=False, config=config)
    for seed in range(seeds):
        lines = [record("Margin", seed, r, sources=sources[seed]) for r in range(3)]
        write_cell(folder / f"Margin-seed{seed}", lines, answers=False)
    return folder


def test_shares_dollars_and_seconds_are_means_over_the_seeds(tmp_path):
    sources = [
        {"person": said(30, dollars=60.0, seconds=300.0), "llm": said(40, 80, 0.5, 8.0)},
        {"person": said(50, dollars=100.0, seconds=500.0), "llm": said(20, 80, 0.7), "weak": said(0, 20, 0.4)},
    ]
    run = read(written(tmp_path, sources))
    table = tables(answer_sources.section(run, "accuracy"))["Answers by source"]
    person, machine, weak = (row(table, "Margin", name) for name in ("person", "llm", "weak"))
    assert (person["answers"], person["dollars"], person["seconds"]) == (40, 80.0, 400.0)
    assert person["share"] == pytest.approx(4 / 7)
    assert (machine["proposals"], machine["dollars"]) == (80, pytest.approx(0.6))
    assert (weak["answers"], weak["share"], weak["proposals"], weak["dollars"]) == (0, 0, 10, 0.2)
    assert "Margin sent 40 of 70 answers (57 %) to people." in report(tmp_path).text


def test_answers_of_people_alone_are_said_in_one_sentence(tmp_path):
    assert "All answers came from people (person)." in report(written(tmp_path / "a", [{"person": said(70)}] * 2)).text
    simulated = report(written(tmp_path / "b", [{"simulated": said(70)}] * 2, **PRICES))
    assert "All answers were simulated from the labels in the data" in simulated.text
    assert "People alone" not in simulated.text


def test_people_alone_are_priced_for_every_answer_but_for_labels_that_came_with_the_data(tmp_path):
    sources = [{"person": said(20, dollars=40.0), "llm": said(40, dollars=1.0)}] * 2  # 10 of 70 labels were given
    cost = {"labels": 40.0, "llm": 1.0}
    folder = written(tmp_path, sources, **PRICES)
    for seed in range(2):
        lines = [record("Margin", seed, r, sources=sources[seed], cost=cost) for r in range(3)]
        write_cell(folder / f"Margin-seed{seed}", lines, answers=False)
    section = answer_sources.section(read(folder), "accuracy")
    found = row(tables(section)["Against people alone"], "Margin")
    assert (found["answers"], found["dollars"], found["people"]) == (60, 41.0, 120.0)
    alone = [*answer_sources._priced(read(folder), "Margin", "accuracy", 2.0)]
    assert alone[0].labels == (20.0, 70.0, 120.0)  # 20, 45 and 70 labels, less 10
    assert "people alone" in report(folder).text


@pytest.mark.parametrize(
    ("config", "price"),
    [
        ({}, None),
        ({"price_per_label": 0.5}, 0.5),
        ({"price_per_hour": 36.0}, 0.2),  # 20 seconds an answer, as recorded
        ({"price_per_hour": 36.0, "seconds_per_label": 10.0}, 0.1),
        ({"price_per_hour": 36.0, "seconds_per_label": 10.0, "price_per_label": 1.0}, 1.1),
    ],
)
def test_price_of_people_is_that_of_the_config_with_the_time_that_they_took(tmp_path, config, price):
    sources = {"person": said(30, seconds=600.0), "llm": said(40, seconds=1.0)}
    found = people_price(read(written(tmp_path, [sources] * 2, **config)))
    assert found == (None if price is None else pytest.approx(price))


@pytest.mark.parametrize("sources", [None, "?", [], {"llm": None}, {"llm": {}}, {"llm": {"answers": "many"}}])
def test_sources_of_another_shape_are_no_reason_to_fail(tmp_path, sources):
    report(written(tmp_path, [sources] * 2, **PRICES))


def data():
    texts, topics = material.tickets(160)
    names = sorted(material.TOPICS)
    return Splits(
        Rows.from_inputs(texts[:110], topics[:110], names), Rows.from_inputs(texts[110:], topics[110:], names)
    )


@pytest.fixture(scope="module")
def routed(tmp_path_factory) -> Path:
    """A run of two seeds whose answers went through a real router."""
    folder = tmp_path_factory.mktemp("routed")
    machines = [
        LLMOracle(WordLabeler(wrong=0.2, unsure=0.3), "first"),
        LLMOracle(WordLabeler(wrong=0.05, salt="x"), "b"),
    ]
    router = Router(machines, Simulated(), audit=0.4, seed=3)
    Experiment(
        data(),
        WordLabeler(salt="learner"),
        Margin(),
        router,
        Random(),
        start=30,
        batch=10,
        rounds=1,
        seeds=[0, 1],
        folder=str(folder),
        quiet=True,
        price_per_label=1.0,
    ).run()
    return folder


def test_audit_of_each_machine_is_that_of_the_rows_drawn_by_lot(routed):
    table = tables(answer_sources.section(read(routed), "accuracy"))["Audit of each model"]
    router = Router([LLMOracle(WordLabeler())], audit=0.4, seed=3)
    person, machine = {}, {}
    for cell in routed.glob("Margin-seed*"):
        with LabelStore(cell / "labels.db") as store:
            person |= {e.row: e.value for e in store.events() if e.kind == "answered" and e.source == "simulated"}
            machine |= {p.row: p for p in store.proposals if p.who == "first"}
    both = [id_ for id_ in person if router.audited(id_)]
    wrong = sum(person[id_] != machine[id_].value for id_ in both)
    exact = binomtest(wrong, len(both)).proportion_ci(method="exact")
    found = row(table, "Margin", "first")
    assert 5 < len(both) < len(machine)
    assert (found["answered"], found["audited"]) == (len(machine), len(both))
    assert (found["wrong"], found["wrong_low"], found["wrong_high"]) == pytest.approx(
        (wrong / len(both), exact.low, exact.high)
    )
    assert found["dollars"] == pytest.approx(0.001 * len(machine))
    sure = [id_ for id_ in both if machine[id_].confidence >= 0.9]
    assert found["sure"] == len(sure)


def test_real_routed_run_has_the_share_the_audit_and_the_curve_against_people_alone(routed):
    page = report(routed)
    last = json.loads((routed / "Margin-seed0/metrics.jsonl").read_text().splitlines()[-1])["sources"]
    assert last["llm"]["answers"] + last["simulated"]["answers"] == 40
    assert "Simulated answers count as people’s." in page.text
    assert "Audit of each model" in " ".join(a.get("aria-label") or "" for _, a in page.attributes)
    assert "people alone" in page.text
    section = answer_sources.section(read(routed), "accuracy")
    alone = row(tables(section)["Against people alone"], "Margin")
    assert alone["people"] == 40.0
    assert alone["dollars"] < 40.0


def test_config_of_a_router_may_be_written_short_and_one_that_was_never_audited_is_said_so(routed, tmp_path):
    folder = tmp_path / "copy"
    shutil.copytree(routed, folder)
    config = yaml.safe_load((folder / "config.yaml").read_text())
    whole = tables(answer_sources.section(read(folder), None))["Audit of each model"]
    (folder / "config.yaml").write_text(yaml.safe_dump(config | {"oracle": {"Router": {"audit": 0.4, "seed": 3}}}))
    short = tables(answer_sources.section(read(folder), None))["Audit of each model"]
    assert [tuple(r) for r in short.rows] == [tuple(r) for r in whole.rows]
    (folder / "config.yaml").write_text(yaml.safe_dump(config | {"oracle": {"Router": {"audit": 0}}}))
    assert "No row was audited: set audit of the Router above 0" in report(folder).text
    (folder / "config.yaml").write_text(yaml.safe_dump(config | {"oracle": None}))
    assert "Audit of each model" not in tables(answer_sources.section(read(folder), None))
