"""Plain values of a config for each annotation of a parameter: which are accepted, and as what."""

import datetime
import enum
import json
import pathlib
import typing
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal, NewType, Optional, Union  # noqa: F401

import pytest

from dal.config import build as building
from dal.config import settings_tree as tree
from dal.errors import ConfigError

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
