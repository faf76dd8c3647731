"""What Windows and macOS lack is no obstacle to importing the package and to using it."""

import ast
import re
import subprocess
import sys
from pathlib import Path

import pytest
from command import asking, running, write_tickets

from dal.config import plugins
from dal.strategy import Strategy

ROOT = Path(__file__).parents[1]

#: Imports the libraries that dal uses, then takes away what Windows lacks, imports all of dal and uses it.
PROGRAM = """
import filelock, jinja2, lightning, matplotlib.pyplot, numpy, os, pyarrow, pkgutil, rich.live, scipy.optimize, signal
import sklearn.linear_model, sqlite3, subprocess, sys, tempfile, torch, yaml
from transformers import AutoModelForCausalLM, AutoModelForSequenceClassification, AutoTokenizer, PreTrainedModel
for name in ("fcntl", "grp", "pwd", "resource", "termios", "tty", "pty", "syslog"):
    sys.modules[name] = None
for name in (
    "chown", "chroot", "fchmod", "fchown", "fork", "forkpty", "getegid", "geteuid", "getgid", "getgroups", "getloadavg",
    "getpgid", "getpgrp", "getuid", "killpg", "lchown", "mkfifo", "nice", "pread", "pwrite", "sched_getaffinity",
    "setsid", "setuid", "sync", "sysconf", "uname", "wait3", "wait4", "O_DIRECTORY", "O_DIRECT",
    "O_SYNC", "WNOHANG",
):
    delattr(os, name)
for name in ("SIGALRM", "SIGCHLD", "SIGHUP", "SIGKILL", "SIGPIPE", "SIGQUIT", "SIGSTOP", "SIGUSR1", "SIGUSR2", "alarm",
             "pause", "pthread_kill", "pthread_sigmask", "setitimer", "sigwait"):
    delattr(signal, name)
import dal
modules = [each.name for each in pkgutil.walk_packages(dal.__path__, "dal.") if each.name != "dal.__main__"]
for name in modules:
    __import__(name)
from dal.cli import main
for arguments in (
    ["run", "run.yaml"],
    ["compare", "run.yaml", "--strategies", "Margin,Entropy", "--seeds", "1"],
    ["ask", "mine", "--config", "pool.yaml", "-n", "3", "-o", "todo.csv"],
    ["tell", "mine", "todo.csv"],
    ["report", "runs/run"],
):
    code = main(arguments)
    if code:
        sys.exit(f"{arguments}: {code}")
print(len(modules), "modules")
"""


def test_package_works_without_what_windows_lacks(tmp_path: Path) -> None:
    write_tickets(tmp_path / "tickets.csv", 60)
    (tmp_path / "run.yaml").write_text(running(start=6, batch=4, rounds=1, seeds=[0]))
    (tmp_path / "pool.yaml").write_text(asking())
    ended = subprocess.run([sys.executable, "-c", PROGRAM], cwd=tmp_path, capture_output=True, text=True, timeout=300)
    assert ended.returncode == 0, ended.stderr
    assert int(ended.stdout.split()[-2]) > 200
    made = [path.name for path in tmp_path.rglob("*")]
    assert "labels.db" in made
    assert "report.html" in made
    assert [name for name in made if re.search(r'[<>:"\\|?*]|[. ]$', name)] == []


@pytest.mark.parametrize("name", sorted(plugins.found(plugins.STRATEGIES)))
def test_titles_of_strategies_are_names_of_folders_on_every_system(name: str) -> None:
    strategy = plugins.load(plugins.STRATEGIES, name)
    try:
        made = strategy()
    except TypeError:  # needs options
        return
    assert isinstance(made, Strategy)
    assert not re.search(r'[<>:"/\\|?*]|[. ]$', made.title)


def text_opened_without_encoding(source: str) -> list[str]:
    """The calls that read or write text in the encoding of the system, which is not UTF-8 on Windows."""
    found = []
    for node in ast.walk(ast.parse(source)):
        if not isinstance(node, ast.Call):
            continue
        name = ast.unparse(node.func)
        mode = next((m.value for m in node.args if isinstance(m, ast.Constant) and isinstance(m.value, str)), "")
        opens = name == "open" or (
            name.endswith(".open") and name not in {"os.open", "archive.open"}
        )  # of a ZIP file: always bytes
        text = name.endswith((".read_text", ".write_text")) or (opens and "b" not in mode)
        if text and not any(keyword.arg in {"encoding", None} for keyword in node.keywords):
            found.append(ast.unparse(node))
    return found


def test_text_is_read_and_written_as_utf8() -> None:
    own = {"each.read_text('entry_points.txt')", "distribution.read_text('RECORD')"}  # a method of a distribution
    files = (ROOT / "dal").rglob("*.py")
    found = {file.name: set(text_opened_without_encoding(file.read_text(encoding="utf-8"))) - own for file in files}
    assert {name: calls for name, calls in found.items() if calls} == {}


def test_check_of_encodings_finds_them() -> None:
    source = 'open(path, "w")\nopen(path, "rb")\npath.read_text()\npath.write_text(text, encoding="utf-8")\n'
    assert text_opened_without_encoding(source) == ["open(path, 'w')", "path.read_text()"]
