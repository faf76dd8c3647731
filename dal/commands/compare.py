"""`dal compare`: run a grid of strategies and seeds from a config, or resume one."""

import argparse
import signal
from pathlib import Path
from typing import TYPE_CHECKING

from dal.commands.experiment_settings import is_stored
from dal.commands.paths import check_folder, check_new_file, path_of
from dal.commands.several_devices import check_alone
from dal.commands.shared_options import add_dry_run, add_resume, with_shared_options
from dal.commands.terminal import Parser, about_keys, config_keys, escape_controls, say, split, wants_help
from dal.errors import ConfigError, shortened
from dal.experiments.spinner import loading_packages
from dal.experiments.stored_experiments import Execution, assemble_comparison, require_folder, stored_comparison

#: Largest number of seeds: the config stores the list of them.
_MOST_SEEDS = 10_000

if TYPE_CHECKING:
    from dal.config.settings_tree import Node, Override
    from dal.experiments.comparison import Comparison

HELP = with_shared_options("""\
usage: dal compare CONFIG --strategies Random,Margin,BADGE,Auto --seeds 5 [--jobs 2] [--key value ...]
       dal compare --resume FOLDER [--jobs 2] [--cluster slurm.yaml]
       dal compare FOLDER --table latex [--metric macro_f1] [-o table.tex]

Runs every strategy with every seed, as `dal run` would: cells of one seed start from the same labels (chosen by the
cold start of the config, unless --common_start is false), the same initialisation and the same test set. Each cell has
its own run folder. Failed cells are listed at the end and do not stop the others; the same command again runs what is
missing. A report covers the whole grid.

CONFIG is a config of `dal run`; its strategy is ignored, and its baseline takes part. All its keys can be given as
options. Without --folder, the comparison is stored in the folder that CONFIG names, or runs/NAME, with -compare added.

options:
  --strategies LIST short names or import paths, separated by commas, or YAML for those with options:
                    '[Random, {BADGE: {seeding: k-center}}]'
  --seeds N         number of seeds, from 0 on; or a list: [3,4,5]
  --jobs N          parallel processes (1), which share the threads; each gets its own GPU where there are several
  --cluster WHERE   run the jobs on Slurm (extra `slurm`): a YAML file with the resources of a job, or slurm for the
                    default ones; --cluster.minutes 60 changes one. Or on a Ray cluster (extra `ray`): auto is the one
                    that this computer is part of, local a Ray on this computer alone, else its HOST:PORT. All nodes
                    must see the folder and the data under the same paths
  --cells-per-gpu N let N cells share a GPU of the cluster (1)
  --successor tfidf another learner, trained on the same labels after each round and scored on the test set, to see
                    whether they are useful for it too. tfidf is TfidfLearner; any learner of `dal list`, with options,
                    or an import path
  @costs
  --table FORMAT    print a table for a paper: latex, csv or markdown, after the run, or of a FOLDER, which is only read
  --metric NAME     metric of the verdict, the summary and the table, such as macro_f1 (accuracy)
  -o FILE           write the table to FILE; --force replaces an existing one
  --resume FOLDER   resume the comparison in FOLDER
  @allow-code with --resume
  @debug

SIGTERM and SIGUSR1 end it after the current step, with exit code 75; --resume goes on.
""")


def compare(arguments: list[str]) -> int:
    """`dal compare`."""
    if wants_help(arguments):
        print(HELP + "\n" + about_keys(), end="")
        return 0
    parser = Parser("dal compare", add_help=False, allow_abbrev=False)
    parser.add_argument("config", nargs="?", type=Path)
    parser.add_argument("--strategies")
    parser.add_argument("--seeds")
    parser.add_argument("--jobs", type=int, default=1)
    parser.add_argument("--cluster")
    parser.add_argument("--cells-per-gpu", "--cells_per_gpu", type=int, default=1)
    parser.add_argument("--devices", "--rank-timeout", "--rank_timeout")  # those of `dal run`
    add_resume(parser)
    add_dry_run(parser)
    parser.add_argument("--table", choices=("latex", "csv", "markdown"))
    parser.add_argument("-o", "--output", type=path_of)
    parser.add_argument("--force", action="store_true")
    parser.add_argument("--cell")  # one cell of a folder, as a worker runs it
    options, overrides = split(parser, arguments, keys=config_keys())
    if options.output is not None and options.table is None:
        raise ConfigError("-o is the file of a table: give --table latex, csv or markdown, too")
    if options.devices is not None:
        raise ConfigError(
            "dal compare runs each cell on one device: give --jobs N, and each of N cells at once has its own"
        )
    if options.jobs < 1:
        raise ConfigError(f"--jobs must be at least 1, not {options.jobs}")
    if options.cell is not None:
        from dal.store.parent_process import end_with_parent

        end_with_parent()
        if hasattr(signal, "SIGUSR2"):  # Slurm sends it to all processes of a job, whose first one then stops this one
            signal.signal(signal.SIGUSR2, signal.SIG_IGN)
        stored_comparison(options.config).run_cell(options.cell)
        return 0
    check_alone()
    if options.table is not None and options.config is not None and options.config.is_dir():
        metric = overrides.inside.pop("metric", None)
        if overrides.inside or options.strategies or options.seeds or options.resume:
            raise ConfigError("--table of a folder takes only the folder, --metric, -o and --force")
        if options.output is not None:
            check_new_file(options.output, options.config, force=options.force)
        _write_table(options, options.config, None if metric is None else _metric(metric))
        return 0
    if options.table is not None and options.config is not None and not options.strategies:
        require_folder(options.config)  # a config takes --strategies, too
    loading = loading_packages(stderr=options.dry_run)
    where = overrides.inside.pop("cluster", None)
    if options.resume is not None:
        if options.config is not None or overrides.inside or options.strategies or options.seeds:
            raise ConfigError("--resume takes only the folder, --jobs and --cluster: its config.yaml has the rest")
        with loading:
            comparison = stored_comparison(options.resume, _execution(options, where))
    elif options.config is None or options.strategies is None:
        raise ConfigError("dal compare needs a config file and --strategies, such as --strategies Random,Margin,BADGE")
    else:
        with loading:
            comparison = _comparison(options, overrides, _execution(options, where))
    if options.dry_run:
        from dal.commands.dry_run import dry_run

        return dry_run(comparison)
    if comparison.experiment.folder is not None:
        check_folder(Path(comparison.experiment.folder))
    if options.table is None:
        comparison.run()
        return 0
    if comparison.experiment.folder is None:
        raise ConfigError("--table reads the folder of the comparison: leave out --folder null")
    folder = Path(comparison.experiment.folder)
    if options.output is not None:
        check_new_file(options.output, folder, force=options.force)
    comparison.run()
    _write_table(options, folder)
    return 0


