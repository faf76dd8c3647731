import json
import re
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import material
import pytest
from command import write_tickets

from dal.annotate import answer_figures
from dal.annotate.ranker import Ranker, RankingJob
from dal.errors import ConfigError, LearnerError, NeedError
from dal.experiments.results import Cell
from dal.experiments.stored_experiments import stored_experiment
from dal.learners.tfidf_learner import TfidfLearner
from dal.monitor import SILENT, Monitor
from dal.session import Session
from dal.store.events import SKIP, Answer
from dal.store.label_store import LabelStore

ROWS = 60


class Project:
    """A folder with 60 tickets and a config, and what answers to it may say."""

    def __init__(self, folder: Path, learner: str, strategy: str, *, classes: Sequence[str] | None = None) -> None:
        self.folder = folder
        names = sorted(material.TOPICS) if classes is None else list(classes)
        data = {"path": str(folder / "tickets.csv"), "id": "id", "label": None, "classes": names or None}
        folder.mkdir()
        write_tickets(folder / "tickets.csv", ROWS, labels=False)
        config = f"data: {json.dumps(data)}\nlearner: {learner}\nstrategy: {strategy}\nseeds: [3]\n"
        (folder / "config.yaml").write_text(config)
        topics = material.tickets(ROWS)[1]
        self.truth = {f"t{i}": topic for i, topic in enumerate(topics)}
        self.store = LabelStore(folder / "labels.db")

    def configure(self, line: str) -> None:
        with (self.folder / "config.yaml").open("a") as file:
            file.write(line + "\n")

    def ranker(self, monitor: Monitor = SILENT) -> Ranker:
        return Ranker(self.folder, monitor, lambda text: None)

    def job(self, n: int = 5, keep: Sequence[str] = ()) -> RankingJob:
        return RankingJob(1, self.store.written[0], n, keep)

    def answer(self, ids: Sequence[str]) -> None:
        self.store.tell([Answer(id, self.truth[id]) for id in ids])


def ids(ranking: dict[str, Any]) -> list[str]:
    return [row["id"] for row in ranking["rows"]]


Projects = Callable[..., Project]


@pytest.fixture
def project(tmp_path: Path) -> Projects:
    return lambda learner="TfidfLearner", strategy="Margin", **options: Project(
        tmp_path / "project", learner, strategy, **options
    )


@pytest.mark.parametrize("strategy", ["Auto", "Margin", "Entropy of 20 candidates"])
def test_ten_rounds_ask_the_same_questions_as_a_session(project: Projects, tiny_bert: Path, strategy: str) -> None:
    learner = f"{{ProbeLearner: {{model: {tiny_bert}, max_length: 16}}}}"
    mine = project(learner, strategy.split()[0])
    if "candidates" in strategy:
        mine.configure("candidates: 20")
    experiment = stored_experiment(mine.folder)
    ranker = mine.ranker()
    with experiment.session(Cell("same", experiment.strategy, 3), None, simulated=False) as session:
        for _ in range(10):
            rows = experiment.ask(session, 5)
            asked = [session.pool.ids[row] for row in rows.tolist()]
            ranking = ranker.rank(mine.job(5))
            assert ids(ranking) == asked
            scores = [row["score"] for row in ranking["rows"]]
            batch = session.last_selection
            assert batch is not None
            assert scores == ([None] * 5 if batch.scores is None else batch.scores.tolist())
            assert (ranking["strategy"], ranking["reason"]) == (batch.strategy, batch.reason)
            mine.store.ask(ids(ranking), strategy=ranking["strategy"], details=ranking["details"])
            mine.answer(asked)
            session.tell(rows, [mine.truth[id] for id in asked])


def test_pending_rows_that_are_not_kept_are_chosen_again_and_kept_ones_never(project: Projects) -> None:
    mine = project()
    mine.store.ask([f"t{i}" for i in range(30)])
    mine.answer([f"t{i}" for i in range(20)])
    pending = [f"t{i}" for i in range(20, 30)]
    ranker = mine.ranker()
    everything = ids(ranker.rank(mine.job(ROWS)))
    assert set(everything) == set(mine.truth) - {f"t{i}" for i in range(20)}
    keep = [*pending[:3], "t40", "unknown"]  # a row that was found by search was never asked
    assert set(ids(ranker.rank(mine.job(ROWS, keep)))) == set(everything) - set(keep)
    assert mine.store.pending == pending


