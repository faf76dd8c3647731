"""The cells as jobs of submitit's local executor: the same figures, also when a job is preempted."""

import json
import os
import sys
import threading
import time
from pathlib import Path
from typing import Any

import pytest
from command import Command, write_tickets
from test_comparison import CONFIG, figures
from test_experiment import experiment

from dal.errors import ConfigError
from dal.experiments import cell_worker, slurm_jobs
from dal.experiments.comparison import Comparison
from dal.experiments.interrupts import InterruptCheck, Interrupted
from dal.experiments.results import Cell
from dal.experiments.slurm_jobs import FOLDER, Slurm, SlurmJobs
from dal.store.folder_lock import Lock
from dal.store.run_folder import read_metrics
from dal.strategies import Margin

pytest.importorskip("submitit", reason="submitit is not installed: the extra `slurm`")
pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")

CELLS = ("Preempted-seed0", "Random-seed0")
GRID = ("compare", "grid.yaml", "--strategies", "preempted.Preempted", "--seeds", 1, "--folder")

PREEMPTED = """\
import os, signal
from dataclasses import dataclass
from dal import Strategy
from dal.strategies import Margin
from pathlib import Path
@dataclass(frozen=True)
class Preempted(Strategy):
    '''Margin; once, its job receives the signal of preemption meanwhile.'''
    needs = Margin.needs
    def select(self, query):
        if "SUBMITIT_EXECUTOR" in os.environ:
            first = not Path("processes").exists()
            with open("processes", "a", encoding="utf-8") as file:
                print(os.getpid(), file=file)
            if first:
                os.kill(os.getppid(), signal.SIGUSR2)
        return Margin().select(query)
"""


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory, tiny_bert: Path) -> Path:
    """Folder with a config and its data."""
    folder = tmp_path_factory.mktemp("slurm")
    write_tickets(folder / "tickets.csv", 60)
    (folder / "grid.yaml").write_text(CONFIG.replace("MODEL", str(tiny_bert)))
    (folder / "jobs.yaml").write_text("local: true\ngpus: 0\ncpus: 1\nminutes: 30\n")
    (folder / "preempted.py").write_text(PREEMPTED)
    return folder


@pytest.fixture
def dal(place: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Command:
    monkeypatch.chdir(place)
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join(entry for entry in sys.path if os.path.isabs(entry)))
    return Command(capsys)


@pytest.fixture
def expected(place: Path, dal: Command) -> dict[str, Any]:
    """The figures of each cell when all run in this process."""
    if not (place / "here").exists():
        ended = dal(*GRID, "here")
        assert ended.code == 0, ended.err
    return {cell: figures(read_metrics(place / "here" / cell)) for cell in CELLS}


def test_preempted_job_goes_on_to_the_figures_of_one_process_and_leaves_nothing_else(
    place: Path, dal: Command, expected: dict[str, Any]
) -> None:
    """Both cells run at once in one job; the signal ends them after a step, and submitit starts the job again."""
    ended = dal(*GRID, "away", "--jobs", 2, "--cluster", "jobs.yaml", "--cells-per-gpu", 2)
    assert ended.code == 0, ended.err
    assert json.dumps({cell: figures(read_metrics(place / "away" / cell)) for cell in CELLS}) == json.dumps(expected)
    assert len(set((place / "processes").read_text().split())) == 2
    assert not (place / "away" / FOLDER).exists()


def test_cell_whose_folder_is_in_use_by_an_earlier_job_is_awaited(place: Path, expected: dict[str, Any]) -> None:
    slurm = Slurm(local=True, gpus=0, cpus=1)
    executor = SlurmJobs(experiment(place / "here", rounds=2), place / "here", 2, slurm)
    lock, began = Lock(place / "here" / CELLS[0]), time.monotonic()

    class Releasing(InterruptCheck):
        def __call__(self) -> None:
            assert not executor.running
            if time.monotonic() > began + 0.5:
                lock.release()

    ended = list(executor.run([Cell(CELLS[0], Margin(), 0)], Releasing(None, "compare")))
    executor.close()
    assert [figures(each.lines or []) for each in ended] == [expected[CELLS[0]]]


def test_cancelled_local_job_writes_no_traceback(place: Path, expected: dict[str, Any], tmp_path: Path) -> None:
    slurm = Slurm(local=True, gpus=0, cpus=1)
    executor = SlurmJobs(experiment(place / "here", rounds=2), place / "here", 1, slurm)
    processes = []

    class Stopping(InterruptCheck):
        def __call__(self) -> None:
            if any(job.paths.stdout.exists() for job in executor.running):  # submitit waits for the cell now
                processes.extend(job._process for job in executor.running)
                raise Interrupted("stopped")

    with slurm_jobs._stderr_to(tmp_path / "stderr"), pytest.raises(Interrupted):
        list(executor.run([Cell(CELLS[0], Margin(), 0)], Stopping(None, "compare")))
    assert [process.wait(60) != 0 for process in processes] == [True]
    assert (tmp_path / "stderr").read_text(encoding="utf-8") == ""


