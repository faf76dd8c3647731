"""The annotation page on a port of this computer, with the service in memory, in a thread of the test."""

import asyncio
import shutil
import ssl
from collections.abc import Sequence
from pathlib import Path
from threading import Thread

import uvicorn

from dal.annotate.admissions import Admissions, Entrance
from dal.annotate.page_routes import application
from dal.annotate.server import hosts_of, listen, server_config
from dal.annotate.service_contract import Service

CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
TLS = Path(__file__).parent / "fixtures" / "tls"
QUIET = (
    "--no-sandbox",
    "--disable-gpu",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-default-apps",
    "--disable-sync",
    "--no-first-run",
)


class PageServer:
    """A running server; `link` opens the page once, and `origin` is its origin.

    Args:
        service: what answers the requests.
        port: port; 0 takes a free one.
        project: path of the project.
        logins: who may enter by login; None where links open the page.
        tls: certificate and key.
        origin: origin that people open, where it differs from that of the server.
        hosts: further accepted values of `Host`.
    """

    def __init__(
        self,
        service: Service,
        *,
        port: int = 0,
        project: str = "/projects/drugs",
        logins: Entrance | None = None,
        tls: ssl.SSLContext | None = None,
        origin: str = "",
        hosts: Sequence[str] = (),
    ) -> None:
        self.service = service
        self.admissions = Admissions()
        self._logins, self.tls, self._origin, self._hosts = logins, tls, origin, hosts
        self._project = project
        self.port = port
        self.start()

    def start(self) -> None:
        listening = listen(self.port)
        self.port = listening.getsockname()[1]
        app = application(
            self.service,
            self._logins or self.admissions,
            hosts=[*hosts_of(self.port), *self._hosts],
            project=self._project,
            scheme=self.origin.partition(":")[0],
        )
        self._server = uvicorn.Server(server_config(app, listening, self.tls))
        self._thread = Thread(target=lambda: asyncio.run(self._server.serve(sockets=[listening])), daemon=True)
        self._thread.start()

    @property
    def origin(self) -> str:
        return self._origin or f"http{'s' if self.tls else ''}://127.0.0.1:{self.port}"

    def link(self, who: str = "ana") -> str:
        return f"{self.origin}/?token={self.admissions.new_token(who)}"

    def stop(self) -> None:
        self._server.should_exit = True
        self._server.force_exit = self.tls is None  # TLS connections are closed by an exchange of messages
        self._thread.join(10)
        assert not self._thread.is_alive()
