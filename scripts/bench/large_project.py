"""The annotation service on a large project: processor milliseconds of each call, and the memory of the process.

    python scripts/bench/large_project.py [--rows 200000] [--rounds 16000] [--folder FOLDER] [--out large_project.json]

The project has `--rows` texts of some 20 words, some of them near-copies, and ten classes. In each of the rounds a
ranking asks 30 rows, ten people answer 10 of them (every tenth row twice), two answers are changed, and the other
questions are withdrawn: about 62 events a round, so 16,000 rounds are a million events. With `--folder` the project is
kept and used again. Each call is repeated with other arguments; the table has its median, its largest value, and how
many times it was called. Calls whose name begins with a star are those that a key press waits for.

Medians of 200,000 rows and 1,008,792 events, in processor milliseconds on two slow cores that were shared with other
work, before and after the states were counted in memory, classes restated by SQL and figures read from fewer rankings:

    open 740, 780; state 12.3, 2.6; answer 11.3, 1.6; skip for later 11.0, 1.4; undo 50.4, 1.3; history 7.9, 7;
    history of a class 31, 20; history that the model contradicts 25500, 600; progress 15600, 3000 (5300 at first);
    ranking received 65, 2.3; merge a class 1260, 920, restore it 10700, 920; retire it 10800, 2150, restore it 11100,
    1920. Near-copies of 200,000 texts of the same five words took 110 ms, and take 4. Memory: 80 MB, 55 MB.

One answer in ten also asks ten rows in random order (4 ms), and one in a hundred carries a checkpoint of the database
(5 to 13 ms).
"""

import argparse
import json
import random
import statistics
import subprocess
import sys
import tempfile
import time
from collections import deque
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from memory import max_memory

