"""What a user can get wrong: one line that says what and where, exit code 2, no traceback, nothing written."""

import subprocess
import sys
from pathlib import Path

import pytest
from command import Command, probe, running

GOOD = running(probe(None))
START = "data: {path: tickets.csv, id: id, test: 0.3}\nlearner: ProbeLearner\n"


@pytest.fixture
def dal(with_tickets: Command) -> Command:
    return with_tickets.configured(run=GOOD)


# arguments after `dal run run.yaml`, and what the message must say
OPTIONS = {
    "unknown key": (["--bach", "3"], "--bach: unknown key 'bach', did you mean batch?"),
    "unknown key of the data": (["--data.txt", "x"], "--data.txt: TextData has no option 'txt', did you mean text?"),
    "unknown option of a strategy": (
        ["--strategy", "BADGE", "--strategy.sedding", "x"],
        "--strategy.sedding: BADGE has no option 'sedding', did you mean seeding?",
    ),
    "option of a strategy without any": (["--strategy.weight", "2"], "Margin has no option 'weight'"),
    "option of an option": (["--batch.size", "3"], "batch takes a whole number; it has no option 'size'"),
    "key without a value": (["--batch"], "--batch needs a value"),
    "key followed by a key": (["--batch", "--rounds", "3"], "--batch needs a value"),
    "key given twice": (["--batch", "3", "--batch", "4"], "--batch is given twice"),
    "empty key": (["--data..path", "x"], "--data..path: not a key"),
    "stray argument": (["--seeds", "0", "1"], "unrecognized arguments: 1"),
    "text for a whole number": (["--batch", "many"], "--batch takes a whole number, not 'many'"),
    "fraction for a whole number": (["--batch", "2.5"], "--batch takes a whole number, not '2.5'"),
    "true for a whole number": (["--batch", "true"], "--batch takes a whole number, not 'true'"),
    "text for a flag": (["--save_model", "maybe"], "--save_model takes true or false, not 'maybe'"),
    "text for a list of numbers": (["--seeds", "first"], "--seeds takes a list of whole numbers, not 'first'"),
    "not one of the choices": (
        ["--strategy", "BADGE", "--strategy.seeding", "best"],
        "--strategy.seeding takes one of kmeans++, k-center, not 'best'",
    ),
    "a value for a group of keys": (["--data", "tickets.csv"], "--data takes keys (path, text,"),
    "unknown strategy": (
        ["--strategy", "Margn"],
        "unknown strategy 'Margn', did you mean Margin?; installed are ALPS",
    ),
    "strategy far from any": (["--strategy", "Zzz"], "unknown strategy 'Zzz'; installed are ALPS"),
    "unknown baseline": (["--baseline", "Randon"], "--baseline: unknown strategy 'Randon', did you mean Random?"),
    "unknown learner": (["--learner", "Probe"], "unknown learner 'Probe'"),
    "unknown oracle": (["--oracle", "Simulate"], "unknown oracle 'Simulate', did you mean Simulated?"),
    "learner as a strategy": (["--strategy", "ProbeLearner"], "ProbeLearner is a learner, but a strategy is expected"),
    "strategy as a learner": (["--learner", "Margin"], "Margin is a strategy, but a learner is expected"),
    "class of another kind by path": (["--strategy", "dal.learners.probe_learner:ProbeLearner"], "is not a strategy"),
    "abstract class": (["--strategy", "dal.strategy.ScoreStrategy"], "does not define score"),
    "no such module": (["--strategy", "nowhere.Spread"], "nowhere.Spread"),
    "no such class in a module": (["--strategy", "dal.strategies.uncertainty:Margn"], "Margn"),
    "option before its class": (["--oracle.noise", "0.1"], "also name the class of oracle"),
    "null strategy": (["--strategy", "null"], "--strategy takes the name of a strategy"),
    "number as a strategy": (["--strategy", "3"], "--strategy takes the name of a strategy, not '3'"),
    "schedule without its parts": (["--strategy", "Phases"], "Phases needs strategy.first: the name of a strategy"),
    "unknown strategy within a schedule": (
        ["--strategy", "{Phases: {first: Random, then: Marginn}}"],
        "unknown strategy 'Marginn', did you mean Margin?",
    ),
    "broken flow value": (["--seeds", "[0, 1"], "--seeds: not valid YAML"),
    "value out of range": (["--batch", "0"], "batch must be at least 1"),
    "seeds that repeat": (["--seeds", "[1,1]"], "seeds must be distinct"),
    "share that is none": (["--data.test", "1.5"], "1.5 is not a share"),
    "probability that is none": (
        ["--oracle", "Simulated", "--oracle.noise", "2"],
        "noise of Simulated must be a",
    ),
    "nobody to answer": (
        ["--data.label", "null", "--data.classes", "[a,b]", "--data.test", "null"],
        "`dal ask` and `dal tell`",
    ),
    "no test": (["--data.test", "null"], "give data.test a file, a split or a share"),
    "fewer rows than labels": (["--batch", "500"], "42"),
    "missing data": (["--data.path", "nowhere.csv"], "nowhere.csv"),
    "unknown column": (["--data.text", "txt"], "txt"),
    "a need that is not provided": (
        ["--strategy", "bad_plugin.Reads"],
        "Reads needs surprise, which ProbeLearner does not provide",
    ),
    "a plugin that cannot be imported": (["--strategy", "bad_plugin_broken.Any"], "bad_plugin_broken"),
    "not right for multi-label": (
        ["--data.multilabel", "true", "--strategy", "bad_plugin.Single"],
        "Single is not defined for multi-label outputs",
    ),
    "resume and options": (["--resume", "x"], "--resume takes only the folder"),
}

