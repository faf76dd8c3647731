"""The corpus of a log: what stands, everybody's answers, and the way back into another log."""

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from dal.data import Rows
from dal.errors import SessionError
from dal.formats.corpus import Corpus, CorpusAnswer, CorpusNote, CorpusRow
from dal.formats.corpus_files import jsonl_text, read_corpus, write_corpus
from dal.formats.log_corpus import corpus_of_log, pool_rows, store_corpus
from dal.store.events import SKIP
from dal.store.label_store import LabelStore

ROWS = [CorpusRow(name, f"text of {name}", fields={"year": 1990}) for name in "abcdefg"]


def corpus(log: LabelStore, *, multilabel: bool = False) -> Corpus:
    return corpus_of_log(ROWS, log, [entry.name for entry in log.classes.active], multilabel=multilabel)[0]


def people(log: LabelStore, rows: Mapping[str, Mapping[str, Any]]) -> None:
    """Answers by row and person."""
    for row, answers in rows.items():
        for who, value in answers.items():
            log.answer(row, value, who=who, key=f"{row}{who}", replaces=None)


@pytest.fixture
def log() -> LabelStore:
    """A log in which rows have answers of one person, of two who agree and of two who do not, a skip and a note."""
    log = LabelStore()
    for name in ("none", "mild", "severe"):
        log.change_classes({"do": "add", "name": name})
    log.ask(["a", "b"], strategy="ClusterCenters")
    log.ask(["c", "d", "e", "f"], strategy="Margin", wanted={"c": 2, "d": 2, "e": 2})
    agreeing = {"ana": "mild", "ben": "mild"}
    people(log, {"a": {"ana": "none"}, "b": {"ben": SKIP}, "c": agreeing, "d": {"ana": "mild", "ben": "severe"}})
    people(log, {"e": {"ana": "mild"}})
    log.note("a", "which one?", who="ana", key="n")
    return log


def test_states_and_provenance(log: LabelStore) -> None:
    rows = {row.id: row for row in corpus(log).rows}
    states = {"a": "answered", "b": "declined", "c": "answered", "d": "disputed", "e": "pending", "f": "pending"}
    assert {name: row.state for name, row in rows.items()} == states | {"g": "new"}
    answer = rows["a"].answer
    assert answer is not None
    assert (answer.classes, answer.who, answer.source, answer.round) == (("none",), "ana", "person", 1)
    assert answer.strategy == "ClusterCenters"
    assert rows["a"].notes == (CorpusNote("which one?", "ana"),)
    assert rows["a"].fields == {"year": 1990}
    assert [(each.who, each.stands) for each in rows["c"].answers] == [("ana", False), ("ben", True)]
    assert [each.stands for each in rows["d"].answers] == [False, False]
    assert [each.classes for each in rows["e"].answers] == [("mild",)]


def test_adjudicated_answer_stands_next_to_the_others(log: LabelStore) -> None:
    log.adjudicate("d", "severe", who="ana", key="adj")
    row = corpus(log).rows[3]
    assert row.state == "answered"
    assert [(each.who, each.source, each.stands) for each in row.answers] == [
        ("ana", "person", False),
        ("ben", "person", False),
        ("ana", "adjudicated", True),
    ]


def test_renamed_merged_and_retired_classes(log: LabelStore) -> None:
    log.change_classes({"do": "rename", "id": 0, "name": "nothing"})
    log.change_classes({"do": "merge", "id": 1, "into": 2})
    rows = {row.id: row for row in corpus(log).rows}
    assert [each.classes for each in rows["a"].answers] == [("nothing",)]
    assert (rows["d"].state, [each.classes for each in rows["d"].answers]) == ("answered", [("severe",), ("severe",)])
    log.change_classes({"do": "retire", "id": 0})
    assert corpus(log).rows[0].answers == ()


def test_undone_answer_is_left_out(log: LabelStore) -> None:
    log.undo_of("ben", key="u1")
    row = corpus(log).rows[3]
    assert [each.who for each in row.answers] == ["ana"]


def test_retired_row_keeps_its_answers(log: LabelStore) -> None:
    log.retire(["a"])
    row = corpus(log).rows[0]
    assert (row.state, [each.classes for each in row.answers], row.answer) == ("retired", [("none",)], None)


def test_what_was_shown_is_kept() -> None:
    log = LabelStore()
    log.answer("a", "x", who="ana", key="k", replaces=None, seen={"model": True})
    assert corpus(log).rows[0].answers[0].seen == {"model": True}


def test_answers_to_rows_that_left_are_counted(log: LabelStore) -> None:
    assert corpus_of_log(ROWS[1:], log, (), multilabel=False)[1] == 1


@pytest.mark.parametrize("suffix", [".csv", ".jsonl", ".parquet"])
def test_corpus_goes_through_another_log_byte_for_byte(tmp_path: Path, log: LabelStore, suffix: str) -> None:
    people(log, {"f": {"ana": "severe"}})
    log.adjudicate("f", "mild", who="cid", key="adj")
    given = corpus(log).only("answered", "declined", "disputed")
    path = tmp_path / f"given{suffix}"
    write_corpus(path, given)
    read = read_corpus(path)
    other = LabelStore(tmp_path / "labels.db")
    for name in given.classes:
        other.change_classes({"do": "add", "name": name})
    assert store_corpus(other, read, multilabel=False) == 8
    bare = [replace(row, state="new", answers=(), notes=()) for row in read.rows]
    again, _ = corpus_of_log(bare, other, given.classes, multilabel=False)
    write_corpus(tmp_path / f"again{suffix}", again)
    assert (tmp_path / f"again{suffix}").read_bytes() == path.read_bytes()
    assert other.counts() == {"answered": 3, "declined": 1, "disputed": 1}
    assert {event.source for event in other.history(limit=100)} == {"import", "adjudicated"}


def test_imported_answers_of_several_labels() -> None:
    answer = CorpusAnswer(("a", "b"), "ana", at=5.0, stands=True)
    given = Corpus([CorpusRow("a", "text of a", state="answered", answers=(answer,))], ("a", "b"), True)
    log = LabelStore()
    store_corpus(log, given, multilabel=True)
    assert log.answers == {"a": ("a", "b")}
    with pytest.raises(SessionError, match="the row 'a' has 2 classes, and the folder allows one"):
        store_corpus(LabelStore(), given, multilabel=False)


def test_label_of_the_data_stands_until_somebody_answers() -> None:
    pool = Rows.from_inputs(["one", "two", "three"], ["x", "y", None], ids=["a", "b", "c"])
    log = LabelStore()
    log.answer("b", "x", who="ana", key="k", replaces=None)
    rows = pool_rows(pool, hide_labels=False, fields={"a": {"year": 1}})
    found = corpus_of_log(rows, log, pool.classes, multilabel=False)[0]
    assert [row.answer.classes if row.answer else None for row in found.rows] == [("x",), ("x",), None]
    assert [(each.source, each.stands) for each in found.rows[1].answers] == [("data", False), ("person", True)]
    assert (found.rows[0].fields, found.rows[0].state) == ({"year": 1}, "answered")
    hidden = pool_rows(pool, hide_labels=True, fields={})
    assert [row.answers for row in hidden] == [(), (), ()]


def test_same_log_gives_the_same_bytes(log: LabelStore) -> None:
    assert jsonl_text(corpus(log)) == jsonl_text(corpus(log))
