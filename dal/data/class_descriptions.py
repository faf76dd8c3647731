"""Descriptions of classes: given texts, or by default class names made readable."""

import re
import unicodedata
from collections.abc import Mapping, Sequence
from os import PathLike, fspath
from typing import Any

from dal.data.data_paths import missing, path_of
from dal.data.file_source import ColumnRequest
from dal.data.label_names import normalize
from dal.data.label_values import NOT_ENCODABLE, encodable, listing, shown, text_of
from dal.data.load_table import read
from dal.errors import DataError, did_you_mean, printable
from dal.store.visible_names import is_visible

#: Descriptions as users give them: class -> text or texts, or the path of a file with a line for each text.
Descriptions = Mapping[Any, str | Sequence[str]] | str | PathLike[str]

#: What the texts of the classes are, for display: given by the user, or readable names, which stand for missing ones.
DESCRIPTIONS, NAMES, BOTH = "class descriptions", "readable class names", "class descriptions and readable names"

#: Template of the default texts: the readable name alone.
NAME_ALONE = "{}"

#: Columns of a file that may hold the class; the first one that exists is read.
CLASS_COLUMNS = ("class", "label", "name")
TEXT_COLUMN = "description"

_SEPARATORS = re.compile(r"_+|(?<!\d)[-.:/|\\]+|[-.:/|\\]+(?!\d)")
# In the shape of a name, in which "U" stands for upper-case and "l" for lower-case letters: cardArrival, HTMLParser.
_WORD_STARTS = re.compile("(?<=ll)(?=U)|(?<=U)(?=Ull)")
_LETTERS = re.compile(r"[^\W\d_]+")
_PLACEHOLDERS = frozenset({"category", "class", "cluster", "code", "group", "id", "label", "tag", "topic", "type"})
# Words that name what is left when all other classes are taken away, in English, German, French and Spanish.
_REMAINDER = frozenset(
    {
        *("other", "others", "misc", "miscellaneous", "none", "neither", "remainder"),
        *("unknown", "undefined", "unspecified", "unclassified", "uncategorized", "uncategorised", "unlabeled"),
        *("sonstige", "sonstiges", "andere", "anderes", "keine", "unbekannt"),
        *("autre", "autres", "aucun", "aucune", "inconnu", "otro", "otra", "otros", "otras", "ninguno", "desconocido"),
    }
)
_REMAINDER_PHRASES = frozenset(
    f"{which} {what}" for which in ("something", "anything", "everything") for what in ("else", "other")
) | {"none of the above", "none of these", "none of them", "not applicable", "n a", "no label", "no class"}


def readable(name: str) -> str:
    """Class name as words: separators become spaces, and the words of camelCase are separated.

    Separators are `_`, and `-`, `.`, `:`, `/`, `|` and the backslash unless they are between digits. Capitals are kept,
    because those of abbreviations (AIDS) and names (Berlin) have a meaning, with two exceptions that have none: the
    capital that starts a later word of camelCase, and a name entirely in capitals with a word of more than four
    letters, the length up to which it is likely to be an abbreviation.

    Example:
        >>> [readable(name) for name in ("card_arrival", "cardArrival", "REFUND-REQ", "Business", "HUM:ind", "AIDS")]
        ['card arrival', 'card arrival', 'refund req', 'Business', 'HUM ind', 'AIDS']
    """
    name = normalize(name)
    shape = "".join("U" if char.isupper() else "l" if char.islower() else "-" for char in name)
    starts = {match.start() for match in _WORD_STARTS.finditer(shape)}
    spaced = "".join(
        char if at not in starts else f" {char.lower() if shape[at + 1 : at + 2] == 'l' else char}"
        for at, char in enumerate(name)
    )
    words = " ".join(_SEPARATORS.sub(" ", spaced).split())
    if "l" not in shape and any(len(run) > 4 for run in _LETTERS.findall(words)):
        words = words.lower()
    return words or name.strip()


