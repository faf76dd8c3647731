"""Whose code runs: nothing of the current folder or a run folder, unless the user's own words name it."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
from command import Command, write_tickets

from dal.config import allowed_code as importing
from dal.config import plugins
from dal.config.factory import Factory
from dal.config.settings_tree import Node, options
from dal.errors import ConfigError

RUN = """\
data: {path: tickets.csv, id: id, test: 0.3}
learner: {TfidfLearner: {}}
strategy: STRATEGY
start: 6
batch: 4
rounds: 1
report: false
"""
MINE = """\
from dataclasses import dataclass
from pathlib import Path
import helpers
from dal import Query, ScoreStrategy

Path(__file__).with_name("ran.txt").write_text("ran")

@dataclass(frozen=True)
class Loudest(ScoreStrategy):
    '''Rows with the highest top probability.'''
    needs = frozenset({"probs"})
    def score(self, query: Query):
        import late_helpers
        return query.pool.probs.amax(-1) * late_helpers.ONE
"""
#: Files that an import of the standard library, of an optional package or of dal itself could take for its own.
PLANTED = (
    *(
        "random",
        "csv",
        "json",
        "yaml",
        "typing_extensions",
        "tokenize",
        "numpy",
        "pandas",
        "torchvision",
        "tensorboard",
    ),
    *("tensorboardX", "sitecustomize", "usercustomize", "conftest", "sklearn", "matplotlib", "peft", "ray"),
    *("jsonargparse", "omegaconf", "cloudpickle"),
)


def plant(folder: Path, names: tuple[str, ...] = PLANTED) -> None:
    """Files that leave their name in `ran.txt` when they are imported, and a distribution that names one of them."""
    for name in names:
        (folder / f"{name}.py").write_text(
            f"open({str(folder / 'ran.txt')!r}, 'a').write({name + ' '!r})\nraise ImportError({name!r})\n"
        )
    for kind in ("evil-1.0.dist-info", "evil2.egg-info"):
        info = folder / kind
        info.mkdir()
        head = f"Metadata-Version: 2.1\nName: {kind.split('-')[0].split('.')[0]}\nVersion: 1.0\n"
        (info / "METADATA").write_text(head)
        (info / "PKG-INFO").write_text(head)
        (info / "entry_points.txt").write_text(
            "[dal.strategies]\nEvil = random:Evil\n[dal.learners]\nWorse = csv:Worse\n"
        )
    (folder / "evil.pth").write_text(f"import sys; open({str(folder / 'ran.txt')!r}, 'a').write('pth ')\n")


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The current folder, with data, a config and a strategy of one's own."""
    monkeypatch.chdir(tmp_path)
    write_tickets(tmp_path / "tickets.csv", 60)
    (tmp_path / "run.yaml").write_text(RUN.replace("STRATEGY", "Margin"))
    (tmp_path / "own.yaml").write_text(RUN.replace("STRATEGY", "mine.Loudest"))
    (tmp_path / "mine.py").write_text(MINE)
    (tmp_path / "helpers.py").write_text("")
    (tmp_path / "late_helpers.py").write_text("ONE = 1.0\n")
    return tmp_path


@pytest.fixture
def dal(folder: Path, capsys: pytest.CaptureFixture[str]) -> Command:
    return Command(capsys)


def python(*arguments: str, **environment: str) -> "subprocess.CompletedProcess[str]":
    """A Python of its own in the current folder."""
    return subprocess.run(
        [sys.executable, *arguments], capture_output=True, text=True, timeout=300, env={**os.environ, **environment}
    )


# -- planted files -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "command",
    [
        "--version",
        "list",
        "run run.yaml",
        "report runs/run",
        "tell runs/run tickets.csv",
        "estimate runs/run",
        "check Margin",
    ],
)
def test_no_command_runs_a_file_of_the_current_folder_or_believes_a_distribution_in_it(
    command: str, dal: Command, folder: Path
) -> None:
    if "runs" in command:
        assert dal("run", "run.yaml").code == 0
        plant(folder / "runs" / "run")
    plant(folder)
    ended = python("-m", "dal", *command.split())
    assert ended.returncode in {0, 2}, ended.stderr
    assert "Traceback" not in ended.stderr
    assert [file.read_text() for file in folder.rglob("ran.txt")] == []
    assert "Evil" not in ended.stdout + ended.stderr
    assert "Worse" not in ended.stdout + ended.stderr


def test_the_installed_command_runs_no_file_of_the_current_folder(folder: Path) -> None:
    plant(folder)
    (folder / "dal").mkdir()
    (folder / "dal" / "__init__.py").write_text(f"open({str(folder / 'ran.txt')!r}, 'a').write('dal ')\n")
    ended = python("-P", "-c", "import sys; from dal.cli import main; sys.exit(main(['run', 'run.yaml']))")
    assert ended.returncode == 0, ended.stderr
    assert not (folder / "ran.txt").exists(), (folder / "ran.txt").read_text()