PLUGIN = """\
from dataclasses import dataclass
from dal.strategy import Strategy
import torch

@dataclass(frozen=True)
class Reads(Strategy):
    needs = frozenset({"surprise"})
    def select(self, query):
        return torch.arange(query.n)

@dataclass(frozen=True)
class Single(Strategy):
    def select(self, query):
        return torch.arange(query.n)
"""


@pytest.mark.parametrize("case", OPTIONS, ids=[name.replace(" ", "_") for name in OPTIONS])
def test_a_bad_option_gives_one_line(case: str, dal: Command, tmp_path: Path) -> None:
    arguments, message = OPTIONS[case]
    (tmp_path / "bad_plugin.py").write_text(PLUGIN)
    (tmp_path / "bad_plugin_broken.py").write_text("import surely_not_installed\n")
    ended = dal("run", "run.yaml", *arguments)
    refused(ended, message)
    assert not (tmp_path / "runs").exists()


# a config, and what the message must say
CONFIGS = {
    "empty file": ("", "run.yaml: expected `key: value` lines"),
    "a list": ("- a\n", "run.yaml: expected `key: value` lines such as `strategy: Margin`, found a list"),
    "text": ("Margin\n", "found the text 'Margin'"),
    "unknown key": (GOOD + "bath: 3\n", "run.yaml:4: unknown key 'bath', did you mean batch?"),
    "key that stands twice": (GOOD + "batch: 3\nbatch: 4\n", "run.yaml:5: duplicate key 'batch'"),
    "dotted key that stands twice": (GOOD + "data.path: x.csv\n", "run.yaml:4: duplicate key 'data.path'"),
    "missing learner": ("data: {path: tickets.csv}\nstrategy: Margin\n", "run.yaml: the config needs learner"),
    "missing path": ("data: {text: a}\nlearner: ProbeLearner\nstrategy: Margin\n", "TextData needs data.path: text"),
    "empty strategy": (START + "strategy:\n", "run.yaml:3: strategy is empty: it takes the name of a strategy"),
    "a list as a strategy": (START + "strategy: [Margin]\n", "run.yaml:3: strategy takes the name of a strategy"),
    "unknown strategy": (
        START + "strategy: Bage\n",
        "run.yaml:3: strategy: unknown strategy 'Bage', did you mean BADGE?",
    ),
    "unknown strategy with options": (
        START + "strategy: {Bage: {a: 1}}\n",
        "run.yaml:3: strategy: unknown strategy 'Bage'",
    ),
    "options that are a list": (
        START + "strategy: {BADGE: [1]}\n",
        "run.yaml:3: the options of BADGE are `key: value`",
    ),
    "wrong type": (GOOD + "batch: many\n", "run.yaml:4: batch takes a whole number, not 'many'"),
    "wrong type within a class": (
        "data: {path: tickets.csv}\nlearner:\n  ProbeLearner:\n    l2: much\nstrategy: Margin\n",
        "run.yaml:4: learner.l2 takes a number, not 'much'",
    ),
    "bracket left open": (START + "strategy: [Margin\nbatch: 3\n", "not valid YAML"),
    "tab": (START + "strategy:\n\tMargin: 1\n", "run.yaml:4: not valid YAML"),
    "code": (START + "strategy: !!python/name:os.system\n", "python/name:os.system is not allowed"),
    "unknown option of the trainer": (
        "data: {path: tickets.csv}\nlearner: {TransformerLearner: {trainer: {max_epoch: 3}}}\nstrategy: Margin\n",
        "run.yaml:2: Trainer has no option 'max_epoch', did you mean max_epochs?",
    ),
    "another class as the trainer": (
        "data: {path: t.csv}\nlearner: {TransformerLearner: {trainer: {class_path: dal.Margin}}}\nstrategy: Margin\n",
        "dal.Margin is not a Trainer",
    ),
}


