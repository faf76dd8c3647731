"""The annotation page on a port of this computer, with the service in memory, in a thread of the test."""

import asyncio
import shutil
from threading import Thread

import uvicorn

from dal.annotate.request_guard import Admissions
from dal.annotate.server import application, hosts_of, listen, server_config
from dal.annotate.service_contract import Service

CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
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
    """A running server; `address` opens the page once, and `origin` is its origin."""

    def __init__(self, service: Service, *, port: int = 0, project: str = "/projects/drugs") -> None:
        self.service = service
        self.admissions = Admissions()
        self._project = project
        self.port = port
        self.start()

    def start(self) -> None:
        listening = listen(self.port)
        self.port = listening.getsockname()[1]
        app = application(self.service, self.admissions, hosts=hosts_of(self.port), project=self._project)
        self._server = uvicorn.Server(server_config(app))
        self._thread = Thread(target=lambda: asyncio.run(self._server.serve(sockets=[listening])), daemon=True)
        self._thread.start()

    @property
    def origin(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def link(self, who: str = "ana") -> str:
        return f"{self.origin}/?token={self.admissions.new_token(who)}"

    def stop(self) -> None:
        self._server.should_exit = self._server.force_exit = True
        self._thread.join(10)
        assert not self._thread.is_alive()
