"""`dal serve-label-studio` with a real Label Studio, for `label_studio_round_trip.py`.

Connects the backend, which imports the texts that are missing there, annotates in the order that Label Studio serves,
and checks that each answer arrives, that new rankings become the order of the tasks, and that nothing is lost when the
backend is killed.
"""

import json
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

CLASSES = ["delivery", "payment", "login"]
WORDS = (("parcel", "courier", "doorstep"), ("invoice", "card", "refund"), ("account", "sign-in", "locked"))
COUNT = 150  # texts, more than two pages of the API
THERE = 20  # texts that are imported by hand
USER, PASSWORD = "dal", "a password of this trip"


class Backend:
    """A running `dal serve-label-studio`."""

    def __init__(self, folder: str, port: int, address: str, token: str) -> None:
        Path("password").write_text(PASSWORD, "utf-8")
        Path("token").write_text(token, "utf-8")
        command = [sys.executable, "-m", "dal", "serve-label-studio", folder, "--port", str(port), "--user", USER]
        command += ["--password-file", "password", "--label-studio", address, "--token-file", "token", "--import"]
        print("$ dal", " ".join(command[3:]), flush=True)
        self.address = f"http://127.0.0.1:{port}"
        with Path("backend.log").open("ab") as log:
            self.process = subprocess.Popen(command, stdout=log, stderr=subprocess.STDOUT)

    def end(self, number: int) -> None:
        self.process.send_signal(number)
        self.process.wait(30)


def backend_trip(server: Any, dal: Callable[..., str]) -> None:
    """The trip of one project.

    Args:
        server: sends a request to Label Studio and returns its JSON; has its `address`, a legacy `token` and a
            `personal_token()`.
        dal: runs a command.
    """
    lines = ["id,text"]
    for n in range(COUNT):
        words = WORDS[n % 3]
        lines.append(f"r{n},Message {n}: trouble with the {words[n // 3 % 3]} and the {words[n // 9 % 3]}")
    Path("live.csv").write_text("\n".join([*lines, ""]), "utf-8")
    dal("init", "live", "--data", "live.csv", "--id", "id", "--classes", ",".join(CLASSES), "--learner", "TfidfLearner")
    dal("export", "live", "--to", "label-studio", "--all", "-o", "live.json")
    config = Path("live.xml").read_text("utf-8")
    body = {"title": "live", "label_config": config, "sampling": "Uncertainty sampling"}
    project = server("POST", "/api/projects/", body)["id"]
    tasks = json.loads(Path("live.json").read_bytes())
    server("POST", f"/api/projects/{project}/import?return_task_ids=true", tasks[:THERE])
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    address = f"{server.address}/projects/{project}/data"
    backend = Backend("live", port, address, server.token)
    trip = _Trip(server, project, dal)
    try:
        first = trip.wait_for_ranking("")
        basic = {"auth_method": "BASIC_AUTH", "basic_auth_user": USER, "basic_auth_pass": PASSWORD}
        added = server("POST", "/api/ml/", {"url": backend.address, "project": project, "title": "dal", **basic})
        _require(added["state"] == "CO", f"connected: {added['readable_state']}, version {added['model_version']}")
        trip.require_all_texts_once()
        trip.annotate(10, first)
        second = trip.wait_for_ranking(first)
        trip.wait_for_answers("10 annotations arrived by webhook")
        trip.annotate(4, second)
        predicted = {"selectedItems": {"all": True, "excluded": []}, "project": project}
        server("POST", f"/api/dm/actions?id=retrieve_tasks_predictions&project={project}", predicted)
        listed = trip.tasks()
        with_version = sum(any(p["model_version"] == second for p in task["predictions"]) for task in listed)
        _require(with_version == COUNT, f"{with_version} of {COUNT} tasks have a prediction of {second}")
        trip.change_and_delete()
        trip.wait_for_answers("a changed and a deleted annotation arrived")
        backend.end(signal.SIGKILL)
        print("  the backend was killed", flush=True)
        trip.annotate(6, second)
        personal = server.personal_token()
        backend = Backend("live", port, address, personal)
        trip.wait_for_answers("6 annotations that nobody heard of arrived, with a personal access token")
        third = trip.wait_for_ranking(second)
        trip.require_all_texts_once()
        trip.annotate(2, third)
        trip.wait_for_answers("the labels are equal")
    except BaseException:
        print(Path("backend.log").read_text("utf-8"), flush=True)
        raise
    finally:
        if backend.process.poll() is None:
            backend.end(signal.SIGINT)
    log = Path("backend.log").read_text("utf-8")
    secrets = [server.token, personal, PASSWORD]
    held = [path for path in Path("live").rglob("*") if path.is_file()]
    shown = any(each in log for each in secrets) or any(
        each.encode() in path.read_bytes() for each in secrets for path in held
    )
    _require(not shown, "no token and no password in the output or the folder")


