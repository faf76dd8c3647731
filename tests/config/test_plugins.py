"""Strategies, learners and oracles are found, described, loaded; broken ones say why and stop nothing else."""

import json
import os
import subprocess
import sys
import textwrap
from pathlib import Path
from typing import Any

import material
import plugin_environment
import pytest

from dal.config import plugins
from dal.config.plugins import LEARNERS, ORACLES, STRATEGIES, PluginWarning
from dal.errors import ConfigError
from dal.learner import Learner
from dal.strategies.uncertainty import Margin

STRATEGY = """
'''A module of somebody else's.'''
from dataclasses import dataclass
import torch
from dal.strategy import Query, Strategy

NEEDED = {"probs"}

@dataclass(frozen=True)
class Mine(Strategy):
    '''The last rows of the pool.

    More words.
    '''
    needs = NEEDED
    labeled_needs = frozenset({"features", "probs"})
    multilabel = True
    paper = "A paper"
    advice = "Never."

    @property
    def target_needs(self):
        return frozenset()

    def select(self, query: Query) -> torch.Tensor:
        return torch.arange(len(query.pool) - query.n, len(query.pool))

class Half(Strategy):
    '''Says nothing of how it selects.'''

class Stranger:
    '''Derives from nothing.'''
"""


@pytest.fixture
def install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """Lay an installed distribution into a folder on the path: its modules and its entry points."""

    def lay(name: str, entries: dict[str, str], modules: dict[str, str], group: str = STRATEGIES) -> None:
        site = tmp_path / name
        info = site / f"{name.replace('-', '_')}-1.5.dist-info"
        info.mkdir(parents=True)
        info.joinpath("METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.5\n")
        lines = [f"{short} = {value}" for short, value in entries.items()]
        info.joinpath("entry_points.txt").write_text("\n".join([f"[{group}]", *lines, ""]))
        for file, source in modules.items():
            path = site / file
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(textwrap.dedent(source))
        monkeypatch.syspath_prepend(str(site))
        for file in modules:
            monkeypatch.delitem(sys.modules, Path(file).with_suffix("").as_posix().replace("/", "."), raising=False)

    return lay


def described(name: str, group: str = STRATEGIES) -> plugins.Description:
    return plugins.description(group, plugins.found(group)[name])


def in_a_fresh_process(code: str, python: Path | str = sys.executable) -> str:
    return subprocess.run([python, "-c", textwrap.dedent(code)], check=True, capture_output=True, text=True).stdout


# Finding and describing


def test_the_built_in_ones_are_found_through_entry_points() -> None:
    assert {"Random", "Margin", "BADGE", "Phases"} <= plugins.found(STRATEGIES).keys()
    assert "ProbeLearner" in plugins.found(LEARNERS)
    assert "Simulated" in plugins.found(ORACLES)


def test_the_built_in_ones_come_first() -> None:
    names = plugins.names(STRATEGIES)
    assert set(names) == plugins.found(STRATEGIES).keys()
    own = [described(name).built_in for name in names]
    assert own == sorted(own, reverse=True)


def test_installed_distributions_are_read_once(monkeypatch: pytest.MonkeyPatch) -> None:
    reads: list[int] = []
    original = plugins.importlib.metadata.distributions

    def counted(**options: Any) -> Any:
        reads.append(1)
        return original(**options)

    plugins.found(STRATEGIES)
    monkeypatch.setattr(plugins.importlib.metadata, "distributions", counted)
    first = plugins.found(STRATEGIES)
    first.clear()  # the caller's own
    assert "Margin" in plugins.found(STRATEGIES)
    assert plugins.found(LEARNERS)
    assert reads == []


def test_a_distribution_that_is_installed_later_is_found(install) -> None:
    install("late-plugin", {"EarlySpread": "late_spread:Spread"}, {"late_spread.py": "class Spread: ..."})
    assert "LateSpread" not in plugins.found(STRATEGIES)
    site = Path(sys.path[0])
    info = site / "later-1.0.dist-info"
    info.mkdir()
    info.joinpath("METADATA").write_text("Metadata-Version: 2.1\nName: later\nVersion: 1.0\n")
    info.joinpath("entry_points.txt").write_text("[dal.strategies]\nLateSpread = late_spread:Spread\n")
    os.utime(site, ns=(1, 1))  # a clock of coarse ticks might not show the change
    assert "LateSpread" in plugins.found(STRATEGIES)


