"""`dal ask`: select the texts that a person should label next and write them to a file to fill in."""

import argparse
import shlex
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from dal.commands.experiment_settings import asked_experiment, config_to_store, open_session
from dal.commands.paths import check_sheet, check_sources, path_of, require_stored, sources_of
from dal.commands.shared_options import add_cell, with_shared_options
from dal.commands.terminal import Parser, config_keys, escape_controls, say, split, wants_help
from dal.errors import ConfigError, counted, shortened
from dal.experiments.spinner import loading_packages

if TYPE_CHECKING:
    from torch import Tensor

    from dal.config.settings_tree import Override
    from dal.experiments.console import Console
    from dal.experiments.experiment import Experiment
    from dal.session import Session

HELP = with_shared_options("""\
usage: dal ask FOLDER --config CONFIG -n 50 -o todo.csv [--key value ...]
       dal ask FOLDER -n 50 -o todo.csv
       dal ask FOLDER --check 100 [--random] -o check.csv

Selects the texts that a person should label next and writes them to a CSV file with an empty column `label`. The first
time, CONFIG gives the data and the strategy; it is stored as FOLDER/config.yaml, and FOLDER alone is enough afterwards
(the same CONFIG may be given again), as it is for a project of `dal init`. When the texts have no labels yet,
data.classes gives the class names:
  dal ask spam --config config.yaml --data.path mails.csv --data.classes [spam,ham] -n 50 -o todo.csv

Fill in `label` with a class name, or `skip` for a text that you decline; leave it empty to answer later. When a text
may have several classes, write them as `a|b`, and `none` for no class. Then: dal tell FOLDER todo.csv
While some texts are still unanswered, those are asked again, whatever -n is.

A stopping rule in the config (`stop`) is evaluated before new texts are selected, and its verdict is printed. When it
says stop, nothing is asked and the exit code is 3; --anyway asks nevertheless.

--check N draws N texts without a label to estimate the accuracy of the latest model on all of them, preferring those
where the model is uncertain, and writes them to a file for `dal tell`. Fill it in from the top: answers below the first
unanswered text are not counted yet. `dal tell FOLDER check.csv` then prints the accuracy with a 95 % interval. The
estimate is unbiased, because every text is drawn with a known probability, which is stored in FOLDER/checks. The
answers do not become labels. With --random they also serve `dal predict --max-error` where there is no validation part.
FOLDER may belong to `dal run` or `dal compare` here; the first strategy and seed are used, or those of --cell.
`dal annotate FOLDER --check N` asks the texts of a project on the page or in the terminal instead.

options:
  --config CONFIG   start FOLDER with this config; --key value overrides its keys as in `dal run`
  -n N              number of texts to select (50)
  -o FILE           the CSV file to write (todo.csv, with --check check.csv); - writes to the terminal
  --check N         draw N texts to check the model by (fewer than 50 are not informative)
  --random          with --check: draw each text with the same probability
  --cell NAME       with --check: cell of a run or comparison, such as Margin-seed0
  --force           overwrite FILE
  --anyway          ask even if the stopping rule says stop
  @debug
""")


def ask(arguments: list[str]) -> int:
    """`dal ask`."""
    if wants_help(arguments):
        print(HELP, end="")
        return 0
    parser = Parser("dal ask", add_help=False, allow_abbrev=False)
    parser.add_argument("folder", type=path_of)
    parser.add_argument("--config", type=path_of)
    parser.add_argument("-n", type=int)
    parser.add_argument("-o", dest="output")
    parser.add_argument("--force", action="store_true")
    parser.add_argument("--anyway", action="store_true")
    parser.add_argument("--check", type=int)
    parser.add_argument("--random", action="store_true")
    add_cell(parser)
    options, overrides = split(parser, arguments, keys=config_keys())
    if options.check is not None:
        return _check(options, overrides)
    if options.random or options.cell is not None:
        raise ConfigError(f"{'--random' if options.random else '--cell'} needs --check N, which draws texts")
    options.n = 50 if options.n is None else options.n
    options.output = "todo.csv" if options.output is None else options.output
    if options.n < 1:
        raise ConfigError(f"-n must be at least 1, not {options.n}")
    output = None if options.output == "-" else Path(options.output)
    if output is not None:
        check_sheet(output, options.folder, force=options.force)
    with loading_packages(stderr=True):
        experiment = asked_experiment(options.folder, options.config, overrides)
    if output is not None:
        check_sources(output, [options.config, *sources_of(experiment)])
    from dal.annotate.sheet import check_classes

    check_classes(experiment.data.classes or (), multilabel=experiment.data.multilabel)
    from dal.experiments.console import Console, reading

    with Console(stderr=True) as reporter:
        reporter.stage(reading(experiment.data))
        with open_session(experiment, options.folder, reporter.monitor(lambda: None)) as session:
            return _ask(session, experiment, options, output, reporter)


