"""A project of made-up texts, and a trainer without a model."""

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from dal.annotate.service import AnnotationService, open_service
from dal.store.label_log import LabelLog
from dal.store.project_rows import ProjectRow, ProjectRows

CLASSES = ("none", "mild", "severe")


def make_project(
    folder: Path, n: int = 60, *, classes: Sequence[str] = CLASSES, multilabel: bool = False, extra: str = ""
) -> Path:
    """A project with `n` texts t0, t1, ..., whose class is their number modulo three."""
    folder.mkdir(parents=True, exist_ok=True)
    config = f"kind: project\ndata: {{path: rows.db, multilabel: {str(multilabel).lower()}}}\n{extra}"
    (folder / "config.yaml").write_text(config)
    rows = ProjectRows.create(folder / "rows.db")
    words = ("headache", "rash", "stroke")
    rows.add(
        (ProjectRow(f"t{i}", f"patient number {i} has a {words[i % 3]}", None, {"visit": i}) for i in range(n)),
        source="pool.csv",
    )
    rows.close()
    with LabelLog(folder / "labels.db") as log:
        for name in classes:
            log.change_classes({"do": "add", "name": name})
    return folder


def true_class(row: str) -> int:
    return int(row[1:]) % 3


class AlphabeticalTrainer:
    """Ranks the rows by id, and guesses the class that is answered most often, with probability 0.9.

    It answers when `work` is called, in the thread of the caller, as the handle of a process does in one of its own.
    """

    def __init__(self, folder: Path, ids: Sequence[str]) -> None:
        self._folder, self.ids = folder, sorted(ids)
        self.jobs: list[dict[str, Any]] = []
        self.requests: list[dict[str, Any]] = []
        self.state: Mapping[str, Any] = {
            "state": "idle",
            "stage": None,
            "done": None,
            "total": None,
            "left": None,
            "error": None,
        }
        self.service: AnnotationService | None = None
        self.error: str | None = None
        self.stop: Mapping[str, Any] | None = None
        self.recall: str | None = None

    def request(self, event: int, n: int, keep: Sequence[str]) -> None:
        job = {"job": len(self.requests) + 1, "event": event, "n": n, "keep": list(keep)}
        self.jobs.append(job)
        self.requests.append(job)
        self.state = {**self.state, "state": "working", "stage": "fitting"}

    def work(self) -> int:
        """Do the waiting jobs, and return their number."""
        assert self.service is not None
        done = 0
        while self.jobs:
            job = self.jobs.pop(0)
            self.state = {**self.state, "state": "failed" if self.error else "idle", "error": self.error, "stage": None}
            if self.error is not None:
                self.service.trainer_changed(self.state)
            else:
                self.service.receive(self.ranking(job))
            done += 1
        return done

    def ranking(self, job: Mapping[str, Any]) -> dict[str, Any]:
        with LabelLog(self._folder / "labels.db", access="read") as log:
            states = log.states(self.ids)
            given = {row: s.answer for row, s in states.items() if s.answer and s.answer.event <= job["event"]}
            answered = [(row, log.renamed(answer)) for row, answer in given.items()]
        names = Counter(event.value for _, event in answered if isinstance(event.value, str))
        guess = names.most_common(1)[0][0] if names else None
        free = [row for row in self.ids if row not in job["keep"] and (row not in states or states[row].people == 0)]
        rows = [
            {
                "id": row,
                "score": float(place),
                "why": f"number {place} of the alphabet",
                "guesses": [] if guess is None else [[guess, 0.9]],
                "near": [[near, event.value] for near, event in answered[:2]],
            }
            for place, row in enumerate(free[: job["n"]])
        ]
        head = {"job": job["job"], "event": job["event"], "strategy": "Alphabetical", "reason": "in order of the ids"}
        figures = {
            "labels": len(answered),
            "gain": {"more": 100, "value": 0.02, "low": 0.0, "high": 0.05},
            "recall": self.recall,
        }
        return {**head, "rows": rows, "stop": self.stop, "details": {"candidates": len(free)}, "figures": figures}

    def search(self, text: str, n: int, timeout: float) -> dict[str, Any]:
        """The rows whose text has a word that begins as one of the text does."""
        if self.error is not None:
            return {"why": self.error, "again": True}
        with ProjectRows(self._folder / "rows.db") as rows:
            texts = {row.id: row.text.split() for row in rows.get(self.ids) if row is not None}
        beginnings = {word[:3] for word in text.split()}
        found = [row for row, words in texts.items() if beginnings & {word[:3] for word in words}]
        return {"found": [[row, 0.5] for row in found[:n]]}

    def close(self) -> None:
        self.state = {**self.state, "state": "stopped"}


def open_trained(folder: Path, n: int = 60, **options: Any) -> tuple[AnnotationService, AlphabeticalTrainer]:
    """A service with an `AlphabeticalTrainer`."""
    service = open_service(folder, trainer=False, **options)
    trainer = AlphabeticalTrainer(folder, [f"t{i}" for i in range(n)])
    trainer.service = service
    service.start(trainer)
    return service, trainer


def answer_all(service: AnnotationService, who: str, n: int, choose: Callable[[str], int] = true_class) -> list[str]:
    """Answer up to `n` rows as they come, and return their ids."""
    rows, done = service.state(who)["rows"], list[str]()
    while rows and len(done) < n:
        row = rows[0]["id"]
        reply = service.answer(who, row=row, classes=[choose(row)], key=f"{who}-{row}-{len(done)}", seconds=2.0)
        done.append(row)
        rows = reply["rows"]
    return done
