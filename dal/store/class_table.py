"""Classes of a project as a log records them: an id under each name, and changes that rewrite no answer."""

import json
import unicodedata
from bisect import bisect_right
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, Final

from dal.errors import AnswerError, shortened
from dal.store.bounded_json import parse_json
from dal.store.visible_names import is_visible, name_form

#: Letters of commands on the annotation page, which no class may have.
RESERVED_LETTERS: Final = frozenset("sdfh?")

_FIELDS: Final[Mapping[str, tuple[frozenset[str], frozenset[str]]]] = {  # change -> required and optional fields
    "add": (frozenset({"id", "name"}), frozenset({"description"})),
    "rename": (frozenset({"id", "name"}), frozenset()),
    "describe": (frozenset({"id"}), frozenset({"text", "examples"})),
    "merge": (frozenset({"id", "into"}), frozenset()),
    "retire": (frozenset({"id"}), frozenset()),
    "bind": (frozenset({"id", "letter"}), frozenset()),
    "guide": (frozenset({"text"}), frozenset()),
}


@dataclass(frozen=True)
class ClassEntry:
    """A class of a project.

    Attributes:
        id: number of the class in the order of addition, from 0. It never changes.
        name: current name.
        description: guideline for the class; "" for none.
        examples: example texts of the guideline.
        letter: key on the annotation page; None for none.
        merged_into: id of the class that took over its answers; None if it was not merged.
        retired: whether it can no longer be chosen, and its answers no longer count.
    """

    id: int
    name: str
    description: str = ""
    examples: tuple[str, ...] = ()
    letter: str | None = None
    merged_into: int | None = None
    retired: bool = False

    @property
    def is_active(self) -> bool:
        """Whether the class can be chosen."""
        return self.merged_into is None and not self.retired


