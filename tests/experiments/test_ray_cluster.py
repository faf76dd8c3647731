"""The cells as tasks of a real Ray, started here: the same figures, and a killed worker costs only its own cell."""

import _thread
import json
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from command import Command, write_tickets
from filelock import FileLock
from test_comparison import CONFIG, figures
from test_experiment import experiment

from dal.errors import ConfigError
from dal.experiments import cell_worker
from dal.experiments.comparison import Comparison
from dal.store.run_folder import read_metrics
from dal.strategies import Margin

DIES = """\
import os
from dataclasses import dataclass
from pathlib import Path
from dal import Strategy
from dal.strategies import Margin
@dataclass(frozen=True)
class Dies(Strategy):
    '''Margin, whose process is killed the first time.'''
    needs = Margin.needs
    def select(self, query):
        if not Path("died").exists():
            Path("died").touch()
            os.kill(os.getpid(), 9)
        return Margin().select(query)
"""


@pytest.fixture
def turn(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """The turn of a test: "auto" would find a Ray that a test in another process has started."""
    with FileLock(tmp_path_factory.getbasetemp().parent / "ray.lock"):
        yield


@pytest.fixture
def ray(turn: None, monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """A Ray of two processors on this machine."""
    found = pytest.importorskip("ray", reason="Ray is not installed: the extra `ray`")
    monkeypatch.setenv("RAY_USAGE_STATS_ENABLED", "0")
    monkeypatch.setenv("RAY_worker_niceness", "0")  # at Ray's 15, workers starve next to other work
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join(sys.path))
    before = signal.getsignal(signal.SIGTERM)
    found.init(address="local", num_cpus=2, include_dashboard=False, log_to_driver=False, logging_level="ERROR")
    yield found
    found.shutdown()
    signal.signal(signal.SIGTERM, before)  # which Ray has replaced


def test_tasks_of_a_cluster_give_the_same_figures_and_a_killed_cell_goes_on(
    ray: Any, tmp_path: Path, tiny_bert: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    dal = Command(capsys)
    write_tickets(tmp_path / "tickets.csv", 60)
    (tmp_path / "grid.yaml").write_text(CONFIG.replace("MODEL", str(tiny_bert)))
    (tmp_path / "dies.py").write_text(DIES)
    grid = ("compare", "grid.yaml", "--seeds", 1, "--strategies")
    away = dal(*grid, "Margin,dies.Dies", "--folder", "away", "--jobs", 2, "--cluster", "local")
    assert away.code == 1
    assert "1 of the cells failed: Dies-seed0: its process was killed by signal 9" in away.err
    assert ray.is_initialized()  # it was there before, and stays
    again = dal(*grid, "Margin,dies.Dies", "--folder", "away", "--jobs", 2, "--cluster", "local", "--cells-per-gpu", 2)
    assert again.code == 0, again.err
    here = dal(*grid, "Margin,dies.Dies", "--folder", "here")
    assert here.code == 0, here.err
    for cell in ("Margin-seed0", "Dies-seed0", "Random-seed0"):
        found, expected = (figures(read_metrics(tmp_path / folder / cell)) for folder in ("away", "here"))
        assert len(found) == 3
        assert json.dumps(found) == json.dumps(expected)


def test_a_ray_that_is_started_here_leaves_signals_alone_and_does_not_import_from_the_current_folder(
    turn: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = pytest.importorskip("ray", reason="Ray is not installed: the extra `ray`")
    from dal.experiments.ray_cluster import Cluster

    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join(entry for entry in sys.path if os.path.isabs(entry)))
    received = []
    before = signal.signal(signal.SIGTERM, handler := lambda *arguments: received.append(arguments))
    cluster = Cluster(experiment(tmp_path), tmp_path, 1, "local")
    try:
        assert signal.getsignal(signal.SIGTERM) is handler  # not that of Ray, which ends this process at once
        os.kill(os.getpid(), signal.SIGTERM)
        assert len(received) == 1
        path = found.get(found.remote(lambda: __import__("sys").path).remote())
    finally:
        cluster.close()
        signal.signal(signal.SIGTERM, before)
    assert Path.cwd() == tmp_path
    assert path
    assert str(tmp_path) not in path


@pytest.mark.parametrize("address", ["127.0.0.1:1", "ray://127.0.0.1:1", "auto"])
def test_a_cluster_that_is_not_there_is_said_in_one_line(turn: None, tmp_path: Path, address: str) -> None:
    pytest.importorskip("ray", reason="Ray is not installed: the extra `ray`")
    from dal.experiments.ray_cluster import Cluster

    with pytest.raises(ConfigError, match=f"no Ray cluster at '{address}' .*: name the address") as told:
        Cluster(experiment(tmp_path), tmp_path, 1, address)
    assert "\n" not in str(told.value)


def test_interruption_without_a_signal_ends_the_process_of_a_cell() -> None:
    """As `ray.cancel` interrupts a task: the wait for the process went on to its end."""
    process = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(15)"])
    timer = threading.Timer(1.5, _thread.interrupt_main)
    timer.start()
    with pytest.raises(KeyboardInterrupt):
        cell_worker._finished(process)
    timer.join()
    assert process.returncode == (-signal.SIGUSR1 if hasattr(signal, "SIGUSR1") else 0)


def test_without_ray_the_extra_is_named(
    tmp_path: Path, tiny_bert: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setitem(sys.modules, "ray", None)
    write_tickets(tmp_path / "tickets.csv", 60)
    (tmp_path / "grid.yaml").write_text(CONFIG.replace("MODEL", str(tiny_bert)))
    try:
        ended = Command(capsys)("compare", "grid.yaml", "--strategies", "Margin", "--cluster", "local")
    finally:
        monkeypatch.undo()
    assert ended.code == 2
    assert "ray is not installed: pip install 'deep-active-learning[ray]'" in ended.err
    assert not (tmp_path / "runs").exists()


def test_a_cluster_needs_a_folder() -> None:
    with pytest.raises(ConfigError, match="need a folder"):
        Comparison(experiment(), (Margin(),), cluster="local")


def test_nothing_imports_ray_unasked(tmp_path: Path) -> None:
    code = "import sys, dal.experiments.comparison, dal.experiments.processes, dal.cli; sys.exit('ray' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
