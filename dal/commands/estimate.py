"""Help and options of `dal estimate`; `accuracy_estimate` does the work and has the heavy imports."""

import argparse
from pathlib import Path

from dal.commands.paths import check_input, check_sheet, path_of
from dal.commands.terminal import Parser, wants_help
from dal.errors import ConfigError
from dal.experiments.spinner import loading_packages

HELP = """\
usage: dal estimate FOLDER [-n 100] [-o check.csv] [--random] [--cell NAME]
       dal estimate FOLDER check.csv [--keep] [--cell NAME]

Estimates the accuracy of the latest model of FOLDER on the texts that have no label. The first form draws -n of them,
preferring those where the model is uncertain, and writes them to a CSV file with an empty column `label`. Fill it in as
for `dal tell`, from the top: answers below the first unanswered text are not counted yet. The second form reads the
answers and prints the accuracy with a 95 % interval. The estimate is unbiased, because every text was drawn with a
known probability, which is stored in FOLDER/checks.

FOLDER belongs to `dal ask`, `dal run` or `dal compare`; of a run or comparison, the first strategy and seed are used,
or those of --cell. The answers do not become training labels. A random sample also serves `dal autolabel` where there
is no validation part.

options:
  -n N              number of texts to draw (100; fewer than 50 are not informative)
  -o FILE           the CSV file to write (check.csv)
  --random          draw each text with the same probability
  --cell NAME       cell of a run or comparison, such as Margin-seed0
  --keep            also store the answers as labels: the next model is trained on them, so they cannot evaluate it
  --who NAME        with --keep: name of the annotator
  --force           overwrite FILE
  --debug           show the traceback of an error
"""


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
    return draw_check(place, options) if options.file is None else read_check(place, options)


def _options(arguments: list[str]) -> argparse.Namespace:
    parser = Parser("dal estimate", add_help=False, allow_abbrev=False)
    parser.add_argument("folder", type=path_of)
    parser.add_argument("file", type=path_of, nargs="?")
    parser.add_argument("-n", type=int)
    parser.add_argument("-o", dest="output", type=path_of)
    parser.add_argument("--random", action="store_true")
    parser.add_argument("--cell")
    parser.add_argument("--keep", action="store_true")
    parser.add_argument("--who", default="")
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
    if options.n < 2:
        raise ConfigError(f"-n must be at least 2, not {options.n}")
    if options.file is None:
        check_sheet(options.output, options.folder, force=options.force)
    return options
