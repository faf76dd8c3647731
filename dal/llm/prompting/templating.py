"""Jinja templates of prompts, rendered in a sandbox and within limits of size and steps."""

from collections.abc import Mapping
from functools import lru_cache
from pathlib import Path
from typing import Any

from jinja2 import FileSystemLoader, StrictUndefined, TemplateError
from jinja2.exceptions import SecurityError
from jinja2.sandbox import SandboxedEnvironment

from dal.errors import ConfigError, one_line, shortened
from dal.llm.prompting.fence import fenced

#: Bytes of a template file, characters of a prompt, and calls and numbers of ranges in one rendering.
MAX_FILE, MAX_PROMPT, MAX_STEPS = 1 << 20, 4 << 20, 200_000


def rendered(path: Path, folder: Path, values: Mapping[str, Any]) -> str:
    """The text that a template makes of the values.

    Args:
        path: the template, which may include others of its folder.
        folder: where further templates are looked for.
        values: what it may read.

    Raises:
        ConfigError: there is no such file, it cannot be used, or it goes beyond a limit; the line is named.
    """
    template = _template(path, folder)
    template.environment.steps = 0
    parts, size = [], 0
    try:
        for part in template.generate(values):
            size += len(part)
            if size > MAX_PROMPT:
                raise SecurityError(f"it makes a prompt of more than {MAX_PROMPT:,} characters")
            parts.append(part)
    except Exception as error:  # an expression of a template may raise anything
        raise _unusable(path, error) from error
    return "".join(parts)


class _Environment(SandboxedEnvironment):
    """A sandbox that also refuses what makes a short template run for hours or fill the memory."""

    intercepted_binops = frozenset({"*", "**"})
    steps = 0

    def call_binop(self, context: Any, operator: str, left: Any, right: Any) -> Any:
        """Multiply small numbers."""
        if not all(isinstance(each, int | float) and abs(each) <= 1e9 for each in (left, right)):
            raise SecurityError(f"{operator} takes numbers up to 1,000,000,000")
        if operator == "**" and abs(right) > 16:
            raise SecurityError("** takes exponents up to 16")
        return super().call_binop(context, operator, left, right)

    def call(__self, __context: Any, __obj: Any, *args: Any, **kwargs: Any) -> Any:
        """Call what may be called, and count it: a range by its length."""
        found = super().call(__context, __obj, *args, **kwargs)
        __self.steps += 1 + (len(found) if isinstance(found, range) else 0)
        if __self.steps > MAX_STEPS:
            raise SecurityError(f"it takes more than {MAX_STEPS:,} steps")
        return found


def _unusable(path: Path, error: Exception) -> ConfigError:
    line = getattr(error, "lineno", None)
    where = f"{path}{'' if line is None else f' line {line}'}"
    if isinstance(error, RecursionError):
        return ConfigError(f"the template {where} cannot be used: it is nested too deep, or includes itself")
    plain = isinstance(error, TemplateError | TypeError | ValueError)
    said = one_line(error) if plain else f"{type(error).__name__}: {one_line(error)}"
    return ConfigError(f"the template {where} cannot be used: {said}")


@lru_cache(maxsize=16)
def _template(given: Path, folder: Path) -> Any:
    shown = shortened(str(given).replace("\0", "\\0"), 200)
    try:
        path = given.expanduser()
        if not path.is_file():
            raise ConfigError(f"there is no template {shown}")
        if path.stat().st_size > MAX_FILE:
            raise ConfigError(f"the template {shown} has more than {MAX_FILE:,} bytes")
    except (OSError, RuntimeError, ValueError) as error:  # a name that is too long, the home of nobody
        reason = error.strerror if isinstance(error, OSError) else one_line(error)
        raise ConfigError(f"the template {shown} cannot be read: {reason}") from error
    environment = _Environment(
        loader=FileSystemLoader([path.parent, folder]),
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        autoescape=False,
    )
    environment.filters["fenced"] = fenced
    try:
        return environment.get_template(path.name)
    except Exception as error:  # what is read before it can be rendered
        raise _unusable(path, error) from error