class ClassTable:
    """The classes after a sequence of changes, and the meaning of a name that was stored at an earlier event.

    A log without changes has no classes here, and the names in it stand for themselves.

    Attributes:
        entries: all classes, also merged and retired ones, by id.
        guide: guideline for all texts.
        event: number of the last event that changed the table; 0 for none.
    """

    def __init__(self) -> None:
        self.entries: dict[int, ClassEntry] = {}
        self.guide = ""
        self.event = 0
        self._changes: dict[int, Mapping[str, Any]] = {}  # event -> change that was not retracted
        self._starts: list[int] = []  # events from which on the names below were those of the classes
        self._names: list[dict[str, int]] = []

    def __len__(self) -> int:
        return len(self.entries)

    @property
    def active(self) -> list[ClassEntry]:
        """Classes that can be chosen, in the order of addition."""
        return [entry for entry in self.entries.values() if entry.is_active]

    # -- replay ----------------------------------------------------------------------------------------------------

    def apply(self, event: int, text: str | None) -> None:
        """Apply the change of a stored event.

        Args:
            event: its number.
            text: its value, a JSON object.

        Raises:
            ValueError: the change is not one that `check` accepts.
        """
        try:
            change = parse_json(text or "")
        except ValueError as error:
            raise ValueError(f"its change {shortened(repr(text))} cannot be read") from error
        try:
            self.check(change)
        except AnswerError as error:
            raise ValueError(f"its change of a class is impossible: {error}") from error
        self._changes[event] = change
        self._apply(change)
        self._begin(event)

    def retract(self, event: int, retracted: int) -> None:
        """Apply the retraction of an earlier change.

        Args:
            event: number of the retraction.
            retracted: number of the event with the change.

        Raises:
            ValueError: it is not a change, or later changes depend on it.
        """
        if retracted not in self._changes:
            raise ValueError(f"it retracts event {retracted}, which is no change of a class")
        left = {number: change for number, change in self._changes.items() if number != retracted}
        before = self.entries, self.guide
        self.entries, self.guide = {}, ""
        try:
            for change in left.values():
                self.check(change)
                self._apply(change)
        except AnswerError as error:
            self.entries, self.guide = before
            raise ValueError(f"it retracts event {retracted}, on which a later change depends: {error}") from error
        self._changes = left
        self._begin(event)

    def _begin(self, event: int) -> None:
        self.event = event
        self._starts.append(event)
        self._names.append({entry.name: entry.id for entry in self.entries.values() if entry.is_active})

    def _apply(self, change: Mapping[str, Any]) -> None:
        do = change["do"]
        if do == "guide":
            self.guide = change["text"]
            return
        number = change["id"]
        if do == "add":
            self.entries[number] = ClassEntry(number, _name(change["name"]), change.get("description", ""))
            return
        entry = self.entries[number]
        if do == "rename":
            entry = replace(entry, name=_name(change["name"]))
        elif do == "describe":
            examples = tuple(change.get("examples", entry.examples))
            entry = replace(entry, description=change.get("text", entry.description), examples=examples)
        elif do == "merge":
            entry = replace(entry, merged_into=change["into"], letter=None)
        elif do == "retire":
            entry = replace(entry, retired=True, letter=None)
        else:
            entry = replace(entry, letter=change["letter"])
        self.entries[number] = entry

    # -- checks ----------------------------------------------------------------------------------------------------

    def check(self, change: Any) -> None:
        """Check that a change can be applied to this table.

        Raises:
            AnswerError: a field is missing, unknown or of the wrong type, a class does not exist or is not active, or
                a name or a letter is in use.
        """
        do = change.get("do") if isinstance(change, Mapping) else None
        if not isinstance(do, str) or do not in _FIELDS:
            raise AnswerError(f"a change of classes is one of {', '.join(_FIELDS)}, got {shortened(repr(do))}")
        required, optional = _FIELDS[do]
        fields = change.keys() - {"do"}
        if not required <= fields <= required | optional:
            wrong = ", ".join(sorted(map(str, fields ^ required)))
            raise AnswerError(f"the change {do!r} has the fields {', '.join(sorted(required))}; look at {wrong}")
        if do == "guide":
            _require_text("text", change["text"])
            return
        number = change["id"]
        if type(number) is not int:
            raise AnswerError(f"a class is named by its number, got {shortened(repr(number))}")
        if do == "add":
            if number != len(self.entries):
                raise AnswerError(f"the next class has the number {len(self.entries)}, got {number}")
            self._check_name(change["name"], number)
            _require_text("description", change.get("description", ""))
            return
        self._require_active(number)
        if do == "rename":
            self._check_name(change["name"], number)
        elif do == "describe":
            _require_text("text", change.get("text", ""))
            examples = change.get("examples", [])
            if not isinstance(examples, list) or not all(isinstance(each, str) for each in examples):
                raise AnswerError("the examples of a class are a list of texts")
        elif do == "merge":
            self._require_active(change["into"])
            if change["into"] == number:
                raise AnswerError(f"the class {shortened(self.entries[number].name)!r} cannot be merged into itself")
        elif do == "bind":
            self._check_letter(change["letter"], number)

    def _require_active(self, number: Any) -> None:
        entry = self.entries.get(number) if type(number) is int else None
        if entry is None:
            raise AnswerError(f"there is no class with the number {shortened(repr(number))}")
        if not entry.is_active:
            state = "retired" if entry.retired else "merged into another"
            raise AnswerError(f"the class {shortened(entry.name)!r} was {state}: restore it first")

    def _check_name(self, name: Any, number: int) -> None:
        _require_text("name", name)
        if not _name(name):
            raise AnswerError("a class needs a name that is not blank")
        for entry in self.active:
            if entry.name == _name(name) and entry.id != number:
                raise AnswerError(f"there is a class {shortened(entry.name)!r} already")

    def check_new(self, change: Mapping[str, Any], *, alike: bool = False) -> None:
        """Check what people see of a change that `check` accepts: names and letters that can be told apart.

        Logs of earlier versions may have other classes, so that `check` accepts them.

        Args:
            change: the change.
            alike: whether the name may be like that of another class, as in files with labels.

        Raises:
            AnswerError: a name or a letter cannot be seen, or a name differs from that of another class only in case,
                white space, the composition of accents or characters that cannot be seen.
        """
        if change["do"] == "bind" and change["letter"] is not None and not is_visible(change["letter"]):
            raise AnswerError(f"the letter {change['letter']!a} cannot be seen: choose another one")
        if change["do"] not in ("add", "rename"):
            return
        name = _name(change["name"])
        if not is_visible(name):
            raise AnswerError(f"the class name {shortened(ascii(name))} cannot be seen: a class needs a visible name")
        for entry in () if alike else self.active:
            if entry.id != change["id"] and name_form(entry.name) == name_form(name):
                raise AnswerError(
                    f"the class {shortened(repr(name))} would differ from {shortened(repr(entry.name))} only in "
                    "case, spaces or characters that cannot be seen: choose that one, or rename it"
                )

    def _check_letter(self, letter: Any, number: int) -> None:
        if letter is None:
            return
        if not isinstance(letter, str) or len(letter) != 1 or not letter.isalpha() or letter != letter.casefold():
            raise AnswerError(f"a class is bound to one small letter, got {shortened(repr(letter))}")
        if letter in RESERVED_LETTERS:
            raise AnswerError(f"the letter {letter!r} is a command of the page: choose another one")
        for entry in self.active:
            if entry.letter == letter and entry.id != number:
                raise AnswerError(f"the letter {letter!r} is bound to {shortened(entry.name)!r} already")

    def removal(self, number: Any) -> int:
        """Number of the event that merged or retired a class, which a retraction undoes.

        Raises:
            AnswerError: the class does not exist, or was neither merged nor retired.
        """
        entry = self.entries.get(number) if type(number) is int else None
        if entry is None:
            raise AnswerError(f"there is no class with the number {shortened(repr(number))}")
        for event, change in reversed(self._changes.items()):
            if change["do"] in ("merge", "retire") and change["id"] == number:
                return event
        raise AnswerError(f"the class {shortened(entry.name)!r} was neither merged nor retired")

    def change(self, event: int) -> Mapping[str, Any] | None:
        """The change that an event made, unless it was retracted."""
        return self._changes.get(event)

    # -- names -----------------------------------------------------------------------------------------------------

    def id_at(self, name: str, event: int) -> int | None:
        """Id of the class that had this name when an event was stored; None for a name outside the table."""
        place = bisect_right(self._starts, event) - 1
        return self._names[place].get(name) if place >= 0 else None

    def meanings(self, name: str) -> list[tuple[int, int, int]]:
        """First and last event of each time in which classes had a name, and the id of the class."""
        found: list[tuple[int, int, int]] = []
        ends = [*(start - 1 for start in self._starts[1:]), (1 << 62)]
        for first, last, names in zip(self._starts, ends, self._names, strict=True):
            number = names.get(name)
            if found and found[-1][1:] == (first - 1, number):
                found[-1] = found[-1][0], last, found[-1][2]
            elif number is not None:
                found.append((first, last, number))
        return found

    def family(self, number: int) -> set[int]:
        """Ids of a class and of all that were merged into it, also by way of others."""
        found = {number}
        for entry in self.entries.values():
            chain = [entry.id]
            while (into := self.entries[chain[-1]].merged_into) is not None:
                chain.append(into)
            if number in chain:
                found |= set(chain[: chain.index(number)])
        return found

    def final(self, number: int) -> ClassEntry | None:
        """The class that the answers of class `number` now count for; None if it is retired."""
        entry = self.entries[number]
        while entry.merged_into is not None:  # no cycle: a class is merged into an active one only
            entry = self.entries[entry.merged_into]
        return None if entry.retired else entry

    def current_name(self, name: str, event: int) -> str | None:
        """Current name of the class that a name stood for when an event was stored.

        Returns:
            The name itself if it is not in the table; None if the class is retired.
        """
        number = self.id_at(name, event)
        if number is None:
            return name
        entry = self.final(number)
        return None if entry is None else entry.name

    def current_value(self, value: str | tuple[str, ...], event: int) -> str | tuple[str, ...] | None:
        """Stored answer in the current names of its classes; None if its only class is retired.

        Of an answer with several classes, retired ones are left out and merged ones are named once.
        """
        if not self._starts:
            return value
        if isinstance(value, str):
            return self.current_name(value, event)
        names = (self.current_name(name, event) for name in value)
        return tuple(dict.fromkeys(name for name in names if name is not None))


def encoded(change: Mapping[str, Any]) -> str:
    """A change as the JSON text that an event holds."""
    return json.dumps(dict(change), ensure_ascii=False)


def _name(name: str) -> str:
    return unicodedata.normalize("NFC", name.strip())


def _require_text(field: str, value: Any) -> None:
    if not isinstance(value, str):
        raise AnswerError(f"the {field} of a class is text, got {shortened(repr(value))}")
