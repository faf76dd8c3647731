"""Label cells of files that people fill in: text to answers, and answers to text."""

import unicodedata
from collections.abc import Sequence

from dal.data.label_names import whole
from dal.errors import did_you_mean, shortened
from dal.store.events import SKIP, Skip, Value
from dal.store.spreadsheet import original

SKIP_WORD = "skip"  # declines a row
NONE_WORD = "none"  # no class at all, when multi-label
SEPARATOR = "|"  # between the classes of a multi-label answer

Answer = str | list[str] | Skip


class SheetLabels:
    """Parser of label cells, with constant-time lookup of the classes.

    Args:
        classes: class names.
        multilabel: whether a cell may hold several classes.
    """

    def __init__(self, classes: Sequence[str], multilabel: bool = False) -> None:
        self._classes, self._multilabel = tuple(classes), multilabel
        self._exact = set(classes)
        self._folded: dict[str, list[str]] = {}
        for name in self._classes:
            self._folded.setdefault(_folded(name), []).append(name)
        self._skip, self._none = marker(SKIP_WORD, classes), marker(NONE_WORD, classes)

    def read(self, label: str, *, hint: bool = True) -> Answer:
        """Parse a label cell.

        Args:
            label: cell of the sheet.
            hint: name the most similar class in the error.

        Raises:
            ValueError: the cell is not an answer; the message gives the reason.

        Example:
            >>> labels = SheetLabels(["billing", "access"], multilabel=True)
            >>> labels.read(" access | Billing "), labels.read("skip")
            (['billing', 'access'], <Skip.SKIP: 'skip'>)
        """
        named = self._named(_forms(label))
        if named is None and self._is(label, SKIP_WORD, self._skip):
            return SKIP
        if not self._multilabel:
            return named if named is not None else self._refuse(label, hint)
        if named is not None:
            return [named]
        if self._is(label, NONE_WORD, self._none) or label.strip() == "[]":
            return []
        chosen = set()
        for part in original(label).split(SEPARATOR):
            if part.strip():
                name = self._named(_forms(part))
                chosen.add(name if name is not None else self._refuse(part, hint))
        if not chosen:
            raise ValueError(f"{shortened(label)!r} names no class; write {NONE_WORD} for no class")
        return [name for name in self._classes if name in chosen]

    def _named(self, forms: Sequence[str]) -> str | None:
        """The first form that is a class, else the first that equals a single class up to case; None if there is none.

        An exact match of a later form precedes a case-insensitive match of an earlier one.
        """
        for name in forms:
            if name in self._exact:
                return name
        for name in forms:
            similar = self._folded.get(_folded(name), [])
            if len(similar) == 1:
                return similar[0]
        return None

    def _is(self, label: str, word: str, marked: str) -> bool:
        return label.strip().lower() in (marked, f"[{word}]")

    def _refuse(self, label: str, hint: bool) -> str:
        label = label.strip()
        near = did_you_mean(label, self._classes) if hint else ""
        some = ", ".join(shortened(name, 40) for name in self._classes[:10])
        more = ", ..." if len(self._classes) > 10 else ""
        advice = near.replace("; ", ", ", 1) or f" (classes are {some}{more})"
        raise ValueError(f"{shortened(label)!r} is not a class{advice}")


def parse(label: str, classes: Sequence[str], *, multilabel: bool = False) -> Answer:
    """Parse a single label cell; see `SheetLabels.read`.

    >>> parse("Billing", ["billing", "access"])
    'billing'
    >>> parse("access | billing", ["billing", "access"], multilabel=True)
    ['billing', 'access']
    """
    return SheetLabels(classes, multilabel).read(label)


def cell_of(value: Value | Sequence[str], classes: Sequence[str]) -> str:
    """Format an answer as a cell: a class name, or names separated by bars when multi-label.

    Example:
        >>> cell_of(["a", "b"], ["a", "b"]), cell_of([], ["a", "none"])
        ('a|b', '[none]')
    """
    return value if isinstance(value, str) else SEPARATOR.join(value) or marker(NONE_WORD, classes)


def shown_answer(value: Answer | Sequence[str] | None) -> str:
    """Format an answer for a message, shortened."""
    if value is None or isinstance(value, Skip):
        return SKIP_WORD
    return repr(shortened(value if isinstance(value, str) else SEPARATOR.join(value) or NONE_WORD))


def marker(word: str, classes: Sequence[str]) -> str:
    """The word, in brackets if necessary to differ from all classes.

    Example:
        >>> marker("skip", ["a"]), marker("skip", ["Skip", "a"])
        ('skip', '[skip]')
    """
    names = {name.lower() for name in classes}
    while word in names:
        word = f"[{word}]"
    return word


def _forms(cell: str) -> list[str]:
    """The labels that a cell may represent, most likely first: with and without apostrophes, spaces, and ".0"."""
    stripped = cell.strip()
    return [original(cell), cell, original(stripped), stripped, whole(stripped) or stripped]


def _folded(name: str) -> str:
    return unicodedata.normalize("NFC", name.casefold())
