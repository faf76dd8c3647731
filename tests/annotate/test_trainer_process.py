import io
import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from itertools import pairwise
from pathlib import Path
from typing import Any

import material
import pytest
from command import write_tickets

from dal.annotate.trainer import READING, Progress
from dal.annotate.trainer_process import TrainerProcess
from dal.store.atomic_files import is_alive
from dal.store.events import Answer
from dal.store.label_store import LabelStore

PATIENCE = 120.0  # seconds; a busy machine is no failure


def until(condition: Callable[[], Any]) -> Any:
    """The value of the condition, once it is true."""
    deadline = time.monotonic() + PATIENCE
    while not (value := condition()):
        assert time.monotonic() < deadline, "it did not happen"
        time.sleep(0.02)
    return value


class Received:
    """What a handle reported."""

    def __init__(self) -> None:
        self.rankings: list[dict[str, Any]] = []
        self.states: list[dict[str, Any]] = []

    def errors(self) -> list[str]:
        return [state["error"] for state in self.states if state["state"] == "failed"]


@contextmanager
def child(program: str, **options: Any) -> Iterator[tuple[TrainerProcess, Received]]:
    """A handle of a small program, which stands in for the trainer and starts in milliseconds."""
    received = Received()
    with TrainerProcess(
        Path("unused"),
        on_ranking=received.rankings.append,
        on_state=received.states.append,
        command=[sys.executable, "-c", program],
        first_pause=0.05,
        **options,
    ) as trainer:
        yield trainer, received


#: Functions for the programs of these tests: `say` sends a message, `jobs` receives.
TALK = """
import json, os, signal, sys, time
def say(**message):
    print(json.dumps(message), flush=True)
def jobs():
    for line in sys.stdin:
        yield json.loads(line)
def answer(job):
    say(job=job["job"], event=job["event"], strategy="S", reason="", rows=[{"id": "a"}], stop=None, figures={})
say(job=None, ready=True)
"""


def test_rankings_states_and_errors_are_passed_on() -> None:
    program = f"""{TALK}
for job in jobs():
    if job["n"] == 2:
        say(job=job["job"], error="no words")
        continue
    say(job=job["job"], stage="reading", done=3, total=9, left=2.5)
    answer(job)
"""
    with child(program) as (trainer, received):
        number = trainer.request(5, 1, ["x"])
        ranking = until(lambda: received.rankings)[0]
        assert (ranking["job"], ranking["event"], ranking["rows"]) == (number, 5, [{"id": "a"}])
        until(lambda: trainer.state["state"] == "idle")
        working = {"state": "working", "stage": "reading", "done": 3, "total": 9, "left": 2.5, "error": None}
        assert working in received.states
        trainer.request(6, 2)
        until(lambda: trainer.state["state"] == "failed")
        assert trainer.state["error"] == "no words"
        trainer.request(7, 1)
        until(lambda: len(received.rankings) == 2)
        nothing = dict.fromkeys(("stage", "done", "total", "left", "error"))
        until(lambda: trainer.state == {"state": "idle", **nothing})
    assert trainer.state["state"] == "stopped"


def test_searches_are_answered_or_say_why_not(tmp_path: Path) -> None:
    go = tmp_path / "go"
    program = f"""{TALK}
for job in jobs():
    if job.get("text") == "die":
        os.kill(os.getpid(), signal.SIGKILL)
    while job.get("text") != "now" and not os.path.exists({str(go)!r}):
        time.sleep(0.01)
    if "search" not in job:
        answer(job)
    elif job["text"] == "bad":
        say(search=job["search"], error="no words")
    elif job["text"] == "odd":
        say(search=job["search"], found=[[3]])
    else:
        say(search=job["search"], found=[["a", 0.5], [job["text"], 0.25]])
"""
    with child(program) as (trainer, received):
        assert trainer.search("now", 2, 0)["why"] in ("the model is loading", "the model has not answered yet")
        until(lambda: trainer.state["state"] == "idle")
        assert trainer.search("now", 3, PATIENCE) == {"found": [["a", 0.5], ["now", 0.25]]}
        trainer.request(1, 1)
        until(lambda: trainer.state["state"] == "working")
        assert trainer.search("late", 2, 0.05) == {"why": "the model is at work", "again": True}
        for word in ("bad", "odd", "more"):
            trainer.search(word, 2, 0)
        assert trainer.search("too many", 2, 0)["why"] == "the model is busy with other searches"
        go.touch()
        assert trainer.search("late", 2, PATIENCE) == {"found": [["a", 0.5], ["late", 0.25]]}  # asked before
        assert trainer.search("bad", 2, PATIENCE) == {"why": "no words", "again": False}
        assert not trainer.search("odd", 2, PATIENCE)["again"]
        until(lambda: received.rankings)
        assert trainer.search("die", 2, PATIENCE) == {"why": "the model ended, and starts again", "again": True}
        until(lambda: trainer.state["state"] == "idle")
        assert "found" in trainer.search("now", 2, PATIENCE)
    assert trainer.search("now", 2, PATIENCE) == {"why": "no model is running", "again": False}


