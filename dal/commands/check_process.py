"""The parts of `dal annotate --check` that need PyTorch, in a process of their own: the page is served without it.

    python -m dal.commands.check_process PARENT draw FOLDER N weighted|random
    python -m dal.commands.check_process PARENT report FOLDER NUMBER

Stdout is a JSON object: {"number": ...}, {"lines": [...], "notes": [...]} or {"error": "one line"}.
The process ends soon after the one with the id PARENT, which also gets the Ctrl-C of the terminal.
"""

import contextlib
import json
import os
import subprocess
import sys
import traceback
from pathlib import Path
from typing import Any

from dal.config.allowed_code import restricted_imports, safe_environment
from dal.errors import DalError, SessionError, one_line
from dal.store.accuracy_samples import AccuracySample, read_checks
from dal.store.parent_process import end_with_parent


def draw_in_process(folder: Path, n: int, *, random: bool) -> AccuracySample:
    """Draw a sample and store it in the folder; its progress goes to stderr.

    Raises:
        SessionError: the folder has no model yet, or too few texts without a label.
    """
    reply = _run("draw", str(folder), str(n), "random" if random else "weighted")
    return next(sample for sample in read_checks(folder) if sample.number == reply["number"])


def report_in_process(folder: Path, number: int) -> tuple[list[str], list[str]]:
    """The lines of `dal tell` about a sample, and its notes."""
    reply = _run("report", str(folder), str(number))
    return list(reply["lines"]), list(reply["notes"])


def _run(*arguments: str) -> dict[str, Any]:
    # -P keeps the working directory, which others may be able to write to, off the import path.
    command = [sys.executable, "-P", "-m", "dal.commands.check_process", str(os.getpid()), *arguments]
    ended = subprocess.run(
        command,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        env=safe_environment(),
        start_new_session=True,  # Ctrl-C of a terminal is for this process, which then kills the other one
        check=False,
    )
    try:
        reply = json.loads(ended.stdout)
    except ValueError:
        reply = {"error": f"the process that computes the check ended with exit code {ended.returncode}"}
    if "error" in reply:
        raise SessionError(str(reply["error"]))
    return dict(reply)


def main(arguments: list[str]) -> int:
    """Do one part and print its result."""
    parent, *part = arguments
    end_with_parent(int(parent))
    result = os.dup(1)
    os.dup2(2, 1)  # libraries print to stdout
    try:
        with restricted_imports(None):
            reply = _done(*part)
    except DalError as error:
        reply = {"error": one_line(error)}
    except Exception as error:
        traceback.print_exception(error, file=sys.stderr)
        reply = {"error": f"{type(error).__name__}: {one_line(error)}"}
    with contextlib.suppress(OSError):  # the parent has ended just now: nobody reads the result
        os.write(result, (json.dumps(reply) + "\n").encode())
    return 0


def _done(part: str, folder: str, number: str, how: str = "") -> dict[str, Any]:
    if part == "draw":
        from dal.commands.accuracy_estimate import draw_sample
        from dal.experiments.stored_model import find

        return {"number": draw_sample(find(Path(folder)), int(number), random=how == "random").number}
    from dal.commands.accuracy_estimate import report_lines

    sample = next(sample for sample in read_checks(Path(folder)) if sample.number == int(number))
    lines, notes = report_lines(sample)
    return {"lines": lines, "notes": notes}


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
