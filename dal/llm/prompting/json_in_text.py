"""Find JSON in the replies of language models, also truncated or malformed JSON."""

import json
import re
from collections.abc import Iterator
from typing import Any

import yaml

from dal.config.bounded_yaml import BoundedTextLoader, parse_yaml
from dal.store.bounded_json import parse_json

#: Number of characters parsed per reply.
LONGEST = 20_000

_TRIED, _DEEPEST = 8, 40  # JSON values tried per reply; nesting depth
_MENDED = 2 * LONGEST  # characters parsed as YAML per reply, at 10 microseconds each
_FENCED = re.compile(r"```[\w-]*\s*\n?(.*?)(?:```|\Z)", re.DOTALL)


def json_values(reply: str) -> Iterator[Any]:
    """Yield the JSON objects and lists in a reply: those in code fences first, then those anywhere."""
    text = reply[:LONGEST]
    fences = [match[1] for match in _FENCED.finditer(text)] if "```" in text else []
    mendable = _MENDED
    for part in [*fences, text]:
        at, tried = _next_bracket(part, 0), 0
        while at >= 0 and tried < _TRIED:
            value, length, mended = _read(part[at:], mendable)
            mendable -= mended
            if isinstance(value, dict | list):
                yield value
            elif part[at] == "{":  # values nested in an unreadable object may not be the answer
                break
            at, tried = _next_bracket(part, at + length), tried + 1


def _next_bracket(text: str, start: int) -> int:
    return min((at for at in (text.find("{", start), text.find("[", start)) if at >= 0), default=-1)


def _read(text: str, mendable: int) -> tuple[Any, int, int]:
    """Parse the first value of a text that begins with a bracket, as JSON or else as YAML.

    Returns:
        The value, None if it cannot be parsed; its length; and the number of characters parsed as YAML, which is at
        most `mendable`.
    """
    try:
        value, length = json.JSONDecoder().raw_decode(text)
        if text.count("[", 0, length) + text.count("{", 0, length) <= _DEEPEST:
            return value, length, 0
        return parse_json(text[:length], max_depth=_DEEPEST), length, 0
    except (ValueError, RecursionError):
        pass
    whole, length = _balanced(text)
    if whole is None or len(whole) > mendable:
        return None, 1, 0
    try:  # YAML's flow style accepts single quotes, bare words and trailing commas; all scalars stay text
        return parse_yaml(whole, loader=_FlowLoader), length, len(whole)
    except ValueError:
        return None, 1, len(whole)


class _FlowLoader(BoundedTextLoader):
    """Loads text, lists and dicts only. Refuses aliases, with which a short text could expand to a huge value."""

    def compose_node(self, parent: Any, index: Any) -> Any:
        """Compose a node, unless it is an alias."""
        if self.check_event(yaml.events.AliasEvent):
            raise yaml.composer.ComposerError(None, None, "an alias", self.peek_event().start_mark)
        return super().compose_node(parent, index)


def _balanced(text: str) -> tuple[str | None, int]:
    """The first value of the text up to its closing bracket, and its length.

    A truncated value ends after its last complete part, and its open brackets are closed.
    """
    closers: list[str] = []
    quote, complete, at = "", 0, 0  # text[:complete] holds complete parts only
    while at < len(text):
        character = text[at]
        if quote:
            if character == "\\" and quote == '"':
                at += 1
            elif character == quote and not (quote == "'" and _inside_word(text, at)):
                quote, complete = "", at + 1
        elif character in "\"'" and not _inside_word(text, at):
            quote, complete = character, at
        elif character in "{[":
            closers.append("}" if character == "{" else "]")
            complete = at + 1
        elif character in "}]":
            if not closers or closers.pop() != character:
                return None, 1
            complete = at + 1
            if not closers:
                return text[: at + 1], at + 1
        elif character in ",:":
            complete = at + 1
        at += 1
        if len(closers) > _DEEPEST:
            return None, 1
    missing_value = ' ""' if text[:complete].rstrip().endswith(":") else ""
    return text[:complete] + missing_value + "".join(reversed(closers)), len(text)


def _inside_word(text: str, at: int) -> bool:
    return 0 < at < len(text) - 1 and text[at - 1].isalnum() and text[at + 1].isalnum()
