"""Classes inside classes of a config, also inside factories."""

import pickle
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from dal import Experiment, Margin, Phases, Random
from dal.config import build
from dal.config import settings_tree as tree
from dal.config.factory import Factory
from dal.errors import ConfigError
from dal.stopping import AllOf, Labels

BASE = "data: {path: tickets.csv}\nlearner: TfidfLearner\n"


@dataclass(frozen=True)
class Horn:
    """A part."""

    pitch: int = 1


class Car:
    """What a factory makes."""

    def __init__(self, horns: list[Horn] | None = None) -> None:
        self.horns = horns or []


@dataclass(frozen=True)
class Garage:
    """Holds a factory, and a value of any type."""

    make: Callable[[], Car] = Car
    other: Any = None
    seats: dict[str, int] = field(default_factory=dict)


def written(folder: Path, text: str) -> Experiment:
    path = folder / "run.yaml"
    path.write_text(BASE + text)
    return build.build(Experiment, tree.read(path))[0]


def garage(text: str) -> Garage:
    return build.build(Garage, tree.Node(tree.option(text, "garage.yaml").value, None, "garage.yaml"))[0]


def nested(count: int, around: str, inside: str) -> str:
    for _ in range(count):
        inside = around.replace("@", inside)
    return inside


def test_the_options_of_each_class_are_resolved_once_however_deep_it_lies(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    resolved: list[str] = []
    original = build._Resolver.constructor

    def counted(self: Any, cls: Any, *arguments: Any, **options: Any) -> Any:
        resolved.append(cls.__name__)
        return original(self, cls, *arguments, **options)

    monkeypatch.setattr(build._Resolver, "constructor", counted)
    written(tmp_path, f"strategy: {nested(5, '{Phases: {first: Random, then: @}}', 'Margin')}\n")
    assert [resolved.count(name) for name in ("Phases", "Random", "Margin")] == [5, 5, 1]


def test_strategies_nested_thirty_deep_are_built(tmp_path: Path) -> None:
    experiment = written(tmp_path, f"strategy: {nested(30, '{Phases: {first: Random, then: @}}', 'Margin')}\n")
    found: Any = experiment.strategy
    for _ in range(30):
        assert isinstance(found, Phases)
        assert isinstance(found.first, Random)
        found = found.then
    assert found == Margin()


def test_stopping_rules_nested_twenty_deep_are_built(tmp_path: Path) -> None:
    found: Any = written(tmp_path, f"stop: {nested(20, '{AllOf: {rules: [@]}}', '{Labels: {max_labels: 40}}')}\n").stop
    for _ in range(20):
        assert isinstance(found, AllOf)
        [found] = found.rules
    assert found == Labels(max_labels=40)


def test_a_wrong_value_inside_nested_classes_has_its_place(tmp_path: Path) -> None:
    rule = nested(3, "{AllOf: {rules: [@]}}", "{Labels: {max_labels: many}}")
    with pytest.raises(ConfigError, match=r"run\.yaml:3: stop\.rules.*max_labels takes a whole number, not 'many'"):
        written(tmp_path, f"stop: {rule}\n")


def test_more_than_three_hundred_classes_are_refused(tmp_path: Path) -> None:
    rules = ", ".join(["{Labels: {max_labels: 40}}"] * 301)
    with pytest.raises(ConfigError, match=r"run\.yaml:3: a config names at most 300 classes"):
        written(tmp_path, f"stop: {{AnyOf: {{rules: [{rules}]}}}}\n")


def test_lists_of_thousands_of_items_are_read(tmp_path: Path) -> None:
    names = [f"class{i}" for i in range(10_000)]
    path = tmp_path / "run.yaml"
    path.write_text(f"data: {{path: tickets.csv, classes: [{', '.join(names)}]}}\nlearner: TfidfLearner\n")
    assert build.build(Experiment, tree.read(path))[0].data.classes == names
    assert len(written(tmp_path, f"loggers: [{', '.join(['CSVLogger'] * 5000)}]\n").loggers or ()) == 5000


def test_classes_nested_deep_in_a_value_of_any_type_are_built() -> None:
    part = "{class_path: test_nested_classes.Garage, init_args: {other: @}}"
    found: Any = garage(f"{{other: {nested(15, part, '3')}}}")
    for _ in range(16):
        assert isinstance(found, Garage)
        found = found.other
    assert found == 3


def test_classes_in_factories_count_towards_the_limit() -> None:
    horns = ", ".join(["{class_path: test_nested_classes.Horn}"] * 301)
    with pytest.raises(ConfigError, match="a config names at most 300 classes"):
        garage(f"{{make: {{horns: [{horns}]}}}}")


@pytest.mark.parametrize(
    ("callback", "said"),
    [
        ("{EarlyStopping: {monitor: x, patience: y}}", r"callbacks\.0\.patience takes a whole number, not 'y'"),
        ("{EarlyStopping: {monitorr: x}}", r"EarlyStopping has no option 'monitorr', did you mean monitor\?"),
        ("EarlyStopping", r"EarlyStopping needs learner\.trainer\.callbacks\.0\.monitor: text"),
        ("lightning.pytorch.callbacks.Nothing", "there is no Nothing in lightning.pytorch.callbacks"),
        ("lightning.pytorch.loggers.CSVLogger", r"CSVLogger is not a Callback"),
        ("os.system", "os.system is in Python's standard library"),
        ("3", r"callbacks\.0 takes the import path of a class derived from Callback, not '3'"),
    ],
)
def test_errors_in_objects_that_a_factory_makes_have_their_place(tmp_path: Path, callback: str, said: str) -> None:
    path = tmp_path / "run.yaml"
    text = f"data: {{path: a.csv}}\nlearner:\n  TransformerLearner:\n    trainer: {{callbacks: [{callback}]}}\n"
    path.write_text(text)
    with pytest.raises(ConfigError, match=rf"run\.yaml:4: .*{said}"):
        build.build(Experiment, tree.read(path))


def test_a_factory_stores_what_was_written_and_can_be_pickled(tmp_path: Path) -> None:
    path = tmp_path / "run.yaml"
    callback = "{class_path: lightning.pytorch.callbacks.EarlyStopping, init_args: {monitor: x, patience: '3'}}"
    trainer = f"{{max_epochs: '3', accelerator: cpu, max_time: '00:01:00:00', callbacks: [{callback}]}}"
    path.write_text(f"data: {{path: a.csv}}\nlearner: {{TransformerLearner: {{trainer: {trainer}}}}}\n")
    made: Any = build.build(Experiment, tree.read(path))[0].learner
    assert made.trainer.init_args == {
        "max_epochs": "3",
        "accelerator": "cpu",
        "max_time": "00:01:00:00",
        "callbacks": [
            {
                "class_path": "lightning.pytorch.callbacks.EarlyStopping",
                "init_args": {"monitor": "x", "patience": "3"},
            }
        ],
    }
    first, second = made.trainer(), pickle.loads(pickle.dumps(made.trainer))()
    assert first.max_epochs == second.max_epochs == 3
    [stopping] = [each for each in first.callbacks if type(each).__name__ == "EarlyStopping"]
    assert stopping.patience == 3
    assert stopping not in second.callbacks


class Base:
    """A class whose options a derived class takes, too."""

    def __init__(self, size: int, horn: Horn | None = None) -> None:
        self.size, self.horn = size, horn


class Derived(Base):
    """Passes on what it does not know."""

    def __init__(self, name: str = "", **options: Any) -> None:
        super().__init__(**{"size": 1, **options})
        self.name = name


def derived(text: str) -> Derived:
    return build.build(Derived, tree.Node(tree.option(text, "x.yaml").value, None, "x.yaml"))[0]


def test_a_constructor_with_arbitrary_keywords_takes_the_options_of_its_base() -> None:
    made = derived("{name: 3, size: '4', horn: {pitch: 2}}")
    assert (made.name, made.size, made.horn) == ("3", 4, Horn(2))
    assert derived("{}").size == 1
    with pytest.raises(ConfigError, match="size takes a whole number, not 'x'"):
        derived("{size: x}")
    with pytest.raises(ConfigError, match="unexpected keyword argument 'wide'"):
        derived("{wide: 3}")


def test_calling_a_factory_leaves_its_arguments_as_they_were() -> None:
    made = garage("{make: {horns: [{class_path: test_nested_classes.Horn, init_args: {pitch: 3}}]}}").make
    assert isinstance(made, Factory)
    before = repr(made.init_args)
    assert made().horns == [Horn(3)]
    assert repr(made.init_args) == before
