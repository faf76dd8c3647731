"""The sections of the page: each shows what its keys hold, and is left out where there are none."""

import json
from statistics import mean

import pytest
from made_up import measured, record, write_cell, write_map, write_measured_run, write_run
from test_page import report

from dal.report import write_report
from dal.report.page_parts import Statement
from dal.report.run_reading import read
from dal.report.sections import batch_measures as batches
from dal.report.sections import calibration_diagrams as calibration
from dal.report.sections import class_labels, costs, forecast, maps, quality, selections
from dal.report.sections import learning_curves as learning
from dal.report.series import of_run

SECTIONS = {
    "classes": "By class",
    "class_labels": "Labels that each class lacks",
    "groups": "By group",
    "calibration": "Calibration",
    "batches": "Batch measures",
    "overlap": "Overlap of the strategies",
    "map": "Map of the pool",
    "chosen": "Rows selected in each round",
    "label_issues": "Probable label errors",
    "cost": "Costs",
    "prediction": "What more labels would bring",
}


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return write_measured_run(tmp_path_factory.mktemp("measured"), seeds=range(3), answers=False)


@pytest.fixture(scope="module")
def page(folder):
    return report(folder)


def lasts(folder, name):
    paths = sorted(folder.glob(f"{name}-seed*/metrics.jsonl"))
    return [json.loads(path.read_text().splitlines()[-1]) for path in paths]


def tables(section):
    """The tables of a section, shown and exported, by what they are."""
    from dal.report.page_parts import Table, leaves

    return {part.label: part for part in leaves(section.parts) if isinstance(part, Table)}


def row(table, *names):
    (found,) = [
        dict(zip((c.key for c in table.columns), r, strict=True)) for r in table.rows if r[: len(names)] == names
    ]
    return found


def test_everything_that_was_measured_has_its_section_and_its_place_in_the_contents(page):
    headings = {a["id"] for tag, a in page.attributes if tag == "h2"}
    assert headings >= set(SECTIONS)
    links = {a["href"] for tag, a in page.attributes if tag == "a"}
    assert {f"#{name}" for name in SECTIONS} <= links


def test_sections_without_data_are_left_out_of_the_page_and_the_contents(tmp_path):
    keep = ("round", "labels", "strategy", "acting_strategy", "seed", "accuracy")
    lines = [{key: record("Margin", 0, r)[key] for key in keep} for r in range(3)]
    write_cell(tmp_path / "Margin-seed0", lines, answers=False)
    page = report(tmp_path)
    assert not {a.get("id") for tag, a in page.attributes if tag == "h2"} & set(SECTIONS)
    assert "By class" not in page.text


def test_quality_is_the_mean_of_the_last_rounds_on_test_and_pool(folder):
    table = tables(quality.section(read(folder)))["Quality at the end"]
    found = row(table, "accuracy")
    assert found["Margin test"] == pytest.approx(mean(line["accuracy"] for line in lasts(folder, "Margin")))
    assert found["Random pool"] == pytest.approx(mean(line["pool"]["accuracy"] for line in lasts(folder, "Random")))
    assert row(table, "AUROC")["Margin pool"] is None
    assert row(table, "Matthews correlation")["Margin test"] is not None


def test_classes_and_groups_are_means_over_seeds(folder):
    run = read(folder)
    found = row(tables(quality.classes(run))["F1 by class"], "Margin", "shipping")
    each = [line["per_class"]["shipping"] for line in lasts(folder, "Margin")]
    assert found["f1"] == pytest.approx(mean(e["f1"] for e in each))
    assert (found["count"], found["precision"]) == (54, pytest.approx(mean(e["precision"] for e in each)))
    assert row(tables(quality.groups(run))["Accuracy by group"], "Random", "chat")["macro_f1"] is None


def test_calibration_stands_before_and_after_scaling(folder):
    found = row(tables(calibration.section(read(folder)))["Calibration"], "Margin")
    lines = lasts(folder, "Margin")
    assert found["ece"] == pytest.approx(mean(line["ece"] for line in lines))
    assert found["scaled_ece"] == pytest.approx(mean(line["temperature_scaled"]["ece"] for line in lines))
    assert found["temperature"] == pytest.approx(mean(line["temperature_scaled"]["temperature"] for line in lines))


