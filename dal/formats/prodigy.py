"""Prodigy: tasks of its choice interface as JSON lines, and the answers that its `db-out` writes.

The format is that of https://prodi.gy/docs/api-interfaces (choice and classification).
"""

from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from dal.data.label_cells import Answer
from dal.errors import one_line, shown
from dal.formats.corpus import Corpus, CorpusRow, json_text
from dal.formats.corpus_files import json_lines
from dal.formats.exported_answers import mark_of
from dal.formats.foreign_answers import (
    Answerable,
    ForeignAnswer,
    ForeignAnswers,
    latest_per_person,
    refuse_mistakes,
)
from dal.formats.label_studio import ROW, Ranking
from dal.store.events import SKIP

#: Key of the foreign columns of a task. The program passes keys that it does not know through to its output.
FIELDS = "dal_fields"
#: Key of the mark of an exported answer.
MARK = "dal_answer"

_DECISIONS = ("accept", "reject", "ignore")


def tasks_text(corpus: Corpus, ranking: Ranking | None = None) -> str:
    """Tasks of the choice interface as JSON lines: the ranked rows in their order, then the others.

    An answered row has the keys `accept` and `answer` of the answer that stands, as in the output of the program, and
    its mark.
    """
    rank = {row: place for place, row in enumerate(ranking.rows, 1)} if ranking else {}
    rows = sorted(corpus.rows, key=lambda row: rank.get(row.id, len(rank) + 1))
    return "".join(json_text(_task(row, corpus, rank.get(row.id), ranking)) + "\n" for row in rows)


def _task(row: CorpusRow, corpus: Corpus, place: int | None, ranking: Ranking | None) -> dict[str, Any]:
    shown_text = row.text if row.pair is None else f"{row.text}\n\n{row.pair}"
    task: dict[str, Any] = {ROW: row.id, "text": shown_text, "meta": {"id": row.id}}
    task["options"] = [{"id": name, "text": name} for name in corpus.classes]
    if corpus.multilabel:
        task["config"] = {"choice_style": "multiple"}
    if place is not None and ranking is not None:
        task["meta"] |= {"rank": place, "ranking": ranking.version}
    if row.fields:
        task[FIELDS] = dict(row.fields)
    if row.answer is not None:
        task |= {"accept": list(row.answer.classes or ()), "_view_id": "choice"}
        task |= {"answer": "ignore" if row.answer.classes is None else "accept", MARK: mark_of(row.id, row.answer)}
    return task


def read_prodigy(path: Path, known: Answerable) -> ForeignAnswers:
    """Read the answers of a file that `prodigy db-out` wrote.

    Rows are found by `dal_id`, otherwise by a text that only one row has. Choices: "accept" takes the accepted options,
    "reject" and "ignore" decline the row. One label per task (the classification interface): accepted labels are the
    answer; a row that was only rejected has an answer when there are two classes, or when every class of multi-label
    data was decided. The latest answer of each person counts. Answers that `dal export` wrote are left out unless
    somebody has confirmed or changed them.

    Args:
        path: the file.
        known: rows and classes.

    Raises:
        AnswerError: lists by line what is wrong.
        DataError: a line is not a JSON object.
    """
    by_text: dict[str, list[str]] = {}
    for id, texts in known.texts.items():
        by_text.setdefault("\n\n".join(texts), []).append(id)
    mistakes: list[str] = []
    answers: list[ForeignAnswer] = []
    binary: dict[tuple[str, str], dict[str, ForeignAnswer]] = {}  # row, person -> class -> decision
    seen: Counter[str] = Counter()
    for number, task in json_lines(path):
        place = f"line {number}"
        try:
            row = _row(task, known, by_text)
            decision = task.get("answer")
            if decision is None:
                seen["empty"] += 1
                continue
            if _is_exported(task, row, known):
                seen["exported"] += 1
                continue
            if decision not in _DECISIONS:
                raise ValueError(f"answer is {shown(decision)}, not accept, reject or ignore")
            who, at = _person(task), _time(task)
            if "options" in task or "accept" in task or "label" not in task:
                value = _chosen(task, known) if decision == "accept" else SKIP
                answers.append(ForeignAnswer(row, value, who, at, place=place))
            elif decision == "ignore":
                answers.append(ForeignAnswer(row, SKIP, who, at, place=place))
            else:
                name = known.class_name(task["label"])
                binary.setdefault((row, who), {})[name] = ForeignAnswer(row, decision, who, at, place=place)
        except ValueError as error:
            mistakes.append(f"{place}: {one_line(error)}")
    for decisions in binary.values():
        try:
            answer = _combined(decisions, known)
        except ValueError as error:
            mistakes.append(f"{next(iter(decisions.values())).place}: {one_line(error)}")
            continue
        if answer is None:
            seen["partial"] += 1
        else:
            answers.append(answer)
    refuse_mistakes(path, mistakes)
    notes = [f"{seen['partial']} texts were only compared with some of the classes, and stay pending"]
    notes = notes if seen["partial"] else []
    return ForeignAnswers(latest_per_person(answers), seen["empty"], seen["exported"], tuple(notes))


