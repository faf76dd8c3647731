"""`dal annotate --terminal`: answer in the terminal, by single keys or line by line."""

import sys
from pathlib import Path
from typing import TYPE_CHECKING

from dal.commands.terminal import line_input
from dal.errors import ConfigError

if TYPE_CHECKING:
    from dal.annotate.service_contract import Service

#: Ways to answer in a terminal: "auto" takes keys where the terminal has them.
MODES = ("auto", "keys", "lines")


def answer_in_terminal(service: "Service", who: str, mode: str, folder: Path) -> None:
    """Show texts and store answers until the person ends it, or the lines of stdin end.

    Args:
        service: what stores the answers.
        who: name of the person.
        mode: one of `MODES`.
        folder: folder of the project.

    Raises:
        ConfigError: keys are wanted, and there is no terminal for them.
        AnswerError: a line of a file or a pipe was refused. The answers before it are stored.
    """
    from dal.annotate.keyboard import Keyboard, has_keys
    from dal.annotate.labeling_session import LabelingSession
    from dal.annotate.line_view import LineView
    from dal.annotate.terminal_view import TerminalView

    if mode == "keys" and not has_keys():
        raise ConfigError("--terminal keys needs a terminal on Linux or macOS: leave keys out, and answer line by line")
    session = LabelingSession(service, who, folder)
    if mode != "lines" and has_keys():
        with Keyboard() as keyboard:
            TerminalView(session, keyboard).run()
        return
    if sys.stdin is None:
        raise ConfigError("--terminal reads answers from stdin, which is closed")
    LineView(session, lines=line_input(), strict=not sys.stdin.isatty()).run()
