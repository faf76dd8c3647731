"""`dal ask --check` and `dal tell`: an estimate of the accuracy that stores no label, and files that have mistakes."""

from pathlib import Path

import pytest
from command import Command, asking, fill, read_rows, write_tickets


@pytest.fixture
def dal(with_tickets: Command) -> Command:
    """A folder `mine` with 40 labels."""
    write_tickets(Path("tickets.csv"), 300)
    command = with_tickets.configured(pool=asking())
    assert command("ask", "mine", "--config", "pool.yaml", "-n", 40).code == 0
    answer("todo.csv")
    assert command("tell", "mine", "todo.csv").code == 0
    return command


def answer(path: str) -> None:
    """Fill in the true labels."""
    truth = {row["id"]: row["label"] for row in read_rows("tickets.csv")}
    fill(Path(path), [truth[row["id"]] for row in read_rows(path)])


def labels(command: Command) -> str:
    """What the folder says of its labels, by a sheet that changes nothing."""
    Path("empty.csv").write_text("id,label\n")
    return command("tell", "mine", "empty.csv").out


def test_a_check_is_recognized_by_its_ids_and_stores_no_label(dal: Command) -> None:
    drawn = dal("ask", "mine", "--check", 60)
    assert (drawn.code, drawn.messages) == (0, [drawn.messages[0]])
    assert "60 of 260 texts without a label were drawn" in drawn.err
    assert "fill in check.csv from the top, then: dal tell mine check.csv" in drawn.err
    before = labels(dal)
    answer("check.csv")
    told = dal("tell", "mine", "check.csv")
    assert (told.code, told.messages) == (0, [])
    assert told.out.startswith("accuracy 0.")
    assert labels(dal) == before
    old = dal("estimate", "mine", "check.csv")
    assert old.out == told.out
    renamed = "dal: `dal estimate` is now `dal tell mine check.csv`; the next version drops the old name"
    assert old.messages == [renamed]


def test_a_check_is_kept_only_when_told_and_read_again(dal: Command) -> None:
    dal("ask", "mine", "--check", 50, "--random", "-o", "check.csv")
    answer("check.csv")
    told = dal("tell", "mine", "check.csv", "--keep", "--who", "ann")
    assert "50 answers are now labels" in told.err
    assert "90 have a label" in labels(dal)
    assert dal("tell", "mine", "check.csv").out == told.out


def test_a_part_of_a_check_is_recognized_and_a_todo_file_is_not(dal: Command) -> None:
    dal("ask", "mine", "--check", 200)
    answer("check.csv")
    lines = Path("check.csv").read_text().splitlines(keepends=True)
    Path("part.csv").write_text("".join(lines[:61]))
    assert "from 60 answers" in dal("tell", "mine", "part.csv").out
    dal("ask", "mine", "-n", 30, "-o", "next.csv")
    drawn = {row["id"] for row in read_rows("check.csv")}
    assert len(drawn & {row["id"] for row in read_rows("next.csv")}) > 15  # most of them
    answer("next.csv")
    assert "30 new answers stored" in dal("tell", "mine", "next.csv").out
    assert "30 were already stored" in dal("tell", "mine", "next.csv").out


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["ask", "mine", "--check", 1], "--check must be at least 2, not 1"),
        (["ask", "mine", "--check", 60, "-n", 5], "leave -n out"),
        (["ask", "mine", "--check", 60, "-o", "-"], "name it with -o"),
        (["ask", "mine", "--check", 60, "--config", "pool.yaml"], "leave --config out"),
        (["ask", "mine", "--check", 60, "--strategy", "Random"], "leave --strategy out"),
        (["ask", "mine", "--random"], "--random needs --check N"),
        (["ask", "mine", "--cell", "a"], "--cell needs --check N"),
        (["tell", "mine", "todo.csv", "--keep"], "--keep is for a file of `dal ask mine --check`"),
        (["tell", "mine", "todo.csv", "--cell", "x"], "--cell x: mine is itself one cell"),
    ],
    ids=str,
)
def test_options_that_make_no_sense_are_refused(dal: Command, arguments: list[object], message: str) -> None:
    ended = dal(*arguments)
    assert (ended.code, len(ended.messages)) == (2, 1), ended
    assert message in ended.err
    assert not Path("mine/checks").exists()


# -- files with mistakes ---------------------------------------------------------------------------------------------


def test_right_lines_are_stored_and_wrong_ones_written_with_the_reason(dal: Command) -> None:
    dal("ask", "mine", "-n", 6, "-o", "next.csv")
    answer("next.csv")
    asked = read_rows("next.csv")
    values = [row["label"] for row in asked]
    right, other = values[0], next(row["label"] for row in read_rows("tickets.csv") if row["label"] != values[0])
    fill(Path("next.csv"), ["biling", *values[1:]])
    lines = Path("next.csv").read_text().splitlines(keepends=True)
    # A second line for the second text, with another answer; and an answer to a text that was not asked.
    stranger = next(row for row in read_rows("tickets.csv") if row["id"] not in {r["id"] for r in asked + todo()})
    double = {name: asked[1][name] for name in ("id", "text")}
    wrong = next(name for name in (right, other) if name != values[1])
    more = [f"{double['id']},{double['text']},{wrong}\n", f"{stranger['id']},{stranger['text']},{right}\n"]
    head = lines[0].count(",")
    Path("next.csv").write_text("".join([*lines, *(line if head == 2 else line.replace(",", ",", 1) for line in more)]))
    refused = dal("tell", "mine", "next.csv")
    assert (refused.code, "nothing was stored" in refused.err) == (2, True)
    ended = dal("tell", "mine", "next.csv", "--partial")
    assert ended.code == 0, ended.err
    assert ended.out.startswith("4 new answers stored")
    assert "4 lines are wrong: see the column why of next.rest.csv" in ended.err
    rest = read_rows("next.rest.csv")
    assert [row["id"] for row in rest] == [asked[0]["id"], asked[1]["id"], asked[1]["id"], stranger["id"]]
    assert list(rest[0])[-1] == "why"
    assert "'biling' is not a class, did you mean 'billing'?" in rest[0]["why"]
    assert "another line has a different answer" in rest[1]["why"]
    assert "contradicts" in rest[2]["why"]
    assert "was not asked" in rest[3]["why"]
    again = dal("tell", "mine", "next.csv", "--partial")
    assert (again.code, "next.rest.csv already exists and may contain answers" in again.err) == (2, True)
    rest = [dict(row, label=right if i == 0 else values[1]) for i, row in enumerate(rest[:2])]
    columns = [name for name in rest[0] if name != "why"]
    Path("next.rest.csv").write_text(
        "\n".join([",".join([*columns, "why"]), *(",".join([*(row[c] for c in columns), "x"]) for row in rest)]) + "\n"
    )
    assert "2 new answers stored" in dal("tell", "mine", "next.rest.csv").out


def todo() -> list[dict[str, str]]:
    return read_rows("todo.csv")


def test_a_file_without_mistakes_leaves_no_rest(dal: Command) -> None:
    dal("ask", "mine", "-n", 6, "-o", "next.csv")
    answer("next.csv")
    assert dal("tell", "mine", "next.csv", "--partial").out.startswith("6 new answers stored")
    assert not Path("next.rest.csv").exists()


def test_a_check_is_not_read_in_part(dal: Command) -> None:
    dal("ask", "mine", "--check", 50)
    answer("check.csv")
    ended = dal("tell", "mine", "check.csv", "--partial")
    assert (ended.code, "is read from the top" in ended.err) == (2, True)
