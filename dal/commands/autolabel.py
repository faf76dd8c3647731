"""`dal autolabel`, the name of `dal predict FOLDER --max-error E` in version 0.1."""

import argparse
from pathlib import Path

from dal.commands.paths import check_sheet, path_of, require_stored
from dal.commands.shared_options import add_cell, add_dry_run, add_error_limit, check_shares, with_shared_options
from dal.commands.terminal import Parser, say, wants_help
from dal.experiments.spinner import loading_packages
from dal.store.atomic_files import typed

HELP = with_shared_options("""\
usage: dal autolabel FOLDER --max-error 0.05 [-o labels.csv] [--delta 0.05] [--cell NAME] [--dry-run]

The old name of `dal predict FOLDER --max-error 0.05 -o labels.csv`, which the next version drops. Decides for every
text without a label whether the latest model of FOLDER may label it automatically, so that at most --max-error of these
labels are wrong, or a person should. See `dal predict --help`.

options:
  @max-error
  --delta SHARE     probability that this rate is exceeded nevertheless (0.05)
  -o FILE           the CSV file to write (labels.csv)
  @cell
  --dry-run         print how many texts could be labeled automatically, and write nothing
  --force           overwrite FILE
  @debug
""")


def autolabel(arguments: list[str]) -> int:
    """`dal autolabel`."""
    if wants_help(arguments):
        print(HELP, end="")
        return 0
    options = _options(arguments)
    with loading_packages(stderr=True):
        from dal.commands.automatic_labeling import predict_own
        from dal.experiments.stored_model import find

        place = find(options.folder, options.cell)
    code = predict_own(place, options, message=print, refuse=False)
    now = f"dal predict {typed(options.folder)} --max-error {options.max_error:g}"
    say(f"`dal autolabel` is now `{now}`; the next version drops the old name")
    return code


def _options(arguments: list[str]) -> argparse.Namespace:
    parser = Parser("dal autolabel", add_help=False, allow_abbrev=False)
    parser.add_argument("folder", type=path_of)
    add_error_limit(parser, required=True)
    parser.add_argument("-o", dest="output", type=path_of, default=Path("labels.csv"))
    add_cell(parser)
    add_dry_run(parser)
    parser.add_argument("--force", action="store_true")
    options = parser.parse_args(arguments)
    check_shares({"--max-error": options.max_error, "--delta": options.delta})
    options.min_recall = {}
    require_stored(options.folder, options.cell)
    if not options.dry_run:
        check_sheet(options.output, options.folder, force=options.force)
    return options
