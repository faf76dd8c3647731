"""Network side of the annotation page: its port, and the HTTP server, which logs nothing.

It imports no torch, numpy or arrow, and answers within a second of the command.
"""

import errno
import logging
import socket
import ssl
import sys
from functools import partial

import uvicorn

from dal.annotate.connections import DeadlineProtocol, ListeningSocket
from dal.annotate.request_guard import ADMIT, Application, Receive, Scope, Send
from dal.errors import ConfigError


def listen(port: int, address: str = "127.0.0.1") -> ListeningSocket:
    """A socket on a port of an address of this computer; port 0 takes a free one.

    Args:
        port: port.
        address: numeric; `::` is all addresses, also those of IPv4.

    Raises:
        ConfigError: the port is in use or may not be opened, or the address belongs to another computer.
    """
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    server = ListeningSocket(family)
    if sys.platform == "win32":  # there, SO_REUSEADDR lets another program take over the port
        server.setsockopt(socket.SOL_SOCKET, socket.SO_EXCLUSIVEADDRUSE, 1)
    else:
        server.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    if address == "::":
        server.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0)
    try:
        server.bind((address, port))
        server.listen(128)
    except OSError as error:
        server.close()
        if error.errno == errno.EADDRINUSE:
            other = port + 1 if port < 65_535 else port - 1
            raise ConfigError(f"port {port} is in use by another program: choose one with --port {other}") from None
        if error.errno == errno.EADDRNOTAVAIL:
            raise ConfigError(
                f"--host {address} is no address of this computer: use one of its own, or 0.0.0.0 for all"
            ) from None
        raise ConfigError(f"port {port} cannot be opened: {error.strerror}; choose one with --port 8766") from None
    return server


def hosts_of(port: int) -> list[str]:
    """The values of `Host` that reach a port of this computer."""
    return [f"127.0.0.1:{port}", f"localhost:{port}"]


def server_config(app: Application, listening: ListeningSocket, tls: ssl.SSLContext | None = None) -> uvicorn.Config:
    """Settings of the server. Nothing is logged: addresses hold a token, and bodies hold texts.

    Args:
        app: application.
        listening: socket of its port, which learns whose requests are let through.
        tls: certificate and key; None for plain HTTP.
    """

    async def with_admission(scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http" and scope["client"] is not None:
            scope["state"] = {**scope.get("state", {}), ADMIT: partial(listening.admit, tuple(scope["client"]))}
        await app(scope, receive, send)

    config = uvicorn.Config(
        with_admission,
        lifespan="off",
        log_config=None,
        log_level=logging.CRITICAL,
        access_log=False,
        server_header=False,
        date_header=False,
        proxy_headers=False,
        ws="none",
        http=DeadlineProtocol,
        loop="asyncio",
        timeout_keep_alive=75,
        timeout_graceful_shutdown=2,
        limit_concurrency=400,
    )
    if tls is not None:
        config.load()
        config.ssl = tls  # checked already, unlike files that uvicorn would read
    return config


def serve(app: Application, listening: ListeningSocket, tls: ssl.SSLContext | None = None) -> None:
    """Answer requests until Ctrl-C or SIGTERM."""
    uvicorn.Server(server_config(app, listening, tls)).run(sockets=[listening])
