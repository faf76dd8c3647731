"""Weak labels: they train, weigh less, are no truth, and give way."""

from pathlib import Path
from typing import Any

import material
import pytest
import torch
from command import Command, write_tickets
from labelers import WordLabeler
from torch import Tensor

from dal.data import Rows, Splits
from dal.errors import AnswerError, ConfigError
from dal.evaluation import Prices, costs
from dal.experiments.experiment import Experiment
from dal.experiments.recorded_work import recorded_work
from dal.learner import Predictor, Prepared
from dal.learners.probe_learner import ProbeLearner
from dal.oracles.weak_labels import LLMWeakLabels
from dal.session import Session
from dal.store.label_store import LabelStore
from dal.strategies import Margin, Random


def vectors(n: int = 60) -> Rows:
    inputs, labels = material.clusters(n)
    return Rows.from_inputs(inputs, labels, list("abcd"))


def texts(n: int = 100, seed: int = 0) -> Rows:
    written, topics = material.tickets(n, seed=seed)
    return Rows.from_inputs(written, topics, sorted(material.TOPICS))


class Noting(ProbeLearner):
    """A probe that notes what it was fitted on."""

    seen: list[tuple[list[int], list[int], list[float] | None]] = []  # noqa: RUF012

    def fit(
        self, data: Prepared, rows: Tensor, labels: Tensor, *, weights: Tensor | None = None, **options: Any
    ) -> Predictor:
        self.seen.append((rows.tolist(), labels.tolist(), None if weights is None else weights.tolist()))
        return super().fit(data, rows, labels, weights=weights, **options)


def test_train_with_their_weight_and_count_as_no_label() -> None:
    Noting.seen.clear()
    with Session(Splits(vectors()), Noting(model=None), Random(), hide_labels=True) as session:
        session.propose([5, 9], ["a", "b"], weight=0.25)
        session.predictor  # noqa: B018
        session.ask(1)
        session.tell(session.pending, ["c"])
        session.predictor  # noqa: B018
        answered = int(session.labeled_rows[0])
        assert len(session.labels) == session.state.labels == 1
        assert Noting.seen == [([5, 9], [0, 1], [0.25, 0.25]), ([answered, 5, 9], [2, 0, 1], [1.0, 0.25, 0.25])]


def test_give_way_to_an_answer_and_to_a_declined_row() -> None:
    with Session(Splits(vectors()), ProbeLearner(model=None), Random(), hide_labels=True) as session:
        session.propose([5, 9, 11], ["a", "b", "c"], weight=0.5)
        session.tell([5], ["d"], correct=True)
        assert session.weak_rows.tolist() == [9, 11]
        assert session.labels.tolist() == [3]
        from dal.store.events import SKIP

        session.tell([9], [SKIP], correct=True)
        assert session.weak_rows.tolist() == [11]
        session.undo()
        assert session.weak_rows.tolist() == [9, 11]


def test_a_row_with_a_weak_label_can_still_be_asked() -> None:
    with Session(Splits(vectors(4)), ProbeLearner(model=None), Random(), hide_labels=True) as session:
        session.propose([0, 1, 2, 3], list("abcd"), weight=0.5)
        assert len(session.ask(4)) == 4


def test_survive_in_the_folder_and_belong_to_the_saved_model(tmp_path: Path) -> None:
    data = vectors()
    with Session(Splits(data), ProbeLearner(model=None), Random(), hide_labels=True, folder=tmp_path) as session:
        session.propose([5, 9, 20], ["a", "b", "c"], weight=0.5)
        before = session.predictor.outputs(session.prepared, None, {"logits"}).logits
    Noting.seen.clear()
    with Session(Splits(data), ProbeLearner(model=None), Random(), hide_labels=True, folder=tmp_path) as session:
        assert session.weak_rows.tolist() == [5, 9, 20]
        assert torch.equal(session.predictor.outputs(session.prepared, None, {"logits"}).logits, before)


def test_what_is_no_class_is_refused_and_nothing_stored() -> None:
    with Session(Splits(vectors()), ProbeLearner(model=None), Random(), hide_labels=True) as session:
        with pytest.raises(AnswerError, match="'e' is not a class"):
            session.propose([1, 2], ["a", "e"], weight=0.5)
        with pytest.raises(AnswerError, match="from 0 to 1"):
            session.propose([1], ["a"], weight=1.5)
        assert not session.store.proposals


def test_the_unsure_rows_of_the_share_are_asked_first() -> None:
    labeler = WordLabeler(unsure=0.3)
    with Session(Splits(texts()), WordLabeler(), Random(), hide_labels=True) as session:
        LLMWeakLabels(labeler, rows=50).begin(session, 10)
        asked = [session.pool[row] for row in session.pending.tolist()]
        assert all(labeler.draw(text, "unsure") < 0.3 for text in asked)
        weak = session.weak_rows
        assert 25 < len(weak) < 45
        assert all(labeler.draw(session.pool[row], "unsure") >= 0.3 for row in weak.tolist())
        assert session.last_selection.reason.startswith("least sure of 50 rows")