@pytest.mark.parametrize("group", [STRATEGIES, LEARNERS, ORACLES])
def test_every_built_in_is_described_as_its_class_says(group: str) -> None:
    for each in plugins.describe(group):
        if not each.built_in:
            continue
        kind = plugins.load(group, each.name)
        assert each.summary == (kind.__doc__ or "").splitlines()[0]
        assert each.distribution.startswith("deep-active-learning ")
        for name in ("needs", "labeled_needs", "target_needs", "provides", "label_free", "multilabel"):
            value = getattr(kind, name, None)
            if getattr(each, name) is None:
                assert isinstance(value, property)
            elif value is not None:
                assert getattr(each, name) == value, (each.name, name)
        assert each.paper == getattr(kind, "paper", "")
        assert each.advice == vars(kind).get("advice", "")


def test_describing_imports_neither_torch_nor_any_strategy() -> None:
    out = in_a_fresh_process("""
        import sys
        from dal.config import plugins
        for group in plugins.BASES:
            assert plugins.describe(group)
        print([name for name in sys.modules if name.startswith(("torch", "lightning", "numpy", "dal.strateg"))])
    """)
    assert out.strip() == "[]"


def test_a_plugin_is_described_without_being_run(install) -> None:
    install("far-away", {"Mine": "far_module:Mine"}, {"far_module.py": "assert False, 'run'\n" + STRATEGY})
    each = described("Mine")
    assert each.distribution == "far-away 1.5"
    assert not each.built_in
    assert each.summary == "The last rows of the pool."
    assert each.needs == {"probs"}
    assert each.labeled_needs == {"features", "probs"}
    assert each.target_needs is None  # a property: it depends on the options
    assert (each.multilabel, each.paper, each.advice, each.broken) == (True, "A paper", "Never.", "")


def test_a_class_brought_in_from_another_module_is_found_there(install) -> None:
    modules = {"hall/__init__.py": "from .room import Mine as Ours\n", "hall/room.py": STRATEGY}
    install("hall", {"Ours": "hall:Ours"}, modules)
    assert described("Ours").summary == "The last rows of the pool."


def test_what_a_base_class_declares_is_inherited(install) -> None:
    source = STRATEGY + "\nclass Child(Mine):\n    '''A child.'''\n    labeled_needs = set()\n"
    install("family", {"Child": "family_module:Child"}, {"family_module.py": source})
    each = described("Child")
    assert (each.summary, each.needs, each.labeled_needs) == ("A child.", {"probs"}, frozenset())
    assert (each.paper, each.advice) == ("A paper", "")  # the advice was written for another class


def test_a_class_made_at_run_time_is_imported_to_be_described(install) -> None:
    source = STRATEGY + "\nMade = type('Made', (Mine,), {'__doc__': 'Made on the fly.'})\n"
    install("maker", {"Made": "maker_module:Made"}, {"maker_module.py": source})
    each = described("Made")
    assert (each.summary, each.needs, each.target_needs) == ("Made on the fly.", {"probs"}, None)
    assert (each.paper, each.advice) == ("A paper", "")


@pytest.mark.parametrize(
    ("value", "source", "reason"),
    [
        ("not_there:Mine", None, "there is no module not_there"),
        ("broken_a:Mine", "import a_package_nobody_has\n" + STRATEGY, "imports a_package_nobody_has, which is not"),
        ("broken_b:Mine", "class Mine(:\n", "broken_b cannot be read: SyntaxError"),
        ("broken_c:Yours", STRATEGY, "there is no Yours in broken_c"),
        ("broken_d:Stranger", STRATEGY, "Stranger does not derive from dal.strategy.Strategy"),
    ],
)
def test_a_broken_plugin_is_listed_with_the_reason_and_warned_of_in_one_line(
    install, value: str, source: str | None, reason: str
) -> None:
    module = value.split(":")[0]
    install("wreck", {"Wreck": value}, {f"{module}.py": source} if source else {})
    with pytest.warns(PluginWarning, match=r"^Wreck of wreck 1.5 cannot be used: ") as caught:
        listing = {each.name: each for each in plugins.describe(STRATEGIES)}
    assert reason in listing["Wreck"].broken
    assert [str(warning.message).count("\n") for warning in caught] == [0]
    assert listing["Margin"].broken == ""


def test_a_broken_plugin_does_not_stop_what_does_not_use_it(install) -> None:
    install("wreck", {"Wreck": "wreck_module:Mine"}, {"wreck_module.py": "raise OSError('no disk')\n" + STRATEGY})
    assert plugins.load(STRATEGIES, "Margin") is Margin
    with pytest.raises(ConfigError, match="Wreck of wreck cannot be imported: OSError: no disk"):
        plugins.load(STRATEGIES, "Wreck")
    with pytest.warns(PluginWarning, match="Wreck of wreck cannot be imported"):
        usable = plugins.load_all(STRATEGIES)
    assert "Margin" in usable
    assert "Wreck" not in usable


