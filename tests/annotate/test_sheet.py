"""The file that a person fills in: which row a line is about, and what its label means."""

import csv
import io
import unicodedata
from collections.abc import Sequence
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, tensor

from dal.annotate.sheet import check_classes, keep_absent, questions, read_answers
from dal.data import Rows, Splits
from dal.data.label_cells import SheetLabels, cell_of, marker, parse
from dal.errors import AnswerError, ConfigError
from dal.learners.tfidf_learner import TfidfLearner
from dal.session import Session
from dal.store.events import SKIP, Answer
from dal.store.spreadsheet import as_csv, write_csv
from dal.store.visible_names import is_visible
from dal.strategies.random import Random

TEXTS = [
    "a mail that never came",
    "=1+1 is two",
    "two lines\nof text",
    "caf\u00e9 closed",
    " spaces  around ",
    "word; -5",
]
IDS = ["t0", "t1", "t2", "t3", "t4", "t5"]


def session_of(
    texts: Sequence[object] = TEXTS,
    ids: Sequence[str] | None = None,
    classes: Sequence[str] = ("a", "b"),
    *,
    multilabel: bool = False,
    asked: int | None = None,
    folder: Path | None = None,
) -> Session:
    """A session that has asked all rows, or those before `asked`."""
    ids = [f"t{i}" for i in range(len(texts))] if ids is None else ids
    pool = Rows.from_inputs(list(texts), classes=list(classes), ids=list(ids), multilabel=multilabel)
    session = Session(Splits(pool=pool), TfidfLearner(), Random(), folder=folder)
    rows = session.unasked_rows if asked is None else session.unasked_rows[:asked]
    if len(rows):
        session.ask_these(rows, strategy="Random")
    return session


def lines_of(session: Session) -> list[list[str]]:
    """The cells of the file that is written for the pending rows, without its head."""
    return list(csv.reader(io.StringIO(questions(session, session.pending), newline="")))[1:]


def read(
    session: Session, lines: Sequence[Sequence[object]], path: Path, head: str = "id,text,label", **options: object
):
    write_csv(path, head + "\n" + "".join(_line(line) for line in lines))
    return read_answers(path, session, **options)  # type: ignore[arg-type]


def _line(cells: Sequence[object]) -> str:
    written = io.StringIO()
    csv.writer(written, lineterminator="\n", quoting=csv.QUOTE_ALL).writerow(cells)
    return written.getvalue()


# -- the round trip --------------------------------------------------------------------------------------------------

WORDS = st.text(max_size=8) | st.text(st.sampled_from("=+-@'\";,| \t\n\r\uff1da\u0301skipno[]"), max_size=8)

CLASS = WORDS.map(lambda name: unicodedata.normalize("NFC", name).strip()).filter(is_visible)


@settings(max_examples=60)
@given(
    st.lists(WORDS.filter(bool), min_size=2, max_size=5, unique=True),
    st.lists(WORDS, min_size=2, max_size=5),
    st.lists(CLASS, min_size=2, max_size=5, unique=True),
)
def test_any_id_text_and_class_is_read_as_it_was_written(
    tmp_path_factory: pytest.TempPathFactory, ids: list[str], texts: list[str], classes: list[str]
) -> None:
    count = min(len(ids), len(texts))
    pool = session_of(texts[:count], ids[:count], classes, asked=0).pool
    session = session_of(texts[:count], pool.ids, pool.classes)
    labels = [pool.classes[i % len(pool.classes)] for i in range(count)]
    lines = [[name, text, label] for name, text, label in zip(pool.ids, texts, labels, strict=False)]
    path = tmp_path_factory.getbasetemp() / "round.csv"
    write_csv(path, as_csv([["id", "text", "label"], *lines]))
    answers = read_answers(path, session)
    assert (answers.rows, answers.values, answers.notes) == ([*range(count)], labels, ())


@settings(max_examples=60)
@given(st.lists(CLASS, min_size=1, max_size=4, unique=True), st.data())
def test_any_set_of_classes_is_read_as_it_was_written(
    tmp_path_factory: pytest.TempPathFactory, names: list[str], data: st.DataObject
) -> None:
    session = session_of(["x"], classes=[n for n in names if "|" not in n] or ["a"], multilabel=True)
    classes = session.pool.classes
    chosen = data.draw(st.sets(st.sampled_from(classes)))
    value = [name for name in classes if name in chosen]
    path = tmp_path_factory.getbasetemp() / "several.csv"
    write_csv(path, as_csv([["id", "label"], ["t0", cell_of(value, classes)]]))
    assert read_answers(path, session).values == [value]


