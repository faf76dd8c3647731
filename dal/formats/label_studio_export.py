"""Reader of Label Studio's JSON export, the only one of its exports that keeps skipped tasks and several annotators."""

import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from dal.data.label_cells import Answer
from dal.errors import AnswerError, one_line, shortened, shown
from dal.formats.corpus import seconds_of
from dal.formats.exported_answers import is_mark
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
_CHANGED = re.compile(r"(\d{4}-\d\d-\d\dT\d\d)\.(\d\d)\.(\d\d(?:\.\d+)?Z?)")  # a time of `annotation_key`


@dataclass
class ReadTasks:
    """Tasks that were read.

    Attributes:
        answers: one answer per annotation.
        mistakes: what is wrong, by task.
        empty: number of tasks without an annotation.
        exported: number of annotations that `dal export` wrote and nobody has changed since. They are no answers.
        present: (row, beginning of the keys of its task) -> beginnings of the keys of its annotations.
        tasks: row and number of each task that could be read.
    """

    answers: list[ForeignAnswer] = field(default_factory=list)
    mistakes: list[str] = field(default_factory=list)
    empty: int = 0
    exported: int = 0
    present: dict[tuple[str, str], set[str]] = field(default_factory=dict)
    tasks: list[tuple[str, Any]] = field(default_factory=list)


def read_label_studio(path: Path, known: Answerable) -> ForeignAnswers:
    """Read the answers of a JSON export of tasks that `dal export` wrote. The server checks nothing, so all is checked.

    Rows are found by `data.dal_id`. Each annotation is the answer of its `completed_by`; several tasks of one row are
    several answers. A cancelled annotation declines the row, whatever its result is; an empty result is no class when
    multi-label, otherwise a mistake. The latest of several annotations by one person counts. Text areas are notes.
    Annotations that `dal export` wrote are answers only if somebody has changed them.

    Args:
        path: the export.
        known: rows and classes.

    Raises:
        AnswerError: lists by task what is wrong, or the file is not such an export.
    """
    read = read_tasks(_tasks(path), known)
    refuse_mistakes(path, read.mistakes)
    return ForeignAnswers(latest_per_person(read.answers), read.empty, read.exported)


def read_tasks(tasks: Iterable[Any], known: Answerable, server: str = "") -> ReadTasks:
    """Read the answers of tasks as an export or the API has them.

    Args:
        tasks: the tasks.
        known: rows and classes.
        server: name of the server, which the keys of the answers begin with; empty for answers without keys.
    """
    read = ReadTasks()
    for number, task in enumerate(tasks, 1):
        place = f"task {shown(task.get('id', number) if isinstance(task, Mapping) else number)}"
        try:
            row, annotations = _row_and_annotations(task, known)
        except ValueError as error:
            read.mistakes.append(f"{place}: {one_line(error)}")
            continue
        read.empty += not annotations
        read.tasks.append((row, task.get("id")))
        prefix = task_key(server, task.get("id")) if server else ""
        given = [each for each in annotations if not _is_exported(each, row, known)]
        read.exported += len(annotations) - len(given)
        for annotation in given:
            where = f"{place}, annotation {shown(annotation.get('id'))}" if len(annotations) > 1 else place
            key = f"{prefix}{annotation_key(annotation)}" if prefix else ""
            try:
                answer = _answer(annotation, row, known, where)
                read.answers.append(replace(answer, key=key, seen=_seen(annotation, task)))
            except ValueError as error:
                read.mistakes.append(f"{where}: {one_line(error)}")
        if prefix:
            # An annotation that was changed and then changed back takes back the answer that it had been.
            read.present[row, prefix] = {f"{prefix}{_identity(each)}:" for each in given}
    return read


def task_key(server: str, task: Any) -> str:
    """Beginning of the keys of the answers to a task."""
    return f"label-studio:{server}:{shown(task)}:"


def annotation_key(annotation: Mapping[str, Any]) -> str:
    """End of the key of an answer: the annotation, a colon, and the time of its last change without any."""
    changed = shortened(str(annotation.get("updated_at")), 40).replace(":", ".")
    return f"{_identity(annotation)}:{changed}"


