"""The requests of Label Studio's API that an exchange makes, answered in the recorded form from tasks of a test."""

import json
from collections.abc import Mapping, Sequence
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from typing import Any
from urllib.parse import parse_qs, urlsplit

RECORDED = Path(__file__).parent / "data" / "label_studio" / "1.23.2"
LEGACY, REFRESH = "0123456789abcdef0123456789abcdef01234567", "eyJhbGciOiJIUzI1NiJ9.refresh.signature"


def recorded(name: str) -> Any:
    return json.loads((RECORDED / name).read_bytes())


def choice(*names: str) -> list[dict[str, Any]]:
    return [{"from_name": "label", "to_name": "text", "type": "choices", "value": {"choices": list(names)}}]


class LabelStudioApi:
    """A running server with one project, number 3."""

    def __init__(self) -> None:
        self.tasks: dict[int, dict[str, Any]] = {}
        self.model_version = self.label_config = ""
        self.requests: list[tuple[str, str, str]] = []  # method, path, authorization
        self.fails: int | None = None  # status of all replies
        self.fails_at_page: int | None = None
        self.longest_page = 1_000  # tasks
        self.fails_after_imports: int | None = None
        self.redirect: str | None = None
        self.accesses = ["access-1"]  # valid access tokens
        self._clock = 0
        api = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                api._answer(self, None)

            def do_POST(self) -> None:
                api._answer(self, json.loads(self.rfile.read(int(self.headers["Content-Length"]))))

            do_PATCH = do_POST

            def log_message(self, *arguments: Any) -> None:
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.address = f"http://127.0.0.1:{self._server.server_address[1]}"
        Thread(target=self._server.serve_forever, daemon=True).start()

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()

    # -- what people do ------------------------------------------------------------------------------------------------

    def import_tasks(self, rows: Mapping[str, str]) -> None:
        form = recorded("api.tasks.json")["tasks"][0]
        for row, text in rows.items():
            number = len(self.tasks) + 1
            data = {"dal_id": row, "text": text}
            self.tasks[number] = form | {"id": number, "data": data, "annotations": [], "predictions": []}
            self._touch(number)

    def import_file(self, tasks: Sequence[Mapping[str, Any]], *, user: int = 1) -> list[int]:
        """Import tasks with annotations as the server does: with its own numbers, and without unknown fields."""
        numbers = []
        for given in tasks:
            self.import_tasks({"": ""})
            numbers.append(number := len(self.tasks))
            self.tasks[number]["data"] = given["data"]
            for each in given.get("annotations", ()):
                kept = {"import_id": each.get("id"), "was_cancelled": each.get("was_cancelled", False)}
                kept |= {"lead_time": each.get("lead_time"), "ground_truth": each.get("ground_truth", True)}
                self.annotate(number, result=each["result"], who=user, updated_by=None, **kept)
        return numbers

    def export(self) -> list[dict[str, Any]]:
        """The JSON export of the project."""
        return [json.loads(json.dumps(task | {"predictions": []})) for task in self.tasks.values()]

    def annotate(self, task: int, *names: str, who: int = 1, **more: Any) -> int:
        """Add an annotation, and return its number."""
        form = next(task["annotations"][0] for task in recorded("api.tasks.json")["tasks"] if task["annotations"])
        number = 100 + sum(len(each["annotations"]) for each in self.tasks.values()) + self._clock
        made = {"id": number, "completed_by": who, "result": choice(*names) if names else [], "was_cancelled": False}
        self.tasks[task]["annotations"].append(form | {"parent_prediction": None} | made | more)
        self.tasks[task]["annotations"][-1]["updated_at"] = self._touch(task)
        return number

    def change(self, task: int, annotation: int, **fields: Any) -> None:
        for each in self.tasks[task]["annotations"]:
            if each["id"] == annotation:
                each |= fields | {"updated_at": self._touch(task)}

    def delete(self, task: int, annotation: int) -> None:
        kept = [each for each in self.tasks[task]["annotations"] if each["id"] != annotation]
        self.tasks[task]["annotations"] = kept
        self._touch(task)

    def _touch(self, task: int) -> str:
        self._clock += 1
        at = f"2026-01-01T{self._clock // 3600:02}:{self._clock // 60 % 60:02}:{self._clock % 60:02}.000001Z"
        self.tasks[task]["updated_at"] = at
        return at

    def next_rows(self) -> list[str]:
        """Ids of the open tasks in the order of "Uncertainty sampling"."""
        scores: dict[str, float] = {}
        for task in self.tasks.values():
            for each in task["predictions"]:
                if each["model_version"] == self.model_version and not task["annotations"]:
                    scores[task["data"]["dal_id"]] = each["score"]
        return sorted(scores, key=lambda row: scores[row])

    # -- replies -------------------------------------------------------------------------------------------------------

    def _answer(self, request: BaseHTTPRequestHandler, body: Any) -> None:
        authorization = request.headers.get("Authorization", "")
        self.requests.append((request.command, request.path, authorization))
        status, reply = self._reply(request.command, request.path, authorization, body)
        content = reply if isinstance(reply, bytes) else json.dumps(reply).encode()
        request.send_response(status)
        if self.redirect is not None:
            request.send_header("Location", self.redirect)
        request.send_header("Content-Length", str(len(content)))
        request.end_headers()
        request.wfile.write(content)

    def _reply(self, method: str, path: str, authorization: str, body: Any) -> tuple[int, Any]:
        url = urlsplit(path)
        if self.redirect is not None:
            return 302, {}
        if self.fails is not None:
            return self.fails, {"detail": "no"}
        if url.path == "/api/token/refresh":
            return (200, {"access": self.accesses[-1]}) if body == {"refresh": REFRESH} else (401, {})
        if authorization not in (f"Token {LEGACY}", *(f"Bearer {each}" for each in self.accesses[-1:])):
            return 401, {"detail": "Invalid token."}
        if url.path == "/api/tasks":
            return self._page({name: values[0] for name, values in parse_qs(url.query).items()})
        if url.path == "/api/projects/3/import/predictions":
            return self._import(body)
        if url.path == "/api/projects/3/import":
            if self.fails_after_imports is not None:
                if self.fails_after_imports == 0:
                    return 503, {}
                self.fails_after_imports -= 1
            numbers = self.import_file(body)
            return 201, {"task_count": len(numbers), "annotation_count": 0, "prediction_count": 0}
        if url.path == "/api/projects/3/":
            self.model_version = (body or {}).get("model_version", self.model_version)
            return 200, {"id": 3, "model_version": self.model_version, "label_config": self.label_config}
        return 404, {"detail": "Not found."}

    def _page(self, query: Mapping[str, str]) -> tuple[int, Any]:
        (order,) = json.loads(query["query"])["ordering"]
        assert (query["project"], query["fields"]) == ("3", "all")
        size, number = min(int(query["page_size"]), self.longest_page), int(query["page"])
        if number == self.fails_at_page:
            return 503, {}
        key = {"-tasks:updated_at": "updated_at", "-tasks:id": "id"}[order]
        ordered = sorted(self.tasks.values(), key=lambda task: str(task[key]).zfill(9), reverse=True)
        page = ordered[(number - 1) * size : number * size]
        return (200, {"tasks": page, "total": len(ordered)}) if page or number == 1 else (404, {})

    def _import(self, body: Sequence[Mapping[str, Any]]) -> tuple[int, Any]:
        if any(each["task"] not in self.tasks for each in body):
            return 400, {"detail": "contains invalid task field"}
        for each in body:
            self.tasks[each["task"]]["predictions"].append({"id": 9_000 + len(body), **each})
        return 201, {"created": len(body)}
