"""Files and folders that a command does not get along with: one line, exit code 2, and nothing written."""

import os
import stat
from pathlib import Path

import pytest
from command import Command, asking, fill, running


@pytest.fixture
def dal(with_tickets: Command, tmp_path: Path) -> Command:
    (tmp_path / "file").write_text("x")
    (tmp_path / "empty").mkdir()
    os.mkfifo(tmp_path / "pipe")
    run = running(strategy="Random", baseline=None, start=10, rounds=0, report=False, quiet=True)
    return with_tickets.configured(pool=asking(), run=run)


@pytest.fixture
def asked(dal: Command) -> Command:
    assert dal("ask", "mine", "--config", "pool.yaml", "-n", 20, "-o", "todo.csv").code == 0
    fill(Path("todo.csv"), ["billing", "access"] * 10)
    assert dal("tell", "mine", "todo.csv").code == 0
    return dal


@pytest.fixture
def ran(asked: Command) -> Command:
    assert asked("run", "run.yaml", "--folder", "runs").code == 0
    compared = asked("compare", "run.yaml", "--strategies", "Random", "--folder", "grid")
    assert compared.code == 0, compared.err
    return asked


def everything(folder: Path) -> dict[str, bytes | str]:
    """Every file below a folder, but for the locks, with what it holds."""
    found: dict[str, bytes | str] = {}
    for path in sorted(folder.rglob("*")):
        if path.name != ".lock" and not path.name.endswith(("-wal", "-shm")):
            regular = stat.S_ISREG(path.lstat().st_mode)
            found[str(path.relative_to(folder))] = path.read_bytes() if regular else "no file"
    return found


def refuses(dal: Command, arguments: list[object], message: str) -> None:
    before = everything(Path())
    ended = dal(*arguments)
    assert (ended.code, ended.out) == (2, ""), ended
    (line,) = ended.messages
    assert line.startswith("dal: error: ")
    assert len(line) < 600
    assert message in line
    assert everything(Path()) == before


OUTPUTS = {
    "in a missing folder": ("nodir/q.csv", "there is no folder nodir"),
    "empty": ("", "is a folder"),
    "here": (".", "is a folder"),
    "a folder": ("empty", "is a folder"),
    "below a file": ("file/q.csv", "Not a directory"),
    "a pipe": ("pipe", "a pipe or a socket"),
    "too long": ("x" * 300, "File name too long"),
    "a null character": ("a\0b", "null"),
    "the config": ("pool.yaml", "is read by this command"),
    "the data": ("tickets.csv", "is read by this command"),
    "the data by another name": ("empty/../tickets.csv", "is read by this command"),
    "a config of ours": ("mine/config.yaml", ""),
    "the labels": ("mine/labels.db", ""),
}


@pytest.mark.parametrize("case", OUTPUTS, ids=[name.replace(" ", "_") for name in OUTPUTS])
def test_an_output_that_cannot_be_is_refused_before_a_folder_is_made(case: str, dal: Command) -> None:
    output, message = OUTPUTS[case]
    refuses(dal, ["ask", "mine", "--config", "pool.yaml", "-o", output, "--force"], message)
    assert not Path("mine").exists()


KEPT = ["config.yaml", "labels.db", "labels.db-wal", ".lock", "metrics.jsonl", "model/config.json", "checks/1.json"]


@pytest.mark.parametrize("command", ["ask", "estimate", "autolabel"])
def test_no_file_of_a_folder_and_no_data_is_written_over(command: str, asked: Command) -> None:
    more = {"autolabel": ["--max-error", 0.2]}.get(command, ["-n", 5])
    assert asked("estimate", "mine", "-n", 20, "-o", "check.csv", "--random").code == 0
    Path("link.csv").symlink_to("mine/labels.db")
    for name in [*(f"mine/{kept}" for kept in KEPT if Path("mine", kept).exists()), "link.csv"]:
        refuses(asked, [command, "mine", *more, "-o", name, "--force"], "is one of dal's own files")
    refuses(asked, [command, "mine", *more, "-o", "tickets.csv", "--force"], "is read by this command")
    refuses(asked, [command, "mine", *more, "-o", "nodir/x.csv"], "there is no folder nodir")


def test_a_database_is_never_written_over(asked: Command) -> None:
    Path("mine/labels.db").rename("other.sqlite")
    refuses(asked, ["ask", "mine", "-o", "other.sqlite", "--force"], "is one of dal's own files")


def test_a_merge_is_refused_where_it_cannot_be_written(asked: Command) -> None:
    refuses(asked, ["audit", "mine", "--merge", "nodir/x.csv"], "there is no folder nodir")
    refuses(asked, ["audit", "mine", "--merge", "mine/labels.db"], "is one of dal's own files")


def test_questions_can_be_written_into_the_folder_that_they_begin(dal: Command) -> None:
    assert dal("ask", "mine", "--config", "pool.yaml", "-n", 2, "-o", "mine/todo.csv").code == 0
    assert Path("mine/todo.csv").is_file()