def test_class_names_that_a_spreadsheet_would_run_are_answers(tmp_path: Path) -> None:
    session = session_of(classes=["-1", "+", "=x", "@", "\uff1dy", "a;-"])
    values = ["-1", "+", "=x", "@", "\uff1dy", "a;-"]
    path = tmp_path / "s.csv"
    write_csv(path, as_csv([["id", "label"], *zip(IDS, values, strict=True)]))
    assert "'-1" in path.read_text(encoding="utf-8")
    assert read_answers(path, session).values == values
    write_csv(path, "id,label\n" + "".join(f"{i},{v}\n" for i, v in zip(IDS, values, strict=True)))
    assert read_answers(path, session).values == values


def test_blank_classes_and_classes_with_a_bar_are_refused_before_a_file_is_written() -> None:
    with pytest.raises(ConfigError, match="is blank"):
        check_classes([" ", "b"])
    with pytest.raises(ConfigError, match="separates classes"):
        check_classes(["a|b", "b"], multilabel=True)
    check_classes(["a|b", "b"])


# -- which row -------------------------------------------------------------------------------------------------------


def test_a_column_that_was_sorted_alone_is_refused_with_the_line_and_both_rows(tmp_path: Path) -> None:
    session = session_of()
    lines = [[name, text, "a"] for name, (_, text, _) in zip(reversed(IDS), lines_of(session), strict=True)]
    with pytest.raises(AnswerError, match="6 mistakes; nothing was stored") as error:
        read(session, lines, tmp_path / "s.csv")
    assert "line 2: the id is that of the row 't5', the text that of the row 't0'" in str(error.value)


def test_one_shifted_line_is_refused_among_good_ones(tmp_path: Path) -> None:
    session = session_of()
    lines = [[*line[:-1], "a"] for line in lines_of(session)]
    lines[3][1] = lines[4][1]
    with pytest.raises(AnswerError, match="line 6: the id is that of the row 't3', the text that of the row 't4'"):
        read(session, lines, tmp_path / "s.csv")


def test_a_label_of_no_class_does_not_hide_a_contradiction_and_empty_lines_are_no_evidence(tmp_path: Path) -> None:
    session = session_of()
    answers = read(session, [["t0", TEXTS[1], ""], ["t2", TEXTS[2], "b"]], tmp_path / "s.csv")
    assert (answers.rows, answers.values, answers.empty) == ([2], ["b"], 1)


HARMLESS = {
    "as it was": lambda text: text,
    "without apostrophes": lambda text: text.replace("'", ""),
    "with one more apostrophe": lambda text: "'" + text if text.startswith(("=", "'=")) else text,
    "other line ends": lambda text: text.replace("\n", "\r\n"),
    "old line ends": lambda text: text.replace("\n", "\r"),
    "spaces trimmed": str.strip,
    "spaces collapsed": lambda text: " ".join(text.split()),
    "no-break spaces": lambda text: text.replace(" ", "\u00a0"),
    "decomposed": lambda text: unicodedata.normalize("NFD", text),
    "composed": lambda text: unicodedata.normalize("NFC", text),
    "accents lost": lambda text: text.replace("\u00e9", "?"),
    "typographic marks": lambda text: text.replace("-", "\u2013").replace("'", "\u2019"),
}


@pytest.mark.parametrize("change", HARMLESS, ids=[name.replace(" ", "_") for name in HARMLESS])
def test_what_a_spreadsheet_does_to_a_text_is_no_contradiction(change: str, tmp_path: Path) -> None:
    session = session_of()
    lines = [[name, HARMLESS[change](text), "a"] for name, text, _ in lines_of(session)]
    assert read(session, lines, tmp_path / "s.csv").rows == session.pending.tolist()


def test_a_long_text_that_was_cut_is_no_contradiction(tmp_path: Path) -> None:
    long = "many words " * 5000
    session = session_of([long, "short"])
    answers = read(session, [["t0", long[:32_767], "a"]], tmp_path / "s.csv")
    assert (answers.rows, answers.notes) == (
        [0],
        ("1 texts had been changed in the file; their rows were found by their ids",),
    )


def test_a_text_that_is_nobodys_is_refused_unless_its_cell_is_empty(tmp_path: Path) -> None:
    session = session_of()
    with pytest.raises(AnswerError, match="line 2: the text is neither that of the row 't0', 'a mail that never came'"):
        read(session, [["t0", "something else altogether", "a"]], tmp_path / "s.csv")
    assert read(session, [["t0", "", "a"]], tmp_path / "s.csv").rows == [0]