def test_waiting_job_is_replaced_by_a_newer_one(tmp_path: Path) -> None:
    go = tmp_path / "go"
    program = f"""{TALK}
for job in jobs():
    while not os.path.exists({str(go)!r}):
        time.sleep(0.01)
    answer(job)
"""
    with child(program) as (trainer, received):
        first = trainer.request(1, 1)
        until(lambda: trainer.state["state"] == "working")
        trainer.request(2, 1)
        last = trainer.request(3, 1)
        go.touch()
        until(lambda: len(received.rankings) == 2)
        assert [ranking["job"] for ranking in received.rankings] == [first, last]


def test_killed_child_is_started_again_and_repeats_its_job(tmp_path: Path) -> None:
    count = tmp_path / "count"
    program = f"""{TALK}
with open({str(count)!r}, "a") as file:
    file.write("x")
for job in jobs():
    if os.path.getsize({str(count)!r}) < 4:
        os.kill(os.getpid(), signal.SIGKILL)
    answer(job)
"""
    with child(program) as (trainer, received):
        number = trainer.request(1, 1)
        until(lambda: received.rankings)
        assert received.rankings[0]["job"] == number
        assert count.read_text() == "xxxx"
        pauses = [float(error.rpartition(" in ")[2].removesuffix(" s")) for error in received.errors()]
        assert pauses == [0.05, 0.1, 0.2]
        assert received.errors()[0].startswith("the trainer was killed (signal 9, as when memory runs out)")
        until(lambda: trainer.state["state"] == "idle")
        killed = trainer.process_id
        assert killed is not None
        os.kill(killed, signal.SIGKILL)  # idle: it is started again, after the first pause
        until(lambda: trainer.process_id not in (killed, None) and trainer.state["state"] == "idle")
        assert received.errors()[-1].endswith(" in 0.05 s")


def test_exit_with_an_error_names_its_last_line() -> None:
    with child("import sys; sys.exit('no such folder')") as (_, received):
        until(received.errors)
        assert received.errors()[0].startswith("the trainer ended with exit code 1: no such folder; it starts again")


@pytest.mark.parametrize(
    "line", ["{torn", "[1, 2]", "\\xff", "[" * 50_000, '{"job": 1, "event": 3, "rows": [{"id": 5}]}']
)
def test_line_that_cannot_be_read_fails_its_job_only(line: str) -> None:
    program = f"""{TALK}
for job in jobs():
    if job["n"] == 2:
        print({line!r}, flush=True)
    else:
        answer(job)
"""
    with child(program) as (trainer, received):
        trainer.request(1, 2)
        until(lambda: trainer.state["state"] == "failed")
        assert "cannot be read" in trainer.state["error"]
        trainer.request(2, 1)
        until(lambda: received.rankings)
        assert len(received.rankings) == 1