class _Trip:
    """What a person does in Label Studio, and what is expected of the project."""

    def __init__(self, server: Any, project: int, dal: Callable[..., str]) -> None:
        self._server, self._project, self._dal = server, project, dal

    def tasks(self) -> list[dict[str, Any]]:
        path = f"/api/tasks?project={self._project}&fields=all&page_size={COUNT}"
        tasks: list[dict[str, Any]] = self._server("GET", path)["tasks"]
        return tasks

    def require_all_texts_once(self) -> None:
        rows = sorted(task["data"]["dal_id"] for task in self.tasks())
        _require(rows == sorted(f"r{n}" for n in range(COUNT)), f"{COUNT} texts are there, each once")

    def annotate(self, count: int, version: str) -> None:
        """Answer the tasks that are served, which must come in the order of the ranking."""
        for number in range(count):
            task = self._server("GET", f"/api/projects/{self._project}/next")
            scores = {
                each["data"]["dal_id"]: prediction["score"]
                for each in self.tasks()
                if not each["annotations"]
                for prediction in each["predictions"]
                if prediction["model_version"] == version
            }
            row = task["data"]["dal_id"]
            _require(scores and scores.get(row) == min(scores.values()), f"{row} is the next of {version}", quiet=True)
            choices = {"choices": [CLASSES[int(row[1:]) % 3]]}
            result = [{"from_name": "label", "to_name": "text", "type": "choices", "value": choices}]
            body = {"result": result, "lead_time": 2.5, "was_cancelled": number == 3}
            self._server("POST", f"/api/tasks/{task['id']}/annotations/", body)
        print(f"  {count} tasks came in the order of {version}", flush=True)

    def change_and_delete(self) -> None:
        given = [each for task in self.tasks() for each in task["annotations"] if not each["was_cancelled"]]
        other = [{"from_name": "label", "to_name": "text", "type": "choices", "value": {"choices": [CLASSES[2]]}}]
        self._server("PATCH", f"/api/annotations/{given[0]['id']}/", {"result": other})
        self._server("PATCH", f"/api/annotations/{given[1]['id']}/", {"result": other})
        self._server("DELETE", f"/api/annotations/{given[2]['id']}/")

    def wait_for_ranking(self, before: str) -> str:
        """The version of the next ranking, once it is the order of the tasks."""
        begun = time.monotonic()
        while time.monotonic() < begun + 120:
            version = str(self._server("GET", f"/api/projects/{self._project}/")["model_version"] or "")
            if version.startswith("dal ") and version != before:
                print(f"  {version} is the order of the tasks after {time.monotonic() - begun:.0f} s", flush=True)
                return version
            time.sleep(1)
        raise SystemExit("no new ranking within 120 seconds")

    def wait_for_answers(self, what: str) -> None:
        """Wait until the project has exactly the answers of Label Studio."""
        expected = {
            task["data"]["dal_id"]: None if each["was_cancelled"] else each["result"][0]["value"]["choices"][0]
            for task in self.tasks()
            for each in task["annotations"]
        }
        begun, found = time.monotonic(), {}
        while time.monotonic() < begun + 60:
            found = self._stored()
            if found == expected:
                print(f"  {what}: {len(found)} answers after {time.monotonic() - begun:.0f} s", flush=True)
                return
            time.sleep(0.5)
        raise SystemExit(f"{what}: {found} instead of {expected}")

    def _stored(self) -> dict[str, str | None]:
        from dal.store.label_log import LabelLog

        with LabelLog("live/labels.db", access="read") as log:
            given = {f"r{n}": log.answers_by(f"r{n}").values() for n in range(COUNT)}
            return {
                row: None if event.kind == "skipped" else event.value for row, each in given.items() for event in each
            }  # type: ignore[misc]


def _require(condition: object, what: str, *, quiet: bool = False) -> None:
    if not condition:
        raise SystemExit(f"not so: {what}")
    if not quiet:
        print(f"  {what}", flush=True)
