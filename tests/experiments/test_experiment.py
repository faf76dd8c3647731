import json
import os
import signal
import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import material
import pytest
import torch
from torch import Tensor

from dal.config.stored import read_config
from dal.data import Rows, Splits
from dal.errors import BusyError, ConfigError, DataError, NeedError, SessionError
from dal.experiments.console import Console, Quiet
from dal.experiments.experiment import Experiment
from dal.experiments.interrupts import Interrupted
from dal.learner import Monitor
from dal.learners.probe_learner import ProbeLearner
from dal.learners.tfidf_learner import TfidfLearner
from dal.oracle import LATER, Oracle
from dal.oracles.simulated import Simulated
from dal.store.events import SKIP
from dal.store.folder_lock import Lock
from dal.store.label_store import LabelStore
from dal.store.run_folder import read_metrics
from dal.strategies.auto import Auto
from dal.strategies.composition import Phases
from dal.strategies.diversity import ClusterCenters
from dal.strategies.random import Random
from dal.strategies.uncertainty import Entropy, Margin

NAMES = list("abcd")


def splits(n: int = 150) -> Any:
    inputs, labels = material.clusters(n, spread=3.0)
    test, truth = material.clusters(60, seed=1, spread=3.0)
    return Splits(Rows.from_inputs(inputs, labels, NAMES), Rows.from_inputs(test, truth, NAMES))


def experiment(folder: Path | None = None, **changes: Any) -> Experiment:
    small = Experiment(
        splits(), ProbeLearner(model=None), Margin(), start=10, batch=5, rounds=2, report=False, quiet=True
    )
    return replace(small, folder=None if folder is None else str(folder), **changes)