def test_answers_after_the_event_are_not_known(project: Projects) -> None:
    mine = project()
    mine.store.ask(["t0", "t1", "t2", "t3", "t4"])
    mine.answer(["t0", "t1", "t2"])
    job = mine.job()
    before = mine.ranker().rank(job)
    mine.answer(["t3", "t4"])
    assert mine.ranker().rank(job) | {"figures": None, "details": None} == before | {"figures": None, "details": None}
    assert mine.ranker().rank(mine.job())["figures"]["labels"] == 5
    assert before["figures"]["labels"] == 3


def test_folder_is_only_read(project: Projects) -> None:
    mine = project()
    mine.store.ask([f"t{i}" for i in range(20)])
    mine.answer([f"t{i}" for i in range(20)])
    mine.store.close()

    def content() -> dict[str, bytes]:
        return {path.name: path.read_bytes() for path in mine.folder.iterdir()}

    before, event = content(), 40
    for path in mine.folder.iterdir():
        path.chmod(0o444)
    mine.folder.chmod(0o555)  # root may write nevertheless
    try:
        assert len(mine.ranker().rank(RankingJob(1, event, 5))["rows"]) == 5
    finally:
        mine.folder.chmod(0o755)
    after = content()
    assert {name: after[name] for name in before} == before
    assert set(after) - set(before) <= {"labels.db-shm", "labels.db-wal"}  # of SQLite, while a file is read


def test_model_is_kept_where_the_labels_are_the_same(project: Projects, monkeypatch: pytest.MonkeyPatch) -> None:
    fits: list[int] = []
    fit = TfidfLearner.fit

    def counted(self: TfidfLearner, data: Any, rows: Any, *arguments: Any, **options: Any) -> Any:
        fits.append(len(rows))
        return fit(self, data, rows, *arguments, **options)

    monkeypatch.setattr(TfidfLearner, "fit", counted)
    mine = project()
    mine.store.ask([f"t{i}" for i in range(12)])
    mine.answer([f"t{i}" for i in range(6)])
    ranker = mine.ranker()
    ranker.rank(mine.job())
    ranker.rank(mine.job(keep=["t9"]))
    assert fits == [6]
    mine.answer(["t9"])
    ranker.rank(mine.job())
    assert fits == [6, 7]


def test_start_without_labels_selects_without_a_model(project: Projects) -> None:
    ranking = project().ranker().rank(RankingJob(1, 0, 5))
    assert (ranking["strategy"], len(ranking["rows"])) == ("Random", 5)
    assert [row["guesses"] for row in ranking["rows"]] == [[]] * 5
    assert {row["why"] for row in ranking["rows"]} == {"drawn at random"}


def test_data_without_classes_are_ranked_by_a_label_free_strategy(project: Projects, tiny_bert: Path) -> None:
    learner = f"{{ProbeLearner: {{model: {tiny_bert}, max_length: 16}}}}"
    ranking = project(learner, "ClusterCenters", classes=()).ranker().rank(RankingJob(1, 0, 5))
    assert (ranking["strategy"], len(set(ids(ranking)))) == ("ClusterCenters", 5)
    assert ranking["figures"]["class_counts"] == {}
    assert ranking["rows"][0]["why"].startswith("number 1 of 5 by ClusterCenters")


def test_data_without_classes_are_ranked_at_random_where_the_strategy_needs_a_model(project: Projects) -> None:
    ranking = project("TfidfLearner", "Margin", classes=()).ranker().rank(RankingJob(1, 0, 5))
    assert (ranking["strategy"], len(ranking["rows"])) == ("Random", 5)


def test_labels_of_one_class_select_as_before_the_first_label(project: Projects) -> None:
    mine = project()
    same = [id for id, topic in mine.truth.items() if topic == "billing"][:4]
    mine.store.ask(same)
    mine.answer(same)
    ranking = mine.ranker().rank(mine.job())
    assert len(ranking["rows"]) == 5
    assert ranking["strategy"] == "Random"
    assert ranking["reason"].startswith("Random, as before the first answer: ")
    assert not set(ids(ranking)) & set(same)


def test_nothing_is_left_where_all_rows_are_answered_or_kept(project: Projects) -> None:
    mine = project()
    mine.store.ask(list(mine.truth))
    mine.answer(list(mine.truth)[:-2])
    mine.store.tell([Answer("t58", SKIP)])
    ranking = mine.ranker().rank(mine.job(5, ["t59"]))
    assert ranking["rows"] == []
    assert ranking["reason"].startswith("nothing is left to ask")
    assert ranking["figures"]["labels"] == ROWS - 2


