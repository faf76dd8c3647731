"""The config and the environment of an experiment, as written to its folder and compared when it is resumed."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from dal.config.stored import write_config
from dal.experiments.console import Quiet
from dal.experiments.environment import record_environment

#: Fields that do not affect what a run computes; they may change when it is resumed, and are not stored.
FREE = ("folder", "quiet", "report")

#: Fields that affect only the recorded measures; they are stored, and may change when a run is resumed.
MEASURED = ("pool_sample", "measure_distances", "price_per_label", "price_per_hour", "seconds_per_label")


def check_config(folder: Path, config: Mapping[str, Any], kind: str, reporter: Quiet) -> None:
    """Write the config and the environment to a folder, or check that they match those of the folder.

    A changed environment is only reported.

    Raises:
        ConfigError: the folder holds another experiment.
    """
    stored = {key: value for key, value in config.items() if key not in FREE}
    write_config(folder, stored, kind=kind, ignored=(*FREE, *MEASURED))
    changed = record_environment(folder)
    if changed:
        reporter.say(
            f"{folder} was begun with other {', '.join(changed)}: nothing is lost or asked twice, but choices may "
            "differ from an uninterrupted run's"
        )