def test_workers_of_a_comparison_run_no_file_of_the_current_folder(folder: Path) -> None:
    plant(folder)
    ended = python("-m", "dal", "compare", "run.yaml", "--strategies", "Margin", "--seeds", "1", "--jobs", "2")
    assert ended.returncode == 0, ended.stderr
    assert not (folder / "ran.txt").exists(), (folder / "ran.txt").read_text()


def test_a_relative_entry_of_pythonpath_is_left_out(folder: Path) -> None:
    plant(folder, ("torchvision", "tensorboard", "pandas"))
    root = Path(importing.__file__).parents[2]
    ended = python("-m", "dal", "run", "run.yaml", PYTHONPATH=os.pathsep.join(["", str(root), "."]))
    assert ended.returncode == 0, ended.stderr
    assert not (folder / "ran.txt").exists(), (folder / "ran.txt").read_text()


def test_only_what_means_the_current_folder_leaves_the_import_path(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join(["", "lib", "/opt/lib"]))
    path = [str(folder), "/usr/lib", str(folder / "lib"), "/opt/lib", "", ".", "__editable__.x.finder.__path_hook__"]
    kept = importing.without_current_folder(path)
    assert kept == ["/usr/lib", "/opt/lib", "__editable__.x.finder.__path_hook__"]


def test_the_environment_of_a_worker_has_absolute_entries_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join(["", "lib", "/opt/lib"]))
    inherited = importing.safe_environment()
    assert inherited["PYTHONSAFEPATH"] == "1"
    assert all(os.path.isabs(entry) for entry in inherited["PYTHONPATH"].split(os.pathsep))
    assert "/opt/lib" in inherited["PYTHONPATH"]


# -- the user's own code -----------------------------------------------------------------------------------------------


def test_code_beside_ones_own_config_runs_with_what_it_imports_and_nothing_else(dal: Command, folder: Path) -> None:
    (folder / "unnamed.py").write_text("")
    before = list(sys.path)
    code = (
        "import importlib.util, sys\n"
        "from dal.cli import main\n"
        "import dal.experiments.experiment\n"
        "def look(self):\n"
        "    names = ('mine', 'helpers', 'late_helpers', 'unnamed')\n"
        "    print([name for name in names if importlib.util.find_spec(name)], '' in sys.path)\n"
        "dal.experiments.experiment.Experiment.run = look\n"
        "main(['run', 'own.yaml'])\n"
    )
    ended = python("-c", code)
    assert ended.stdout == "['mine', 'helpers', 'late_helpers'] False\n", ended.stderr
    ended_here = dal("run", "own.yaml")
    assert ended_here.code == 0, ended_here.err
    assert sys.path == before
    assert "mine" not in sys.modules


def test_an_installed_package_wins_over_a_file_of_the_same_name_and_says_so(dal: Command, folder: Path) -> None:
    (folder / "yaml.py").write_text(MINE)
    ended = dal("run", "run.yaml", "--strategy", "yaml.Loudest")
    assert ended.code == 2
    assert "there is no Loudest in yaml" in ended.err
    assert f"the installed package yaml hides yaml in {folder}: give yours another name" in ended.err
    assert not (folder / "ran.txt").exists()


def test_a_module_that_an_installed_package_of_the_same_name_lacks_is_explained(dal: Command, folder: Path) -> None:
    for name in ("yaml/__init__.py", "yaml/own.py"):
        path = folder / name
        path.parent.mkdir(exist_ok=True)
        path.write_text(MINE)
    for given in ("yaml.own:Loudest", "yaml.own.Loudest"):
        ended = dal("run", "run.yaml", "--strategy", given)
        assert ended.code == 2
        assert f"the installed package yaml hides yaml in {folder}: give yours another name" in ended.err, given
    assert not (folder / "ran.txt").exists()


