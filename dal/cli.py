"""The `dal` command. Nothing heavy is imported before a command needs it."""

import argparse
import contextlib
import os
import shutil
import sys
import textwrap
import warnings
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

from dal.errors import ConfigError, DalError, DataError

if TYPE_CHECKING:
    from torch import Tensor

    from dal.compare import Comparison
    from dal.config.tree import Node, Override
    from dal.experiment import Experiment
    from dal.session import Session

HELP = """\
Deep active learning for text classifiers: spends your labels where they teach the model most.

  dal run CONFIG [--key value ...]        simulate with hidden labels, or let an oracle answer; writes a report
  dal run --resume FOLDER                 go on with a run that was stopped
  dal compare CONFIG --strategies Random,Margin,BADGE --seeds 5
                                          several strategies over the same seeds, in several processes
  dal ask FOLDER --config CONFIG -n 50 -o todo.csv
                                          choose 50 texts for a person to label; later without --config
  dal tell FOLDER todo.csv                store the labels that were filled in
  dal audit FOLDER                        how often the machines of a Router are wrong, and what they cost
  dal autolabel FOLDER --max-error 0.05   label all the rest that the model may label alone, with a guarantee
  dal estimate FOLDER -n 100 -o check.csv draw texts that tell the model's accuracy without a test set
  dal report FOLDER...                    make report.html of runs again, also while they go on
  dal list [strategies|learners|oracles|stopping|candidates|clients]
                                          what is installed
  dal llm preview CONFIG                  show what a language model is asked about a text
  dal check my_package:MyStrategy         test a strategy or learner of your own against the contract

  dal COMMAND --help                      more about a command
  dal --version                           the version
  --debug                                 with any command: show the traceback of an error"""

RUN_HELP = """\
usage: dal run CONFIG [--key value ...]
       dal run --resume FOLDER

Runs the experiment that CONFIG (YAML) describes: the strategy against the baseline, over the same seeds, round by
round, answered by the oracle or by the labels in the data, which are hidden from the run. Everything is kept in its
folder; running the same config again goes on where the last run stopped.

Every key of the config can be given as an option, dotted where it lies inside another, in any order:
  --data.path tickets.csv --strategy BADGE --strategy.seeding k-center --learner.epochs 3 --seeds [0,1,2]
A strategy, learner, oracle or stopping rule is a short name (`dal list`) or an import path, alone or with its options:
  strategy: Margin
  strategy: {BADGE: {seeding: k-center}}
  strategy: {class_path: my_package.MyStrategy, init_args: {weight: 2.0}}

options:
  --resume FOLDER   go on with the run in FOLDER
  --print-config    print the config with all its defaults, and do nothing
  --dry-run         say what the language models of the config would cost, and ask nothing
  --debug           show the traceback of an error
"""

COMPARE_HELP = """\
usage: dal compare CONFIG --strategies Random,Margin,BADGE,Auto --seeds 5 [--jobs 2] [--key value ...]
       dal compare --resume FOLDER [--jobs 2] [--cluster auto]

Runs every strategy with every seed, as `dal run` would: cells of one seed start from the same labels (which the cold
start of the config chooses, unless --common_start is false), the same initialisation and the same test set. Each cell
is a run folder of its own. One that fails is named at the end and the others go on; the same command again does what is
missing. A report is written over the whole grid.

CONFIG is that of `dal run`; its strategy is not used, and its baseline takes part. All its keys can be given as
options. Without --folder, the comparison is kept in the folder that CONFIG names, or runs/NAME, with -compare added.

options:
  --strategies LIST short names or import paths with commas between them, or YAML for those with options:
                    '[Random, {BADGE: {seeding: k-center}}]'
  --seeds N         so many seeds, from 0 on; or a list: [3,4,5]
  --jobs N          processes at once (1), each with its share of the threads, and a GPU of its own where there are more
  --cluster ADDRESS run the jobs on a Ray cluster (extra `ray`): auto is the one that this machine is part of, local a
                    Ray on this machine alone. All its machines must see the folder and the data under the same paths
  --successor tfidf another learner, trained on the same labels after each round and scored on the test set: do they
                    serve it too? tfidf is TfidfLearner; any learner of `dal list`, with options, or an import path
  --resume FOLDER   go on with the comparison in FOLDER
  --debug           show the traceback of an error
"""

