"""What is typed after `dal`, and what is said back."""

import argparse
import re
import sys
import textwrap
from typing import TYPE_CHECKING, Any, NoReturn

from dal.errors import ConfigError, shortened

if TYPE_CHECKING:
    from dal.config.settings_tree import Override


class Parser(argparse.ArgumentParser):
    """argparse whose errors are ours: one line, no usage."""

    def error(self, message: str) -> NoReturn:
        """Raise the error that `main` shows."""
        raise ConfigError(f"{shortened(message, 500)} (see {self.prog} --help)")


def split(parser: argparse.ArgumentParser, arguments: list[str]) -> tuple[argparse.Namespace, "Override"]:
    """The command's own options, and all other `--key value` pairs as overrides of the config."""
    from dal.config.settings_tree import options

    known = set(parser._option_string_actions)
    own: list[str] = []
    pairs: list[tuple[str, str]] = []
    left = iter(arguments)
    for argument in left:
        key, equals, value = argument.partition("=")
        if not argument.startswith("--") or key in known:
            own.append(argument)
            continue
        if not equals:
            value = next(left, "--")
            if value.startswith("--"):
                key = shortened(key)
                raise ConfigError(f"{key} needs a value, as in {key} VALUE or {key}=VALUE")
        pairs.append((key[2:], value))
    return parser.parse_args(own), options(pairs)


def wants_help(arguments: list[str]) -> bool:
    """Whether the arguments ask for help, wherever it stands among them."""
    return "--help" in arguments or "-h" in arguments


def about_keys() -> str:
    """What every key of a config means, for the help of commands that take them all."""
    from dal.config import without_imports as static

    lines = ["keys of a config:"]
    for field in static.experiment().values():
        lines += _key_help(field)
        if field.name == "data":
            for inner in static.data().values():
                lines += _key_help(inner, "data.")
    return "\n".join(lines) + "\n"


def printable(text: str) -> str:
    """A message in one line, or one for each item of its list; control characters become escapes."""
    items = [re.sub(r"\s*[\r\n]\s*", " ", item) for item in text.split("\n  ")]
    return "\n  ".join("".join(c if c.isprintable() else ascii(c)[1:-1] for c in item) for item in items)


def visible(text: str) -> str:
    """A text for the terminal: line breaks and tabs as they are, all else that does not print as an escape.

    What comes from data may hold sequences that clear the screen, set its title or hide what follows.

    Example:
        >>> print(visible("a \x1b[2J"))
        a \\x1b[2J
    """
    return "".join(char if char.isprintable() or char in "\n\t" else ascii(char)[1:-1] for char in text)


def say(text: str) -> None:
    """Tell the user something that is not the command's result: on stderr, after "dal:"."""
    print(f"dal: {visible(text)}", file=sys.stderr)


def _key_help(field: Any, prefix: str = "") -> list[str]:
    default = "" if field.default is None else f" [{field.default}]"
    return textwrap.wrap(
        f"{field.help}{default}",
        width=110,
        initial_indent=f"  --{prefix}{field.name}".ljust(26) + " ",
        subsequent_indent=" " * 27,
    ) or [f"  --{prefix}{field.name}"]
