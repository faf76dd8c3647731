"""`dal embed`: fill the cache ahead of a run."""

import shlex
from argparse import Namespace
from pathlib import Path
from typing import TYPE_CHECKING

from dal.commands.experiment_settings import read_experiment
from dal.commands.several_devices import check_options, launched_ranks, on_devices, on_one_device
from dal.commands.shared_options import add_device_options, with_shared_options
from dal.commands.terminal import Parser, about_keys, config_keys, split, wants_help
from dal.config.allowed_code import allow_option
from dal.errors import ConfigError
from dal.experiments.spinner import loading_packages

if TYPE_CHECKING:
    from dal.config.settings_tree import Override

HELP = with_shared_options("""\
usage: dal embed CONFIG [--key value ...]

Computes what a run of CONFIG reads from the cache, and stores it there: tokens, embeddings, and the token states of a
cached trunk, of the pool, the test and the validation rows. `dal run CONFIG` then computes none of them. What is
in the cache already is not computed again: after an interruption the same command goes on where it stopped.

options:
  @devices
  @debug

Ctrl-C, SIGTERM and SIGUSR1 end it after the current batch. The cache is shown by `dal cache`.
""")


def embed(arguments: list[str]) -> int:
    """`dal embed`."""
    if wants_help(arguments):
        print(HELP + "\n" + about_keys(), end="")
        return 0
    parser = Parser("dal embed", add_help=False, allow_abbrev=False)
    parser.add_argument("config", nargs="?", type=Path)
    add_device_options(parser)
    options, overrides = split(parser, arguments, keys=config_keys())
    if options.config is None:
        raise ConfigError("dal embed needs a config file, such as configs/quickstart.yaml")
    check_options(options.devices, options.rank_timeout)
    with launched_ranks(options.rank_timeout):
        return _embed(options, overrides, shlex.join(["dal", "embed", *arguments]))


def _embed(options: Namespace, overrides: "Override", command: str) -> int:
    with loading_packages():
        experiment = read_experiment(options.config, overrides, Path("runs") / options.config.stem)
        from dal.experiments.cache_filling import cached_kinds, fill_cache
        from dal.experiments.console import Console, Quiet
    if not cached_kinds(experiment):
        name = type(experiment.learner).__name__
        print(f"nothing to do: {name} reads neither embeddings nor token states, so a run keeps none in the cache")
        return 0
    experiment, devices = on_one_device(experiment)
    again = f"go on with: {command}{allow_option()}"
    reporter = Quiet() if experiment.quiet else Console()
    with on_devices(options.devices or devices, options.rank_timeout, again), reporter:
        for done in fill_cache(experiment, reporter, again):
            counts = "".join(f", {count:,} {_plural(kind)} computed" for kind, count in done.computed.items())
            reporter.say(f"{done.learner}, {done.part}: {done.rows:,} texts{counts} ({done.seconds:.1f} s)")
        reporter.say("a run of this config reads these from the cache")
    return 0


def _plural(kind: str) -> str:
    return "token states of texts" if kind == "states" else kind