NETWORK = """
from collections.abc import Callable
from dataclasses import dataclass

from torch import nn

from dal import ModuleLearner
from dal.modules import ActiveModule

class Net(ActiveModule):
    def __init__(self, classes, multilabel):
        super().__init__(classes, multilabel=multilabel)
        self.last = nn.Linear(4, classes)

    def features(self, batch):
        return batch["inputs"]

    def head(self, features):
        return self.last(features)

@dataclass(frozen=True)
class NetLearner(ModuleLearner):
    '''A small network.'''
    build: Callable[[int, bool], ActiveModule] = Net

learner = ModuleLearner(build=Net)
"""


def test_a_subclass_of_a_learner_imported_from_dal_is_described_with_what_it_inherits(install) -> None:
    install("nets", {"NetLearner": "nets_module:NetLearner"}, {"nets_module.py": NETWORK}, LEARNERS)
    each, parent = described("NetLearner", LEARNERS), described("ModuleLearner", LEARNERS)
    assert each.summary == "A small network."
    assert (each.provides, each.label_free) == (parent.provides, parent.label_free)
    assert {"logits", "features", "embeddings"} <= each.provides
    assert plugins.load(LEARNERS, "NetLearner")().build.__name__ == "Net"


def test_an_entry_point_to_an_object_says_that_a_class_is_needed(install) -> None:
    install("nets", {"Nets": "nets_object:learner"}, {"nets_object.py": NETWORK}, LEARNERS)
    wanted = (
        "Nets is an instance of ModuleLearner, and an entry point or a config names a class of a learner: derive one "
        "from ModuleLearner whose options have defaults"
    )
    with pytest.raises(ConfigError) as caught:
        plugins.load(LEARNERS, "Nets")
    assert str(caught.value) == wanted
    assert described("Nets", LEARNERS).broken == wanted


@pytest.mark.parametrize(
    ("value", "source", "reason"),
    [
        ("net_a:learner", "raise OSError('no disk')\n", "Wreck of wreck cannot be imported: OSError: no disk"),
        ("net_b:Other", NETWORK, "Wreck of wreck (net_b:Other) cannot be used: there is no Other in net_b"),
        ("net_c:learner", NETWORK, "Wreck is an instance of ModuleLearner"),
    ],
)
def test_a_broken_plugin_is_checked_by_its_name(install, value: str, source: str, reason: str) -> None:
    module = value.partition(":")[0]
    install("wreck", {"Wreck": value}, {f"{module}.py": source}, LEARNERS)
    with pytest.raises(ConfigError) as caught:
        plugins.load_any("Wreck")
    assert reason in str(caught.value)


@pytest.mark.parametrize(("name", "near"), [("OpenAIClientt", "OpenAIClient"), ("TfidfLearnr", "TfidfLearner")])
def test_a_name_of_no_kind_gets_the_most_similar_of_any_kind(name: str, near: str) -> None:
    with pytest.raises(ConfigError) as caught:
        plugins.load_any(name)
    assert str(caught.value) == (
        f"unknown name '{name}' (did you mean '{near}'?); `dal list` shows all that are installed; an import path "
        "(my_package:MyClass) is accepted, too"
    )


def test_a_plugin_with_the_name_of_a_built_in_is_hidden_but_reachable(install) -> None:
    install("usurper", {"Margin": "usurper_module:Mine"}, {"usurper_module.py": STRATEGY})
    with pytest.warns(PluginWarning, match="Margin of usurper is hidden by Margin of deep-active-learning"):
        assert plugins.load(STRATEGIES, "Margin") is Margin
    with pytest.warns(PluginWarning):
        assert plugins.load(STRATEGIES, "usurper_module:Mine").__name__ == "Mine"


# Loading


@pytest.mark.parametrize("path", ["here_module:Mine", "here_module.Mine", " here_module.Mine "])
def test_a_class_is_loaded_by_its_import_path(install, path: str) -> None:
    install("here", {}, {"here_module.py": STRATEGY})
    assert plugins.load(STRATEGIES, path).__name__ == "Mine"


def test_a_module_of_one_usable_class_is_path_enough(install) -> None:
    install("here", {}, {"lone_module.py": STRATEGY})
    assert plugins.load(STRATEGIES, "lone_module").__name__ == "Mine"


def test_a_module_of_several_classes_asks_for_one(install) -> None:
    with pytest.raises(
        ConfigError,
        match=r"as dal.strategies.uncertainty:Class \(it has Entropy, LeastConfidence, LowestConfidence, Marg",
    ):
        plugins.load(STRATEGIES, "dal.strategies.uncertainty")


