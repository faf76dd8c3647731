"""`dal.Project`: the next texts, answers, undo, labels and predictions in Python."""

import csv
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import material
import pytest
from annotation_project import make_project

import dal
from dal.cli import main
from dal.errors import AnswerError, BusyError, SessionError
from dal.experiments.project_experiment import current_experiment
from dal.experiments.results import Cell
from dal.store.label_store import LabelStore


@pytest.fixture
def project(tmp_path: Path) -> Iterator[dal.Project]:
    with dal.Project(make_project(tmp_path / "p", n=30), trainer=False) as project:
        yield project


@pytest.fixture
def tickets(tmp_path: Path) -> tuple[Path, dict[str, str]]:
    """A project with a learner, made by `dal init`, and the true classes by id."""
    texts, topics = material.tickets(60)
    with (tmp_path / "tickets.csv").open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerows([("id", "body"), *((f"t{i}", text) for i, text in enumerate(texts))])
    folder = tmp_path / "tickets"
    data = ["--data", str(tmp_path / "tickets.csv"), "--text", "body", "--id", "id"]
    options = ["--classes", ",".join(sorted(set(topics))), "--learner", "TfidfLearner", "--strategy", "Margin"]
    assert main(["init", str(folder), *data, *options]) == 0
    return folder, {f"t{i}": topic for i, topic in enumerate(topics)}


def test_texts_are_answered_in_a_loop_and_read_back(project: dal.Project) -> None:
    first = project.next(3, who="ana")
    assert [row.text.split()[0] for row in first] == ["patient"] * 3
    assert first[0].fields.keys() == {"visit"}
    assert project.next(3, who="ana") == first  # until they are answered
    project.answer(first[0], "mild", who="ana", seconds=4)
    project.answer(first[1].id, "severe", who="ana")
    project.skip(first[2], who="ana")
    assert project.labels == {first[0].id: "mild", first[1].id: "severe"}
    project.answer(first[0], "none", who="ana")  # a correction
    assert project.labels[first[0].id] == "none"
    assert project.undo(who="ana") == first[0].id
    assert project.labels[first[0].id] == "mild"
    assert project.classes == ("none", "mild", "severe")


def test_texts_are_found_by_words_and_by_meaning(project: dal.Project, tickets: tuple[Path, dict[str, str]]) -> None:
    assert [row.id for row in project.search("number 12")] == ["t12"]
    with pytest.raises(SessionError, match="no search by meaning: no model is running"):
        project.search("number 12", by="meaning")
    for wrong in ({"text": " "}, {"text": "a", "n": 0}, {"text": "a", "n": 1_001}, {"text": "a", "by": "sound"}):
        with pytest.raises(AnswerError, match="a search takes"):
            project.search(**wrong)
    folder, truth = tickets
    with dal.Project(folder) as trained:  # with a trainer, which has to load first
        found = trained.search("a parcel that arrived broken", 5, by="meaning")
        assert {truth[row.id] for row in found} == {"shipping"}
        assert trained.search("xyzzy", by="meaning") == []
        with pytest.raises(SessionError, match="no search by meaning"):
            trained.search("a courier", by="meaning", timeout=0)


def test_undo_without_a_step_returns_none(project: dal.Project) -> None:
    assert project.undo(who="ana") is None


def test_wrong_class_and_number_are_one_line(project: dal.Project) -> None:
    (row,) = project.next()
    with pytest.raises(AnswerError, match="did you mean 'severe'"):
        project.answer(row, "sever")
    with pytest.raises(AnswerError, match="classes are none, mild, severe"):
        project.answer(row, "x")
    with pytest.raises(AnswerError, match="no text"):
        project.answer("nowhere", "mild")
    with pytest.raises(AnswerError, match="at least 1"):
        project.next(0)
    assert project.labels == {}


def test_text_put_off_comes_last(project: dal.Project) -> None:
    (row,) = project.next(who="ana")
    project.skip(row, who="ana", later=True)
    seen = []
    while rows := project.next(who="ana"):
        seen.append(rows[0].id)
        project.answer(rows[0], "mild", who="ana")
    assert len(seen) == 30
    assert seen[-1] == row.id


def test_threads_share_the_texts(project: dal.Project) -> None:
    def work(who: str) -> list[str]:
        done = []
        while rows := project.next(2, who=who):
            project.answer(rows[0], "mild", who=who)
            done.append(rows[0].id)
        return done

    with ThreadPoolExecutor(3) as pool:
        done = [row for rows in pool.map(work, ("ana", "ben", "cem")) for row in rows]
    assert sorted(done) == sorted(f"t{i}" for i in range(30))


def test_project_is_open_once(project: dal.Project) -> None:
    with pytest.raises(BusyError):
        dal.Project(project.folder, trainer=False)
    project.close()
    dal.Project(project.folder, trainer=False).close()


def test_answers_are_given_without_torch(tmp_path: Path) -> None:
    folder = make_project(tmp_path / "p", n=5)
    program = (
        "import sys, dal\n"
        f"with dal.Project({str(folder)!r}, trainer=False) as project:\n"
        "    project.answer(project.next()[0], 'mild')\n"
        "    print(len(project.labels), [name for name in ('torch', 'numpy', 'pyarrow') if name in sys.modules])\n"
    )
    found = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert found.stdout.strip() == "1 []"


def test_predictions_follow_the_current_answers(tickets: tuple[Path, dict[str, str]]) -> None:
    folder, truth = tickets
    with dal.Project(folder, trainer=False) as project:
        with pytest.raises(SessionError, match="nothing is labeled"):
            project.predict(["the invoice is wrong"])
        for row in project.next(24):
            project.answer(row, truth[row.id])
        texts, topics = material.tickets(60)
        predictions = project.predict(texts)
        assert sum(a == b for a, b in zip(predictions.classes, topics, strict=True)) > 30
        assert project.predict(texts[:2]).classes == predictions.classes[:2]
        other = {topic: sorted(set(topics) - {topic})[0] for topic in set(topics)}
        for row in list(project.labels):
            project.answer(row, other[truth[row]])
        assert project.predict(texts).classes != predictions.classes
        assert len(project.next()) == 1  # answers go on: the model was trained on a copy of the log


def test_waiting_for_each_ranking_asks_what_a_session_asks(tickets: tuple[Path, dict[str, str]]) -> None:
    folder, truth = tickets
    asked = []
    with dal.Project(folder, ranked=6, rounds=True) as project:
        for _ in range(3):
            rows = project.next(6, wait=True)
            for row in rows:
                project.answer(row, truth[row.id])
            asked.append([row.id for row in rows])
    experiment = current_experiment(folder)
    cell = Cell(folder.name, experiment.strategy, experiment.seeds[0])
    session = experiment.session(cell, None, simulated=False, store=LabelStore())
    expected = []
    for _ in range(3):
        rows = session.ask(6, strategy=experiment.initial_strategy(session))
        expected.append([session.pool.ids[row] for row in rows])
        session.tell(rows, [truth[session.pool.ids[row]] for row in rows])
    assert asked == expected