def test_calibration_without_held_out_labels_has_no_scaled_figures(tmp_path):
    def without(line):
        return {key: value for key, value in measured(line).items() if key != "temperature_scaled"}

    table = tables(calibration.section(read(write_measured_run(tmp_path, seeds=[0], more=without))))["Calibration"]
    assert [column.key for column in table.columns] == ["strategy", "ece", "ace", "log_loss", "brier"]


def test_batches_are_drawn_over_the_labels_and_say_where_distances_are(folder, page):
    section = batches.section(read(folder))
    assert [plot.name for plot in section.parts[0].plots][:2] == ["redundancy-by-labels", "novelty-by-labels"]
    assert "Distances are between embeddings." in page.text


def test_overlap_is_the_jaccard_index_of_the_labeled_rows(tmp_path):
    rows = {"A": [["a", "b"], ["c"]], "B": [["a", "b"], ["d"]]}
    for name, batches_ in rows.items():
        lines = [record(name, 0, i, rows=ids, scores=None) for i, ids in enumerate(batches_)]
        write_cell(tmp_path / f"{name}-seed0", lines, answers=False)
    table = tables(batches.overlap(read(tmp_path)))["Rows in common"]
    assert row(table, "A") == {"strategy": "A", "A": 1.0, "B": 0.5}


def test_map_tells_the_id_of_every_row_and_its_text_only_where_allowed(tmp_path):
    for allowed in (False, True):
        folder = write_run(tmp_path / str(allowed), gains={"Margin": 0}, seeds=[0], baseline=None, rounds=1)
        (folder / "config.yaml").write_text(f"show_texts: {str(allowed).lower()}\n")
        lines = [record("Margin", 0, r, texts=["private"] * 25) for r in range(2)]
        write_cell(folder / "Margin-seed0", lines, answers=False)
        write_map(folder / "Margin-seed0", lines, others=3)
        markup = write_report(folder).read_text()
        assert f"<title>{lines[1]['rows'][0]}, labeled in round 2" in markup
        assert "<title>never-0002, never labeled</title>" in markup
        assert ("private" in markup) is allowed


@pytest.mark.parametrize("content", ["", "[1]", "{}", '{"ids": ["a"], "x": [null], "y": [1], "round": [1]}'])
def test_map_that_cannot_be_read_is_no_reason_to_fail(tmp_path, content):
    write_cell(tmp_path / "Margin-seed0", [record("Margin", 0, r) for r in range(2)], answers=False)
    (tmp_path / "Margin-seed0/map.json").write_text(content)
    assert maps.section(read(tmp_path)) is None


def test_only_as_many_maps_are_shown_as_the_page_can_carry(tmp_path, monkeypatch):
    folder = write_measured_run(tmp_path, seeds=[0, 1], rounds=2)
    monkeypatch.setattr(maps, "MAX_MAPS", 3)
    *parts, note = maps.section(read(folder)).parts
    assert [panel.title for panel in parts[0].panels] == ["Margin, seed 0", "Random, seed 0", "Margin, seed 1"]
    assert "1 more maps are in the map.json" in note.text


def test_row_that_several_runs_doubt_comes_first_and_once(tmp_path):
    issues = {0: [("x", 0.9), ("y", 0.6)], 1: [("y", 0.8)]}
    for seed, found in issues.items():
        told = [{"row": r, "given": "billing", "suggested": "access", "confidence": c} for r, c in found]
        write_cell(tmp_path / f"Margin-seed{seed}", [record("Margin", seed, 0, label_issues=told)], answers=False)
    table = tables(selections.label_issues(read(tmp_path)))["Probable label errors"]
    assert [tuple(r) for r in table.rows] == [
        ("y", "billing", "access", pytest.approx(0.7), 2),
        ("x", "billing", "access", 0.9, 1),
    ]


