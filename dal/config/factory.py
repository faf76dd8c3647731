"""Factories of objects, such as a Trainer, that are constructed again at every call."""

import copy
import inspect
from dataclasses import dataclass, field
from typing import Any

from dal.config.class_names import import_path
from dal.config.settings_tree import read_value
from dal.errors import ConfigError

_MODE = "dal"


def new_parser() -> Any:
    """A jsonargparse parser that parses texts as YAML with limits where another type is expected."""
    from jsonargparse import ArgumentParser, set_loader

    set_loader(_MODE, read_value, exceptions=(ConfigError,))
    return ArgumentParser(exit_on_error=False, default_env=False, parser_mode=_MODE)


@dataclass(frozen=True)
class Factory:
    """Factory that constructs a new object at every call, with new nested objects (callbacks, loggers).

    jsonargparse's own factories share nested objects between calls, so that early stopping would keep its state from
    the last round. `config.yaml` stores the fields.

    Args:
        class_path: import path of the class or function.
        init_args: its keyword arguments, as written in a config.
    """

    class_path: str
    init_args: dict[str, Any] = field(default_factory=dict)

    def __hash__(self) -> int:
        # The values may be unhashable; equal factories have equal argument names.
        return hash((self.class_path, frozenset(self.init_args)))

    def __call__(self, *arguments: Any) -> Any:
        """Construct a new object; `arguments` are its first positional arguments."""
        parser = new_parser()
        made = import_path(self.class_path)
        skip: set[str | int] = set(list(inspect.signature(made).parameters)[: len(arguments)])
        add = parser.add_class_arguments if inspect.isclass(made) else parser.add_function_arguments
        add(made, as_group=False, skip=skip)
        given = copy.deepcopy(self.init_args)  # jsonargparse modifies the lists it is given
        return made(*arguments, **parser.instantiate(parser.parse_object(given)).as_dict())
