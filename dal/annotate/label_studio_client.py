"""Requests to a Label Studio: annotations are read, and rankings written as predictions. Its token is never shown."""

import http.client
import json
import math
import re
import urllib.error
import urllib.request
from collections.abc import Iterator, Mapping, Sequence
from typing import Any
from urllib.parse import SplitResult, urlencode, urlsplit

from dal.errors import ConfigError, DalError, shown
from dal.formats.corpus import seconds_of
from dal.store.bounded_json import parse_json

_PAGE = 64  # tasks of a request; a power of two, so that a page can be halved
_MOST_TASKS = 10_000_000  # of a project
_MOST = 1 << 25  # bytes of a reply
_MOST_PAGE = 1 << 22  # bytes of a reply with several tasks; a longer one is asked for again in halves
_TIMEOUT = 60.0  # seconds; a first list of tasks takes some
_LEGACY = re.compile(r"[0-9a-fA-F]{40}")
_PROJECT = re.compile(r"(?P<prefix>.*?)/projects/(?P<number>\d{1,9})(?:/.*)?")


class LabelStudioError(DalError):
    """Label Studio cannot be reached, or refuses a request. The message never holds the token."""


class _ReplyTooLongError(LabelStudioError):
    pass


class LabelStudioClient:
    """The API of a Label Studio server.

    Args:
        address: address of the server, or of a project in it as the browser shows it.
        token: a personal access token, or a legacy token of 40 hexadecimal digits.

    Attributes:
        project: number of the project; None if the address does not name one.

    Raises:
        ConfigError: the address or the token is not one.

    Example:
        >>> client = LabelStudioClient("http://127.0.0.1:8080/projects/7/data?tab=3", "0" * 40)
        >>> client.address, client.project
        ('http://127.0.0.1:8080', 7)
    """

    def __init__(self, address: str, token: str) -> None:
        parts = _split(address)
        found = _PROJECT.fullmatch(parts.path)
        prefix = found["prefix"] if found else parts.path.rstrip("/")
        self.address = f"{parts.scheme}://{parts.netloc}{prefix}"
        self.server = f"{parts.netloc}{prefix}".lower()
        self.is_encrypted = parts.scheme == "https" or parts.hostname in ("127.0.0.1", "localhost", "::1")
        self.project = int(found["number"]) if found else None
        if not token.isascii() or not token.isprintable() or not token or " " in token:
            raise ConfigError("the token of Label Studio is one line without spaces: copy it from Account & Settings")
        self._token, self._access = token, ""
        # A redirect would take the token elsewhere, and a proxy has no business with this computer.
        own = [urllib.request.ProxyHandler({})] if parts.hostname in ("127.0.0.1", "localhost", "::1") else []
        self._respond = urllib.request.build_opener(_NoRedirect, *own).open

    def tasks(self, project: int, since: float = 0.0) -> Iterator[list[Mapping[str, Any]]]:
        """Pages of the tasks of a project with all their annotations: those changed since a time, or all by number.

        Only one page is in memory at a time. A page of long tasks is made shorter. A task that is changed or added
        during the reading moves no other task past it. Several tasks may have been changed at the same time, which
        leaves their order to the server, so all tasks are read by number.

        Args:
            project: number of the project.
            since: time by the server's clock, in seconds since 1970; tasks that were not changed since are left out. If
                it is not positive, all tasks are read.
        """
        order = "-tasks:updated_at" if since > 0 else "-tasks:id"
        size, start = _PAGE, 0
        while start < _MOST_TASKS:
            try:
                tasks, total = self._page(project, start // size + 1, size, order)
            except _ReplyTooLongError:
                if size == 1:
                    raise
                size //= 2
                continue
            if 0 < len(tasks) < size and start + len(tasks) < total:
                size = 1 << (len(tasks).bit_length() - 1)  # the server gives no longer pages
                continue
            changed = [task for task in tasks if changed_at(task) >= since]
            yield changed
            if len(tasks) < size or len(changed) < len(tasks):
                return
            start += size

    def latest_change(self, project: int) -> float:
        """Time of the last change of a task of a project, in seconds since 1970; 0 if there is none."""
        times = map(changed_at, self._page(project, 1, 1, "-tasks:updated_at")[0])
        return next((at for at in times if math.isfinite(at)), 0.0)

    def _page(self, project: int, number: int, size: int, order: str) -> tuple[list[Mapping[str, Any]], int]:
        """A page of the tasks of a project, from 1, and the number of all tasks; no tasks after the last page."""
        query: dict[str, Any] = {"project": project, "fields": "all", "page": number, "page_size": size}
        query["query"] = json.dumps({"ordering": [order]})
        missing: Any = {"tasks": []} if number > 1 else None
        most = _MOST_PAGE if size > 1 else _MOST
        reply = self._request("GET", f"/api/tasks?{urlencode(query)}", missing=missing, most=most)
        tasks = reply.get("tasks") if isinstance(reply, Mapping) else None
        if not isinstance(tasks, list) or not all(isinstance(task, Mapping) for task in tasks):
            raise LabelStudioError(f"{self.address} answers with something that is no list of tasks")
        if len(tasks) > size:
            raise LabelStudioError(f"{self.address} answers with more tasks than were asked for")
        total = reply.get("total")
        return tasks, total if isinstance(total, int) else 0

    def push(self, project: int, predictions: Sequence[Mapping[str, Any]], version: str) -> None:
        """Store predictions of tasks, and make their version the one by which tasks are ordered."""
        self._request("POST", f"/api/projects/{project}/import/predictions", list(predictions))
        self._request("PATCH", f"/api/projects/{project}/", {"model_version": version})

    def version(self, project: int) -> str:
        """Version of the predictions by which the tasks of a project are ordered."""
        reply = self._request("GET", f"/api/projects/{project}/")
        return str(reply.get("model_version") or "") if isinstance(reply, Mapping) else ""

    def config(self, project: int) -> str:
        """Labeling config of a project."""
        reply = self._request("GET", f"/api/projects/{project}/")
        return str(reply.get("label_config") or "") if isinstance(reply, Mapping) else ""

    def import_tasks(self, project: int, tasks: Sequence[Mapping[str, Any]]) -> None:
        """Add tasks to a project. The server has no key for tasks: repeating the request makes two of each."""
        self._request("POST", f"/api/projects/{project}/import", list(tasks))

    # -- requests ------------------------------------------------------------------------------------------------------

    def _request(self, method: str, path: str, body: Any = None, *, missing: Any = None, most: int = _MOST) -> Any:
        """The JSON of a reply of at most `most` bytes; `missing` for 404, if it is not None."""
        status, reply = self._send(method, path, body, self._authorization(), most)
        if status == 401 and not _LEGACY.fullmatch(self._token):
            self._access = ""  # an access token lives for minutes only
            status, reply = self._send(method, path, body, self._authorization(), most)
        if status == 404 and missing is not None:
            return missing
        if status >= 300:
            raise LabelStudioError(f"{self.address} refuses {method} {path.partition('?')[0]}: {_reason(status)}")
        return reply

    def _authorization(self) -> str:
        if _LEGACY.fullmatch(self._token):
            return f"Token {self._token}"
        if not self._access:
            status, reply = self._send("POST", "/api/token/refresh", {"refresh": self._token}, None)
            access = reply.get("access") if isinstance(reply, Mapping) else None
            if status >= 300 or not isinstance(access, str) or not access.isascii() or not access.isprintable():
                raise LabelStudioError(f"{self.address} does not accept the token: {_reason(status)}")
            self._access = access
        return f"Bearer {self._access}"

    def _send(self, method: str, path: str, body: Any, authorization: str | None, most: int = _MOST) -> tuple[int, Any]:
        headers = {"Content-Type": "application/json", "Accept": "application/json"}
        if authorization is not None:
            headers["Authorization"] = authorization
        data = None if body is None else json.dumps(body).encode()
        request = urllib.request.Request(self.address + path, data, headers, method=method)
        try:
            with self._respond(request, timeout=_TIMEOUT) as response:
                content = response.read(most + 1)
                if len(content) > most:
                    raise _ReplyTooLongError(f"{self.address} answers with more than {most:,} bytes")
                return response.status, parse_json(content) if content else None
        except urllib.error.HTTPError as error:
            error.close()
            return error.code, None
        except ValueError:
            raise LabelStudioError(
                f"{self.address} answers {path.partition('?')[0]} with something else than JSON"
            ) from None
        except (OSError, http.client.HTTPException) as error:
            reason = getattr(error, "reason", None) or getattr(error, "strerror", None) or type(error).__name__
            raise LabelStudioError(f"{self.address} cannot be reached: {reason}") from None


def changed_at(task: Mapping[str, Any]) -> float:
    """Time of the last change of a task or of its annotations, in seconds since 1970; infinite if it has none."""
    try:
        return seconds_of(task.get("updated_at")) or math.inf
    except ValueError:
        return math.inf


class _NoRedirect(urllib.request.HTTPRedirectHandler):
    def redirect_request(self, *arguments: Any, **options: Any) -> None:
        return None


def _split(address: str) -> SplitResult:
    try:
        parts = urlsplit(address)
        port_is_valid = parts.port is None or parts.port > 0
    except ValueError:
        parts, port_is_valid = urlsplit(""), False
    if parts.scheme not in ("http", "https") or not parts.hostname or parts.username or not port_is_valid:
        raise ConfigError(f"{shown(address)} is no address of a Label Studio, such as http://127.0.0.1:8080/projects/7")
    return parts


def _reason(status: int) -> str:
    known = {
        401: "401, the token is not accepted: make a new one under Account & Settings",
        403: "403, the token's owner may not do this: use that of an owner or manager of the project",
        404: "404, there is no such project for the token's owner",
    }
    if 300 <= status < 400:
        return f"{status}, a redirect: give the address that it leads to"
    return known.get(status, str(status))
