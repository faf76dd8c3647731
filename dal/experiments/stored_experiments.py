"""Experiments and comparisons from settings and from the folders in which they are stored."""

import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from dal.errors import ConfigError, shortened
from dal.store.atomic_files import named, typed
from dal.store.similar_names import similar_entry

if TYPE_CHECKING:
    from dal.config.settings_tree import Node, Override
    from dal.experiments.comparison import Comparison
    from dal.experiments.experiment import Experiment
    from dal.experiments.slurm_jobs import Slurm


def require_folder(folder: Path) -> None:
    """Raise ConfigError unless the folder exists."""
    try:
        if folder.is_dir():
            return
        file = folder.exists()
    except OSError as error:
        raise ConfigError(f"{named(folder)} cannot be a folder: {error.strerror}") from error
    if file:
        raise ConfigError(f"{named(folder)} is a file, not a folder")
    raise ConfigError(f"there is no folder {named(folder)}{similar_entry(folder, folders=True)}")


def stored_config(folder: Path) -> Path:
    """The config file of a folder.

    Raises:
        ConfigError: the folder or its config does not exist.
    """
    require_folder(folder)
    if not (folder / "config.yaml").is_file():
        raise ConfigError(f"{named(folder)} is not a run folder: it has no config.yaml")
    return folder / "config.yaml"


def stored_experiment(folder: Path) -> "Experiment":
    """Build the experiment of a run folder. Its class paths may name only installed packages."""
    from dal.config import settings_tree as tree

    return assemble(tree.read(stored_config(folder)), tree.Override(), folder, stored=True)[0]


@dataclass(frozen=True)
class Execution:
    """Where the cells of a comparison run, which does not affect its results.

    Attributes:
        jobs: number of concurrent processes.
        cluster: address of a Ray cluster, or resources of Slurm jobs; None for this computer.
        cells_per_gpu: number of cells that share a GPU of a cluster.
    """

    jobs: int = 1
    cluster: "str | Slurm | None" = None
    cells_per_gpu: int = 1


def stored_comparison(folder: Path, execution: Execution = Execution()) -> "Comparison":
    """Build the comparison of a folder, to resume it."""
    from dal.config import settings_tree as tree

    settings = tree.read(stored_config(folder))
    strategies = settings.value.pop("strategies", None)
    if strategies is None or not isinstance(strategies.value, dict):
        raise ConfigError(f"{folder} holds no comparison; `dal run --resume {typed(folder)}` resumes a run")
    nodes = list(strategies.value.values())
    return assemble_comparison(settings, nodes, tree.Override(), folder, execution, stored=True)[0]


def assemble(
    settings: "Node", overrides: "Override", folder: Path, *, stored: bool = False
) -> "tuple[Experiment, tuple[str, ...]]":
    """Build an experiment from settings.

    Args:
        settings: the config.
        overrides: options of the command line.
        folder: the experiment's folder, unless the settings name one.
        stored: whether the settings come from a run folder.

    Returns:
        The experiment, and notes for the user, of which stored settings have none.
    """
    from dal.config import without_imports as static
    from dal.config.kinds import KIND, check_kind
    from dal.config.settings_tree import Node

    if KIND in settings.value:
        check_kind(settings.value[KIND])
        settings = Node({key: node for key, node in settings.value.items() if key != KIND}, None, settings.place)
    static.check(settings, overrides)
    settings = _with_folder(settings, overrides, folder)
    from dal.config.build import build
    from dal.experiments.experiment import Experiment
    from dal.session.checked_arguments import check_needs
    from dal.strategies.candidates import as_candidates, check_candidates

    experiment, notes = build(Experiment, settings, overrides, stored=stored)
    if experiment.folder is not None and not experiment.folder.strip():
        raise ConfigError(f"{settings.place}: folder is empty: name one, such as runs/first")
    if max(experiment.seeds) >= 1 << 63:
        largest = shortened(str(max(experiment.seeds)))
        raise ConfigError(f"{settings.place}: seeds must be smaller than 2^63, got {largest}")
    if "transformers" in sys.modules:  # its progress bars for saved files would break up the run's own display
        from transformers.utils.logging import disable_progress_bar

        disable_progress_bar()
    for strategy in (experiment.strategy, experiment.baseline):
        if strategy is not None:
            check_needs(strategy, experiment.learner, multilabel=experiment.data.multilabel)
    check_candidates(as_candidates(experiment.candidates), experiment.learner)
    return experiment, tuple(notes)


def assemble_comparison(
    settings: "Node",
    strategies: "Sequence[Node]",
    overrides: "Override",
    folder: Path,
    execution: Execution,
    *,
    stored: bool = False,
) -> "tuple[Comparison, tuple[str, ...]]":
    """Build a comparison. One experiment is built per strategy, so that errors are those of `dal run`.

    Returns:
        The comparison, and notes for the user, of which stored settings have none.
    """
    from dal.config.settings_tree import Node

    experiments, notes = [], list[str]()
    for node in strategies:
        one = Node({**settings.value, "strategy": node}, None, settings.place)
        experiment, found = assemble(one, overrides, folder, stored=stored)
        experiments.append(experiment)
        notes += found
    from dal.experiments.comparison import Comparison

    chosen = tuple(each.strategy for each in experiments)
    comparison = Comparison(experiments[0], chosen, execution.jobs, execution.cluster, execution.cells_per_gpu)
    return comparison, tuple(dict.fromkeys(notes))


def _with_folder(settings: "Node", overrides: "Override", folder: Path) -> "Node":
    """The settings, with `folder` as their folder unless they or the overrides name one."""
    from dal.config.settings_tree import Node

    given = overrides.inside.get("folder")
    if given is not None and given.node is not None and not (given.node.raw or "").strip():
        raise ConfigError("--folder is empty: name one, such as runs/first, or null to store nothing")
    if given is None and (settings.value.get("folder") is None or settings.value["folder"].value is None):
        return Node({**settings.value, "folder": Node(str(folder), str(folder), settings.place)}, None, settings.place)
    return settings