def without_seconds(line: Mapping[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in line.items() if not key.endswith("seconds")}


def test_every_cell_is_a_run_folder_with_a_line_per_round(tmp_path: Path) -> None:
    results = experiment(tmp_path, seeds=[0, 7]).run()
    assert list(results.cells) == ["Margin-seed0", "Random-seed0", "Margin-seed7", "Random-seed7"]
    for name, lines in results.cells.items():
        folder = tmp_path / name
        assert {"config.yaml", "labels.db", "metrics.jsonl", "model"} <= {path.name for path in folder.iterdir()}
        assert read_metrics(folder) == lines
        assert [line["labels"] for line in lines] == [10, 15, 20]
    assert {"config.yaml", "environment.json"} <= {path.name for path in tmp_path.iterdir()}
    assert results.curve("Margin-seed0")[0][0] == 10


def test_line_holds_the_figures_and_the_choice_of_its_round(tmp_path: Path) -> None:
    lines = experiment(tmp_path, baseline=None).run().cells["Margin-seed0"]
    first, second, _ = lines
    assert {"accuracy", "macro_f1", "micro_f1", "log_loss", "ece", "brier", "fit_seconds", "pass_seconds"} <= set(first)
    assert (first["acting_strategy"], second["acting_strategy"], second["strategy"]) == ("Random", "Margin", "Margin")
    assert (first["scores"], len(second["scores"]), len(second["rows"])) == (None, 5, 5)
    assert sum(second["class_counts"]) == 15
    with LabelStore(tmp_path / "Margin-seed0" / "labels.db") as store:
        assert store.batch(2).rows == tuple(second["rows"])
        assert all(event.source == "simulated" for event in store.events() if event.kind == "answered")


def test_cells_of_one_seed_share_their_random_start() -> None:
    cells = experiment(seeds=[0, 1]).run().cells
    assert cells["Margin-seed0"][0]["rows"] == cells["Random-seed0"][0]["rows"]
    assert cells["Margin-seed0"][0]["rows"] != cells["Margin-seed1"][0]["rows"]
    assert cells["Margin-seed0"][1]["rows"] != cells["Random-seed0"][1]["rows"]


def test_schedule_chooses_its_own_start() -> None:
    lines = (
        experiment(strategy=Phases(ClusterCenters(), Margin(), until=10), baseline=None)
        .run()
        .cells["ClusterCenters+Margin-seed0"]
    )
    assert [line["acting_strategy"] for line in lines] == ["ClusterCenters", "Margin", "Margin"]


def test_same_strategy_with_other_options_is_a_cell_of_its_own() -> None:
    cells = experiment(strategy=Phases(Random(), Margin(), 10), baseline=Phases(Random(), Entropy(), 10)).cells
    assert [cell.name for cell in cells] == ["Random+Margin-seed0", "Random+Entropy-seed0"]
    assert len(experiment(strategy=Random(), baseline=Random()).cells) == 1


def test_run_in_memory_equals_the_run_in_a_folder(tmp_path: Path) -> None:
    stored, held = experiment(tmp_path).run().cells, experiment().run().cells
    assert {name: [without_seconds(line) for line in lines] for name, lines in stored.items()} == {
        name: [without_seconds(line) for line in lines] for name, lines in held.items()
    }


def test_finished_experiment_is_only_read(tmp_path: Path) -> None:
    first = experiment(tmp_path).run()

    class Gone:
        def load(self) -> Splits:
            raise AssertionError("the data was loaded")

    again = replace(experiment(tmp_path), data=Gone())  # type: ignore[arg-type]
    config = read_config(tmp_path)
    assert again.run(config=config).cells == first.cells


def test_report_is_written_once_and_again_when_it_is_missing(tmp_path: Path) -> None:
    first = experiment(tmp_path, report=True, rounds=0).run()
    assert first.report == tmp_path / "report.html"
    assert "Margin" in first.report.read_text(encoding="utf-8")
    first.report.write_text("kept")
    assert experiment(tmp_path, report=True, rounds=0).run().report == first.report
    assert first.report.read_text() == "kept"
    first.report.unlink()
    experiment(tmp_path, report=True, rounds=0).run()
    assert first.report.stat().st_size > 1000


def test_report_of_a_finished_schedule_misses_nothing(tmp_path: Path) -> None:
    schedule = Phases(ClusterCenters(), Margin(), until=10)
    report = experiment(tmp_path, strategy=schedule, report=True).run().report
    assert report is not None
    page = report.read_text(encoding="utf-8")
    assert "ClusterCenters+Margin against Random" in page
    assert "not finished" not in page


def test_texts_are_stored_and_shown_only_when_wanted(tmp_path: Path, tiny_bert: Path) -> None:
    texts, labels = material.tickets(60)
    data = Splits(Rows.from_inputs(texts[:40], labels[:40]), Rows.from_inputs(texts[40:], labels[40:]))
    learner = ProbeLearner(str(tiny_bert))
    for shown in (True, False):
        run = replace(experiment(tmp_path / str(shown), rounds=1, report=True), data=data, learner=learner)
        results = replace(run, show_texts=shown).run()
        line = results.cells["Margin-seed0"][-1]
        assert ("texts" in line) is shown
        assert results.report is not None
        assert all((text in results.report.read_text()) is shown for text in line.get("texts", texts[:40]))


def test_folder_with_another_config_is_refused_by_the_key_that_differs(tmp_path: Path) -> None:
    experiment(tmp_path).run()
    with pytest.raises(ConfigError, match=r"holds another run: batch is 5 there and 6 here"):
        experiment(tmp_path, batch=6).run()
    with pytest.raises(ConfigError, match=r"strategy\.class_path is .*Margin.* there and .*Entropy"):
        experiment(tmp_path, strategy=Entropy()).run()
    with pytest.raises(ConfigError, match=r"learner\.init_args\.l2 is"):
        experiment(tmp_path, learner=ProbeLearner(model=None, l2=7.0)).run()


def test_moved_folder_goes_on(tmp_path: Path) -> None:
    first = experiment(tmp_path / "here").run()
    (tmp_path / "here").rename(tmp_path / "there")
    assert experiment(tmp_path / "there").run().cells == first.cells


def test_config_of_the_folder_names_every_class_by_its_declared_name(tmp_path: Path) -> None:
    experiment(tmp_path, oracle=Simulated(noise=0.1), rounds=0).run()
    config = read_config(tmp_path)
    assert config["strategy"] == {"class_path": "Margin", "init_args": {}}
    assert config["learner"]["class_path"] == "ProbeLearner"
    assert config["oracle"]["init_args"] == {"noise": 0.1, "seed": 0}
    assert "folder" not in config
    assert read_config(tmp_path / "Random-seed0")["strategy"]["class_path"] == "Random"
    environment = json.loads((tmp_path / "environment.json").read_text())
    assert {"python", "packages", "cores", "threads", "gpus"} <= set(environment)


def test_experiment_in_use_is_refused(tmp_path: Path) -> None:
    lock = Lock(tmp_path)
    with pytest.raises(BusyError):
        experiment(tmp_path).run()
    lock.release()


def test_fewer_rows_than_labels_asked_for_are_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="150 rows, fewer than the 160"):
        experiment(tmp_path, rounds=30).run()


