"""Argument parsing and messages shared by the commands."""

import argparse
import io
import re
import sys
import textwrap
from collections.abc import Collection, Iterable, Sequence
from typing import TYPE_CHECKING, Any, NoReturn, TextIO

from dal.errors import ConfigError, did_you_mean, shortened

if TYPE_CHECKING:
    from dal.config.settings_tree import Override


class Parser(argparse.ArgumentParser):
    """Argument parser whose errors are a `ConfigError` of one line, without the usage, with similar names."""

    def error(self, message: str) -> NoReturn:
        """Raise the error that `main` prints."""
        raise ConfigError(f"{shortened(message, 500)}{self._suggestion(message)} (see {self.prog} --help)")

    def _suggestion(self, message: str) -> str:
        """`; did you mean X?` for an unknown option or choice, which the message of argparse names; or ""."""
        unknown = re.match(r"unrecognized arguments: --([^\s=]+)", message)
        if unknown is not None:
            return _similar_option(unknown[1], self._option_string_actions)
        wrong = re.match(r"argument (\S+): invalid choice: '(.*?)' \(", message)
        if wrong is None:
            return ""
        known = (action.choices for action in self._actions if wrong[1] in (action.dest, *action.option_strings))
        return did_you_mean(wrong[2], next((map(str, choices) for choices in known if choices), ()))


def split(
    parser: argparse.ArgumentParser, arguments: list[str], *, keys: Collection[str] | None = None
) -> tuple[argparse.Namespace, "Override"]:
    """Split arguments into the command's own options and `--key value` overrides of the config.

    Args:
        parser: parser of the command's own options.
        arguments: the arguments.
        keys: outermost keys that the config can have; None where they are not known.

    Raises:
        ConfigError: an option is given twice or lacks its value, or it is no key and similar to an option.
    """
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
        outer = key.partition(".")[0]
        if keys is not None and outer[2:].replace("-", "_") not in keys and outer not in known:
            _refuse_similar(key, known, keys)
        if not equals:
            value = next(left, "--")
            if value.startswith("--"):
                key = shortened(key)
                raise ConfigError(f"{key} needs a value, as in {key} VALUE or {key}=VALUE")
        pairs.append((key[2:], value))
    return parser.parse_args(own), options(pairs)


def _refuse_similar(key: str, known: Collection[str], keys: Collection[str]) -> None:
    """Raise ConfigError for an unknown option if one of the command's own is the most similar one.

    Where it is a key of the config, the check of the config says so.
    """
    hint = _similar_option(key[2:], [*known, *(f"--{each}" for each in keys)])
    if any(f" {name}?" in hint for name in known):
        raise ConfigError(f"unknown option {shortened(key)}{hint}")


def _similar_option(name: str, known: Iterable[str]) -> str:
    """`; did you mean --x?` for the most similar option to a name without its dashes, or an empty string."""
    hint = did_you_mean(name, [each[2:] for each in known if each.startswith("--")])
    return hint.replace("'", "--", 1).replace("'", "")


def config_keys() -> list[str]:
    """Outermost keys of a config, also by their names of earlier versions."""
    from dal.config import without_imports as static

    return static.known_keys()


def wants_help(arguments: list[str]) -> bool:
    """Whether the arguments contain --help or -h, at any position."""
    return "--help" in arguments or "-h" in arguments


def about_keys() -> str:
    """Help text of all config keys, for commands that accept them as options."""
    from dal.config import without_imports as static

    lines = ["keys of a config:"]
    for field in static.experiment().values():
        lines += _key_help(field)
        if field.name == "data":
            for inner in static.data().values():
                lines += _key_help(inner, "data.")
    return "\n".join(lines) + "\n"


def escape_message(text: str) -> str:
    """A message on one line, or one line per item of its list, with control characters escaped."""
    items = [re.sub(r"\s*[\r\n]\s*", " ", item) for item in text.split("\n  ")]
    return "\n  ".join("".join(c if c.isprintable() else ascii(c)[1:-1] for c in item) for item in items)


def escape_controls(text: str) -> str:
    """Escape non-printable characters except line breaks and tabs.

    Texts from data may contain sequences that clear the screen, set its title or hide later output.

    Example:
        >>> print(escape_controls("a \x1b[2J"))
        a \\x1b[2J
    """
    return "".join(char if char.isprintable() or char in "\n\t" else ascii(char)[1:-1] for char in text)


def say(text: str) -> None:
    """Print a message that is not the command's result to stderr, with the prefix "dal:"."""
    print(f"dal: {escape_controls(text)}", file=sys.stderr)


def line_input() -> TextIO:
    """Stdin, to be read line by line: bytes that its encoding lacks become lone surrogates.

    Otherwise one such byte would lose all lines that were read ahead with it, also those before its own.
    """
    if isinstance(sys.stdin, io.TextIOWrapper):
        sys.stdin.reconfigure(errors="surrogateescape")
    return sys.stdin


def asks() -> bool:
    """Whether a person is at the terminal who can answer a question."""
    return sys.stdin is not None and sys.stdin.isatty()


def confirmed(question: str) -> bool:
    """Put a question to the person at the terminal; True without one, since the command line said what to do."""
    if not asks():
        return True
    print(f"{question} [Y/n] ", end="", file=sys.stderr, flush=True)
    return line_input().readline().strip().lower() in ("", "y", "yes")


def chosen(question: str, choices: Sequence[str]) -> str:
    """Let the person at the terminal choose one of several words; "" for none of them."""
    print(f"{question} [{'/'.join(choices)}] ", end="", file=sys.stderr, flush=True)
    word = line_input().readline().strip().lower()
    return next((choice for choice in choices if word and choice.startswith(word)), "")


def _key_help(field: Any, prefix: str = "") -> list[str]:
    default = "" if field.default is None else f" [{field.default}]"
    return textwrap.wrap(
        f"{field.help}{default}",
        width=110,
        initial_indent=f"  --{prefix}{field.name}".ljust(26) + " ",
        subsequent_indent=" " * 27,
    ) or [f"  --{prefix}{field.name}"]
