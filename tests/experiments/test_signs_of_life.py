"""A sign of life comes before the seconds of importing torch, and leaves nothing on the screen."""

import os
import re
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from command import asking, running, write_tickets

pty = pytest.importorskip("pty", reason="needs a pseudo-terminal")

#: Runs `dal` and writes a marker to stderr when torch is first imported. There it waits if STOP is set.
PROGRAM = """
import os, sys, time
class Marker:
    def find_spec(self, name, path=None, target=None):
        if name == "torch":
            os.write(2, b"<torch>")
            if "STOP" in os.environ:
                time.sleep(60)
sys.meta_path.insert(0, Marker())
from dal.cli import main
sys.exit(main(sys.argv[1:]))
"""


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with configs, data, and a run."""
    folder = tmp_path_factory.mktemp("finished")
    write_tickets(folder / "tickets.csv", 60)
    run = running(start=6, batch=4, rounds=1, report=False, seeds=[0])
    (folder / "run.yaml").write_text(run)
    (folder / "pool.yaml").write_text(asking())
    subprocess.run([sys.executable, "-m", "dal", "run", "run.yaml"], cwd=folder, check=True, capture_output=True)
    return folder


@pytest.fixture
def folder(finished: Path, tmp_path: Path) -> Path:
    """A copy for one test."""
    return Path(shutil.copytree(finished, tmp_path / "copy"))


def on_terminal(folder: Path, *arguments: str, interrupt: bool = False) -> tuple[int, str]:
    """Exit code of a command on a terminal of its own, and all that it wrote.

    Args:
        folder: current folder of the command.
        arguments: arguments of `dal`.
        interrupt: send what Ctrl-C sends when torch is about to be imported.
    """
    parent, child = pty.openpty()
    environment = {**os.environ, "TERM": "xterm-256color", "COLUMNS": "120", "LINES": "30"}
    process = subprocess.Popen(
        [sys.executable, "-P", "-c", PROGRAM, *arguments],
        stdin=child,
        stdout=child,
        stderr=child,
        cwd=folder,
        env={**environment, "STOP": "1"} if interrupt else environment,
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
        if interrupt and b"<torch>" in written:
            process.send_signal(signal.SIGINT)
            interrupt = False
    os.close(parent)
    return process.wait(60), written.decode()


def piped(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    """A command that has run without a terminal."""
    return subprocess.run([sys.executable, "-P", "-c", PROGRAM, *arguments], cwd=folder, capture_output=True, text=True)


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
    "run": ["run", "run.yaml", "--folder", "runs/another"],
    "compare": ["compare", "run.yaml", "--strategies", "Margin", "--seeds", "1", "--folder", "runs/another"],
    "ask": ["ask", "mine", "--config", "pool.yaml", "-n", "5", "-o", "todo.csv"],
    "autolabel": ["autolabel", "runs/run", "--max-error", "0.5"],
    "estimate": ["estimate", "runs/run", "-n", "5"],
}


@pytest.mark.parametrize("name", COMMANDS)
def test_terminal_shows_a_spinner_before_torch_is_imported_and_nothing_of_it_stays(name: str, folder: Path) -> None:
    code, written = on_terminal(folder, *COMMANDS[name])
    assert code == 0, written
    before, marker, after = written.partition("<torch>")
    assert marker, written
    assert SPINNER.search(before), written
    assert "loading torch and transformers ..." in before
    assert "reading tickets.csv ..." in after
    shown = screen(written.replace("<torch>", ""))
    assert shown
    assert [line for line in shown if SPINNER.search(line) or " ..." in line or "━━ " in line] == []
    assert written.rindex("\x1b[?25h") > written.rindex("\x1b[?25l")  # the cursor is shown again


@pytest.mark.parametrize("name", COMMANDS)
def test_stages_are_lines_where_there_is_no_terminal(name: str, folder: Path) -> None:
    ended = piped(folder, *COMMANDS[name])
    assert ended.returncode == 0, ended.stderr
    lines, others = ended.stdout.splitlines(), ended.stderr.replace("<torch>", "").splitlines()
    if name not in {"run", "compare"}:  # their result is on stdout
        lines, others = others, lines
    stages = [line for line in lines if line.endswith(" ...")]
    assert stages[0] == "loading torch and transformers ..."
    assert "reading tickets.csv ..." in stages
    assert not [line for line in others if line.endswith(" ...")]
    assert "\r" not in ended.stdout + ended.stderr
    assert "\x1b" not in ended.stdout + ended.stderr


def test_a_config_that_is_printed_is_all_that_stdout_gets(folder: Path) -> None:
    ended = piped(folder, "run", "run.yaml", "--print-config")
    assert (ended.returncode, ended.stderr) == (0, "loading torch and transformers ...\n<torch>")
    assert ended.stdout.startswith("data:")


@pytest.mark.parametrize("command", [["compare", "runs/run", "--table", "csv"], ["report", "runs/run"]])
def test_commands_that_only_read_figures_load_no_torch_and_say_what_they_do(command: list[str], folder: Path) -> None:
    ended = piped(folder, *command)
    assert (ended.returncode, ended.stderr) == (0, "loading matplotlib and scipy ...\n")


def test_an_error_is_the_only_line_after_the_spinner(folder: Path) -> None:
    code, written = on_terminal(folder, "run", "run.yaml", "--folder", "runs/another", "--data.path", "none.csv")
    assert code == 2
    (line,) = screen(written.replace("<torch>", ""))
    assert line.startswith("dal: error: ")
    assert "none.csv" in line


def test_ctrl_c_during_the_spinner_ends_in_one_line(folder: Path) -> None:
    code, written = on_terminal(folder, "run", "run.yaml", interrupt=True)
    assert code == 130
    assert screen(written.replace("<torch>", "")) == ["dal: stopped; go on with: dal run run.yaml"]
    assert written.rindex("\x1b[?25h") > written.rindex("\x1b[?25l")
