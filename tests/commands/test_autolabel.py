"""`dal autolabel`, the old name of `dal predict --max-error`: what is written, for whom, and what is refused."""

import csv
import re
from pathlib import Path

import pytest
from command import Command, Finished, fill, read_rows, write_tickets

from dal.cli import main
from dal.store.folder_lock import Lock
from dal.store.spreadsheet import may_be_own

MAX_ERROR = 0.25
RENAMED = "dal: `dal autolabel` is now `dal predict runs/run --max-error 0.25`; the next version drops the old name"
RUN = """\
data: {path: tickets.csv, id: id, test: 0.1, validation: 0.5}
learner: {ProbeLearner: {model: MODEL, max_length: 16}}
strategy: Margin
start: 250
batch: 50
rounds: 1
seeds: [3]
report: false
quiet: true
"""


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory, tiny_bert: Path) -> Path:
    """A folder with `runs/run`, a finished run with labels that are easily learnt, and its config."""
    folder = tmp_path_factory.mktemp("autolabel")
    write_tickets(folder / "tickets.csv", 1200)
    (folder / "run.yaml").write_text(RUN.replace("MODEL", str(tiny_bert)))
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        patch.setenv("DAL_CACHE", str(folder / "cache"))
        assert main(["run", "run.yaml"]) == 0
    return folder


@pytest.fixture
def dal(runs: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Command:
    monkeypatch.chdir(runs)
    return Command(capsys)


def numbers(ended: Finished, pattern: str) -> list[float]:
    found = re.search(pattern, ended.out)
    assert found, ended
    return [float(x) for x in found.groups()]


def test_every_row_without_a_label_is_decided_and_the_hidden_labels_judge_it(dal: Command, tmp_path: Path) -> None:
    ended = dal("autolabel", "runs/run", "--max-error", MAX_ERROR, "-o", tmp_path / "labels.csv")
    assert (ended.code, ended.messages) == (0, [RENAMED])
    written = read_rows(tmp_path / "labels.csv")
    assert may_be_own(list(written[0]), marked=False)
    automatic, of = numbers(ended, r"automatic: (\d+) of (\d+) texts")
    assert len(written) == of == 1200 - 120 - 540 - 300
    alone = [row for row in written if row["decision"] == "automatic"]
    assert len(alone) == automatic > 0
    truth = {row["id"]: row["label"] for row in read_rows(Path("tickets.csv"))}
    wrong = sum(truth[row["id"]] != row["label"] for row in alone) / len(alone)
    assert numbers(ended, r"hidden from this run, ([\d.]+)") == [pytest.approx(wrong, abs=5e-5)]
    [least] = numbers(ended, r"from a confidence of ([\d.]+) on")
    for row in written:
        assert (row["decision"] == "automatic") == (float(row["confidence"]) >= least - 5e-5)
        assert row["label"] == (row["guess"] if row["decision"] == "automatic" else "")
    sure = [float(row["confidence"]) for row in written]
    assert sure == sorted(sure, reverse=True)


def test_the_cell_is_said_and_can_be_chosen(dal: Command) -> None:
    first = dal("autolabel", "runs/run", "--max-error", MAX_ERROR, "--dry-run")
    assert first.out.startswith("runs/run/Margin-seed3: the model of 300 labels")
    assert first.out == dal("autolabel", "runs/run/Margin-seed3", "--max-error", MAX_ERROR, "--dry-run").out
    other = dal("autolabel", "runs/run", "--max-error", MAX_ERROR, "--dry-run", "--cell", "Random-seed3")
    assert other.out.startswith("runs/run/Random-seed3: ")
    wrong = dal("autolabel", "runs/run", "--max-error", MAX_ERROR, "--cell", "Random-seed4")
    assert "no cell 'Random-seed4', did you mean Random-seed3?" in wrong.err
    nested = dal("autolabel", "runs/run/Margin-seed3", "--max-error", MAX_ERROR, "--cell", "Random-seed3", "--dry-run")
    assert "is itself one cell" in nested.err


def test_a_dry_run_writes_nothing(dal: Command, runs: Path) -> None:
    before = sorted(runs.iterdir())
    assert dal("autolabel", "runs/run", "--max-error", MAX_ERROR, "--dry-run").code == 0
    assert sorted(runs.iterdir()) == before


def test_too_strict_an_error_sends_all_to_a_person_and_says_what_it_takes(dal: Command, tmp_path: Path) -> None:
    ended = dal("autolabel", "runs/run", "--max-error", 0.001, "-o", tmp_path / "labels.csv")
    assert ended.code == 0
    assert "at least 2,995 held-out labels" in ended.out
    assert "automatic: 0 of 240" in ended.out
    assert {row["decision"] for row in read_rows(tmp_path / "labels.csv")} == {"person"}


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--max-error", "5"], "--max-error is a share between 0 and 1, such as .1 or 10%, not 5"),
        (["--max-error", "0.1", "--delta", "0"], "--delta is a share"),
        (["--max-error", "0.1", "-o", "tickets.csv"], "tickets.csv already exists"),
        (["--max-error", "0.1", "-o", "nowhere/labels.csv"], "there is no folder nowhere"),
        ([], "--max-error"),
    ],
)
def test_options_that_make_no_sense_are_refused_at_once(arguments: list[str], message: str, dal: Command) -> None:
    ended = dal("autolabel", "runs/run", *arguments)
    assert (ended.code, ended.err.count("\n")) == (2, 1)
    assert message in ended.err


