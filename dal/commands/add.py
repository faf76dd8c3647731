"""Help and options of `dal add`; `added_rows` does the work and has the heavy imports."""

from dal.commands.error_lines import naming_options
from dal.commands.paths import check_input, path_of, require_project
from dal.commands.shared_options import add_dry_run, add_person, with_shared_options
from dal.commands.terminal import Parser, wants_help
from dal.errors import ConfigError
from dal.experiments.spinner import loading_packages

HELP = with_shared_options("""\
usage: dal add FOLDER FILE [--label COLUMN]
       dal add FOLDER --retire IDS.csv

Adds the texts of FILE to a project, or takes rows out of it. All of it is done, or after an error nothing. Rows that
are in the project already are left as they are, so that a file that has grown can be added again.

Where an id exists with another text, dal asks whether to keep the text in the project or to take the new one (with
--changed it does not ask). Answers stay with the id. Without a column of ids, an edited text is a new row; where FILE
also has rows of the project, texts that differ in a few words from one that is missing in FILE are named, too.

When the new texts lie farther from the pool than its own texts do from each other, dal says so: what was measured on
the pool then does not hold for them.

Of a file that `dal export` wrote (also a folder of --to huggingface), the answers, notes and names of everybody come
in, after a preview. Rows that have an answer in the project keep theirs.

options:
  --label COLUMN    column of known labels, which are imported after a preview; an answer in the project stays
  --changed keep    leave out edited texts, and keep those in the project
  --changed new     take edited texts: they replace those of the same id, or are added as rows of their own
  --retire FILE     take the rows with the ids in FILE out of the pool and keep their answers; FILE has a column of ids
                    (.csv, .tsv, .jsonl, .parquet) or an id on each line (.txt)
  --restore FILE    bring retired rows back
  --text COLUMN     column of the text, if it is not called as in the first file
  --id COLUMN       column of the ids, if it is not called as in the first file
  @delimiter
  --who NAME        who gave the known labels, or retired the rows
  --dry-run         show what would be done, and write nothing
  @debug
""")


def add(arguments: list[str]) -> int:
    """`dal add`."""
    if wants_help(arguments):
        print(HELP, end="")
        return 0
    parser = Parser("dal add", add_help=False, allow_abbrev=False)
    parser.add_argument("folder", type=path_of)
    parser.add_argument("file", nargs="?", type=path_of)
    for name in ("label", "text", "id", "delimiter"):
        parser.add_argument(f"--{name}")
    parser.add_argument("--changed", choices=("keep", "new"))
    parser.add_argument("--retire", type=path_of)
    parser.add_argument("--restore", type=path_of)
    add_person(parser)
    add_dry_run(parser)
    options = parser.parse_args(arguments)
    require_project(options.folder)
    if options.file is None and options.retire is None and options.restore is None:
        raise ConfigError("dal add needs a file with texts, or --retire with ids (see dal add --help)")
    if options.file is None and (options.label or options.text or options.changed):
        raise ConfigError("--label, --text and --changed are about a file with texts, and none is given")
    for name in ("label", "text", "id"):
        if getattr(options, name) is not None and not getattr(options, name).strip():
            raise ConfigError(f"--{name} is empty: name a column")
    dataset = options.file is not None and (options.file / "data" / "train.parquet").is_file()  # of --to huggingface
    for file in (None if dataset else options.file, options.retire, options.restore):
        if file is not None:
            check_input(file)
    with loading_packages(stderr=True):
        from dal.commands.added_rows import add_rows
    names = ("text", "id", "label", "delimiter")
    with naming_options({f"data.{name}": f"--{name}" for name in names}):
        return add_rows(options)
