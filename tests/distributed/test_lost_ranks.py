"""Ranks that die, stop or do not start end the work with one line; waiting for work has no limit."""

import os
import signal
import socket
import subprocess
import sys
import tempfile
import textwrap
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
import rank_jobs

from dal.commands import several_devices
from dal.distributed import ranks, start
from dal.distributed.connection import Connection, Kind
from dal.distributed.leader import Leader, welcomed
from dal.distributed.wire import packed
from dal.distributed.worker import join
from dal.errors import ConfigError, RankError
from dal.learners.ranks import Job, current_ranks
from dal.store.installed_code import code_facts

HERE = Job(rank_jobs.rank_of, (0,))


def running(process: int) -> bool:
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    return True


def worker_of(leader: Leader) -> int:
    """The process of rank 1."""
    return int(leader.run("test", [HERE, Job(rank_jobs.rank_of, (1,))])[1][0])


def on_two_ranks(work: Callable[[Leader], object], timeout: float = 60) -> None:
    with ranks(2, timeout=timeout) as leader:
        assert isinstance(leader, Leader)
        work(leader)


def error_of(work: Callable[[Leader], object], timeout: float = 60) -> RankError:
    """The error with which some work on two ranks ends."""
    with pytest.raises(RankError) as caught:
        on_two_ranks(work, timeout)
    assert current_ranks() is None
    assert "\n" not in str(caught.value)
    return caught.value


def test_waiting_has_no_limit_and_a_killed_rank_is_named_with_its_log():
    found = []

    def work(leader: Leader) -> None:
        found.append(worker_of(leader))
        time.sleep(9)  # rank 0 works three times longer than the timeout
        found.append(worker_of(leader))
        leader.run("test", [Job(rank_jobs.work, (4,)), Job(rank_jobs.work, (4,))])  # so may a job that goes on
        leader.run("fit", [HERE, Job(rank_jobs.send, (signal.SIGKILL,))])

    error = error_of(work, timeout=3)
    assert found[0] == found[1]
    start_of_line = f"rank 1 (process {found[0]} on {socket.gethostname()}) was killed by signal 9; its output is in "
    assert str(error).startswith(start_of_line)
    assert Path(str(error).removeprefix(start_of_line)).is_file()
    assert error.exit_code == 4


def test_signals_of_a_scheduler_are_left_to_rank_0_and_a_rank_that_is_killed_in_a_choice_is_named():
    """They go to all tasks of a job, and rank 0 ends the run after its step."""

    def work(leader: Leader) -> None:
        before = worker_of(leader)
        for number in (signal.SIGTERM, signal.SIGUSR1, signal.SIGINT):
            leader.run("pass", [HERE, Job(rank_jobs.receive, (number,))])
        assert worker_of(leader) == before
        with pytest.raises(RankError, match=rf"^rank 1 \(process {before} on .*\) was killed by signal 9; its output"):
            leader.run("choice", [Job(rank_jobs.gather_or_kill)] * 2)  # while rank 0 waits for its tensor

    on_two_ranks(work)


def test_rank_that_stops_counts_as_lost_and_is_ended():
    found = []

    def work(leader: Leader) -> None:
        found.append(worker_of(leader))
        leader.run("pass", [HERE, Job(rank_jobs.send, (signal.SIGSTOP,))])

    assert "gave no sign of life for 3 seconds" in str(error_of(work, timeout=3))
    assert not running(found[0])


def test_rank_that_was_killed_while_idle_is_noticed_by_the_next_job():
    def work(leader: Leader) -> None:
        rank_jobs.kill(worker_of(leader))
        time.sleep(0.5)
        leader.run("pass", [HERE, Job(rank_jobs.rank_of, (1,))])

    assert "was killed by signal 9" in str(error_of(work))


def test_ranks_end_with_the_block_and_their_logs_are_removed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    found = []

    def work(leader: Leader) -> None:
        found.append(worker_of(leader))
        leader.run("pass", [Job(rank_jobs.stop), Job(rank_jobs.wait, (0.2,))])

    with pytest.raises(KeyboardInterrupt):
        on_two_ranks(work)
    assert not running(found[0])
    assert list(tmp_path.iterdir()) == []