ASK_HELP = """\
usage: dal ask FOLDER --config CONFIG -n 50 -o todo.csv [--key value ...]
       dal ask FOLDER -n 50 -o todo.csv

Chooses the texts that a person should label next and writes them to a CSV file with an empty column `label`. The first
time, CONFIG says where the texts are and how to choose; it is kept in FOLDER/config.yaml, and FOLDER alone is enough
afterwards. Class names come from data.classes when the texts have no labels yet:
  dal ask spam --config config.yaml --data.path mails.csv --data.classes [spam,ham] -n 50 -o todo.csv

Fill in `label` with a class name, or `skip` for a text that you decline; leave it empty to answer later. When a text
may have several classes, write them as `a|b`, and `none` for no class. Then: dal tell FOLDER todo.csv
While some texts are still unanswered, those are asked again, whatever -n is.

Where the config has a stopping rule (`stop`), it is judged before new texts are chosen, and what it says is shown. When
it says stop, nothing is asked and the exit code is 3; --anyway asks all the same.

options:
  --config CONFIG   start FOLDER with this config; --key value changes it as in `dal run`
  -n N              how many texts to choose (50)
  -o FILE           the CSV file to write (todo.csv); - writes to the terminal
  --force           overwrite FILE
  --anyway          ask although the stopping rule says stop
  --debug           show the traceback of an error
"""


class _Parser(argparse.ArgumentParser):
    """argparse whose errors are ours: one line, no usage."""

    def error(self, message: str) -> NoReturn:
        raise ConfigError(f"{message} (see {self.prog} --help)")


def main(argv: Sequence[str] | None = None) -> int:
    """The exit code of the command.

    0; 1 for a failed check; 2 for what the user can mend; 3 when a stopping rule says stop; 130 after Ctrl-C.
    """
    arguments = list(sys.argv[1:] if argv is None else argv)
    debug = "--debug" in arguments
    arguments = [argument for argument in arguments if argument != "--debug"]
    try:
        with _one_line_warnings():
            code = _dispatch(arguments)
            sys.stdout.flush()
            return code
    except SystemExit as ended:  # argparse leaves so after its help
        return int(ended.code or 0)
    except BrokenPipeError:
        return _closed_pipe()
    except DalError as error:
        if debug:
            raise
        return _complain(str(error), error.exit_code)
    except KeyboardInterrupt:
        if debug:
            raise
        return _complain("stopped; every answer that was acknowledged is stored", 130)
    except Exception as error:
        if debug:
            raise
        return _complain(f"{type(error).__name__}: {_first_line(error)} (--debug shows where)", 1)


def _dispatch(arguments: list[str]) -> int:
    if not arguments or arguments[0] in {"-h", "--help", "help"}:
        print(HELP)
        return 0
    if arguments[0] in {"-V", "--version", "version"}:
        from dal import __version__

        print(f"dal {__version__}")
        return 0
    name, *rest = arguments
    if name not in COMMANDS:
        from dal.config.classes import near

        raise ConfigError(f"no command {name!r}{near(name, COMMANDS)}; commands are {', '.join(COMMANDS)}")
    here = str(Path.cwd())
    if here not in sys.path:
        sys.path.append(here)  # so that a strategy of one's own beside the config is found
    return COMMANDS[name](rest)


# -- run -----------------------------------------------------------------------------------------------------------


def run(arguments: list[str]) -> int:
    """`dal run`."""
    if _wants_help(arguments):
        print(RUN_HELP + "\n" + _keys_help(), end="")
        return 0
    parser = _Parser("dal run", add_help=False, allow_abbrev=False)
    parser.add_argument("config", nargs="?", type=Path)
    parser.add_argument("--resume", type=Path)
    parser.add_argument("--print-config", "--print_config", action="store_true")
    parser.add_argument("--dry-run", action="store_true")
    options, overrides = _split(parser, arguments)
    if options.resume is not None:
        if options.config is not None or overrides.inside:
            raise ConfigError("--resume takes the folder alone: its config.yaml says the rest")
        experiment = _experiment(_stored(options.resume), overrides, options.resume)
    elif options.config is None:
        raise ConfigError("dal run needs a config file, such as configs/quickstart.yaml, or --resume FOLDER")
    else:
        experiment = _experiment(options.config, overrides, Path("runs") / options.config.stem)
    if options.print_config:
        print(_as_yaml(experiment), end="")
        return 0
    if options.dry_run:
        from dal.commands.dry_run import dry_run

        return dry_run(experiment)
    experiment.run()
    return 0