def test_nearest_labeled_row_is_shown_with_its_label_where_it_is_known(tmp_path):
    lines = [record("Margin", 0, 0, rows=["a"], scores=[1.0]), record("Margin", 0, 1, rows=["b"], nearest=["a"])]
    write_cell(tmp_path / "Margin-seed0", lines)
    assert "a (billing)" in report(tmp_path).text


def test_text_of_the_nearest_labeled_row_is_shown_where_texts_are(tmp_path):
    first = record("Margin", 0, 0, rows=["a"], scores=[1.0], texts=["the earlier one"], nearest=[None])
    second = record("Margin", 0, 1, rows=["b", "c"], texts=["x", ["y", "z"]], nearest=["a", "given"])
    lines = [first, second | {"nearest_texts": {"given": "came with a label"}}]
    for allowed in (True, False):
        folder = write_run(tmp_path / str(allowed), gains={"Margin": 0}, seeds=[0], baseline=None, rounds=1)
        (folder / "config.yaml").write_text(f"show_texts: {str(allowed).lower()}\n")
        write_cell(folder / "Margin-seed0", lines)
        found = [row for table in tables(selections.section(read(folder))).values() for row in table.rows if "b" in row]
        assert found[0][-1] == ("the earlier one" if allowed else "a (billing)")
        text = report(folder).text
        assert ("came with a label" in text) is ("the earlier one" in text) is allowed


def test_reason_of_a_batch_is_told(tmp_path):
    write_cell(tmp_path / "Auto-seed0", [record("Auto", 0, r, why="labels are few") for r in range(2)], answers=False)
    assert "labels are few; near-duplicates: 4 %" in report(tmp_path).text


def test_cost_adds_the_seconds_of_all_rounds_and_takes_the_last_dollars(folder):
    found = row(tables(costs.section(read(folder)))["Costs"], "Margin")
    lines = [json.loads(x) for p in folder.glob("Margin-*/metrics.jsonl") for x in p.read_text().splitlines()]
    assert found["fit_seconds"] == pytest.approx(sum(line["fit_seconds"] for line in lines) / 3)
    assert found["labels_dollars"] == 85.0  # 170 labels of 0.5 dollars
    assert found["annotator_hours"] == pytest.approx(170 * 12 / 3600)
    assert "llm_dollars" not in found


def test_curves_are_drawn_over_labels_money_and_time_where_these_were_spent(folder, tmp_path):
    run = read(folder)
    assert [axis.key for axis in learning.axes(run, "accuracy")] == ["labels", "money", "time"]
    assert learning.axes(run, "accuracy")[2].unit == "minutes of computing"
    free = [{k: v for k, v in record("Margin", 0, r).items() if not k.endswith("_seconds")} for r in range(3)]
    write_cell(tmp_path / "Margin-seed0", free, answers=False)
    assert [axis.key for axis in learning.axes(read(tmp_path), "accuracy")] == ["labels"]


def test_seeds_are_compared_at_the_same_labels_where_one_took_longer(tmp_path):
    for seed, slow in ((0, 5.0), (1, 90.0), (2, 4.0)):
        score = 0.5 + 0.01 * seed
        lines = [{"labels": 20 + 10 * r, "accuracy": score + 0.1 * r, "fit_seconds": slow} for r in range(3)]
        write_cell(tmp_path / f"Margin-seed{seed}", lines, answers=False)
    (series,) = of_run(read(tmp_path), "accuracy", "time")
    assert [c.labels for c in series.curves] == [(5.0, 10.0, 15.0)] * 3
    assert series.band.mean.scores == pytest.approx((0.51, 0.61, 0.71))


def test_time_of_a_round_is_all_that_was_spent_so_far():
    from dal.report.measures import spent

    lines = [{"fit_seconds": 2, "pass_seconds": 1}, {"accuracy": 1}, {"fit_seconds": 3, "select_seconds": 0.5}]
    assert spent(lines, "time") == [3, None, 6.5]
    assert spent([{"cost": {"labels": 3, "llm": 1}}, {"cost": {"labels": 4}}, {}], "money") == [4, 4, None]


