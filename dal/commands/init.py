"""Help and options of `dal init`; `new_project` does the work and has the heavy imports."""

import argparse
import contextlib
import dataclasses
from pathlib import Path
from typing import TYPE_CHECKING

from dal.commands.error_lines import naming_options
from dal.commands.paths import check_new_folder, path_of
from dal.commands.shared_options import add_dry_run, add_person, with_shared_options
from dal.commands.terminal import Parser, about_keys, config_keys, split, wants_help
from dal.errors import ConfigError, DataError
from dal.experiments.spinner import loading_packages
from dal.store.atomic_files import named

if TYPE_CHECKING:
    from dal.config.settings_tree import Override

HELP = with_shared_options("""\
usage: dal init FOLDER --data FILE [--text COLUMN] [--classes A,B,C] [--key value ...]

Makes a project: a folder with a copy of the texts in FILE, in which people label them. FILE may then be edited, moved
or deleted; `dal add` brings in more texts. No label is needed, and no list of classes: classes can be added, renamed
and merged while people work (`dal classes`).

  dal init ddi --data abstracts.csv --text body --classes none,mild,severe
  dal annotate ddi

options:
  --data FILE       a .csv, .tsv, .jsonl, .json or .parquet file, or whatever else data.path of a config may be
  --text COLUMN     column of the text; by default the only column that looks like one
  --id COLUMN       column of unique row ids; by default hashes of the texts, so that an edited text is a new row
  --classes A,B,C   classes to begin with
  --label COLUMN    column of known labels, which are imported after a preview; without --classes its values are the
                    classes
  --multilabel      a text may have several classes, or none
  --who NAME        who gave the known labels
  --dry-run         show what would be made, and write nothing
  --config CONFIG   begin with the settings of this file
  --key value       every key of a config, dotted for nested keys, as for `dal run`: --learner.max_length 256
  @debug

Without --learner, a linear model on MiniLM is used where that is installed (the extra `demo` brings it), else
TF-IDF, which needs no model; without --strategy, Auto, or Margin where the learner has no embeddings.
""")


#: Options -> keys of the data that are the same.
SAME_KEYS = {"data": "path", "text": "text", "id": "id", "label": "label", "classes": "classes"}


def init(arguments: list[str]) -> int:
    """`dal init`."""
    if wants_help(arguments):
        print(HELP + "\n" + about_keys(), end="")
        return 0
    parser = Parser("dal init", add_help=False, allow_abbrev=False)
    parser.add_argument("folder", type=path_of)
    parser.add_argument("--data")
    parser.add_argument("--config", type=path_of)
    for name in ("text", "id", "label", "classes"):
        parser.add_argument(f"--{name}")
    add_person(parser)
    parser.add_argument("--multilabel", action="store_true")
    add_dry_run(parser)
    options, overrides = split(parser, arguments, keys=config_keys())
    for name in ("data", "text", "id", "label", "classes"):
        if getattr(options, name) is not None and not getattr(options, name).strip():
            raise ConfigError(f"--{name} is empty")
    check_new_folder(options.folder)
    _check_settings(options, overrides)
    with loading_packages(stderr=True):
        from dal.commands.new_project import make_project
        from dal.data.text_data import TextData
    names = {f"data.{each.name}": f"--data.{each.name}" for each in dataclasses.fields(TextData)}
    names |= {f"data.{key}": f"--{option}" for option, key in SAME_KEYS.items()} | {"data.multilabel": "--multilabel"}
    with contextlib.nullcontext() if options.config is not None else naming_options(names):
        return make_project(options, overrides)


def _check_settings(options: argparse.Namespace, overrides: "Override") -> None:
    """Check what needs no package to be loaded: the config, the keys, the short names of classes, and the data's path.

    Raises:
        ConfigError: something is missing, or unknown.
        DataError: there is no such file.
    """
    from dal.config import without_imports as static
    from dal.config.kinds import KIND
    from dal.config.settings_tree import Node, Override, read
    from dal.data.data_paths import existing

    settings = Node({}) if options.config is None else read(options.config)
    settings.value.pop(KIND, None)
    static.check(settings, overrides)
    data = settings.value.get("data", Node({})).value
    given = overrides.inside.get("data", Override()).inside.get("path", Override()).node
    given = given or (data.get("path") if isinstance(data, dict) else None)
    path = options.data or (None if given is None else given.value)
    if not isinstance(path, str):
        raise ConfigError("dal init needs the file with the texts: --data FILE (see dal init --help)")
    try:
        existing(path)
    except OSError as error:
        raise DataError(f"{named(Path(path))} cannot be read: {error.strerror}") from error
