"""Round trip through a real Label Studio: ask, export, import, annotate through its API, export, tell, compare.

Then answers that a project has already are exported, come back, and must be recognized, until somebody changes them
there. Then the round trip with `dal serve-label-studio` as its machine-learning backend (`label_studio_backend.py`).

    python scripts/label_studio_round_trip.py [--folder build/label_studio] [--record tests/data/label_studio/1.23.2]

Installs Label Studio in a virtual environment of its own (1 GB, some minutes) unless the folder has one, starts it on
the loopback address, and ends it. Its database is kept in the folder, since the first start migrates it for a minute.
Exit code 0: all labels are the same.
"""

import argparse
import csv
import json
import os
import re
import secrets
import signal
import socket
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
import venv
from pathlib import Path
from typing import Any

from label_studio_backend import backend_trip

VERSION = "1.23.2"
START_SECONDS = 300.0  # the first start runs all migrations of the database

TEXTS = [
    "plain words",
    "עברית ו-العربية",
    "a smile \U0001f600 and a family \U0001f469\u200d\U0001f467",
    "<b>bold</b> <script>alert(1)</script>",
    "black & white",
    "=1+1",
    "two\nlines",
    '"quoted", and; separated | by\tall',
    "costs $text and $dal_id",
    "cafe\u0301",
    "left out by the person",
    "left out, although a choice had been made",
]
CLASSES = ["a & b|c;d", "<none>", "US$100", 'severe "x"']
SHEET_CLASSES = [name.replace("|", "/") for name in CLASSES]  # a sheet separates several classes by bars
SKIPPED = 10  # the first text that is skipped


def _token(folder: Path) -> str:
    """The token of the user, who is made at the first start in a folder."""
    path = folder / "token"
    if not path.exists():
        path.touch(mode=0o600)
        path.write_text(secrets.token_hex(20))
    return path.read_text()


class Server:
    """A Label Studio with a folder of its own, on a free port of the loopback address."""

    def __init__(self, program: Path, folder: Path) -> None:
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            port = free.getsockname()[1]
        self._folder = folder
        self.address, self.token = f"http://127.0.0.1:{port}", _token(folder)
        settings = {
            "LABEL_STUDIO_BASE_DATA_DIR": str(folder),
            "COLLECT_ANALYTICS": "false",
            "LATEST_VERSION_CHECK": "false",
            "SENTRY_DSN": "",
            "FRONTEND_SENTRY_DSN": "",
            "FEATURE_FLAGS_OFFLINE": "true",
            "DEBUG": "false",
            "no_proxy": "*",
            # Otherwise a backend on this computer is refused, and so is the webhook to it.
            "ML_BLOCK_LOCAL_IP": "false",
            "SSRF_PROTECTION_ENABLED": "false",
            "LABEL_STUDIO_USERNAME": "annotator@dal.invalid",
            "LABEL_STUDIO_PASSWORD": secrets.token_hex(16),
            "LABEL_STUDIO_USER_TOKEN": self.token,
        }
        # Without --internal-host it would listen on all addresses.
        command = [str(program), "start", "--no-browser", "--internal-host", "127.0.0.1", "--port", str(port)]
        command += ["--data-dir", str(folder), "--enable-legacy-api-token"]
        print("$", " ".join(command), flush=True)
        self._log = (folder / "server.log").open("wb")
        self._process = subprocess.Popen(
            command, env=os.environ | settings, stdout=self._log, stderr=subprocess.STDOUT, start_new_session=True
        )

    def wait(self) -> None:
        """Wait until the server answers."""
        ends = time.monotonic() + START_SECONDS
        while time.monotonic() < ends:
            if self._process.poll() is not None:
                raise SystemExit(f"Label Studio ended with code {self._process.returncode}: see {self._log.name}")
            try:
                if self("GET", "/health")["status"] == "UP":
                    return
            except (OSError, ValueError):
                time.sleep(1)
        raise SystemExit(f"Label Studio did not start within {START_SECONDS:.0f} seconds")

    def __call__(self, method: str, path: str, body: Any = None) -> Any:
        """Send a request and return the JSON of the response."""
        request = urllib.request.Request(
            self.address + path,
            None if body is None else json.dumps(body).encode(),
            {"Authorization": f"Token {self.token}", "Content-Type": "application/json"},
            method=method,
        )
        opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
        try:
            with opener.open(request, timeout=120) as response:
                return json.loads(response.read() or b"null")
        except urllib.error.HTTPError as error:
            if error.code >= 500:
                raise OSError(f"{method} {path}: {error.code}") from error
            raise SystemExit(f"{method} {path}: {error.code} {error.read()[:500]!r}") from error

    def personal_token(self) -> str:
        """A personal access token, which the server makes once for each user."""
        path = self._folder / "personal_token"
        if not path.exists():
            token = self("POST", "/api/token/", {})["token"]
            path.touch(mode=0o600)
            path.write_text(token)
        return path.read_text()

    def close(self) -> None:
        """End the server and its children."""
        for each in (signal.SIGTERM, signal.SIGKILL):
            if self._process.poll() is None:
                os.killpg(self._process.pid, each)
                try:
                    self._process.wait(15)
                except subprocess.TimeoutExpired:
                    continue
        self._log.close()