def test_prediction_says_what_more_labels_bring_and_that_it_is_an_extrapolation(page):
    assert "Margin: the next 100 labels would bring accuracy from 0." in page.text
    assert "(90 % interval 0." in page.text
    assert "This is an extrapolation" in page.text


def test_target_is_that_of_the_stopping_rule_or_the_next_round_score(tmp_path):
    folder = write_run(tmp_path / "a", rounds=6, answers=False)
    assert "For 0.9 it would need" in report(folder).text or "expected to reach 0.9." in report(folder).text
    stop = {"class_path": "dal.stopping.score_rules.TargetScore", "init_args": {"metric": "accuracy", "value": 0.87}}
    folder = write_run(tmp_path / "b", rounds=6, answers=False, config={"stop": stop})
    assert "0.87" in report(folder).text


def test_successor_without_a_baseline_or_without_figures_is_no_reason_to_fail(tmp_path):
    one = [record("Margin", 0, r, successor={"learner": "Tfidf", "accuracy": 0.5 + 0.1 * r}) for r in range(2)]
    write_cell(tmp_path / "a" / "Margin-seed0", one, answers=False)
    assert "Tfidf was trained on the same labels; there is no baseline" in report(tmp_path / "a").text
    for told in ({"learner": "Tfidf", "failed": "not with these"}, None, "?", {"accuracy": 0.5}, {"accuracy": "?"}):
        write_cell(tmp_path / "b" / "Margin-seed0", [record("Margin", 0, 0, successor=told)], answers=False)
        assert "How well the labels serve" not in report(tmp_path / "b").text


def test_few_points_are_not_continued(tmp_path):
    write_cell(tmp_path / "Margin-seed0", [record("Margin", 0, r) for r in range(4)], answers=False)
    assert forecast.section(read(tmp_path), "accuracy") is None


@pytest.mark.parametrize("key", sorted(measured(record("Margin", 0, 0)).keys() - record("Margin", 0, 0).keys()))
@pytest.mark.parametrize("value", [None, "?", [], {}, {"x": None}, [{"row": None}]])
def test_key_of_another_shape_is_no_reason_to_fail(tmp_path, key, value):
    lines = [measured(record("Margin", 0, r)) | {key: value} for r in range(2)]
    write_cell(tmp_path / "Margin-seed0", lines, answers=False)
    run = read(tmp_path)
    for section in (quality.section, quality.classes, quality.groups, calibration.section, batches.section):
        section(run)
    for section in (selections.section, selections.label_issues, costs.section, class_labels.section):
        section(run)


def test_choices_of_the_fits_are_shown_where_they_change(tmp_path):
    texts = ["class descriptions not used (a: 1)", "class descriptions not used (a: 2)", "at strength 10 <b> (a: 3)"]
    lines = [record("Margin", 0, place, training={"text": text}) for place, text in enumerate(texts)]
    write_cell(tmp_path / "Margin-seed0", lines)
    report(tmp_path)
    page = (tmp_path / "report.html").read_text(encoding="utf-8")
    assert "with 20 labels class descriptions not used (a: 1); with 70 labels at strength 10 &lt;b&gt; (a: 3)" in page
    assert "(a: 2)" not in page.split("config.yaml")[0]


def by_class(round, counts, scores, test_rows=(40, 40, 40, 4)):
    """A record in which the classes have these labels and F1."""
    figures = {
        name: {"precision": f1, "recall": f1, "f1": f1, "count": rows}
        for name, f1, rows in zip(("a", "b", "c", "d <i>"), scores, test_rows, strict=True)
    }
    return record("Margin", 0, round, class_counts=list(counts), per_class=figures)


def said_of_classes(folder):
    section = class_labels.section(read(folder))
    words = [part.text for part in section.parts if isinstance(part, Statement)]
    return words, {row[0]: row[1:] for row in tables(section)["Labels that each class lacks"].rows}


