"""What a command says when it is interrupted or ended where nobody sits at a terminal."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from command import Command, write_tickets
from test_comparison import CONFIG, figures

from dal.cli import COMMANDS, main
from dal.experiments.cell_worker import _finished
from dal.experiments.interrupts import RESUMABLE, Interrupted, Stopped, interruptible, terminable
from dal.store.run_folder import read_metrics

WAITING = """\
import sys, time
from pathlib import Path
from dal import cli
from dal.experiments.interrupts import interruptible
def run(arguments):
    with interruptible(Path(arguments[0])) as check:
        print("ready", flush=True)
        while True:
            time.sleep(0.01)
            if len(arguments) == 1:
                check()
cli.COMMANDS["run"] = run
sys.exit(cli.main(["run", *sys.argv[1:]]))
"""
MESSAGE = "dal: stopped; go on with: dal run --resume 'my runs/a'\n"


def ended(log: Path, names: list[str], *arguments: str) -> int:
    """Exit code of a process after these signals, one after the other."""
    with log.open("wb") as written:
        process = subprocess.Popen(
            [sys.executable, "-c", WAITING, "my runs/a", *arguments],
            stdout=subprocess.PIPE,
            stderr=written,
            stdin=subprocess.DEVNULL,
        )
        assert process.stdout is not None
        process.stdout.readline()
        for name in names:
            process.send_signal(getattr(signal, name))
            time.sleep(0.2 * (len(names) > 1))  # for the handler: two signals of a kind at once are one
        code = process.wait(60)
        process.stdout.close()
    return code


@pytest.mark.parametrize(("name", "code"), [("SIGTERM", RESUMABLE), ("SIGUSR1", RESUMABLE), ("SIGHUP", 129)])
def test_a_run_that_is_ended_says_the_exact_command_to_go_on_with(name: str, code: int, tmp_path: Path) -> None:
    assert RESUMABLE == 75
    assert ended(tmp_path / "log", [name]) == code
    assert (tmp_path / "log").read_text() == MESSAGE


def test_second_sigterm_ends_at_once_a_step_that_takes_long(tmp_path: Path) -> None:
    assert ended(tmp_path / "log", ["SIGUSR1", "SIGUSR1", "SIGTERM", "SIGTERM"], "never checks") == 143
    assert (tmp_path / "log").read_text() == MESSAGE


@pytest.mark.parametrize(("name", "code"), [("SIGTERM", 143), ("SIGUSR1", RESUMABLE)])
def test_a_command_without_steps_ends_at_once(name: str, code: int) -> None:
    child = os.fork()
    if not child:
        with terminable("go on"):
            os.kill(os.getpid(), getattr(signal, name))
            os._exit(0)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == code


def test_exit_that_lightning_makes_of_sigterm_is_a_stop() -> None:
    def fit() -> None:
        with interruptible(Path("a")):
            os.kill(os.getpid(), signal.SIGTERM)
            raise SystemExit

    with pytest.raises(Stopped, match="go on with: dal run --resume a") as stopped:
        fit()
    assert stopped.value.exit_code == RESUMABLE


RUN = """\
import os, signal, sys
from dal import cli
from dal.learners.training import fitting
steps = 0
class Signalled(fitting._Progress):
    def on_train_batch_start(self, *arguments):
        global steps
        steps += 1
        if steps == 3:
            os.kill(os.getpid(), signal.SIGTERM)  # of which Lightning would make an exit
