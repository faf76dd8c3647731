"""Kinds of folders that commands create, as stored in `config.yaml`."""

from dal.config.settings_tree import Node
from dal.errors import ConfigError

#: Key of `config.yaml` with the kind of the folder.
KIND = "kind"

#: Folders of `dal run`, of `dal compare`, one strategy with one seed of these, and of `dal ask`.
RUN, COMPARISON, CELL, ASKED = KINDS = ("run", "compare", "cell", "ask")


def check_kind(node: Node) -> str:
    """Check and return the kind in a config.

    Raises:
        ConfigError: it is not one of `KINDS`.
    """
    if node.value not in KINDS:
        raise ConfigError(f"{node.at(KIND)} takes {', '.join(KINDS)}, not {node.shown}")
    return str(node.value)
