"""`dal estimate`: draw, answer, read; what is kept, and what becomes a label."""

import json
import re
from pathlib import Path

import pytest
from command import Command, asking, fill, probe, read_rows, write_tickets


@pytest.fixture
def dal(with_tickets: Command, tiny_bert: Path) -> Command:
    """A folder `mine` with 40 labels."""
    write_tickets(Path("tickets.csv"), 300)
    command = with_tickets.configured(pool=asking(probe(tiny_bert)))
    assert command("ask", "mine", "--config", "pool.yaml", "-n", 40, "-o", "todo.csv").code == 0
    answer("todo.csv")
    assert command("tell", "mine", "todo.csv").code == 0
    return command


def answer(path: str, only: int | None = None) -> None:
    """Fill in the true labels of all or of the first rows."""
    truth = {row["id"]: row["label"] for row in read_rows("tickets.csv")}
    asked = read_rows(path)
    fill(Path(path), [truth[row["id"]] if only is None or i < only else "" for i, row in enumerate(asked)])


def labels(command: Command) -> str:
    """What the folder says of its labels, by a sheet that changes nothing."""
    Path("empty.csv").write_text("id,label\n")
    return command("tell", "mine", "empty.csv").out


def test_estimate_is_made_of_the_answers_and_of_the_probabilities_that_were_kept(dal: Command) -> None:
    drawn = dal("estimate", "mine", "-n", 80, "-o", "check.csv")
    assert drawn.code == 0
    assert "80 of 260 texts without a label were drawn to check the model of 40 labels" in drawn.err
    assert list(read_rows("check.csv")[0]) == ["id", "text", "label"]
    before = labels(dal)
    answer("check.csv")
    ended = dal("estimate", "mine", "check.csv")
    renamed = "dal: `dal estimate` is now `dal tell mine check.csv`; the next version drops the old name"
    assert (ended.code, ended.messages) == (0, [renamed])
    found = re.match(
        r"accuracy ([\d.]+), 95 % interval ([\d.]+) to ([\d.]+): the model of 40 labels, on the 260", ended.out
    )
    assert found, ended.out
    value, low, high = map(float, found.groups())
    kept = json.loads(Path("mine/checks/1.json").read_text())
    assert kept["ids"] == [row["id"] for row in read_rows("check.csv")]
    truth = {row["id"]: row["label"] for row in read_rows("tickets.csv")}
    wrong = [truth[name] != guess for name, guess in zip(kept["ids"], kept["guesses"], strict=True)]
    weights = [
        1 + (260 - 80) / (260 - m) * (1 / ((260 - m + 1) * q) - 1) for m, q in enumerate(kept["probabilities"], 1)
    ]
    assert value == pytest.approx(1 - sum(w * v for w, v in zip(wrong, weights, strict=True)) / 80, abs=5e-4)
    assert low < value < high
    assert f"the plain average of these answers is {1 - sum(wrong) / 80:.3f}" in ended.out
    assert labels(dal) == before


def test_answers_count_from_the_top_and_the_rest_waits(dal: Command) -> None:
    dal("estimate", "mine", "-n", 60)
    answer("check.csv", only=55)
    sheet = read_rows("check.csv")
    truth = {row["id"]: row["label"] for row in read_rows("tickets.csv")}
    values = [row["label"] for row in sheet]
    values[52], values[59] = "", truth[sheet[59]["id"]]
    fill(Path("check.csv"), values)
    ended = dal("estimate", "mine", "check.csv")
    assert "from 52 answers" in ended.out
    assert f"3 answers of check 1 do not count, since the text '{sheet[52]['id']}'" in ended.err
    assert "number 53 of 60 in the order of drawing, has no answer" in ended.err
    fill(Path("check.csv"), ["", "", truth[sheet[52]["id"]][:3]])
    answer("check.csv")
    assert "from 60 answers" in dal("estimate", "mine", "check.csv").out


def test_a_declined_text_counts_as_an_error_and_that_is_said(dal: Command) -> None:
    dal("estimate", "mine", "-n", 50)
    answer("check.csv")
    first = dal("estimate", "mine", "check.csv").out
    fill(Path("check.csv"), [*[row["label"] for row in read_rows("check.csv")][:49], "skip"])
    ended = dal("estimate", "mine", "check.csv")
    assert "texts that were declined count as errors (1)" in ended.err
    assert float(ended.out.split()[1].rstrip(",")) <= float(first.split()[1].rstrip(","))