fitting._Progress = Signalled
sys.exit(cli.main(sys.argv[1:]))
"""


def test_run_that_is_stopped_in_a_fit_is_resumed_to_the_same_figures(
    tmp_path: Path, tiny_bert: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    write_tickets(tmp_path / "tickets.csv", 60)
    learner = f"{{model: {tiny_bert}, max_length: 16, batch_size: 4, min_steps: 5, max_steps: 5, trunk: null}}"
    (tmp_path / "run.yaml").write_text(
        "data: {path: tickets.csv, id: id, test: 0.3}\nlearner: {TransformerLearner: " + learner + "}\n"
        "strategy: Margin\nbaseline: null\nstart: 6\nbatch: 4\nrounds: 1\nreport: false\n"
    )
    command = [sys.executable, "-c", RUN, "run", "run.yaml", "--folder", "cut"]
    slurm = {f"SLURM_{name}": "0" for name in ("PROCID", "LOCALID", "NODEID")}
    slurm |= {"SLURM_JOB_ID": "7", "SLURM_JOB_NAME": "run", "SLURM_NTASKS": "1", "SLURM_NNODES": "1"}
    environment = {**os.environ, **slurm}  # in which Lightning handles signals, too
    stopped = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert stopped.returncode == RESUMABLE, stopped.stderr
    assert stopped.stderr.splitlines()[-1] == "dal: stopped; go on with: dal run --resume cut"
    assert read_metrics(tmp_path / "cut" / "Margin-seed0") == []
    dal = Command(capsys)
    for arguments in (("--resume", "cut"), ("run.yaml", "--folder", "whole")):
        again = dal("run", *arguments)
        assert again.code == 0, again.err
    cut, whole = (figures(read_metrics(tmp_path / folder / "Margin-seed0")) for folder in ("cut", "whole"))
    assert json.dumps(cut) == json.dumps(whole)


def test_a_run_whose_terminal_is_gone_ends_at_once(tmp_path: Path) -> None:
    parent, child = pytest.importorskip("pty").openpty()
    process = subprocess.Popen([sys.executable, "-c", WAITING, str(tmp_path)], stdout=child, stderr=child, stdin=child)
    os.close(child)
    shown = b""
    while not shown.endswith(b"\n"):  # the end of the line may come by itself, and its writing must not fail
        shown += os.read(parent, 100)
    assert shown.strip() == b"ready"
    os.close(parent)
    process.send_signal(signal.SIGHUP)
    assert process.wait(60) == 129


def test_an_interrupted_run_says_the_exact_command_to_go_on_with() -> None:
    message = r"^stopped; go on with: dal compare --resume 'my runs/a'$"
    with interruptible(Path("my runs/a"), command="compare") as check:
        os.kill(os.getpid(), signal.SIGINT)
        with pytest.raises(Interrupted, match=message) as stopped:
            check()
    assert stopped.value.exit_code == 130


def test_a_command_interrupted_at_any_time_names_itself(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def interrupted(arguments: list[str]) -> int:
        raise KeyboardInterrupt

    monkeypatch.setitem(COMMANDS, "ask", interrupted)
    assert main(["ask", "my folder", "-n", "3"]) == 130
    assert capsys.readouterr().err == (
        "dal: stopped; all acknowledged answers are stored; go on with: dal ask 'my folder' -n 3\n"
    )


def test_handlers_are_afterwards_what_they_were_and_those_of_others_stay() -> None:
    own = signal.signal(signal.SIGTERM, signal.SIG_IGN)
    try:
        with terminable("x"):
            assert signal.getsignal(signal.SIGTERM) is signal.SIG_IGN
        signal.signal(signal.SIGTERM, signal.SIG_DFL)
        with terminable("x"), terminable("y"):
            assert callable(signal.getsignal(signal.SIGTERM))
        assert signal.getsignal(signal.SIGTERM) is signal.SIG_DFL
    finally:
        signal.signal(signal.SIGTERM, own)


class InterruptedOnWindows(subprocess.Popen):  # type: ignore[type-arg]
    """A process whose first wait is interrupted, and which takes no signal, as on Windows."""

    waits = 0

    def wait(self, timeout: float | None = None) -> int:
        self.waits += 1
        if self.waits == 1:
            raise KeyboardInterrupt
        return super().wait(timeout)

    def send_signal(self, sig: int) -> None:
        raise ValueError(f"Unsupported signal: {sig}")


@pytest.mark.skipif(sys.platform != "linux", reason="finds the workers in /proc")
def test_comparison_that_is_terminated_stops_its_workers_after_their_step(
    tmp_path: Path, tiny_bert: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    write_tickets(tmp_path / "tickets.csv", 60)
    (tmp_path / "grid.yaml").write_text(CONFIG.replace("MODEL", str(tiny_bert)))
    grid = ["compare", "grid.yaml", "--strategies", "Margin", "--seeds", "2", "--folder"]
    process = subprocess.Popen(
        [sys.executable, "-m", "dal", *grid, "cut", "--jobs", "2"],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
    )
    while not list((tmp_path / "cut").glob("*/labels.db")):
        time.sleep(0.01)
        assert process.poll() is None
    workers = [int(each) for each in Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()]
    process.terminate()
    _, said = process.communicate(timeout=300)
    assert process.returncode == RESUMABLE
    assert said.splitlines()[-1] == "dal: stopped; go on with: dal compare --resume cut"
    assert not any(Path(f"/proc/{worker}").exists() for worker in workers)
    dal = Command(capsys)
    for arguments in (("compare", "--resume", "cut"), (*grid, "whole")):
        again = dal(*arguments)
        assert again.code == 0, again.err
    for cell in ("Margin-seed0", "Random-seed1"):
        cut, whole = (figures(read_metrics(tmp_path / folder / cell)) for folder in ("cut", "whole"))
        assert json.dumps(cut) == json.dumps(whole)


def test_worker_is_awaited_where_no_interrupt_can_be_sent(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr(signal, "SIGUSR1", raising=False)
    process = InterruptedOnWindows([sys.executable, "-c", "pass"])
    with pytest.raises(KeyboardInterrupt):
        _finished(process)
    assert process.returncode == 0
