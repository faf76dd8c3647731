"""What the server of the annotation page needs from a service: its methods, and the error of an outdated answer."""

from collections.abc import Collection, Mapping, Sequence
from typing import Any, Protocol

from dal.errors import DalError

#: A reply, ready for JSON.
Reply = dict[str, Any]

#: Right to change classes and guidelines.
CLASSES = "classes"

#: Right to see disputed texts and to decide them, and to see the answers of others.
ADJUDICATE = "adjudicate"


class OutdatedAnswerError(DalError):
    """An answer replaces another one than the person's current answer, as from a second tab. Nothing was stored.

    Attributes:
        stands: the person's current answer as in a reply; None if she has none.
    """

    def __init__(self, stands: Reply | None) -> None:
        super().__init__("this text was answered elsewhere, as in another tab: nothing was stored")
        self.stands = stands


class Service(Protocol):
    """People's questions and answers of one project. Every method is one transaction and may be called by any thread.

    `who` is the name of the person. `key` identifies a request: a repeated one stores nothing and gets the same reply.
    Classes are given by their ids. A request that can never be met, as of an unknown row, raises an `AnswerError`,
    `DataError` or `ConfigError` of one line; a `SessionError` is for trouble that may pass, such as a full disk, since
    the page sends such a request again.
    """

    def rights(self, who: str) -> Collection[str]:
        """The rights of a person, out of `CLASSES` and `ADJUDICATE`."""

    def state(self, who: str, *, shown: str | None = None, replaces: int | None = None) -> Reply:
        """Project, classes, figures, and the texts that are leased to the person: `rows`, at most two.

        Args:
            who: person.
            shown: text on her screen, which is leased to her again; `gone` says why it cannot be, or is null.
            replaces: event of her current answer to that text.
        """

    def answer(
        self,
        who: str,
        *,
        row: str,
        classes: Sequence[int],
        key: str,
        replaces: int | None,
        seconds: float | None,
        seen: Mapping[str, bool],
    ) -> Reply:
        """Store an answer; the reply has it as `saved`, and the next `rows`.

        Raises:
            OutdatedAnswerError: `replaces` is not the event of the person's current answer to the row.
        """

    def skip(self, who: str, *, row: str, key: str, replaces: int | None, how: str) -> Reply:
        """Put a text last (`how` is "later") or decline it ("decline"); replies and errors as in `answer`."""

    def flag(self, who: str, *, row: str, key: str, text: str) -> Reply:
        """Store a note about a text."""

    def undo(self, who: str, *, key: str) -> Reply:
        """Take back the person's last step; the first of `rows` is its text, with the answer taken back as `was`."""

    def hints(self, who: str, *, row: str) -> Reply:
        """Why a text was chosen, what the model thinks, and the nearest answered texts."""

    def change_classes(self, who: str, *, change: Mapping[str, Any], key: str) -> Reply:
        """Change a class or the guidelines; the reply has the classes."""

    def history(
        self,
        who: str,
        *,
        q: str,
        class_id: int | None,
        person: str | None,
        since: float | None,
        disagree: bool,
        before: int | None,
        limit: int,
    ) -> Reply:
        """Answers, latest first, or those that the model disagrees with, surest first; others' only with the right.

        Args:
            q: words of the text.
            class_id: answers with this class only.
            person: answers of this person only.
            since: answers from this time on, in seconds since 1970.
            disagree: answers that differ from the model's.
            before: answers before this event.
            limit: largest number of answers.
        """

    def search(self, who: str, *, q: str, limit: int, by: str) -> Reply:
        """Texts that match the words (`by` is "words") or are most like the text by its vector ("meaning"), best first.

        By meaning it may wait for a few seconds. `why` says in one line why there is no result, or is null; `again` is
        whether another request may have one.
        """

    def take(self, who: str, *, row: str) -> Reply:
        """Lease a text to the person and put it first of `rows`."""

    def progress(self, who: str) -> Reply:
        """Figures of the project."""

    def disputes(self, who: str) -> Reply:
        """Texts whose answers differ, without the names of people."""

    def adjudicate(self, who: str, *, row: str, classes: Sequence[int], key: str, replaces: int | None) -> Reply:
        """Decide a disputed text.

        Raises:
            OutdatedAnswerError: `replaces` is not the event of the decision that stands, or null without one.
        """

    def copies(self, who: str, *, row: str) -> Reply:
        """Near-copies of an answered text."""

    def close(self) -> None:
        """Release the project."""
