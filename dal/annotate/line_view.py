"""Answering line by line: for scripts, screen readers, and terminals without single keys."""

import re
import sys
import time
from collections.abc import Callable, Iterable, Sequence
from typing import TextIO

from dal.annotate.class_choice import FEW, folded
from dal.annotate.labeling_session import LabelingSession
from dal.annotate.status_words import empty_words, status_words
from dal.annotate.text_marks import marked, marked_lines
from dal.errors import AnswerError, shortened

_HELP = """\
A line is an answer or a command:
  2             class number 2; when a text may have several classes: 1 3, and none for no class
  severe        a class by its name, by the beginning of its name, or by its letter
  undo          take back the last step, any number of times
  later         put this text last
  decline       this text cannot be answered
  flag NOTE     store a note about this text
  hints         why it was chosen, what the model thinks, the nearest answered texts
  text          show the text again
  quit          end; all answers are stored (so does the end of the input)
A command may begin with a colon, as in :later, where a class has its name. u, s, d, f, h, q and ? are short forms."""

_BOM = "\ufeff"  # mark of UTF-8 with which some programs begin a file
_NO_TEXT = re.compile("[\ud800-\udfff]")  # bytes that could not be decoded

_SHORT = {"u": "undo", "s": "later", "d": "decline", "f": "flag", "h": "hints", "q": "quit", "?": "help"}
_COMMANDS = ("undo", "later", "decline", "flag", "hints", "text", "help", "quit")


