"""`dal check` knows all kinds of plugins, and checks them on data of the user."""

import csv
from pathlib import Path

import pytest
from command import Command

CODE = """
import torch
from dataclasses import dataclass
from dal import SKIP, Candidates, Margin, ModuleLearner, Rows, Splits, StoppingRule
from dal.evaluation import metric
from dal.llm.clients.client import SILENT, Client, Reply
from dal.modules import ActiveModule
from dal.oracle import Oracle
from dal.stopping import Verdict
from torch import nn

@dataclass(frozen=True)
class Topic(Oracle):
    word: str = "invoice"
    def answer(self, rows, data):
        return [data.classes[0] if self.word in text else data.classes[1] for text in data.texts(rows)]

@dataclass(frozen=True)
class Declines(Oracle):
    def answer(self, rows, data):
        return [SKIP for _ in rows]

@dataclass(frozen=True)
class Enough(StoppingRule):
    labels: int = 20
    def judge(self, history):
        labels = history.lines[-1]["labels"] if history.lines else 0
        return Verdict(labels >= self.labels, f"{labels} labels")

@dataclass(frozen=True)
class Firsts(Candidates):
    size: int = 30
    def choose(self, query):
        return query.sample(max(self.size, query.n))

@dataclass(frozen=True)
class Echo(Client):
    model: str = "echo"
    def complete(self, requests, *, monitor=SILENT):
        return [Reply(request.prompt) for request in requests]

class Net(ActiveModule):
    def __init__(self, classes, multilabel):
        super().__init__(classes, multilabel=multilabel)
        self.body = nn.Sequential(nn.Linear(12, 8), nn.Dropout(0.2))
        self.last = nn.Linear(8, classes)
    def features(self, batch):
        return self.body(batch["inputs"])
    def head(self, features):
        return self.last(features.float())

def share(outputs, labels):
    return float((outputs.probs.argmax(1) == labels).double().mean())

missed = metric(maximize=False)(lambda outputs, labels: float((outputs.probs.argmax(1) != labels).double().mean()))
missed.name = "missed"

class Pictures(Net):
    def __init__(self, classes, multilabel):
        super().__init__(classes, multilabel)
        self.body = nn.Sequential(nn.Flatten(), nn.Linear(16, 8), nn.Dropout(0.2))
    def features(self, batch):
        return self.body(batch["inputs"])  # (B, 4, 4)

learner = ModuleLearner(build=Net, epochs=1, min_steps=2, max_steps=4, samples=3)
pictures = ModuleLearner(build=Pictures, epochs=1, min_steps=2, max_steps=4, samples=3)
shown = Rows.from_inputs(torch.randn(20, 4, 4), [row % 2 for row in range(20)], classes=["one", "two"])
splits = lambda: Splits(pool=shown)
margin = Margin()
"""


@pytest.fixture
def dal(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Command:
    """The command, in a folder with plugins of every kind and a table of labeled texts."""
    (tmp_path / "mine.py").write_text(CODE)
    with open(tmp_path / "labeled.csv", "w", newline="") as file:
        texts = [f"{('invoice paid', 'cannot login')[row % 2]} number {row}" for row in range(40)]
        csv.writer(file).writerows([["body", "topic"], *([text, "ab"[row % 2]] for row, text in enumerate(texts))])
    monkeypatch.chdir(tmp_path)
    return Command(capsys)


def test_learner_of_rows_that_cannot_be_made_up_asks_for_them_once(dal: Command) -> None:
    ended = dal("check", "mine:pictures")
    assert ended.code == 1
    assert ended.out.count("RuntimeError: ") == 1
    assert "pass labeled rows that it reads, in dal check with --data)" in ended.out
    assert ended.out.endswith(": 1 failed\n")


@pytest.mark.parametrize(
    ("name", "kind", "checks"),
    [
        ("mine:margin", "a strategy", "memory"),
        ("mine:learner", "a learner", "save and load"),
        ("mine:Enough", "a stopping rule", "few rounds"),
        ("mine.Firsts", "a candidate generator", "every kind of pool"),
        ("mine.Echo", "a language-model client", "prices"),
        ("Plateau", "a stopping rule", "pure"),
        ("mine:share", "a metric", "direction"),
        ("mine.missed", "a metric", "direction"),
    ],
)
def test_every_kind_is_found_and_checked_in_a_real_loop(name: str, kind: str, checks: str, dal: Command) -> None:
    ended = dal("check", name)
    assert ended.code == 0, ended.out
    assert f"{name} is {kind}\n" in ended.err
    assert f"passed  {checks}" in ended.out
    assert ("passed  real loop" in ended.out) == (kind not in ("a language-model client", "a metric"))


def test_oracle_is_checked_on_the_rows_of_the_user(dal: Command) -> None:
    own = ("--data", "labeled.csv", "--data.text", "body", "--data.label", "topic")
    ended = dal("check", "mine:Topic", *own)
    assert ended.code == 0, ended.out
    assert "mine:Topic is an oracle" in ended.err
    assert "passed  answers: 8 answered" in ended.out
    assert dal("check", "mine:Topic", *own, "--word", "login").code == 0


def test_learner_is_checked_on_the_rows_of_the_user(dal: Command) -> None:
    ended = dal("check", "TfidfLearner", "--data", "labeled.csv", "--data.text", "body", "--data.label", "topic")
    assert ended.code == 0, ended.out
    assert "passed  real loop" in ended.out


def test_network_of_pictures_is_checked_on_rows_of_the_user(dal: Command) -> None:
    ended = dal("check", "mine:pictures", "--data", "mine:shown")
    assert ended.code == 0, ended.out
    assert "passed  real loop" in ended.out
    assert dal("check", "mine:pictures", "--data", "mine:splits").code == 0


def test_oracle_without_an_answer_does_not_pass_unnoticed(dal: Command) -> None:
    ended = dal("check", "mine:Declines")
    assert ended.code == 0
    assert "skipped answers: no answer to any row (8 skip): pass data that it can answer" in ended.out
    assert "skipped real loop: it answered none of" in ended.out


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("labeled.csv",), "labeled.csv is a file, and dal check takes a plugin"),
        (("mine:Net",), "as mine:learner"),
        (("mine:pictures", "--data", "mine:Net"), "--data: mine:Net is"),
        (("mine:pictures", "--data", "mine:shown", "--data.text", "x"), "mine:shown is an object"),
        (("Margin", "--data", "labeled.csv", "--data.text", "body", "--data.label", "topic"), "--data is for learners"),
        (("TfidfLearner", "--data", "labelled.csv"), "labelled.csv does not exist; did you mean 'labeled.csv'?"),
        (("TfidfLearner", "--data.text", "body"), "name the file with --data FILE"),
        (("mine:margin", "--weight", "3"), "mine:margin is an object, whose options are set already"),
        (("mine:Topic", "--wrod", "x"), "unknown key 'wrod'"),
        (("mine:share", "--weight", "3"), "mine:share is a function, which has no options"),
        (("mine:Nothing",), "there is no Nothing in mine"),
    ],
)
def test_wrong_use_is_one_line(arguments: tuple[str, ...], said: str, dal: Command) -> None:
    ended = dal("check", *arguments)
    assert ended.code == 2
    assert said in ended.err
    assert ended.err.count("\n") == 1
