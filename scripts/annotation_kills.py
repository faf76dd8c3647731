"""Three people answer over HTTP while the server, its trainer, or both are killed at random, and the disk fills up.

    python scripts/annotation_kills.py [--kills 300] [--seed 0] [--folder build/kills] [--trainer light|model|none]

Each person repeats a request with the same key until it is confirmed, as the page does. At the end the log is compared
with what was confirmed: exit code 0 if no confirmed answer was lost, none is stored twice, every row that is wanted
twice has answers of two people, and the files are sound. Figures are printed as JSON.

Ends of processes are SIGKILL. In one kill of ten the server may write no byte to any file for a second, as on a full
disk (RLIMIT_FSIZE). The trainer is a light one that ranks by a hash: the real one loads libraries for seconds, longer
than the time between two kills, so that none of its rankings would ever arrive.

    python scripts/annotation_kills.py --kills 0 --answers 600 --trainer model --project PROJECT

measures instead, without a kill and with the real trainer on a copy of a project that `dal init` made, how long people
wait from the key to the next text.
"""

import argparse
import http.client
import json
import os
import random
import re
import resource
import shutil
import signal
import sqlite3
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter, defaultdict
from dataclasses import dataclass, field
from hashlib import blake2b
from pathlib import Path
from typing import Any

PEOPLE = ("ana", "ben", "cara")
CLASSES = ("none", "mild", "severe")
OVERLAP = "0.1:2"
_UNDO, _LATER = 0.03, 0.02  # shares of the steps that are an undo, or put a text last
_PATIENCE = 60.0  # seconds after which a request that is not confirmed counts as lost
_DISK_FULL = 0.1  # share of the disturbances that are a full disk instead of a kill


# -- the server and its trainer, in processes of their own ------------------------------------------------------------


def serve(folder: Path, port: int, trainer: str) -> None:
    """Serve a project, with a link for each person on stdout; "full" and "free" on stdin fill the disk and empty it."""
    from dal.annotate.admissions import Admissions
    from dal.annotate.page_routes import application
    from dal.annotate.server import hosts_of, listen
    from dal.annotate.server import serve as answer_requests
    from dal.annotate.service import open_service
    from dal.annotate.trainer_process import TrainerProcess
    from dal.store.parent_process import end_with_parent

    end_with_parent(os.getppid())
    with listen(port) as listening:
        service = open_service(folder, trainer=trainer == "model", overlap=OVERLAP)
        if trainer == "light":
            command = [sys.executable, __file__, "--train", str(folder), str(os.getpid())]
            process = TrainerProcess(
                folder, on_ranking=service.receive, on_state=service.trainer_changed, command=command, first_pause=0.1
            )
            service.start(process)
        admissions = Admissions()
        print(json.dumps({who: admissions.new_token(who) for who in PEOPLE}), flush=True)
        threading.Thread(target=_fill_and_empty, daemon=True).start()
        answer_requests(
            application(service, admissions, hosts=hosts_of(listening.getsockname()[1]), project=str(folder)),
            listening,
        )


def _fill_and_empty() -> None:
    _, most = resource.getrlimit(resource.RLIMIT_FSIZE)
    for line in sys.stdin:
        resource.setrlimit(resource.RLIMIT_FSIZE, (1 if line.strip() == "full" else most, most))


def train(folder: Path, parent: int) -> None:
    """Rank rows by a hash of their ids and the event, in the trainer's protocol."""
    from dal.store.label_log import LabelLog
    from dal.store.parent_process import end_with_parent
    from dal.store.project_rows import ProjectRows

    end_with_parent(parent)
    (folder.parent / "trainer.pid").write_text(str(os.getpid()))
    ids = [row.id for row in ProjectRows(folder / "rows.db")]
    print(json.dumps({"job": None, "ready": True}), flush=True)
    for line in sys.stdin:
        job = json.loads(line)
        time.sleep(0.2)
        with LabelLog(folder / "labels.db", access="read") as log:
            states = log.states(ids)
        free = [id for id in ids if id not in job["keep"] and (id not in states or states[id].state == "pending")]
        free.sort(key=lambda id: blake2b(f"{job['event']} {id}".encode()).digest())
        rows = [{"id": id, "score": None, "why": "by hash", "guesses": [], "near": []} for id in free[: job["n"]]]
        head = {"job": job["job"], "event": job["event"], "strategy": "Hash", "reason": "", "stop": None}
        print(json.dumps({**head, "rows": rows, "figures": {}, "details": {}, "kept": []}), flush=True)


