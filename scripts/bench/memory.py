"""The most memory that this process has held."""

import math
import sys
import threading
from pathlib import Path


def max_memory() -> float:
    """Largest resident size in bytes; NaN on Windows, which does not have the module `resource`."""
    try:
        import resource
    except ImportError:
        return math.nan
    size = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return float(size if sys.platform == "darwin" else size * 1024)  # macOS reports bytes, Linux KiB


class AnonymousMemory:
    """Context manager that reads the anonymous memory of this process every few milliseconds (Linux).

    Pages of memory-mapped files are not counted: the system can drop them.

    Attributes:
        before: anonymous memory at the start of the block, in bytes.
        peak: largest anonymous memory during the block, in bytes.
    """

    def __enter__(self) -> "AnonymousMemory":
        self.before = self.peak = anonymous_memory()
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._watch, daemon=True)
        self._thread.start()
        return self

    def _watch(self) -> None:
        while not self._over.wait(0.01):
            self.peak = max(self.peak, anonymous_memory())

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self._thread.join()
        self.peak = max(self.peak, anonymous_memory())


def anonymous_memory() -> int:
    """Anonymous memory of this process in bytes (Linux)."""
    for line in Path("/proc/self/status").read_text(encoding="utf-8").splitlines():
        if line.startswith("RssAnon:"):
            return int(line.split()[1]) * 1024
    raise SystemExit("this benchmark reads /proc/self/status, which only Linux has")