@pytest.mark.parametrize("case", CONFIGS, ids=[name.replace(" ", "_") for name in CONFIGS])
def test_a_bad_config_gives_one_line_with_its_place(case: str, dal: Command, tmp_path: Path) -> None:
    text, message = CONFIGS[case]
    (tmp_path / "run.yaml").write_text(text)
    refused(dal("run", "run.yaml"), message)


# whole command lines
COMMANDS = {
    "no such command": (["rnu"], "no command 'rnu', did you mean run?"),
    "run without a config": (["run"], "dal run needs a config file"),
    "missing config": (["run", "rum.yaml"], "rum.yaml: this config file is not there; did you mean run.yaml?"),
    "folder as a config": (["run", "."], "this config file is a folder"),
    "config in a missing folder": (["run", "nowhere/run.yaml"], "nor is the folder nowhere"),
    "two configs": (["run", "run.yaml", "run.yaml"], "unrecognized arguments: run.yaml"),
    "resume of nothing": (["run", "--resume", "nowhere"], "there is no folder nowhere"),
    "resume of another folder": (["run", "--resume", "."], ". is not a run folder: it has no config.yaml"),
    "ask without a config": (["ask", "mine"], "mine has no config.yaml yet: start it with"),
    "ask for nothing": (["ask", "mine", "-n", "0"], "-n must be at least 1"),
    "ask for some": (["ask", "mine", "-n", "some"], "argument -n: invalid int value: 'some'"),
    "tell a missing file": (["tell", "mine", "todo.csv"], "todo.csv: there is no such file"),
    "tell a folder that was never asked": (["tell", "mine", "tickets.csv"], "there is no folder mine"),
    "list of what there is none": (["list", "models"], "invalid choice: 'models'"),
    "check of nothing": (["check"], "the following arguments are required: name"),
    "check of an unknown class": (["check", "nowhere:Spread"], "nowhere"),
    "report of a missing folder": (["report", "nowhere"], "there is no folder nowhere"),
    "report of a folder without a run": (["report", "."], "metrics.jsonl"),
}


@pytest.mark.parametrize("case", COMMANDS, ids=[name.replace(" ", "_") for name in COMMANDS])
def test_a_bad_command_gives_one_line(case: str, dal: Command, tmp_path: Path) -> None:
    arguments, message = COMMANDS[case]
    refused(dal(*arguments), message)
    assert not (tmp_path / "mine").exists()


def test_a_config_that_is_not_utf8_is_refused(dal: Command, tmp_path: Path) -> None:
    (tmp_path / "run.yaml").write_bytes(GOOD.encode() + b"folder: caf\xe9\n")
    refused(dal("run", "run.yaml"), "run.yaml: not UTF-8 text")


def test_an_error_in_a_process_of_its_own_is_one_line_with_exit_code_2(dal: Command, tmp_path: Path) -> None:
    arguments = [sys.executable, "-m", "dal", "run", "run.yaml", "--strategy", "Margn"]
    ended = subprocess.run(arguments, capture_output=True, text=True, cwd=tmp_path, timeout=120)
    assert (ended.returncode, ended.stdout) == (2, "loading torch and transformers ...\n")
    assert ended.stderr.startswith("dal: error: --strategy: unknown strategy 'Margn'")
    assert ended.stderr.count("\n") == 1


def refused(ended: object, message: str) -> None:
    assert ended.code == 2, ended  # type: ignore[attr-defined]
    assert message in ended.err  # type: ignore[attr-defined]
    assert ended.err.startswith("dal: error: ")  # type: ignore[attr-defined]
    assert ended.err.count("\n") == 1, ended.err  # type: ignore[attr-defined]
    assert "Traceback" not in ended.err  # type: ignore[attr-defined]
    assert all(line.endswith(" ...") for line in ended.out.splitlines()), ended  # type: ignore[attr-defined]
