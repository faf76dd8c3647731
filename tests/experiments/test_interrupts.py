"""What a command says when it is interrupted or ended where nobody sits at a terminal."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from dal.cli import COMMANDS, main
from dal.experiments.executor import _finished
from dal.experiments.interrupts import Interrupted, interruptible, terminable

WAITING = """\
import sys, time
from pathlib import Path
from dal.experiments.interrupts import interruptible
with interruptible(Path(sys.argv[1])) as check:
    print("ready", flush=True)
    while True:
        time.sleep(0.01)
        check()
"""


@pytest.mark.parametrize(("name", "code"), [("SIGTERM", 143), ("SIGHUP", 129)])
def test_a_run_that_is_ended_says_the_exact_command_to_go_on_with(name: str, code: int, tmp_path: Path) -> None:
    log = tmp_path / "log"
    with log.open("wb") as written:
        process = subprocess.Popen(
            [sys.executable, "-c", WAITING, "my runs/a"],
            stdout=subprocess.PIPE,
            stderr=written,
            stdin=subprocess.DEVNULL,
        )
        assert process.stdout is not None
        process.stdout.readline()
        process.send_signal(getattr(signal, name))
        assert process.wait(60) == code
        process.stdout.close()
    assert log.read_text() == "dal: stopped; go on with: dal run --resume 'my runs/a'\n"


def test_a_run_whose_terminal_is_gone_ends_at_once(tmp_path: Path) -> None:
    parent, child = pytest.importorskip("pty").openpty()
    process = subprocess.Popen([sys.executable, "-c", WAITING, str(tmp_path)], stdout=child, stderr=child, stdin=child)
    os.close(child)
    assert os.read(parent, 100).strip() == b"ready"
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
    """A process whose first wait is interrupted, and which takes no SIGINT, as on Windows."""

    waits = 0

    def wait(self, timeout: float | None = None) -> int:
        self.waits += 1
        if self.waits == 1:
            raise KeyboardInterrupt
        return super().wait(timeout)

    def send_signal(self, sig: int) -> None:
        raise ValueError(f"Unsupported signal: {sig}")


def test_worker_is_awaited_where_no_interrupt_can_be_sent() -> None:
    process = InterruptedOnWindows([sys.executable, "-c", "pass"])
    with pytest.raises(KeyboardInterrupt):
        _finished(process)
    assert process.returncode == 0