class Server:
    """The server's process, which is started again after it was killed."""

    def __init__(self, folder: Path, trainer: str) -> None:
        self.folder, self._trainer, self.port = folder, trainer, 0
        self.tokens: dict[str, str] = {}
        self.starts = 0
        self.start()

    def start(self) -> None:
        """Start the process, and wait until it has written its links."""
        if not self.port:
            import socket

            with socket.socket() as probe:
                probe.bind(("127.0.0.1", 0))
                self.port = probe.getsockname()[1]
        command = [sys.executable, __file__, "--serve", str(self.folder), str(self.port), self._trainer]
        for _ in range(50):  # the folder is locked until the killed one is gone
            self.process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
            assert self.process.stdout is not None
            line = self.process.stdout.readline()
            if line:
                self.tokens = json.loads(line)
                self.starts += 1
                return
            self.process.wait()
            time.sleep(0.1)
        raise RuntimeError("the server does not start")

    def tell(self, word: str) -> None:
        """Fill the disk ("full") or empty it ("free")."""
        assert self.process.stdin is not None
        self.process.stdin.write(word + "\n")
        self.process.stdin.flush()

    def kill(self) -> None:
        """SIGKILL, and start again."""
        self.process.kill()
        self.process.wait()
        self.start()

    def kill_trainer(self) -> bool:
        """SIGKILL to the trainer; whether there was one."""
        try:
            pid = int((self.folder.parent / "trainer.pid").read_text())
            if "--train" not in Path(f"/proc/{pid}/cmdline").read_text():
                return False
            os.kill(pid, signal.SIGKILL)
        except (OSError, ValueError):
            return False
        return True


# -- people ------------------------------------------------------------------------------------------------------------