def compare(arguments: list[str]) -> int:
    """`dal compare`."""
    if _wants_help(arguments):
        print(COMPARE_HELP + "\n" + _keys_help(), end="")
        return 0
    parser = _Parser("dal compare", add_help=False, allow_abbrev=False)
    parser.add_argument("config", nargs="?", type=Path)
    parser.add_argument("--strategies")
    parser.add_argument("--seeds")
    parser.add_argument("--jobs", type=int, default=1)
    parser.add_argument("--cluster")
    parser.add_argument("--resume", type=Path)
    parser.add_argument("--cell")  # one cell of a folder, as a worker runs it
    options, overrides = _split(parser, arguments)
    if options.cell is not None:
        from dal.grid.executor import end_with_parent

        end_with_parent()
        _stored_comparison(options.config, 1, None).run_cell(options.cell)
        return 0
    if options.resume is not None:
        if options.config is not None or overrides.inside or options.strategies or options.seeds:
            raise ConfigError("--resume takes the folder, --jobs and --cluster alone: its config.yaml says the rest")
        comparison = _stored_comparison(options.resume, options.jobs, options.cluster)
    elif options.config is None or options.strategies is None:
        raise ConfigError("dal compare needs a config file and --strategies, such as --strategies Random,Margin,BADGE")
    else:
        comparison = _comparison(options, overrides)
    comparison.run()
    return 0


def _comparison(options: argparse.Namespace, overrides: "Override") -> "Comparison":
    """The comparison that a config file and options describe."""
    from dal.config import tree

    text = options.strategies.strip()
    listed = tree.option(text if text.startswith("[") else f"[{text}]", "--strategies")
    if not isinstance(listed.value, list) or not listed.value:
        raise ConfigError(f"--strategies: expected names with commas between them, got {text!r}")
    if "strategy" in overrides.inside:
        raise ConfigError("--strategy: a comparison takes --strategies")
    successor = overrides.inside.get("successor")
    if successor is not None and successor.node is not None and successor.node.value == "tfidf":
        named = tree.option("TfidfLearner", "--successor")
        overrides.inside["successor"] = tree.Override(named, successor.inside)
    if options.seeds is not None:
        count = options.seeds.strip()
        seeds = str(list(range(int(count)))) if count.isdecimal() and int(count) else count
        overrides.inside["seeds"] = tree.Override(tree.option(seeds, "--seeds"))
    settings = tree.read(options.config)
    place = settings.value.pop("folder", tree.Node(None)).value or Path("runs") / options.config.stem
    folder = Path(f"{place}-compare")  # a run of the same config is not in its way
    return _grid(settings, listed.value, overrides, folder, options.jobs, options.cluster)


def _stored_comparison(folder: Path, jobs: int, cluster: str | None) -> "Comparison":
    """The comparison in a folder."""
    from dal.config import tree

    settings = tree.read(_stored(folder))
    strategies = settings.value.pop("strategies", None)
    if strategies is None or not isinstance(strategies.value, dict):
        raise ConfigError(f"{folder} holds no comparison; `dal run --resume {folder}` goes on with a run")
    return _grid(settings, list(strategies.value.values()), tree.Override(), folder, jobs, cluster)


def _grid(
    settings: "Node",
    strategies: "Sequence[Node]",
    overrides: "Override",
    folder: Path,
    jobs: int,
    cluster: str | None,
) -> "Comparison":
    """One experiment is built for each strategy, so that a wrong one is refused as `dal run` refuses it."""
    from dal.config.tree import Node

    experiments = []
    for node in strategies:
        one = Node({**settings.value, "strategy": node}, None, settings.place)
        experiments.append(_built(one, overrides, folder))
    from dal.compare import Comparison

    return Comparison(experiments[0], tuple(each.strategy for each in experiments), jobs, cluster)


