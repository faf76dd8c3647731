"""Options that mean the same in several commands: their lines in the help, and their declarations."""

import argparse
import re
from argparse import ArgumentParser
from collections.abc import Mapping
from pathlib import Path

from dal.commands.paths import person_of
from dal.errors import ConfigError, shortened

_LINES = {
    "devices": """\
  --devices N       use N GPUs, or N processes on a computer without (docs/several_gpus.md)
  --rank-timeout S  seconds without progress after which a process on a device counts as lost (default: 600)
""",
    "costs": """\
  --dry-run         estimate the cost of the config's language models, and ask nothing
""",
    "cell": """\
  --cell NAME       cell of a run or comparison, such as Margin-seed0
""",
    "delimiter": """\
  --delimiter MARK  cell separator of a .csv or .tsv file, one character or "tab" (detected)
""",
    "max-error": """\
  --max-error SHARE highest error rate of the automatic labels, 0 to 1, such as .1 or 10%
""",
    "allow-code": """\
  --allow-code DIR  the config in FOLDER may name classes in DIR, whose code is then run
""",
    "allow-code with --resume": """\
  --allow-code DIR  with --resume: the config in FOLDER may name classes in DIR, whose code is then run
""",
    "debug": """\
  --debug           show the traceback of an error
""",
}


def with_shared_options(text: str) -> str:
    """Help of a command, in which each line `  @NAME` becomes the lines of a shared option.

    Example:
        >>> print(with_shared_options("options:\\n  @debug\\n"), end="")
        options:
          --debug           show the traceback of an error
    """
    return re.sub(r"^  @(.+)\n", lambda found: _LINES[found[1]], text, flags=re.MULTILINE)


def add_device_options(parser: ArgumentParser) -> None:
    """Declare `--devices` and `--rank-timeout`, which `several_devices.check_options` checks."""
    parser.add_argument("--devices", type=int)
    parser.add_argument("--rank-timeout", "--rank_timeout", type=float)


def add_resume(parser: ArgumentParser) -> None:
    """Declare `--resume FOLDER`."""
    parser.add_argument("--resume", type=Path)


def add_dry_run(parser: ArgumentParser) -> None:
    """Declare `--dry-run`."""
    parser.add_argument("--dry-run", "--dry_run", action="store_true")


def add_cell(parser: ArgumentParser, help: str | None = None) -> None:
    """Declare `--cell`, a cell of a run or comparison."""
    parser.add_argument("--cell", help=help)


def add_person(parser: ArgumentParser, help: str | None = None) -> None:
    """Declare `--who`, the name of a person; empty for nobody's."""
    parser.add_argument("--who", type=person_of, default="", help=help)


def add_error_limit(parser: ArgumentParser, *, required: bool) -> None:
    """Declare `--max-error` of automatic labels, and `--delta`, the probability that it is exceeded."""
    parser.add_argument("--max-error", "--max_error", type=share_of, required=required)
    parser.add_argument("--delta", type=share_of, default=0.05)


def share_of(text: str) -> float:
    """The number of a share, such as .1 or 10%; whether it is between 0 and 1 is checked by `check_shares`.

    Raises:
        ArgumentTypeError: it is no number.
    """
    number = text.strip()
    percent = number.endswith("%")
    try:
        return float(number.removesuffix("%")) / (100 if percent else 1)
    except ValueError:
        wanted = f"a share is a number between 0 and 1, such as .1 or 10%, not {shortened(text)!r}"
        raise argparse.ArgumentTypeError(wanted) from None


def check_shares(given: Mapping[str, float | None]) -> None:
    """Raise ConfigError unless each option is None or between 0 and 1, both excluded."""
    for name, value in given.items():
        if value is not None and not 0 < value < 1:
            raise ConfigError(f"{name} is a share between 0 and 1, such as .1 or 10%, not {value:g}")
