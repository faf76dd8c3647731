"""A sign of life comes before the seconds of importing torch, and leaves nothing on the screen."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from command import asking, running, write_tickets

pty = pytest.importorskip("pty", reason="needs a pseudo-terminal")

#: Runs `dal` and writes a marker to the terminal at the moment when torch is first imported.
PROGRAM = """
import os, sys
class Marker:
    def find_spec(self, name, path=None, target=None):
        if name == "torch":
            os.write(2, b"<torch>")
sys.meta_path.insert(0, Marker())
from dal.cli import main
sys.exit(main(sys.argv[1:]))
"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    write_tickets(tmp_path / "tickets.csv", 60)
    run = running(start=6, batch=4, rounds=1, report=False, seeds=[0])
    (tmp_path / "run.yaml").write_text(run)
    (tmp_path / "pool.yaml").write_text(asking())
    return tmp_path


def on_terminal(folder: Path, *arguments: str) -> tuple[int, str]:
    """Exit code of a command on a terminal of its own, and all that it wrote."""
    parent, child = pty.openpty()
    environment = {**os.environ, "TERM": "xterm-256color", "COLUMNS": "120", "LINES": "30"}
    process = subprocess.Popen(
        [sys.executable, "-P", "-c", PROGRAM, *arguments],
        stdin=child,
        stdout=child,
        stderr=child,
        cwd=folder,
        env=environment,
        start_new_session=True,
    )
    os.close(child)
    written = b""
    while True:
        try:
            more = os.read(parent, 65536)
        except OSError:  # the other end is closed
            break
        if not more:
            break
        written += more
    os.close(parent)
    return process.wait(60), written.decode()


def screen(written: str) -> list[str]:
    """The lines that a terminal shows in the end."""
    lines, row, column = [""], 0, 0
    for part in re.findall(r"\x1b\[[?0-9;]*[A-Za-z]|[^\x1b]", written):
        if part == "\n":
            row += 1
            if row == len(lines):
                lines.append("")
        elif part == "\r":
            column = 0
        elif part == "\x1b[2K":
            lines[row] = ""
        elif part.endswith("A") and part.startswith("\x1b["):
            row = max(0, row - int(part[2:-1] or 1))
        elif not part.startswith("\x1b"):
            lines[row] = lines[row][:column].ljust(column) + part + lines[row][column + 1 :]
            column += 1
    return [line.rstrip() for line in lines if line.strip()]


SPINNER = re.compile("[⠁-⣿] ")

COMMANDS = {
    "run": ["run", "run.yaml"],
    "compare": ["compare", "run.yaml", "--strategies", "Margin", "--seeds", "1"],
    "ask": ["ask", "mine", "--config", "pool.yaml", "-n", "5", "-o", "todo.csv"],
    "autolabel": ["autolabel", "runs/run", "--max-error", "0.5"],
    "estimate": ["estimate", "runs/run", "-n", "5"],
}


@pytest.fixture
def ready(request: pytest.FixtureRequest, folder: Path) -> list[str]:
    """The arguments of a command, whose folder exists if it needs one."""
    arguments = COMMANDS[request.param]
    if request.param in {"autolabel", "estimate"}:
        run = [sys.executable, "-m", "dal", "run", "run.yaml"]
        subprocess.run(run, cwd=folder, check=True, capture_output=True)
    return arguments


@pytest.mark.parametrize("ready", COMMANDS, indirect=True)
def test_a_terminal_shows_a_sign_of_life_before_torch_is_imported_and_nothing_of_it_stays(
    ready: list[str], folder: Path
) -> None:
    code, written = on_terminal(folder, *ready)
    assert code == 0, written
    before, marker, after = written.partition("<torch>")
    assert marker, written
    assert SPINNER.search(before), written
    assert "loading torch and transformers ..." in before
    assert "reading tickets.csv ..." in after
    assert after.count("\x1b[?25h") >= 1  # the cursor is shown again
    shown = screen(written.replace("<torch>", ""))
    assert shown
    assert [line for line in shown if SPINNER.search(line) or " ..." in line or "━━ " in line] == []
    assert written.rindex("\x1b[?25h") > written.rindex("\x1b[?25l")


@pytest.mark.parametrize("ready", COMMANDS, indirect=True)
def test_stages_are_lines_where_there_is_no_terminal(ready: list[str], folder: Path) -> None:
    ended = subprocess.run([sys.executable, "-P", "-c", PROGRAM, *ready], cwd=folder, capture_output=True, text=True)
    assert ended.returncode == 0, ended.stderr
    lines, others = ended.stdout.splitlines(), ended.stderr.replace("<torch>", "").splitlines()
    if ready[0] not in {"run", "compare"}:  # their result is on stdout
        lines, others = others, lines
    stages = [line for line in lines if line.endswith(" ...")]
    assert stages[0] == "loading torch and transformers ..."
    assert "reading tickets.csv ..." in stages
    assert not [line for line in others if line.endswith(" ...")]
    assert "\r" not in ended.stdout + ended.stderr
    assert "\x1b" not in ended.stdout + ended.stderr


def test_a_config_that_is_printed_is_all_that_stdout_gets(folder: Path) -> None:
    printed = [sys.executable, "-P", "-c", PROGRAM, "run", "run.yaml", "--print-config"]
    ended = subprocess.run(printed, cwd=folder, capture_output=True, text=True)
    assert (ended.returncode, ended.stderr) == (0, "<torch>")
    assert ended.stdout.startswith("data:")


def test_an_error_is_the_last_line_after_the_spinner(folder: Path) -> None:
    code, written = on_terminal(folder, "run", "run.yaml", "--data.path", "none.csv")
    assert code == 2
    assert screen(written.replace("<torch>", "")) == [screen(written)[-1]]
    assert screen(written)[-1].startswith("dal: error: ")
