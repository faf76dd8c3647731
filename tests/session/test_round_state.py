"""What a strategy learns of its round: `RoundState.budget` and `.metrics`, in `resolve` and in `query.state`."""

import json
import pickle
from pathlib import Path
from typing import Any

import material
import pytest
from command import Command, fill, read_rows, running, write_tickets

from dal.data import Rows, Splits
from dal.learners.tfidf_learner import TfidfLearner
from dal.session import Session
from dal.session.past_metrics import RoundMetrics
from dal.strategies.random import Random

STRATEGY = """
import json
from dataclasses import dataclass

from dal import Query, ScoreStrategy
from dal.functional import margin


def seen(where, state):
    line = {"where": where, "round": state.round, "budget": state.budget, "metrics": [dict(m) for m in state.metrics]}
    with open("seen.jsonl", "a") as file:
        file.write(json.dumps(line) + chr(10))


@dataclass(frozen=True)
class Watching(ScoreStrategy):
    needs = {"probs"}

    def resolve(self, state):
        seen("resolve", state)
        return self

    def score(self, query):
        seen("score", query.state)
        return -margin(query.pool.probs)
"""


@pytest.fixture
def dal(with_tickets: Command) -> Command:
    Path("watching.py").write_text(STRATEGY)
    return with_tickets


def seen(where: str) -> list[dict[str, Any]]:
    lines = [json.loads(line) for line in Path("seen.jsonl").read_text().splitlines()]
    return [line for line in lines if line["where"] == where]


def test_run_tells_its_strategy_the_budget_and_the_scores_of_all_rounds(dal: Command) -> None:
    text = running(strategy="watching.Watching", start=8, batch=5, rounds=2, baseline=None, report=False, folder="run")
    ended = dal.configured(mine=text)("run", "mine.yaml")
    assert ended.code == 0, ended.err
    (folder,) = Path("run").glob("*-seed0")
    lines = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    assert len(lines) == 3
    asked = [line for line in seen("resolve") if line["round"]]  # round 0 is a common start
    assert [line["budget"] for line in asked] == [10, 5]
    for line, count in zip(asked, (1, 2), strict=True):
        assert [each["accuracy"] for each in line["metrics"]] == [each["accuracy"] for each in lines[:count]]
        assert [each["labels"] for each in line["metrics"]] == [8, 13][:count]
    assert [{**line, "where": "resolve"} for line in seen("score")] == asked


def test_ask_tells_its_strategy_the_budget_and_the_scores_of_the_current_model(dal: Command) -> None:
    write_tickets(Path("test.csv"), 30, seed=1)
    Path("test.csv").write_text(Path("test.csv").read_text().replace("\nt", "\nheld-out-"))
    head, *rows = Path("tickets.csv").read_text().splitlines()
    Path("pool.csv").write_text("\n".join([head, *(row.rpartition(",")[0] + "," for row in rows)]))  # without labels
    data = f"data: {{path: pool.csv, id: id, classes: [{', '.join(material.TOPICS)}], test: test.csv}}\n"
    dal.configured(mine=f"{data}learner: TfidfLearner\nstrategy: watching.Watching\nstart: 8\nbatch: 5\nrounds: 4\n")
    truth = {row["id"]: row["label"] for row in read_rows("tickets.csv")}
    for number in range(2):
        given = ["--allow-code", "."] if number else ["--config", "mine.yaml"]
        ended = dal("ask", "asked", *given, "-n", 8, "--force")
        assert ended.code == 0, ended.err
        fill(Path("todo.csv"), [truth[row["id"]] for row in read_rows("todo.csv")])
        told = dal("tell", "asked", "todo.csv", "--allow-code", ".")
        assert told.code == 0, told.err
    last = seen("score")[-1]
    assert (last["round"], last["budget"]) == (1, 28 - 8)
    (scores,) = last["metrics"]
    assert (scores["round"], scores["labels"]) == (1, 8)
    assert 0 <= scores["accuracy"] <= 1
    assert scores["log_loss"] > 0


def session(part: str = "test", **options: Any) -> Session:
    texts, topics = material.tickets(40)
    test, answers = material.tickets(20, seed=1)
    pool = Rows.from_inputs(texts, topics, classes=list(material.TOPICS))
    held_out = Rows.from_inputs(test, answers, classes=list(material.TOPICS))
    return Session(Splits(pool, **{part: held_out}), TfidfLearner(), Random(), **options)


@pytest.mark.parametrize("part", ["test", "validation"])
def test_scores_of_the_current_model_are_computed_when_they_are_read(part: str) -> None:
    with session(hide_labels=True, part=part) as asking:
        assert (asking.state.budget, len(asking.state.metrics)) == (None, 0)  # nothing is labeled
        rows = asking.ask(12)
        asking.tell(rows, asking.pool.labels[rows])
        state = asking.state
        assert repr(state.metrics) == "RoundMetrics(0 recorded rounds)"
        assert asking.fit_seconds == 0
        assert [metrics["labels"] for metrics in state.metrics] == [12]
        assert asking.fit_seconds > 0
        asking.record({"labels": 12, "accuracy": 0.5, "strategy": "Random"})
        assert asking.state.metrics == ({"labels": 12, "accuracy": 0.5},)
        assert pickle.loads(pickle.dumps(state)).metrics == state.metrics


def test_metrics_are_empty_where_no_model_can_be_scored() -> None:
    with session(hide_labels=True) as asking:
        rows = asking.ask(3)
        asking.tell(rows, ["billing"] * 3)  # one class trains no model
        assert len(asking.state.metrics) == 0
    assert len(RoundMetrics([{"round": 1}], lambda: None)) == 1
