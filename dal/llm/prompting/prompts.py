"""What a language model is asked: the task, its labels, examples and the text, from templates that can be replaced."""

import random
import re
import uuid
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from dal.errors import ConfigError, did_you_mean, shortened
from dal.llm.clients.client import Request
from dal.llm.prompting.fence import fenced, named, names_of

Kind = Literal["likelihood", "verbalized", "verbalized_many", "consistency"]

#: The question in several wordings, of which the first is asked unless the wording shall vary.
QUESTIONS = (
    "Classify the text into exactly one of the labels below.",
    "Which one of the labels below fits the text best?",
    "Read the text and choose the label from the list that describes it.",
    "Decide to which of the following classes the text belongs.",
    "You sort texts. Name the one label that the text should get.",
)

_FOLDER = Path(__file__).parent / "templates"
#: Stands for every text when a template is tried, in a character that no template has, and what filters make of it.
_PROBE = "\ue0f1"
_PROBED = (_PROBE, "\\ue0f1", "%ee%83%b1")


@dataclass(frozen=True)
class Example:
    """A labeled text that is shown in a prompt."""

    text: str
    label: str


@dataclass(frozen=True)
class Task:
    """What the model is to decide, the same for every text.

    Args:
        labels: the class names.
        descriptions: what a label means, for those that need it.
        instructions: further text for the model, such as what to do with borderline cases.
        questions: wordings of the question; the first is asked unless the wording varies.
        template: path of a Jinja file in place of the one that comes with dal. It may read `question`, `instructions`,
            `labels`, `descriptions`, `examples` (text and label) and `texts`, all of them unable to close the fence
            <text> ... </text>, and may include "task.jinja" and "examples.jinja". What stands before `{{ user_turn }}`
            is the system prompt, which may hold no text; without it, all of the template is the user's turn.

    Raises:
        ConfigError: a description of what is no label, no question, or a template that cannot be read.
    """

    labels: tuple[str, ...]
    descriptions: Mapping[str, str] = field(default_factory=dict)
    instructions: str = ""
    questions: tuple[str, ...] = QUESTIONS
    template: str | None = None

    def __post_init__(self) -> None:
        if unknown := [name for name in self.descriptions if name not in self.labels]:
            known = shortened(", ".join(self.labels), 200)
            hint = did_you_mean(str(unknown[0]), self.labels)
            raise ConfigError(f"descriptions: {shortened(str(unknown[0]))!r} is none of the labels {known}{hint}")
        if not self.questions:
            raise ConfigError("questions must hold at least one wording")

    def prompt(
        self, kind: Kind, texts: Sequence[str], examples: Sequence[Example] = (), *, wording: int = 0, order: int = 0
    ) -> tuple[str, str]:
        """The system prompt and the user's turn for one text, or for several when `kind` is "verbalized_many".

        Args:
            kind: what is asked for.
            texts: untrusted; fenced off, and unable to close the fence.
            examples: shown in this order.
            wording: which of the questions, counted on from the last to the first.
            order: 0 for the labels as they are, any other number for a shuffle of its own.

        Raises:
            ConfigError: the template cannot be used; the file and the line are named.
        """
        parts = self._prompt(kind, texts, examples, wording, order)
        if self.template is not None:
            tried = [Example(_PROBE * 64, example.label) for example in examples]
            system = self._prompt(kind, [_PROBE * 64] * len(texts), tried, wording, order)[0].lower()
            if any(trace in system for trace in _PROBED):
                raise ConfigError(
                    f"the template {self.template} puts a text into the system prompt, where it could give orders: "
                    "move {{ user_turn }} before it"
                )
        return parts

    def _prompt(
        self, kind: Kind, texts: Sequence[str], examples: Sequence[Example], wording: int, order: int
    ) -> tuple[str, str]:
        from dal.llm.prompting.templating import rendered

        mark = f"\0{uuid.uuid4().hex}\0"  # no text can hold it, so that none can move the user's turn
        names = names_of(tuple(self.labels))
        values: dict[str, Any] = {
            "question": self.questions[wording % len(self.questions)],
            "instructions": self.instructions,
            "labels": [names[label] for label in shuffled(self.labels, order)],
            "descriptions": {names[label]: fenced(text) for label, text in self.descriptions.items()},
            "examples": [Example(fenced(each.text), names.get(each.label) or named(each.label)) for each in examples],
            "texts": [fenced(text) for text in texts],
            "user_turn": mark,
        }
        path = _FOLDER / f"{kind}.jinja" if self.template is None else Path(self.template)
        system, found, user = rendered(path, _FOLDER, values).partition(mark)
        if mark in user:
            raise ConfigError(f"the template {path} writes {{{{ user_turn }}}} more than once: keep the first")
        return (_tidy(system), _tidy(user)) if found else ("", _tidy(system))

    def schema(self, kind: Kind) -> dict[str, Any] | None:
        """The JSON schema of the answer; None where none is asked for."""
        label = {"type": "string", "enum": list(self.labels)}
        if kind == "likelihood":
            return None
        if kind == "consistency":
            return _object(label=label)
        percent = {"type": "number", "description": "percent from 0 to 100"}
        other = _object(label=label, probability=percent)
        answer = {
            "label": label,
            "confidence": percent,
            "alternatives": {"type": "array", "items": other},
            "reason": {"type": "string"},
            "ambiguity": {"type": "string"},
        }
        if kind == "verbalized":
            return _object(**answer)
        return _object(answers={"type": "array", "items": _object(number={"type": "integer"}, **answer)})

    def request(
        self,
        kind: Kind,
        texts: Sequence[str],
        examples: Sequence[Example] = (),
        *,
        sample: int = 0,
        temperature: float = 0.0,
        max_tokens: int = 256,
        vary: Sequence[str] = (),
    ) -> Request:
        """The prompt as a request.

        Args:
            kind, texts, examples: as in `prompt`.
            sample: number of the repetition.
            temperature, max_tokens: of the answer.
            vary: "wording" asks sample k by question k, "order" shuffles the labels for each sample but the first.
        """
        system, prompt = self.prompt(
            kind,
            texts,
            examples,
            wording=sample if "wording" in vary else 0,
            order=sample if "order" in vary else 0,
        )
        schema = self.schema(kind)
        return Request(prompt, system, schema, temperature=temperature, max_tokens=max_tokens, sample=sample)


def shuffled(labels: Sequence[str], order: int) -> list[str]:
    """The labels as they are for 0, else in an order of their own for each number.

    >>> shuffled(["a", "b", "c"], 0), shuffled(["a", "b", "c"], 1) == shuffled(["a", "b", "c"], 1)
    (['a', 'b', 'c'], True)
    """
    out = list(labels)
    if order:
        random.Random(order).shuffle(out)
    return out


def as_text(item: Any) -> str:
    """A row's text, or both of a pair, one under the other."""
    return (
        item if isinstance(item, str) else "\n".join(f"{name}: {part}" for name, part in zip("AB", item, strict=True))
    )


def _object(**properties: Any) -> dict[str, Any]:
    """A JSON schema of an object with exactly these properties, as providers want it."""
    return {
        "type": "object",
        "properties": properties,
        "required": list(properties),
        "additionalProperties": False,
    }


def _tidy(text: str) -> str:
    return re.sub(r"\n{3,}", "\n\n", text).strip()