def test_a_folder_without_a_model_is_refused(dal: Command, tmp_path: Path) -> None:
    assert "there is no folder" in dal("autolabel", tmp_path / "none", "--max-error", MAX_ERROR).err
    assert "has no config.yaml" in dal("autolabel", tmp_path, "--max-error", MAX_ERROR).err
    (tmp_path / "config.yaml").write_text(Path("runs/run/config.yaml").read_text())
    ended = dal("autolabel", tmp_path, "--max-error", MAX_ERROR)
    assert (ended.code, "holds no answers yet" in ended.err) == (2, True)


def test_without_a_validation_part_the_test_is_used_up_and_that_is_said(dal: Command) -> None:
    arguments = ["--data.validation", "0", "--data.test", "0.5", "--folder", "runs/test", "--baseline", "null"]
    assert dal("run", "run.yaml", *arguments).code == 0
    ended = dal("autolabel", "runs/test", "--max-error", MAX_ERROR, "--dry-run")
    assert "600 rows of the test part" in ended.out
    assert "the test labels chose the threshold" in ended.err


def test_a_pool_without_held_out_labels_is_refused_and_a_random_sample_helps(dal: Command, tmp_path: Path) -> None:
    write_tickets(tmp_path / "bare.csv", 700, labels=False, seed=1)
    truth = {row["id"]: row["label"] for row in read_rows(write_tickets(tmp_path / "truth.csv", 700, seed=1))}
    data = ["--data.path", tmp_path / "bare.csv", "--data.label", "null", "--data.test", "null"]
    data += ["--data.validation", "0", "--data.classes", "[access,billing,feedback,shipping]"]
    mine, todo, sample = tmp_path / "mine", tmp_path / "todo.csv", tmp_path / "sample.csv"
    assert dal("ask", mine, "--config", "run.yaml", *data, "-n", 60, "-o", todo).code == 0
    fill(todo, [truth[row["id"]] for row in read_rows(todo)])
    assert dal("tell", mine, todo).code == 0
    refused = dal("autolabel", mine, "--max-error", MAX_ERROR, "--dry-run")
    assert refused.code == 2
    command = re.search(r"dal (ask \S+ --check \d+ --random) -o check.csv", refused.err)
    assert command, refused.err
    drawing = command[1].split()
    drawing[3] = "200"
    assert dal(*drawing, "-o", sample).code == 0
    fill(sample, [truth[row["id"]] for row in read_rows(sample)])
    assert dal("estimate", mine, sample).code == 0
    ended = dal("autolabel", mine, "--max-error", MAX_ERROR, "-o", tmp_path / "labels.csv")
    assert "200 rows of the random sample" in ended.out, ended
    written = read_rows(tmp_path / "labels.csv")
    assert len(written) == 700 - 60 - 200
    assert not {row["id"] for row in written} & {row["id"] for row in read_rows(sample)}