def test_hints_are_guesses_neighbours_and_a_reason(project: Projects, tiny_bert: Path) -> None:
    mine = project(f"{{ProbeLearner: {{model: {tiny_bert}, max_length: 16}}}}", "Margin")
    answered = [f"t{i}" for i in range(20)]
    mine.store.ask(answered)
    mine.answer(answered)
    rows = mine.ranker().rank(mine.job())["rows"]
    for row in rows:
        probabilities = [p for _, p in row["guesses"]]
        assert len(probabilities) == 3
        assert probabilities == sorted(probabilities, reverse=True)
        assert len(row["near"]) == 3
        for id, name in row["near"]:
            assert mine.truth[id] == name
            assert id in answered
    # The surest of the least sure: two classes in the order of the project, whichever is more probable.
    between = [row for row in rows if row["why"].startswith("the model is unsure between ")]
    assert between
    for row in between:
        first, second = row["why"].split(";")[0].removeprefix("the model is unsure between ").split(" and ")
        assert first < second
        assert {first, second} == {name for name, _ in row["guesses"][:2]}


def test_nearest_answered_texts_are_those_at_the_smallest_distance(project: Projects, tiny_bert: Path) -> None:
    mine = project(f"{{ProbeLearner: {{model: {tiny_bert}, max_length: 16}}}}", "ClusterCenters")
    answered = [f"t{i}" for i in range(20)]
    mine.store.ask(answered)
    mine.answer(answered)
    row = mine.ranker().rank(mine.job(1))["rows"][0]
    experiment = stored_experiment(mine.folder)
    with experiment.session(Cell("x", experiment.strategy, 0), None, simulated=False) as session:
        points = session.read(session.unasked_rows, {"embeddings"}).embeddings
        chosen = points[int(session.rows_of([row["id"]])[0])]
        distance = {id: float((points[int(session.rows_of([id])[0])] - chosen).norm()) for id in answered}
    assert [id for id, _ in row["near"]] == sorted(answered, key=distance.__getitem__)[:3]


def test_recall_of_the_candidates_is_said_when_it_was_measured(project: Projects) -> None:
    mine = project("TfidfLearner", "Margin")
    mine.configure("candidates: 12\nrecall_every: 2")
    ranker, said = mine.ranker(), []
    for start in range(0, 12, 4):
        mine.store.ask([f"t{i}" for i in range(start, start + 4)])
        mine.answer([f"t{i}" for i in range(start, start + 4)])
        said.append(ranker.rank(mine.job(6))["figures"]["recall"])
    assert [bool(words) for words in said] == [True, False, True]
    assert re.match(r"candidates: 12 of \d+ rows contain \d of the 6 that the whole pool would have given \(", said[0])


def test_ranking_without_candidates_says_no_recall(project: Projects) -> None:
    mine = project("TfidfLearner", "Margin")
    mine.configure("recall_every: 1")
    assert mine.ranker().rank(mine.job(6))["figures"]["recall"] is None


def test_stopping_rule_sees_the_rounds_although_rows_are_pending(project: Projects) -> None:
    mine = project()
    mine.configure("stop: {Labels: {max_labels: 10}}")
    ranker = mine.ranker()
    mine.store.ask([f"t{i}" for i in range(20)])
    verdicts = []
    for start in range(0, 12, 4):
        mine.answer([f"t{i}" for i in range(start, start + 4)])
        verdicts.append(ranker.rank(mine.job())["stop"])
    assert [verdict["stop"] for verdict in verdicts] == [False, False, True]
    assert verdicts[-1]["text"] == "12 of 10 labels were bought"


@pytest.mark.filterwarnings("ignore::dal.stopping.recorded_figures.StoppingWarning")
def test_stopping_rule_reads_the_lines_that_earlier_trainers_measured(project: Projects) -> None:
    mine = project("TfidfLearner", "Random")
    mine.configure("stop: {StabilizingPredictions: {window: 2, size: 100, threshold: 0.01}}")
    mine.store.ask([f"t{i}" for i in range(8)])
    stops = []
    for start in range(0, 32, 8):
        mine.answer([f"t{i}" for i in range(start, start + 8)])
        ranking = mine.ranker().rank(mine.job(8))  # another process in each round
        stops.append(ranking["stop"]["stop"])
        rows = [f"t{i}" for i in range(start + 8, start + 16)]
        mine.store.ask(rows, strategy="Random", details={"figures": ranking["figures"]})
    assert stops[0] is False
    assert stops[-1] is True


