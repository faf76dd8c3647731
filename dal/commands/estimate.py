"""`dal estimate`, the name of `dal ask --check` and of `dal tell` on its file in version 0.1."""

import argparse
from pathlib import Path

from dal.commands.ask import check_sample_size
from dal.commands.paths import check_input, check_sheet, path_of, require_stored
from dal.commands.shared_options import add_cell, add_person, with_shared_options
from dal.commands.terminal import Parser, say, wants_help
from dal.errors import ConfigError
from dal.experiments.spinner import loading_packages
from dal.store.atomic_files import typed

HELP = with_shared_options("""\
usage: dal estimate FOLDER [-n 100] [-o check.csv] [--random] [--cell NAME]
       dal estimate FOLDER check.csv [--keep] [--cell NAME]

The old name of `dal ask FOLDER --check 100` and, with a file that was filled in, of `dal tell FOLDER check.csv`. The
next version drops it. See `dal ask --help` and `dal tell --help`.

options:
  -n N              number of texts to draw (100; fewer than 50 are not informative)
  -o FILE           the CSV file to write (check.csv)
  --random          draw each text with the same probability
  @cell
  --keep            also store the answers as labels: the next model is trained on them, so they cannot evaluate it
  --who NAME        with --keep: name of the annotator
  --force           overwrite FILE
  @debug
""")


def estimate(arguments: list[str]) -> int:
    """`dal estimate`."""
    if wants_help(arguments):
        print(HELP, end="")
        return 0
    options = _options(arguments)
    with loading_packages(stderr=True):
        from dal.commands.accuracy_estimate import draw_check, read_check
        from dal.experiments.stored_model import find

        place = find(options.folder, options.cell)
    code = draw_check(place, options) if options.file is None else read_check(place, options)
    folder = typed(options.folder)
    now = (
        f"dal ask {folder} --check {options.n}" if options.file is None else f"dal tell {folder} {typed(options.file)}"
    )
    say(f"`dal estimate` is now `{now}`; the next version drops the old name")
    return code


def _options(arguments: list[str]) -> argparse.Namespace:
    parser = Parser("dal estimate", add_help=False, allow_abbrev=False)
    parser.add_argument("folder", type=path_of)
    parser.add_argument("file", type=path_of, nargs="?")
    parser.add_argument("-n", type=int)
    parser.add_argument("-o", dest="output", type=path_of)
    parser.add_argument("--random", action="store_true")
    add_cell(parser)
    parser.add_argument("--keep", action="store_true")
    add_person(parser)
    parser.add_argument("--force", action="store_true")
    options = parser.parse_args(arguments)
    drawing = options.n is not None or options.output is not None or options.random or options.force
    if options.file is not None and drawing:
        raise ConfigError(f"{options.file} is an input: -n, -o, --random and --force are for drawing a new sample")
    if options.file is None and (options.keep or options.who):
        raise ConfigError("--keep and --who are for reading answers: name the file that was filled in")
    if options.file is not None:
        check_input(options.file)
    options.n = 100 if options.n is None else options.n
    options.output = Path("check.csv") if options.output is None else options.output
    check_sample_size("-n", options.n)
    require_stored(options.folder, options.cell)
    if options.file is None:
        check_sheet(options.output, options.folder, force=options.force)
    return options
