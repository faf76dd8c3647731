"""What a reader is warned of, and what several strategies have in common."""

import json
import random
from dataclasses import replace

import pytest
from made_up import record, write_cell, write_run
from test_page import report, verdict

from dal.evaluation import Efficiency
from dal.report.cautions import cautions
from dal.report.price import LabelPrice, dollars, span
from dal.report.run_reading import read
from dal.report.verdict import Conclusion, joint_statement, verdicts


def warned(folder):
    run = read(folder)
    return cautions(run, "accuracy", verdicts(run, "accuracy"))


def cells(folder, name, course, *, seeds=8, key="ece"):
    """Cells whose figure follows `course(round, noise)`."""
    for seed in range(seeds):
        noise = random.Random(f"{name} {seed}")
        lines = [record(name, seed, r) | {key: course(r, noise)} for r in range(9)]
        write_cell(folder / f"{name}-seed{seed}", lines, answers=False)


def test_good_run_of_enough_seeds_warns_of_nothing(tmp_path):
    assert warned(write_run(tmp_path, gains={"Margin": 0.05, "Random": 0}, seeds=range(8), answers=False)) == []


def test_leads_that_too_few_seeds_for_several_strategies_can_show_are_no_reason_to_fail(tmp_path):
    gains = {"BADGE": 0.06, "CoreSet": 0.05, "Margin": 0.07, "Random": 0}
    folder = write_run(tmp_path, gains=gains, seeds=range(6), answers=False)
    for path in folder.glob("[BCM]*/metrics.jsonl"):  # ahead from the first round on, so that every interval is
        lines = [json.loads(line) for line in path.read_text().splitlines()]
        path.write_text("".join(json.dumps(line | {"accuracy": line["accuracy"] + 0.05}) + "\n" for line in lines))
    run = read(folder)
    said = verdicts(run, "accuracy")
    assert all(v.chance and v.saved.low > 1 for v in said)
    assert joint_statement(run, said) == "No strategy beats random here: the leads cannot be distinguished from chance."
    assert "Six seeds cannot tell any of three strategies from chance, even where all seeds agree: seven can" in (
        report(folder).text
    )


def test_strategy_that_is_worse_is_warned_of(tmp_path):
    folder = write_run(tmp_path, gains={"Entropy": -0.05, "Random": 0}, seeds=range(8), answers=False)
    said = warned(folder)[0]
    assert said == "Entropy was worse than random choice here, at the end and on average over the curve."


def test_strategy_that_was_ahead_and_ended_lower_is_not_called_worse_throughout(tmp_path):
    curves = {
        "Margin": (0.450, 0.578, 0.722, 0.606, 0.800, 0.783, 0.761),
        "Random": (0.450, 0.533, 0.650, 0.717, 0.722, 0.767, 0.800),
    }
    for name, scores in curves.items():
        lines = [record(name, 0, r, accuracy=score, ece=0.1) for r, score in enumerate(scores)]
        write_cell(tmp_path / f"{name}-seed0", lines, answers=False)
    (tmp_path / "config.yaml").write_text("baseline: Random\n")
    run = read(tmp_path)
    (found,) = verdicts(run, "accuracy")
    assert found.kind == "worse"
    assert found.lead > 0
    assert cautions(run, "accuracy", [found])[0] == (
        "Margin ended worse than random choice here, but was not behind on average over the curve."
    )
    unfinished = replace(run, cells=tuple(replace(cell, planned=9) for cell in run.cells))
    assert "worse than random choice so far, but" in cautions(unfinished, "accuracy", [found])[0]
    both = [replace(found, name="BADGE"), found, replace(found, name="CAL", lead=-0.01)]
    assert cautions(run, "accuracy", both)[0] == (
        "CAL was worse than random choice here, at the end and on average over the curve. BADGE and Margin ended worse "
        "than random choice here, but were not behind on average over the curve."
    )


def test_gain_below_a_fifth_of_the_labels_is_warned_of(tmp_path):
    run = read(write_run(tmp_path, seeds=range(6), answers=False))
    small = [Conclusion("better", "", ratio=1.15, name="Margin"), Conclusion("better", "", ratio=1.3, name="BADGE")]
    (said,) = cautions(run, "accuracy", small)
    assert said.startswith("Margin saves 13 % of the labels: below 20 %")


def test_few_seeds_are_warned_of(tmp_path):
    assert "Two seeds are too few to be sure." in warned(write_run(tmp_path, answers=False))


@pytest.mark.parametrize(("rate", "warns"), [(0.6, True), (0.4, False)])
def test_redundant_batches_are_warned_of(tmp_path, rate, warns):
    cells(tmp_path, "Margin", lambda r, noise: {"redundancy": rate}, key="batch")
    said = "On average more than half of the rows in a batch are close to an earlier selection with Margin (60 %)"
    assert any(said in each for each in warned(tmp_path)) is warns


@pytest.mark.parametrize("seeds", [1, 2, 8])
def test_calibration_that_gets_worse_with_labels_is_warned_of(tmp_path, seeds):
    cells(tmp_path, "Margin", lambda r, noise: 0.05 + 0.01 * r + noise.uniform(-0.003, 0.003), seeds=seeds)
    said = "calibration error was larger in the last third of the rounds than in the first with Margin"
    assert any(said in each for each in warned(tmp_path))


