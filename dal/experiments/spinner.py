"""A spinner for work that is not counted, such as imports that take seconds. Imports no torch itself."""

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any


def draws(console: Any) -> bool:
    """Whether a rich console can redraw a line: it is a terminal, and none without cursor movement."""
    return bool(console.is_terminal and not console.is_dumb_terminal)


class Spinner:
    """A line with a moving sign that names the present step, and disappears when it is stopped.

    Lines that are printed meanwhile appear above it.

    Args:
        console: rich console of a terminal.
        text: the step.
    """

    def __init__(self, console: Any, text: str) -> None:
        from rich.live import Live
        from rich.spinner import Spinner as RichSpinner
        from rich.text import Text

        self._sign = RichSpinner("dots", Text(f"{text} ..."))
        self._live = Live(
            self._sign,
            console=console,
            transient=True,
            redirect_stdout=sys.stdout.isatty(),
            redirect_stderr=sys.stderr.isatty(),
        )
        self._live.start(refresh=True)

    def update(self, text: str) -> None:
        """Name another step."""
        from rich.text import Text

        self._sign.update(text=Text(f"{text} ..."))
        self._live.refresh()

    def stop(self) -> None:
        """Remove the line."""
        self._live.stop()


@contextmanager
def importing(*, stderr: bool = False, lines: bool = True) -> Iterator[None]:
    """Show during the block that the heavy packages are imported, unless they are already.

    Args:
        stderr: whether to show it on stderr instead of stdout.
        lines: whether to print a line if there is no terminal.
    """
    if "torch" in sys.modules:
        yield
        return
    from rich.console import Console

    console, text = Console(stderr=stderr, force_jupyter=False, highlight=False), "loading torch and transformers"
    if not draws(console):
        if lines:
            print(f"{text} ...", file=console.file, flush=True)
        yield
        return
    spinner = Spinner(console, text)
    try:
        yield
    finally:
        spinner.stop()