def test_pool_without_all_labels_and_without_an_oracle_points_to_people(tmp_path: Path) -> None:
    data = splits()
    labels = data.pool.labels.clone()
    labels[100:] = -1
    partly: Any = Splits(Rows.from_inputs(data.pool.inputs, labels, NAMES), data.test)
    with pytest.raises(ConfigError, match=r"50 of 150 rows .* no label.*`dal ask` and `dal tell`"):
        experiment(data=partly).run()


def test_simulation_without_a_test_is_refused() -> None:
    with pytest.raises(ConfigError, match="scored on a test set"):
        experiment(data=Splits(splits().pool)).run()


def test_need_that_is_not_provided_is_refused_before_any_round(tmp_path: Path) -> None:
    @dataclass(frozen=True)
    class Odd(Random):
        needs = frozenset({"surprisal"})

    with pytest.raises(NeedError, match="Odd needs surprisal"):
        experiment(tmp_path, baseline=Odd()).run()
    assert not (tmp_path / "Margin-seed0").exists()


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("start", 0),
        ("batch", 0),
        ("rounds", -1),
        ("seeds", []),
        ("seeds", [1, 1]),
        ("seeds", [-1]),
        ("objective", "f1"),
    ],
)
def test_numbers_that_make_no_run_are_refused(field: str, value: Any) -> None:
    with pytest.raises(ConfigError, match=field):
        experiment(**{field: value})


def test_objective_is_that_of_the_learner_and_the_verdict_unless_they_have_their_own() -> None:
    plain = experiment(objective="macro_f1")
    assert (plain.learner.objective, plain.metric) == ("macro_f1", "macro_f1")  # type: ignore[attr-defined]
    own = experiment(learner=ProbeLearner(model=None, objective="log_loss"), metric="ece", objective="macro_f1")
    assert (own.learner.objective, own.metric) == ("log_loss", "ece")  # type: ignore[attr-defined]
    other = experiment(learner=TfidfLearner(), objective="balanced_accuracy")
    assert (other.learner, other.metric) == (TfidfLearner(), "balanced_accuracy")
    assert (experiment().learner, experiment().metric) == (ProbeLearner(model=None), None)