PEOPLE = tuple(f"person {i}" for i in range(10))
CLASSES = tuple(f"class {i}" for i in range(10))
ASKED, ANSWERED = 30, 10  # rows of a ranking, and rows of it that are answered


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=200_000)
    parser.add_argument("--rounds", type=int, default=16_000)
    parser.add_argument("--folder", type=Path, help="keep the project there, or use the one that is there")
    parser.add_argument("--out", type=Path)
    parser.add_argument("--child", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.child:
        print(json.dumps(measured(options.folder)))
        return
    with tempfile.TemporaryDirectory() as temporary:
        folder = options.folder or Path(temporary) / "project"
        if not folder.exists():
            make(folder, options.rows, options.rounds)
        command = [sys.executable, __file__, "--child", "--folder", str(folder)]
        found = json.loads(subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout)
    show(found)
    if options.out:
        options.out.write_text(json.dumps(found, indent=1), encoding="utf-8")


# -- the project -------------------------------------------------------------------------------------------------------


def make(folder: Path, rows: int, rounds: int) -> None:
    """Write the project: events as the service writes them, and what stands derived from them."""
    from dal.store.label_log import LabelLog
    from dal.store.project_rows import ProjectRow, ProjectRows

    folder.mkdir(parents=True)
    (folder / "config.yaml").write_text("kind: project\ndata: {path: rows.db}\n", encoding="utf-8")
    with ProjectRows.create(folder / "rows.db") as stored:
        stored.add((ProjectRow(f"row {i:07d}", text) for i, text in enumerate(texts(rows))), source="pool.csv")
    with LabelLog(folder / "labels.db") as log:
        for name in CLASSES:
            log.change_classes({"do": "add", "name": name}, who=PEOPLE[0])
        with log.changing() as connection:
            for events, batches in history(rows, rounds):
                connection.executemany("INSERT INTO batches VALUES (?, 'Margin', ?)", batches)
                connection.executemany(
                    "INSERT INTO events (kind, at, round, row, value, who, source, seconds, key, wanted) "
                    "VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
                    events,
                )
            log._derive(connection)


def texts(n: int) -> Iterator[str]:
    """Made-up texts with words as frequent as in a language; every 50th is a near-copy of an earlier one."""
    point = random.Random(0)
    letters = "etaoinshrdlu"
    words = ["".join(point.choices(letters, k=2 + min(9, rank // 40))) for rank in range(5_000)]
    weights = [1 / (rank + 3) for rank in range(len(words))]
    earlier: list[str] = []
    for i in range(n):
        if i % 50 == 49:
            yield f"{point.choice(earlier)} {i}!"
            continue
        text = " ".join(point.choices(words, weights, k=point.randint(8, 32)))
        if i % 50 == 0:
            earlier = [*earlier[-200:], text]
        yield text


def history(rows: int, rounds: int) -> Iterator[tuple[list[tuple[Any, ...]], list[tuple[int, str]]]]:
    """Events and batches of some rounds at a time."""
    point = random.Random(1)
    order = deque(point.sample([f"row {i:07d}" for i in range(rows)], rows))
    events: list[tuple[Any, ...]] = []
    batches: list[tuple[int, str]] = []
    at, keys, event = 1_750_000_000.0, 0, len(CLASSES)
    given: list[tuple[str, str]] = []
    for round in range(1, rounds + 1):
        asked = [order.pop() for _ in range(min(ASKED, len(order)))]
        hints = {
            row: {
                "why": "unsure between two classes",
                "guesses": [[point.randrange(10), 0.5], [point.randrange(10), 0.3]],
                "near": [given[-1][0]] if given else [],
            }
            for row in asked
        }
        batches.append((round, json.dumps({"event": event, "why": "margin", "received": at, "rows": hints})))
        begun = len(events)
        twice = {row for row in asked if int(row[4:]) % 10 == 0}
        events += [("asked", at, round, row, *[None] * 5, 2 if row in twice else None) for row in asked]
        for row in asked[:ANSWERED]:
            name = CLASSES[0] if point.random() < 0.65 else point.choice(CLASSES[1:])
            for who in point.sample(PEOPLE, 2 if row in twice else 1):
                at, keys = at + 3.0, keys + 1
                value = json.dumps(name if point.random() < 0.97 else CLASSES[2])
                events.append(("answered", at, round, row, value, who, "person", 2.5, f"answer:{who}:{keys}", None))
                given.append((row, who))
        for _ in range(2):
            row, who = point.choice(given)
            keys += 1
            value = json.dumps(point.choice(CLASSES))
            events.append(("answered", at, round, row, value, who, "person", 4.0, f"answer:{who}:{keys}", None))
        if round < rounds:
            left = asked[ANSWERED:]
            events += [("withdrawn", at, round, row, *[None] * 6) for row in left]
            order.extendleft(left)  # they are asked again later
        event += len(events) - begun
        if len(events) > 50_000 or round == rounds:
            yield events, batches
            events, batches = [], []


# -- the measurement ---------------------------------------------------------------------------------------------------


def measured(folder: Path) -> dict[str, Any]:
    """Processor milliseconds of each call, and peak memory in megabytes with the modules of the server."""
    import dal.annotate.page_routes
    import dal.annotate.server  # noqa: F401  what the process of the page imports, too
    from dal.annotate.service import open_service

    calls: dict[str, list[float]] = {}
    point = random.Random(2)
    start = time.process_time()
    service = open_service(folder, trainer=False, overlap="0.1:2")
    calls["open"] = [1e3 * (time.process_time() - start)]
    keys = iter(range(10**9))
    run = time.time()

    def key() -> str:
        return f"{run}-{next(keys)}"

    def call(name: str, work: Callable[..., Any], *values: Any, **options: Any) -> Any:
        start = time.process_time()
        result = work(*values, **options)
        calls.setdefault(name, []).append(1e3 * (time.process_time() - start))
        print(f"{name}: {calls[name][-1]:.1f} ms", file=sys.stderr)
        return result

    n_rows = len(service._rows)
    opened = max_memory() / 2**20
    held: dict[str, list[dict[str, Any]]] = {}
    for who in PEOPLE:
        held[who] = call("* state", service.state, who)["rows"]
    for turn in range(40):
        for who in PEOPLE:
            row, classes = held[who][0]["id"], [point.randrange(10)]
            answered = call("* answer", service.answer, who, row=row, classes=classes, key=key(), seconds=2.0)
            held[who] = answered["rows"]
        who = PEOPLE[turn % 10]
        call("near-copies after an answer", service.copies, who, row=f"row {point.randrange(n_rows):07d}")
        if turn % 4 == 0:
            row = held[who][0]["id"]
            held[who] = call("* skip for later", service.skip, who, row=row, key=key(), how="later")["rows"]
            held[who] = call("* undo", service.undo, who, key=key())["rows"]
            row = held[who][0]["id"]
            call("* hints", service.hints, who, row=row)
            call("flag", service.flag, who, row=row, key=key(), text="look")
            call("history", service.history, who)
            call("history of a class", service.history, who, class_id=1 + turn % 9)
            call("history of a person", service.history, who, person=who)
            call("history of a person and a class", service.history, who, person=PEOPLE[3], class_id=2)
            call("history since a time", service.history, who, since=time.time() - 3600, class_id=1)
            call("history of words", service.history, who, q="tta eo")
            call("search of words", service.search, who, q="tta eo")
    for _ in range(3):
        call("history that the model contradicts", service.history, PEOPLE[0], disagree=True)
        call("progress", service.progress, PEOPLE[0])
        call("disputes", service.disputes, PEOPLE[0])
    for _ in range(5):
        rows = sorted({f"row {point.randrange(n_rows):07d}" for _ in range(ASKED)})
        message = {
            "event": service.labels_event,
            "strategy": "Margin",
            "reason": "margin",
            "figures": {"labels": 1000},
            "rows": [{"id": row, "score": 0.1, "guesses": [["class 1", 0.5]], "near": []} for row in rows],
        }
        call("ranking received", service.receive, message)
    call("counts", service._log.counts)
    changes: list[tuple[str, dict[str, Any]]] = [
        ("rename a class", {"do": "rename", "id": 0, "name": f"class 0 of {run}"}),
        ("describe it", {"do": "describe", "id": 0, "text": "often"}),
        ("merge a class with half of the answers", {"do": "merge", "id": 0, "into": 1}),
        ("restore it, after merge", {"do": "restore", "id": 0}),
        ("retire a class with half of the answers", {"do": "retire", "id": 0}),
        ("restore it, after retire", {"do": "restore", "id": 0}),
    ]
    for name, change in changes:
        call(name, service.change_classes, PEOPLE[0], change=change, key=key())
    events, counts = service._log.last_event, service._log.counts()
    service.close()
    return {
        "rows": n_rows,
        "events": events,
        "counts": counts,
        "megabytes": {"after the opening": opened, "in all": max_memory() / 2**20},
        "calls": calls,
    }


def show(found: dict[str, Any]) -> None:
    print(f"{found['rows']:,} rows, {found['events']:,} events: {found['counts']}")
    print("megabytes: " + ", ".join(f"{name} {size:.0f}" for name, size in found["megabytes"].items()))
    print(f"{'processor milliseconds':42}{'median':>10}{'largest':>10}{'calls':>7}")
    for name, times in found["calls"].items():
        print(f"{name:42}{statistics.median(times):10.1f}{max(times):10.1f}{len(times):7}")


if __name__ == "__main__":
    main()
