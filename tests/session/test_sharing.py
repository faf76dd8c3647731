"""A session that threads share, and a folder that two processes tell answers to: nothing is torn or overwritten."""

import subprocess
import sys
from pathlib import Path

import pytest
from command import Command, asking, fill

from dal.store.label_store import LabelStore

# In a process of its own: a torn read of a mask ended in corrupted memory.
THREADS = """\
import random, sys, threading
import torch
from dal.data import Rows, Splits
from dal.errors import DalError
from dal.store.events import SKIP
from dal.learners.probe_learner import ProbeLearner
from dal.session.annotation_log import AnnotationLog
from dal.session import Session
from dal.strategies.random import Random

sys.setswitchinterval(1e-6)
pool = Rows.from_inputs(torch.randn(3000, 4), classes=["a", "b", "c"])
session = Session(Splits(pool=pool), ProbeLearner(model=None), Random())
ended, wrong = threading.Event(), []


def read():
    while not ended.is_set():
        if bool((session.labels < 0).any()):
            wrong.append("a label of -1")
        for rows in (session.labeled_rows, session.unasked_rows, session.weak_rows, session.pending):
            if len(rows) and int(rows.max()) >= 3000:
                wrong.append("a row outside the pool")


def work(seed):
    point = random.Random(seed)
    calls = [
        lambda: session.ask(point.randint(1, 50)),
        lambda: session.tell(session.pending[:20], [point.choice(["a", "b", SKIP])] * len(session.pending[:20])),
        lambda: session.tell(point.sample(range(3000), 5), ["c"] * 5, correct=True),
        lambda: session.propose(point.sample(range(3000), 4), ["a"] * 4, weight=point.choice([0, 0.5])),
        session.undo,
    ]
    for _ in range(60):
        try:
            point.choice(calls)()
        except DalError:
            pass
        except Exception as error:
            wrong.append(repr(error))


workers = [threading.Thread(target=work, args=(seed,)) for seed in range(6)]
reader = threading.Thread(target=read)
for thread in (reader, *workers):
    thread.start()
for thread in workers:
    thread.join()
ended.set()
reader.join()
live, again = session.pool_state, AnnotationLog(pool, session._classes, session.store, hide_labels=False).state
for name in ("labeled", "asked", "declined", "pending"):
    if not torch.equal(getattr(live, name), getattr(again, name)):
        wrong.append(name + " is not what the store says")
for name in ("status", "codes", "weights", "proposed"):
    if not torch.equal(getattr(live, name).all(), getattr(again, name).all()):
        wrong.append(name + " is not what the store says")
if live.counts != again.counts or live.n_pending != len(live.pending) or live.n_labeled != len(live.labels):
    wrong.append("the counts are not those of the rows")
sys.exit("; ".join(sorted(set(wrong))) or 0)
"""


def test_threads_read_a_session_while_others_ask_tell_and_undo() -> None:
    ended = subprocess.run([sys.executable, "-c", THREADS], capture_output=True, text=True, timeout=300)
    assert ended.returncode == 0, ended.stderr[-2000:]


@pytest.mark.parametrize("correct", [False, True])
def test_two_processes_that_tell_the_same_rows_store_the_answers_of_one_whole_sheet(
    correct: bool, with_tickets: Command
) -> None:
    dal = with_tickets.configured(pool=asking())
    names = ("billing", "access")
    assert dal("ask", "mine", "--config", "pool.yaml", "-n", 30, "-o", "todo.csv").code == 0
    for name in names:
        Path(f"{name}.csv").write_bytes(Path("todo.csv").read_bytes())
        fill(Path(f"{name}.csv"), [name] * 30)
    command = [sys.executable, "-m", "dal", "tell", "mine", *(["--correct"] if correct else []), "--who"]
    running = [subprocess.Popen([*command, name, f"{name}.csv"], stderr=subprocess.PIPE, text=True) for name in names]
    said = [process.communicate(timeout=120)[1] for process in running]
    codes = [process.returncode for process in running]
    assert 0 in codes
    for code, line in zip(codes, said, strict=True):
        assert code in (0, 2), line
        assert code == 0 or "\ndal: error: " in f"\n{line}"  # after the lines that name stages
        assert "Traceback" not in line
    with LabelStore(Path("mine/labels.db")) as store:
        told = [event.who for event in store.events() if event.kind == "answered"]
        assert len(set(store.answers.values())) == 1
    assert len(told) == 30 * codes.count(0)
    assert told == sorted(told, key=told.index)  # one sheet whole after the other