def key_time(key: str) -> float | None:
    """Time of the last change of an annotation, from the key of its answer; None for a key of anything else.

    Example:
        >>> annotation = {"id": 7, "updated_at": "2026-01-01T00:00:00.5Z"}
        >>> key_time(task_key("host/3", 5) + annotation_key(annotation)), key_time("answer:ana:5")
        (1767225600.5, None)
    """
    found = _CHANGED.fullmatch(key.rpartition(":")[2]) if key.startswith("label-studio:") else None
    try:
        return None if found is None else seconds_of(f"{found[1]}:{found[2]}:{found[3]}")
    except ValueError:
        return None


def _identity(annotation: Mapping[str, Any]) -> str:
    return shortened(str(annotation.get("unique_id") or annotation.get("id")), 60)


def _mark(annotation: Mapping[str, Any]) -> Any:
    """The mark of an exported annotation: its `id` in the file, which an import stores as `import_id`; None without."""
    return next((each for each in (annotation.get("import_id"), annotation.get("id")) if is_mark(each)), None)


def _is_exported(annotation: Mapping[str, Any], row: str, known: Answerable) -> bool:
    """Whether `dal export` wrote an annotation and nobody has changed it, or added a comment, since."""
    results = annotation.get("result")
    if not isinstance(results, list) or not all(isinstance(each, Mapping) for each in results):
        return False
    cancelled = annotation.get("was_cancelled") is True
    try:
        names = list(_chosen(results))
    except ValueError:
        return False
    is_commented = any(each.get("type") == "textarea" for each in results)
    return not is_commented and known.is_exported(row, None if cancelled else names, _mark(annotation))


def _seen(annotation: Mapping[str, Any], task: Mapping[str, Any]) -> dict[str, bool] | None:
    """Whether the annotation began as a suggestion of a model; None if the file does not tell."""
    predictions = task.get("predictions")
    if not isinstance(predictions, list) or not all(isinstance(each, Mapping) for each in predictions):
        return None  # an export has their numbers only
    suggesting = [each.get("id") for each in predictions if each.get("result")]  # values of any type, so no set
    return {"model": annotation.get("parent_prediction") in suggesting}


def _row_and_annotations(task: Any, known: Answerable) -> tuple[str, list[Mapping[str, Any]]]:
    """The row and the annotations of a task.

    Raises:
        ValueError: it is no task of a known row; the message gives the reason.
    """
    if not isinstance(task, Mapping):
        raise ValueError("it is no object")
    data = task.get("data")
    if not isinstance(data, Mapping):
        raise ValueError("it has no data")
    if ROW not in data:
        raise ValueError(f"its data has no {ROW}: import the tasks that `dal export` wrote")
    row = known.check_row(data[ROW], data)
    annotations = task.get("annotations", [])
    if not isinstance(annotations, list) or not all(isinstance(each, Mapping) for each in annotations):
        raise ValueError("its annotations are not a list of objects")
    return row, annotations


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
        _person(_answerer(annotation)),
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
    return [_storable(text) for text in texts if isinstance(text, str)] if isinstance(texts, list) else []


def _storable(text: str) -> str:
    """The text with question marks for halves of surrogate pairs, which JSON can hold and UTF-8 cannot."""
    return text.encode("utf-8", "replace").decode("utf-8")


def _answerer(annotation: Mapping[str, Any]) -> Any:
    """The user who gave the answer of an annotation. An exported one was completed by nobody there: the program puts
    the user who imported it, and the answer is that of the user who changed it.
    """
    completed_by, changed_by = annotation.get("completed_by"), annotation.get("updated_by")
    if changed_by is None or _mark(annotation) is None:
        return completed_by
    is_same = isinstance(completed_by, Mapping) and completed_by.get("id") == changed_by
    return completed_by if is_same else changed_by


def _person(given: Any) -> str:
    """Name of the annotator: the email address if the export has it, otherwise the number of the user."""
    if isinstance(given, Mapping):
        name = given.get("email") or given.get("username")
        if isinstance(name, str) and name:
            return _storable(name)
        given = given.get("id")
    return f"label-studio:{given}" if isinstance(given, int) else "label-studio"


def _time(annotation: Mapping[str, Any]) -> float | None:
    for key in ("updated_at", "created_at"):
        try:
            return seconds_of(annotation.get(key))
        except ValueError:
            continue
    return None