def report(arguments: list[str]) -> int:
    """`dal report`."""
    about = "Makes report.html of runs again, also while they go on."
    parser = _Parser("dal report", description=about, allow_abbrev=False)
    words = "the folders of experiments or comparisons, or of one strategy and seed in them"
    parser.add_argument("folders", type=Path, nargs="+", metavar="FOLDER", help=words)
    folders = list(dict.fromkeys(parser.parse_args(arguments).folders))
    from dal.report import write_report

    failed: list[DalError] = []
    for folder in folders:
        try:
            _require_folder(folder)
            print(write_report(folder))
        except DalError as error:  # the others are still made
            failed.append(error)
    if failed:
        raise DataError("; ".join(map(str, failed)))
    return 0


# -- ask and tell --------------------------------------------------------------------------------------------------


def ask(arguments: list[str]) -> int:
    """`dal ask`."""
    if _wants_help(arguments):
        print(ASK_HELP, end="")
        return 0
    parser = _Parser("dal ask", add_help=False, allow_abbrev=False)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--config", type=Path)
    parser.add_argument("-n", type=int, default=50)
    parser.add_argument("-o", dest="output", default="todo.csv")
    parser.add_argument("--force", action="store_true")
    parser.add_argument("--anyway", action="store_true")
    options, overrides = _split(parser, arguments)
    if options.n < 1:
        raise ConfigError(f"-n must be at least 1, not {options.n}")
    output = None if options.output == "-" else Path(options.output)
    if output is not None and output.exists() and not options.force:
        raise ConfigError(f"{output} is there already and may hold answers: `dal tell` it, or choose another name")
    experiment = _settled(options.folder, options.config, overrides)
    with _session(experiment, options.folder) as session:
        return _ask(session, experiment, options, output)


def _ask(session: "Session", experiment: "Experiment", options: argparse.Namespace, output: Path | None) -> int:
    from dal.runfolder import describe, write_config
    from dal.sheet import questions, write_questions

    write_config(options.folder, _kept(describe(experiment)))
    again = bool(len(session.pending))
    if not again and _says_stop(session, experiment, options):
        return 3
    rows = _to_person(session, experiment, session.ask(options.n, strategy=experiment.start_of(session)))
    if not len(rows):
        return 0
    if output is None:
        print(questions(session, rows), end="")
    else:
        write_questions(output, session, rows, force=options.force)
    what = "are still to be answered" if again else f"were chosen by {session.last_selection.strategy}"  # type: ignore[union-attr]
    classes = ", ".join(session.pool.classes[:12]) + (", ..." if len(session.pool.classes) > 12 else "")
    _say(f"{len(rows)} of {len(session.pool)} texts {what}; {len(session.labels)} have a label")
    if output is not None:
        _say(f"fill in the column label of {output} with: {classes}; then: dal tell {options.folder} {output}")
    return 0


def _to_person(session: "Session", experiment: "Experiment", rows: "Tensor") -> "Tensor":
    """What is left for a person, once the machines of the config have answered."""
    if experiment.oracle is None or experiment.oracle.hides_labels:
        return rows
    from dal.oracles.storing import let_answer

    let_answer(experiment.oracle, session)
    left = session.pending
    _say(f"{type(experiment.oracle).__name__} answered {len(rows) - len(left)} of {len(rows)} texts")
    return left


def _says_stop(session: "Session", experiment: "Experiment", options: argparse.Namespace) -> bool:
    """Whether a stopping rule forbids the next batch. What it says is shown, once it has seen a round."""
    if experiment.stop is None:
        return False
    verdict = session.should_stop(experiment.stop)
    if verdict.stop and not options.anyway:
        _say(f"the stopping rule says stop: {verdict.text}; nothing was asked (--anyway asks all the same)")
        return True
    if session.metrics:
        _say(f"the stopping rule says {'stop' if verdict.stop else 'go on'}: {verdict.text}")
    return False


