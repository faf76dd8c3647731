"""Files that commands of `dal` wrote, read back as data: formulas come back without the apostrophes put before them."""

import csv
import warnings

import pytest
import torch

from dal.annotate.sheet import write_questions
from dal.data import DataWarning, Rows, Splits, TextData
from dal.learners.probe_learner import ProbeLearner
from dal.session import Session
from dal.store.spreadsheet import as_csv, write_csv
from dal.strategies.random import Random

FORMULAS = ["=1+1", "+1 for this", "-5 degrees outside", "@support, =help", "a\n-b", "'=quoted", "''-twice", "plain"]
AUTOLABEL = ["id", "text", "label", "guess", "confidence", "decision"]


def read(path, **options):
    options = {"id": "id", "classes": ["=a", "b"], **options}
    return TextData(str(path), **options).load().pool


def write(path, lines, encoding="utf-8"):
    with path.open("w", newline="", encoding=encoding) as file:
        csv.writer(file).writerows(lines)


@pytest.mark.parametrize("ids", [None, [f"-{row}" for row in range(len(FORMULAS))]], ids=["hashes", "formulas"])
def test_a_sheet_of_questions_is_read_back_exactly(tmp_path, ids):
    pool = Rows.from_inputs(FORMULAS, classes=["=a", "b"], ids=ids)
    with Session(Splits(pool=pool), ProbeLearner(model=None), Random()) as session:
        rows = session.ask(len(FORMULAS))
        write_questions(tmp_path / "todo.csv", session, rows)
    with pytest.warns(DataWarning, match=r"todo\.csv was written by dal: \d+ cells have been read without"):
        back = read(tmp_path / "todo.csv")
    assert back.texts() == pool.texts(rows)
    assert list(back.ids) == list(pool.ids.take(rows))


@pytest.mark.parametrize("pairs", [False, True])
def test_a_file_of_autolabel_is_read_back_exactly(tmp_path, pairs):
    texts = [(text, text) if pairs else (text,) for text in FORMULAS]
    head = ["id", "text", *(["text_pair"] if pairs else []), *AUTOLABEL[2:]]
    lines = [[f"={row}", *text, "=a", "=a", 0.875, "automatic"] for row, text in enumerate(texts)]
    write_csv(tmp_path / "labels.csv", as_csv([head, *lines]))
    with pytest.warns(DataWarning, match="was written by dal"):
        back = read(tmp_path / "labels.csv", text_pair="text_pair" if pairs else None, classes=["=a", "b"], label=None)
    assert back.texts() == (texts if pairs else FORMULAS)
    assert list(back.ids) == [line[0] for line in lines]


def test_labels_that_are_formulas_are_the_classes_that_they_were(tmp_path):
    lines = [["1", "one", "=a", "=a", 0.9, "automatic"], ["2", "two", "b", "b", 0.9, "automatic"]]
    write_csv(tmp_path / "labels.csv", as_csv([AUTOLABEL, *lines]))
    with pytest.warns(DataWarning, match="1 cell has been read without"):
        assert read(tmp_path / "labels.csv").labels.tolist() == [0, 1]


@pytest.mark.parametrize("delimiter", [",", ";", "\t"])
def test_a_sheet_that_a_spreadsheet_saved_with_other_separators_is_read_back(tmp_path, delimiter):
    with (tmp_path / "mine.csv").open("w", newline="", encoding="utf-8") as file:
        csv.writer(file, delimiter=delimiter).writerows([AUTOLABEL, ["1", "'=1+1", "b", "b", "0.9", "person"]])
    with pytest.warns(DataWarning, match="1 cell has been read without"):
        assert read(tmp_path / "mine.csv").texts() == ["=1+1"]


@pytest.mark.parametrize(
    ("lines", "encoding"),
    [
        ([["id", "text", "label"], ["1", "'=1+1", "b"], ["2", "'tis", "=a"]], "utf-8"),  # no byte-order mark
        (
            [["id", "text", "label"], ["1", "'=1+1", "b"], ["2", "-5 degrees", ""]],
            "utf-8-sig",
        ),  # bare formula
        ([AUTOLABEL, ["1", "'=1+1", "b", "b", "1", "person"], ["2", "@you", "", "b", "1", "person"]], "utf-8-sig"),
        ([["text", "id", "label"], ["'=1+1", "1", "b"], ["x", "2", "=a"]], "utf-8-sig"),  # columns in another order
        ([["id", "text", "label", "year"], ["1", "'=1+1", "b", "1999"]], "utf-8-sig"),
        ([["id", "text", "label"], ["1", "'twas", "b"], ["2", "'plain'", ""]], "utf-8-sig"),  # apostrophes of people
    ],
)
def test_a_file_of_somebody_else_keeps_its_apostrophes(tmp_path, lines, encoding):
    write(tmp_path / "mine.csv", lines, encoding)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        back = read(tmp_path / "mine.csv")
    assert back.texts() == [line[lines[0].index("text")] for line in lines[1:]]


def test_a_test_file_of_ours_is_read_so_as_well(tmp_path):
    write(tmp_path / "pool.csv", [["id", "text", "label"], ["1", "x", "b"], ["2", "y", "=a"]])
    write(tmp_path / "test.csv", [AUTOLABEL, ["3", "'-5 degrees", "'=a", "'=a", "0.9", "automatic"]])
    with pytest.warns(DataWarning, match=r"test\.csv was written by dal: 2 cells"):
        test = TextData(str(tmp_path / "pool.csv"), id="id", test=str(tmp_path / "test.csv")).load().test
    assert test.texts() == ["-5 degrees"]
    assert torch.equal(test.labels, torch.tensor([0]))