def test_verdict_of_an_objective_is_on_it(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    experiment(tmp_path / "run", objective="macro_f1", report=True, quiet=False).run()
    assert "macro_f1 by number of labels" in capsys.readouterr().out
    page = (tmp_path / "run/report.html").read_text(encoding="utf-8")
    assert "macro-F1" in page.split('class="said">')[1].split("</p>")[0]
    assert read_config(tmp_path / "run")["objective"] == "macro_f1"


@dataclass(frozen=True)
class Reluctant(Oracle):
    """Answers from the labels that the test knows, and declines every fourth row."""

    source = "person"

    def answer(self, rows: Tensor, data: Rows) -> Sequence[Any]:
        truth = splits().pool.labels
        return [SKIP if row % 4 == 0 else NAMES[int(truth[row])] for row in rows.tolist()]


def test_oracle_that_does_not_hide_labels_starts_from_those_in_the_data() -> None:
    data = splits()
    labels = data.pool.labels.clone()
    labels[30:] = -1
    partly: Any = Splits(Rows.from_inputs(data.pool.inputs, labels, NAMES), data.test)
    lines = experiment(data=partly, oracle=Reluctant(), baseline=None).run().cells["Margin-seed0"]
    assert (lines[0]["labels"], lines[0]["rows"], lines[0]["acting_strategy"]) == (30, [], None)
    assert [len(line["rows"]) for line in lines] == [0, 5, 5]
    assert 30 < lines[2]["labels"] <= 40


def test_run_on_labels_in_the_data_resumes(tmp_path: Path) -> None:
    data = splits()
    labels = data.pool.labels.clone()
    labels[30:] = -1
    partly: Any = Splits(Rows.from_inputs(data.pool.inputs, labels, NAMES), data.test)
    asked = experiment(tmp_path / "run", data=partly, oracle=Reluctant(), baseline=None)
    first = asked.run().cells
    assert asked.run().cells == first


@dataclass(frozen=True)
class Picky(Oracle):
    """Answers the first rows that it is asked, and declines every row of a later batch."""

    source = "person"

    def answer(self, rows: Tensor, data: Rows) -> Sequence[Any]:
        return [NAMES[int(splits().pool.labels[row])] if len(rows) == 20 else SKIP for row in rows.tolist()]


def test_run_with_a_batch_without_labels_is_finished(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    unlabeled: Any = Splits(Rows.from_inputs(splits().pool.inputs, classes=NAMES), splits().test)
    asked = experiment(tmp_path, data=unlabeled, oracle=Picky(), start=20, report=True, quiet=False)
    assert [line["labels"] for line in asked.run().cells["Random-seed0"]] == [20, 20, 20]
    shown = capsys.readouterr().out
    assert shown.count("  5 of 5 rows were declined and get no label: a batch is not refilled") == 4
    assert "- : " not in shown  # both strategies have the same numbers of labels
    assert "not finished" not in shown
    assert " ± 0.000" not in shown  # one seed


def test_declined_rows_are_not_asked_again() -> None:
    unlabeled: Any = Splits(Rows.from_inputs(splits().pool.inputs, classes=NAMES), splits().test)
    lines = experiment(data=unlabeled, oracle=Reluctant(), baseline=None, start=20).run().cells["Margin-seed0"]
    rows = [row for line in lines for row in line["rows"]]
    assert len(rows) == len(set(rows)) == 30
    declined = [line.get("declined", 0) for line in lines]
    assert [line["labels"] + sum(declined[: i + 1]) for i, line in enumerate(lines)] == [20, 25, 30]
    assert declined[0] > 0
    assert lines[0]["labels"] < 20


class Pressing(Quiet):
    """Presses Ctrl-C when the work has advanced a number of times."""

    def __init__(self, after: int) -> None:
        self.left = after

    def monitor(self, check: Callable[[], None]) -> Monitor:
        outer = self

        class Counting(Monitor):
            def advanced(self, count: int) -> None:
                outer.left -= 1
                if outer.left == 0:
                    os.kill(os.getpid(), signal.SIGINT)
                check()

        return Counting()


@pytest.mark.parametrize("after", [1, 3, 7])
def test_ctrl_c_stops_cleanly_says_how_to_resume_and_resumes_the_same(tmp_path: Path, after: int) -> None:
    before = signal.getsignal(signal.SIGINT)
    with pytest.raises(Interrupted, match=rf"dal run --resume {tmp_path}") as caught:
        experiment(tmp_path).run(reporter=Pressing(after))
    assert caught.value.exit_code == 130
    assert signal.getsignal(signal.SIGINT) is before
    resumed, whole = experiment(tmp_path).run().cells, experiment().run().cells
    for name in whole:
        assert [without_seconds(x) for x in resumed[name]] == [without_seconds(x) for x in whole[name]]


def test_experiment_runs_in_a_thread_that_gets_no_signals() -> None:
    found = []
    thread = threading.Thread(target=lambda: found.append(experiment(rounds=0, baseline=None).run()))
    thread.start()
    thread.join()
    assert len(found[0].cells["Margin-seed0"]) == 1


def test_change_of_machine_is_said_on_resuming(tmp_path: Path) -> None:
    experiment(tmp_path, rounds=0).run()
    place = tmp_path / "environment.json"
    place.write_text(json.dumps(json.loads(place.read_text()) | {"threads": 99}))
    said = []

    class Saying(Quiet):
        def say(self, text: str) -> None:
            said.append(text)

    experiment(tmp_path, rounds=0).run(reporter=Saying())
    assert "was begun with other threads" in said[0]
    assert "choices may differ" in said[0]


def test_console_shows_a_table_round_by_round(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    experiment(tmp_path, seeds=[0, 1]).run(reporter=Console())
    shown = capsys.readouterr().out
    assert "Margin, seed 1" in shown
    assert "macro-F1" in shown
    assert shown.count(" Random ") >= 8
    assert "mean ± standard deviation over the seeds" in shown


def test_memory_holds_one_preparation_for_all_cells() -> None:
    prepared = []

    @dataclass(frozen=True)
    class Once(ProbeLearner):
        model: str | None = None

        def prepare(self, data: Any) -> Any:
            prepared.append(len(data))
            return super().prepare(data)

    experiment(learner=Once(), seeds=[0, 1]).run()
    assert sorted(prepared) == [60, 150]
    assert torch.get_num_threads() >= 1


def test_folder_that_exists_and_holds_no_run_gets_nothing_of_one_that_cannot_be_made(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="150 rows, fewer than the 5010 labels asked for: lower start, batch or rounds"):
        experiment(tmp_path, rounds=1000).run()
    assert list(tmp_path.iterdir()) == []


@dataclass(frozen=True)
class Open(Oracle):
    """Answers, and hides nothing."""

    def answer(self, rows: Tensor, data: Any) -> Sequence[Any]:
        return [0] * len(rows)


@dataclass(frozen=True)
class Leaves(Oracle):
    """Leaves all rows to somebody else."""

    def answer(self, rows: Tensor, data: Any) -> Sequence[Any]:
        return [LATER] * len(rows)


def test_oracle_that_leaves_rows_says_what_to_do_with_them_and_the_folder(tmp_path: Path) -> None:
    data = splits()
    unlabeled = Splits(Rows.from_inputs(data.pool.inputs, classes=NAMES), data.test)
    with pytest.raises(SessionError) as caught:
        experiment(tmp_path, data=unlabeled, oracle=Leaves()).run()
    said = str(caught.value)
    assert said.startswith("Leaves leaves 10 rows to a person, and this run has none: have it answer or SKIP every row")
    assert "one of the models of a Router, whose person answers what they leave" in said
    assert "a run with another oracle needs another folder (--folder), or this one deleted" in said
    with pytest.raises(ConfigError, match=r"oracle.* choose another folder, or delete this one: no round"):
        experiment(tmp_path, data=unlabeled, oracle=Open()).run()


def test_report_of_a_run_is_followed_by_its_verdict(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    experiment(tmp_path, report=True, quiet=False).run()
    *before, last = capsys.readouterr().out.splitlines()
    assert last == f"report: {tmp_path / 'report.html'}"
    page = (tmp_path / "report.html").read_text(encoding="utf-8")
    sentence = next(line for line in before if line.startswith("Margin ") and "labels" in line)
    assert sentence.split(":")[0] in page


def test_learner_that_the_default_strategy_cannot_use_names_one_that_can() -> None:
    with pytest.raises(NeedError, match=r"Auto needs .*: use another strategy, such as Margin \(--strategy Margin\)"):
        experiment(learner=TfidfLearner(), strategy=Auto()).run()


def test_data_whose_rows_all_have_a_label_is_told_what_to_do() -> None:
    with pytest.raises(DataError, match=r"all 150 rows of the data have a label already, and Open is only asked for"):
        experiment(oracle=Open()).run()
    data = splits()
    labels = data.pool.labels.clone()
    labels[:3] = -1
    few = Splits(Rows.from_inputs(data.pool.inputs, labels, NAMES), data.test)
    with pytest.raises(DataError, match="3 rows without a label, fewer than the 10 labels asked for of Open"):
        experiment(data=few, oracle=Open()).run()


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"data": torch.zeros(3, 2)}, "data must be a TextData or a Splits"),
        ({"data": Splits}, "got the class Splits"),
        ({"learner": ProbeLearner}, "learner must be Learner.*the class ProbeLearner"),
        ({"strategy": "Margin"}, "strategy must be Strategy.*got str"),
        ({"baseline": Random}, r"baseline must be Strategy.*give Random\(\)"),
        ({"oracle": Random()}, "oracle must be Oracle"),
        ({"weak_labels": 3}, "weak_labels must be LLMWeakLabels"),
        ({"stop": 200}, "stop must be StoppingRule"),
        ({"successor": "tfidf"}, "successor must be Learner"),
        ({"candidates": "all"}, "candidates must be int or Candidates"),
        ({"start": "20"}, "start must be at least 1, got '20'"),
        ({"start": 2.5}, "start must be at least 1, got 2.5"),
        ({"rounds": True}, "rounds must be at least 0, got True"),
        ({"seeds": 3}, "seeds must be distinct numbers"),
        ({"seeds": ["a"]}, "seeds must be distinct numbers"),
        ({"seeds": "01"}, "seeds must be distinct numbers"),
        ({"price_per_label": "1"}, "price_per_label must be at least 0, got '1'"),
        ({"folder": ""}, "folder is empty"),
        ({"folder": 5}, "folder must be str or PathLike"),
    ],
)
def test_wrong_parts_are_refused_with_what_to_give(changes: dict[str, Any], message: str) -> None:
    fields = {"data": splits(), "learner": ProbeLearner(model=None), "strategy": Margin(), **changes}
    with pytest.raises(ConfigError, match=message):
        Experiment(**fields)


