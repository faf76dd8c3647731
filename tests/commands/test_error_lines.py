"""What files and the machine cause ends as one line with exit code 2; a mistake in the program with exit code 1."""

import errno
import json
import os
import socket
import sqlite3
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from command import Command, running

from dal.cli import COMMANDS
from dal.commands.error_lines import describe_failure
from dal.commands.terminal import escape_message


@pytest.fixture
def dal(with_tickets: Command) -> Command:
    return with_tickets.configured(run=running(start=6, batch=4, rounds=1, report=False))


def deep() -> None:
    deep()


def fails(error: Exception) -> None:
    raise error


def raised(call: object, *arguments: object) -> Exception:
    try:
        call(*arguments)  # type: ignore[operator]
    except Exception as error:
        return error
    raise AssertionError


@pytest.mark.parametrize(
    ("error", "said"),
    [
        (raised(open, "no/such/file"), "no/such/file: No such file or directory"),
        (raised(open, "/" + "a" * 5000), "File name too long"),
        (raised(open, "a\0b"), "a name with a NUL character"),
        (raised(b"\xff".decode), "not utf-8 text: byte 1 cannot be read"),
        (raised("\udce9".encode), "'\\udce9' cannot be written as utf-8"),
        (raised(deep), "nested too deep"),
        (raised(fails, MemoryError()), "memory"),
        (raised(fails, RuntimeError("DefaultCPUAllocator: can't allocate memory")), "memory"),
        (raised(json.loads, "{"), "cannot be read: Expecting"),
        (raised(fails, sqlite3.DatabaseError("file is not a database")), "cannot be read: file is not a database"),
        (raised(fails, OSError(errno.ENOSPC, "No space left on device")), "No space left on device"),
        (raised(fails, PermissionError(errno.EACCES, "Permission denied", b"\xe9")), "\\xe9: Permission denied"),
    ],
)
def test_a_trouble_is_told_in_one_line(error: Exception, said: str) -> None:
    told = describe_failure(error)
    assert told is not None
    assert said in told
    assert len(told) < 600


@pytest.mark.parametrize("error", [ValueError("no"), KeyError("x"), AssertionError(), TypeError("y"), IndexError()])
def test_a_mistake_in_the_program_is_no_trouble(error: Exception) -> None:
    assert describe_failure(error) is None


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_ends_with_2_for_a_trouble_and_with_1_for_a_mistake(
    command: str, dal: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    for error, code in ((UnicodeEncodeError("utf-8", "\udce9", 0, 1, "surrogates"), 2), (KeyError("x"), 1)):
        monkeypatch.setitem(COMMANDS, command, lambda arguments, error=error: fails(error))
        ended = dal(command)
        assert ended.code == code
        assert ended.err.startswith("dal: error: ")
        assert ended.err.count("\n") == 1


# -- configs and folders that cannot be read ---------------------------------------------------------------------------

PLACES = [
    *("", ".", "..", "/", "nowhere/x", "run.yaml/x", "a" * 5000, "~nobody/x", "/dev/null", "pipe", "socket", "loop"),
    *("locked/x", "\udce9", "x\ny"),
]


@pytest.fixture
def places(tmp_path: Path, dal: Command) -> Iterator[Path]:
    os.mkfifo(tmp_path / "pipe")
    with socket.socket(socket.AF_UNIX) as bound:
        bound.bind("socket")
    (tmp_path / "loop").symlink_to("loop")
    (tmp_path / "locked").mkdir(mode=0o000)
    yield tmp_path
    (tmp_path / "locked").chmod(0o700)


@pytest.mark.parametrize("place", PLACES, ids=range(len(PLACES)))
@pytest.mark.parametrize(
    "command",
    [
        ["run", "PLACE"],
        ["run", "--resume", "PLACE"],
        ["run", "run.yaml", "--allow-code", "PLACE"],
        ["compare", "PLACE", "--strategies", "Margin"],
        ["compare", "--resume", "PLACE"],
        ["ask", "mine", "--config", "PLACE"],
        ["tell", "PLACE", "tickets.csv"],
        ["llm", "preview", "PLACE"],
        ["check", "PLACE"],
        ["list", "PLACE"],
        ["PLACE"],
    ],
    ids=" ".join,
)
def test_a_place_that_cannot_be_used_is_named_in_one_line_and_nothing_is_written(
    command: list[str], place: str, places: Path, dal: Command
) -> None:
    if "--allow-code" in command and place in {".", "..", "/"}:
        pytest.skip("that is a folder")
    before = sorted(str(each) for each in places.iterdir())
    ended = dal(*(place if each == "PLACE" else each for each in command))
    assert ended.code == 2, ended
    assert ended.err.startswith("dal: error: ")
    assert ended.err.count("\n") == 1
    assert len(ended.err) < 1500
    assert ended.out == ""
    assert sorted(str(each) for each in places.iterdir()) == before


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["--seeds", "0"], "--seeds takes a number of seeds, 1 to 10000"),
        (["--seeds", "-1"], "--seeds takes a number of seeds"),
        (["--seeds", "99999999999"], "--seeds takes a number of seeds"),
        (["--seeds", "9" * 5000], "--seeds takes a number of seeds"),
        (["--seeds", "[]"], "seeds must be distinct"),
        (["--seeds", "[1,1]"], "seeds must be distinct"),
        (["--seeds", "[-1]"], "seeds must be distinct"),
        (["--seeds", "[1.5]"], "takes a list of whole numbers"),
        (["--seeds", "[.nan]"], "takes a list of whole numbers"),
        (["--seeds", "nan"], "takes a list of whole numbers"),
        (["--seeds", ""], "seeds"),
        (["--seeds", f"[{10**30}]"], "seeds"),
        (["--jobs", "0"], "jobs must be at least 1"),
        (["--jobs", "-3"], "jobs must be at least 1"),
        (["--jobs", "nan"], "invalid int value: 'nan'"),
        (["--jobs", "1.5"], "invalid int value"),
        (["--jobs", "9" * 5000], "invalid int value"),
        (["--strategies", ""], "--strategies: expected names separated by commas"),
        (["--strategies", ","], "--strategies: expected names separated by commas"),
        (["--strategies", " "], "--strategies: expected names separated by commas"),
        (["--strategies", "[]"], "--strategies: expected names separated by commas"),
        (["--strategies", "Margin,,Random"], "--strategies: expected names separated by commas"),
        (["--strategies", "[null]"], "--strategies: expected names separated by commas"),
        (["--strategies", "[[Margin]]"], "takes the name of a strategy"),
        (["--strategies", "M" * 1_000_000], "unknown strategy"),
        (["--batch", "0"], "batch must be at least 1"),
        (["--rounds", "-1"], "rounds must be at least 0"),
        (["--rounds", "1000000000000"], "fewer than"),
        (["--start", "nan"], "start takes a whole number"),
        (["--batch", "1e300"], "batch takes a whole number"),
        (["--pool_sample", "-1"], "pool_sample must be at least 0"),
        (["--price_per_label", ".nan"], "price_per_label must be at least 0"),
        (["--price_per_label", ".inf"], "price_per_label must be at least 0"),
        (["--folder", ""], "--folder is empty"),
        (["--folder", "run.yaml"], "run.yaml"),
        (["--folder", "run.yaml/x"], "run.yaml"),
        (["--folder", "a" * 5000], "File name too long"),
    ],
)
def test_a_count_that_is_none_is_refused_in_one_line(
    options: list[str], said: str, dal: Command, tmp_path: Path
) -> None:
    before = sorted(each.name for each in tmp_path.iterdir())
    given = [] if "--strategies" in options else ["--strategies", "Margin"]
    ended = dal("compare", "run.yaml", *given, *options)
    assert ended.code == 2, ended
    assert said in ended.err
    assert ended.err.count("\n") == 1
    assert len(ended.err) < 2000
    assert sorted(each.name for each in tmp_path.iterdir()) == before


