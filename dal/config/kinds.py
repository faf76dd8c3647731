"""The kinds of folders that commands make, as `config.yaml` names them."""

from dal.config.settings_tree import Node
from dal.errors import ConfigError

#: The key of `config.yaml` that says which command made the folder.
KIND = "kind"

#: Folders of `dal run`, of `dal compare`, one strategy with one seed of these, and of `dal ask`.
RUN, COMPARISON, CELL, ASKED = KINDS = ("run", "compare", "cell", "ask")


def check_kind(node: Node) -> str:
    """The kind that a config names.

    Raises:
        ConfigError: it is none of `KINDS`.
    """
    if node.value not in KINDS:
        raise ConfigError(f"{node.at(KIND)} takes {', '.join(KINDS)}, not {node.shown}")
    return str(node.value)