def test_an_editable_install_of_the_folder_hides_nothing(
    dal: Command, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    package = folder / "helpdesk_of_mine"
    package.mkdir()
    (package / "__init__.py").write_text("")
    monkeypatch.syspath_prepend(str(folder))  # as the .pth file of `pip install -e .`
    ended = dal("run", "run.yaml", "--strategy", "helpdesk_of_mine:Missing")
    assert ended.code == 2
    assert "there is no Missing in helpdesk_of_mine" in ended.err
    assert "hides" not in ended.err


def test_a_stored_config_runs_code_of_a_folder_only_when_told_to(dal: Command, folder: Path) -> None:
    assert dal("run", "own.yaml").code == 0
    (folder / "ran.txt").unlink()
    for command in (
        ["run", "--resume", "runs/own"],
        ["run", "runs/own/config.yaml"],
        ["estimate", "runs/own", "-o", "check.csv"],
        ["autolabel", "runs/own", "--max-error", "0.5", "--dry-run"],
    ):
        refused = dal(*command)
        assert refused.code == 2
        assert refused.err.count("\n") == 1
        assert "mine.Loudest is not in an installed package" in refused.err
        assert "--allow-code FOLDER" in refused.err
        assert not (folder / "ran.txt").exists()
    for given in (["--allow-code", "."], [f"--allow-code={folder}"]):
        again = dal("run", "--resume", "runs/own", *given)
        assert again.code == 0, again.err


def test_code_of_another_folder_is_allowed_by_its_name(dal: Command, folder: Path) -> None:
    (folder / "lib").mkdir()
    for name in ("mine.py", "helpers.py", "late_helpers.py"):
        (folder / name).rename(folder / "lib" / name)
    assert "unknown strategy 'mine.Loudest'" in dal("run", "own.yaml").err
    assert dal("run", "own.yaml", "--allow-code", "lib").code == 0


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--allow-code"], "--allow-code needs a folder"),
        (["--allow-code", "nowhere"], "--allow-code nowhere: there is no such folder"),
        (["--allow-code", "run.yaml"], "--allow-code run.yaml: there is no such folder"),
        (["--allow-code", "a" * 5000], "there is no such folder"),
        (["--allow-code", ".", "--allow-code=."], "--allow-code is given twice"),
    ],
)
def test_a_bad_folder_for_code_is_refused(arguments: list[str], said: str, dal: Command, folder: Path) -> None:
    ended = dal("run", "run.yaml", *arguments)
    assert ended.code == 2
    assert said in ended.err
    assert ended.err.count("\n") == 1
    assert len(ended.err) < 400
    assert not (folder / "runs").exists()


def test_a_comparison_in_processes_uses_the_one_folder_and_its_resume_asks_for_it(dal: Command, folder: Path) -> None:
    ended = dal("compare", "run.yaml", "--strategies", "mine.Loudest", "--seeds", 1, "--jobs", 2)
    assert ended.code == 0, ended.err
    refused = dal("compare", "--resume", "runs/run-compare")
    assert "mine.Loudest is not in an installed package" in refused.err
    assert dal("compare", "--resume", "runs/run-compare", "--allow-code", ".").code == 0


def test_a_program_of_ones_own_hands_its_folder_to_the_processes_of_a_comparison(folder: Path) -> None:
    (folder / "program.py").write_text(
        "from dal import Experiment, TextData, TfidfLearner\n"
        "from dal.experiments.comparison import Comparison\n"
        "from mine import Loudest\n"
        "shared = Experiment(TextData('tickets.csv', id='id', test=0.3), TfidfLearner(), start=6, batch=4, rounds=1,\n"
        "    folder='grid', report=False, quiet=True)\n"
        "print(len(Comparison(shared, (Loudest(),), jobs=2).run().cells))\n"
    )
    ended = python("program.py")
    assert ended.stdout == "2\n", ended.stderr


# -- class paths that are none -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "path", ["os.system", "subprocess.Popen", "builtins.eval", "builtins:exec", "runpy.run_path", "ctypes.CDLL"]
)
@pytest.mark.parametrize(
    "written",
    [
        "strategy: PATH",
        "strategy: {class_path: PATH, init_args: {command: 'touch ran.txt', args: [touch, ran.txt]}}",
        "strategy: {Phases: {first: Random, then: {class_path: PATH}}}",
        "strategy: Margin\noracle: {class_path: PATH}",
        "strategy: Margin\nloggers: [{class_path: PATH, init_args: {command: 'touch ran.txt'}}]",
    ],
)
def test_the_standard_library_is_never_what_a_config_names(written: str, path: str, dal: Command, folder: Path) -> None:
    (folder / "run.yaml").write_text(RUN.replace("strategy: STRATEGY", written.replace("PATH", path)))
    ended = dal("run", "run.yaml")
    assert ended.code == 2
    assert "standard library" in ended.err
    assert ended.err.count("\n") == 1
    assert not (folder / "ran.txt").exists()