# -- what is printed ---------------------------------------------------------------------------------------------------


def test_a_message_is_one_line_of_what_can_be_printed() -> None:
    assert escape_message("a\r\n b\x1b[31m\u2028\udce9 \u202ex") == "a b\\x1b[31m\\u2028\\udce9 \\u202ex"
    assert escape_message("caf\u00e9 \u65e5\u672c  x") == "caf\u00e9 \u65e5\u672c  x"
    assert escape_message("2 mistakes\n  line 2: x\n  line 3: y") == "2 mistakes\n  line 2: x\n  line 3: y"


@pytest.mark.parametrize("encoding", ["ascii", "utf-16", "cp1252:strict"])
@pytest.mark.parametrize(
    "arguments",
    [
        [b"run", b"\xff\xe9.yaml"],
        [b"run", b"run.yaml", b"--strategy", b"\xff"],
        [b"\xff"],
        [b"run", b"run.yaml", b"--\xff", b"1"],
        [b"run", b"run.yaml", b"--folder", b"caf\xe9", b"--print-config"],
        [b"list", b"strategies"],
        [b"list", b"\xe9"],
    ],
    ids=range(7),
)
def test_any_argument_is_printed_in_any_encoding(arguments: list[bytes], encoding: str, dal: Command) -> None:
    ended = subprocess.run(
        [sys.executable, "-m", "dal", *arguments],
        capture_output=True,
        timeout=300,
        env={**os.environ, "PYTHONIOENCODING": encoding},
    )
    assert ended.returncode in {0, 2}, ended.stderr
    assert b"Error" not in ended.stderr.replace(b"\0", b"")


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="there is no /dev/full")
def test_output_that_cannot_be_written_is_one_line_with_exit_code_2(dal: Command) -> None:
    with open("/dev/full", "w") as full:
        ended = subprocess.run([sys.executable, "-m", "dal", "list"], stdout=full, stderr=subprocess.PIPE, timeout=300)
    assert ended.returncode == 2
    assert ended.stderr == b"dal: error: No space left on device (--debug shows where)\n"


def test_closed_output_ends_nothing(dal: Command) -> None:
    code = "import os, sys; os.close(1); sys.stdout = None; from dal.cli import main; sys.exit(main(['list']))"
    ended = subprocess.run([sys.executable, "-c", code], stderr=subprocess.PIPE, timeout=300)
    assert (ended.returncode, ended.stderr) == (0, b"")


def test_a_plugin_that_leaves_with_words_is_quoted(dal: Command, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(COMMANDS, "list", lambda arguments: sys.exit("no more"))
    ended = dal("list")
    assert (ended.code, ended.err) == (1, "dal: error: no more\n")