def tell(arguments: list[str]) -> int:
    """`dal tell`."""
    parser = _Parser(
        "dal tell",
        description="Stores the answers of a CSV file that `dal ask` wrote and a person filled in. Rows with an empty "
        "label stay pending; `skip` declines a row. If any line is wrong, nothing is stored.",
        allow_abbrev=False,
    )
    parser.add_argument("folder", type=Path, help="the folder that the texts were asked from")
    parser.add_argument("file", type=Path, help="the CSV file; the columns id and label are read")
    parser.add_argument("--correct", action="store_true", help="take rows that were not asked, and change answers")
    parser.add_argument("--who", default="", help="who answered, stored with each answer")
    options = parser.parse_args(arguments)
    if not options.file.is_file():
        raise ConfigError(f"{options.file}: there is no such file")
    with _session(_settled(options.folder, None, None), options.folder) as session:
        from dal.sheet import read_answers

        answers = read_answers(options.file, session, correct=options.correct)
        for note in answers.notes:
            _say(note)
        new = (
            session.tell(answers.rows, answers.values, who=options.who, correct=options.correct) if answers.rows else 0
        )
        print(
            f"{new} new answers stored, {len(answers.rows) - new} were there already; {len(session.pending)} texts are "
            f"still to be answered, {len(session.labels)} have a label"
        )
    return 0


def _settled(folder: Path, config: Path | None, overrides: "Override | None") -> "Experiment":
    """The config of a folder to ask from: the stored one, or the one that it is started with."""
    from dal.config.tree import Override

    stored = folder / "config.yaml"
    if not stored.exists():
        if config is None:
            raise ConfigError(f"{folder} has no config.yaml yet: start it with `dal ask {folder} --config CONFIG`")
        return _experiment(config, overrides or Override(), folder)
    if config is not None or (overrides is not None and overrides.inside):
        given = "--config" if config is not None else overrides.first().place  # type: ignore[union-attr]
        raise ConfigError(f"{folder} has its config already: leave {given} away, or edit {stored}")
    return _experiment(stored, Override(), folder)


def _session(experiment: "Experiment", folder: Path) -> "Session":
    from dal.session import Session

    return Session(
        experiment.data,
        experiment.learner,
        experiment.strategy,
        folder=folder,
        seed=experiment.seeds[0],
        candidates=experiment.candidates,
        save_model=experiment.save_model,
    )


def _kept(config: dict[str, Any]) -> dict[str, Any]:
    from dal.experiment import FREE

    return {key: value for key, value in config.items() if key not in FREE}


def audit_machines(arguments: list[str]) -> int:
    """`dal audit`."""
    parser = _Parser(
        "dal audit",
        description="Says how often each machine of a Router is wrong: on the rows that a person answered by lot, with "
        "exact 95 % intervals, for each class, and on those that the machine was sure of; and what it cost.",
        allow_abbrev=False,
    )
    parser.add_argument("folder", type=Path, help="of `dal run` or `dal ask` with a Router, or one cell of a run")
    parser.add_argument("--merge", type=Path, metavar="FILE", help="write what all answers say together, as CSV")
    options = parser.parse_args(arguments)
    _require_folder(options.folder)
    from dal.commands.audit import audit

    return audit(options.folder, options.merge)


# -- list and check ------------------------------------------------------------------------------------------------


def listing(arguments: list[str]) -> int:
    """`dal list`."""
    from dal import plugins

    groups = {group.partition(".")[2]: group for group in plugins.NOUNS}
    parser = _Parser(
        "dal list", description="Shows what is installed and can be named in a config.", allow_abbrev=False
    )
    parser.add_argument("kind", nargs="?", choices=list(groups))
    chosen = parser.parse_args(arguments).kind
    for title, group in groups.items():
        if chosen in {None, title}:
            print(title)
            for each in plugins.describe(group):
                print(_entry(each))
    return 0


def _entry(each: Any) -> str:
    lines = [each.summary, _reads(each)]
    if not each.built_in:
        lines.append(f"from {each.distribution}: {each.path}")
    lines += [f"paper: {each.paper}"] if each.paper else []
    lines += [f"advice: {each.advice}"] if each.advice else []
    lines = [f"broken: {each.broken}"] if each.broken else [line for line in lines if line]
    width = max(60, shutil.get_terminal_size((110, 24)).columns - 1)
    body = "\n".join(textwrap.fill(line, width, initial_indent=" " * 6, subsequent_indent=" " * 8) for line in lines)
    return f"  {each.name}\n{body}\n"


