"""`dal run` on several devices: what its options and its trainer ask for, and what the stored recipe says."""

from pathlib import Path
from typing import Any

import pytest
from command import Command, running

from dal.commands.several_devices import _start_shown, on_one_device, run_on_devices
from dal.config.factory import Factory
from dal.config.stored import describe
from dal.data import TextData
from dal.errors import RankError
from dal.experiments.experiment import Experiment
from dal.learners.committee_learner import CommitteeLearner
from dal.learners.tfidf_learner import TfidfLearner
from dal.learners.transformer_learner import TransformerLearner


@pytest.fixture
def dal(with_tickets: Command) -> Command:
    return with_tickets.configured(run=running(start=6, batch=4, rounds=1, report=False))


def transformer(devices: Any) -> TransformerLearner:
    return TransformerLearner(
        trainer=Factory("lightning.pytorch.Trainer", {"devices": devices, "precision": "32-true"})
    )


def test_comparison_names_what_it_has_in_place_of_devices(dal: Command) -> None:
    ended = dal("compare", "run.yaml", "--strategies", "Margin", "--devices", 2)
    assert ended.code == 2
    assert ended.messages == [
        "dal: error: dal compare runs each cell on one device: give --jobs N, and each of N cells at once has its own"
    ]


def test_number_of_devices_is_no_part_of_the_recipe():
    data = TextData("tickets.csv")
    for learner, successor, expected in (
        (transformer(4), None, 4),
        (CommitteeLearner(transformer("2")), None, 2),
        (TfidfLearner(), transformer(3), 3),
        (TfidfLearner(), None, 1),
    ):
        separated, devices = on_one_device(Experiment(data, learner, successor=successor))
        alone, _ = on_one_device(Experiment(data, _alone(learner), successor=successor and _alone(successor)))
        assert devices == expected
        assert describe(separated) == describe(alone)


def _alone(learner: Any) -> Any:
    if isinstance(learner, CommitteeLearner):
        return CommitteeLearner(transformer(1))
    return transformer(1) if isinstance(learner, TransformerLearner) else learner


@pytest.mark.parametrize("arguments", [("--devices", "0"), ("--devices", "two"), ("--rank-timeout", "-1")])
def test_options_without_a_meaning_are_refused_before_anything_is_opened(dal: Command, arguments: tuple[str, str]):
    ended = dal("run", "run.yaml", *arguments)
    assert ended.code == 2
    assert arguments[0] in ended.messages[0] or "devices" in ended.messages[0]
    assert not Path("runs").exists()


def test_comparison_is_started_once(dal: Command, monkeypatch: pytest.MonkeyPatch):
    """By torchrun or srun it would run as often as there are processes, of which one has the folder."""
    launcher = {"WORLD_SIZE": "2", "LOCAL_RANK": "1", "MASTER_ADDR": "localhost", "MASTER_PORT": "29500"}
    for name, value in ({"RANK": "1"} | launcher).items():
        monkeypatch.setenv(name, value)
    ended = dal("compare", "run.yaml", "--strategies", "Margin", "--seeds", 1)
    assert ended.code == 2
    assert "dal compare was started as 2 processes, by torchrun or srun: start it once, with --jobs N" in ended.err
    assert not Path("runs").exists()


def test_lost_rank_is_reported_with_the_command_that_goes_on(dal: Command, tmp_path: Path):
    class Losing(Experiment):
        def run(self, **options: Any) -> Any:
            raise RankError("rank 1 was killed by signal 9")

    folder = str(tmp_path / "my runs")
    with pytest.raises(RankError, match=r"rank 1 was killed by signal 9; go on with: dal run --resume '.*/my runs'$"):
        run_on_devices(Losing(TextData("tickets.csv"), TfidfLearner(), folder=folder), None, None)


def test_finished_run_is_opened_with_any_number_of_devices(dal: Command):
    assert dal("run", "run.yaml").code == 0
    again = dal("run", "--resume", "runs/run", "--devices", "1")
    assert again.code == 0, again.err


def test_ranks_that_are_awaited_are_one_line_in_a_log_and_then_signs_of_life(capsys: pytest.CaptureFixture[str]):
    with _start_shown() as tell:
        for left in (3, 2, 1):
            tell(f"waiting for {left} of 4 ranks to start")
    assert capsys.readouterr() == ("waiting for 3 of 4 ranks to start ...\n", "")
    with _start_shown(stderr=True) as tell:  # stdout is for the config or the costs that the command prints
        tell("waiting for 1 of 2 ranks to start")
    assert capsys.readouterr() == ("", "waiting for 1 of 2 ranks to start ...\n")
    with _start_shown():
        pass
    assert capsys.readouterr() == ("", "")
