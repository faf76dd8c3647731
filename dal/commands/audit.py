"""Options of `dal audit`; `audit_report` does the work and has the heavy imports."""

from dal.commands.paths import check_sheet, path_of
from dal.commands.terminal import Parser
from dal.experiments.spinner import loading_packages
from dal.experiments.stored_experiments import require_folder


def audit(arguments: list[str]) -> int:
    """`dal audit`."""
    parser = Parser(
        "dal audit",
        description="Prints the error rate of each model of a Router, measured on a random sample of rows that a "
        "person answered, with exact 95 % intervals: overall, per class, and where the model was confident; and its "
        "cost.",
        allow_abbrev=False,
    )
    about = "a folder of `dal run` or `dal ask` with a Router, or one cell of a run"
    parser.add_argument("folder", type=path_of, help=about)
    parser.add_argument("--merge", type=path_of, metavar="FILE", help="write the consensus of all answers as CSV")
    options = parser.parse_args(arguments)
    require_folder(options.folder)
    if options.merge is not None:
        check_sheet(options.merge, options.folder, force=True)
    with loading_packages(stderr=True):
        from dal.commands.audit_report import report

    return report(options.folder, options.merge)
