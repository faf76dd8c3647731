"""The parts of `dal annotate --check` that need PyTorch, in a process of their own: the page is served without it.

    python -m dal.commands.check_process draw FOLDER N weighted|random
    python -m dal.commands.check_process report FOLDER NUMBER

The last line of stdout is a JSON object: {"number": ...}, {"lines": [...], "notes": [...]} or {"error": "one line"}.
"""

import json
import subprocess
import sys
import traceback
from pathlib import Path
from typing import Any

from dal.config.allowed_code import restricted_imports, safe_environment
from dal.errors import DalError, SessionError, one_line
from dal.store.accuracy_samples import AccuracySample, read_checks


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
    command = [sys.executable, "-P", "-m", "dal.commands.check_process", *arguments]
    ended = subprocess.run(
        command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, env=safe_environment(), check=False
    )
    last = ended.stdout.decode("utf-8", "replace").rstrip("\n").rpartition("\n")[2]
    try:
        reply = json.loads(last)
    except ValueError:
        reply = {"error": f"the process that computes the check ended with exit code {ended.returncode}"}
    if "error" in reply:
        raise SessionError(str(reply["error"]))
    return dict(reply)


def main(arguments: list[str]) -> int:
    """Do one part and print its result."""
    try:
        with restricted_imports(None):
            reply = _done(*arguments)
    except KeyboardInterrupt:  # Ctrl-C reaches this process, too; its parent has the message
        return 130
    except DalError as error:
        reply = {"error": one_line(error)}
    except Exception as error:
        traceback.print_exception(error, file=sys.stderr)
        reply = {"error": f"{type(error).__name__}: {one_line(error)}"}
    print(json.dumps(reply), flush=True)
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
