"""Help and options of `dal export`; `exported_corpus` does the work and has the heavy imports."""

import argparse
from pathlib import Path

from dal.commands.paths import check_new_file, path_of
from dal.commands.terminal import Parser, wants_help
from dal.errors import ConfigError
from dal.experiments.spinner import loading_packages

HELP = """\
usage: dal export FOLDER -o labels.csv [--all] [--force]
       dal export FOLDER --to label-studio -o tasks.json
       dal export FOLDER --to prodigy -o tasks.jsonl
       dal export FOLDER --to huggingface -o DATASET

Writes the labeled texts of FOLDER with their provenance: the label, who gave it and when, how long it took, in which
batch and by which strategy the text was selected, every person's answer, notes, and the other columns of your data.
FOLDER is a project or belongs to `dal ask`, `dal run` or `dal compare`; it may be in use. The suffix of FILE decides
the format: .csv (UTF-8; what a spreadsheet would run has an apostrophe in front of it), .jsonl or .parquet. The same
labels give the same bytes. `dal tell` reads these files, and `dal init --data FILE` makes a project of one.

--to huggingface writes a folder with a Parquet file and a dataset card, for datasets.load_dataset.
--to label-studio and --to prodigy write the texts that wait for an answer, in the order in which the strategy ranks
them, as tasks. For Label Studio the labeling config is written next to FILE, with the suffix .xml. `dal tell FOLDER`
reads the answers back from Label Studio's JSON export and from the output of `prodigy db-out`.

options:
  -o FILE      the file or, for huggingface, the folder to write (labels.csv); - writes CSV to the terminal
  --to FORM    label-studio, prodigy or huggingface
  --all        also the texts without a label: declined, in dispute, waiting for an answer, and never asked
  --cell NAME  cell of a run or comparison, such as Margin-seed0
  --force      overwrite FILE
  --debug      show the traceback of an error
"""

FORMS = ("label-studio", "prodigy", "huggingface")
_SUFFIX = {"label-studio": ".json", "prodigy": ".jsonl"}


def export(arguments: list[str]) -> int:
    """`dal export`."""
    if wants_help(arguments):
        print(HELP, end="")
        return 0
    options = _options(arguments)
    with loading_packages("torch", stderr=True):
        from dal.commands.exported_corpus import export_folder
    return export_folder(options)


def _options(arguments: list[str]) -> argparse.Namespace:
    parser = Parser("dal export", add_help=False, allow_abbrev=False)
    parser.add_argument("folder", type=path_of)
    parser.add_argument("-o", dest="output", type=path_of, default=Path("labels.csv"))
    parser.add_argument("--to", choices=FORMS)
    parser.add_argument("--all", action="store_true")
    parser.add_argument("--cell")
    parser.add_argument("--force", action="store_true")
    options = parser.parse_args(arguments)
    if options.to in _SUFFIX and options.output == Path("labels.csv"):
        options.output = Path("tasks").with_suffix(_SUFFIX[options.to])
    if options.to == "huggingface" and options.output == Path("labels.csv"):
        options.output = Path("labels")
    if str(options.output) == "-":
        if options.to in ("label-studio", "huggingface"):
            raise ConfigError(f"--to {options.to} writes more than one file: name it with -o")
        return options
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
        from dal.formats.corpus_files import check_suffix

        check_suffix(options.output)
        return [options.output]
    if options.output.suffix.lower() != _SUFFIX[options.to]:
        raise ConfigError(f"-o {options.output}: --to {options.to} writes a file that ends in {_SUFFIX[options.to]}")
    return [options.output, *([options.output.with_suffix(".xml")] if options.to == "label-studio" else [])]