def test_each_class_below_the_median_is_told_how_many_labels_it_lacks(tmp_path):
    lines = []
    for round, n in enumerate((4, 8, 16, 32)):  # c: 0.9 - n^-0.5; the median of the last round is 0.8, reached at 100
        scores = (0.85, 0.88, 0.9 - n**-0.5, 0.75)
        lines.append(by_class(round, (20, 20, n, 10), scores))
    lines[-1] = by_class(3, (20, 20, 32, 10), (0.875, 0.88, 0.9 - 32**-0.5, 0.75))
    write_cell(tmp_path / "Margin-seed0", lines, answers=False)
    words, rows = said_of_classes(tmp_path)
    goal = (0.875 + 0.75) / 2
    lacks = (0.9 - goal) ** -2 - 32
    assert rows["c"][3].startswith("about ")
    assert float(rows["c"][3].split()[1]) == pytest.approx(lacks, rel=0.1)
    assert words[0].startswith("c: 32 labels, F1 0.72; about ")
    assert "would bring it to the median 0.81 of all classes." in words[0]
    assert words[1] == (
        "d <i>: 10 labels, F1 0.75, below the median 0.81 of all classes; too few rounds to tell what it lacks. Only 4 "
        "test rows are of this class: the F1 is uncertain."
    )
    assert (rows["a"][3], rows["b"][3], rows["d <i>"][3]) == ("none", "none", "unknown")


def test_a_class_whose_f1_does_not_rise_with_its_labels_is_not_promised_anything(tmp_path):
    lines = [by_class(r, (9, 9, 5 * (r + 1), 9), (0.9, 0.9, 0.4, 0.8)) for r in range(5)]
    write_cell(tmp_path / "Margin-seed0", lines, answers=False)
    words, rows = said_of_classes(tmp_path)
    assert "more labels of it alone are not expected to bring it to the median 0.85" in words[0]
    assert rows["c"][3] == "not a matter of its labels"


def test_a_class_without_labels_or_test_rows_is_no_reason_to_fail(tmp_path):
    lines = [by_class(r, (9, 9, 0, 9 + r), (0.9, 0.9, 0.0, None)) for r in range(5)]
    write_cell(tmp_path / "Margin-seed0", lines, answers=False)
    words, rows = said_of_classes(tmp_path)
    assert words[0].startswith("c: 0 labels, F1 0.00, below the median 0.90 of all classes; too few rounds")
    assert set(rows) == {"a", "b", "c"}


def write_candidates(folder, name, rounds, *, seeds=2):
    """Cells of a strategy whose rounds have these figures of candidates."""
    for seed in range(seeds):
        lines = [record(name, seed, r, candidates=each) for r, each in enumerate(rounds)]
        write_cell(folder / f"{name}-seed{seed}", lines, answers=False)


def section_on_candidates(folder):
    """The text of the section, and its exported table."""
    text = report(folder).text.partition("What the candidates save and leave out")[2]
    return text, json.loads((folder / "report" / "candidates.json").read_text(encoding="utf-8"))


def test_recall_of_the_candidates_is_summed_up_with_advice(tmp_path):
    for name, recall in (("Margin", 0.92), ("BADGE", 0.4), ("CoreSet", 0.1)):
        counts = {"count": 100, "of": 1000, "scored": 100}
        write_candidates(tmp_path, name, [counts, counts | {"recall": recall, "recall_seconds": 1.0}])
    text, table = section_on_candidates(tmp_path)
    saved = (
        "2 of 4 passes over the whole pool were saved, 40 % of the rows; 2 passes were made only to measure the recall."
    )
    assert f"Margin: {saved} In 2 rounds the candidates, 10 % of the rows, contained 92 % of the batch that" in text
    assert "contained 40 % of the batch that the whole pool would have given. More candidates would" in text
    assert "contained 10 % of the batch that the whole pool would have given. Random rows would" in text
    figures = [{k: v for k, v in row.items() if k != "strategy"} for row in table if row["strategy"] == "Margin"]
    assert figures == [
        {"labels": 20, "candidates": 100, "scored": 100, "of": 1000, "recall": None, "seeds": 2},
        {"labels": 45, "candidates": 100, "scored": 1100, "of": 1000, "recall": 0.92, "seeds": 2},
    ]


