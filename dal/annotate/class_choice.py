"""Choice of the classes of one text by keys, as on the bar of answers of the page (`page/answers.js`)."""

import unicodedata
from collections.abc import Mapping, Sequence
from typing import Any

from dal.annotate.service_contract import Reply

#: Number of classes up to which each has a digit. With more, letters search.
FEW = 9


def folded(text: str) -> str:
    """A name without accents, case, and marks between its words, for a search.

    Example:
        >>> folded("Résumé_Late-2")
        'resume late 2'
    """
    plain = "".join(char for char in unicodedata.normalize("NFKD", text) if not unicodedata.combining(char))
    return " ".join(plain.casefold().replace("_", " ").replace("-", " ").split())


class ClassChoice:
    """The classes that are shown for one text, what was typed to find one, and what is selected.

    The order stays while the text is shown. No class is marked before something is typed.

    Args:
        classes: the classes of a reply.
        multilabel: whether a text has any number of classes.
        recent: ids of the classes used last, first the latest; they come first where letters search.
        answer: the person's answer to the text as in a reply; its classes are shown, and selected when multi-label.

    Attributes:
        typed: what was typed.
        shown: the classes that match it.
        best: place in `shown` of the marked class; -1 for none.
        selected: ids of the selected classes, when multi-label.
        warning: sentence for the person about the last key; "" for none.
    """

    def __init__(
        self,
        classes: Sequence[Reply],
        *,
        multilabel: bool,
        recent: Sequence[int] = (),
        answer: Mapping[str, Any] | None = None,
    ) -> None:
        self.many, self.multilabel, self.warning = len(classes) > FEW, multilabel, ""
        self.marked = frozenset(answer["classes"]) if answer is not None and not answer["skipped"] else frozenset[int]()
        self.selected = set(self.marked) if multilabel else set[int]()
        places = {number: place for place, number in enumerate(recent)}
        self.classes = list(classes)
        if self.many:
            self.classes.sort(key=lambda each: places.get(each["id"], len(places)))
        self._empty_confirmed = False
        self._filter("")

    def _filter(self, typed: str) -> None:
        self.typed = typed
        wanted = folded(typed.lstrip("'\""))
        self.shown = [each for each in self.classes if all(word in folded(each["name"]) for word in wanted.split())]
        if wanted:
            self.shown.sort(key=lambda each: not folded(each["name"]).startswith(wanted))
        self.best = 0 if wanted and self.shown else -1

    def key(self, key: str) -> list[int] | None:
        """Handle a key, and return the ids of the classes of the answer that it completes; None if it does not.

        Args:
            key: a character, or "enter", "backspace", "escape", "up" or "down".
        """
        self.warning = ""
        if key == "enter":
            return self._enter()
        if len(key) == 1 and key.isdecimal() and key.isascii() and not self.typed.startswith(("'", '"')):
            place = int(key) - 1
            return self._choose(self.shown[place]) if 0 <= place < min(FEW, len(self.shown)) else None
        if not self.many or (len(key) == 1 and key.isupper()):
            bound = next((each for each in self.classes if each["letter"] and each["letter"] == key.lower()), None)
            return self._choose(bound) if bound is not None and (self.many or key.islower()) else None
        if key in ("down", "up") and self.shown:
            step = 1 if key == "down" else -1
            self.best = (self.best + step if self.best >= 0 else min(0, step)) % len(self.shown)
        elif key == "escape":
            self._filter("")
        elif key == "backspace":
            self._filter(self.typed[:-1])
        elif len(key) == 1 and (key != " " or self.typed) and len(self.typed) < 100:
            self._filter(self.typed + key)
        return None

    def _choose(self, chosen: Reply) -> list[int] | None:
        if not self.multilabel:
            return [chosen["id"]]
        self.selected ^= {chosen["id"]}
        self._empty_confirmed = False
        if self.typed:
            self._filter("")
        return None

    def _enter(self) -> list[int] | None:
        if self.best >= 0:
            return self._choose(self.shown[self.best])
        if not self.multilabel or self.typed:
            return None
        if not self.selected and not self._empty_confirmed:
            self._empty_confirmed = True
            self.warning = "Nothing is selected. Enter once more: none of the classes."
            return None
        return sorted(self.selected)
