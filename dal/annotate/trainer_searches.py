"""Searches that were sent to the trainer, and its replies, for the handle of its process. Imports no PyTorch."""

import threading
from collections.abc import Callable, Mapping
from typing import Any

#: Searches that wait for the trainer at a time.
MOST = 4


class _Search:
    """A search that was sent, and its reply."""

    def __init__(self, number: int) -> None:
        self.number = number
        self.reply: dict[str, Any] | None = None


class TrainerSearches:
    """Searches of several threads. All methods are called with the lock held.

    Args:
        lock: lock of the handle; it is released while a search waits.
    """

    def __init__(self, lock: threading.Lock) -> None:
        self._changed = threading.Condition(lock)
        self._waiting: dict[tuple[str, int], _Search] = {}  # by text and number of texts
        self._numbers = 0

    def find(
        self,
        text: str,
        n: int,
        timeout: float,
        send: Callable[[dict[str, Any]], object] | None,
        why_none: Callable[[], dict[str, Any]],
    ) -> dict[str, Any]:
        """The reply of the trainer to a search, see `dal.annotate.trainer_process.TrainerProcess.search`.

        Args:
            text: the text.
            n: largest number of texts.
            timeout: seconds to wait.
            send: sends a message to the trainer; None if it takes none.
            why_none: reply if there is none of the trainer.
        """
        search = self._waiting.get((text, n))
        if search is None:
            if send is None:
                return why_none()
            for key in [key for key, each in self._waiting.items() if each.reply is not None]:
                del self._waiting[key]  # nobody came back for it
            if len(self._waiting) >= MOST:
                return {"why": "the model is busy with other searches", "again": True}
            self._numbers += 1
            search = self._waiting[text, n] = _Search(self._numbers)
            send({"search": search.number, "text": text, "n": n})
        self._changed.wait_for(lambda: search.reply is not None, timeout)
        if search.reply is None:
            return why_none()
        self._waiting.pop((text, n), None)
        return search.reply

    def receive(self, message: Mapping[str, Any]) -> None:
        """Take the trainer's reply to a search."""
        found = message.get("found")
        reply: dict[str, Any] = {"why": str(message.get("error")), "again": False}
        if isinstance(found, list) and all(isinstance(each, list) and isinstance(each[0], str) for each in found):
            reply = {"found": found}
        for search in self._waiting.values():
            if search.number == message["search"] and search.reply is None:
                search.reply = reply
        self._changed.notify_all()

    def end(self, why: str, *, again: bool) -> None:
        """Reply to all searches that wait, after the end of the trainer."""
        for search in self._waiting.values():
            search.reply = search.reply or {"why": why, "again": again}
        self._changed.notify_all()
