"""`dal predict` with guarantees, on new texts and on those of the folder: who gets which text, and what is missing."""

import csv
import io
import re
from pathlib import Path

import pytest
from command import Command, asking, fill, read_rows, running, write_tickets

from dal.cli import main
from dal.store.spreadsheet import may_be_own

RUN = running(start=16, batch=10, rounds=0, report=False, baseline=None, quiet=True)
COLUMNS = ["id", "text", "label", "guess", "confidence", "decision"]


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a finished run in `runs/run`, half of whose 1,200 rows are held out, and `new.csv`."""
    folder = tmp_path_factory.mktemp("guaranteed")
    write_tickets(folder / "tickets.csv", 1200)
    write_tickets(folder / "new.csv", 300, seed=9)
    (folder / "run.yaml").write_text(RUN)
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        patch.setenv("DAL_CACHE", str(folder / "cache"))
        assert main(["run", "run.yaml", "--data.validation", "0.6", "--data.test", "0.1"]) == 0
    return folder


@pytest.mark.parametrize("share", ["0.2", ".2", "20%", " 20 %"])
def test_shares_are_numbers_or_percent(dal: Command, share: str) -> None:
    given = ("--max-error", share, "--min-recall", "shipping=90%", "--delta", "10%", "--dry-run")
    assert (
        dal("predict", "runs/run", *given).err
        == dal(
            "predict", "runs/run", "--max-error", 0.2, "--min-recall", "shipping=.9", "--delta", 0.1, "--dry-run"
        ).err
    )
    assert "not 'many'" in dal("predict", "runs/run", "--max-error", "many").err


@pytest.fixture
def dal(runs: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Command:
    monkeypatch.chdir(runs)
    return Command(capsys)


def table(text: str) -> list[dict[str, str]]:
    return list(csv.DictReader(io.StringIO(text)))


def test_new_texts_are_automatic_or_for_a_person_in_the_order_of_the_file(dal: Command) -> None:
    ended = dal("predict", "runs/run", "new.csv", "--max-error", 0.2)
    assert ended.code == 0, ended.err
    rows, given = table(ended.out), read_rows("new.csv")
    assert list(rows[0]) == COLUMNS
    assert may_be_own(COLUMNS, marked=False)
    assert [(row["id"], row["text"]) for row in rows] == [(row["id"], row["text"]) for row in given]
    truth = [row["label"] for row in given]
    alone = [row["decision"] == "automatic" for row in rows]
    assert 0 < sum(alone) < len(rows)
    for row, automatic in zip(rows, alone, strict=True):
        assert row["label"] == (row["guess"] if automatic else "")
    lowest = min(float(row["confidence"]) for row, automatic in zip(rows, alone, strict=True) if automatic)
    highest = max(float(row["confidence"]) for row, automatic in zip(rows, alone, strict=True) if not automatic)
    assert lowest >= highest
    wrong = sum(row["label"] != name for row, name, one in zip(rows, truth, alone, strict=True) if one)
    assert wrong / sum(alone) < 0.3
    assert "the guarantee is about texts like the held-out ones, and nothing tells whether those of the file are" in (
        ended.err
    )
    plain = table(dal("predict", "runs/run", "new.csv").out)
    assert [row["guess"] for row in rows] == [row["class"] for row in plain]
    assert [row["confidence"] for row in rows] == [row["confidence"] for row in plain]


def test_the_decision_about_a_text_does_not_depend_on_the_other_texts_of_the_file(dal: Command, tmp_path: Path) -> None:
    """One choice of a threshold has one guarantee, so every file gets the same one."""
    whole = {row["id"]: row for row in table(dal("predict", "runs/run", "new.csv", "--max-error", 0.2).out)}
    lines = Path("new.csv").read_text().splitlines()
    (tmp_path / "part.csv").write_text("\n".join([lines[0], *lines[50:60]]) + "\n")
    part = table(dal("predict", "runs/run", tmp_path / "part.csv", "--max-error", 0.2).out)
    assert part == [whole[row["id"]] for row in part]


def test_texts_of_a_class_are_predicted_or_sent_to_a_person(dal: Command) -> None:
    ended = dal("predict", "runs/run", "new.csv", "--min-recall", "shipping=0.9", "--delta", 0.1)
    assert ended.code == 0, ended.err
    assert "shipping: at least 0.9" in ended.err
    assert "of its texts are labeled shipping or sent to a person, with probability 0.9 (" in ended.err
    rows = table(ended.out)
    truth = [row["label"] for row in read_rows("new.csv")]
    assert all(row["decision"] == "automatic" for row in rows if row["guess"] == "shipping")
    assert 0 < sum(row["decision"] == "automatic" for row in rows) < len(rows)
    parcels = [row for row, name in zip(rows, truth, strict=True) if name == "shipping"]
    found = sum(row["guess"] == "shipping" or row["decision"] == "person" for row in parcels)
    assert found / len(parcels) > 0.8


def test_both_guarantees_together_allow_less_than_each(dal: Command) -> None:
    options = {"error": ["--max-error", 0.2], "recall": ["--min-recall", "billing=0.9", "--min-recall", "access=0.8"]}
    options["both"] = options["error"] + options["recall"]
    alone = {
        name: {row["id"] for row in table(dal("predict", "runs/run", *given).out) if row["decision"] == "automatic"}
        for name, given in options.items()
    }
    assert 0 < len(alone["both"]) <= min(len(alone["error"]), len(alone["recall"]))


def test_without_a_file_the_texts_of_the_folder_without_a_label_are_predicted(dal: Command, tmp_path: Path) -> None:
    ended = dal("predict", "runs/run", "-o", tmp_path / "rest.csv")
    assert (ended.code, ended.out) == (0, "")
    rows = read_rows(tmp_path / "rest.csv")
    assert list(rows[0]) == ["id", "class", "confidence"]
    old = dal("autolabel", "runs/run", "--max-error", 0.2, "-o", tmp_path / "old.csv")
    new = dal("predict", "runs/run", "--max-error", 0.2, "-o", tmp_path / "new.csv")
    assert (new.code, old.code) == (0, 0)
    assert (tmp_path / "new.csv").read_text() == (tmp_path / "old.csv").read_text()
    assert {row["id"] for row in rows} == {row["id"] for row in read_rows(tmp_path / "new.csv")}
    # The messages are those of the old name, on stderr.
    assert [line.removeprefix("dal: ") for line in new.messages[:-1]] == old.out.splitlines()[:-1]


def test_a_dry_run_of_predict_writes_nothing(dal: Command, runs: Path) -> None:
    before = sorted(runs.iterdir())
    ended = dal("predict", "runs/run", "--max-error", 0.2, "--dry-run", "-o", "never.csv")
    assert (ended.code, ended.out, "automatic: " in ended.err) == (0, "", True)
    assert sorted(runs.iterdir()) == before


@pytest.mark.parametrize(
    ("arguments", "parts"),
    [
        (
            ["--max-error", 0.001],
            ["takes at least 3,993 held-out labels", "part has 648: 3,345 are missing"],
        ),
        (["--min-recall", "billing=0.999"], ["at least 2,995 held-out labels of this class", "are missing"]),
        (["--min-recall", "biling=0.9"], ["there is no class 'biling'; did you mean 'billing'?"]),
        (["--min-recall", "0.9"], ["as in severe=0.95, not '0.9'"]),
        (["--min-recall", "billing=2"], ["as in severe=0.95"]),
        (["--min-recall", "billing=0.9", "--min-recall", "billing=0.8"], ["given twice for 'billing'"]),
        (["--max-error", 5], ["--max-error is a share between 0 and 1, such as .1 or 10%, not 5"]),
        (["--text", "body"], ["--text is about a file of new texts"]),
    ],
    ids=str,
)
def test_what_cannot_be_guaranteed_is_refused_in_one_line(
    dal: Command, arguments: list[object], parts: list[str]
) -> None:
    ended = dal("predict", "runs/run", *arguments)
    assert (ended.code, ended.out, len(ended.messages)) == (2, "", 1), ended
    for part in parts:
        assert part in ended.err


def test_missing_labels_are_counted_and_the_command_that_gets_them_is_true(dal: Command, tmp_path: Path) -> None:
    write_tickets(tmp_path / "tickets.csv", 500, labels=False, seed=1)
    truth = {row["id"]: row["label"] for row in read_rows(write_tickets(tmp_path / "truth.csv", 500, seed=1))}
    (tmp_path / "pool.yaml").write_text(asking().replace("tickets.csv", str(tmp_path / "tickets.csv")))
    mine, todo, sample = tmp_path / "mine", tmp_path / "todo.csv", tmp_path / "check.csv"
    assert dal("ask", mine, "--config", tmp_path / "pool.yaml", "-n", 60, "-o", todo).code == 0
    fill(todo, [truth[row["id"]] for row in read_rows(todo)])
    assert dal("tell", mine, todo).code == 0
    nothing = dal("predict", mine, "--max-error", 0.2)
    assert (nothing.code, "has no held-out labels" in nothing.err) == (2, True)
    assert dal("ask", mine, "--check", 15, "--random", "-o", sample).code == 0
    fill(sample, [truth[row["id"]] for row in read_rows(sample)])
    assert dal("tell", mine, sample).code == 0
    few = dal("predict", mine, "--max-error", 0.2)
    assert "takes at least 18 held-out labels" in few.err
    assert "the random sample has 15: 3 are missing" in few.err
    assert f"dal ask {mine} --check 50 --random -o check.csv, fill it in, dal tell {mine} check.csv" in few.err
    assert dal("ask", mine, "--check", 150, "--random", "-o", sample, "--force").code == 0
    drawn = read_rows(sample)
    fill(sample, ["" if place == 4 else truth[row["id"]] for place, row in enumerate(drawn)])
    assert dal("tell", mine, sample).code == 0
    gap = dal("predict", mine, "--max-error", 0.05)
    assert (gap.code, gap.err.count("are missing; ")) == (2, 1)
    assert f"145 answers of check 2 do not count, since the text {drawn[4]['id']!r} ({drawn[4]['text'][:20]}" in gap.err
    assert "number 5 of 150 in the order of drawing, has no answer: answer it in the file of the check" in gap.err
    assert f"then `dal tell {mine} check.csv`" in gap.err
    assert "145 answers of check 2 do not count" in dal("predict", mine, "--max-error", 0.5).err
    (tmp_path / "one.csv").write_text(f"id,label\n{drawn[4]['id']},{truth[drawn[4]['id']]}\n")
    assert dal("tell", mine, tmp_path / "one.csv").code == 0
    ended = dal("predict", mine, "--max-error", 0.5, "--min-recall", "billing=0.7", "-o", tmp_path / "out.csv")
    assert ended.code == 0, ended.err
    rows = re.search(r"held out: (\d+) rows of the random sample", ended.err)
    assert rows
    assert 150 <= int(rows[1]) <= 165  # some texts were drawn twice
    assert "automatic" in {row["decision"] for row in read_rows(tmp_path / "out.csv")}


def test_multilabel_texts_of_a_class_are_found(dal: Command, tmp_path: Path) -> None:
    with (tmp_path / "multi.csv").open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(["id", "text", "label"])
        for row in read_rows("tickets.csv"):
            late = ["late"] if "delayed" in row["text"] or "late" in row["text"] else []
            names = [*([] if row["label"] == "feedback" else [row["label"]]), *late]
            writer.writerow([row["id"], row["text"], ";".join(names) or ";"])
    options = ["--data.path", tmp_path / "multi.csv", "--data.multilabel", "true", "--data.validation", 0.6]
    ended = dal("run", "run.yaml", *options, "--data.test", 0.1, "--folder", tmp_path / "run", "--strategy", "Random")
    assert ended.code == 0, ended.err
    ended = dal("predict", tmp_path / "run", "--min-recall", "late=0.8")
    assert ended.code == 0, ended.err
    rows, truth = table(ended.out), {row["id"]: row["label"] for row in read_rows(tmp_path / "multi.csv")}
    late = [row for row in rows if "late" in truth[row["id"]].split(";")]
    found = [row for row in late if "late" in row["guess"].split("|") or row["decision"] == "person"]
    assert len(found) / len(late) > 0.7
    assert {row["decision"] for row in rows} == {"automatic", "person"}
