"""Lightning loggers get the figures of every round once, however often a run is stopped."""

import csv
from pathlib import Path
from typing import Any

import pytest
from command import Command, write_tickets
from lightning.pytorch.loggers import Logger
from test_comparison import CONFIG
from test_experiment import experiment

from dal.errors import ConfigError
from dal.experiments.comparison import Comparison
from dal.experiments.console import Quiet
from dal.experiments.experiment import Experiment
from dal.experiments.interrupts import Interrupted
from dal.experiments.loggers import LOGGED, figures, open_loggers
from dal.strategies import Margin

SENT: list[tuple[str, str, int, float]] = []


class Sends(Logger):
    """A logger that sends what it is told to a list: run, its id, step and accuracy."""

    def __init__(self, run_name: str = "", run_id: str | None = None) -> None:
        super().__init__()
        self._name, self._id = run_name, run_id or f"id{len(SENT)}"

    @property
    def name(self) -> str:
        return self._name

    @property
    def version(self) -> str:
        return self._id

    @property
    def experiment(self) -> Any:
        return self

    def log_metrics(self, metrics: dict[str, float], step: int | None = None) -> None:
        SENT.append((self._name, self._id, int(step or 0), metrics["accuracy"]))

    def log_hyperparams(self, *given: Any, **options: Any) -> None:
        pass


class Stops(Quiet):
    """Interrupts the run when so many rounds are complete."""

    def __init__(self, after: int) -> None:
        self.left = after

    def round(self, line: Any) -> None:
        self.left -= 1
        if self.left == 0:
            raise Interrupted("enough")


def stopped_and_resumed(logged: Experiment) -> dict[str, Any]:
    with pytest.raises(Interrupted):
        logged.run(reporter=Stops(2))
    return dict(logged.run().cells)


def test_csv_has_a_line_per_round_with_the_labels_as_step_also_after_a_resume(tmp_path: Path) -> None:
    cells = stopped_and_resumed(experiment(tmp_path, loggers=["CSVLogger"]))
    for cell, lines in cells.items():
        with (tmp_path / "logs" / cell / "metrics.csv").open(newline="") as file:
            found = list(csv.DictReader(file))
        assert [int(line["step"]) for line in found] == [10, 15, 20]
        assert [float(line["log_loss"]) for line in found] == pytest.approx([line["log_loss"] for line in lines])


def test_tensorboard_has_each_round_once(tmp_path: Path) -> None:
    pytest.importorskip("tensorboard", reason="TensorBoard is not installed")
    from tensorboard.backend.event_processing.event_file_loader import LegacyEventFileLoader

    logger = {"TensorBoardLogger": {"save_dir": str(tmp_path / "board")}}
    cells = stopped_and_resumed(experiment(tmp_path / "run", loggers=[logger]))
    for cell, lines in cells.items():
        files = list((tmp_path / "board" / cell).glob("events.out.tfevents.*"))
        events = [event for file in files for event in LegacyEventFileLoader(str(file)).Load()]
        found = {
            event.step: value.simple_value
            for event in events
            for value in event.summary.value
            if value.tag == "accuracy"
        }
        assert sum(value.tag == "accuracy" for event in events for value in event.summary.value) == 3
        assert found == pytest.approx({line["labels"]: line["accuracy"] for line in lines})


def test_a_service_is_told_of_each_round_once_and_a_resumed_cell_is_the_same_run_there(tmp_path: Path) -> None:
    SENT.clear()
    logged = experiment(tmp_path, loggers=[{"class_path": "test_loggers.Sends"}])
    cells = stopped_and_resumed(logged)
    assert sorted((name, step) for name, _, step, _ in SENT) == sorted((c, n) for c in cells for n in (10, 15, 20))
    assert len({(name, run) for name, run, _, _ in SENT}) == len(cells)
    logged.run()
    assert len(SENT) == 3 * len(cells)


def test_every_cell_of_a_comparison_is_logged(tmp_path: Path) -> None:
    Comparison(experiment(tmp_path, loggers=["CSVLogger"]), (Margin(),)).run()
    assert sorted(path.name for path in (tmp_path / "logs").iterdir()) == ["Margin-seed0", "Random-seed0"]


def test_only_finite_numbers_are_figures() -> None:
    line = {"a": 1, "b": True, "c": None, "d": float("nan"), "e": "x", "f": [1], "g": {"h": {"i": 2.5}}}
    assert figures(line) == {"a": 1.0, "g/h/i": 2.5}


@pytest.mark.parametrize(
    ("loggers", "said"),
    [
        (["CVSLogger"], "did you mean CSVLogger"),
        (["dal.strategies.Margin"], "is not a Lightning logger"),
        ([{"CSVLogger": {}, "x": 1}], "write a name such as CSVLogger"),
        ([{"CSVLogger": {"nothing": 1}}], "CSVLogger cannot be made: "),
    ],
)
def test_mistakes_are_told(tmp_path: Path, loggers: list[Any], said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        experiment(tmp_path / "run", loggers=loggers).run()


def test_a_config_and_the_command_line_name_loggers(
    tmp_path: Path, tiny_bert: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    write_tickets(tmp_path / "tickets.csv", 60)
    config = CONFIG.replace("MODEL", str(tiny_bert)).replace("rounds: 2", "rounds: 0\nbaseline: null")
    (tmp_path / "grid.yaml").write_text(config + "loggers: [{CSVLogger: {save_dir: here}}]\n")
    assert Command(capsys)("run", "grid.yaml").code == 0
    assert len(list((tmp_path / "here").rglob("metrics.csv"))) == 1
    assert Command(capsys)("run", "grid.yaml", "--loggers", "CSVLogger", "--folder", "other").code == 0
    assert len(list((tmp_path / "other" / "logs").rglob("metrics.csv"))) == 1
    assert Command(capsys)("run", "--resume", "other").code == 0


def test_a_class_that_is_called_like_a_formula_is_no_head_of_a_table() -> None:
    assert list(figures({"per_class": {"a;=1": {"f1": 0.5}}})) == ["per_class/a;'=1/f1"]


@pytest.mark.parametrize("content", ["{", "[" * 100_000, "[1]", '{"Sends": 3}', '{"Sends": {"labels": "x"}}'])
def test_a_damaged_record_of_what_was_logged_is_named(content: str, tmp_path: Path) -> None:
    (tmp_path / LOGGED).write_text(content)
    recipes = ["test_loggers.Sends"]
    with pytest.raises(ConfigError, match=r"logged\.json") as error, open_loggers(recipes, tmp_path, "c", []):
        pass
    assert "\n" not in str(error.value)
