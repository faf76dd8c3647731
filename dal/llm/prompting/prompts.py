"""Prompts for a language model: task, labels, examples and texts, rendered from replaceable templates."""

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

#: Wordings of the question; the first one is used unless the wording varies.
QUESTIONS = (
    "Classify the text into exactly one of the labels below.",
    "Which one of the labels below fits the text best?",
    "Read the text and choose the label from the list that describes it.",
    "Decide to which of the following classes the text belongs.",
    "You sort texts. Name the one label that the text should get.",
)

_FOLDER = Path(__file__).parent / "templates"
#: Placeholder for the texts when a template is checked: a private-use character, and its forms after Jinja filters.
_PROBE = "\ue0f1"
_PROBED = (_PROBE, "\\ue0f1", "%ee%83%b1")


@dataclass(frozen=True)
class Example:
    """A labeled text that is shown in a prompt."""

    text: str
    label: str


@dataclass(frozen=True)
class Task:
    """A classification task for a language model, the same for all texts.

    Args:
        labels: class names.
        descriptions: label -> explanation; labels may be omitted.
        instructions: additional instructions, such as how to treat borderline cases.
        questions: wordings of the question; the first one is used unless the wording varies.
        template: path of a Jinja file that replaces the built-in template. Its variables are `question`,
            `instructions`, `labels`, `descriptions`, `examples` (with `text` and `label`) and `texts`, escaped so that
            they cannot close the fence <text> ... </text>. It may include "task.jinja" and "examples.jinja". The part
            before `{{ user_turn }}` is the system prompt, which must not contain texts; without `{{ user_turn }}`, the
            whole template is the user turn.

    Raises:
        ConfigError: a description has an unknown label, or there are no questions.
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
            raise ConfigError(f"descriptions: {shortened(str(unknown[0]))!r} is not one of the labels {known}{hint}")
        if not self.questions:
            raise ConfigError("questions must hold at least one wording")

    def prompt(
        self, kind: Kind, texts: Sequence[str], examples: Sequence[Example] = (), *, wording: int = 0, order: int = 0
    ) -> tuple[str, str]:
        """Return the system prompt and the user turn for one text, or for several if `kind` is "verbalized_many".

        Args:
            kind: kind of answer.
            texts: untrusted texts, which are fenced and escaped.
            examples: labeled examples, shown in this order.
            wording: index of the question, modulo the number of questions.
            order: 0 for the given order of the labels, any other number as the seed of a shuffle.

        Raises:
            ConfigError: the template is invalid, or puts a text into the system prompt; names the file and the line.
        """
        parts = self._prompt(kind, texts, examples, wording, order)
        if self.template is not None:
            probes = [Example(_PROBE * 64, example.label) for example in examples]
            system = self._prompt(kind, [_PROBE * 64] * len(texts), probes, wording, order)[0].lower()
            if any(trace in system for trace in _PROBED):
                raise ConfigError(
                    f"the template {self.template} puts a text into the system prompt, where it could inject "
                    "instructions: move {{ user_turn }} before it"
                )
        return parts

    def _prompt(
        self, kind: Kind, texts: Sequence[str], examples: Sequence[Example], wording: int, order: int
    ) -> tuple[str, str]:
        from dal.llm.prompting.templating import rendered

        mark = f"\0{uuid.uuid4().hex}\0"  # unpredictable, so that no text can contain it and move the user turn
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
        """Return the JSON schema of the answer; None for "likelihood"."""
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
        """Build a request.

        Args:
            kind, texts, examples: see `prompt`.
            sample: number of the repetition, from 0.
            temperature: sampling temperature.
            max_tokens: maximum number of tokens of the answer.
            vary: "wording" uses question k for sample k; "order" shuffles the labels for every sample but the first.
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
    """Return the labels in their given order for 0, otherwise shuffled with `order` as the seed.

    >>> shuffled(["a", "b", "c"], 0), shuffled(["a", "b", "c"], 1) == shuffled(["a", "b", "c"], 1)
    (['a', 'b', 'c'], True)
    """
    out = list(labels)
    if order:
        random.Random(order).shuffle(out)
    return out


def as_text(item: Any) -> str:
    """Return the text of a row, or the two texts of a pair on separate lines."""
    return (
        item if isinstance(item, str) else "\n".join(f"{name}: {part}" for name, part in zip("AB", item, strict=True))
    )


def _object(**properties: Any) -> dict[str, Any]:
    """A strict JSON schema of an object with exactly these properties, as providers require."""
    return {
        "type": "object",
        "properties": properties,
        "required": list(properties),
        "additionalProperties": False,
    }


def _tidy(text: str) -> str:
    return re.sub(r"\n{3,}", "\n\n", text).strip()