def _reads(each: Any) -> str:
    from dal.plugins import CANDIDATES, LEARNERS, STRATEGIES, found

    if each.name in found(LEARNERS):
        provides = "depends on its options" if each.provides is None else ", ".join(sorted(each.provides))
        free = "depends on its options" if each.label_free is None else ", ".join(sorted(each.label_free)) or "nothing"
        return f"provides: {provides}; without training: {free}"
    if each.name in found(CANDIDATES):
        return f"reads: {', '.join(sorted(each.needs))}, before any training" if each.needs else "reads: nothing"
    if each.name not in found(STRATEGIES):
        return ""
    sets = [("", each.needs), ("labeled ", each.labeled_needs), ("target ", each.target_needs)]
    if any(names is None for _, names in sets):
        return "reads: depends on its options"
    names = [f"{of}{name}" for of, group in sets for name in sorted(group)]
    multilabel = {True: "; multi-label too", None: "; multi-label depends on its options"}.get(each.multilabel, "")
    return f"reads: {', '.join(names) or 'nothing'}{multilabel}"


def check(arguments: list[str]) -> int:
    """`dal check`."""
    parser = _Parser(
        "dal check",
        description="Tests a strategy or learner against the contract, check by check. Its options are given as "
        "--key value. The exit code is 1 when a check fails.",
        allow_abbrev=False,
    )
    parser.add_argument("name", help="a short name, or an import path such as my_package:MyStrategy")
    if _wants_help(arguments):
        parser.print_help()
        return 0
    options, overrides = _split(parser, arguments)
    from dal.config.build import build
    from dal.config.tree import Node

    found = _strategy_or_learner(options.name)
    subject: Any = build(found, Node({}, None, options.name), overrides)[0] if overrides.inside else found
    from dal.learner import Learner
    from dal.testing import learner_report, strategy_report

    result = learner_report(subject) if issubclass(found, Learner) else strategy_report(subject)
    print(result)
    return 0 if result.ok else 1


def _strategy_or_learner(name: str) -> type:
    from dal import plugins

    if name in plugins.found(plugins.LEARNERS):
        return plugins.load(plugins.LEARNERS, name)
    try:
        return plugins.load(plugins.STRATEGIES, name)
    except ConfigError:
        with contextlib.suppress(ConfigError):
            return plugins.load(plugins.LEARNERS, name)
        raise


def autolabel(arguments: list[str]) -> int:
    """`dal autolabel`."""
    from dal.commands.autolabel import autolabel

    return autolabel(arguments)


def estimate(arguments: list[str]) -> int:
    """`dal estimate`."""
    from dal.commands.estimate import estimate

    return estimate(arguments)


def llm(arguments: list[str]) -> int:
    """`dal llm`."""
    from dal.commands.llm import llm as command

    return command(arguments)


COMMANDS: dict[str, Callable[[list[str]], int]] = {
    "run": run,
    "compare": compare,
    "ask": ask,
    "tell": tell,
    "audit": audit_machines,
    "autolabel": autolabel,
    "estimate": estimate,
    "report": report,
    "list": listing,
    "check": check,
    "llm": llm,
}


# -- config --------------------------------------------------------------------------------------------------------


def _experiment(config: Path, overrides: "Override", folder: Path) -> "Experiment":
    """The experiment of a config file, in `folder` unless the config names one."""
    from dal.config import tree

    return _built(tree.read(config), overrides, folder)


def _built(settings: "Node", overrides: "Override", folder: Path) -> "Experiment":
    """The experiment of settings, in `folder` unless they name one."""
    from dal.config import static

    static.check(settings, overrides)
    settings = _placed(settings, overrides, folder)
    from dal.candidates import as_candidates, check_candidates
    from dal.choice import check_needs
    from dal.config.build import build
    from dal.experiment import Experiment

    experiment, notes = build(Experiment, settings, overrides)
    for note in notes:
        _say(note)
    if "transformers" in sys.modules:  # whose bars for every saved file would break up the run's own display
        from transformers.utils.logging import disable_progress_bar

        disable_progress_bar()
    for strategy in (experiment.strategy, experiment.baseline):
        if strategy is not None:
            check_needs(strategy, experiment.learner, multilabel=experiment.data.multilabel)
    check_candidates(as_candidates(experiment.candidates), experiment.learner)
    return experiment