@dataclass
class Person:
    """A scripted person, who answers the texts as they come.

    Attributes:
        confirmed: key of a request -> what the person did, and to which row.
        seconds: from the key to the next text, of requests that succeeded at once.
        failures: requests that failed, by reason.
        refused: what the server refused for good.
    """

    who: str
    server: Server
    generator: random.Random
    pause: float
    confirmed: dict[str, tuple[str, str, int | None]] = field(default_factory=dict)
    seconds: list[float] = field(default_factory=list)
    failures: Counter[str] = field(default_factory=Counter)
    refused: list[str] = field(default_factory=list)
    cookie: str = ""
    connection: http.client.HTTPConnection | None = None

    def send(self, method: str, path: str, body: dict[str, Any] | None = None) -> tuple[int, Any, bool]:
        """Status, reply, and whether the first attempt succeeded. A failed request is repeated as it is."""
        end, first = time.monotonic() + _PATIENCE, True
        while time.monotonic() < end:
            try:
                status, reply = self._once(method, path, body)
            except (OSError, http.client.HTTPException, ValueError) as error:
                self._failed(type(error).__name__)
            else:
                if status == 401:
                    self.cookie = ""
                if status not in (401, 500, 503):
                    return status, reply, first
                self._failed(str(status))
            first = False
            time.sleep(0.05)
        raise RuntimeError(f"{self.who}: {path} was not confirmed within {_PATIENCE:.0f} s: {self.failures}")

    def _failed(self, reason: str) -> None:
        self.failures[reason] += 1
        if self.connection is not None:
            self.connection.close()
        self.connection = None

    def _once(self, method: str, path: str, body: dict[str, Any] | None) -> tuple[int, Any]:
        if self.connection is None:
            self.connection = http.client.HTTPConnection("127.0.0.1", self.server.port, timeout=10)
        if not self.cookie:
            self.connection.request("GET", f"/?token={self.server.tokens[self.who]}")
            entered = self.connection.getresponse()
            entered.read()
            self.cookie = (entered.getheader("set-cookie") or "").partition(";")[0]
            if not self.cookie:
                return 401, None
        headers = {"cookie": self.cookie, "origin": f"http://127.0.0.1:{self.server.port}"}
        if body is not None:
            headers["content-type"] = "application/json"
        self.connection.request(method, path, None if body is None else json.dumps(body), headers)
        reply = self.connection.getresponse()
        return reply.status, json.loads(reply.read())

    def work(self, until: "Goal") -> None:
        """Answer until the goal is reached or no text is left."""
        rows = self.send("GET", "/api/state")[1]["rows"]
        while not until.is_reached:
            time.sleep(self.generator.random() * 2 * self.pause)
            if not rows:
                rows = self.send("GET", "/api/state")[1]["rows"]
                if not rows and until.is_counted:
                    return
                continue
            rows = self.step(rows[0], until)

    def step(self, row: dict[str, Any], until: "Goal | None" = None) -> list[dict[str, Any]]:
        """Answer a row, put it last, or undo the last step; the rows that come next."""
        key, chance = self.generator.randbytes(16).hex(), self.generator.random()
        replaces = None if row["answer"] is None else row["answer"]["event"]
        number = self.choose(row["id"])
        if chance < _UNDO:
            name, body = "undo", {"key": key}
        elif chance < _UNDO + _LATER:
            name, body = "skip", {"row": row["id"], "key": key, "replaces": replaces, "how": "later"}
        else:
            name, body = "answer", {"row": row["id"], "classes": [number], "key": key, "replaces": replaces}
            body |= {"seconds": 1.5, "seen": {"model": False, "near": False, "why": False}}
        began = time.perf_counter()
        status, reply, at_once = self.send("POST", f"/api/{name}", body)
        if status != 200:
            self.refused.append(f"{self.who} {name} {status}: {reply['error']}")
            return list(self.send("GET", "/api/state")[1]["rows"])
        if at_once and name == "answer":
            self.seconds.append(time.perf_counter() - began)
        if name != "undo" or reply["undone"] is not None:
            self.confirmed[key] = (name, row["id"] if name != "undo" else reply["undone"]["row"], number)
        if until is not None and name == "answer":
            until.count()
        return list(reply["rows"])

    def choose(self, row: str) -> int:
        """A class that depends on the row, and in one of ten rows on the person."""
        digest = blake2b(row.encode()).digest()
        return digest[0 if digest[1] > 25 else 2 + PEOPLE.index(self.who)] % len(CLASSES)


class Goal:
    """What people work for: a number of answers, or the end of the kills."""

    def __init__(self, answers: int | None) -> None:
        self._answers, self._lock, self._ended, self.given = answers, threading.Lock(), False, 0

    def count(self) -> None:
        """Count an answer."""
        with self._lock:
            self.given += 1

    def end(self) -> None:
        """Let everybody stop."""
        self._ended = True

    @property
    def is_counted(self) -> bool:
        """Whether a number of answers is the goal: then the end of the texts is an end, too."""
        return self._answers is not None

    @property
    def is_reached(self) -> bool:
        """Whether everybody stops."""
        return self._ended or (self._answers is not None and self.given >= self._answers)


# -- the run -----------------------------------------------------------------------------------------------------------


def make_project(folder: Path, n: int) -> None:
    """A project of `n` made-up texts."""
    from dal.store.label_log import LabelLog
    from dal.store.project_rows import ProjectRow, ProjectRows

    folder.mkdir(parents=True)
    (folder / "config.yaml").write_text("kind: project\ndata: {path: rows.db}\n")
    rows = ProjectRows.create(folder / "rows.db")
    rows.add((ProjectRow(f"t{i}", f"patient {i} had a headache after {i % 7} days") for i in range(n)), source="made")
    rows.close()
    with LabelLog(folder / "labels.db") as log:
        for name in CLASSES:
            log.change_classes({"do": "add", "name": name})


