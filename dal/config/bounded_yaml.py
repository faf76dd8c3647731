"""YAML from files and replies, parsed within limits of depth and size."""

from typing import Any

import yaml

from dal.store.bounded_json import MAX_DEPTH, BoundsError

#: Values that a YAML document may hold, each alias counted as a copy of what it stands for.
MAX_YAML_NODES = 200_000
#: Characters of a YAML document: the parser reads about 100,000 a second.
MAX_YAML_LENGTH = 1 << 20


class LimitError(yaml.composer.ComposerError):
    """A node of a YAML document beyond a limit."""


class BoundedComposer(yaml.parser.Parser, yaml.composer.Composer):
    """Refuses nodes that are nested too deep, too many, or inside themselves. A base to list before a loader.

    Aliases make a short text into a huge value when it is walked, so that what counts is the size after expansion.

    Raises:
        LimitError: at the first node beyond a limit.
    """

    _open = 0

    def compose_node(self, parent: Any, index: Any) -> Any:
        """Compose a node and measure what it holds."""
        extents: dict[int, tuple[int, int]] = self.__dict__.setdefault("_extents", {})  # node -> nodes, levels
        start = self.peek_event().start_mark
        if self.check_event(yaml.events.AliasEvent):
            node = super().compose_node(parent, index)
            if id(node) not in extents:
                raise LimitError(None, None, "a value that contains itself", start)
            return node
        if self._open > MAX_DEPTH:
            raise LimitError(None, None, f"nested deeper than {MAX_DEPTH} levels", start)
        self._open += 1
        node = super().compose_node(parent, index)
        self._open -= 1
        inside: list[Any] = node.value if isinstance(node, yaml.SequenceNode) else []
        if isinstance(node, yaml.MappingNode):
            inside = [part for pair in node.value for part in pair]
        measured = [extents[id(part)] for part in inside]
        extents[id(node)] = 1 + sum(n for n, _ in measured), 1 + max((levels for _, levels in measured), default=0)
        nodes, levels = extents[id(node)]
        if nodes > MAX_YAML_NODES:
            raise LimitError(None, None, f"more than {MAX_YAML_NODES:,} values", start)
        if levels > MAX_DEPTH + 1:
            raise LimitError(None, None, f"nested deeper than {MAX_DEPTH} levels", start)
        return node

    def flatten_mapping(self, node: Any) -> None:
        """Put what merge keys (`<<`) bring into the mapping, each key once: repeated merges would double them."""
        super().flatten_mapping(node)  # type: ignore[misc]
        kept = {(key.value if isinstance(key, yaml.ScalarNode) else id(key)): (key, value) for key, value in node.value}
        node.value = list(kept.values())


class BoundedLoader(BoundedComposer, yaml.SafeLoader):
    """`yaml.SafeLoader` within limits."""


class BoundedTextLoader(BoundedComposer, yaml.BaseLoader):
    """`yaml.BaseLoader` (every scalar is text) within limits."""


def parse_yaml(text: str, *, loader: type = BoundedLoader, max_length: int = MAX_YAML_LENGTH) -> Any:
    """Parse YAML into lists, dicts and scalars.

    Args:
        text: one document.
        loader: a loader class that begins with `BoundedComposer`.
        max_length: characters.

    Raises:
        ValueError: not YAML, or beyond a limit; the message has the line where it is known.

    Example:
        >>> parse_yaml("a: [1, 2]")
        {'a': [1, 2]}
    """
    if len(text) > max_length:
        raise BoundsError(f"{len(text):,} characters of YAML are more than the {max_length:,} that are read")
    try:
        return yaml.load(text, loader)  # type: ignore[arg-type]
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        reason = " ".join(part for part in (error.context, error.problem) if part)
        raise ValueError(f"line {mark.line + 1}: {reason}" if mark else reason) from error
    except yaml.YAMLError as error:
        raise ValueError(str(error).splitlines()[0]) from error
    except (ValueError, OverflowError, TypeError, AttributeError, KeyError, IndexError, RecursionError) as error:
        # Constructors of numbers and dates let these out: "2001-99-99", 5,000 digits, "!!int x".
        raise ValueError(f"a value cannot be read ({type(error).__name__})") from error
