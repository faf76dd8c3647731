"""Spinner of a terminal, which names the current step until a progress bar does. Imports neither torch nor rich."""

import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from dal.experiments.interrupts import interrupt_terminates


def draws(console: Any) -> bool:
    """Whether a rich console can redraw a line. FORCE_COLOR alone does not make a terminal of a file."""
    return bool(console.is_terminal and not console.is_dumb_terminal and console.file.isatty())


def live_options() -> dict[str, Any]:
    """Options of a rich display that disappears at the end, and above which other output appears.

    A stream that is not a terminal is not redirected: it would end up on the terminal of the display.
    """
    streams = {"redirect_stdout": sys.stdout, "redirect_stderr": sys.stderr}
    return {"transient": True, **{name: stream is not None and stream.isatty() for name, stream in streams.items()}}


class Spinner:
    """An animated line with the current step, removed when it is stopped.

    Args:
        console: rich console of a terminal.
        text: the step.
        details: returns further lines, shown below it. It is called at each refresh.
    """

    def __init__(self, console: Any, text: str, details: Callable[[], Sequence[str]] = tuple) -> None:
        from rich.live import Live
        from rich.spinner import Spinner as RichSpinner

        name = "line" if console.options.ascii_only else "dots"
        self._spinner, self._details = RichSpinner(name, _one_line(f"{text} ...")), details
        self._live = Live(console=console, get_renderable=self._lines, **live_options())
        self._live.start(refresh=True)

    def _lines(self) -> Any:
        from rich.console import Group

        return Group(self._spinner, *(_one_line(f"  {line}") for line in self._details()))

    def update(self, text: str, details: Callable[[], Sequence[str]] = tuple) -> None:
        """Name another step."""
        self._details = details
        self._spinner.update(text=_one_line(f"{text} ..."))
        self._live.refresh()

    def stop(self) -> None:
        """Remove the line."""
        self._live.stop()


def _one_line(text: str) -> Any:
    from rich.text import Text

    return Text(text, no_wrap=True, overflow="ellipsis")


@contextmanager
def loading_packages(packages: str = "torch and transformers", *, stderr: bool = False) -> Iterator[None]:
    """Show during the block that the heavy packages are imported, unless they already are; Ctrl-C ends the process.

    Args:
        packages: names of the packages; nothing is shown if the first is imported.
        stderr: whether to show it on stderr, for commands whose result is on stdout.
    """
    if packages.partition(" ")[0] in sys.modules:
        yield
        return
    from rich.console import Console

    console = Console(stderr=stderr, force_jupyter=False, highlight=False)
    text = f"loading {packages}"
    with interrupt_terminates():
        if not draws(console):
            print(f"{text} ...", file=console.file, flush=True)
            yield
            return
        spinner = Spinner(console, text)
        try:
            yield
        finally:
            spinner.stop()
