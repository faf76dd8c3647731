"""`dal audit`: its options. The work is in `auditing`, which imports what is heavy."""

from dal.commands.experiment_settings import require_folder
from dal.commands.paths import check_sheet, path_of
from dal.commands.terminal import Parser


def audit(arguments: list[str]) -> int:
    """`dal audit`."""
    parser = Parser(
        "dal audit",
        description="Says how often each machine of a Router is wrong: on the rows that a person answered at random, "
        "with exact 95 % intervals, for each class, and on those that the machine was sure of; and what it cost.",
        allow_abbrev=False,
    )
    parser.add_argument("folder", type=path_of, help="of `dal run` or `dal ask` with a Router, or one cell of a run")
    parser.add_argument("--merge", type=path_of, metavar="FILE", help="write what all answers say together, as CSV")
    options = parser.parse_args(arguments)
    require_folder(options.folder)
    if options.merge is not None:
        check_sheet(options.merge, options.folder, force=True)
    from dal.commands.audit_report import report

    return report(options.folder, options.merge)
