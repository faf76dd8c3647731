"""A recipe for an object, such as a Trainer, that is made afresh at every call."""

import copy
import inspect
from dataclasses import dataclass, field
from typing import Any

from dal.config.class_names import import_path
from dal.config.settings_tree import read_value
from dal.errors import ConfigError

_MODE = "dal"


def new_parser() -> Any:
    """A parser of jsonargparse that reads text within limits where a value is no text."""
    from jsonargparse import ArgumentParser, set_loader

    set_loader(_MODE, read_value, exceptions=(ConfigError,))
    return ArgumentParser(exit_on_error=False, default_env=False, parser_mode=_MODE)


@dataclass(frozen=True)
class Factory:
    """Makes a new object at every call, with new objects inside it (callbacks, loggers).

    jsonargparse's own factories share the objects inside between calls, so that early stopping would remember the last
    round. The fields are the form in which `config.yaml` keeps it.

    Args:
        class_path: import path of the class or function.
        init_args: its keyword arguments, as a config gives them.
    """

    class_path: str
    init_args: dict[str, Any] = field(default_factory=dict)

    def __hash__(self) -> int:
        # The values of the arguments may be lists and dicts; equal factories have equal names of them all the same.
        return hash((self.class_path, frozenset(self.init_args)))

    def __call__(self, *arguments: Any) -> Any:
        """A new object; `arguments` are what the caller of the factory hands over."""
        parser = new_parser()
        made = import_path(self.class_path)
        skip: set[str | int] = set(list(inspect.signature(made).parameters)[: len(arguments)])
        add = parser.add_class_arguments if inspect.isclass(made) else parser.add_function_arguments
        add(made, as_group=False, skip=skip)
        given = copy.deepcopy(self.init_args)  # jsonargparse changes the lists that it is given
        return made(*arguments, **parser.instantiate(parser.parse_object(given)).as_dict())
