"""`dal report`: the reports of folders, made again."""

from dal.commands.experiment_settings import require_folder
from dal.commands.paths import path_of
from dal.commands.terminal import Parser
from dal.errors import DalError, DataError

#: Folders that failed whose reasons are shown.
_SHOWN = 5


def report(arguments: list[str]) -> int:
    """`dal report`."""
    about = "Makes report.html of runs again, also while they go on."
    parser = Parser("dal report", description=about, allow_abbrev=False)
    words = "the folders of experiments or comparisons, or of one strategy and seed in them"
    parser.add_argument("folders", type=path_of, nargs="+", metavar="FOLDER", help=words)
    folders = list(dict.fromkeys(parser.parse_args(arguments).folders))
    from dal.report import write_report

    failed: list[DalError] = []
    for folder in folders:
        try:
            require_folder(folder)
            print(write_report(folder))
        except DalError as error:  # the others are still made
            failed.append(error)
    if failed:
        more = f"; and {len(failed) - _SHOWN} more of {len(folders)}" * (len(failed) > _SHOWN)
        raise DataError("; ".join(map(str, failed[:_SHOWN])) + more)
    return 0
