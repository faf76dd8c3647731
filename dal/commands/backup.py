"""`dal backup`: copy a project or a run folder to one file, also while people work, and unpack it again."""

import shlex
from pathlib import Path

from dal.commands.paths import check_input, path_of
from dal.commands.terminal import Parser
from dal.errors import ConfigError, counted
from dal.store.atomic_files import named
from dal.store.folder_backup import restore_backup, write_backup


def backup(arguments: list[str]) -> int:
    """`dal backup`."""
    about = (
        "Copies a project or a run folder to a ZIP file: texts, answers, config, figures and the latest model. It may "
        "be used while people answer: what was acknowledged before the command began is in the copy. Unzipping the "
        "file restores the folder; --restore does so after a check of its names and sizes, for a file from somebody "
        "else."
    )
    parser = Parser("dal backup", description=about, allow_abbrev=False)
    parser.add_argument("folder", type=path_of, help="the folder to copy; with --restore, the new folder to create")
    chosen = parser.add_mutually_exclusive_group(required=True)
    chosen.add_argument("-o", dest="output", metavar="FILE", type=path_of, help="the ZIP file to write")
    chosen.add_argument("--restore", metavar="FILE", type=path_of, help="unpack this backup into the folder")
    parser.add_argument("--force", action="store_true", help="replace an existing FILE")
    options = parser.parse_args(arguments)
    if options.restore is not None:
        check_input(options.restore)
        names = restore_backup(options.restore, options.folder)
        print(f"{counted(len(names), 'file')} restored in {named(options.folder)}")
        return 0
    if options.output.suffix.lower() != ".zip":
        raise ConfigError(f"a backup is a ZIP file: name it {named(Path(f'{options.output}.zip'))}")
    names = write_backup(options.folder, options.output, force=options.force)
    size = options.output.stat().st_size
    print(f"{counted(len(names), 'file')}, {size / 1e6:.1f} MB, in {named(options.output)}")
    again = shlex.join(["dal", "backup", "NEW_FOLDER", "--restore", str(options.output)])
    print(f"to restore it: {again}")
    return 0
