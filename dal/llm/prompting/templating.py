"""Render prompt templates with Jinja, in a sandbox with limits on size and steps."""

from collections.abc import Mapping
from functools import lru_cache
from pathlib import Path
from typing import Any

from jinja2 import FileSystemLoader, StrictUndefined, TemplateError
from jinja2.exceptions import SecurityError
from jinja2.sandbox import SandboxedEnvironment

from dal.errors import ConfigError, one_line, shortened
from dal.llm.prompting.fence import fenced

#: Limits: bytes of a template file, characters of a prompt, and steps (calls and elements of ranges) of a rendering.
MAX_FILE, MAX_PROMPT, MAX_STEPS = 1 << 20, 4 << 20, 200_000


def rendered(path: Path, folder: Path, values: Mapping[str, Any]) -> str:
    """Render a template.

    Args:
        path: path of the template, which may include other templates in its folder.
        folder: second folder to search for included templates.
        values: variables of the template.

    Raises:
        ConfigError: the file does not exist, the template is invalid, or it exceeds a limit; names the line.
    """
    template = _template(path, folder)
    template.environment.steps = 0
    parts, size = [], 0
    try:
        for part in template.generate(values):
            size += len(part)
            if size > MAX_PROMPT:
                raise SecurityError(f"the prompt exceeds {MAX_PROMPT:,} characters")
            parts.append(part)
    except Exception as error:  # an expression in a template may raise any exception
        raise _unusable(path, error) from error
    return "".join(parts)


class _Environment(SandboxedEnvironment):
    """A sandbox that also limits time and memory, which a short template could otherwise exhaust."""

    intercepted_binops = frozenset({"*", "**"})
    steps = 0

    def call_binop(self, context: Any, operator: str, left: Any, right: Any) -> Any:
        """Multiply and exponentiate small numbers only."""
        if not all(isinstance(each, int | float) and abs(each) <= 1e9 for each in (left, right)):
            raise SecurityError(f"{operator} takes numbers up to 1,000,000,000")
        if operator == "**" and abs(right) > 16:
            raise SecurityError("** takes exponents up to 16")
        return super().call_binop(context, operator, left, right)

    def call(__self, __context: Any, __obj: Any, *args: Any, **kwargs: Any) -> Any:
        """Call a function if the sandbox allows it, and count the steps: 1, plus the length of a range."""
        result = super().call(__context, __obj, *args, **kwargs)
        __self.steps += 1 + (len(result) if isinstance(result, range) else 0)
        if __self.steps > MAX_STEPS:
            raise SecurityError(f"it takes more than {MAX_STEPS:,} steps")
        return result


def _unusable(path: Path, error: Exception) -> ConfigError:
    line = getattr(error, "lineno", None)
    where = f"{path}{'' if line is None else f' line {line}'}"
    if isinstance(error, RecursionError):
        return ConfigError(f"the template {where} cannot be used: it is nested too deep, or includes itself")
    plain = isinstance(error, TemplateError | TypeError | ValueError)
    reason = one_line(error) if plain else f"{type(error).__name__}: {one_line(error)}"
    return ConfigError(f"the template {where} cannot be used: {reason}")


@lru_cache(maxsize=16)
def _template(given: Path, folder: Path) -> Any:
    shown = shortened(str(given).replace("\0", "\\0"), 200)
    try:
        path = given.expanduser()
        if not path.is_file():
            raise ConfigError(f"there is no template {shown}")
        if path.stat().st_size > MAX_FILE:
            raise ConfigError(f"the template {shown} has more than {MAX_FILE:,} bytes")
    except (OSError, RuntimeError, ValueError) as error:  # a name that is too long, or ~ of an unknown user
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
    except Exception as error:  # syntax errors, in this template or an included one
        raise _unusable(path, error) from error