def test_multilabel_rows_are_decided_whole(dal: Command, tmp_path: Path) -> None:
    texts = read_rows(Path("tickets.csv"))
    with (tmp_path / "multi.csv").open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(["id", "text", "label"])
        for row in texts:
            late = ["=late"] if "delayed" in row["text"] or "late" in row["text"] else []
            names = [*([] if row["label"] == "feedback" else [row["label"]]), *late]
            writer.writerow([row["id"], row["text"], ";".join(names) or ";"])  # nothing but a separator: none of them
    arguments = ["--data.path", tmp_path / "multi.csv", "--data.multilabel", "true", "--baseline", "null"]
    # The head of version 0.1 scales up coordinates that vary little, by which this random encoder tells texts apart.
    arguments += ["--learner.head", "null"]
    ended = dal("run", "run.yaml", *arguments, "--strategy", "Random", "--folder", tmp_path / "run")
    assert ended.code == 0, ended.err
    ended = dal("autolabel", tmp_path / "run", "--max-error", 0.3, "-o", tmp_path / "labels.csv")
    assert ended.code == 0, ended.err
    written = read_rows(tmp_path / "labels.csv")
    guesses = {row["guess"] for row in written}
    assert {"none", "'=late|shipping"} <= guesses
    assert not [guess for guess in guesses if guess.startswith("=")]
    truth = {row["id"]: set(row["label"].split(";")) - {""} for row in read_rows(tmp_path / "multi.csv")}
    alone = [row for row in written if row["decision"] == "automatic"]
    found = [set(row["label"].lstrip("'").split("|")) - {"none"} for row in alone]
    wrong = [truth[row["id"]] != names for row, names in zip(alone, found, strict=True)]
    assert numbers(ended, r"hidden from this run, ([\d.]+)") == [pytest.approx(sum(wrong) / len(wrong), abs=5e-5)]


def test_a_comparison_and_a_cell_that_was_moved_are_read(dal: Command, tmp_path: Path) -> None:
    folder = tmp_path / "grid"
    grid = ["run.yaml", "--strategies", "Entropy,Margin", "--seeds", "[3]", "--baseline", "null", "--rounds", 0]
    assert dal("compare", *grid, "--folder", folder).code == 0
    ended = dal("autolabel", folder, "--max-error", MAX_ERROR, "--dry-run")
    assert ended.out.startswith(f"{folder}/Entropy-seed3: the model of 250 labels"), ended
    (folder / "Margin-seed3").rename(tmp_path / "moved")
    moved = dal("autolabel", tmp_path / "moved", "--max-error", MAX_ERROR, "--dry-run")
    assert moved.out.startswith(f"{tmp_path / 'moved'}: the model of 250 labels"), moved
    gone = dal("autolabel", folder, "--max-error", MAX_ERROR, "--dry-run", "--cell", "Margin-seed3")
    assert (gone.code, "holds no answers yet" in gone.err) == (2, True)


def test_a_folder_that_is_in_use_is_read(dal: Command) -> None:
    lock = Lock(Path("runs/run/Margin-seed3"))
    ended = dal("autolabel", "runs/run", "--max-error", MAX_ERROR, "--dry-run")
    lock.release()
    assert (ended.code, "automatic: " in ended.out) == (0, True)


def test_a_stopping_rule_that_reads_the_validation_rows_is_told(dal: Command, tmp_path: Path) -> None:
    arguments = ["--stop", "{Plateau: {}}", "--baseline", "null", "--rounds", 0, "--folder", tmp_path / "run"]
    assert dal("run", "run.yaml", *arguments).code == 0
    ended = dal("autolabel", tmp_path / "run", "--max-error", MAX_ERROR, "--dry-run")
    assert "the stopping rule also used the validation rows" in ended.err