def _is_exported(task: Mapping[str, Any], row: str, known: Answerable) -> bool:
    """Whether a task has the answer that `dal export` wrote, and none of the program."""
    if any(task.get(name) is not None for name in ("_timestamp", "_session_id", "_annotator_id")):
        return False
    accepted = task.get("accept", [])
    if not isinstance(accepted, list):
        return False
    return known.is_exported(row, None if task.get("answer") == "ignore" else accepted, task.get(MARK))


def _row(task: Mapping[str, Any], known: Answerable, by_text: Mapping[str, list[str]]) -> str:
    """The id of a task's row."""
    text = task.get("text")
    id = task.get(ROW)
    if id is None:
        found = by_text.get(text, []) if isinstance(text, str) else []
        if len(found) != 1:
            raise ValueError(f"it has no {ROW}, and {len(found) or 'no'} rows have its text")
        return found[0]
    row = known.check_row(id, {})
    own = "\n\n".join(known.texts.get(row, ()))
    if text is not None and own and text != own:
        raise ValueError(f"its text is not that of the row {shown(row)}")
    return row


def _chosen(task: Mapping[str, Any], known: Answerable) -> Answer:
    """The accepted options; an option whose id is not a class stands for its text."""
    accepted, options = task.get("accept", []), task.get("options", [])
    if not isinstance(accepted, list):
        raise ValueError(f"accept is {shown(accepted)}, not a list")
    texts = {
        option["id"]: option.get("text")
        for option in (options if isinstance(options, list) else [])
        if isinstance(option, Mapping) and isinstance(option.get("id"), str | int)
    }
    names = [
        texts[each]
        if isinstance(each, str | int) and each not in known.classes and isinstance(texts.get(each), str)
        else each
        for each in accepted
    ]
    return known.value(names)


def _combined(decisions: Mapping[str, ForeignAnswer], known: Answerable) -> ForeignAnswer | None:
    """The answer of one person's decisions on single classes of a row; None if they do not determine it.

    Raises:
        ValueError: two classes of single-label data are accepted.
    """
    accepted = [name for name, mark in decisions.items() if mark.value == "accept"]
    last = max(decisions.values(), key=lambda mark: mark.at or 0.0)
    left = [name for name in known.classes if name not in decisions]
    if known.multilabel:
        value = None if left else known.value(accepted)
    elif accepted:
        value = known.value(accepted)
    else:
        value = left[0] if len(left) == 1 and len(known.classes) > 1 else None
    return None if value is None else ForeignAnswer(last.row, value, last.who, last.at, place=last.place)


def _person(task: Mapping[str, Any]) -> str:
    name = task.get("_annotator_id") or task.get("_session_id")
    return name if isinstance(name, str) else "prodigy"


def _time(task: Mapping[str, Any]) -> float | None:
    at = task.get("_timestamp")
    return float(at) if isinstance(at, int | float) and not isinstance(at, bool) and 0 <= at < 1e11 else None