def _placed(settings: "Node", overrides: "Override", folder: Path) -> "Node":
    from dal.config.tree import Node

    given = overrides.inside.get("folder")
    if given is None and (settings.value.get("folder") is None or settings.value["folder"].value is None):
        return Node({**settings.value, "folder": Node(str(folder), str(folder), settings.place)}, None, settings.place)
    return settings


def _stored(folder: Path) -> Path:
    _require_folder(folder)
    if not (folder / "config.yaml").is_file():
        raise ConfigError(f"{folder} is not a run folder: it has no config.yaml")
    return folder / "config.yaml"


def _require_folder(folder: Path) -> None:
    if not folder.is_dir():
        raise ConfigError(f"there is no folder {folder}")


def _as_yaml(experiment: "Experiment") -> str:
    import yaml

    from dal.runfolder import describe

    text: str = yaml.safe_dump(describe(experiment), sort_keys=False, allow_unicode=True, width=120)
    return text


def _keys_help() -> str:
    from dal.config import static

    lines = ["keys of a config:"]
    for field in static.experiment().values():
        lines += _key_help(field)
        if field.name == "data":
            for inner in static.data().values():
                lines += _key_help(inner, "data.")
    return "\n".join(lines) + "\n"


def _key_help(field: Any, prefix: str = "") -> list[str]:
    default = "" if field.default is None else f" [{field.default}]"
    return textwrap.wrap(
        f"{field.help}{default}",
        width=110,
        initial_indent=f"  --{prefix}{field.name}".ljust(26) + " ",
        subsequent_indent=" " * 27,
    ) or [f"  --{prefix}{field.name}"]


# -- the command line ----------------------------------------------------------------------------------------------


def _split(parser: argparse.ArgumentParser, arguments: list[str]) -> tuple[argparse.Namespace, "Override"]:
    """The command's own options, and all other `--key value` pairs as overrides of the config."""
    from dal.config.tree import options

    known = set(parser._option_string_actions)
    own: list[str] = []
    pairs: list[tuple[str, str]] = []
    left = iter(arguments)
    for argument in left:
        key, equals, value = argument.partition("=")
        if not argument.startswith("--") or key in known:
            own.append(argument)
            continue
        if not equals:
            value = next(left, "--")
            if value.startswith("--"):
                raise ConfigError(f"{key} needs a value, as in {key} VALUE or {key}=VALUE")
        pairs.append((key[2:], value))
    return parser.parse_args(own), options(pairs)


def _wants_help(arguments: list[str]) -> bool:
    return "--help" in arguments or "-h" in arguments


# -- what the user sees --------------------------------------------------------------------------------------------


def _say(text: str) -> None:
    print(f"dal: {text}", file=sys.stderr)


def _complain(text: str, code: int) -> int:
    _say(f"error: {text}" if code != 130 else text)
    return code


def _first_line(error: BaseException) -> str:
    return (str(error).splitlines() or [""])[0]


@contextlib.contextmanager
def _one_line_warnings() -> Iterator[None]:
    """Our own warnings in one line, and none of what libraries say to those who build on them."""
    package = str(Path(__file__).parent)

    def show(message: Any, category: type[Warning], filename: str, *rest: Any, **more: Any) -> None:
        if filename.startswith(package) or category.__module__.startswith("dal."):
            _say(f"warning: {_first_line(message)}")
        elif not issubclass(category, DeprecationWarning | PendingDeprecationWarning | FutureWarning):
            before(message, category, filename, *rest, **more)

    before = warnings.showwarning
    warnings.showwarning = show
    try:
        yield
    finally:
        warnings.showwarning = before


def _closed_pipe() -> int:
    """Nobody reads any more, as in `dal list | head`: leave in silence."""
    with contextlib.suppress(OSError, ValueError):
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    return 141
