"""`dal tell`: store the answers of a file that a person filled in."""

import os

from dal.commands.experiment_settings import asked_experiment, open_session
from dal.commands.paths import check_input, path_of
from dal.commands.terminal import Parser, say
from dal.errors import ConfigError
from dal.experiments.spinner import loading_packages
from dal.store.run_folder import LABELS


def tell(arguments: list[str]) -> int:
    """`dal tell`."""
    parser = Parser(
        "dal tell",
        description="Stores the answers of a CSV file that `dal ask` wrote and a person filled in. Rows with an empty "
        "label stay pending; `skip` declines a row. If any line is wrong, nothing is stored.",
        allow_abbrev=False,
    )
    parser.add_argument("folder", type=path_of, help="the folder given to `dal ask`")
    parser.add_argument("file", type=path_of, help="the CSV file; its columns id and label are read")
    about = "accept rows that were not asked, and replace earlier answers"
    parser.add_argument("--correct", action="store_true", help=about)
    parser.add_argument("--who", default="", help="name of the annotator, stored with each answer")
    options = parser.parse_args(arguments)
    check_input(options.file)
    with loading_packages(stderr=True):
        experiment = asked_experiment(options.folder, None, None)
    if not os.path.lexists(options.folder / LABELS):  # a new one would be created, and hide that answers are gone
        raise ConfigError(
            f"{options.folder} has no {LABELS}: nothing was asked there yet, or the file must be restored"
        )
    with open_session(experiment, options.folder) as session:
        from dal.annotate.sheet import keep_absent, read_answers

        answers = read_answers(options.file, session, correct=options.correct)
        for note in answers.notes:
            say(note)
        new = 0
        if answers.rows:
            new = session.tell(answers.rows, answers.values, who=options.who, correct=options.correct)
        new += keep_absent(session, answers.absent, who=options.who)
        before = len(answers.rows) + len(answers.absent) - new
        print(
            f"{new} new answers stored, {before} were already stored; {len(session.pending)} texts are "
            f"still to be answered, {len(session.labels)} have a label"
        )
    return 0