def test_rule_that_cannot_be_judged_leaves_the_ranking(project: Projects) -> None:
    mine = project()
    mine.configure("stop: {TargetScore: {value: 0.9}}")  # the data has no validation rows
    mine.store.ask(["t0", "t1", "t2", "t3"])
    mine.answer(["t0", "t1", "t2", "t3"])
    ranking = mine.ranker().rank(mine.job())
    assert len(ranking["rows"]) == 5
    assert ranking["stop"]["text"].startswith("the stopping rule cannot be judged: ")


def test_figures_are_the_accuracy_of_cross_validation_and_what_more_labels_bring(project: Projects) -> None:
    mine = project()
    first = [f"t{i}" for i in range(ROWS - 4)]
    mine.store.ask(first)
    mine.answer(first[:5])
    ranker = mine.ranker()
    assert ranker.rank(mine.job())["figures"]["accuracy"] is None
    mine.answer(first[5:])
    figures = ranker.rank(mine.job())["figures"]
    accuracy, gain = figures["accuracy"], figures["gain"]
    assert accuracy["labels"] == figures["labels"] == ROWS - 4
    assert 0.5 < accuracy["low"] < accuracy["value"] < accuracy["high"] <= 1
    assert gain["more"] == 100
    assert 0 <= gain["low"] <= gain["high"] < 0.5
    assert sum(figures["class_counts"].values()) == ROWS - 4


def test_accuracy_is_not_measured_again_for_a_few_labels(project: Projects, monkeypatch: pytest.MonkeyPatch) -> None:
    measured: list[int] = []

    def counted(session: Session, monitor: Monitor) -> dict[str, Any]:
        measured.append(len(session.labels))
        return {"accuracy": {"value": 0.5}, "gain": None}

    monkeypatch.setattr("dal.annotate.ranker.measured_accuracy", counted)
    assert answer_figures.measured_accuracy is not counted
    mine = project("TfidfLearner", "Random")
    mine.store.ask([f"t{i}" for i in range(40)])
    ranker = mine.ranker()
    for start in range(0, 40, 4):
        mine.answer([f"t{i}" for i in range(start, start + 4)])
        figures = ranker.rank(mine.job())["figures"]
    assert measured == [12, 24, 36]
    assert figures["accuracy"] == {"value": 0.5}


def test_multilabel_data_are_ranked_with_hints(tmp_path: Path) -> None:
    mine = Project(tmp_path / "project", "TfidfLearner", "Margin")
    text = (mine.folder / "config.yaml").read_text().replace('"label": null', '"label": null, "multilabel": true')
    (mine.folder / "config.yaml").write_text(text)
    answered = [f"t{i}" for i in range(20)]
    mine.store.ask(answered)
    mine.store.tell([Answer(id, (mine.truth[id],)) for id in answered])
    row = mine.ranker().rank(mine.job())["rows"][0]
    assert len(row["guesses"]) == 3
    assert all(0 <= p <= 1 for _, p in row["guesses"])


def test_errors_are_those_of_the_folder(project: Projects, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="there is no folder"):
        Ranker(tmp_path / "none", SILENT, lambda text: None).rank(RankingJob(1, 0, 5))
    mine = project("TfidfLearner", "BADGE")
    with pytest.raises(NeedError, match="BADGE needs"):
        mine.ranker().rank(mine.job())


def test_a_learner_error_with_several_classes_is_reported(project: Projects, monkeypatch: pytest.MonkeyPatch) -> None:
    def failing(*_: Any, **__: Any) -> None:
        raise LearnerError("no memory")

    mine = project()
    mine.store.ask(["t0", "t1", "t2", "t3"])
    mine.answer(["t0", "t1", "t2", "t3"])
    monkeypatch.setattr("dal.learners.tfidf_learner.TfidfLearner.fit", failing)
    ranker = mine.ranker()
    with pytest.raises(LearnerError, match="no memory"):
        ranker.rank(mine.job())
    monkeypatch.undo()
    assert len(ranker.rank(mine.job())["rows"]) == 5
