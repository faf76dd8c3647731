"""Folders that version 0.1 made: they resume to what it would have chosen, report, and take answers."""

import inspect
import json
import shutil
import sqlite3
import sys
import warnings
from pathlib import Path
from typing import Any

import pytest
import yaml
from command import Command, fill, running

from dal.config import moved
from dal.config.stored import read_config
from dal.data import TextData
from dal.experiments.results import Cell
from dal.experiments.stored_experiments import stored_experiment
from dal.learners.tfidf_learner import TfidfLearner
from dal.modules.linear import LinearClassifier
from dal.oracles.simulated import Simulated

FIXTURE = Path(__file__).parent / "fixtures" / "v0_1"
CELL = "ClassBalancedMargin-seed0"

#: What version 0.1 found where it was not interrupted after its second round.
UNINTERRUPTED = {
    "labels": [6, 11, 16, 21],
    "accuracy": [0.5333333333333333, 0.6, 0.9333333333333333, 1.0],
    "macro_f1": [0.44607843137254904, 0.47863247863247865, 0.9326599326599326, 1.0],
}


@pytest.fixture
def dal(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Command:
    """The command, in a folder with a run that was killed after its second round, and one that was asked from."""
    shutil.copytree(FIXTURE, tmp_path, dirs_exist_ok=True)
    monkeypatch.chdir(tmp_path)
    return Command(capsys)


def check_resumed(folder: Path) -> None:
    lines = [json.loads(line) for line in (folder / CELL / "metrics.jsonl").read_text().splitlines()]
    for name, values in UNINTERRUPTED.items():
        assert [line[name] for line in lines] == pytest.approx(values), name


def test_run_resumes_from_its_folder_without_a_word_about_names(dal: Command) -> None:
    ended = dal("run", "--resume", "run")
    assert ended.code == 0, ended.err
    assert "0.2" not in ended.err
    check_resumed(Path("run"))
    assert Path("run/report.html").is_file()


def test_run_resumes_by_its_config_under_the_names_of_version_0_1(dal: Command) -> None:
    ended = dal("run", "run.yaml", "--folder", "run")
    assert ended.code == 0, ended.err
    check_resumed(Path("run"))
    assert "kind" not in read_config(Path("run"))  # what is there is not written again


def test_model_that_version_0_1_kept_is_not_fitted_again(dal: Command, monkeypatch: pytest.MonkeyPatch) -> None:
    experiment = stored_experiment(Path("run"))
    monkeypatch.setattr(TfidfLearner, "fit", lambda *args, **kwargs: pytest.fail("the model was fitted again"))
    with experiment.session(Cell(CELL, experiment.strategy, 0), Path("run") / CELL) as session:
        assert session.predictor is not None


def test_report_of_a_run_of_version_0_1(dal: Command) -> None:
    ended = dal("report", "run")
    assert ended.code == 0, ended.err
    assert "ClassBalanced" in Path("run/report.html").read_text(encoding="utf-8")


def test_folder_to_ask_from_takes_answers_and_asks_on(dal: Command) -> None:
    ended = dal("ask", "ask", "-o", "rest.csv")
    assert "2 of 60 texts are still to be answered; 4 have a label" in ended.err
    fill(Path("rest.csv"), ["billing", "billing"])
    told = dal("tell", "ask", "rest.csv")
    assert told.code == 0, told.err
    with sqlite3.connect("ask/labels.db") as store:
        [(stored,)] = store.execute("SELECT count(*) FROM events WHERE kind = 'answered'").fetchall()
    store.close()
    assert stored == 6
    ended = dal("ask", "ask", "-n", 3, "-o", "next.csv")
    assert ended.code == 0, ended.err
    assert "3 of 60 texts were chosen by Margin; 6 have a label" in ended.err


def test_commands_know_what_made_a_folder_of_version_0_1(dal: Command) -> None:
    refused = dal("run", "run.yaml", "--folder", "ask")
    assert (refused.code, "belongs to `dal ask`" in refused.err) == (2, True)
    refused = dal("ask", "run", "-o", "more.csv")
    assert (refused.code, "belongs to `dal run`" in refused.err) == (2, True)


def test_new_folder_says_its_kind_and_declared_names(dal: Command) -> None:
    assert dal("run", "run.yaml", "--folder", "new", "--rounds", 0, "--stop", "null").code == 0
    config = yaml.safe_load(Path("new/config.yaml").read_text())
    assert next(iter(config)) == "kind"
    assert config["kind"] == "run"
    assert config["learner"]["class_path"] == "TfidfLearner"
    assert yaml.safe_load(Path("new", CELL, "config.yaml").read_text())["kind"] == "cell"
    assert yaml.safe_load(dal("run", "--print-config", "run.yaml", "--folder", "other").out)["strategy"] == {
        "class_path": "ClassBalanced",
        "init_args": {"strategy": {"class_path": "Margin", "init_args": {}}},
    }
    wrong = Path("new/config.yaml")
    wrong.write_text(wrong.read_text().replace("kind: run", "kind: walk"))
    refused = dal("run", "--resume", "new")
    assert refused.code == 2
    assert "kind takes run, compare, cell, ask, project, not 'walk'" in refused.err


# -- the table of moved names ----------------------------------------------------------------------------------------


def test_old_names_in_a_config_of_ones_own_work_and_are_named_once(
    dal: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(moved.CLASSES, "dal.strategies.old.Margin", "dal.strategies.uncertainty.Margin")
    monkeypatch.setitem(moved.NAMES, "learner", {"Words": "TfidfLearner"})
    monkeypatch.setitem(moved.OPTIONS, "dal.learners.tfidf_learner.TfidfLearner", {"grams": "ngrams"})
    Path("old.yaml").write_text(
        "data: {path: tickets.csv, id: id, test: 0.25}\n"
        "learner: {Words: {grams: 1}}\n"
        "strategy: dal.strategies.old.Margin\n"
        "baseline: dal.strategies.old.Margin\n"
        "start: 6\nbatch: 5\nrounds: 0\nreport: false\nfolder: made\n"
    )
    ended = dal("run", "old.yaml")
    assert ended.code == 0, ended.err
    assert ended.err.count("old.yaml:2: Words is called TfidfLearner from version 0.2 on") == 1
    assert ended.err.count("old.yaml:2: the option grams of TfidfLearner is called ngrams") == 1
    assert ended.err.count("dal.strategies.old.Margin is called dal.strategies.uncertainty.Margin") == 2  # of two lines
    assert read_config(Path("made"))["learner"]["init_args"]["ngrams"] == 1
    both = dal("run", "old.yaml", "--learner.ngrams", 2, "--learner.grams", 2)
    assert (both.code, "grams was renamed to ngrams, which is given as well" in both.err) == (2, True)


def test_stored_names_that_moved_are_read_without_a_word(dal: Command, monkeypatch: pytest.MonkeyPatch) -> None:
    assert dal("run", "run.yaml", "--folder", "new", "--rounds", 0, "--stop", "null", "--learner.C", 3).code == 0
    config = Path("new/config.yaml")
    for file in (config, Path("new", CELL, "config.yaml")):
        text = file.read_text().replace("class_path: TfidfLearner", "class_path: dal.learners.old.Words")
        file.write_text(text.replace("ngrams: 1", "grams: 1"))
    monkeypatch.setitem(moved.CLASSES, "dal.learners.old.Words", "dal.learners.tfidf_learner.TfidfLearner")
    monkeypatch.setitem(moved.OPTIONS, "dal.learners.tfidf_learner.TfidfLearner", {"grams": "ngrams"})
    ended = dal("run", "--resume", "new")
    assert ended.code == 0, ended.err
    assert "0.2" not in ended.err
    again = dal("run", "run.yaml", "--folder", "new", "--rounds", 0, "--stop", "null", "--learner.C", 3)
    assert again.code == 0, again.err
    other = dal("run", "run.yaml", "--folder", "new", "--rounds", 0, "--stop", "null", "--learner.C", 4)
    assert (other.code, "C is 3.0 there and 4.0 here" in other.err) == (2, True)


def test_old_import_works_and_warns_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(moved.MODULES, "dal.old", "dal.strategies")
    monkeypatch.setitem(moved.MODULES, "dal.old.parts", "dal.strategies.uncertainty")
    monkeypatch.setitem(moved.CLASSES, "dal.old.parts.Gap", "dal.strategies.uncertainty.Margin")
    for name in ("dal.old", "dal.old.parts"):
        monkeypatch.delitem(sys.modules, name, raising=False)
    with pytest.warns(moved.RenamedWarning, match=r"dal\.old\.parts\.Gap is called dal\.\S+\.Margin from") as warned:
        from dal.old.parts import Gap  # type: ignore[import-not-found]
    assert [Path(each.filename).name for each in warned] == [Path(__file__).name]
    with pytest.warns(moved.RenamedWarning, match=r"dal\.old\.parts\.Entropy is called"):
        from dal.old.parts import Entropy
    assert (Gap.__name__, Entropy.__name__) == ("Margin", "Entropy")
    warnings.simplefilter("ignore", moved.RenamedWarning)
    with pytest.raises(ImportError, match="Nothing"):
        from dal.old.parts import Nothing  # noqa: F401
    with pytest.raises(ModuleNotFoundError):
        import dal.older  # type: ignore[import-not-found]  # noqa: F401


@pytest.mark.parametrize("path", moved.OPTIONS)
def test_old_options_and_attributes_work_in_python_and_warn(path: str) -> None:
    from dal.config.class_names import import_path

    made = {
        "Annotation": {"value": 1},
        "CandidateQuery": {"labeled": 1, "labels": 1, "n": 1, "generator": 1, "size": 1, "read": 1},
        "Estimate": dict.fromkeys(("value", "low", "high", "deviation", "plain", "rows"), 0),
        "ModuleLearner": {"build": LinearClassifier},
        "QueriedBatch": {"round": 1, "rows": 1, "scores": 1},
        "Selection": {"positions": 1},
        "TransformerLearner": {"model": "a/b"},
    }
    cls = import_path(path)
    if not isinstance(cls, type):
        for old, now in moved.OPTIONS[path].items():
            assert now in inspect.signature(cls).parameters
            called = pytest.warns(
                moved.RenamedWarning, match=f"the option {old} of {cls.__name__} is called {now} from"
            )
            with called, pytest.raises(TypeError, match="which is given as well"):
                cls(**{old: 1, now: 1})
        return
    for old, now in moved.OPTIONS[path].items():
        fractions = {"ModuleLearner", "TransformerLearner", "ClassificationChange"}
        value = 0.5 if cls.__name__ in fractions else [Simulated()] if cls.__name__ == "Router" else 7
        if cls.__name__ == "Share":
            made["Share"] = {"successes" if now == "trials" else "trials": 7}
        with pytest.warns(moved.RenamedWarning, match=rf"the option {old} of {cls.__name__} is called {now} from"):
            built = cls(**made.get(cls.__name__, {}), **{old: value})
        assert getattr(built, now) == value
        with pytest.warns(moved.RenamedWarning, match=f"the option {old}"):
            assert getattr(built, old) == value
        with pytest.warns(moved.RenamedWarning), pytest.raises(TypeError, match="which is given as well"):
            cls(**made.get(cls.__name__, {}), **{old: value, now: value})


@pytest.mark.parametrize("path", moved.ATTRIBUTES)
def test_old_attributes_are_read_and_warn(path: str) -> None:
    from dal.config.class_names import import_path

    cls = import_path(path)
    for old, now in moved.ATTRIBUTES[path].items():
        kind = type("Present", (cls,), {now: 7, "__init__": lambda self: None})
        kind.__abstractmethods__ = frozenset()  # type: ignore[attr-defined]  # after `ABCMeta` has set it
        present = kind()
        with pytest.warns(moved.RenamedWarning, match=rf"{cls.__name__}\.{old} is called {now} from") as warned:
            assert getattr(present, old) == 7
        assert warned[0].filename == __file__


def test_old_attributes_of_plugins_are_read_and_warn() -> None:
    from dal.oracle import Oracle
    from dal.stopping import StoppingRule

    with pytest.warns(moved.RenamedWarning, match="Rule.reads is called needs from"):

        class Rule(StoppingRule):
            reads = frozenset({"spent"})

    with pytest.warns(moved.RenamedWarning, match="Asker.reads_predictions and reads_record is called needs from"):

        class Asker(Oracle):
            reads_predictions = False
            reads_record = True

    with pytest.warns(moved.RenamedWarning, match="Listener.reads_predictions is called needs from"):

        class Listener(Asker):
            @property
            def reads_predictions(self) -> bool:  # type: ignore[override]
                return True

    assert (Rule.needs, Asker.needs) == ({"spent"}, {"record"})
    listener = type("Whole", (Listener,), {"answer": lambda self, rows, data: []})()
    assert listener.needs == {"predictions", "record"}


def test_old_attributes_of_learners_and_modules_of_plugins_are_read_and_warn() -> None:
    from dal.learner import Learner, Predictor
    from dal.modules.active_module import ActiveModule

    with pytest.warns(moved.RenamedWarning, match="Own.unknown is called has_unknown_class from"):

        class Own(Learner):
            unknown = True

    class Setting(Predictor):
        def outputs(self, *arguments: Any, **options: Any) -> Any:
            self.unreadable = {2: "perhaps"}

        def save(self, folder: Path) -> None: ...

    setting = Setting()
    with pytest.warns(moved.RenamedWarning, match="Predictor.unreadable is called unparsed_responses from"):
        setting.outputs()
    assert setting.unparsed_responses == {2: "perhaps"}

    with pytest.warns(moved.RenamedWarning, match="Net.follow is called features_from_trunk from"):

        class Net(ActiveModule):
            def follow(self, batch: Any, trunk: Any) -> Any:
                return trunk

    assert Own.has_unknown_class
    assert Net.features_from_trunk(None, {}, "trunk") == "trunk"  # type: ignore[arg-type,comparison-overlap]


def test_table_is_inverted_exactly(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(moved.CLASSES, "dal.old.Words", "dal.learners.tfidf_learner.TfidfLearner")
    monkeypatch.setitem(moved.MODULES, "dal.mistakes", "dal.errors")
    monkeypatch.setitem(moved.OPTIONS, "dal.learners.tfidf_learner.TfidfLearner", {"grams": "ngrams"})
    assert moved.current_name("learner", "dal.mistakes:DalError") == "dal.errors.DalError"
    assert moved.first_name("dal.errors.DalError") == "dal.mistakes.DalError"
    before = {"class_path": "dal.old.Words", "init_args": {"C": 1.0, "grams": [1, {"class_path": "other.Thing"}]}}
    now = moved.current(before)
    assert now["class_path"] == "dal.learners.tfidf_learner.TfidfLearner"
    assert list(now["init_args"]) == ["C", "ngrams"]
    assert moved.first(now) == before


def test_every_moved_class_exists_and_is_no_old_name_of_another() -> None:
    from dal.config.class_names import import_path

    for old, now in moved.CLASSES.items():
        assert import_path(now) is not None, old
        assert now not in moved.CLASSES, f"{old} moved twice"
    for path, options in moved.OPTIONS.items():
        fields = inspect.signature(import_path(path)).parameters
        assert set(options.values()) <= set(fields), path
        assert not set(options) & set(fields), path


def test_data_of_the_fixture_is_ours_and_small() -> None:
    assert len(TextData(str(FIXTURE / "tickets.csv"), id="id").load().pool) == 60
    assert sum(file.stat().st_size for file in FIXTURE.rglob("*") if file.is_file()) < 100_000


def test_probe_of_an_earlier_folder_keeps_its_head(tiny_bert: Path, with_tickets: Command) -> None:
    """The config of an earlier folder lacks the options of the head, which means that of version 0.1."""
    learner = f"{{ProbeLearner: {{model: {tiny_bert}, max_length: 16, head: null}}}}"
    config = running(learner, start=12, batch=4, rounds=2, report=False, baseline=None, seeds=[0])
    dal = with_tickets.configured(run=config)
    assert dal("run", "run.yaml", "--folder", "run").code == 0
    stored = Path("run/config.yaml")
    for path in (stored, Path("run/Margin-seed0/config.yaml")):
        kept = [line for line in path.read_text().splitlines() if line.split(":")[0].strip() not in NEW_OPTIONS]
        path.write_text("\n".join(kept) + "\n")
    metrics = Path("run/Margin-seed0/metrics.jsonl")
    lines = metrics.read_text().splitlines()
    metrics.write_text("\n".join(lines[:-1]) + "\n")
    shutil.rmtree("run/Margin-seed0/model")
    ended = dal("run", "--resume", "run")
    assert ended.code == 0, ended.err
    before, after = (json.loads(text) for text in (lines[-1], metrics.read_text().splitlines()[-1]))
    assert (after["log_loss"], after["rows"]) == (before["log_loss"], before["rows"])
    assert "training" not in after
    refused = dal("run", "run.yaml", "--folder", "run", "--learner.head", "adjusted")
    assert refused.code == 2
    assert 'learner.init_args.head is absent there and "adjusted" here' in refused.err


NEW_OPTIONS = {
    "head",
    "self_training",
    "descriptions",
    "description_strength",
    "objective",
    "description_template",
    "shards",
    "cached_as",
}