def test_calibration_that_only_scatters_is_not_warned_of_more_often_than_stated(tmp_path):
    names = [f"S{i}" for i in range(40)]
    for name in names:
        cells(tmp_path, name, lambda r, noise: 0.1 + noise.gauss(0, 0.02), seeds=4)
    said = " ".join(s for s in warned(tmp_path) if "calibration" in s)
    assert sum(f"{name}" in said.replace(",", "").replace(":", "").split() for name in names) <= 6


def test_what_chance_explains_is_said_once_for_all_strategies(tmp_path):
    for name in ("Margin", "BADGE", "Random"):
        cells(tmp_path, name, lambda r, noise: 0.6 + 0.02 * r + noise.uniform(-0.05, 0.05), key="accuracy")
    (tmp_path / "config.yaml").write_text("baseline: Random\n")
    said = verdict(report(tmp_path))
    assert said.startswith(
        "No strategy beats random here: the interval includes 1.0, no saving, for every one of them."
    )
    assert "cannot be distinguished from chance" not in said


def test_several_level_ones_beside_a_better_one_are_named_once(tmp_path):
    run = read(write_run(tmp_path, gains={"A": 0.1, "B": 0, "C": 0, "Random": 0}, seeds=range(8), answers=False))
    found = [Conclusion("better", "", name="A"), *(Conclusion("level", "", name=n, chance=True) for n in "BC")]
    assert joint_statement(run, found) == "Over the whole curve, B and C cannot be distinguished from random."
    assert joint_statement(run, found[:2]) == ""


def test_saving_in_dollars_follows_the_interval_of_labels():
    price = LabelPrice(75.0, 180.0, 1500.0)
    saved = Efficiency(1.5, 1.4, 1.7, (230, 290), 8, (110.0, 170.0))
    assert price.saving(saved) == "At 25 minutes a label and 180 dollars an hour it saves 8,250 to 12,800 dollars."
    assert LabelPrice(0.5).saving(saved) == "At 0.50 dollars a label it saves 55 to 85 dollars."
    perhaps = Efficiency(1.1, 0.9, 1.3, (230, 290), 8, (-20.0, 60.0))
    assert LabelPrice(0.5).saving(perhaps) == "At 0.50 dollars a label it saves at most 30 dollars, perhaps nothing."
    assert LabelPrice().saving(saved) == LabelPrice(0.5).saving(None) == ""
    assert LabelPrice(0.5).saving(Efficiency(0.8, 0.7, 0.9, (1, 2), 8, (-9.0, -3.0))) == ""


def test_price_is_that_of_the_config_or_of_the_records(tmp_path):
    config = {"price_per_label": None, "price_per_hour": 180, "seconds_per_label": 1500}
    run = read(write_run(tmp_path / "a", seeds=[0], config=config, answers=False))
    assert LabelPrice.of(run) == LabelPrice(75.0, 180.0, 1500.0)
    write_cell(tmp_path / "b", [record("Margin", 0, 0, cost={"labels": 10.0, "annotator_seconds": 400})], answers=False)
    assert LabelPrice.of(read(tmp_path / "b")) == LabelPrice(0.5, None, 20.0)
    write_cell(tmp_path / "c", [record("Margin", 0, 0)], answers=False)
    assert LabelPrice.of(read(tmp_path / "c")) == LabelPrice()


def test_verdict_says_what_is_saved_in_dollars(tmp_path):
    config = {"price_per_hour": 180, "seconds_per_label": 1500}
    said = verdict(report(write_run(tmp_path, seeds=range(8), config=config, answers=False)))
    assert "At 25 minutes a label and 180 dollars an hour it saves " in said


def test_amounts_and_times_are_said_as_a_person_would():
    assert [dollars(x) for x in (8234, 128_400, 12.4, 3, 0.25)] == [
        "8,230 dollars",
        "128,000 dollars",
        "12 dollars",
        "3 dollars",
        "0.25 dollars",
    ]
    assert [span(x) for x in (20, 1500, 7200)] == ["20 seconds", "25 minutes", "2 hours"]


def test_lead_over_five_seeds_whose_interval_includes_none_is_no_verdict(tmp_path):
    gains = {"BADGE": 0.1, "Margin": 0.0, "Random": 0.0}
    folder = write_run(tmp_path, gains=gains, seeds=range(5), rounds=6, answers=False)
    for seed in range(5):
        lead = (-0.03, -0.02, 0.03, 0.04, 0.06)[seed]
        ours = [record("Random", seed, r) for r in range(7)]
        lines = [line | {"strategy": "Margin", "accuracy": line["accuracy"] + lead} for line in ours]
        write_cell(folder / f"Margin-seed{seed}", lines, answers=False)
    found = {verdict.name: verdict for verdict in verdicts(read(folder))}
    assert (found["Margin"].kind, found["BADGE"].kind) == ("level", "better")
    assert found["Margin"].text.endswith("That may be chance.")
    assert "chance" not in found["BADGE"].text
