"""CSV that a spreadsheet runs nothing of, and reading what it saved."""

import csv
import io
import itertools
import unicodedata
from pathlib import Path

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from dal.errors import AnswerError
from dal.store.spreadsheet import Sheet, as_csv, inert, original, read_sheet, without_apostrophes, write_csv

# Characters that decide how a cell is cut, quoted and run, among letters.
AWKWARD = st.text(st.sampled_from("=+-@'\";,|\t\n\r ab\u00a0\uff1d\uff0b\ufe63\u200b\u2028\x0b\x00"), max_size=12)
CELLS = AWKWARD | st.text(max_size=12)


def runs(cell: str) -> bool:
    """Whether a spreadsheet that drops what is not seen, and folds width, would take the cell for a formula."""
    unseen = ("Cc", "Cf", "Zs", "Zl", "Zp")
    seen = itertools.dropwhile(lambda char: char == '"' or char.isspace() or unicodedata.category(char) in unseen, cell)
    return unicodedata.normalize("NFKC", next(seen, "x"))[:1] in ("=", "+", "-", "@")


@given(CELLS)
@example("'=1")
@example("'\n'=1")
@example("\t'\t=")
def test_every_cell_comes_back_as_it_was(cell: str) -> None:
    assert original(inert(cell)) == cell
    assert without_apostrophes(inert(cell)) == without_apostrophes(cell)


@given(st.lists(st.tuples(CELLS, CELLS, CELLS), min_size=1, max_size=4))
def test_no_cell_is_a_formula_under_any_separator_with_or_without_quotes(rows: list[tuple[str, str, str]]) -> None:
    text = as_csv([("id", "text", "label"), *rows])
    for separator, quoting in itertools.product(",;\t|", (csv.QUOTE_MINIMAL, csv.QUOTE_NONE)):
        reader = csv.reader(io.StringIO(text, newline=""), delimiter=separator, quoting=quoting)  # type: ignore[arg-type]
        assert not [cell for record in reader for cell in record if runs(cell)], (separator, text)


@pytest.mark.parametrize("lead", ["", " ", "\u00a0", "\n", "\r\n", "\t", '"', "\u200b", "\ufeff", "\x00", "\u3000"])
@pytest.mark.parametrize("sign", ["=", "+", "-", "@", "\uff1d", "\uff0b", "\uff0d", "\uff20", "\ufe66"])
@pytest.mark.parametrize("before", ["", "a;", "a,", "a|", "a\t", "a\n", "a\u2028"])
def test_formulas_are_made_text_in_every_form(before: str, lead: str, sign: str) -> None:
    cell = f"{before}{lead}{sign}1+1"
    assert inert(cell) != cell
    assert original(inert(cell)) == cell


@pytest.mark.parametrize("cell", ["a - b", "x=1", "a+b", "me@home", "don't", "'tis", "1-2", "", "a 'b' = c"])
def test_usual_text_is_left_alone(cell: str) -> None:
    assert inert(cell) == original(cell) == cell


@given(st.lists(st.tuples(CELLS, CELLS), min_size=1, max_size=4))
def test_a_written_file_is_read_as_it_was(
    tmp_path_factory: pytest.TempPathFactory, rows: list[tuple[str, str]]
) -> None:
    path = tmp_path_factory.getbasetemp() / "sheet.csv"
    write_csv(path, as_csv([("id", "label"), *rows]))
    read = [tuple(original(cell) for cell in cells) for _, cells in read_sheet(path, ("id", "label")).lines]
    assert read == [row for row in rows if any(row)]


@pytest.mark.parametrize("cell", ["\t" * 300_000, "'" * 300_000, "\t'" * 200_000, " " * 300_000 + "=", "=;" * 100_000])
def test_cells_without_end_take_no_time(cell: str) -> None:
    assert original(inert(cell)) == cell


def test_numbers_that_are_not_finite_are_empty_cells() -> None:
    infinite = float("inf")
    assert as_csv([[float("nan"), infinite, -infinite, None, -0.25, 3, True]]) == ",,,,-0.25,3,True\n"
    assert as_csv([[1 / 3, 10**7 + 1]], digits=None) == "0.3333333333333333,10000001\n"


def write(path: Path, content: str | bytes) -> Sheet:
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    return read_sheet(path, ("id", "label"))


@pytest.mark.parametrize("separator", [",", ";", "\t", "|"])
@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "utf-16-le", "utf-16-be", "utf-32"])
def test_usual_separators_and_encodings_are_read(separator: str, encoding: str, tmp_path: Path) -> None:
    text = 'ID;"a text";Label\r\n1;"x; ""y""\r\nz";\u4f60\r\n\r\n2;;b\r\n'.replace(";", separator)
    sheet = write(tmp_path / "s.csv", text.encode(encoding))
    assert sheet.head == ("id", "a text", "label")
    assert sheet.lines == ((2, ("1", f'x{separator} "y"\r\nz', "\u4f60")), (5, ("2", "", "b")))
    assert bool(sheet.notes) == (encoding in ("utf-16-le", "utf-16-be"))


def test_a_line_that_names_the_separator_is_obeyed(tmp_path: Path) -> None:
    assert write(tmp_path / "s.csv", "sep=;\nid;label\n1;a,b\n").lines == ((3, ("1", "a,b")),)


def test_tabs_without_quotes_are_read_line_by_line(tmp_path: Path) -> None:
    text = 'id\ttext\tlabel\n1\t"hello\ta\n2\tbye"\tb\n3\t"c, d"\t"e, f"\n'
    assert [cells for _, cells in write(tmp_path / "s.csv", text).lines] == [
        ("1", '"hello', "a"),
        ("2", 'bye"', "b"),
        ("3", "c, d", "e, f"),
    ]


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        ("id,text,label\n1,a, b,c\n", "line 2 has 4 cells, expected 3 .separated by commas."),
        ('id,text,label\n1,"a,b\n2,c,d\n', "line 2: a quote mark is not closed"),
        ('id,text,label\n1,"a" b,c\n', "line 2: a quote mark is not closed, or not doubled"),
        ("id;answer\n1;a\n", "line 1: no column 'label' among id, answer .separated by semicolons."),
        ("sep=|\nid|answer\n1|a\n", "line 2: no column 'label' among id, answer .separated by bars."),
        ("", "is empty: it needs the columns id and label"),
        ("\n\n", "is empty"),
        (b"\x89PNG\r\n\x00\x00\xff\xff", "is a binary file"),
        (b"\xd0\xcf\x11\xe0\xa1\xb1", "is a workbook"),
        ("id,label\n1,a\n".encode("utf-16")[:-1], "is not whole UTF-16 text"),
        ("x" * 100_000 + ",label\n", "no column 'id' among xxx"),
    ],
)
def test_what_is_no_sheet_is_refused_in_one_line(content: str | bytes, reason: str, tmp_path: Path) -> None:
    with pytest.raises(AnswerError, match=reason) as error:
        write(tmp_path / "s.csv", content)
    assert "\n" not in str(error.value)
    assert len(str(error.value)) < 400


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("", "is a folder"),
        (".", "is a folder"),
        ("/dev/null", "is a device"),
        ("x" * 300, "File name too long"),
        ("a\0b", "null"),
        ("none.csv", "No such file"),
        (__file__ + "/x", "Not a directory"),
    ],
)
def test_what_is_no_file_is_refused_in_one_line(name: str, reason: str) -> None:
    with pytest.raises(AnswerError, match=reason) as error:
        read_sheet(Path(name), ("id", "label"))
    assert "\n" not in str(error.value)
