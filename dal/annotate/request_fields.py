"""Fields of the requests of the annotation page: what each may be, and how an error names it."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from dal.annotate.request_guard import Refusal
from dal.store.visible_names import is_visible

#: Letters of the page's commands, which no class can be bound to.
COMMAND_LETTERS = "sdfh"

MAX_NOTE = 4_000  # characters of a note, a description or a guideline
MAX_NAME = 200  # characters of a class name
MAX_SELECTED = 1_000  # classes of an answer


@dataclass(frozen=True)
class Field:
    """A field of a request: what is accepted, and how an error names it."""

    accepts: Callable[[Any], bool]
    expected: str
    required: bool = True


def _is_int(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and 0 <= value < 2**63


def text_field(most: int, least: int = 1) -> Field:
    """A field for a text of `least` to `most` characters."""
    expected = f"text of {least} to {most:,} characters"
    return Field(lambda value: isinstance(value, str) and least <= len(value) <= most, expected)


def _is_letter(value: Any) -> bool:
    return value is None or (
        isinstance(value, str)
        and len(value) == 1
        and value.isalpha()
        and value == value.lower()
        and value not in COMMAND_LETTERS
        and is_visible(value)
    )


ROW = text_field(10_000)
NUMBER = Field(_is_int, "a whole number")
OPTIONAL_NUMBER = Field(lambda value: value is None or _is_int(value), "a whole number or null")
KEY = Field(
    lambda value: isinstance(value, str) and 8 <= len(value) <= 64 and value.isascii() and value.isalnum(),
    "8 to 64 letters and digits",
)
SELECTED = Field(
    lambda value: isinstance(value, list) and len(value) <= MAX_SELECTED and all(map(_is_int, value)),
    "a list of class ids",
)
SECONDS = Field(
    lambda value: (
        value is None
        or (isinstance(value, int | float) and not isinstance(value, bool) and 0 <= value <= 86_400)  # NaN is not
    ),
    "seconds between 0 and 86,400, or null",
)
SEEN = Field(
    lambda value: (
        isinstance(value, dict)
        and value.keys() <= {"model", "near", "why"}
        and all(isinstance(shown, bool) for shown in value.values())
    ),
    "model, near and why, each true or false",
)
EXAMPLES = Field(
    lambda value: (
        isinstance(value, list)
        and len(value) <= 100
        and all(isinstance(each, str) and len(each) <= MAX_NOTE for each in value)
    ),
    "a list of texts",
    required=False,
)
OPTIONAL_TEXT = Field(lambda value: isinstance(value, str) and len(value) <= MAX_NOTE, "text", required=False)
LETTER = Field(_is_letter, f"a lower-case letter other than {', '.join(COMMAND_LETTERS)}, or null")

BODIES: dict[str, dict[str, Field]] = {
    "answer": {
        "row": ROW,
        "classes": SELECTED,
        "key": KEY,
        "replaces": OPTIONAL_NUMBER,
        "seconds": SECONDS,
        "seen": SEEN,
    },
    "skip": {
        "row": ROW,
        "key": KEY,
        "replaces": OPTIONAL_NUMBER,
        "how": Field(lambda value: value in ("later", "decline"), "later or decline"),
    },
    "flag": {"row": ROW, "key": KEY, "text": text_field(MAX_NOTE)},
    "undo": {"key": KEY},
    "take": {"row": ROW},
    "adjudicate": {"row": ROW, "classes": SELECTED, "key": KEY, "replaces": OPTIONAL_NUMBER},
}

#: Fields of a change of classes, by what it does.
CHANGES: dict[str, dict[str, Field]] = {
    "add": {"name": text_field(MAX_NAME), "description": OPTIONAL_TEXT},
    "rename": {"id": NUMBER, "name": text_field(MAX_NAME)},
    "describe": {"id": NUMBER, "text": OPTIONAL_TEXT, "examples": EXAMPLES},
    "merge": {"id": NUMBER, "into": NUMBER},
    "retire": {"id": NUMBER},
    "restore": {"id": NUMBER},
    "bind": {"id": NUMBER, "letter": LETTER},
    "guide": {"text": text_field(10 * MAX_NOTE, 0)},
}


def checked(body: Any, fields: Mapping[str, Field]) -> dict[str, Any]:
    """The body of a request, whose fields are all known and valid; raises `Refusal`."""
    if not isinstance(body, dict):
        raise Refusal(400, "a body must be a JSON object")
    unknown = sorted(body.keys() - fields.keys())
    if unknown:
        raise Refusal(400, f"unknown field {unknown[0][:50]!r}; known are {', '.join(fields)}")
    for name, field in fields.items():
        if name in body or field.required:
            if name not in body:
                raise Refusal(400, f"the field {name} is missing")
            if not field.accepts(body[name]):
                raise Refusal(400, f"the field {name} must be {field.expected}")
    return body
