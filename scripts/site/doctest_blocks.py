"""Griffe extension: doctests in docstrings become code blocks of the API pages."""

import re
from typing import Any

from griffe import Docstring, Extension, Object

#: A prompt and the lines up to the next empty one, at any indentation.
_EXAMPLE = re.compile(r"^(?P<indent>[ ]*)>>> .*(?:\n(?!\s*$).*)*", re.MULTILINE)


def fenced(text: str) -> str:
    """Put every doctest of a docstring into a fence of the language `pycon`, and write its heading as a paragraph.

    >>> print(fenced("Sum.\\n\\n>>> 1 + 1\\n2"))
    Sum.
    <BLANKLINE>
    ```pycon
    >>> 1 + 1
    2
    ```
    """
    text = re.sub(r"^Examples?:\n((?:[ ]+.*\n?|\n)+)", _unindented, text, flags=re.MULTILINE)
    return _EXAMPLE.sub(lambda found: _fence(found["indent"], found[0]), text)


def _unindented(found: re.Match[str]) -> str:
    """The body of an example section without its indentation: griffe would read the section as an admonition."""
    lines = found[1].split("\n")
    depth = min((len(line) - len(line.lstrip()) for line in lines if line.strip()), default=0)
    return "**Example**\n\n" + "\n".join(line[depth:] for line in lines)


def _fence(indent: str, block: str) -> str:
    return f"{indent}```pycon\n{block}\n{indent}```"


class DoctestBlocks(Extension):
    """Rewrites the docstrings of all objects after they were loaded."""

    def on_instance(self, *, obj: Object, **kwargs: Any) -> None:
        """Called by griffe for every module, class, function and attribute."""
        if isinstance(obj.docstring, Docstring):
            obj.docstring.value = fenced(obj.docstring.value)
