"""Another model on the labels that a strategy chose: its figures in every line, and what they say in one sentence."""

import json
import math
from pathlib import Path
from typing import Any

import pytest
import torch
from command import Command, write_tickets
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.linear_model import LogisticRegression
from test_comparison import CONFIG
from test_experiment import experiment

from dal.config.stored import read_config
from dal.data import TextData
from dal.experiments.comparison import Comparison
from dal.experiments.successor import agreement_text, agreement_texts, conclusion
from dal.learners.probe_learner import ProbeLearner
from dal.report import write_report
from dal.report.wording import unbroken
from dal.stopping import Labels
from dal.store.run_folder import read_metrics
from dal.strategies import Margin, Random


def test_every_line_has_the_successors_figures_which_are_those_of_scikit_learn(
    tmp_path: Path, tiny_bert: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    write_tickets(tmp_path / "tickets.csv", 90)
    (tmp_path / "grid.yaml").write_text(CONFIG.replace("MODEL", str(tiny_bert)))
    options = ("--start", 12, "--rounds", 1, "--folder", "grid", "--successor", "tfidf", "--successor.ngrams", 1)
    ended = Command(capsys)("compare", "grid.yaml", "--strategies", "Margin", "--seeds", 2, *options)
    assert ended.code == 0, ended.err
    assert "accuracy of the successor TfidfLearner by number of labels" in ended.out
    assert read_config(tmp_path / "grid")["successor"]["init_args"]["ngrams"] == 1
    splits = TextData("tickets.csv", id="id", test=0.3).load()
    texts, test = list(splits.pool.inputs), list(splits.test.inputs)
    vectorizer = TfidfVectorizer(sublinear_tf=True).fit(texts)
    lines = read_metrics(tmp_path / "grid" / "Margin-seed1")
    labeled: list[int] = []
    for line in lines:
        labeled = sorted([*labeled, *splits.pool.rows_of(line["rows"]).tolist()])
        model = LogisticRegression(C=10.0, max_iter=1000)
        model.fit(vectorizer.transform([texts[row] for row in labeled]), splits.pool.labels[labeled].numpy())
        hits = model.predict(vectorizer.transform(test)) == splits.test.labels.numpy()
        assert line["successor"]["accuracy"] == pytest.approx(hits.mean())
        assert line["successor"]["learner"] == "TfidfLearner"
        assert line["successor_seconds"] > 0
    stored = json.loads((tmp_path / "grid" / "successor.json").read_text(encoding="utf-8"))
    assert stored["strategies"]["Margin"]["text"] in ended.out.replace("\n", " ")
    page = write_report(tmp_path / "grid").read_text(encoding="utf-8")
    assert stored["strategies"]["Margin"]["text"] in page
    assert "How well the labels serve another model" in page
    [figures] = json.loads((tmp_path / "grid" / "report" / "successor.json").read_text(encoding="utf-8"))
    told = stored["strategies"]["Margin"]
    assert figures == {"strategy": "Margin"} | {key: value for key, value in told.items() if key != "text"}


def test_without_a_successor_nothing_is_said_of_one(tmp_path: Path) -> None:
    lines = Comparison(experiment(tmp_path), (Margin(),)).run().cells["Margin-seed0"]
    assert not any("successor" in key for line in lines for key in line)
    assert not (tmp_path / "successor.json").exists()


def test_labels_that_cannot_train_it_are_said_in_the_place_of_figures() -> None:
    class Refuses(ProbeLearner):
        def fit(self, *given: Any, **options: Any) -> Any:
            from dal.errors import LearnerError

            raise LearnerError("not with these")

    results = Comparison(experiment(successor=Refuses(model=None)), (Margin(),)).run()
    assert results.cells["Margin-seed0"][0]["successor"] == {"learner": "Refuses", "failed": "not with these"}
    assert conclusion(results.cells, "Random") == {}


def test_the_same_learner_as_successor_gives_the_same_figures_and_leaves_the_run_alone() -> None:
    plain = Comparison(experiment(), (Margin(),)).run().cells
    followed = Comparison(experiment(successor=ProbeLearner(model=None)), (Margin(),)).run().cells
    for cell, lines in followed.items():
        for line, before in zip(lines, plain[cell], strict=True):
            assert (line["rows"], line["log_loss"]) == (before["rows"], before["log_loss"])
            assert line["successor"]["log_loss"] == pytest.approx(line["log_loss"], abs=1e-6)


def lines_with(start: float, end: float) -> list[dict[str, Any]]:
    return [{"labels": n, "successor": {"learner": "T", "accuracy": a}} for n, a in ((10, start), (20, end))]


@pytest.mark.parametrize(("gain", "said"), [(0.1, "gains from them too"), (-0.1, "serve another model worse")])
def test_the_sentence_follows_the_difference(gain: float, said: str) -> None:
    noise = torch.linspace(-0.01, 0.01, 8).tolist()
    cells = {f"Random-seed{k}": lines_with(0.5, 0.7 + noise[k]) for k in range(8)}
    cells |= {f"Margin-seed{k}": lines_with(0.5, 0.7 + gain) for k in range(8)}
    found = conclusion(cells, "Random")["strategies"]["Margin"]
    assert said in found["text"]
    assert (found["seeds"], found["labels"], round(found["baseline"], 3)) == (8, 20, 0.7)
    assert found["p"] == pytest.approx(2 / 2**8)


def test_few_seeds_are_told_from_chance_by_no_sentence() -> None:
    cells = {"Random-seed0": lines_with(0.5, 0.6), "Margin-seed0": lines_with(0.5, 0.9)}
    assert "that chance could not explain" in conclusion(cells, "Random")["strategies"]["Margin"]["text"]


@pytest.mark.parametrize(("every", "rounds"), [(1, [0, 1, 2, 3]), (2, [0, 2, 3]), (0, [3]), (9, [0, 3])])
def test_successor_is_trained_in_every_kth_round_and_in_the_last(every: int, rounds: list[int]) -> None:
    run = experiment(successor=ProbeLearner(model=None), successor_every=every, rounds=3, baseline=None)
    lines = run.run().cells["Margin-seed0"]
    assert [line["round"] for line in lines if "successor" in line] == rounds
    assert all("successor_seconds" in line for line in lines if "successor" in line)


def test_successor_is_trained_at_the_end_where_a_rule_stops_the_run() -> None:
    run = experiment(
        successor=ProbeLearner(model=None), successor_every=0, rounds=9, baseline=None, stop=Labels(max_labels=20)
    )
    lines = run.run().cells["Margin-seed0"]
    assert len(lines) < 9
    assert [("successor" in line) for line in lines] == [*[False] * (len(lines) - 1), True]


def test_choices_are_compared_on_a_sample_and_not_changed_by_that(tmp_path: Path) -> None:
    options: dict[str, Any] = {"baseline": Random(), "report": True, "quiet": True}
    plain = experiment(**options).run().cells["Margin-seed0"]
    run = experiment(tmp_path, successor=ProbeLearner(model=None), successor_sample=40, **options)
    cells = run.run().cells
    lines = cells["Margin-seed0"]
    assert not any("agreement" in line["successor"] for line in cells["Random-seed0"])  # it reads no model
    assert [line["rows"] for line in lines] == [line["rows"] for line in plain]
    for line in lines:
        found = line["successor"]["agreement"]
        assert (found["learner"], found["rows"], found["n"], found["shared"]) == ("ProbeLearner", 40, 4, 4)
        assert found["rank_correlation"] == pytest.approx(1)  # the same learner on the same labels
    text = agreement_texts({"Margin-seed0": lines})["Margin"]
    assert text == (
        f"Margin: in {len(lines)} rounds ProbeLearner and its successor ProbeLearner ranked unlabeled rows alike: rank "
        "correlation of the margins 1.00, 100 % of a batch in common (10 % by chance). Go on choosing with the cheaper "
        "one."
    )
    assert unbroken(text) in write_report(tmp_path).read_text(encoding="utf-8")
    assert read_metrics(tmp_path / "Margin-seed0")[0]["successor"]["agreement"]["rows"] == 40


def test_models_that_rank_differently_bring_advice() -> None:
    def line(correlation: float | None, **others: Any) -> dict[str, Any]:
        agreement = {"learner": "ProbeLearner", "rank_correlation": correlation, **others}
        return {"successor": {"learner": "TransformerLearner", "accuracy": 0.5, "agreement": agreement}}

    apart = line(0.1, shared=1, n=10, rows=100), line(0.3, shared=None, n=10, rows=100)
    text = agreement_texts({"BADGE-seed0": [apart[0]], "BADGE-seed1": [apart[1]]})["BADGE"]
    assert text.startswith(
        "BADGE: in 2 rounds ProbeLearner and its successor TransformerLearner ranked unlabeled rows "
    )
    assert "differently: rank correlation of the margins 0.20, 10 % of a batch in common (10 % by chance)" in text
    assert "Compare a run that chooses with the successor" in text
    assert "alike" in agreement_texts({"A-seed0": [line(0.5)]})["A"]
    for nothing in (line(None), line(math.nan), {"successor": None}, {"successor": {"agreement": 3}}, {}):
        assert agreement_texts({"A-seed0": [nothing]}) == {}
        assert agreement_text(nothing) == ""
