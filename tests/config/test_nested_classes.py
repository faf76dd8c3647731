"""Classes inside classes of a config: the time to build them grows with their number, and no faster."""

import copy
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import jsonargparse
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


def test_each_class_is_parsed_once_however_deep_it_lies(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    parsed: list[int] = []
    original = jsonargparse.ArgumentParser.parse_object

    def counted(self: jsonargparse.ArgumentParser, *arguments: Any, **options: Any) -> Any:
        parsed.append(1)
        return original(self, *arguments, **options)

    monkeypatch.setattr(jsonargparse.ArgumentParser, "parse_object", counted)
    written(tmp_path, "strategy: Margin\n")
    alone = len(parsed)
    parsed.clear()
    written(tmp_path, f"strategy: {nested(5, '{Phases: {first: Random, then: @}}', 'Margin')}\n")
    assert len(parsed) - alone <= 2 * 10  # five phases with two strategies in each


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


def test_a_list_of_ten_thousand_names_is_not_copied_for_each_of_them(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    copied: list[int] = []
    original = copy.deepcopy

    def counted(value: Any, *memo: Any) -> Any:
        copied.append(len(value) if isinstance(value, list) else 0)
        return original(value, *memo)

    monkeypatch.setattr(copy, "deepcopy", counted)
    names = [f"class{i}" for i in range(500)]
    path = tmp_path / "run.yaml"
    path.write_text(f"data: {{path: tickets.csv, classes: [{', '.join(names)}]}}\nlearner: TfidfLearner\n")
    assert build.build(Experiment, tree.read(path))[0].data.classes == names
    assert copied.count(500) < 20


def test_a_long_list_that_must_be_parsed_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="loggers holds more than 500 items"):
        written(tmp_path, f"loggers: [{', '.join(['CSVLogger'] * 501)}]\n")


def test_classes_nested_deep_in_a_value_of_any_type_are_refused() -> None:
    part = "{class_path: test_nested_classes.Garage, init_args: {other: @}}"
    with pytest.raises(ConfigError, match="nested deeper than 5 levels"):
        garage(f"{{other: {nested(6, part, '3')}}}")


def test_calling_a_factory_leaves_its_arguments_as_they_were() -> None:
    made = garage("{make: {horns: [{class_path: test_nested_classes.Horn, init_args: {pitch: 3}}]}}").make
    assert isinstance(made, Factory)
    before = repr(made.init_args)
    assert made().horns == [Horn(3)]
    assert repr(made.init_args) == before