def is_code(name: str) -> bool:
    """Whether a class name is a code, which says nothing about the class.

    A name is a code if it has no word. A word is a run of two or more letters, or a single letter of a script without
    capitals, such as Chinese. Two kinds of runs do not count next to a number or a single letter: placeholders
    (LABEL_7, class A), and up to three capitals (CS101), unless there is another word. Not codes are single letters
    with a symbol (C++, R&D), and symbols with a meaning of their own, such as emoji.

    Example:
        >>> [name for name in ("3", "B2", "C_01", "LABEL_7", "x", "hum", "AIDS", "C++", "non-spam") if is_code(name)]
        ['3', 'B2', 'C_01', 'LABEL_7', 'x']
    """
    name = normalize(name).strip()
    runs = _LETTERS.findall(name)
    if not runs:
        return not any(unicodedata.category(char) == "So" for char in name)
    if any(char.lower() == char.upper() for run in runs for char in run):
        return False
    numbered = any(char.isnumeric() for char in name)
    words = [run for run in runs if len(run) > 1]
    if words:
        if all(run.lower() in _PLACEHOLDERS for run in words):
            return numbered or len(words) < len(runs)
        return numbered and all(run.isupper() and len(run) <= 3 for run in words)
    return numbered or not any(unicodedata.category(char) in ("Sm", "Po") and char not in ".:" for char in name)


def is_remainder(name: str) -> bool:
    """Whether a class name stands for what belongs to no other class, such as "other", "misc." or "none of the above".

    Its embedding is the direction of the word, in which the texts of such a class are no more likely than any other.

    Example:
        >>> [name for name in ("Other", "other_topics", "misc.", "N/A", "other_income", "no") if is_remainder(name)]
        ['Other', 'other_topics', 'misc.', 'N/A']
    """
    words = [word.lower() for word in _LETTERS.findall(readable(name))]
    telling = [word for word in words if word not in _PLACEHOLDERS and word.removesuffix("s") not in _PLACEHOLDERS]
    if " ".join(words) in _REMAINDER_PHRASES:
        return True
    return bool(telling) and all(word in _REMAINDER for word in telling)


def class_descriptions(
    classes: Sequence[str], given: Mapping[Any, str | Sequence[str]] | None = None, template: str = NAME_ALONE
) -> tuple[tuple[str, ...], ...]:
    """Texts that describe each class: the given ones, else its readable name; none for a code without a given text.

    Where any text is given, a name that stands for a remainder (`is_remainder`) describes nothing either: next to
    descriptions of the other classes the word misleads. Where all classes have bare names, it does neither good nor
    harm on average.

    Args:
        classes: C class names.
        given: class -> text or texts; classes may be omitted.
        template: text with one `{}` for a readable name, such as "This text is about {}.". Given texts are not put
            into it: their author has chosen their wording, which may be a whole sentence.

    Returns:
        C tuples of texts.

    Raises:
        DataError: a class is unknown or given twice, a text is empty, or the template has not exactly one `{}`.

    Example:
        >>> class_descriptions(["card_arrival", "lost", "7"], {"lost": ["lost card", "stolen card"]}, "About {}.")
        (('About card arrival.',), ('lost card', 'stolen card'), ())
    """
    check_template(template)
    described = described_classes(classes, given or {})
    silent = [is_code(name) or (any(described) and is_remainder(name)) for name in classes]
    return tuple(
        texts or (() if is_silent else (template.replace("{}", readable(name)),))
        for name, texts, is_silent in zip(classes, described, silent, strict=True)
    )


def description_kind(given: Sequence[Sequence[str]], used: Sequence[Sequence[str]]) -> str:
    """What the texts of the classes are: `DESCRIPTIONS`, `NAMES` or `BOTH`.

    Args:
        given: texts of each class that the user gave, C tuples.
        used: result of `class_descriptions`, C tuples.
    """
    sources = {bool(own) for own, texts in zip(given, used, strict=True) if texts}
    return BOTH if len(sources) == 2 else DESCRIPTIONS if True in sources else NAMES