def test_killed_between_the_labels_and_the_question_the_rest_is_done_once(tmp_path: Path) -> None:
    start = LLMWeakLabels(WordLabeler(unsure=0.3), rows=50)
    data = texts()
    with Session(Splits(data), WordLabeler(), Random(), hide_labels=True, folder=tmp_path / "whole") as session:
        start.begin(session, 10)
        whole = session.pending.tolist(), session.weak_rows.tolist()
    with Session(Splits(data), WordLabeler(), Random(), hide_labels=True, folder=tmp_path / "killed") as session:
        session.ask_these = lambda *_, **__: (_ for _ in ()).throw(KeyboardInterrupt)  # type: ignore[method-assign]
        with pytest.raises(KeyboardInterrupt):
            start.begin(session, 10)
    with Session(Splits(data), WordLabeler(), Random(), hide_labels=True, folder=tmp_path / "killed") as session:
        start.begin(session, 10)
        start.begin(session, 10)
        assert (session.pending.tolist(), session.weak_rows.tolist()) == whole
    with LabelStore(tmp_path / "killed" / "labels.db") as store:
        assert len(store.proposals) == 50
        assert sum(proposal.weight > 0 for proposal in store.proposals) == len(whole[1])


def test_what_was_unsure_or_could_not_be_read_is_paid_for_too(tmp_path: Path) -> None:
    start, data = LLMWeakLabels(WordLabeler(unsure=0.3, mute=0.2, price=0.5), rows=50), texts()
    with Session(Splits(data), WordLabeler(), Random(), hide_labels=True, folder=tmp_path) as session:
        start.begin(session, 10)
        store = session.store
        assert len(store.proposals) + len(store.unread) == 50
        assert 3 < len(store.unread) < 25
        work = recorded_work(store.events(), store.proposals, store.unread)
        assert costs(work, Prices())["llm"] == pytest.approx(25.0)
        assert {each.source for each in (*store.unread, *store.proposals)} == {"weak"}
        lost = {each.row for each in store.unread}
        assert not lost & {session.pool.ids[row] for row in session.weak_rows.tolist()}


def test_a_row_takes_its_own_weight() -> None:
    with Session(Splits(vectors()), ProbeLearner(model=None), Random(), hide_labels=True) as session:
        session.propose([5, 9, 11], ["a", "b", "c"], weight=[0.5, 0.0, 1.0])
        assert session.weak_rows.tolist() == [5, 11]
        with pytest.raises(AnswerError, match="3 rows but 2 weights"):
            session.propose([5, 9, 11], ["a", "b", "c"], weight=[0.5, 0.0])


def test_a_run_starts_with_them_and_its_baseline_without(tiny_bert: Path) -> None:
    data = Splits(texts(), texts(40, seed=3))
    experiment = Experiment(
        data,
        ProbeLearner(str(tiny_bert), max_length=16),
        Margin(),
        weak_labels=LLMWeakLabels(WordLabeler(), rows=40),
        start=6,
        batch=4,
        rounds=1,
        quiet=True,
    )
    cells = experiment.run().cells
    ours, theirs = cells["Margin-seed0"], cells["Random-seed0"]
    assert ours[0]["acting_strategy"] == "LLMWeakLabels"
    assert ours[0]["notes"]["weak_labels"] == 40
    assert theirs[0]["acting_strategy"] == "Random"
    assert [line["labels"] for line in ours] == [line["labels"] for line in theirs] == [6, 10]
    assert ours[0]["accuracy"] > theirs[0]["accuracy"]  # 40 right labels more to train on


@pytest.mark.parametrize("wrong", [{"threshold": 1.5}, {"weight": 0.0}, {"rows": 0}])
def test_wrong_options_are_refused(wrong: dict[str, float]) -> None:
    with pytest.raises(ConfigError, match="LLMWeakLabels"):
        LLMWeakLabels(WordLabeler(), **wrong)


ASKED = """\
data: {path: tickets.csv, id: id, label: LABEL, classes: [billing, access, shipping, feedback]}
learner: {ProbeLearner: {model: MODEL, max_length: 16}}
strategy: Random
weak_labels: {labeler: {class_path: labelers.WordLabeler}, rows: 30}
"""


@pytest.mark.parametrize("labels", [False, True])
def test_asking_a_person_begins_with_them_or_says_why_not(
    labels: bool, tmp_path: Path, tiny_bert: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    path = write_tickets(tmp_path / "tickets.csv", 60, labels=labels)
    if labels:  # of the first half
        lines = path.read_text().splitlines()
        path.write_text("\n".join(lines[:31] + [line.rpartition(",")[0] + "," for line in lines[31:]]) + "\n")
    text = ASKED.replace("MODEL", str(tiny_bert)).replace("LABEL", "label" if labels else "null")
    (tmp_path / "pool.yaml").write_text(text)
    dal = Command(capsys)
    ended = dal("ask", "mine", "--config", "pool.yaml", "-n", 6, "-o", "todo.csv")
    assert ended.code == 0, ended.err
    with LabelStore(tmp_path / "mine" / "labels.db") as store:
        assert store.batch(1).strategy == ("Random" if labels else "LLMWeakLabels")
        assert len(store.proposals) == (0 if labels else 30)
    assert ("weak_labels is not used: the data has labels to start from" in ended.out + ended.err) is labels
    assert dal("ask", "mine", "-n", 6, "-o", "again.csv").code == 0
    assert (tmp_path / "again.csv").read_text() == (tmp_path / "todo.csv").read_text()
