"""Plain values of a config for each annotation of a parameter: which are accepted, and as what."""

import datetime
import enum
import json
import pathlib
import typing
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal, NewType, Optional, Union  # noqa: F401

import pytest

from dal.config import build as building
from dal.config import settings_tree as tree
from dal.errors import ConfigError, one_line

timedelta = datetime.timedelta


class Color(enum.Enum):
    RED = 1
    GREEN = 2


Size = NewType("Size", int)
Annotated = typing.Annotated

#: Annotation -> place ("file", "option" or "both") -> values that are accepted with their results, and values that are
#: refused. It covers the annotations of all registered classes, of a Lightning Trainer, and some of plugins.
TABLE: dict[str, dict[str, Any]] = json.loads((Path(__file__).parent / "leaf_values.json").read_text(encoding="utf-8"))
CASES = [
    (annotation, where, values)
    for annotation, places in TABLE.items()
    for place, values in places.items()
    for where in (("file", "option") if place == "both" else (place,))
]


class Holder:
    """A class with one option."""

    def __init__(self, x: Any) -> None:
        self.x = x


def build(annotation: Any, where: str, text: str) -> Any:
    """The option `x` of a class, given in a file or on the command line."""
    kind = type("Kind", (Holder,), {"__init__": lambda self, x: Holder.__init__(self, x)})
    kind.__init__.__annotations__["x"] = annotation  # type: ignore[misc]
    if where == "file":
        return building.build(kind, tree._compose(f"x: {text}", "run.yaml"))[0].x
    return building.build(kind, tree.Node({}, None, "run.yaml"), tree.options([("x", text)]))[0].x


def annotated(text: str) -> Any:
    return eval(text, {**globals(), "pathlib": pathlib, "Iterable": Iterable, "Mapping": Mapping, "Sequence": Sequence})


@pytest.mark.parametrize(("annotation", "where", "values"), CASES)
def test_values_become_what_the_annotation_says(annotation: str, where: str, values: dict[str, Any]) -> None:
    results = {text: repr(build(annotated(annotation), where, text)) for text in values["accepted"]}
    assert results == values["accepted"]


@pytest.mark.parametrize(("annotation", "where", "values"), CASES)
def test_values_of_another_type_are_refused_with_their_place(
    annotation: str, where: str, values: dict[str, Any]
) -> None:
    place = "run.yaml:1: x takes " if where == "file" else "--x takes "
    for text in values["refused"]:
        with pytest.raises(ConfigError) as refused:
            build(annotated(annotation), where, text)
        assert str(refused.value).startswith(place), text
        assert ", not " in str(refused.value), text


@pytest.mark.parametrize("where", ["file", "option"])
@pytest.mark.parametrize("text", ["null", "~"])
def test_null_is_accepted_where_the_annotation_allows_it(where: str, text: str) -> None:
    for annotation in (int | None, bool | Literal["warn"] | None, float | str | None, Path | None, Any):
        assert build(annotation, where, text) is None
    for annotation in (int, float, bool, Literal["a"], list[int], dict[str, int], Size):
        with pytest.raises(ConfigError, match=r"x takes .*, not null$"):
            build(annotation, where, text)


def test_mappings_within_mappings_may_be_given_on_the_command_line() -> None:
    assert build(Mapping[str, Any] | None, "option", "{a: {b: 1.5}, c: [1, x]}") == {"a": {"b": 1.5}, "c": [1, "x"]}
    assert build(list[str | dict[str, Any]], "option", "[{a: 1}, b]") == [{"a": 1}, "b"]


def test_sets_and_tuples_of_fixed_length_are_made_of_lists() -> None:
    assert build(set[int], "option", "1,2,'1'") == {1, 2}
    assert build(frozenset[str], "file", "[a, 1]") == {"a", "1"}
    assert build(tuple[int, str], "file", "[1, 2]") == (1, "2")
    for text in ("[1]", "[1, a, 2]", "[a, 1]"):
        with pytest.raises(ConfigError, match="x takes "):
            build(tuple[int, str], "file", text)


def test_functions_and_classes_are_given_by_their_import_path() -> None:
    assert build(Callable[[Any], str], "file", "dal.errors.one_line") is one_line
    assert build(type[Exception], "option", "dal.errors.ConfigError") is ConfigError
    with pytest.raises(ConfigError, match="x takes "):
        build(type[ValueError], "file", "dal.errors.ConfigError")
    with pytest.raises(ConfigError, match=r"run\.yaml:1: x: os\.system is in Python's standard library"):
        build(Callable[[str], int], "file", "os.system")


def test_an_error_of_a_type_with_a_name_tells_what_the_type_takes() -> None:
    with pytest.raises(ConfigError, match="x takes a whole number, not 'many'"):
        build(Size, "file", "many")