def test_both_texts_of_a_pair_are_evidence(tmp_path: Path) -> None:
    pairs = [("one", "left"), ("one", "right"), ("two", "left")]
    session = session_of(pairs)
    head = "id,text,text_pair,label"
    good = [["t0", "one", "left", "a"], ["t1", "one", "right", "b"], ["x", "two", "left", "a"]]
    assert read(session, good, tmp_path / "s.csv", head).rows == [0, 1, 2]
    with pytest.raises(AnswerError, match="the row 't0', the text that of the row 't1'"):
        read(session, [["t0", "one", "right", "a"]], tmp_path / "s.csv", head)
    with pytest.raises(AnswerError, match="no row has the id 'x', and 2 rows have its text"):
        read(session, [["x", "one", "a"]], tmp_path / "s.csv")


def test_equal_texts_are_told_apart_by_their_ids(tmp_path: Path) -> None:
    session = session_of(["same", "same", "other"])
    assert read(session, [["t1", "same", "a"], ["t0", "same", "b"]], tmp_path / "s.csv").rows == [1, 0]


@pytest.mark.parametrize("name", ["-1", "'t", "caf\u00e9", "=A1", "00012"])
def test_ids_are_found_in_the_forms_that_spreadsheets_give_them(name: str, tmp_path: Path) -> None:
    session = session_of(["one", "two"], [name, "other"])
    [written] = [line[0] for line in lines_of(session) if line[1] == "one"]
    forms = [written, written.strip(), f" {written} ", unicodedata.normalize("NFD", written), name]
    for form in forms:
        assert read(session, [[form, "", "a"]], tmp_path / "s.csv").rows == [0], form


def test_ids_that_lost_their_zeros_and_name_another_row_are_refused(tmp_path: Path) -> None:
    session = session_of(["one", "two"], ["001", "1"])
    with pytest.raises(AnswerError, match="the id is that of the row '1', the text that of the row '001'"):
        read(session, [["1", "one", "a"]], tmp_path / "s.csv")


def test_a_changed_id_is_found_by_its_text_also_when_told_again(tmp_path: Path) -> None:
    session = session_of(TEXTS)
    lines = [["1.2E+15", TEXTS[0], "a"]]
    first = read(session, lines, tmp_path / "s.csv")
    assert first.notes == ("1 ids had been changed in the file; their rows were found by their texts",)
    session.tell(first.rows, first.values)
    assert read(session, lines, tmp_path / "s.csv").rows == [0]


def test_every_row_is_looked_at_once_however_many_ids_were_changed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    texts = [f"text number {i}" for i in range(2000)]
    session = session_of(texts)
    looked = []
    before = Rows.texts

    def counted(self: Rows, rows: object = None) -> list[object]:
        found = before(self, rows)  # type: ignore[arg-type]
        looked.append(len(found))
        return found

    monkeypatch.setattr(Rows, "texts", counted)
    read(session, [[f"lost{i}", text, "a"] for i, text in enumerate(texts)], tmp_path / "s.csv")
    assert sum(looked) <= len(texts)
    looked.clear()
    read(session, [[f"t{i}", text, "a"] for i, text in enumerate(texts)], tmp_path / "s.csv")
    assert sum(looked) <= len(texts)


def test_many_wrong_labels_are_compared_with_the_classes_only_as_often_as_shown(tmp_path: Path) -> None:
    classes = [f"class {i}" for i in range(3000)]
    session = session_of([f"text {i}" for i in range(1000)], classes=classes)
    with pytest.raises(AnswerError, match="1000 mistakes") as error:
        read(session, [[f"t{i}", "", f"clas {i}"] for i in range(1000)], tmp_path / "s.csv")
    assert str(error.value).count("did you mean") == 20


# -- rows that have left the data ------------------------------------------------------------------------------------


def test_answers_to_rows_that_have_left_the_data_are_kept_and_count_when_they_come_back(tmp_path: Path) -> None:
    folder = tmp_path / "folder"
    session_of(folder=folder).close()
    session = session_of(TEXTS[:4], folder=folder, asked=0)
    answers = read(session, [[name, text, "b"] for name, text in zip(IDS, TEXTS, strict=True)], tmp_path / "s.csv")
    assert (answers.rows, dict(answers.absent)) == ([0, 1, 2, 3], {"t4": "b", "t5": "b"})
    assert answers.notes == (
        "2 rows are no longer in the data: 't4', 't5'; their answers are kept by id and count if they come back",
    )
    session.tell(answers.rows, answers.values)
    assert keep_absent(session, answers.absent, who="ann") == 2
    assert keep_absent(session, answers.absent, who="ann") == 0
    session.close()
    whole = session_of(folder=folder, asked=0)
    assert len(whole.labels) == 6
    assert whole.store.answer_to("t5") == "b"
    whole.close()