@pytest.mark.parametrize(
    ("path", "message"),
    [
        ("Margn", "unknown strategy 'Margn' (did you mean 'Margin'?); installed: ALPS, Auto, "),
        ("margin", "did you mean 'Margin'?"),
        ("", "unknown strategy ''; installed:"),
        ("no_package.Thing", "unknown strategy 'no_package.Thing'; installed:"),
        ("no_package:Thing", "no_package:Thing cannot be imported: ModuleNotFoundError"),
        ("not a path", "unknown strategy 'not a path'; installed:"),
        (
            "dal.strategies.uncertainty.Margn",
            "there is no Margn in dal.strategies.uncertainty (did you mean 'Margin'?)",
        ),
        (
            "dal.strategies.uncertainty:Margn",
            "there is no Margn in dal.strategies.uncertainty (did you mean 'Margin'?)",
        ),
        ("dal.strategy:ScoreStrategy", "dal.strategy:ScoreStrategy is an abstract strategy: it does not define score"),
        ("dal.outputs:Outputs", "is not a strategy: it is the class Outputs, which does not derive from Strategy"),
        ("dal.outputs:closure", "is not a strategy: it is a function"),
    ],
)
def test_what_cannot_be_loaded_is_answered_in_one_line(path: str, message: str) -> None:
    with pytest.raises(ConfigError) as caught:
        plugins.load(STRATEGIES, path)
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_class_of_another_group_is_of_the_wrong_kind() -> None:
    with pytest.raises(ConfigError, match="is not a learner: it is the class Margin"):
        plugins.load(LEARNERS, "dal.strategies.uncertainty:Margin")


def test_a_learner_is_loaded_by_its_short_name() -> None:
    assert issubclass(plugins.load(LEARNERS, "ProbeLearner"), Learner)


# A real package in a fresh environment


@pytest.fixture(scope="module")
def python(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The Python of a fresh environment with the package of tests/plugin_package."""
    return plugin_environment.install(tmp_path_factory.mktemp("plugin"))


def test_an_installed_package_stands_in_the_listing(python: Path) -> None:
    listing = json.loads(
        in_a_fresh_process(
            """
            import json, sys
            from dal.config import plugins
            listing = [vars(each) for each in plugins.describe(plugins.STRATEGIES) if not each.built_in]
            assert "torch" not in sys.modules
            print(json.dumps(listing, default=sorted))
            """,
            python,
        )
    )
    [each] = [each for each in listing if each["name"] == "SpreadMargin"]
    assert each["distribution"] == "dal-spread 0.3.0"
    assert each["needs"] == ["features", "probs"]
    assert each["labeled_needs"] == ["features"]
    assert each["summary"] == "Smallest top-two margin first, with a bonus far from labeled rows."
    assert each["broken"] == ""


def test_an_installed_package_keeps_the_contract_and_chooses(python: Path) -> None:
    out = in_a_fresh_process(
        """
        import torch
        from dal.config import plugins
        from dal.strategy import choose
        from dal.testing import Setting, check_strategy
        kind = plugins.load(plugins.STRATEGIES, "SpreadMargin")
        assert kind is plugins.load(plugins.STRATEGIES, "dal_spread")
        check_strategy(kind(weight=0.5))
        strategy = kind()
        print(len(choose(strategy, Setting(n=5).query(strategy)).positions))
        """,
        python,
    )
    assert out.strip() == "5"


def test_an_installed_package_is_listed_checked_and_run_from_the_shell(
    python: Path, tiny_bert: Path, tmp_path: Path
) -> None:
    texts, labels = material.tickets(80)
    rows = [json.dumps({"text": text, "label": label}) for text, label in zip(texts, labels, strict=True)]
    (tmp_path / "tickets.jsonl").write_text("\n".join(rows), encoding="utf-8")
    (tmp_path / "run.yaml").write_text(
        textwrap.dedent(
            f"""
            data: {{path: tickets.jsonl, test: 0.3}}
            learner: {{ProbeLearner: {{model: {tiny_bert}}}}}
            strategy: {{SpreadMargin: {{weight: 0.5}}}}
            oracle: Simulated
            start: 8
            batch: 4
            rounds: 2
            folder: run
            """
        ),
        encoding="utf-8",
    )
    said = {}
    for command in ("list strategies", "check SpreadMargin", "run run.yaml"):
        done = subprocess.run(
            [python, "-m", "dal", *command.split()], cwd=tmp_path, capture_output=True, text=True, check=False
        )
        assert done.returncode == 0, done.stderr
        said[command] = done.stdout
    assert "SpreadMargin" in said["list strategies"]
    assert "failed" not in said["check SpreadMargin"].replace("0 failed", "")
    lines = (tmp_path / "run" / "SpreadMargin-seed0" / "metrics.jsonl").read_text(encoding="utf-8").splitlines()
    assert [json.loads(line)["acting_strategy"] for line in lines] == ["Random", "SpreadMargin", "SpreadMargin"]
    assert (tmp_path / "run" / "report.html").is_file()
