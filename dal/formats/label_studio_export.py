"""Reader of Label Studio's JSON export, the only one of its exports that keeps skipped tasks and several annotators."""

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from dal.data.label_cells import Answer
from dal.errors import AnswerError, one_line, shown
from dal.formats.corpus import seconds_of
from dal.formats.foreign_answers import (
    Answerable,
    ForeignAnswer,
    ForeignAnswers,
    latest_per_person,
    refuse_mistakes,
    seconds_spent,
)
from dal.formats.label_studio import CONTROL, OBJECT, ROW
from dal.store.atomic_files import named
from dal.store.bounded_json import parse_json
from dal.store.events import SKIP

_HOW = "export the project as JSON"


def read_label_studio(path: Path, known: Answerable) -> ForeignAnswers:
    """Read the answers of a JSON export of tasks that `dal export` wrote. The server checks nothing, so all is checked.

    Rows are found by `data.dal_id`. Each annotation is the answer of its `completed_by`; several tasks of one row are
    several answers. A cancelled annotation declines the row, whatever its result is; an empty result is no class when
    multi-label, otherwise a mistake. The latest of several annotations by one person counts. Text areas are notes.

    Args:
        path: the export.
        known: rows and classes.

    Raises:
        AnswerError: lists by task what is wrong, or the file is not such an export.
    """
    mistakes: list[str] = []
    answers: list[ForeignAnswer] = []
    empty = 0
    for number, task in enumerate(_tasks(path), 1):
        place = f"task {shown(task.get('id', number))}"
        try:
            data = task.get("data")
            if not isinstance(data, Mapping):
                raise ValueError("it has no data")
            if ROW not in data:
                raise ValueError(f"its data has no {ROW}: import the tasks that `dal export` wrote")
            row = known.check_row(data[ROW], data)
            annotations = task.get("annotations", [])
            if not isinstance(annotations, list) or not all(isinstance(each, Mapping) for each in annotations):
                raise ValueError("its annotations are not a list of objects")
        except ValueError as error:
            mistakes.append(f"{place}: {one_line(error)}")
            continue
        empty += not annotations
        for annotation in annotations:
            where = f"{place}, annotation {shown(annotation.get('id'))}" if len(annotations) > 1 else place
            try:
                answers.append(_answer(annotation, row, known, where))
            except ValueError as error:
                mistakes.append(f"{where}: {one_line(error)}")
    refuse_mistakes(path, mistakes)
    return ForeignAnswers(latest_per_person(answers), empty)


def _tasks(path: Path) -> list[Mapping[str, Any]]:
    """The tasks of an export."""
    try:
        content = parse_json(path.read_bytes().removeprefix(b"\xef\xbb\xbf"))
    except OSError as error:
        raise AnswerError(f"{named(path)} cannot be read: {error.strerror}") from error
    except ValueError as error:
        raise AnswerError(f"{named(path)} is not JSON: {one_line(error)}") from None
    if not isinstance(content, list) or not all(isinstance(task, Mapping) for task in content):
        raise AnswerError(f"{named(path)} is not an export of Label Studio, which is a list of tasks: {_HOW}")
    if any(ROW in task for task in content):
        raise AnswerError(
            f"{named(path)} is a JSON-MIN export, which leaves out skipped texts: {_HOW}, not as JSON-MIN"
        )
    return content


def _answer(annotation: Mapping[str, Any], row: str, known: Answerable, place: str) -> ForeignAnswer:
    """The answer of an annotation.

    Raises:
        ValueError: it is not an answer; the message gives the reason.
    """
    results = annotation.get("result")
    if not isinstance(results, list) or not all(isinstance(each, Mapping) for each in results):
        raise ValueError("its result is not a list of objects")
    cancelled = annotation.get("was_cancelled", False)
    if not isinstance(cancelled, bool):
        raise ValueError(f"was_cancelled is {shown(cancelled)}, not true or false")
    comments = [text for each in results if each.get("type") == "textarea" for text in _comment(each)]
    # A skipped task may keep the result that the person had begun: the skip counts.
    value: Answer = SKIP if cancelled else known.value(_chosen(results))
    return ForeignAnswer(
        row,
        value,
        _person(annotation.get("completed_by")),
        _time(annotation),
        seconds_spent(annotation.get("lead_time")),
        "\n".join(comments),
        place,
    )


def _chosen(results: list[Any]) -> Iterator[Any]:
    """The chosen names of a result."""
    controls = [each for each in results if each.get("type") != "textarea"]
    if len(controls) > 1 and all(each.get("from_name") == CONTROL for each in controls):
        raise ValueError(f"its result has {len(controls)} choices of the control {CONTROL!r}")
    for each in controls:
        for key, expected in (("type", "choices"), ("from_name", CONTROL), ("to_name", OBJECT)):
            if each.get(key) != expected:
                raise ValueError(f"{key} of its result is {shown(each.get(key))}, not {expected!r}")
        value = each.get("value")
        names = value.get("choices") if isinstance(value, Mapping) else None
        if not isinstance(names, list):
            raise ValueError(f"its choices are {shown(names)}, not a list")
        yield from names


def _comment(result: Mapping[str, Any]) -> list[str]:
    value = result.get("value")
    texts = value.get("text") if isinstance(value, Mapping) else None
    texts = [texts] if isinstance(texts, str) else texts
    return [text for text in texts if isinstance(text, str)] if isinstance(texts, list) else []


def _person(given: Any) -> str:
    """Name of the annotator: the email address if the export has it, otherwise the number of the user."""
    if isinstance(given, Mapping):
        name = given.get("email") or given.get("username")
        if isinstance(name, str) and name:
            return name
        given = given.get("id")
    return f"label-studio:{given}" if isinstance(given, int) else "label-studio"


def _time(annotation: Mapping[str, Any]) -> float | None:
    for key in ("updated_at", "created_at"):
        try:
            return seconds_of(annotation.get(key))
        except ValueError:
            continue
    return None