def disturb(server: Server, kills: int, generator: random.Random, counts: Counter[str], deadline: float) -> None:
    """Kill the server, the trainer or both at random times, and fill the disk now and then."""
    done = 0
    while done < kills and time.monotonic() < deadline:
        time.sleep(generator.uniform(0.2, 1.5))
        if generator.random() < _DISK_FULL:
            server.tell("full")
            time.sleep(1.0)
            server.tell("free")
            counts["disk full"] += 1
            continue
        what = generator.choice(("server", "trainer", "both"))
        if what != "server" and not server.kill_trainer():
            continue
        if what != "trainer":
            server.kill()
        counts[what] += 1
        done += 1


def faults(folder: Path, people: list[Person]) -> tuple[list[str], dict[str, int]]:
    """What is wrong with the log, in words, and figures about it."""
    found: list[str] = []
    connection = sqlite3.connect(f"file:{folder / 'labels.db'}?mode=ro", uri=True)
    for name in ("labels.db", "rows.db"):
        with sqlite3.connect(folder / name) as checked:
            sound = checked.execute("PRAGMA integrity_check").fetchone()[0]
            if sound != "ok":
                found.append(f"{name} is damaged: {sound}")
    classes = dict(enumerate(CLASSES))
    events = connection.execute("SELECT event, kind, row, value, who, key, retracts FROM events").fetchall()
    keyed = {key: (kind, row, value, who) for _, kind, row, value, who, key, _ in events if key is not None}
    kinds = {"answer": "answered", "skip": "deferred", "undo": "retracted"}
    confirmed = Counter(name for each in people for name, _, _ in each.confirmed.values())
    for person in people:
        for key, (name, row, number) in person.confirmed.items():
            action = {"skip": "later"}.get(name, name)
            kind, stored_row, value, who = keyed.get(f"{action}:{person.who}:{key}", (None,) * 4)
            right = (kind, stored_row, who) == (kinds[name], row, person.who)
            if name == "answer":
                right = right and value == json.dumps(classes[number or 0])
            if not right:
                found.append(f"lost: {name} of {person.who} to {row}, stored is {(kind, stored_row, value, who)}")
    stored = Counter(kind for _, kind, *_ in events)
    for name, kind in kinds.items():
        if stored[kind] != confirmed[name]:
            found.append(f"{stored[kind]} events {kind!r} are stored, {confirmed[name]} were confirmed")
    taken_back = {retracts for *_, retracts in events if retracts is not None}
    given: dict[str, list[str]] = defaultdict(list)
    for event, kind, row, _, who, _, _ in events:
        if kind == "answered" and event not in taken_back:
            given[row].append(who)
    states = {
        row: (state, wanted) for row, state, wanted in connection.execute("SELECT row, state, wanted FROM standing")
    }
    twice = waiting = 0
    for row, names in given.items():
        state, wanted = states[row]
        if len(names) != len(set(names)) or len(names) > wanted:
            found.append(f"doubled: {row} is wanted {wanted} times, and has the answers of {names}")
        if wanted > 1:
            twice += len(names) == wanted
            waiting += len(names) < wanted
            if (len(names) < wanted) != (state == "pending"):
                found.append(f"{row} has {len(names)} of {wanted} answers and is {state}")
    counts = {
        "answers_confirmed": confirmed["answer"],
        "answers_stored": stored["answered"],
        "undone": stored["retracted"],
        "put_last": stored["deferred"],
        "rows_answered": len(given),
        "rows_of_two_people": twice,
        "rows_waiting_for_a_second_person": waiting,
        "rankings": connection.execute("SELECT count(*) FROM batches WHERE strategy <> 'Random'").fetchone()[0],
        "withdrawn": stored["withdrawn"],
    }
    connection.close()
    return found, counts


def finish(folder: Path, people: list[Person]) -> None:
    """Answer the rows that wait for a second person, and few others."""
    for _ in range(30):
        for person in people:
            connection = sqlite3.connect(f"file:{folder / 'labels.db'}?mode=ro", uri=True)
            query = (
                "SELECT count(*) FROM standing AS s WHERE place IS NOT NULL AND people > 0 AND NOT EXISTS (SELECT 1 "
                "FROM events AS e WHERE e.row = s.row AND e.who = ? AND e.kind = 'answered')"
            )
            waiting = connection.execute(query, (person.who,)).fetchone()[0]
            connection.close()
            if waiting:
                rows = person.send("GET", "/api/state")[1]["rows"]
                if rows:
                    person.step(rows[0])


