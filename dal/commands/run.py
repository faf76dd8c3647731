"""`dal run`: run an experiment from a config, or resume one."""

from argparse import Namespace
from pathlib import Path
from typing import TYPE_CHECKING

from dal.commands.experiment_settings import read_experiment
from dal.commands.paths import check_folder, require_run
from dal.commands.several_devices import check_options, launched_ranks, on_one_device, run_on_devices
from dal.commands.shared_options import add_device_options, add_dry_run, add_resume, with_shared_options
from dal.commands.terminal import Parser, about_keys, config_keys, split, wants_help
from dal.errors import ConfigError
from dal.experiments.spinner import loading_packages
from dal.experiments.stored_experiments import stored_experiment

if TYPE_CHECKING:
    from dal.config.settings_tree import Override

HELP = with_shared_options("""\
usage: dal run CONFIG [--key value ...]
       dal run --resume FOLDER

Runs the experiment that CONFIG (YAML) describes: the strategy and the baseline, over the same seeds, round by round,
answered by the oracle or by the labels in the data, which are hidden from the run. All results are stored in its
folder; running the same config again resumes it.

Every key of the config can be given as an option, dotted for nested keys, in any order:
  --data.path tickets.csv --strategy BADGE --strategy.seeding k-center --learner.epochs 3 --seeds [0,1,2]
A strategy, learner, oracle or stopping rule is a short name (`dal list`) or an import path, alone or with its options:
  strategy: Margin
  strategy: {BADGE: {seeding: k-center}}
  strategy: {class_path: my_package.MyStrategy, init_args: {weight: 2.0}}

options:
  --resume FOLDER   resume the run in FOLDER
  @devices
  @allow-code with --resume
  --print-config    print the config with all defaults, and exit
  @costs
  @debug

SIGTERM and SIGUSR1 end it after the current step, with exit code 75; --resume goes on.
""")


def run(arguments: list[str]) -> int:
    """`dal run`."""
    if wants_help(arguments):
        print(HELP + "\n" + about_keys(), end="")
        return 0
    parser = Parser("dal run", add_help=False, allow_abbrev=False)
    parser.add_argument("config", nargs="?", type=Path)
    add_resume(parser)
    parser.add_argument("--print-config", "--print_config", action="store_true")
    add_dry_run(parser)
    add_device_options(parser)
    options, overrides = split(parser, arguments, keys=config_keys())
    check_options(options.devices, options.rank_timeout)
    with launched_ranks(options.rank_timeout, stderr=options.print_config or options.dry_run):
        return _run(options, overrides)


def _run(options: Namespace, overrides: "Override") -> int:
    loading = loading_packages(stderr=options.print_config or options.dry_run)
    if options.resume is not None:
        if options.config is not None or overrides.inside:
            raise ConfigError("--resume takes only the folder: its config.yaml has the rest")
        require_run(options.resume)
        with loading:
            experiment = stored_experiment(options.resume)
    elif options.config is None:
        raise ConfigError("dal run needs a config file, such as configs/quickstart.yaml, or --resume FOLDER")
    else:
        with loading:
            experiment = read_experiment(options.config, overrides, Path("runs") / options.config.stem)
    if options.print_config:
        import yaml

        from dal.experiments.folder_config import describe_given

        print(yaml.safe_dump(describe_given(experiment), sort_keys=False, allow_unicode=True, width=120), end="")
        return 0
    if options.dry_run:
        from dal.commands.dry_run import dry_run

        return dry_run(experiment)
    if experiment.folder is not None:
        check_folder(Path(experiment.folder))
        require_run(Path(experiment.folder))
    experiment, devices = on_one_device(experiment)
    run_on_devices(experiment, options.devices or devices, options.rank_timeout)
    return 0
