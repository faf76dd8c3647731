"""What separates the cells of a text file, and whether its quotes are quotes."""

import csv
import io
import random

import pytest

from dal.config.stored import describe, write_config
from dal.data import TextData
from dal.data.quotes import contradiction
from dal.errors import ConfigError, DataError

ROWS = [("hallo welt", "a"), ("guten tag, du", "b"), ("x y", "a")]
MARKS = {";": "semicolon", "\t": "tab", "|": "bar", ",": "comma"}


def written(mark, rows=ROWS, head=("text", "label"), **options):
    out = io.StringIO()
    csv.writer(out, delimiter=mark, lineterminator="\n", **options).writerows([head, *rows])
    return out.getvalue()


def load(folder, content, name="rows.csv", **options):
    path = folder / name
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    pool = TextData(str(path), **options).load().pool
    return list(zip(pool.texts(), pool.names_of(pool.labels), strict=True))


def refused(folder, content, name="rows.csv", **options):
    with pytest.raises(DataError) as caught:
        load(folder, content, name, **options)
    assert "\n" not in str(caught.value)
    return str(caught.value)


@pytest.mark.parametrize("name", ["rows.csv", "rows.tsv"])
@pytest.mark.parametrize("mark", MARKS)
def test_a_separator_that_gives_the_columns_is_read(tmp_path, mark, name):
    assert load(tmp_path, written(mark), name) == ROWS
    assert load(tmp_path, "\ufeff" + written(mark), name) == ROWS
    assert load(tmp_path, written(mark).replace("\n", "\r\n"), name) == ROWS


@pytest.mark.parametrize(
    ("given", "mark"), [("tab", "\t"), ("\\t", "\t"), (";", ";"), ("|", "|"), (":", ":"), ("bar", "|")]
)
def test_a_separator_can_be_forced(tmp_path, given, mark):
    assert load(tmp_path, written(mark), delimiter=given) == ROWS


def test_a_forced_separator_is_not_guessed_away(tmp_path):
    message = refused(tmp_path, written(";"), delimiter=",")
    assert "has no column 'text'" in message
    assert "its columns are text;label (each comma ends a cell; data.delimiter sets another separator)" in message


@pytest.mark.parametrize("mark", ["", ";;", '"', "\n", "ö", "\0", "spam"])
def test_what_separates_no_cells_is_refused(mark):
    with pytest.raises(DataError, match=r"delimiter: .* separates no cells: expected one character"):
        TextData("rows.csv", delimiter=mark)


@pytest.mark.parametrize("mark", [m for m in MARKS if m != ","])
def test_a_missing_column_is_listed_by_the_separator_that_fits_best(tmp_path, mark):
    message = refused(tmp_path, written(mark, head=("body", "label")))
    assert f"has no column 'text'; its columns are body, label (each {MARKS[mark]} ends a cell; " in message


@pytest.mark.parametrize("mark", MARKS)
def test_the_separator_is_named_where_a_row_has_too_many_cells(tmp_path, mark):
    message = refused(tmp_path, f"text{mark}label\na{mark}x\nb{mark}{mark}y\n")
    assert "row 2 (line 3) has 3 columns, expected 2" in message
    assert f"a {MARKS[mark]} out of place?" in message


def test_the_line_of_excel_that_names_the_separator_is_read(tmp_path):
    assert load(tmp_path, "sep=;\n" + written(";")) == ROWS
    assert load(tmp_path, "sep=:\r\n" + written(":")) == ROWS
    assert "row 2 (line 4), column 'label'" in refused(tmp_path, "sep=;\n" + written(";"), classes=["a", "c"])
    assert "(line 4) has 3 columns" in refused(tmp_path, "sep=;\ntext;label\na;x\nb;;y\n")


@pytest.mark.parametrize(
    ("option", "column"),
    [
        ("text", "data.text"),
        ("label", "data.label"),
        ("id", "data.id"),
        ("group", "data.group"),
        ("text_pair", "data.text_pair"),
    ],
)
@pytest.mark.parametrize("name", ["rows.csv", "rows.jsonl"])
def test_a_missing_column_says_which_option_names_it(tmp_path, option, column, name):
    content = written(",") if name == "rows.csv" else '{"text": "a", "label": "x"}'
    assert f"; {column} says which column to read" in refused(tmp_path, content, name, **{option: "nowhere"})


