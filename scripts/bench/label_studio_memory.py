"""Peak memory of the process that reads the tasks of a Label Studio project, and how many answers a kill loses.

    python scripts/bench/label_studio_memory.py [--tasks 6000] [--length 2000] [--predictions 20]

A stand-in for the server, in a process of its own, lists tasks with a text of `--length` characters, an annotation and
`--predictions` predictions, as Label Studio sends them after as many rankings. A second process reads them into a new
project as `dal serve-label-studio` does, and a third one into another project until the server ends the connection in
the middle.

6,000 tasks of 2,000 characters with 20 predictions, 34 MB in all. Peak of the process in MB before and after the
reading, processor seconds, and answers that were stored when the connection ended half-way:

    all pages gathered before anything is stored, 100 tasks a page:   44, 50;  1.5;      0
    each page stored before the next one is read, 64 tasks a page:    44, 44;  1.6;  2,944

120 tasks of 250,000 characters (`--tasks 120 --length 250000 --predictions 2`): 64, 104 before; 64, 64 since pages are
halved until they have 4 MB. The peak before the reading is that of making the project.
"""

import argparse
import json
import subprocess
import sys
import tempfile
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

from memory import max_memory

TOKEN = "0" * 40
AT = "2026-01-01T00:00:00.000001Z"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--tasks", type=int, default=6_000)
    parser.add_argument("--length", type=int, default=2_000, help="characters of a text")
    parser.add_argument("--predictions", type=int, default=20, help="predictions of a task")
    parser.add_argument("--role", choices=["serve", "read"], help=argparse.SUPPRESS)
    parser.add_argument("--most", type=int, default=1 << 60, help=argparse.SUPPRESS)
    parser.add_argument("--address", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.role == "serve":
        serve(options)
    elif options.role == "read":
        read(options)
    else:
        compare(options)


def compare(options: argparse.Namespace) -> None:
    """Run a server and a reader for a whole reading, and for one that ends half-way."""
    for most in (1 << 60, options.tasks // 2):
        sizes = ["--tasks", options.tasks, "--length", options.length, "--predictions", options.predictions]
        command = [sys.executable, __file__, *map(str, sizes)]
        serving = [*command, "--role", "serve", "--most", str(most)]
        # A reader that ends the connection at a page that is too long is an error to the server.
        with subprocess.Popen(serving, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL) as server:
            assert server.stdout is not None
            address = server.stdout.readline().decode().strip()
            ended = subprocess.run([*command, "--role", "read", "--address", address], capture_output=True, check=False)
            server.terminate()
        print("half-way" if most < options.tasks else "all", ended.stdout.decode().strip() or ended.stderr.decode())


def serve(options: argparse.Namespace) -> None:
    """Answer requests for pages of tasks; those beyond `--most` tasks get an error."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            query = {name: values[0] for name, values in parse_qs(urlsplit(self.path).query).items()}
            size, number = int(query["page_size"]), int(query["page"])
            first, end = (number - 1) * size, min(number * size, options.tasks)
            reply = {"tasks": [task(each, options) for each in range(first, end)], "total": options.tasks}
            content = json.dumps(reply).encode()
            self.send_response(503 if end > options.most else 200)
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            self.wfile.write(content)

        def log_message(self, *arguments: Any) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    print(f"http://127.0.0.1:{server.server_address[1]}/projects/3", flush=True)
    server.serve_forever()


def text_of(number: int, length: int) -> str:
    return f"message {number} ".ljust(length, "x")


def task(number: int, options: argparse.Namespace) -> dict[str, Any]:
    """A task with an annotation and predictions."""
    chosen = {"from_name": "label", "to_name": "text", "type": "choices", "value": {"choices": ["yes"]}}
    annotation = {"id": number + 1, "result": [chosen], "completed_by": 1, "was_cancelled": False, "updated_at": AT}
    prediction = {"model_version": "dal 1 Margin", "score": 0.5, "result": [], "created_at": AT, "updated_at": AT}
    return {
        "id": number + 1,
        "data": {"dal_id": f"r{number}", "text": text_of(number, options.length)},
        "annotations": [annotation],
        "predictions": [{"id": each, "task": number + 1, **prediction} for each in range(options.predictions)],
        "updated_at": AT,
    }


def read(options: argparse.Namespace) -> None:
    """Read all tasks into a new project, and print the peak memory before and after, and how many were stored."""
    from dal.annotate.label_studio_client import LabelStudioClient
    from dal.annotate.label_studio_exchange import LabelStudioExchange
    from dal.annotate.label_studio_service import open_label_studio_service
    from dal.errors import DalError
    from dal.store.label_log import LabelLog
    from dal.store.project_rows import ProjectRow, ProjectRows

    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        (folder / "config.yaml").write_text("kind: project\ndata: {path: rows.db}\n", "utf-8")
        with ProjectRows.create(folder / "rows.db") as rows:
            texts = (ProjectRow(f"r{each}", text_of(each, options.length)) for each in range(options.tasks))
            rows.add(texts, source="pool.csv")
        with LabelLog(folder / "labels.db") as log:
            log.change_classes({"do": "add", "name": "yes"})
            log.change_classes({"do": "add", "name": "no"})
        service = open_label_studio_service(folder, trainer=False)
        exchange = LabelStudioExchange(LabelStudioClient(options.address, TOKEN), service, lambda line: None)
        before, began = max_memory(), time.process_time()
        try:
            exchange.read()
        except DalError as error:
            print(error, end="; ")
        stored = sum(service.log.counts().values())
        used = time.process_time() - began
        print(f"peak {before / 2**20:.0f} MB before, {max_memory() / 2**20:.0f} MB; {stored} stored; {used:.1f} CPU s")
        service.close()


if __name__ == "__main__":
    main()