def _metric(override: "Override") -> str:
    """The name given as `--metric`."""
    if override.node is None or not override.node.raw:
        raise ConfigError("--metric takes the name of a metric, such as macro_f1")
    return override.node.raw


def _write_table(options: argparse.Namespace, folder: Path, metric: str | None = None) -> None:
    """Print the table of a folder, or write it to a file."""
    with loading_packages("matplotlib and scipy", stderr=True):
        from dal.report.paper_table import table_text
    from dal.store.atomic_files import write_whole

    text = table_text(folder, options.table, metric)
    if options.output is None:
        print(escape_controls(text), end="")
        return
    try:
        write_whole(options.output, text)
    except OSError as error:
        raise ConfigError(f"{options.output} could not be written: {error.strerror}") from error
    say(f"the table is in {options.output}")


def _execution(options: argparse.Namespace, resources: "Override | None") -> Execution:
    """Where the cells run. The resources of Slurm jobs are in a YAML file, or given as `--cluster.KEY VALUE`."""
    from dal.config import settings_tree as tree

    where = options.cluster
    is_file = where is not None and where.endswith((".yaml", ".yml"))
    if where != "slurm" and not is_file:
        if resources is not None:
            raise ConfigError(f"{resources.first().place} is for Slurm: give --cluster slurm or a YAML file, too")
        return Execution(options.jobs, where, options.cells_per_gpu)
    from dal.config.build import build
    from dal.experiments.slurm_jobs import Slurm

    settings = tree.read(Path(where)) if is_file else tree.Node({}, None, "--cluster")
    slurm, notes = build(Slurm, settings, resources or tree.Override())
    for note in notes:
        say(note)
    return Execution(options.jobs, slurm, options.cells_per_gpu)


def _comparison(options: argparse.Namespace, overrides: "Override", execution: Execution) -> "Comparison":
    """The comparison that a config file and options describe."""
    from dal.config import allowed_code as importing
    from dal.config import settings_tree as tree

    strategies = _listed(options.strategies)
    if "strategy" in overrides.inside:
        raise ConfigError("--strategy: a comparison takes --strategies")
    successor = overrides.inside.get("successor")
    if successor is not None and successor.node is not None and successor.node.value == "tfidf":
        named = tree.option("TfidfLearner", "--successor")
        overrides.inside["successor"] = tree.Override(named, successor.inside)
    if options.seeds is not None:
        overrides.inside["seeds"] = tree.Override(tree.option(_seeds(options.seeds), "--seeds"))
    if not is_stored(options.config):
        importing.allow_current_folder()
    settings = tree.read(options.config)
    place = settings.value.pop("folder", tree.Node(None)).value or Path("runs") / options.config.stem
    folder = Path(f"{place}-compare")  # so that it does not collide with a run of the same config
    comparison, notes = assemble_comparison(settings, strategies, overrides, folder, execution)
    for note in notes:
        say(note)
    return comparison


def _listed(text: str) -> "list[Node]":
    """The strategies of `--strategies`: names separated by commas, or a YAML list."""
    from dal.config import settings_tree as tree

    text = text.strip()
    try:
        nodes = tree.option(text if text.startswith("[") else f"[{text}]", "--strategies").value
    except ConfigError as error:
        if text.startswith("["):
            raise
        raise _no_names(text) from error
    if not isinstance(nodes, list) or not nodes or any(tree.is_empty(node) or node.raw == "" for node in nodes):
        raise _no_names(text)
    return nodes


def _no_names(text: str) -> ConfigError:
    return ConfigError(f"--strategies: expected names separated by commas, got {shortened(repr(text))}")


def _seeds(text: str) -> str:
    """The seeds of `--seeds` as a list; a number N means 0 to N - 1."""
    text = text.strip()
    if not text.removeprefix("-").isdecimal():
        return text
    count = int(text) if len(text) < 10 else _MOST_SEEDS + 1
    if not 1 <= count <= _MOST_SEEDS or text.startswith("-"):
        wanted = f"a number of seeds, 1 to {_MOST_SEEDS}, or a list such as [3,4,5]"
        raise ConfigError(f"--seeds takes {wanted}, not {shortened(text)}")
    return str(list(range(count)))