def test_a_declined_or_several_classes_are_kept_too(tmp_path: Path) -> None:
    folder = tmp_path / "folder"
    session_of(folder=folder, multilabel=True).close()
    session = session_of(TEXTS[:4], folder=folder, multilabel=True, asked=0)
    answers = read(session, [["t4", "", "b|a"], ["t5", "", "skip"]], tmp_path / "s.csv")
    assert dict(answers.absent) == {"t4": ["a", "b"], "t5": SKIP}
    assert keep_absent(session, answers.absent) == 2
    assert (session.store.answer_to("t4"), session.store.answer_to("t5")) == (("a", "b"), SKIP)
    session.close()


def test_an_id_that_nobody_ever_asked_is_a_mistake(tmp_path: Path) -> None:
    session = session_of(asked=2)
    with pytest.raises(AnswerError, match="line 2: no row has the id 'nobody'"):
        read(session, [["nobody", "", "a"], ["t0", "", "a"]], tmp_path / "s.csv")


def test_another_answer_to_a_row_that_has_left_needs_correct(tmp_path: Path) -> None:
    session = session_of(asked=0)
    session.store.tell([Answer("gone", "a")])
    with pytest.raises(AnswerError, match="the row 'gone' is answered 'a' already, not 'b'"):
        read(session, [["gone", "", "b"]], tmp_path / "s.csv")
    assert dict(read(session, [["gone", "", "b"]], tmp_path / "s.csv", correct=True).absent) == {"gone": "b"}


def test_rows_without_texts_are_known_by_their_ids(tmp_path: Path) -> None:
    pool = Rows.from_inputs(tensor([[0.0], [1.0]]), classes=["a", "b"], ids=["x", "y"])
    assert isinstance(pool.inputs, Tensor)
    session = session_of(["one", "two"], ["x", "y"])
    session.pool = pool
    assert read(session, [["y", "any words", "a"]], tmp_path / "s.csv").rows == [1]


# -- labels ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("label", "classes", "value"),
    [
        ("SKIP", ["a"], SKIP),
        ("skip", ["skip", "a"], "skip"),
        ("[skip]", ["skip", "a"], SKIP),
        ("[skip]", ["[skip]", "a"], "[skip]"),
        ("skip", ["[skip]", "a"], SKIP),
        ("[[skip]]", ["skip", "[skip]"], SKIP),
        ("a", ["A", "a"], "a"),
        ("cafe\u0301", ["caf\u00e9", "b"], "caf\u00e9"),
        ("CAFE\u0301", ["caf\u00e9", "b"], "caf\u00e9"),
        ("'-1", ["-1", "1"], "-1"),
        ("''-1", ["-1", "'-1"], "'-1"),
        ("'x", ["'x", "x"], "'x"),
    ],
)
def test_a_cell_means_one_thing(label: str, classes: list[str], value: object) -> None:
    assert SheetLabels(classes).read(label) == value


def test_an_ambiguous_case_and_an_unknown_class_are_refused() -> None:
    with pytest.raises(ValueError, match="'AB' is not a class, did you mean 'Ab'"):
        parse("AB", ["Ab", "aB"])
    with pytest.raises(ValueError, match=r"is not a class \(classes are x"):
        parse("q" * 100_000, ["x", "y"])
    with pytest.raises(ValueError, match="names no class"):
        parse("|", ["x", "y"], multilabel=True)


def test_no_class_is_written_so_that_it_is_read_as_none() -> None:
    for classes in (["a"], ["a", "none"], ["a", "None", "[none]"]):
        assert parse(cell_of([], classes), classes, multilabel=True) == []
    assert marker("none", ["None", "[none]"]) == "[[none]]"


@pytest.mark.parametrize("name", ["text", "text_pair"])
def test_two_columns_of_one_name_are_refused(tmp_path: Path, name: str) -> None:
    path = tmp_path / "sheet.csv"
    path.write_text(f"id,label,{name},{name} \nt0,a,text 0,other\n")
    with pytest.raises(AnswerError, match=f"more than one column '{name}'"):
        read_answers(path, session_of(["text 0"]))