def installed(folder: Path) -> Path:
    """The program in a virtual environment, which is made unless it is there."""
    program = folder / "bin" / "label-studio"
    if not program.exists():
        print(f"$ python -m venv {folder}; pip install label-studio=={VERSION}", flush=True)
        venv.create(folder, with_pip=True)
        subprocess.run([folder / "bin" / "pip", "install", "-q", f"label-studio=={VERSION}"], check=True)
    shown = subprocess.run([folder / "bin" / "pip", "show", "label-studio"], capture_output=True, text=True, check=True)
    print(re.search(r"Version: .*", shown.stdout)[0].replace("Version:", "label-studio"), flush=True)  # type: ignore[index]
    return program


def dal(*arguments: object) -> str:
    """Run a command of dal in the current folder, and return what it printed."""
    command = [sys.executable, "-m", "dal", *map(str, arguments)]
    print("$ dal", " ".join(map(str, arguments)), flush=True)
    ended = subprocess.run(command, capture_output=True, text=True, check=False)
    if ended.returncode:
        raise SystemExit(f"exit code {ended.returncode}: {ended.stderr}")
    print("  " + "\n  ".join((ended.stdout + ended.stderr).strip().splitlines()), flush=True)
    return ended.stdout + ended.stderr


def answers(multilabel: bool) -> dict[str, list[str] | None]:
    """The answer to each row: names of classes, None where the text is skipped."""
    given: dict[str, list[str] | None] = {}
    for number in range(len(TEXTS)):
        names = SHEET_CLASSES[: number % 4] if multilabel else [CLASSES[number % 4]]
        given[f"r{number}"] = names if number < SKIPPED else None
    return given