def test_answers_become_labels_only_when_told(dal: Command) -> None:
    dal("estimate", "mine", "-n", 50)
    answer("check.csv")
    ended = dal("estimate", "mine", "check.csv", "--keep", "--who", "ann")
    assert "50 answers are now labels: the next model is trained on them, so they cannot evaluate it" in ended.err
    assert "90 have a label" in labels(dal)
    again = dal("estimate", "mine", "check.csv")
    assert again.out == ended.out
    assert "this is the accuracy of the model at that time" in again.err


def test_every_draw_is_another_one_and_answers_find_theirs(dal: Command) -> None:
    dal("estimate", "mine", "-n", 50, "-o", "first.csv")
    dal("estimate", "mine", "-n", 50, "-o", "second.csv", "--random")
    assert [row["id"] for row in read_rows("first.csv")] != [row["id"] for row in read_rows("second.csv")]
    answer("first.csv")
    answer("second.csv")
    assert "the plain average" in dal("estimate", "mine", "first.csv").out
    assert "the plain average" not in dal("estimate", "mine", "second.csv").out
    assert json.loads(Path("mine/checks/2.json").read_text())["uniform"] == 1


def test_a_draw_does_not_change_what_is_asked_next(dal: Command) -> None:
    Path("copy").mkdir()
    dal("estimate", "mine", "-n", 50)
    dal("ask", "mine", "-n", 10, "-o", "next.csv")
    with_draw = [row["id"] for row in read_rows("next.csv")]
    dal("ask", "other", "--config", "pool.yaml", "-n", 40, "-o", "other.csv")
    answer("other.csv")
    dal("tell", "other", "other.csv")
    dal("ask", "other", "-n", 10, "-o", "after.csv")
    assert with_draw == [row["id"] for row in read_rows("after.csv")]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["mine", "todo.csv"], "has no sample to check a model by"),
        (["mine", "nothing.csv"], "nothing.csv: there is no such file"),
        (["mine", "--keep"], "--keep and --who are for reading"),
        (["mine", "todo.csv", "-n", "5"], "for drawing a new sample"),
        (["mine", "-n", "1"], "-n must be at least 2"),
        (["mine", "-o", "todo.csv"], "already exists and may contain answers"),
        (["mine", "-o", "nowhere/check.csv"], "there is no folder nowhere"),
    ],
)
def test_what_makes_no_sense_is_refused_in_one_line(arguments: list[str], message: str, dal: Command) -> None:
    ended = dal("estimate", *arguments)
    assert (ended.code, len(ended.messages)) == (2, 1)
    assert message in ended.messages[0]
    assert not Path("mine/checks").exists()


def test_rows_that_were_not_drawn_are_refused(dal: Command) -> None:
    dal("estimate", "mine", "-n", 50)
    ended = dal("estimate", "mine", "check.csv")
    assert "check.csv has no answers yet" in ended.err
    stranger = next(
        iter({row["id"] for row in read_rows("tickets.csv")} - {row["id"] for row in read_rows("check.csv")})
    )
    Path("other.csv").write_text(f"id,label\n{stranger},billing\n")
    ended = dal("estimate", "mine", "other.csv")
    assert (ended.code, f"the row '{stranger}' was not drawn" in ended.err) == (2, True)
    assert json.loads(Path("mine/checks/1.json").read_text())["answers"] == {}


def test_a_damaged_record_is_named(dal: Command) -> None:
    dal("estimate", "mine", "-n", 50)
    Path("mine/checks/1.json").write_text("{")
    answer("check.csv")
    ended = dal("estimate", "mine", "check.csv")
    assert (ended.code, "mine/checks/1.json cannot be read" in ended.err) == (2, True)


def test_answers_to_a_run_cannot_be_kept(dal: Command) -> None:
    arguments = ["--data.label", "label", "--data.test", 0.2, "--start", 20, "--rounds", 0, "--baseline", "null"]
    assert dal("run", "pool.yaml", *arguments, "--folder", "run", "--quiet", "true", "--report", "false").code == 0
    assert dal("estimate", "run", "-n", 50).code == 0
    answer("check.csv")
    assert "on the 220 texts" in dal("estimate", "run", "check.csv").out
    ended = dal("estimate", "run", "check.csv", "--keep")
    assert (ended.code, "belongs to a run" in ended.err) == (2, True)