# -- quotes ------------------------------------------------------------------------------------------------------------


def test_quotes_of_a_tsv_file_are_text(tmp_path):
    rows = [('" it begins so', "1"), ("middle one", "0"), ('an inner " mark', "1"), ('"said"', "0"), ('ends "', "1")]
    content = "".join("\t".join(row) + "\n" for row in [("text", "label"), *rows])
    for name in ("rows.tsv", "rows.csv"):
        assert load(tmp_path, content, name) == rows
        assert load(tmp_path, content.replace("\n", "\r\n"), name) == rows


def test_rows_between_two_quotes_that_begin_and_end_cells_are_not_swallowed(tmp_path):
    rows = [('" it begins so', "1"), ("middle one", "0"), ('and ends so "', "1")]
    assert load(tmp_path, "".join("\t".join(row) + "\n" for row in [("text", "label"), *rows]), "rows.tsv") == rows


@pytest.mark.parametrize("quoting", [csv.QUOTE_MINIMAL, csv.QUOTE_ALL])
def test_a_tsv_file_that_quotes_its_cells_is_read_so(tmp_path, quoting):
    rows = [('she said "no"', "a"), ("two\nlines", "b"), ("a\ttab", "a")]
    assert load(tmp_path, written("\t", rows, quoting=quoting), "rows.tsv") == rows
    rows = [('she said "no"', "a"), ("plain", "b")]
    assert load(tmp_path, written("\t", rows, quoting=quoting), "rows.tsv") == rows


def test_a_tsv_file_with_quoted_texts_and_bare_numbers_is_read_as_quoted(tmp_path):
    assert load(tmp_path, 'text\tlabel\n"one two"\t1\n"three"\t0\n', "rows.tsv") == [("one two", "1"), ("three", "0")]


def test_a_tsv_file_that_contradicts_itself_is_refused_with_its_line(tmp_path):
    message = refused(tmp_path, 'text\tlabel\n"two\nlines"\ta\n" open\tb\n', "rows.tsv")
    assert message.startswith("rows.tsv" if message.startswith("rows") else str(tmp_path))
    assert "line 4: a quote is opened and not closed, but line 2 lacks a tab without" in message
    message = refused(tmp_path, 'text\tlabel\n"she said ""no"""\ta\n"said"\tb\nplain\tb\n', "rows.tsv")
    assert "line 3: a cell has quotes that it does not need, line 2 doubles them" in message


@pytest.mark.parametrize("mark", [",", ";", "|"])
@pytest.mark.parametrize(
    ("cells", "problem"),
    [
        (['" it begins so', "mid", 'an inner " mark'], "a quote is closed in the middle of a cell"),
        (["fine", '" it begins so', "mid"], "a quote is opened and not closed"),
        (['"x" he said', "mid"], "a quote is closed in the middle of a cell"),
    ],
)
def test_a_csv_file_whose_quotes_contradict_each_other_is_refused_with_its_line(tmp_path, mark, cells, problem):
    content = f"text{mark}label\n" + "".join(f"{cell}{mark}a\n" for cell in cells)
    line = 2 + next(i for i, cell in enumerate(cells) if cell.startswith('"'))
    assert f"line {line}: {problem}: is a quote or a {MARKS[mark]} out of place?" in refused(tmp_path, content)


def test_quotes_within_a_cell_are_text(tmp_path):
    assert load(tmp_path, 'text,label\na 5" disk,x\n"a ""b"", c",y\n') == [('a 5" disk', "x"), ('a "b", c', "y")]


def test_whatever_a_csv_writer_writes_has_no_contradiction(tmp_path):
    random.seed(0)
    for trial in range(200):
        rows = [["".join(random.choices('ab",;\t\n\r ', k=random.randrange(8))) for _ in range(3)] for _ in range(4)]
        for mark in ",;|":
            path = tmp_path / f"{trial}.csv"
            out = io.StringIO()
            csv.writer(out, delimiter=mark, quoting=random.choice([csv.QUOTE_MINIMAL, csv.QUOTE_ALL])).writerows(rows)
            path.write_bytes(out.getvalue().encode())
            assert contradiction(path, mark) is None, out.getvalue()