@pytest.mark.parametrize("name", ["mine/" + "x" * 300, "mine/labels.db", "mine/a\0b"])
def test_what_could_not_be_written_into_a_new_folder_is_refused_before_it_is_made(name: str, dal: Command) -> None:
    refuses(dal, ["ask", "mine", "--config", "pool.yaml", "-o", name], "")
    assert not Path("mine").exists()


def test_an_output_keeps_its_mode_and_a_link_stays_a_link(dal: Command) -> None:
    Path("real.csv").write_text("old")
    Path("real.csv").chmod(0o600)
    Path("link.csv").symlink_to("real.csv")
    assert dal("ask", "mine", "--config", "pool.yaml", "-n", 2, "-o", "link.csv", "--force").code == 0
    assert Path("link.csv").is_symlink()
    assert stat.S_IMODE(Path("real.csv").stat().st_mode) == 0o600
    assert "label" in Path("real.csv").read_text(encoding="utf-8-sig")


FOLDERS = {
    "": "the name is empty",
    "file": "is a file, not a folder",
    "file/below": "file is a file",
    "x" * 300: "File name too long",
    "a\0b": "a\\x00b",
}


@pytest.mark.parametrize("folder", FOLDERS, ids=["empty", "a_file", "below_a_file", "too_long", "null"])
@pytest.mark.parametrize("command", ["ask", "tell", "estimate", "autolabel", "audit", "report", "run", "compare"])
def test_a_folder_that_cannot_be_is_refused(command: str, folder: str, dal: Command) -> None:
    arguments = {
        "ask": ["ask", folder, "--config", "pool.yaml"],
        "tell": ["tell", folder, "tickets.csv"],
        "autolabel": ["autolabel", folder, "--max-error", 0.1],
        "run": ["run", "run.yaml", "--folder", folder],
        "compare": ["compare", "run.yaml", "--strategies", "Random", "--folder", folder],
    }.get(command, [command, folder])
    if command in ("run", "compare") and not folder:
        return  # an empty value of a key is that of the config
    message = FOLDERS[folder] if folder != "file/below" or command in ("ask", "run", "compare") else "file/below"
    refuses(dal, arguments, message)


@pytest.mark.parametrize("folder", ["runs", "runs/Random-seed0", "grid", "grid/Random-seed0"])
def test_a_person_is_not_asked_from_the_folder_of_a_run(folder: str, ran: Command) -> None:
    refuses(ran, ["ask", folder, "-n", 2, "-o", "next.csv"], "need a folder of their own")
    refuses(ran, ["ask", folder, "--config", "pool.yaml", "-o", "next.csv"], "need a folder of their own")
    refuses(ran, ["tell", folder, "todo.csv"], "need a folder of their own")
    assert ran("estimate", folder, "-n", 10, "-o", "check.csv").code == 0


def test_a_run_is_not_begun_in_the_folder_of_another_command(ran: Command) -> None:
    refuses(ran, ["run", "--resume", "mine"], "mine belongs to `dal ask` and `dal tell`")
    refuses(ran, ["run", "--resume", "grid"], "grid belongs to `dal compare`")
    refuses(ran, ["run", "--resume", "grid/Random-seed0"], "is one strategy and seed of a run")
    refuses(ran, ["run", "run.yaml", "--folder", "mine"], "mine belongs to `dal ask` and `dal tell`")
    refuses(ran, ["compare", "--resume", "runs"], "holds no comparison")
    refuses(ran, ["compare", "--resume", "mine"], "holds no comparison")


def test_a_run_that_an_earlier_version_was_asked_from_can_be_estimated_again(ran: Command) -> None:
    Path("runs/labels.db").write_bytes(Path("mine/labels.db").read_bytes())
    assert ran("estimate", "runs", "-n", 10, "-o", "check.csv").code == 0


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("empty", "is a folder"),
        ("pipe", "is a device or a pipe"),
        ("gone.csv", "there is no such file"),
        ("x" * 300, "File name too long"),
        ("", "the name is empty"),
        ("tickets.csv", "label"),
    ],
)
@pytest.mark.parametrize("command", ["tell", "estimate"])
def test_a_file_of_answers_that_is_none_is_refused(command: str, name: str, message: str, asked: Command) -> None:
    if name == "tickets.csv":
        Path(name).write_text("id,text\nt1,x\n")
    refuses(asked, [command, "mine", name], message)


@pytest.mark.parametrize("count", [0, -1, "nan", 10**30])
def test_a_count_is_a_number_of_texts(count: object, dal: Command) -> None:
    ended = dal("ask", "mine", "--config", "pool.yaml", "-n", count, "-o", "todo.csv")
    assert ended.code == (0 if count == 10**30 else 2), ended.err
    assert len(ended.messages) <= 2


def test_a_class_that_no_cell_can_hold_is_refused_before_anything_is_stored(dal: Command) -> None:
    arguments = ["--data.multilabel", "true", "--data.classes", "[a|b, c]"]
    refuses(dal, ["ask", "mine", "--config", "pool.yaml", "-o", "q.csv", *arguments], "separates classes")