def percentile(values: list[float], share: float) -> float:
    """A percentile in milliseconds."""
    return round(1000 * sorted(values)[min(len(values) - 1, int(share * len(values)))], 1) if values else float("nan")


def main() -> int:
    """Run it, print the figures, and return the exit code."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kills", type=int, default=300)
    parser.add_argument("--answers", type=int, help="end after so many answers [when the kills are over]")
    parser.add_argument("--rows", type=int, help="texts of the made-up project [40 for each kill]")
    parser.add_argument("--pause", type=float, default=0.05, help="mean seconds between two texts of a person")
    parser.add_argument("--seconds", type=float, default=3600.0, help="end after this time, whatever the kills")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--trainer", choices=("light", "model", "none"), default="light")
    parser.add_argument("--project", type=Path, help="project to copy; its first classes are chosen")
    parser.add_argument("--folder", type=Path, help="where to work and what to keep [a temporary folder]")
    options = parser.parse_args()
    if options.kills and options.trainer == "model":
        parser.error("the trainer of a kill is a light one, see above")
    if options.kills == 0 and options.answers is None:
        parser.error("--answers says when to end")
    with tempfile.TemporaryDirectory(prefix="dal-kills-") as temporary:
        base = options.folder or Path(temporary)
        folder = base / "project"
        if options.project is not None:
            shutil.copytree(options.project, folder)
        else:
            make_project(folder, options.rows or 40 * max(options.kills, 20))
        return run(folder, options)


def run(folder: Path, options: argparse.Namespace) -> int:
    """Let people work, and look at the log afterwards."""
    generator, counts = random.Random(options.seed), Counter[str]()
    server, goal = Server(folder, options.trainer), Goal(options.answers)
    people = [Person(who, server, random.Random(f"{options.seed} {who}"), options.pause) for who in PEOPLE]
    broken: list[BaseException] = []

    def worker(person: Person) -> None:
        try:
            person.work(goal)
        except BaseException as error:
            broken.append(error)
            goal.end()

    began = time.monotonic()
    threads = [threading.Thread(target=worker, args=(person,)) for person in people]
    try:
        for thread in threads:
            thread.start()
        if options.kills:
            disturb(server, options.kills, generator, counts, began + options.seconds)
            goal.end()
        for thread in threads:
            thread.join()
        took = time.monotonic() - began
        if not broken:
            finish(folder, people)
    finally:
        server.process.terminate()
        server.process.wait()
    found, figures = faults(folder, people)
    seconds = [each for person in people for each in person.seconds]
    failures = sum((person.failures for person in people), Counter())
    print(
        json.dumps(
            {
                "trainer": options.trainer,
                "kills": {name: counts[name] for name in ("server", "trainer", "both")},
                "disk_full": counts["disk full"],
                "seconds": round(took, 1),
                "requests_failed_and_repeated": dict(failures),
                **figures,
                "refused": sum(len(person.refused) for person in people),
                "key_to_next_text_ms": {
                    "timed": len(seconds),
                    "median": round(1000 * statistics.median(seconds), 1) if seconds else None,
                    "p95": percentile(seconds, 0.95),
                    "max": percentile(seconds, 1.0),
                },
                "faults": found[:20],
            },
            indent=2,
        )
    )
    for line in [*(re.sub(r"\s+", " ", str(error)) for error in broken), *(r for p in people for r in p.refused[:5])]:
        print(line, file=sys.stderr)
    return 1 if found or broken else 0


if __name__ == "__main__":
    if sys.argv[1:2] == ["--serve"]:
        serve(Path(sys.argv[2]), int(sys.argv[3]), sys.argv[4])
    elif sys.argv[1:2] == ["--train"]:
        train(Path(sys.argv[2]), int(sys.argv[3]))
    else:
        sys.exit(main())