def test_line_that_is_too_long_is_skipped_to_its_end(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("dal.annotate.trainer_process._MAX_LINE", 1000)
    program = f"""{TALK}
for job in jobs():
    if job["n"] == 2:
        print("x" * 3500, flush=True)
    else:
        answer(job)
"""
    with child(program) as (trainer, received):
        trainer.request(1, 2)
        until(lambda: trainer.state["state"] == "failed")
        assert trainer.state["error"] == "the trainer sent a line of more than 1,000 bytes"
        trainer.request(2, 1)
        until(lambda: received.rankings)
        assert len(received.errors()) == 1


def test_end_in_the_middle_of_a_line_is_an_end() -> None:
    program = f"""{TALK}
for job in jobs():
    sys.stdout.write('{{"job": 1, "ev')
    sys.stdout.flush()
    os._exit(3)
"""
    with child(program) as (trainer, received):
        trainer.request(1, 1)
        until(received.errors)
        assert received.errors()[0].startswith("the trainer ended with exit code 3")
        assert received.rankings == []


def test_errors_of_callbacks_leave_the_handle_working(caplog: pytest.LogCaptureFixture) -> None:
    program = f"""{TALK}
for job in jobs():
    answer(job)
"""
    rankings: list[int] = []

    def broken(ranking: dict[str, Any]) -> None:
        rankings.append(ranking["job"])
        raise ValueError("no room")

    with TrainerProcess(Path("unused"), on_ranking=broken, command=[sys.executable, "-c", program]) as trainer:
        trainer.request(1, 1)
        until(lambda: rankings == [1])
        trainer.request(2, 1)
        until(lambda: rankings == [1, 2])
    assert "no room" in caplog.text


def test_callbacks_may_take_a_lock_under_which_requests_are_made() -> None:
    program = f"""{TALK}
for job in jobs():
    answer(job)
"""
    lock, rankings = threading.Lock(), list[int]()

    def locked(ranking: dict[str, Any]) -> None:
        with lock:
            rankings.append(ranking["job"])

    def state(_: dict[str, Any]) -> None:
        if lock.acquire(timeout=0.01):
            lock.release()

    with TrainerProcess(
        Path("unused"), on_ranking=locked, on_state=state, command=[sys.executable, "-c", program]
    ) as trainer:
        for number in range(1, 20):
            with lock:
                assert trainer.request(number, 1) == number
            until(lambda number=number: rankings[-1:] == [number])  # type: ignore[misc]


def test_close_ends_a_child_that_does_not_listen_and_its_children(tmp_path: Path) -> None:
    """Within two seconds of waiting; nothing is left, neither a zombie nor a process of its group."""
    pids = tmp_path / "pids"
    program = f"""
import os, signal, subprocess, sys, time
signal.signal(signal.SIGTERM, signal.SIG_IGN)
inner = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"])
with open({str(pids)!r} + "~", "w") as file:
    file.write(f"{{os.getpid()}} {{inner.pid}}")
os.rename({str(pids)!r} + "~", {str(pids)!r})
time.sleep(600)
"""
    with child(program) as (trainer, _):
        until(pids.exists)
        outer, inner = map(int, pids.read_text().split())
        assert is_alive(outer)
        trainer.close()
        with pytest.raises(ProcessLookupError):
            os.kill(outer, 0)  # also of a zombie there would be one
        until(lambda: not is_alive(inner))
        assert trainer.process_id is None
        trainer.request(1, 1)  # without effect
        assert trainer.state["state"] == "stopped"


def test_handle_is_imported_without_heavy_packages() -> None:
    program = """
import sys
from pathlib import Path
from dal.annotate.trainer import READING, Progress
from dal.annotate.trainer_process import TrainerProcess
with TrainerProcess(Path("x"), on_ranking=print, command=[sys.executable, "-c", "input()"]) as trainer:
    trainer.request(1, 1)
heavy = "torch", "numpy", "pyarrow", "sklearn", "transformers", "yaml", "dal.data", "dal.session"
print([name for name in heavy if name in sys.modules])
"""
    found = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert found.stdout.strip() == "[]"


# -- the trainer itself ----------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with 40 tickets, the first 20 of which have an answer."""
    folder = tmp_path_factory.mktemp("trained") / "project"
    folder.mkdir()
    write_tickets(folder / "tickets.csv", 40, labels=False)
    data = {"path": str(folder / "tickets.csv"), "id": "id", "label": None, "classes": sorted(material.TOPICS)}
    (folder / "config.yaml").write_text(f"data: {json.dumps(data)}\nlearner: TfidfLearner\nstrategy: Margin\n")
    first = [f"t{i}" for i in range(20)]
    with LabelStore(folder / "labels.db") as store:
        store.ask(first)
        store.tell([Answer(f"t{i}", topic) for i, topic in enumerate(material.tickets(20)[1])])
    return folder


def test_trainer_ranks_reports_errors_and_lives_on(folder: Path) -> None:
    received = Received()
    with TrainerProcess(folder, on_ranking=received.rankings.append, on_state=received.states.append) as trainer:
        trainer.request(10**6, 5, ["t30"])
        ranking = until(lambda: received.rankings or (received.errors() and pytest.fail(str(received.errors()))))[0]
        assert len({row["id"] for row in ranking["rows"]} - {"t30"}) == 5
        assert ranking["figures"]["labels"] == 20
        process = trainer.process_id
        assert process is not None
        assert os.getpriority(os.PRIO_PROCESS, process) >= min(19, os.getpriority(os.PRIO_PROCESS, 0) + 10)
        starting = [state["stage"] for state in received.states if state["state"] == "starting"]
        assert "loading the libraries" in starting
        (folder / "config.yaml").rename(folder / "away.yaml")
        try:
            trainer.request(10**6, 5)
            until(lambda: trainer.state["state"] == "failed")
            assert trainer.state["error"].endswith("is not a run folder: it has no config.yaml")
        finally:
            (folder / "away.yaml").rename(folder / "config.yaml")
        found = trainer.search("my invoice is wrong", 4, PATIENCE)["found"]
        assert len({id for id, _ in found}) == 4
        os.kill(process, signal.SIGINT)  # as Ctrl-C, which is for the parent
        trainer.request(10**6, 3)
        until(lambda: len(received.rankings) == 2)
        assert trainer.process_id == process
        begun = time.monotonic()
        trainer.close()
        assert not is_alive(process)
        assert trainer.state["state"] == "stopped"
        assert time.monotonic() - begun < PATIENCE


def run_by_hand(folder: Path, *jobs: bytes) -> "subprocess.Popen[bytes]":
    process = subprocess.Popen(
        [sys.executable, "-m", "dal.annotate.trainer", str(folder)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )
    assert process.stdin is not None
    for job in jobs:
        process.stdin.write(job + b"\n")
    process.stdin.flush()
    return process


def test_protocol_by_hand_is_all_that_stdout_has_although_code_prints(folder: Path, tmp_path: Path) -> None:
    """A class of the user prints; and jobs that are none are answered by an error."""
    code = tmp_path / "code"
    code.mkdir()
    (code / "loud_words.py").write_text(
        "import os\nfrom dal import TfidfLearner\nprint('at import')\nclass Loud(TfidfLearner):\n"
        "    def prepare(self, data):\n        print('by print')\n        os.system('echo by a program')\n"
        "        return super().prepare(data)\n"
    )
    loud = tmp_path / "loud"
    loud.mkdir()
    text = (folder / "config.yaml").read_text().replace("learner: TfidfLearner", "learner: loud_words.Loud")
    (loud / "config.yaml").write_text(text)
    (loud / "labels.db").write_bytes((folder / "labels.db").read_bytes())
    process = subprocess.Popen(
        [sys.executable, "-m", "dal.annotate.trainer", str(loud), "--allow-code", str(code)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )
    search = b'{"search": 9, "text": "invoice", "n": 0}'
    jobs = (
        b"{torn",
        b"[]",
        b'{"job": 4, "event": 0, "n": 0}',
        search,
        b'{"job": 5, "event": 40, "n": 2, "keep": ["t25"]}',
    )
    assert process.stdin is not None
    assert process.stdout is not None
    process.stdin.write(b"\n".join(jobs) + b"\n")
    process.stdin.flush()
    messages = []
    for line in process.stdout:
        messages.append(json.loads(line))
        if messages[-1].get("job") == 5 and "stage" not in messages[-1]:
            break
    process.stdin.close()  # ends it, whatever it does
    assert process.wait(PATIENCE) == 0
    answers = [message for message in messages if "stage" not in message and "ready" not in message]
    assert answers.pop(3) == {"search": 9, "error": "a search has a number, a text, and a number of texts from 1"}
    assert [answer["job"] for answer in answers] == [None, None, 4, 5]
    assert [answer.get("error") for answer in answers[1:3]] == [
        "a job is a JSON object",
        "n must be a whole number from 1, not 0",
    ]
    assert len(answers[3]["rows"]) == 2
    assert process.stderr is not None
    printed = process.stderr.read().decode()
    process.stdout.close()
    process.stderr.close()
    assert [word in printed for word in ("at import", "by print", "by a program")] == [True] * 3


PARENT = """
import os, sys, time
from pathlib import Path
from dal.annotate.trainer import READING, Progress
from dal.annotate.trainer_process import TrainerProcess
trainer = TrainerProcess(Path(sys.argv[1]), on_ranking=print)
if len(sys.argv) > 2:
    trainer.request(10**6, 5)
while trainer.process_id is None or (len(sys.argv) > 2 and trainer.state["state"] != "working"):
    time.sleep(0.01)
print(trainer.process_id, flush=True)
time.sleep(600)
"""


@pytest.mark.parametrize("moment", ["while it imports", "while it works"])
def test_trainer_ends_with_a_parent_that_is_killed(folder: Path, moment: str) -> None:
    arguments = [str(folder)] + (["work"] if moment == "while it works" else [])
    parent = subprocess.Popen([sys.executable, "-c", PARENT, *arguments], stdout=subprocess.PIPE)
    assert parent.stdout is not None
    trainer = int(parent.stdout.readline())
    assert is_alive(trainer)
    parent.kill()
    parent.wait()
    parent.stdout.close()
    until(lambda: not is_alive(trainer))


def test_trainer_whose_parent_ended_before_it_looked_ends_at_once(folder: Path) -> None:
    ended = subprocess.Popen([sys.executable, "-c", ""])
    ended.wait()
    process = subprocess.Popen(
        [sys.executable, "-m", "dal.annotate.trainer", str(folder), "--parent", str(ended.pid)],
        stdin=subprocess.PIPE,  # which stays open
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )
    assert process.wait(PATIENCE) == 1
    process.communicate()


def test_termination_is_quiet(folder: Path) -> None:
    process = run_by_hand(folder)
    assert process.stdout is not None
    assert json.loads(process.stdout.readline())["stage"] == "loading the libraries"
    process.send_signal(signal.SIGTERM)
    _, stderr = process.communicate(timeout=PATIENCE)
    assert process.returncode == -signal.SIGTERM
    assert stderr == b""


def test_time_left_is_that_at_the_pace_so_far() -> None:
    lines = io.StringIO()
    progress = Progress(lines)
    progress.stage(READING)
    progress.started("pass", 100)
    progress.advanced(20)
    assert progress._left() is None  # the pace is not known yet
    progress._since -= 10
    assert progress._left() == pytest.approx(40, rel=0.05)
    progress.advanced(80)
    assert progress._left() == 0
    until(lambda: '"stage": "reading the texts", ' in lines.getvalue())  # without what the pass does


def test_progress_lines_are_at_most_four_a_second() -> None:
    """1,000 steps in a second and a half; the times are those of the lines as they are sent."""
    program = """
import sys, time
from dal.annotate.trainer import Progress
class File:
    def write(self, line):
        print(time.monotonic(), line, end="", flush=True)
    def flush(self):
        pass
progress = Progress(File())
progress.begin(3)
progress.stage("selecting the texts")
progress.started("pass", 1000)
for _ in range(1000):
    progress.advanced(1)
    time.sleep(0.0015)
time.sleep(0.6)
progress.send({"job": 3, "error": "x"})
time.sleep(0.6)
"""
    found = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    lines = [line.split(" ", 1) for line in found.stdout.splitlines()]
    messages = [json.loads(text) for _, text in lines]
    assert messages[-1] == {"job": 3, "error": "x"}
    assert messages[-2].pop("left") in (None, 0)  # None for less than two seconds of work
    stage = "selecting the texts: running the model over the texts"
    assert messages[-2] == {"job": 3, "stage": stage, "done": 1000, "total": 1000}
    times = [float(at) for at, _ in lines[:-1]]
    assert len(times) >= 3
    assert all(later - earlier > 0.2 for earlier, later in pairwise(times))
