"""`dal report`: write the reports of folders."""

from pathlib import Path

from dal.commands.paths import path_of
from dal.commands.terminal import Parser
from dal.config.kinds import PROJECT, kind_of
from dal.errors import DalError, DataError
from dal.experiments.spinner import loading_packages
from dal.experiments.stored_experiments import require_folder
from dal.store.atomic_files import named, typed

#: Largest number of failed folders whose errors are shown.
_SHOWN = 5


def report(arguments: list[str]) -> int:
    """`dal report`."""
    about = "Writes report.html of runs again, even while they are running."
    parser = Parser("dal report", description=about, allow_abbrev=False)
    about = "a folder of an experiment or comparison, or one of its cells"
    parser.add_argument("folders", type=path_of, nargs="+", metavar="FOLDER", help=about)
    parser.add_argument("--metric", help="metric of the verdict, such as macro_f1; by default that of the config")
    options = parser.parse_args(arguments)
    folders = list(dict.fromkeys(options.folders))
    failed: list[DalError] = []
    readable = []
    for folder in folders:
        try:
            require_folder(folder)
            _refuse_project(folder)
            readable.append(folder)
        except DalError as error:  # the other reports are still written
            failed.append(error)
    if readable:
        with loading_packages("matplotlib and scipy", stderr=True):
            from dal.report import write_report
    for folder in readable:
        try:
            print(write_report(folder, metric=options.metric))
        except DalError as error:
            failed.append(error)
    if failed:
        more = f"; and {len(failed) - _SHOWN} more of {len(folders)}" * (len(failed) > _SHOWN)
        raise DataError("; ".join(map(str, failed[:_SHOWN])) + more)
    return 0


def _refuse_project(folder: Path) -> None:
    if (folder / "config.yaml").is_file() and kind_of(folder) == PROJECT:
        raise DataError(
            f"{named(folder)} is a project, which has no rounds to report: its figures are in the view Progress of "
            f"dal annotate {typed(folder)}, its labels in dal export {typed(folder)} -o labels.csv"
        )
