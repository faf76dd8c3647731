"""Help and options of `dal export`; `exported_corpus` and `exported_model` do the work and have the heavy imports."""

import argparse
import os
from pathlib import Path

from dal.commands.paths import check_model_folder, check_new_file, path_of, require_stored
from dal.commands.shared_options import add_cell, with_shared_options
from dal.commands.terminal import Parser, wants_help
from dal.errors import ConfigError
from dal.experiments.spinner import loading_packages
from dal.store.atomic_files import named, typed
from dal.store.run_folder import SAVED_MODEL

HELP = with_shared_options("""\
usage: dal export FOLDER -o labels.csv [--all] [--force]
       dal export FOLDER --to label-studio -o tasks.json
       dal export FOLDER --to prodigy -o tasks.jsonl
       dal export FOLDER --to huggingface -o DATASET
       dal export FOLDER --model DIR [-o labels.csv]

Writes the labeled texts of FOLDER with their provenance: the label, who gave it and when, how long it took, in which
batch and by which strategy the text was selected, every person's answer, notes, and the other columns of your data.
FOLDER is a project or belongs to `dal ask`, `dal run` or `dal compare`; it may be in use. The suffix of FILE decides
the format: .csv (UTF-8; what a spreadsheet would run has an apostrophe in front of it), .jsonl or .parquet. The same
labels give the same bytes. `dal tell` reads these files, and `dal init --data FILE` makes a project of one.

--to huggingface writes a folder with a Parquet file and a dataset card, for datasets.load_dataset.
--to label-studio and --to prodigy write the texts that wait for an answer, in the order in which the strategy ranks
them, as tasks. For Label Studio the labeling config is written next to FILE, with the suffix .xml. `dal tell FOLDER`
reads the answers back from Label Studio's JSON export and from the output of `prodigy db-out`.

--model writes the model of the current labels to a folder of its own: a transformer as a Hugging Face folder, other
models as safetensors and JSON, each with a model card. It is trained first, unless it is there already, also while
people answer. `dal predict DIR FILE` and, in Python, `dal.load` read it, also on a computer without FOLDER. Labels are
then written only if -o or --to is given.

options:
  -o FILE           the file or, for huggingface, the folder to write (labels.csv); - writes CSV to the terminal
  --to FORM         label-studio, prodigy or huggingface
  --model DIR       the folder to write the model to
  --all             also the texts without a label: declined, in dispute, waiting for an answer, and never asked
  @cell
  --force           overwrite FILE and a model in DIR
  @debug
""")

FORMS = ("label-studio", "prodigy", "huggingface")
_SUFFIX = {"label-studio": ".json", "prodigy": ".jsonl"}
_DEFAULT = {None: "labels.csv", "label-studio": "tasks.json", "prodigy": "tasks.jsonl", "huggingface": "labels"}


def export(arguments: list[str]) -> int:
    """`dal export`."""
    if wants_help(arguments):
        print(HELP, end="")
        return 0
    options = _options(arguments)
    with loading_packages("torch", stderr=True):
        from dal.commands.exported_corpus import check_dataset, export_folder

        check_dataset(options)
        if options.model is not None:
            from dal.commands.exported_model import export_model
    if options.model is not None:
        export_model(options)
    return 0 if options.output is None else export_folder(options)


def _options(arguments: list[str]) -> argparse.Namespace:
    parser = Parser("dal export", add_help=False, allow_abbrev=False)
    parser.add_argument("folder", type=path_of)
    parser.add_argument("-o", dest="output", type=path_of)
    parser.add_argument("--to", choices=FORMS)
    parser.add_argument("--model", type=path_of)
    parser.add_argument("--all", action="store_true")
    add_cell(parser)
    parser.add_argument("--force", action="store_true")
    options = parser.parse_args(arguments)
    if (options.folder / SAVED_MODEL).is_file():
        raise ConfigError(
            f"{named(options.folder)} is a saved model, without labels and rows: "
            f"`dal predict {typed(options.folder)} FILE` predicts new texts"
        )
    require_stored(options.folder, options.cell)
    if options.model is not None:
        check_model_folder(options.model, options.folder)
        if options.output is None and options.to is None:
            if options.all:
                raise ConfigError("--all is about the labels, and --model alone writes none: name their file with -o")
            return options
    if options.output is None:
        options.output = Path(_DEFAULT[options.to])
    if str(options.output) == "-":
        if options.to in ("label-studio", "huggingface"):
            raise ConfigError(f"--to {options.to} writes more than one file: name it with -o")
        return options
    final = os.path.realpath(options.output)
    if options.model is not None and Path(os.path.realpath(options.model)) in (Path(final), *Path(final).parents):
        raise ConfigError(f"-o {options.output} is inside the folder of --model, which is written as a whole")
    for path in outputs(options):
        check_new_file(path, options.folder, force=options.force)
    return options


def outputs(options: argparse.Namespace) -> list[Path]:
    """The files that are written; a data set folder has checks of its own.

    Raises:
        ConfigError: the suffix does not belong to the format.
    """
    if options.to == "huggingface":
        return []
    if options.to is None:
        from dal.formats.corpus import check_suffix

        check_suffix(options.output)
        return [options.output]
    if options.output.suffix.lower() != _SUFFIX[options.to]:
        raise ConfigError(f"-o {options.output}: --to {options.to} writes a file that ends in {_SUFFIX[options.to]}")
    return [options.output, *([options.output.with_suffix(".xml")] if options.to == "label-studio" else [])]
