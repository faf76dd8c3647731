"""Help and options of `dal autolabel`; `automatic_labeling` does the work and has the heavy imports."""

import argparse
from pathlib import Path

from dal.commands.paths import check_sheet, path_of
from dal.commands.terminal import Parser, wants_help
from dal.errors import ConfigError
from dal.experiments.spinner import loading_packages

HELP = """\
usage: dal autolabel FOLDER --max-error 0.05 [-o labels.csv] [--delta 0.05] [--cell NAME] [--dry-run]

Decides for every text without a label whether the latest model of FOLDER may label it automatically, so that at most
--max-error of these labels are wrong, or a person should. With probability 1 - delta over the held-out labels, the
error rate on texts like the held-out ones is at most --max-error (exact binomial bounds, Learn then Test).

FOLDER belongs to `dal ask`, `dal run` or `dal compare`; of a run or comparison, the first strategy and seed are used,
or those of --cell. Held-out labels are the validation part of the data (data.validation), which is never trained on or
asked; otherwise the answers to a random sample (`dal estimate FOLDER -n 300 --random`); otherwise the test part, which
can then no longer serve as a test set.

FILE has the columns id, text, label, guess, confidence (calibrated) and decision: "automatic", or "person" with an
empty label. Texts that have a label are left out. Several classes are written as `a|b`, no class as `none`; a
multi-label answer is wrong if any of its decisions is.

options:
  --max-error SHARE highest error rate of the automatic labels, 0 to 1
  --delta SHARE     probability that this rate is exceeded nevertheless (0.05)
  -o FILE           the CSV file to write (labels.csv)
  --cell NAME       cell of a run or comparison, such as Margin-seed0
  --dry-run         print how many texts could be labeled automatically, and write nothing
  --force           overwrite FILE
  --debug           show the traceback of an error
"""


def autolabel(arguments: list[str]) -> int:
    """`dal autolabel`."""
    if wants_help(arguments):
        print(HELP, end="")
        return 0
    options = _options(arguments)
    with loading_packages(stderr=True):
        from dal.commands.automatic_labeling import label
        from dal.experiments.stored_model import find

        place = find(options.folder, options.cell)
    return label(place, options)


def _options(arguments: list[str]) -> argparse.Namespace:
    parser = Parser("dal autolabel", add_help=False, allow_abbrev=False)
    parser.add_argument("folder", type=path_of)
    parser.add_argument("--max-error", "--max_error", type=float, required=True)
    parser.add_argument("--delta", type=float, default=0.05)
    parser.add_argument("-o", dest="output", type=path_of, default=Path("labels.csv"))
    parser.add_argument("--cell")
    parser.add_argument("--dry-run", "--dry_run", action="store_true")
    parser.add_argument("--force", action="store_true")
    options = parser.parse_args(arguments)
    for name in ("max_error", "delta"):
        if not 0 < getattr(options, name) < 1:
            raise ConfigError(f"--{name.replace('_', '-')} is a share between 0 and 1, not {getattr(options, name)}")
    if not options.dry_run:
        check_sheet(options.output, options.folder, force=options.force)
    return options
