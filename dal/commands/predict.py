"""Help and options of `dal predict`; `predicted_rows` and `automatic_labeling` do the work and load heavy packages."""

import argparse
from collections.abc import Sequence

from dal.commands.paths import check_folder, check_input, check_new_file, path_of, require_stored
from dal.commands.shared_options import (
    add_cell,
    add_dry_run,
    add_error_limit,
    check_shares,
    share_of,
    with_shared_options,
)
from dal.commands.terminal import Parser, wants_help
from dal.errors import ConfigError, shortened
from dal.experiments.spinner import loading_packages
from dal.store.run_folder import SAVED_MODEL

HELP = with_shared_options("""\
usage: dal predict FOLDER [FILE] [-o predictions.csv] [--max-error 0.05] [--min-recall severe=0.95]
       dal predict MODEL FILE [-o predictions.csv]

Predicts the class of every text in FILE with the latest model of FOLDER, and prints the columns id, class and
confidence as CSV, one line per row, in the order of FILE. Without FILE, it predicts the texts of FOLDER that have no
label. Messages, on stderr, say how many labels the model was trained on, which classes have none, and how accurate it
is, as far as that is known.

FOLDER is a project or belongs to `dal ask`, `dal run` or `dal compare`; of a run or comparison, the first strategy and
seed are used, or those of --cell. MODEL is a model that `dal export FOLDER --model MODEL` wrote, here or elsewhere: it
needs neither the folder nor its texts. FILE is a .csv, .tsv, .jsonl, .json or .parquet file; labels in it are ignored,
and rows with an empty text are skipped. A learner that is a language model asks for each text once, within the spending
cap of its client; answers in its cache cost nothing.

The confidence is the probability of the class, calibrated where there are held-out labels. Several classes are written
as `a|b`, no class as `none`, with the confidence of the least certain decision. The class is empty where no response of
a language model could be parsed.

With --max-error or --min-recall, the columns are id, text, label, guess, confidence and decision. A text is "automatic"
if all guarantees allow it, otherwise its decision is "person" and its label is empty. Each guarantee holds with
probability 1 - delta over the held-out labels, for texts like these (exact binomial bounds, Learn then Test):
  --max-error   of the automatic labels at most this share is wrong; a multi-label answer is wrong if any decision is
  --min-recall  of the texts of a class at least this share is labeled with it or sent to a person
Held-out labels are the validation part of the data (data.validation), which is never trained on or asked; otherwise the
answers to a random sample (`dal ask FOLDER --check 300 --random`); otherwise the test part, which can then no longer
serve as a test set. Where they are too few, the command fails and says how many are missing.

options:
  -o FILE           the CSV file to write, instead of stdout (-)
  @max-error
  --min-recall CLASS=SHARE
                    smallest share of a class to find, such as severe=.95 or severe=95%; may be repeated
  --delta SHARE     probability that a guarantee does not hold (0.05)
  --dry-run         print the messages, and write nothing
  --text COLUMN     column of the text (as in the config of FOLDER, otherwise text)
  --id COLUMN       column of unique row ids (as in the config of FOLDER, otherwise id; without such a column ids are
                    hashes of the texts, as everywhere)
  @delimiter
  @cell
  --force           overwrite the file of -o
  @allow-code
  @debug
""")


def predict(arguments: list[str]) -> int:
    """`dal predict`."""
    if wants_help(arguments):
        print(HELP, end="")
        return 0
    options = _options(arguments)
    with loading_packages(stderr=True):
        from dal.commands.automatic_labeling import predict_own
        from dal.commands.predicted_rows import predict_file, predict_with_saved
        from dal.experiments.stored_model import find

        if (options.folder / SAVED_MODEL).is_file():
            return predict_with_saved(options)
        place = find(options.folder, options.cell)
    return predict_own(place, options) if options.file is None else predict_file(place, options)


def _options(arguments: list[str]) -> argparse.Namespace:
    parser = Parser("dal predict", add_help=False, allow_abbrev=False)
    parser.add_argument("folder", type=path_of)
    parser.add_argument("file", type=path_of, nargs="?")
    parser.add_argument("-o", dest="output", type=path_of)
    add_error_limit(parser, required=False)
    parser.add_argument("--min-recall", "--min_recall", action="append", default=[])
    add_dry_run(parser)
    parser.add_argument("--text")
    parser.add_argument("--id")
    parser.add_argument("--delimiter")
    add_cell(parser)
    parser.add_argument("--force", action="store_true")
    options = parser.parse_args(arguments)
    for name in ("text", "id", "delimiter"):
        if options.file is None and getattr(options, name) is not None:
            raise ConfigError(f"--{name} is about a file of new texts, which is not given")
        if getattr(options, name) == "":
            raise ConfigError(f"--{name} is empty: name a column of {options.file}")
    if str(options.output) == "-":
        options.output = None
    check_shares({"--max-error": options.max_error, "--delta": options.delta})
    options.min_recall = _recalls(options.min_recall)
    check_folder(options.folder)
    if (options.folder / SAVED_MODEL).is_file():
        _check_saved(options)
    else:
        require_stored(options.folder, options.cell)
    if options.file is not None:
        check_input(options.file)
    if options.output is not None:
        check_new_file(options.output, options.folder, force=options.force)
    elif options.force:
        raise ConfigError("--force replaces the file of -o, which is not given")
    return options


def _check_saved(options: argparse.Namespace) -> None:
    """Raise ConfigError for options that need the texts and labels of a project, which a saved model lacks."""
    if options.file is None:
        raise ConfigError(f"{options.folder} is a saved model, without texts: name the file with the texts to predict")
    for name, given in (("--max-error", options.max_error), ("--min-recall", options.min_recall or None)):
        if given is not None:
            raise ConfigError(
                f"{name} needs held-out labels, which {options.folder}, a saved model, does not have: use the folder "
                "from which it was exported"
            )
    if options.cell is not None:
        raise ConfigError(f"--cell {shortened(options.cell)}: {options.folder} is a saved model, which has no cells")


def _recalls(given: Sequence[str]) -> dict[str, float]:
    """The options `CLASS=SHARE` of --min-recall, by class."""
    shares: dict[str, float] = {}
    for text in given:
        name, _, share = text.rpartition("=")
        try:
            value = share_of(share)
        except argparse.ArgumentTypeError:
            value = -1.0
        if not name or not 0 < value < 1:
            raise ConfigError(
                f"--min-recall takes a class and a share between 0 and 1, as in severe=0.95, not {shortened(text)!r}"
            )
        if name in shares:
            raise ConfigError(f"--min-recall is given twice for {shortened(name)!r}")
        shares[name] = value
    return shares