def _check(options: argparse.Namespace, overrides: "Override") -> int:
    """Draw texts to check the latest model by."""
    if options.config is not None or overrides.inside:
        given = "--config" if options.config is not None else overrides.first().place
        raise ConfigError(f"--check is about the model of a folder with labels: leave {given} out")
    if options.n is not None:
        raise ConfigError("--check N is the number of texts: leave -n out")
    if options.output == "-":
        raise ConfigError("--check writes a file that is filled in and read back: name it with -o")
    check_sample_size("--check", options.check)
    options.n = options.check
    options.output = Path("check.csv" if options.output is None else options.output)
    require_stored(options.folder, options.cell)
    check_sheet(options.output, options.folder, force=options.force)
    with loading_packages(stderr=True):
        from dal.commands.accuracy_estimate import draw_check
        from dal.experiments.stored_model import find

        place = find(options.folder, options.cell)
    return draw_check(place, options)


def check_sample_size(name: str, rows: int) -> None:
    """Raise ConfigError unless a sample of so many texts can be drawn; `name` is that of the option."""
    if rows < 2:
        raise ConfigError(f"{name} must be at least 2, not {rows}")


def _ask(
    session: "Session",
    experiment: "Experiment",
    options: argparse.Namespace,
    output: Path | None,
    reporter: "Console",
) -> int:
    from dal.annotate.sheet import check_classes, questions, write_questions
    from dal.config import allowed_code as importing
    from dal.config.kinds import ASKED, PROJECT, kind_of
    from dal.config.stored import CONFIG, write_config
    from dal.experiments.candidate_text import size_text
    from dal.experiments.experiment import UNUSED_WEAK_LABELS
    from dal.experiments.experiment_checks import undescribed_codes
    from dal.experiments.folder_config import may_change
    from dal.experiments.round_record import said_of_candidates

    check_classes(session.pool.classes, multilabel=session.pool.multilabel)
    experiment.check_rows(session.pool)  # before anything is written, and a person answers
    if not (options.folder / CONFIG).exists() or kind_of(options.folder) != PROJECT:
        config = config_to_store(experiment)
        changed = write_config(options.folder, config, kind=ASKED, replaced=may_change(options.folder, config))
        if changed:
            say(f"{' and '.join(changed)} changed: all answers are kept, and the model is trained again")
    note = undescribed_codes(experiment, session.pool)
    if note:
        say(note)
    again = bool(len(session.pending))
    if not again:
        if unlimited := size_text(experiment.candidates, len(session.unasked_rows)):
            say(unlimited)
        reporter.stage("selecting the texts")
    if not again and _says_stop(session, experiment, options):
        return 3
    if experiment.weak_labels is not None and session.given:
        say(UNUSED_WEAK_LABELS)
    rows = _to_person(session, experiment, experiment.ask(session, options.n))
    reporter.clear()
    if not len(rows):
        return 0
    if output is None:
        text = questions(session, rows)
        # A terminal would obey control characters of the texts; a file or a program gets them as they are.
        print(escape_controls(text) if sys.stdout.isatty() else text, end="")
    else:
        write_questions(output, session, rows, force=options.force)
    what = "are still to be answered" if again else f"were chosen by {session.last_selection.shown_strategy}"  # type: ignore[union-attr]
    candidates = "" if again else said_of_candidates(session.last_selection)
    shown = [shortened(name, 40) for name in session.pool.classes[:12]]
    classes = ", ".join(shown) + (", ..." if len(session.pool.classes) > 12 else "")
    say(f"{len(rows):,} of {len(session.pool):,} texts {what}; {counted(len(session.labels), 'has', 'have')} a label")
    if candidates:
        say(candidates)
    if output is not None:
        then = shlex.join(["dal", "tell", str(options.folder), str(output)]) + importing.allow_option()
        say(f"fill in the column label of {output} with: {classes}; then: {then}")
    return 0


def _to_person(session: "Session", experiment: "Experiment", rows: "Tensor") -> "Tensor":
    """The rows left for a person after the models of the config have answered."""
    if experiment.oracle is None or experiment.oracle.hides_labels:
        return rows
    from dal.oracles.answering import answer_pending

    answer_pending(experiment.oracle, session)
    left = session.pending
    say(f"{type(experiment.oracle).__name__} answered {len(rows) - len(left)} of {len(rows)} texts")
    return left


def _says_stop(session: "Session", experiment: "Experiment", options: argparse.Namespace) -> bool:
    """Whether the stopping rule forbids the next batch. Its verdict is printed once it has seen a round."""
    if experiment.stop is None:
        return False
    verdict = session.should_stop(experiment.stop)
    if verdict.stop and not options.anyway:
        say(f"the stopping rule says stop: {verdict.text}; nothing was asked (--anyway asks nevertheless)")
        return True
    if session.metrics:
        say(f"the stopping rule says {'stop' if verdict.stop else 'go on'}: {verdict.text}")
    return False
