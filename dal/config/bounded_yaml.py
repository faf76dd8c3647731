"""YAML parsing with limits on depth and size."""

from typing import Any

import yaml

from dal.store.bounded_json import MAX_DEPTH, BoundsError

#: Largest number of values in a YAML document, with every alias counted as a copy.
MAX_YAML_NODES = 200_000
#: Largest number of characters of a YAML document: the parser reads about 100,000 per second.
MAX_YAML_LENGTH = 1 << 20


class LimitError(yaml.composer.ComposerError):
    """A YAML document exceeds a limit."""


class BoundedComposer(yaml.parser.Parser, yaml.composer.Composer):
    """Mixin for YAML loaders that rejects documents that are too deep, too large, or contain themselves.

    Aliases can expand a short text into a huge value, so the size after expansion is limited. List it before the
    loader among the bases.

    Raises:
        LimitError: at the first node beyond a limit.
    """

    _open = 0

    def compose_node(self, parent: Any, index: Any) -> Any:
        """Compose a node and measure its expanded size and depth."""
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
        """Resolve merge keys (`<<`) with each key once: repeated merges would double the size each time."""
        super().flatten_mapping(node)  # type: ignore[misc]
        kept = {(key.value if isinstance(key, yaml.ScalarNode) else id(key)): (key, value) for key, value in node.value}
        node.value = list(kept.values())


class BoundedLoader(BoundedComposer, yaml.SafeLoader):
    """`yaml.SafeLoader` with limits."""


class BoundedTextLoader(BoundedComposer, yaml.BaseLoader):
    """`yaml.BaseLoader` (every scalar is text) with limits."""


def parse_yaml(text: str, *, loader: type = BoundedLoader, max_length: int = MAX_YAML_LENGTH) -> Any:
    """Parse YAML into lists, dicts and scalars.

    Args:
        text: one YAML document.
        loader: loader class whose first base is `BoundedComposer`.
        max_length: largest number of characters.

    Raises:
        ValueError: the text is not YAML or exceeds a limit; the message has the line if it is known.

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
        # Constructors of numbers and dates raise these: "2001-99-99", 5,000 digits, "!!int x".
        raise ValueError(f"a value cannot be read ({type(error).__name__})") from error