#: Rounds of a generator that scores the whole pool now and then: a first pass, a measured one, and two without a pass.
REFRESHED = [
    {"of": 1000, "scored": 1000},
    {"count": 100, "of": 975, "scored": 975, "recall": 0.6, "recall_seconds": 0.0},
    {"count": 100, "of": 950, "scored": 100},
    {"count": 100, "of": 925, "scored": 100},
]


@pytest.mark.parametrize(
    ("wanted", "advice"),
    [
        (0.5, ""),
        (0.8, "That is less than min_recall, 80 %: more candidates would contain more, and a lower min_recall would"),
        (None, "More candidates would contain more."),
    ],
)
def test_passes_that_candidates_of_an_earlier_pass_saved_are_said_with_advice(tmp_path, wanted, advice):
    write_candidates(tmp_path, "Margin", REFRESHED, seeds=1)
    options = {} if wanted is None else {"min_recall": wanted}
    config = {"candidates": {"class_path": "dal.strategies.proxy_candidates.RefreshedProxy", "init_args": options}}
    (tmp_path / "config.yaml").write_text(json.dumps(config))
    text, table = section_on_candidates(tmp_path)
    assert text.strip().startswith(
        "Margin: 2 of 4 passes over the whole pool were saved, 44 % of the rows. In one round that scored the whole "
        f"pool, candidates, 10 % of the rows, would have contained 60 % of the batch. {advice or 'Means over'}"
    )
    assert [(row["candidates"], row["scored"], row["of"]) for row in table] == [
        (None, 1000, 1000), (100, 975, 975), (100, 100, 950), (100, 100, 925)
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("rounds", "said"),
    [
        (REFRESHED[:2], "Margin: no pass over the whole pool was saved. In one round that scored"),
        (REFRESHED[1:3], "Margin: 1 of 2 passes over the whole pool was saved, 44 % of the rows. In one round"),
        (
            [{"count": 500, "of": 1000, "scored": 500, "recall": 0.9}],
            "Margin: no pass over the whole pool was saved, and 50 % more rows were scored than without candidates; "
            "one pass was made only to measure the recall. In one round the candidates, 50 % of the rows, contained",
        ),
        (
            [{"count": 500, "of": 1000, "scored": 0}, {"count": 500, "of": 1000, "scored": 500}],
            "Margin: 1 of 1 passes over the whole pool was saved, 50 % of the rows. What they leave out was not "
            "measured: set recall_every.",
        ),
    ],
)
def test_saved_passes_and_rows_are_counted_for_every_kind_of_generator(tmp_path, rounds, said):
    write_candidates(tmp_path, "Margin", rounds, seeds=1)
    write_candidates(tmp_path, "Random", [{"count": 500, "of": 1000, "scored": 0}], seeds=1)  # it reads no model
    text, table = section_on_candidates(tmp_path)
    assert text.strip().startswith(said)
    assert {row["strategy"] for row in table} == {"Margin"}


def test_candidates_that_an_earlier_version_recorded_are_reported_without_what_it_left_out(tmp_path):
    measured = {"count": 80, "of": 669, "scored": 669, "recall": 0.3, "recall_seconds": 0.0}
    write_candidates(tmp_path, "Margin", [None, measured, {"count": 80, "of": 649}], seeds=1)
    write_candidates(tmp_path, "Random", [{"count": 80, "of": 669}], seeds=1)
    text, table = section_on_candidates(tmp_path)
    assert text.strip().startswith(
        "Margin: in one round that scored the whole pool, candidates, 12 % of the rows, would"
    )
    assert [(row["scored"], row["recall"]) for row in table] == [(669, 0.3), (None, None)]


@pytest.mark.parametrize(
    "value",
    [None, "?", 3, {}, {"recall": "?"}, {"recall": 0.5}, {"recall": 1, "count": 1, "of": 0}, {"scored": "?", "of": 9}],
)
def test_recall_of_another_shape_is_no_reason_to_fail(tmp_path, value):
    write_cell(tmp_path / "Margin-seed0", [record("Margin", 0, 0, candidates=value)], answers=False)
    assert "What the candidates" not in report(tmp_path).text
