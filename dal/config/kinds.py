"""Kinds of folders that commands create, as stored in `config.yaml` or recognised by their contents."""

import re
from pathlib import Path

from dal.config.settings_tree import Node, read
from dal.errors import ConfigError
from dal.store.run_folder import ENVIRONMENT, LABELS

#: Key of `config.yaml` with the kind of the folder.
KIND = "kind"

#: Folders of `dal run`, of `dal compare`, one strategy with one seed of these, of `dal ask`, and of `dal init`.
RUN, COMPARISON, CELL, ASKED, PROJECT = KINDS = ("run", "compare", "cell", "ask", "project")

#: Kind of a folder of version 0.1 that holds nothing but its config: it may belong to a run or to `dal ask`.
BEGUN = "begun"

_CONFIG = "config.yaml"
_CELL = re.compile(r".+-seed\d+")


def check_kind(node: Node) -> str:
    """Check and return the kind in a config.

    Raises:
        ConfigError: it is not one of `KINDS`.
    """
    if node.value not in KINDS:
        raise ConfigError(f"{node.at(KIND)} takes {', '.join(KINDS)}, not {node.shown}")
    return str(node.value)


def kind_of(folder: Path) -> str:
    """Kind of a folder that has a config.yaml: given by the config, or by the contents for folders of version 0.1.

    Raises:
        ConfigError: the config cannot be read.
    """
    config = read(folder / _CONFIG).value
    if KIND in config:
        return check_kind(config[KIND])
    if "strategies" in config:
        return COMPARISON
    if "seed" in config:
        return CELL
    if (folder / ENVIRONMENT).is_file() or any(
        _CELL.fullmatch(each.name) and (each / _CONFIG).is_file() for each in folder.iterdir()
    ):
        return RUN
    return ASKED if (folder / LABELS).is_file() else BEGUN