def test_cell_that_a_scheduler_stopped_goes_on_unless_its_job_ends(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ends = iter([cell_worker.STOPPED, cell_worker.STOPPED, ""])
    monkeypatch.setattr(cell_worker, "_ENDING", threading.Event())
    monkeypatch.setattr(cell_worker, "run_worker", lambda *arguments: next(ends))
    job = cell_worker.CellJob(tmp_path, ("a",), {}, None, tmp_path, 0.01)
    assert job() == {"a": ""}
    job.checkpoint()
    monkeypatch.setattr(cell_worker, "run_worker", lambda *arguments: cell_worker.STOPPED)
    assert job() == {"a": cell_worker.STOPPED}


def test_output_of_a_cell_is_not_written_through_a_link(tmp_path: Path) -> None:
    (tmp_path / "mine").write_text("precious", encoding="utf-8")
    (tmp_path / "cell").mkdir()
    (tmp_path / "cell" / cell_worker.LOG).symlink_to(tmp_path / "mine")
    with pytest.raises(OSError, match="not a regular file"):
        cell_worker.run_worker(tmp_path, "cell", {}, None)
    assert (tmp_path / "mine").read_text(encoding="utf-8") == "precious"


def test_cell_that_fails_is_reported_with_its_error_and_its_logs_are_kept(place: Path, dal: Command) -> None:
    """Its worker ends before PyTorch is imported, since the folder has no config."""
    slurm, folder = Slurm(local=True, gpus=0, cpus=1), place / "empty"
    cells = Comparison(experiment(folder), (Margin(),)).cells
    executor = SlurmJobs(experiment(folder), folder, 1, slurm)
    ended = list(executor.run(cells[:1], InterruptCheck(None, "compare")))
    executor.close()
    assert [(each.cell.name, each.lines) for each in ended] == [("Margin-seed0", None)]
    assert "empty is not a run folder: it has no config.yaml" in ended[0].error
    assert list((folder / FOLDER).glob("*/*_log.out"))


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--cluster", "slurm"], 'Slurm cannot be used: Could not detect "srun"'),
        (["--cluster", "slurm", "--cluster.minute", "3"], "did you mean minutes"),
        (["--cluster", "slurm", "--cluster.gpus", "2"], "gpus must be 0 or 1"),
        (["--cluster", "missing.yaml"], "missing.yaml"),
        (["--cluster.minutes", "3"], "give --cluster slurm or a YAML file, too"),
        (["--cells-per-gpu", "2"], "cells_per_gpu needs a cluster"),
    ],
)
def test_mistakes_are_told_in_one_line(dal: Command, place: Path, arguments: list[str], said: str) -> None:
    ended = dal("compare", "grid.yaml", "--strategies", "Margin", "--folder", "wrong", *arguments)
    assert ended.code == 2
    assert said in ended.err
    assert ended.err.count("\n") == 1
    assert not list((place / "wrong").glob(f"{FOLDER}/*"))


@pytest.mark.parametrize("wrong", [{"minutes": 0}, {"cpus": "4"}, {"memory": -1.0}, {"minutes": 1, "notice": 60}])
def test_impossible_resources_are_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(ConfigError, match=f"Slurm: {next(reversed(wrong))}"):
        Slurm(**wrong)


def test_jobs_need_a_folder() -> None:
    with pytest.raises(ConfigError, match="need a folder"):
        Comparison(experiment(), (Margin(),), cluster=Slurm())


SBATCH = """\
#!/bin/sh
cp "$1" "$(dirname "$0")/script"
echo "Submitted batch job 17"
"""


def put_commands(folder: Path, monkeypatch: pytest.MonkeyPatch, jobs: str = "") -> None:
    """Let commands in a folder stand for those of Slurm.

    Args:
        folder: folder to write them to.
        monkeypatch: puts the folder on the path of commands.
        jobs: rows of the reply of `sacct`.
    """
    sacct = f"#!/bin/sh\ncat <<END\nJobID|State|NodeList\n{jobs}END\n"
    for name, text in (("sbatch", SBATCH), ("srun", "#!/bin/sh\n"), ("scancel", "#!/bin/sh\n"), ("sacct", sacct)):
        (folder / name).write_text(text)
        (folder / name).chmod(0o755)
    monkeypatch.setenv("PATH", f"{folder}{os.pathsep}{os.environ['PATH']}")


def test_script_of_a_job_has_its_resources(
    place: Path, dal: Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    put_commands(tmp_path, monkeypatch)
    slurm = Slurm(minutes=90, partition="gpu", memory=8, options={"account": "nlp"}, setup=["module load cuda"])
    executor = SlurmJobs(experiment(place), place / "script", 1, slurm, cells_per_job=2)
    executor._submit(tuple(Comparison(experiment(), (Margin(),)).cells))
    executor.close()
    script = (tmp_path / "script").read_text()
    for line in ("job-name=dal-script", "time=90", "gpus-per-node=1", "cpus-per-task=8", "mem=16GB", "partition=gpu"):
        assert f"#SBATCH --{line}\n" in script
    for line in ("signal=USR2@120", "requeue", "account=nlp"):
        assert f"#SBATCH --{line}\n" in script
    assert "module load cuda\n" in script
    assert f"{sys.executable} -P -u -m submitit" in script


@pytest.mark.parametrize(("state", "queued"), [("PENDING", {"waits"}), ("RUNNING", set())])
def test_cells_of_jobs_in_the_queue_are_known(
    place: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, state: str, queued: set[str]
) -> None:
    put_commands(tmp_path, monkeypatch, f"17|{state}|\n")
    executor, seen = SlurmJobs(experiment(place), tmp_path / "queued", 1, Slurm()), []

    class Ending(InterruptCheck):
        def __call__(self) -> None:
            seen.append(executor.queued)
            raise Interrupted(None, "compare")

    with pytest.raises(Interrupted):
        list(executor.run([Cell("waits", Margin(), 0)], Ending(None, "compare")))
    executor.close()
    assert seen == [queued]