def described_classes(
    classes: Sequence[str], given: Mapping[Any, str | Sequence[str]], *, where: str = "descriptions"
) -> tuple[tuple[str, ...], ...]:
    """The given texts of each class, C tuples, which are empty where none is given.

    Args:
        classes: C class names.
        given: class -> text or texts.
        where: name of their source for messages.

    Raises:
        DataError: see `class_descriptions`.
    """
    texts = checked_descriptions(given, where=where)
    unknown = next((name for name in texts if name not in classes), None)
    if unknown is not None:
        known = f"one of the classes {listing(classes)}" if classes else "a class: name the classes with `classes`"
        raise DataError(f"{where}: {shown(unknown)} is not {known}{did_you_mean(unknown, classes)}")
    return tuple(texts.get(name, ()) for name in classes)


def checked_descriptions(
    given: Mapping[Any, str | Sequence[str]], *, where: str = "descriptions"
) -> dict[str, tuple[str, ...]]:
    """Given descriptions as class -> texts, without spaces at the ends and without repetitions.

    Raises:
        DataError: a class is given twice, or a description is empty or not a text.
    """
    found: dict[str, tuple[str, ...]] = {}
    for key, value in given.items():
        try:
            name = text_of(key)
        except TypeError:
            name = None
        if not isinstance(name, str):
            raise DataError(f"{where}: {shown(key)} is not a class name")
        name = normalize(name.strip())
        if name in found:
            raise DataError(f"{where}: the class {shown(name)} is given twice")
        texts = [value] if isinstance(value, str) else value
        if not isinstance(texts, list | tuple) or not all(isinstance(text, str) for text in texts):
            raise DataError(f"{where}: {shown(name)} takes a text or a list of texts, not {shown(value)}")
        if not all(map(encodable, (name, *texts))):
            raise DataError(f"{where}: the description of {shown(name)} {NOT_ENCODABLE}")
        if not texts or not all(map(is_visible, texts)):
            raise DataError(f"{where}: the description of {shown(name)} is empty: write one, or leave the class out")
        found[name] = tuple(dict.fromkeys(text.strip() for text in texts))
    return found


def read_descriptions(given: Descriptions | None) -> tuple[dict[str, tuple[str, ...]], str]:
    """Given descriptions as class -> texts, read from a file if they are a path, and the name of their source.

    Raises:
        DataError: they are invalid, or the file cannot be read.
    """
    if isinstance(given, str) and given.lstrip().startswith(("{", "[")):  # an option of the command line
        raise DataError(f"descriptions: {shown(given)} is not texts by class, such as {{billing: 'invoices, refunds'}}")
    if isinstance(given, str | PathLike):
        return _read_file(fspath(given)), printable(fspath(given), 200)
    if given is not None and not isinstance(given, Mapping):
        raise DataError(f"descriptions: expected texts by class, or the path of a file, not {shown(given)}")
    return checked_descriptions(given or {}), "descriptions"


def _read_file(path: str) -> dict[str, tuple[str, ...]]:
    """Class -> texts from a file with a column for the class and one for the description, a line for each text."""
    file = path_of(path)
    if not file.is_file():
        problem = f"{printable(path, 200)} is not a file" if file.exists() else missing(file)
        raise DataError(f"descriptions: {problem}")
    source = read(path, ColumnRequest((TEXT_COLUMN,), others=CLASS_COLUMNS, optional=frozenset(CLASS_COLUMNS)))
    column = next((name for name in CLASS_COLUMNS if name in source.table.column_names), None)
    if column is None:
        raise DataError(f"{source.name} has no column of the class: name it {' or '.join(map(repr, CLASS_COLUMNS))}")
    found: dict[str, list[str]] = {}
    pairs = zip(source.table[column].to_pylist(), source.table[TEXT_COLUMN].to_pylist(), strict=True)
    for row, (name, text) in enumerate(pairs):
        name = normalize((name or "").strip())
        for what, value in ((column, name), (TEXT_COLUMN, (text or "").strip())):
            if not value:
                raise DataError(f"{source.where(what)(row)} is empty: each line has a class and a description")
        found.setdefault(name, []).append(text)
    return checked_descriptions(found, where=source.name)


def check_template(template: Any) -> None:
    """Raise DataError unless a template is a text with one `{}`."""
    if not isinstance(template, str) or template.count("{}") != 1:
        raise DataError(
            f"description_template: {shown(template)} must have one {{}}, which stands for the name of the class, "
            "such as 'This text is about {}.'"
        )