class LineView:
    """Shows texts and reads a line for each.

    Args:
        session: the steps of the person.
        lines: the lines of the person, with lone surrogates for bytes that could not be decoded.
        output: receives the texts.
        wait: called when the next texts are still being selected.
        strict: whether a line that is refused ends the work. Of a file, the next lines would answer the wrong texts.
    """

    def __init__(
        self,
        session: LabelingSession,
        *,
        lines: Iterable[str],
        output: TextIO | None = None,
        wait: Callable[[], None] = lambda: time.sleep(0.2),
        strict: bool = False,
    ) -> None:
        self._session, self._lines, self._wait, self._strict = session, lines, wait, strict
        self._read = 0
        self._output = sys.stdout if output is None else output

    def run(self) -> None:
        """Read lines until they end, or no text is left.

        Raises:
            AnswerError: a line was refused, and `strict` is set. The answers of the lines before are stored.
        """
        lines = iter(self._lines)
        self._show()
        while self._next_is_there():
            line = next(lines, None)
            self._read += 1
            if line is None or not self._handle(line.removeprefix(_BOM if self._read == 1 else "").strip()):
                return
        self._print(self._final())

    def _next_is_there(self) -> bool:
        """Wait for the next text, and show it; False if there is none."""
        session = self._session
        if session.row is not None:
            return True
        while session.row is None and session.header.get("waiting"):
            self._wait()
            session.refresh()
        if session.row is not None:
            self._show()
        return session.row is not None

    def _final(self) -> str:
        header = self._session.header
        status = "  ".join(status_words(header, project=self._session.project["name"]))
        return f"\n-- {marked(status)}\n{marked_lines(empty_words(header))}"

    # -- lines ---------------------------------------------------------------------------------------------------------

    def _handle(self, line: str) -> bool:
        """Handle a line; False if it ends the work."""
        session = self._session
        session.tick()
        before, stored = session.row, True
        try:
            command, rest = self._command(line)
            if command == "quit":
                return False
            if command == "help":
                self._print(_HELP)
            elif command == "text":
                self._show()
            elif command == "undo":
                stored = session.undo()
            elif command in ("later", "decline"):
                stored = session.skip(command)
            elif command == "flag":
                if not rest:
                    raise AnswerError("flag needs a note after it, as in: flag the text is cut")
                stored = session.flag(rest)
            elif command == "hints":
                self._show_hints()
            elif line:
                stored = session.answer(self._classes(line))
        except AnswerError as error:
            session.message, stored = f"{error}.", False
        if self._strict and not stored:
            raise AnswerError(f"line {self._read}: {session.message.rstrip('.')}; the lines before it were done")
        if session.message:
            self._print(marked(session.message))
            session.message = ""
        if session.row is not None and session.row is not before:
            self._show()
        return True

    def _command(self, line: str) -> tuple[str, str]:
        """The command of a line and what follows it; "" if the line is an answer. Names of classes come first."""
        if found := _NO_TEXT.search(line):
            raise AnswerError(f"character {found.start() + 1} of the line cannot be read: write it as UTF-8")
        word, _, rest = line.partition(" ")
        if word.startswith(":"):
            name = _SHORT.get(word[1:], word[1:])
            if name not in _COMMANDS:
                raise AnswerError(f"there is no command {shortened(word)!r}; commands are {', '.join(_COMMANDS)}")
            return name, rest.strip()
        if any(line in (each["name"], each["letter"]) for each in self._session.classes):
            return "", ""
        name = _SHORT.get(word, word)
        takes_text = name == "flag"
        return (name, rest.strip()) if name in _COMMANDS and (takes_text or not rest) else ("", "")

    def _classes(self, line: str) -> list[int]:
        """Ids of the classes that a line names.

        Raises:
            AnswerError: it names none, or not exactly one.
        """
        multilabel = self._session.project["multilabel"]
        exact = [each["id"] for each in self._session.classes if each["name"] == line]
        if exact or not multilabel:
            return exact or [self._class(line)]
        if line == "none":
            return []
        parts = line.split("|") if "|" in line else line.replace(",", " ").split()
        if not all(part.isdecimal() for part in parts) and "|" not in line:
            parts = [part.strip() for part in line.split(",")]
        return sorted({self._class(part.strip()) for part in parts if part.strip()})

    def _class(self, text: str) -> int:
        classes = self._session.classes
        for each in classes:
            if text in (each["name"], each["letter"]):
                return int(each["id"])
        if text.isascii() and text.isdecimal():
            if len(text) > 9 or not 1 <= int(text) <= len(classes):
                raise AnswerError(f"there is no class number {shortened(text)}; they go from 1 to {len(classes)}")
            return int(classes[int(text) - 1]["id"])
        found = [each for each in classes if folded(each["name"]).startswith(folded(text))] if folded(text) else []
        same = [each for each in found if folded(each["name"]) == folded(text)]
        if len(same) == 1 or len(found) == 1:
            return int((same or found)[0]["id"])
        if found:
            names = ", ".join(each["name"] for each in found[:5])
            raise AnswerError(f"{shortened(text)!r} is the beginning of {len(found)} classes: {shortened(names, 200)}")
        raise AnswerError(f"there is no class {shortened(text)!r}; ? shows what a line may be")

    # -- output --------------------------------------------------------------------------------------------------------

    def _print(self, text: str) -> None:
        print(text, file=self._output, flush=True)

    def _show(self) -> None:
        """Show the figures, the text and its classes."""
        session = self._session
        row = session.row
        if row is None:
            return
        self._print(f"\n-- {marked('  '.join(status_words(session.header, project=session.project['name'])))}")
        self._print(marked_lines(row["text"]))
        if row["pair"] is not None:
            self._print(f"-- second text\n{marked_lines(row['pair'])}")
        was = row.get("was") or row["answer"]
        if was is not None:
            what = "declined" if was["skipped"] else session.names(was["classes"])
            self._print(f"-- {'was' if row.get('was') else 'your answer'}: {marked(what)}")
        self._print(f"-- {self._choices(session.classes)}")

    def _choices(self, classes: Sequence[dict[str, object]]) -> str:
        if not classes:
            return self._session.without_classes
        shown = classes if len(classes) <= 2 * FEW else classes[:FEW]
        letters = [f" ({each['letter']})" if each["letter"] else "" for each in shown]
        names = [
            f"{n} {marked(str(each['name']))}{x}" for n, (each, x) in enumerate(zip(shown, letters, strict=True), 1)
        ]
        more = f"  and {len(classes) - len(shown)} more, by name" if len(shown) < len(classes) else ""
        return "  ".join(names) + more

    def _show_hints(self) -> None:
        session = self._session
        if session.hints is None:
            session.toggle_hints()
        hints = session.hints
        if hints is None:
            return
        lines = [f"why: {hints['why']}"]
        if hints["guesses"]:
            lines.append(
                "guesses: " + ", ".join(f"{session.names([number])} {p:.2f}" for number, p in hints["guesses"])
            )
        lines += [f"near ({session.names(near['classes'])}): {shortened(near['text'], 200)}" for near in hints["near"]]
        self._print("\n".join(map(marked, lines)))