def test_rank_that_cannot_start_is_named(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(start, "_COMMAND", ["-c", "import sys; sys.exit('no module named torch')"])
    text = str(error_of(worker_of))
    assert text.startswith("rank 1 ended with exit code 1 before it was ready; its output is in ")
    log = Path(text.split("its output is in ")[1])
    assert log.read_text(encoding="utf-8") == "no module named torch\n"


def test_ranks_that_do_not_start_are_announced_once_and_named_with_their_output(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
):
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    monkeypatch.setattr(start, "_COMMAND", ["-c", "import sys; sys.stdin.read()"])
    monkeypatch.setattr(start, "_START", 1.0)
    monkeypatch.setattr(start, "_PATIENCE", 0.2)
    lines: list[str] = []
    for tell in (lines.append, None):
        with pytest.raises(RankError) as caught, ranks(3, timeout=1, tell=tell):
            pass
        reason, _, output = str(caught.value).partition("; ")
        assert reason == "rank 1, 2 did not start within 1 seconds"
        assert Path(output.removeprefix("their output is in ")).is_dir()
        told = lines if tell else caplog.messages
        assert told == [f"waiting for 2 of 3 ranks to start ({output})"]


def test_each_rank_that_joins_is_told_and_nothing_before_some_seconds(monkeypatch: pytest.MonkeyPatch):
    key, lines = b"key", list[str]()
    monkeypatch.setattr(start, "_PATIENCE", 0.3)
    expected = {rank: (lambda: None, "") for rank in (1, 2)}
    with start._Reception("127.0.0.1", key) as reception, ThreadPoolExecutor() as pool:
        waiting = pool.submit(reception.workers, expected, 60, "their output is here", lines.append)
        ends = [join("127.0.0.1", reception.port, key, 1)]
        while len(lines) < 1:
            time.sleep(0.01)
        ends.append(join("127.0.0.1", reception.port, key, 2))
        for connection in (*ends, *(worker.connection for worker in waiting.result())):
            connection.close()
        assert lines == ["waiting for 1 of 3 ranks to start (their output is here)"]
        monkeypatch.setattr(start, "_PATIENCE", 60.0)
        waiting = pool.submit(reception.workers, {1: expected[1]}, 60, "their output is here", lines.append)
        end = join("127.0.0.1", reception.port, key, 1)
        for connection in (end, waiting.result()[0].connection):
            connection.close()
        assert len(lines) == 1


@pytest.fixture
def pair() -> Iterator[tuple[Connection, Connection]]:
    with socket.create_server(("127.0.0.1", 0)) as server:
        one = socket.create_connection(server.getsockname())
        other, _ = server.accept()
    ends = Connection(one), Connection(other)
    yield ends
    for end in ends:
        end.close()


def test_ranks_with_unequal_versions_are_refused(pair: tuple[Connection, Connection]):
    own = code_facts()
    facts = {"rank": 3, "pid": 1, "host": "node7", **own, "versions": own["versions"] | {"torch": "1.0"}}
    pair[0].send(Kind.RESULT, packed(facts, {}, same_host=False, own_main=False))
    with pytest.raises(RankError, match=r"rank 3 on node7 has torch 1.0, and rank 0 on .* has .*: install the same"):
        welcomed(pair[1])
    assert pair[0].receive(5).kind == Kind.FAILED


def test_rank_with_other_source_of_the_same_version_is_refused_in_one_line(pair: tuple[Connection, Connection]):
    facts = {"rank": 3, "pid": 1, "host": "node7", **code_facts()}
    pair[0].send(Kind.RESULT, packed(facts | {"source": "0" * 32}, {}, same_host=False, own_main=False))
    with pytest.raises(RankError, match=r"rank 3 on node7 runs other source code of dal .* than rank 0 on .*"):
        welcomed(pair[1])
    assert pair[0].receive(5).kind == Kind.FAILED
    pair[0].send(Kind.RESULT, packed(facts, {}, same_host=False, own_main=False))
    assert welcomed(pair[1])["rank"] == 3


LAUNCHED = """
    import sys
    sys.path[:0] = {path!r}
    from dal.distributed import ranks
    import rank_jobs
    from dal.learners.ranks import Job
    with ranks(timeout=60) as leader:
        print(leader.run("test", [Job(rank_jobs.rank_of, (i,)) for i in range(2)])[1][1], flush=True)
"""


def test_processes_of_a_launcher_are_the_ranks(tmp_path: Path):
    """Each runs the same program, and the block in rank 0 only."""
    program = tmp_path / "program.py"
    program.write_text(textwrap.dedent(LAUNCHED.format(path=[str(Path(__file__).parent)])), encoding="utf-8")
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
    common = {"WORLD_SIZE": "2", "LOCAL_WORLD_SIZE": "2", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)}
    processes = [
        subprocess.Popen(
            [sys.executable, str(program)],
            text=True,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            env={**os.environ, **common, "RANK": str(rank), "LOCAL_RANK": str(rank)},
        )
        for rank in range(2)
    ]
    outputs = [process.communicate(timeout=120)[0] for process in processes]
    assert [process.returncode for process in processes] == [0, 0], outputs
    assert outputs == ["1\n", ""]


@pytest.mark.parametrize("devices", [0, 2.5, "two"])
def test_number_of_devices_is_checked(devices: object):
    with pytest.raises(ConfigError, match="devices must be"), ranks(devices):  # type: ignore[arg-type]
        pass


def test_processes_that_do_not_fit_into_memory_are_not_started(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(start, "_process", lambda *arguments: pytest.fail("a process was started"))
    with (
        pytest.raises(ConfigError, match=r"devices is 1000000, but the memory here \(.* GiB\) is enough"),
        ranks(10**6),
    ):
        pass


def test_trainer_with_several_devices_is_one_device_in_the_stored_recipe():
    for given, number in ((1, 1), ("3", 3), (None, 1), ("auto", 1), ([2], 1)):
        assert several_devices._number_of(given) == number
    with pytest.raises(ConfigError, match="must be a number of devices, at least 1, not \\[0, 1\\]: choose GPUs with"):
        several_devices._number_of([0, 1])


def test_failure_of_connections_names_the_rank_that_does_not_answer(monkeypatch: pytest.MonkeyPatch):
    """In a common fit all ranks fail when one stops; the others say so, and that one does not."""
    monkeypatch.setattr("dal.distributed.leader._GRACE", 1.0)

    def work(leader: Leader) -> None:
        leader.run("fit", [Job(rank_jobs.lose_connection), Job(rank_jobs.send, (signal.SIGSTOP,))])

    assert "does not answer" in str(error_of(work))


def test_lost_rank_ends_the_work_of_rank_0_at_once():
    def work(leader: Leader) -> None:
        leader.run("pass", [Job(rank_jobs.work, (3600,)), Job(rank_jobs.send, (signal.SIGKILL,))])

    assert "was killed by signal 9" in str(error_of(work))


def test_fault_on_rank_0_is_not_blamed_on_another_rank(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("dal.distributed.leader._GRACE", 0.5)

    def work(leader: Leader) -> None:
        leader.run("fit", [Job(rank_jobs.break_down), Job(rank_jobs.wait, (1,))])

    with pytest.raises(RuntimeError, match="a fault of the program"):
        on_two_ranks(work)
