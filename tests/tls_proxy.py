"""A proxy that adds TLS, as nginx or Caddy does in front of the annotation page."""

import asyncio
import contextlib
import ssl
from threading import Event, Thread

from page_server import TLS

from dal.annotate.certificates import tls_of

#: Headers that say where a request comes from. A visitor can send them too, so that nothing may depend on them.
FORGED = b"X-Forwarded-For: 127.0.0.1\r\nX-Forwarded-Proto: http\r\nX-Forwarded-Host: evil.example\r\n"


class TlsProxy:
    """Passes requests for label.test on to a port of this computer, `Host` included, one for each connection."""

    def __init__(self) -> None:
        self.backend = 0
        self.port = 0
        self._open: set[asyncio.StreamWriter] = set()
        self._ready = Event()
        self._thread = Thread(target=lambda: asyncio.run(self._run()), daemon=True)
        self._thread.start()
        assert self._ready.wait(10)

    @property
    def host(self) -> str:
        return f"label.test:{self.port}"

    async def _run(self) -> None:
        settings = tls_of(TLS / "server.pem", TLS / "server-key.pem")[0]
        server = await asyncio.start_server(self._serve, "127.0.0.1", 0, ssl=settings)
        self.port = server.sockets[0].getsockname()[1]
        self._loop, self._end = asyncio.get_running_loop(), asyncio.Event()
        self._ready.set()
        await self._end.wait()
        server.close()
        serving = asyncio.all_tasks() - {asyncio.current_task()}
        for writer in self._open:
            writer.transport.abort()
        await asyncio.gather(*serving, return_exceptions=True)
        await asyncio.sleep(0.01)  # what was aborted is closed by the loop, which ends with this coroutine

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writers = [writer]
        self._open.add(writer)
        try:
            head = await reader.readuntil(b"\r\n\r\n")
            lines = [line for line in head.split(b"\r\n") if line and not line.lower().startswith(b"connection:")]
            lengths = [int(line[15:]) for line in lines if line.lower().startswith(b"content-length:")]
            body = await reader.readexactly(sum(lengths))
            from_backend, to_backend = await asyncio.open_connection("127.0.0.1", self.backend)
            writers.append(to_backend)
            self._open.add(to_backend)
            to_backend.write(b"\r\n".join(lines) + b"\r\n" + FORGED + b"Connection: close\r\n\r\n" + body)
            writer.write(await from_backend.read())
            await writer.drain()
        except (ConnectionError, asyncio.IncompleteReadError, ssl.SSLError):
            pass  # a browser may close a connection at any time
        finally:
            for each in writers:
                each.close()
            for each in writers:
                with contextlib.suppress(ConnectionError, ssl.SSLError, TimeoutError):
                    await each.wait_closed()
                self._open.discard(each)

    def stop(self) -> None:
        self._loop.call_soon_threadsafe(self._end.set)
        self._thread.join(10)
        assert not self._thread.is_alive()