# -- encodings ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("encoding", ["utf-16", "utf-16-le", "utf-16-be", "utf-32", "utf-32-le", "utf-32-be"])
@pytest.mark.parametrize("name", ["rows.csv", "rows.tsv", "rows.jsonl", "rows.json"])
@pytest.mark.parametrize("text", ["hello world, this is a text", "\u4f60\u597d\u4e16\u754c" * 200])
def test_wide_encodings_are_called_by_their_name(tmp_path, encoding, name, text):
    content = {"csv": f"text,label\n{text},a\n", "tsv": f"text\tlabel\n{text}\ta\n", "jsonl": f'{{"text": "{text}"}}\n',
               "json": f'[{{"text": "{text}"}}]'}[name.split(".")[1]]  # fmt: skip
    expected = "UTF-" + encoding.split("-")[1]
    assert f"is not UTF-8; the file looks like {expected}" in refused(tmp_path, content.encode(encoding), name)


def test_texts_with_zeros_are_texts(tmp_path):
    rows = [("a\0b\0c", "x"), ("d", "y")]
    assert load(tmp_path, written(",", rows)) == rows


@pytest.mark.parametrize(
    "content",
    [b"PK\x03\x04zip", b"\x1f\x8bgzip", b"PAR1x", b"%PDF-1", b"SQLite format 3\0", bytes(range(256)) * 9, b"\0" * 99],
)
@pytest.mark.parametrize("name", ["rows.csv", "rows.tsv", "rows.jsonl", "rows.json", "rows.parquet"])
def test_binary_files_are_refused_in_one_line(tmp_path, content, name):
    assert len(refused(tmp_path, content, name)) < 600


@pytest.mark.parametrize("name", ["rows.csv", "rows.tsv"])
def test_names_of_columns_that_are_not_utf8_are_refused_with_their_line(tmp_path, name):
    mark = b"\t" if name.endswith("tsv") else b","
    assert "line 1, byte 6 (0xf6) is not UTF-8" in refused(tmp_path, b"text" + mark + b"\xf6\na" + mark + b"b\n", name)


def test_a_folder_from_before_the_option_holds_the_same_run(tmp_path):
    before = describe(TextData("a.csv"))
    del before["delimiter"]
    write_config(tmp_path, {"data": before}, kind="run")
    write_config(tmp_path, {"data": TextData("a.csv")}, kind="run")
    with pytest.raises(ConfigError, match=r"data\.delimiter is absent there and \";\" here"):
        write_config(tmp_path, {"data": TextData("a.csv", delimiter=";")}, kind="run")


# -- files that have no cells ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("path", ["rows.jsonl", "rows.json", "rows.parquet", "A.JSONL", "demo", "owner/name", "saved"])
def test_a_separator_for_a_file_without_cells_is_refused(path):
    with pytest.raises(DataError, match=f"^delimiter: {path} has no cells that it could separate") as caught:
        TextData(path, delimiter=";")
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(("path", "test"), [("rows.csv", "test.jsonl"), ("rows.jsonl", "test.csv"), ("ROWS.TSV", None)])
def test_a_separator_is_taken_where_one_of_the_files_has_cells(path, test):
    assert TextData(path, test=test, delimiter=";").delimiter == ";"


# -- carriage returns --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("content", "line"),
    [
        ("text\none\rtwo\nthree\n", 2),  # one column: two rows of one
        ("id,text,label\n1,x,a\n\r2,y,b\n", 3),  # an empty line, and an id without its first character
    ],
)
@pytest.mark.parametrize("name", ["rows.csv", "rows.tsv"])
def test_a_carriage_return_outside_of_quotes_is_refused(tmp_path, content, line, name):
    content = content.replace(",", "\t") if name == "rows.tsv" else content
    options = {} if "label" in content else {"label": None}
    assert f"line {line} holds a carriage return outside of quotes" in refused(tmp_path, content, name, **options)


def test_a_carriage_return_is_looked_for_outside_of_quotes(tmp_path):
    message = refused(tmp_path, 'id,text,label\r\n"1","x\ry",a\r\n2,z\r,b\r\n')
    assert "line 3 holds a carriage return outside of quotes" in message


@pytest.mark.parametrize("end", ["\n", "\r\n", "\r", "\r\r\n"])
def test_lines_may_end_with_carriage_returns_and_quotes_may_hold_them(tmp_path, end):
    content = end.join(["id,text,label", '1,"x\ry",a', "2,z,b", ""])
    assert load(tmp_path, content) == [("x\ry", "a"), ("z", "b")]
