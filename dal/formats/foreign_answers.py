"""Answers read from files of other annotation programs, checked against the rows and classes of a folder."""

from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from dal.data.label_cells import Answer
from dal.data.label_names import normalize
from dal.errors import AnswerError, did_you_mean, shortened, shown
from dal.formats.exported_answers import Origin, is_mark, is_unchanged
from dal.store.atomic_files import named

_LISTED = 20  # maximum number of mistakes in one message
_LENGTH = 1_500  # maximum length of the listed mistakes, in characters


@dataclass(frozen=True)
class Answerable:
    """The rows and classes that a file is read against.

    Attributes:
        texts: id -> texts of the row: one, or two for pairs.
        classes: class names.
        multilabel: whether a row may have several classes.
        absent: ids of rows that were asked and are no longer in the data.
        origins: function from a row id to the origins of all answers that the row ever had.
    """

    texts: Mapping[str, tuple[str, ...]]
    classes: Sequence[str]
    multilabel: bool = False
    absent: Collection[str] = ()
    origins: Callable[[str], Collection[Origin]] = lambda row: ()

    def value(self, names: Iterable[Any]) -> Answer:
        """The answer that consists of these class names: one, or when multi-label any number, in class order.

        Raises:
            ValueError: a name is not a class, or there is not exactly one.
        """
        chosen = dict.fromkeys(self.class_name(name) for name in names)
        if self.multilabel:
            return [name for name in self.classes if name in chosen]
        if len(chosen) != 1:
            count = " and ".join(repr(shortened(name, 40)) for name in chosen) or "no choice"
            raise ValueError(f"{count} instead of one class (a text that nobody can answer is skipped)")
        return next(iter(chosen))

    def class_name(self, name: Any) -> str:
        """The class with this name, in Unicode form NFC.

        Raises:
            ValueError: there is no such class.
        """
        known = normalize(name) if isinstance(name, str) else None
        if known is None or known not in self.classes:
            hint = did_you_mean(known, self.classes) if known else ""
            raise ValueError(f"{shown(name)} is not a class{hint}")
        return known

    def is_exported(self, row: str, names: Iterable[Any] | None, mark: Any) -> bool:
        """Whether an answer of a file is one that `dal export` wrote and nobody has changed since.

        Args:
            row: row id.
            names: class names of the answer; None for a declined row.
            mark: mark of the answer in the file, or any other value.
        """
        if not is_mark(mark):
            return False
        given = None if names is None else list(names)
        if given is not None and not all(isinstance(name, str) for name in given):
            return False
        return is_unchanged(mark, row, given, self.origins(row))

    def check_row(self, row: Any, texts: Mapping[str, Any]) -> str:
        """Check that a row id is known and that the texts next to it are those of the row; return the id.

        Args:
            row: the id.
            texts: values under the keys `text` and `text_pair`, as far as the file has them.

        Raises:
            ValueError: there is no such row, or a text is that of another row.
        """
        if not isinstance(row, str) or (row not in self.texts and row not in self.absent):
            raise ValueError(f"there is no row {shown(row)}")
        for key, own in zip(("text", "text_pair"), self.texts.get(row, ()), strict=False):
            if key in texts and texts[key] != own:
                raise ValueError(
                    f"its {key} is not that of the row {shown(row)}, {shortened(' '.join(own.split()), 40)!r}"
                )
        return row


@dataclass(frozen=True)
class ForeignAnswer:
    """An answer of a file.

    Attributes:
        row: row id.
        value: class name, list of names, or `SKIP`.
        who: name of the person in the other program; empty if unknown.
        at: time in seconds since 1970, UTC; None if unknown.
        seconds: time spent on the row; None if unknown.
        note: the person's comment; empty without one.
        place: place in the file, for messages.
        key: identifier under which the answer is stored once; empty for none.
        seen: what the person was shown besides the text, by name, as JSON values; None if unknown.
    """

    row: str
    value: Answer
    who: str = ""
    at: float | None = None
    seconds: float | None = None
    note: str = ""
    place: str = ""
    key: str = ""
    seen: Mapping[str, Any] | None = None


@dataclass(frozen=True)
class ForeignAnswers:
    """Answers of a file, one per row and person.

    Attributes:
        answers: the answers, in the order of the file.
        empty: number of tasks without an answer.
        exported: number of answers that `dal export` wrote and nobody has changed since. They are left out.
        notes: messages for the user about how the file was read.
    """

    answers: tuple[ForeignAnswer, ...]
    empty: int = 0
    exported: int = 0
    notes: tuple[str, ...] = ()


def latest_per_person(answers: Iterable[ForeignAnswer]) -> tuple[ForeignAnswer, ...]:
    """The latest answer of each person to each row; of equal or unknown times the last one of the file."""
    kept: dict[tuple[str, str], ForeignAnswer] = {}
    for answer in answers:
        before = kept.get((answer.row, answer.who))
        if before is None or before.at is None or answer.at is None or answer.at >= before.at:
            kept[answer.row, answer.who] = answer
    return tuple(kept.values())


def refuse_mistakes(path: Path, mistakes: Sequence[str]) -> None:
    """Raise an AnswerError that lists the mistakes of a file, if there are any."""
    if not mistakes:
        return
    listed: list[str] = []
    for mistake in mistakes[:_LISTED]:
        if listed and sum(map(len, listed)) + len(mistake) > _LENGTH:
            break
        listed.append(mistake)
    if len(listed) < len(mistakes):
        listed.append(f"and {len(mistakes) - len(listed)} more")
    count = "one mistake" if len(mistakes) == 1 else f"{len(mistakes)} mistakes"
    raise AnswerError("\n  ".join([f"{named(path)} has {count}; nothing was stored", *listed]))


def seconds_spent(value: Any) -> float | None:
    """A duration in seconds; None for anything else."""
    usable = isinstance(value, int | float) and not isinstance(value, bool) and 0 <= value < float("inf")
    return float(value) if usable else None