@pytest.mark.parametrize(
    ("trainer", "said"),
    [
        ("{class_path: os.system, init_args: {command: touch ran.txt}}", "standard library"),
        ("{class_path: torch.hub.load, init_args: {repo_or_dir: x, model: y}}", "does not say what it returns"),
        ("{class_path: numpy.load}", "does not say what it returns"),
        ("{class_path: torch.nn.Linear}", "torch.nn.Linear is not a Trainer"),
        ("{callbacks: [{class_path: subprocess.Popen, init_args: {args: [touch, ran.txt]}}]}", "standard library"),
        ("{callbacks: [subprocess.Popen]}", "standard library"),
    ],
)
def test_a_recipe_of_a_config_makes_what_is_wanted_or_is_refused(
    trainer: str, said: str, dal: Command, folder: Path
) -> None:
    text = RUN.replace("STRATEGY", "Margin").replace(
        "{TfidfLearner: {}}", f"{{TransformerLearner: {{trainer: {trainer}}}}}"
    )
    (folder / "run.yaml").write_text(text)
    ended = dal("run", "run.yaml")
    assert ended.code == 2
    assert said in ended.err
    assert ended.err.count("\n") == 1
    assert not (folder / "ran.txt").exists()


@pytest.mark.parametrize(
    ("source", "said"),
    [
        ("class Mine:\n    pass\n", "is the class Mine, which does not derive from Strategy"),
        ("def Mine():\n    pass\n", "is a function"),
        ("class Yours:\n    pass\n", "there is no Mine in wrong"),
        ("class Mine(:\n", "wrong cannot be read: SyntaxError"),
    ],
)
def test_what_its_source_shows_to_be_wrong_is_refused_before_it_is_imported(
    source: str, said: str, dal: Command, folder: Path
) -> None:
    (folder / "wrong.py").write_text("open('ran.txt', 'w')\n" + source)
    for arguments in (["run", "run.yaml", "--strategy", "wrong.Mine"], ["check", "wrong:Mine"]):
        ended = dal(*arguments)
        assert ended.code == 2
        assert said in ended.err
        assert not (folder / "ran.txt").exists()


@pytest.mark.parametrize(
    "source",
    [
        "from dal import Margin\nclass Margin(Margin):\n    pass\n",
        "import sys\ndef grow():\n    global Margin\n    from dal import Margin\ngrow()\n",
        "from dal.strategies import *\n",
        "def __getattr__(name):\n    import dal\n    return getattr(dal, name)\n",
        "import dal\nglobals()['Margin'] = dal.Margin\n",
        "import dal\nif True:\n    Margin = dal.Margin\n",
        "from other import Margin\n",
    ],
)
def test_what_the_source_does_not_tell_is_imported(source: str, folder: Path, dal: Command) -> None:
    (folder / "late.py").write_text(source)
    (folder / "other.py").write_text("from dal import Margin\n")
    ended = dal("run", "run.yaml", "--strategy", "late.Margin", "--print-config")
    assert ended.code == 0, ended.err


def test_two_modules_that_import_a_name_from_each_other_are_no_endless_search(folder: Path, dal: Command) -> None:
    (folder / "one.py").write_text("from two import Mine\n")
    (folder / "two.py").write_text("from one import Mine\n")
    ended = dal("run", "run.yaml", "--strategy", "one.Mine")
    assert ended.code == 2
    assert "one.Mine cannot be imported" in ended.err


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("tool.shout", "tool.shout is a function"),
        ("tool", "tool is a module without any"),
        ("tool.Plain", "tool.Plain is the class Plain"),
        ("dal.outputs", "dal.outputs is a module without any"),
        ("tool.NUMBER", "tool.NUMBER is an instance of int"),
        ("os.path", "standard library"),
    ],
)
def test_a_check_of_something_else_says_what_it_is_and_what_was_expected(
    name: str, said: str, folder: Path, dal: Command
) -> None:
    (folder / "tool.py").write_text("import dal\ndef shout():\n    pass\nclass Plain:\n    pass\nNUMBER = 3\n")
    ended = dal("check", name)
    assert ended.code == 2
    assert said in ended.err
    assert "standard library" in said or "expected one of strategy, learner, oracle, stopping rule" in ended.err
    assert ended.err.count("\n") == 1


def test_entry_points_in_an_entry_of_the_path_that_is_no_current_folder_are_found(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    plant(tmp_path, ())
    monkeypatch.syspath_prepend(str(tmp_path))
    assert "Evil" in plugins.found(plugins.STRATEGIES)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", ["", *[entry for entry in sys.path if entry != str(tmp_path)]])
    assert "Evil" not in plugins.found(plugins.STRATEGIES)


def test_a_factory_is_hashable_as_its_equals_are() -> None:
    one, other = (Factory("a.B", {"sizes": [n], "more": {"x": n}}) for n in (1, 1.0))
    assert one == other
    assert hash(one) == hash(other)
    assert Node({}) == Node({})
    assert options([]).inside == {}


def test_the_allowed_folder_must_be_one() -> None:
    with pytest.raises(ConfigError, match="there is no such folder"), importing.restricted_imports(Path("no\0where")):
        pass