def asked_folder(name: str, multilabel: bool) -> Path:
    """A folder of `dal ask` in which all texts wait for an answer."""
    lines = [{"id": f"r{n}", "text": text, "year": 1990 + n, "source": "a <b>"} for n, text in enumerate(TEXTS)]
    Path("pool.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines), "utf-8")
    data = {"path": "pool.jsonl", "id": "id", "label": None, "multilabel": multilabel}
    data["classes"] = SHEET_CLASSES if multilabel else CLASSES
    config = {"data": data, "learner": "TfidfLearner", "strategy": "Random"}
    Path(f"{name}.yaml").write_text(json.dumps(config), "utf-8")  # JSON is YAML
    dal("ask", name, "--config", f"{name}.yaml", "-n", len(TEXTS), "-o", f"{name}.csv")
    dal("export", name, "--to", "label-studio", "-o", f"{name}.json")
    return Path(name)


def trip(server: Server, name: str, *, multilabel: bool, record: Path | None) -> None:
    """The round trip of one project."""
    asked_folder(name, multilabel)
    config, tasks = Path(f"{name}.xml").read_text("utf-8"), json.loads(Path(f"{name}.json").read_bytes())
    version = tasks[0]["predictions"][0]["model_version"]
    project = server(
        "POST", "/api/projects/", {"title": name, "label_config": config, "sampling": "Uncertainty sampling"}
    )
    number = project["id"]
    server("POST", f"/api/projects/{number}/import?return_task_ids=true", tasks)
    server("PATCH", f"/api/projects/{number}/", {"model_version": version})  # otherwise the order may be random
    listed = server("GET", f"/api/tasks?project={number}&fields=all&page_size=100")["tasks"]
    task_of = {task["data"]["dal_id"]: task["id"] for task in listed}
    assert all(task["data"]["year"] >= 1990 and task["data"]["source"] == "a <b>" for task in listed)
    ranked = [task["data"]["dal_id"] for task in tasks]
    given = answers(multilabel)
    served = []
    for _ in ranked:  # the server chooses: the lowest score first
        row = server("GET", f"/api/projects/{number}/next")["data"]["dal_id"]
        served.append(row)
        names = given[row]
        result = [choice(names)] if names else []
        if row == f"r{SKIPPED + 1}":
            result = [choice(CLASSES[3:])]  # a person may choose and then skip
        body = {"result": result, "lead_time": 2.5, "was_cancelled": names is None}
        server("POST", f"/api/tasks/{task_of[row]}/annotations/", body)
    print(f"  tasks came in the order of the ranking: {served == ranked}")
    exported = {}
    for form in ("JSON", "JSON_MIN"):
        exported[form] = server("GET", f"/api/projects/{number}/export?exportType={form}&download_all_tasks=true")
    Path("export.json").write_text(json.dumps(exported["JSON"], ensure_ascii=False), "utf-8")
    dal("tell", name, "export.json")
    dal("export", name, "--all", "-o", f"{name}.labels.jsonl")
    lines = [json.loads(line) for line in Path(f"{name}.labels.jsonl").read_text("utf-8").splitlines()]
    stored = {line["id"]: None if line["state"] == "declined" else line["label"] for line in lines}
    wanted = {row: names if names is None or multilabel else names[0] for row, names in given.items()}
    if stored != wanted or served != ranked:
        raise SystemExit(f"the labels differ: {stored} instead of {wanted}, tasks served as {served}")
    print(f"{name}: {len(stored)} answers, equal labels", flush=True)
    if record is not None:
        record.mkdir(parents=True, exist_ok=True)
        for form, content in exported.items():
            write(record / f"{name}.{form.lower()}.json", content)
        (record / f"{name}.config.xml").write_text(config, "utf-8")
        write(record / f"{name}.tasks.json", tasks)


def returned_trip(server: Server, record: Path | None) -> None:
    """The trip of answers that the project has already: they come back unchanged, then two of them changed."""
    lines = [{"id": f"r{n}", "text": text} for n, text in enumerate(TEXTS)]
    Path("known.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines), "utf-8")
    more = ("--id", "id", "--text", "text", "--classes", ",".join(CLASSES), "--learner", "TfidfLearner")
    dal("init", "known", "--data", "known.jsonl", *more)
    dal("ask", "known", "-n", len(TEXTS), "-o", "known.csv")
    for who, count in (("ana", 8), ("ben", 3)):
        cells = [["id", "label"], *([f"r{n}", "skip" if n == 7 else CLASSES[n % 4]] for n in range(count))]
        with Path(f"{who}.csv").open("w", newline="", encoding="utf-8") as file:
            csv.writer(file).writerows(cells)
        dal("tell", "known", f"{who}.csv", "--who", who)
    dal("export", "known", "--all", "-o", "known.labels.jsonl")
    dal("export", "known", "--to", "label-studio", "--all", "-o", "known.json")
    config, tasks = Path("known.xml").read_text("utf-8"), json.loads(Path("known.json").read_bytes())
    project = server("POST", "/api/projects/", {"title": "known", "label_config": config})["id"]
    server("POST", f"/api/projects/{project}/import", tasks)
    export = f"/api/projects/{project}/export?exportType=JSON&download_all_tasks=true"
    returned = server("GET", export)
    Path("returned.json").write_text(json.dumps(returned), "utf-8")
    _told("known", "returned.json", "11 answers left out", "0 new answers stored, 0 were already stored")
    listed = server("GET", f"/api/tasks?project={project}&fields=all&page_size=100")["tasks"]
    of_row = {task["data"]["dal_id"]: task["annotations"] for task in listed}
    server("PATCH", f"/api/annotations/{of_row['r3'][0]['id']}/", {"result": [choice(CLASSES[:1])]})
    other = {"result": [choice(CLASSES[1:2])], "was_cancelled": False}
    server("PATCH", f"/api/annotations/{of_row['r7'][0]['id']}/", other)
    changed = server("GET", export)
    Path("changed.json").write_text(json.dumps(changed), "utf-8")
    _told("known", "changed.json", "9 answers left out", "2 new answers stored")
    if record is not None:
        write(record / "returned.tasks.json", tasks)
        write(record / "returned.json.json", returned)
        write(record / "changed.json.json", changed)
        (record / "returned.labels.jsonl").write_text(Path("known.labels.jsonl").read_text("utf-8"), "utf-8")
    print("known: exported answers that came back were recognized, and the two that were changed are new", flush=True)


def _told(folder: str, file: str, *expected: str) -> None:
    """Read answers, and require what the command says of them."""
    shown = dal("tell", folder, file)
    if not all(each in shown for each in expected):
        raise SystemExit(f"dal tell said {shown!r} instead of {expected}")


def choice(names: list[str]) -> dict[str, Any]:
    """The result of an annotation that chooses these classes."""
    return {"from_name": "label", "to_name": "text", "type": "choices", "value": {"choices": names}}


def write(path: Path, content: Any) -> None:
    path.write_text(json.dumps(content, ensure_ascii=False, indent=1, sort_keys=True) + "\n", "utf-8")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--folder", type=Path, default=Path("build/label_studio"), help="environment and database")
    parser.add_argument("--record", type=Path, help="folder for the payloads that the tests read")
    options = parser.parse_args()
    program = installed(options.folder.absolute() / "venv")
    data = options.folder.absolute() / "data"
    data.mkdir(exist_ok=True)
    record = None if options.record is None else options.record.absolute()
    os.environ["PYTHONPATH"] = os.pathsep.join([str(Path(__file__).parents[1]), os.environ.get("PYTHONPATH", "")])
    with tempfile.TemporaryDirectory(prefix="dal-label-studio-", ignore_cleanup_errors=True) as folder:
        server = Server(program, data)
        try:
            server.wait()
            os.chdir(folder)
            trip(server, "single", multilabel=False, record=record)
            trip(server, "several", multilabel=True, record=record)
            returned_trip(server, record)
            backend_trip(server, dal)
        finally:
            server.close()
    print("the round trips keep every label")


if __name__ == "__main__":
    main()
