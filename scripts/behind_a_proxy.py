"""Trial of `dal annotate --behind-proxy` behind nginx and Caddy, with the lines of docs/over_a_network.md.

    python scripts/behind_a_proxy.py

Each proxy that is installed is started with the block of the documentation, which only gets another port, certificate
and backend. A person logs in, answers a text and is refused what she must be refused. A proxy that is not installed is
named and left out. The exit code is 1 if anything differs from what the documentation says.
"""

import http.client
import json
import os
import re
import shutil
import signal
import socket
import ssl
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from dal.store.label_log import LabelLog
from dal.store.project_rows import ProjectRow, ProjectRows

REPOSITORY = Path(__file__).parents[1]
TLS = REPOSITORY / "tests" / "fixtures" / "tls"
NAME = "label.test"  # in the certificate of the tests
KEY = "0123456789abcdef"


def documented(language: str) -> str:
    """The block of the documentation in a language, such as nginx."""
    text = (REPOSITORY / "docs" / "over_a_network.md").read_text(encoding="utf-8")
    found = re.search(rf"```{language}\n(.*?)```", text, re.DOTALL)
    if found is None:
        raise ValueError(f"docs/over_a_network.md has no block of {language}")
    return found[1]


def free_port() -> int:
    """A port that nothing listens on."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        return int(server.getsockname()[1])


def nginx_command(folder: Path, port: int, backend: int) -> list[str]:
    """Write the configuration of nginx, and return its command."""
    block = documented("nginx").replace("listen 443 ssl", f"listen 127.0.0.1:{port} ssl")
    block = block.replace("label.example.org", NAME).replace("127.0.0.1:8765", f"127.0.0.1:{backend}")
    block = block.replace("cert.pem", str(TLS / "server.pem")).replace("key.pem", str(TLS / "server-key.pem"))
    temporary = "".join(
        f"    {each}_temp_path {folder}/{each};\n" for each in ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
    )
    user = "user root;\n" if hasattr(os, "getuid") and os.getuid() == 0 else ""  # its folders are this user's alone
    (folder / "nginx.conf").write_text(
        f"{user}pid {folder}/nginx.pid;\nerror_log {folder}/error.log;\ndaemon off;\nevents {{}}\n"
        f"http {{\n    access_log {folder}/access.log;\n{temporary}{block}}}\n"
    )
    return ["nginx", "-p", str(folder), "-c", str(folder / "nginx.conf")]


def caddy_command(folder: Path, port: int, backend: int) -> list[str]:
    """Write the configuration of Caddy, and return its command. Without a public name, Caddy is given a certificate."""
    site = f"{NAME}:{port} {{\n    tls {TLS}/server.pem {TLS}/server-key.pem"
    block = documented("caddy").replace("label.example.org {", site)
    block = block.replace("127.0.0.1:8765", f"127.0.0.1:{backend}")
    (folder / "Caddyfile").write_text(f"{{\n    admin off\n    auto_https disable_redirects\n}}\n{block}")
    return ["caddy", "run", "--config", str(folder / "Caddyfile"), "--adapter", "caddyfile"]


PROXIES = {"nginx": nginx_command, "caddy": caddy_command}


class Visitor:
    """A browser that opened the page at the proxy, as far as its requests tell.

    Args:
        port: port of the proxy.
    """

    def __init__(self, port: int) -> None:
        self._port, self.cookie = port, ""
        self._tls = ssl.create_default_context(cafile=TLS / "server.pem")

    def ask(self, path: str, body: object = None, **headers: str) -> tuple[int, http.client.HTTPMessage, bytes]:
        """Status, headers and body of the reply to a request."""
        host = f"{NAME}:{self._port}"
        lines = {"Host": host, "Cookie": self.cookie} | ({"Origin": f"https://{host}"} if body is not None else {})
        content = None if body is None else json.dumps(body)
        lines |= {"Content-Type": "application/json"} if body is not None else {}
        plain = socket.create_connection(("127.0.0.1", self._port), timeout=30)
        connection = http.client.HTTPSConnection(NAME, self._port, timeout=30)
        connection.sock = self._tls.wrap_socket(plain, server_hostname=NAME)
        try:
            connection.request("GET" if body is None else "POST", path, content, lines | headers)
            reply = connection.getresponse()
            return reply.status, reply.headers, reply.read()
        finally:
            connection.close()


def make_project(folder: Path) -> None:
    """A project of a few texts and two classes."""
    folder.mkdir()
    (folder / "config.yaml").write_text(
        "kind: project\ndata: {path: rows.db, label: null}\nlearner: TfidfLearner\nstrategy: Random\n"
    )
    with ProjectRows.create(folder / "rows.db") as rows:
        rows.add((ProjectRow(f"t{i}", f"text number {i}", None, {}) for i in range(20)), source="pool.csv")
    with LabelLog(folder / "labels.db") as log:
        for name in ("none", "effect"):
            log.change_classes({"do": "add", "name": name})


def checks(port: int, login: str) -> dict[str, bool]:
    """What holds for a person behind a running proxy."""
    visitor = Visitor(port)
    found = {}
    status, headers, page = visitor.ask("/", Accept="text/html")
    found["the page asks for a login"] = status == 401 and b"<h1>Log in</h1>" in page
    found["browsers are told to insist on https"] = headers["strict-transport-security"] == "max-age=2592000"
    found["nothing is read without a login"] = visitor.ask("/api/state")[0] == 401
    status, headers, _ = visitor.ask("/login", {"login": login})
    cookie = headers["set-cookie"] or ""
    found["a login becomes a strict, secure cookie"] = (
        status == 200 and cookie.startswith(f"__Host-dal{port}=") and "SameSite=Strict" in cookie and "Secure" in cookie
    )
    visitor.cookie = cookie.partition(";")[0]
    status, _, content = visitor.ask("/api/state")
    state = json.loads(content)
    found["the person gets texts"] = status == 200 and state["me"]["who"] == "ana" and bool(state["rows"])
    answer = {"row": state["rows"][0]["id"], "classes": [0], "key": KEY, "replaces": None, "seconds": 1, "seen": {}}
    found["an answer is stored"] = visitor.ask("/api/answer", answer)[0] == 200
    note = {"row": state["rows"][0]["id"], "key": KEY, "text": "x" * 3_900}
    found["a note is stored"] = visitor.ask("/api/flag", note)[0] == 200
    found["a search by meaning is waited for"] = visitor.ask("/api/search?q=text&by=meaning")[0] == 200
    found["files of the page are served"] = visitor.ask("/page.js")[0] == 200
    found["another Host is refused"] = visitor.ask("/api/state", Host="evil.example")[0] in (403, 421) or (
        visitor.ask("/api/state", Host="evil.example")[2] == b""
    )
    found["another Origin is refused"] = visitor.ask("/api/answer", answer, Origin="https://evil.example")[0] == 403
    found["plain http in Origin is refused"] = (
        visitor.ask("/api/answer", answer, Origin=f"http://{NAME}:{port}")[0] == 403
    )
    found["headers of a proxy change nothing"] = (
        visitor.ask("/api/state", **{"X-Forwarded-Host": "evil.example", "X-Forwarded-For": "1.2.3.4"})[0] == 200
    )
    found["a body that is too large is refused"] = visitor.ask("/api/flag", note | {"text": "x" * 100_000})[0] == 413
    found["a person logs out"] = visitor.ask("/logout", {})[0] == 200
    return found


def wait_for(port: int, process: "subprocess.Popen[str]") -> None:
    """Wait until something listens on a port."""
    for _ in range(200):
        try:
            socket.create_connection(("127.0.0.1", port), timeout=1).close()
            return
        except OSError:
            if process.poll() is not None:
                raise RuntimeError(f"the proxy ended: {process.communicate()[0]}") from None
            time.sleep(0.1)
    raise RuntimeError("the proxy does not listen")


def trial(name: str, folder: Path) -> dict[str, bool]:
    """Run `dal annotate` behind a proxy, and check what holds."""
    project, port = folder / "project", free_port()
    make_project(project)
    options = ["--people", "ana,ben", "--behind-proxy", "--allow-host", f"{NAME}:{port}"]
    command = [sys.executable, "-m", "dal", "annotate", str(project), "--port", str(backend := free_port()), *options]
    served = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, text=True)
    proxy = None
    try:
        assert served.stdout is not None
        address, login = (served.stdout.readline().strip() for _ in range(2))
        (folder / "proxy").mkdir()
        proxy = subprocess.Popen(
            PROXIES[name](folder / "proxy", port, backend),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        wait_for(port, proxy)
        secret = login.partition("#login=")[2]
        found = {"the shown address is that of the proxy": address == f"https://{NAME}:{port}/"} | checks(port, secret)
        logs = b"".join(path.read_bytes() for path in (folder / "proxy").rglob("*") if path.is_file())
        found["no log of the proxy has the login"] = secret.encode() not in logs
    finally:
        for process in filter(None, (proxy, served)):
            process.send_signal(signal.SIGINT if process is served else signal.SIGTERM)
            process.communicate(timeout=30)
    with LabelLog(project / "labels.db", access="read") as log:
        found["exactly one answer is in the log"] = [event.who for event in log.history()] == ["ana"]
    return found


def main() -> int:
    """Try each proxy, and print what holds and what does not."""
    failed = False
    for name in PROXIES:
        if shutil.which(name) is None:
            print(f"{name}: left out, since it is not installed")
            continue
        with tempfile.TemporaryDirectory() as folder:
            found = trial(name, Path(folder))
        for what, holds in found.items():
            print(f"{name}: {'ok    ' if holds else 'FAILED'} {what}")
        failed |= not all(found.values())
    return int(failed)


if __name__ == "__main__":
    sys.exit(main())
