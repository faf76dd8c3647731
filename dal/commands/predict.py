"""Help and options of `dal predict`; `predicted_rows` does the work and has the heavy imports."""

import argparse

from dal.commands.paths import check_folder, check_input, check_new_file, path_of
from dal.commands.terminal import Parser, wants_help
from dal.errors import ConfigError
from dal.experiments.spinner import loading_packages

HELP = """\
usage: dal predict FOLDER FILE [-o predictions.csv] [--text COLUMN] [--id COLUMN] [--cell NAME]

Predicts the class of every text in FILE with the latest model of FOLDER, and prints the columns id, class and
confidence as CSV, one line per row, in the order of FILE. Messages, on stderr, say how many labels the model was
trained on, which classes have none, and how accurate it is, as far as that is known.

FOLDER belongs to `dal ask`, `dal run` or `dal compare`; of a run or comparison, the first strategy and seed are used,
or those of --cell. FILE is a .csv, .tsv, .jsonl, .json or .parquet file; labels in it are ignored, and rows with an
empty text are skipped. A learner that is a language model asks for each text once, within the spending cap of its
client; answers in its cache cost nothing.

The confidence is the probability of the class, calibrated as by `dal autolabel` where there are held-out labels.
Several classes are written as `a|b`, no class as `none`, with the confidence of the least certain decision. The class
is empty where no response of a language model could be parsed.

options:
  -o FILE           the CSV file to write, instead of stdout
  --text COLUMN     column of the text (as in the config of FOLDER, otherwise text)
  --id COLUMN       column of unique row ids (as in the config of FOLDER, otherwise id; without such a column ids are
                    hashes of the texts, as everywhere)
  --delimiter MARK  cell separator of a .csv or .tsv file, one character or "tab" (detected)
  --cell NAME       cell of a run or comparison, such as Margin-seed0
  --force           overwrite the file of -o
  --allow-code DIR  the config in FOLDER may name classes in DIR, whose code is then run
  --debug           show the traceback of an error
"""


def predict(arguments: list[str]) -> int:
    """`dal predict`."""
    if wants_help(arguments):
        print(HELP, end="")
        return 0
    options = _options(arguments)
    with loading_packages(stderr=True):
        from dal.commands.predicted_rows import predict_file
        from dal.experiments.stored_model import find

        place = find(options.folder, options.cell)
    return predict_file(place, options)


def _options(arguments: list[str]) -> argparse.Namespace:
    parser = Parser("dal predict", add_help=False, allow_abbrev=False)
    parser.add_argument("folder", type=path_of)
    parser.add_argument("file", type=path_of)
    parser.add_argument("-o", dest="output", type=path_of)
    parser.add_argument("--text")
    parser.add_argument("--id")
    parser.add_argument("--delimiter")
    parser.add_argument("--cell")
    parser.add_argument("--force", action="store_true")
    options = parser.parse_args(arguments)
    for name in ("text", "id"):
        if getattr(options, name) == "":
            raise ConfigError(f"--{name} is empty: name a column of {options.file}")
    check_folder(options.folder)
    check_input(options.file)
    if options.output is not None:
        check_new_file(options.output, options.folder, force=options.force)
    elif options.force:
        raise ConfigError("--force replaces the file of -o, which is not given")
    return options
