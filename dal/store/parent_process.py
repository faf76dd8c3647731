"""A thread that ends this process when its parent has ended."""

import os
import threading
import time

_POLL = 0.2  # seconds between checks


def end_with_parent(parent: int | None = None) -> None:
    """End this process soon after its parent, so that work is never continued by a process that nobody waits for.

    The thread runs during imports too. Windows keeps the id of a parent that has ended, so nothing happens there.

    Args:
        parent: id of the parent process; None for the present one. A process that knows the id of its parent from its
            command line notices also a parent that ended before this call.
    """
    expected = os.getppid() if parent is None else parent

    def watch() -> None:
        while os.getppid() == expected:
            time.sleep(_POLL)
        os._exit(1)  # safe at any time, like a kill

    threading.Thread(target=watch, name="dal-parent-watch", daemon=True).start()