def test_seeds_are_any_sequence_and_written_as_a_list() -> None:
    assert experiment(seeds=range(2)).stored_config()["seeds"] == [0, 1]


@pytest.mark.parametrize("folder", ["file", "file/below", "x" * 300, "a\0b"])
def test_folder_that_cannot_be_one_is_refused_in_one_line(
    folder: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("file").touch()
    with pytest.raises(ConfigError) as error:
        replace(experiment(), folder=folder).run()
    assert "\n" not in str(error.value)
    assert os.listdir() == ["file"]


def test_session_of_a_cell_is_the_same_wherever_it_is_opened(tmp_path: Path) -> None:
    from dal.commands.experiment_settings import open_session

    shared = experiment(candidates=30, save_model=False)
    with shared.session(shared.cells[0], None) as ours, open_session(shared, tmp_path) as theirs:
        names = ("learner", "strategy", "seed", "budget", "save_model", "candidates")
        assert [getattr(ours, name) for name in names] == [getattr(theirs, name) for name in names]
        assert (ours.hide_labels, theirs.hide_labels) == (True, False)  # a person is not asked from the data


def test_report_is_written_by_the_function_that_is_passed_in(tmp_path: Path) -> None:
    written: list[Path] = []

    def write(folder: Path) -> Path:
        written.append(folder)
        return folder / "other.txt"

    assert experiment(tmp_path, report=True).run(write_report=write).report == tmp_path / "other.txt"
    assert written == [tmp_path]
    assert not (tmp_path / "report.html").exists()
    assert experiment(tmp_path, report=False).run(write_report=write).report is None
    assert written == [tmp_path]
