"""Marks of exported answers: unchanged ones are recognized, changed ones and those of other projects are not."""

import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dal.formats.corpus import Corpus, CorpusAnswer, CorpusRow
from dal.formats.corpus_files import read_corpus
from dal.formats.exported_answers import DATA, Origin, is_mark, is_unchanged, mark_of, origins_of
from dal.formats.foreign_answers import Answerable
from dal.formats.label_studio_export import read_label_studio
from dal.formats.prodigy import read_prodigy, tasks_text
from dal.store.events import SKIP, Answer
from dal.store.label_log import LabelLog

RECORDED = Path(__file__).parents[1] / "data" / "label_studio" / "1.23.2"
ANA: Origin = ("ana", 1764444302.25)


def answer(*names: str, declined: bool = False) -> CorpusAnswer:
    return CorpusAnswer(None if declined else names, who=ANA[0], at=ANA[1], stands=True)


@given(st.text(), st.text(), st.lists(st.text(min_size=1), unique=True) | st.none())
def test_mark_is_an_integer_that_javascript_keeps(row: str, who: str, names: list[str] | None) -> None:
    mark = mark_of(row, CorpusAnswer(None if names is None else tuple(names), who=who, at=1.5))
    assert is_mark(mark)
    assert int(float(mark)) == mark < 2**53
    assert is_unchanged(mark, row, None if names is None else reversed(names), [("", None), (who, 1.5)])


@pytest.mark.parametrize(
    ("row", "names", "origins"),
    [
        ("r2", ["a", "b"], [ANA]),
        ("r1", ["a"], [ANA]),
        ("r1", [], [ANA]),
        ("r1", None, [ANA]),
        ("r1", ["a", "b"], [("ben", ANA[1])]),
        ("r1", ["a", "b"], [("ana", 5.0), DATA]),
        ("r1", ["a", "b"], []),
    ],
)
def test_other_row_value_person_time_or_history_is_another_answer(
    row: str, names: list[str] | None, origins: list[Origin]
) -> None:
    mark = mark_of("r1", answer("a", "b"))
    assert is_unchanged(mark, "r1", ["b", "a"], [DATA, ANA])
    assert not is_unchanged(mark, row, names, origins)


@pytest.mark.parametrize("value", [None, True, 0, 7, 2**52 - 1, 2**53, float(2**52), str(2**52), [2**52]])
def test_numbers_of_other_programs_are_no_marks(value: object) -> None:
    assert not is_mark(value)


def test_replaced_and_retracted_answers_are_in_the_history(tmp_path: Path) -> None:
    with LabelLog(tmp_path / "labels.db") as log:
        log.change_classes({"do": "add", "name": "a"})
        log.tell([Answer("r1", "a", "ana"), Answer("r1", SKIP, "ana"), Answer("r2", "a", "ben")])
        log.retract(2)
        log.retract(3)
        origin = {"origin": {"at": 12.5}}
        log.tell(
            [Answer("r1", "a", "cid", "import", seen=origin), Answer("r1", "a", "dan", "import", seen={"origin": {}})]
        )
        origins = origins_of(log, "r1")
    assert [who for who, _ in origins] == ["ana", "ana", "cid", "dan"]
    assert [at for _, at in origins[2:]] == [12.5, None]
    assert all(at is not None and at > 1e9 for _, at in origins[:2])


def test_answer_of_a_prodigy_task_counts_once_somebody_confirms_or_changes_it(tmp_path: Path) -> None:
    rows = [
        CorpusRow("r1", "one", state="answered", answers=(answer("bug"),)),
        CorpusRow("r2", "two", state="declined", answers=(answer(declined=True),)),
    ]
    known = Answerable({"r1": ("one",), "r2": ("two",)}, ("bug", "idea"), origins=lambda row: [ANA])
    first, second = map(json.loads, tasks_text(Corpus(rows, known.classes)).splitlines())
    path = tmp_path / "out.jsonl"

    def read(*tasks: dict[str, object]) -> tuple[list[object], int]:
        path.write_text("".join(json.dumps(task) + "\n" for task in tasks), "utf-8")
        read = read_prodigy(path, known)
        return [(each.row, each.value) for each in read.answers], read.exported

    assert read(first, second) == ([], 2)
    assert read(first | {"_session_id": None, "_input_hash": 5}, second) == ([], 2)
    assert read(first | {"_session_id": "tickets-ben"}, second | {"_timestamp": 1764444400}) == (
        [("r1", "bug"), ("r2", SKIP)],
        0,
    )
    assert read(first | {"accept": ["idea"]}, second | {"answer": "accept", "accept": ["bug"]}) == (
        [("r1", "idea"), ("r2", "bug")],
        0,
    )
    assert read(first | {"accept": 5, "answer": "reject"}) == ([("r1", SKIP)], 0)


@pytest.mark.parametrize(
    ("name", "exported", "changed"),
    [
        ("returned.tasks.json", 11, {}),
        ("returned.json.json", 11, {}),
        ("changed.json.json", 9, {"r3": "a & b|c;d", "r7": "<none>"}),
    ],
)
def test_recorded_export_of_own_answers_has_those_that_were_changed(
    name: str, exported: int, changed: dict[str, str]
) -> None:
    corpus = read_corpus(RECORDED / "returned.labels.jsonl")
    origins = {row.id: [(answer.who, answer.at) for answer in row.answers] for row in corpus.rows}
    texts = {row.id: (row.text,) for row in corpus.rows}
    read = read_label_studio(RECORDED / name, Answerable(texts, corpus.classes, origins=lambda row: origins[row]))
    assert read.exported == exported
    assert {each.row: each.value for each in read.answers} == changed
    assert {each.who for each in read.answers} <= {"label-studio:1"}
