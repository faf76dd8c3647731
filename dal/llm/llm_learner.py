"""A language model as a learner: its doubt is known before anything is labeled."""

import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor

from dal.errors import ConfigError, LearnerError, NeedError
from dal.functional.checking import Options
from dal.learner import SILENT, Learner, Monitor, Predictor, Prepared
from dal.learners.inference import Collector
from dal.learners.training.saved_files import check_classes, read_facts, refusing_damage
from dal.learners.training.training_labels import checked_weights
from dal.llm.clients.client import Client, Request
from dal.llm.confidence.answer_consistency import class_logits, vote_logits
from dal.llm.confidence.verbalized import confidences_of, logits_of
from dal.llm.local_models.local_client import LocalClient
from dal.llm.prompting.nearest_examples import ExamplePool
from dal.llm.prompting.prompts import QUESTIONS, Example, Task, as_text
from dal.llm.prompting.reply_parsing import Parsed
from dal.llm.questioner import Questioner
from dal.outputs import Outputs
from dal.store.atomic_files import replacing

Mode = Literal["verbalized", "consistency", "likelihood"]

PROVIDES = {
    "verbalized": frozenset({"logits", "confidence", "dollars", "unread"}),
    "consistency": frozenset({"logits", "mc_logits", "dollars", "unread"}),
    "likelihood": frozenset({"logits"}),
}


class PlainTexts(Prepared):
    """Texts as they are. A batch is `{"texts": [...]}`; a row costs what it has in words.

    Raises:
        LearnerError: the rows may have several labels each.
        DataError: they are no texts.
    """

    def __init__(self, data: Any, most: int) -> None:
        if data.multilabel:
            raise LearnerError(
                "LLMLearner reads one label per text, and these rows may have several: take a learner for multi-label "
                "data, and let people answer, or make one task of each label"
            )
        self.classes, self.multilabel = tuple(data.classes), False
        self.texts = [as_text(item)[:most] for item in data.texts()]
        self.lengths = torch.tensor([max(1, len(text.split())) for text in self.texts], dtype=torch.int64)

    def __len__(self) -> int:
        return len(self.texts)

    def batch(self, rows: Sequence[int]) -> dict[str, Any]:
        """The texts of some rows."""
        return {"texts": [self.texts[row] for row in rows]}


class LLMPredictor(Predictor):
    """A language model with its task and, once something is labeled, examples to choose from."""

    def __init__(self, learner: "LLMLearner", classes: tuple[str, ...], shots: ExamplePool | None) -> None:
        self.learner, self.classes, self.shots = learner, classes, shots

    @property
    def provides(self) -> frozenset[str]:
        """The raw names it computes."""
        return self.learner.label_free if self.shots is None else self.learner.provides

    def outputs(
        self,
        data: Prepared,
        rows: Tensor | None = None,
        names: Iterable[str] = frozenset({"logits"}),
        *,
        seed: int = 0,
        exact: bool = False,
        monitor: Monitor = SILENT,
    ) -> Outputs:
        """The named outputs for `rows`, each text asked once. Neither `seed` nor `exact` changes them.

        The draws are numbered, not seeded: another round that asks about a text again finds the answers in the cache.
        """
        texts = self._texts(data, rows)
        self.unreadable = {}
        if not self.provides:
            raise NeedError("nothing can be read before anything is fitted: examples come from labeled rows")
        collector = Collector(frozenset(names), len(texts), provides=self.provides, multilabel=False)
        if collector.raw and texts:
            collector.put(torch.arange(len(texts)), self._computed(texts, monitor))
        elif collector.raw:
            collector.put(torch.zeros(0, dtype=torch.int64), self._nothing())
        return collector.outputs()

    def answers(
        self, data: Prepared, rows: Tensor | None = None, *, monitor: Monitor = SILENT
    ) -> list[Parsed] | list[list[Parsed]]:
        """What the model said of each row, verbatim and as it was read: one answer, or a list of them (consistency).

        Raises:
            LearnerError: label likelihood asks for no answers.
        """
        texts = self._texts(data, rows)
        if self.learner.mode == "likelihood":
            raise LearnerError("in the mode likelihood the model gives probabilities and no answers")
        if self.learner.mode == "verbalized":
            return self._questioner.verbalized(texts, self.near(texts), monitor=monitor)
        return self._questioner.votes(texts, self.near(texts), self.learner.samples, monitor=monitor)[1]

    def requests(self, texts: Sequence[str], near: Sequence[Sequence[Example]] | None = None) -> list[Request]:
        """What the model would be asked about these texts, with the examples that are `near` or those given."""
        near, asks = self.near(texts) if near is None else near, self._questioner
        if self.learner.mode == "verbalized":
            return asks.verbalized_requests(texts, near)
        if self.learner.mode == "consistency":
            return asks.consistency_requests(texts, near, self.learner.samples)
        return [asks.task.request("likelihood", [text], some) for text, some in zip(texts, near, strict=True)]

    def near(self, texts: Sequence[str]) -> list[list[Example]]:
        """The examples that each text is asked with."""
        return [[] for _ in texts] if self.shots is None else self.shots.near(texts)

    def save(self, folder: Path) -> None:
        """Write `llm.json`: the classes and the labeled examples. The language model is not written."""
        if self.shots is None:
            raise LearnerError("nothing was fitted yet, so there is nothing to save")
        facts = {"classes": list(self.classes), "examples": [[each.text, each.label] for each in self.shots.examples]}
        with replacing(Path(folder)) as target:
            (target / "llm.json").write_text(json.dumps(facts, ensure_ascii=False, indent=1), encoding="utf-8")

    def _texts(self, data: Prepared, rows: Tensor | None) -> list[str]:
        if not isinstance(data, PlainTexts):
            raise LearnerError("these rows were prepared by another learner: use this learner's prepare")
        return data.texts if rows is None else [data.texts[row] for row in rows.tolist()]

    @property
    def _questioner(self) -> Questioner:
        return self.learner.questioner(self.classes)

    def _computed(self, texts: list[str], monitor: Monitor) -> dict[str, Tensor]:
        near, asks, C = self.near(texts), self._questioner, len(self.classes)
        if self.learner.mode == "verbalized":
            answers = asks.verbalized(texts, near, monitor=monitor)
            self.unreadable = {row: each.verbatim for row, each in enumerate(answers) if not each.confidence}
            return {
                "logits": logits_of(answers, C),
                "confidence": confidences_of(answers),
                "dollars": torch.tensor([each.dollars for each in answers]),
                "unread": torch.tensor([float(each.label is None) for each in answers]),
            }
        if self.learner.mode == "consistency":
            votes, said = asks.votes(texts, near, self.learner.samples, monitor=monitor)
            lost = {row: said[row] for row in (votes < 0).all(1).nonzero().flatten().tolist()}
            self.unreadable = {row: "\n\n".join(each.verbatim for each in answers) for row, answers in lost.items()}
            return {
                "logits": class_logits(votes, C),
                "mc_logits": vote_logits(votes, C),
                "dollars": torch.tensor([sum(each.dollars for each in answers) for answers in said]),
                "unread": (votes < 0).float().mean(1),
            }
        options = {"length_normalized": self.learner.length_normalized, "calibrate": self.learner.calibrate}
        return {"logits": asks.log_probs(texts, near, **options, monitor=monitor)}

    def _nothing(self) -> dict[str, Tensor]:
        C = len(self.classes)
        return {
            "logits": torch.zeros(0, C),
            "confidence": torch.zeros(0),
            "dollars": torch.zeros(0),
            "unread": torch.zeros(0),
            "mc_logits": torch.zeros(0, self.learner.samples, C),
        }


@dataclass(frozen=True)
class LLMLearner(Learner):
    """A language model that is asked, not trained: what it says of a text is known before anything is labeled.

    - `verbalized`: one answer with label, confidence and alternatives, read as `logits`, and the stated `confidence`
      (Tian et al. 2023, "Just Ask for Calibration").
    - `consistency`: `samples` answers at a temperature, read as votes in `mc_logits`, with a column more than there are
      classes where an answer could not be read, and their shares in `logits` (Wang et al. 2023, "Self-Consistency").
    - `likelihood`: a local model's own probability of each label, read as `logits`; nothing is parsed.

    `dollars` says what the answers to each text cost when they were bought, also where the cache has them or a copy of
    the text was asked; what was spent in truth is in the client's `bill()`. `unread` is the share of the answers to
    each text in which no label could be read; such an answer counts as maximally unsure.

    All of these are label-free without `examples`. With them, the labels so far are shown in the prompt, so outputs
    must be read from a fitted model and nothing is label-free. Fitting trains nothing.

    Args:
        client: the language model that is asked.
        mode: what it is asked for.
        samples: K, answers to each text (consistency).
        temperature: of these.
        vary: what else differs between them: "wording" of the question, "order" of the labels.
        descriptions: what a class means, for those that need it.
        instructions: further text for the model.
        questions: wordings of the question; the first is asked unless the wording varies.
        examples: how many of the labeled rows are shown, those nearest to the text.
        encoder: encoder whose embeddings say what is near; None compares words.
        template: path of a Jinja file in place of the mode's own; see `dal.llm.prompting.prompts.Task`.
        per_call: texts asked about in one call (verbalized); cheaper, but answers then depend on their neighbours.
        max_tokens: of an answer, for each text of a call.
        max_characters: of a text, the rest is cut off.
        length_normalized: the mean over a label's tokens in place of their sum (likelihood).
        calibrate: divide by what the labels get for texts without content (likelihood).
    """

    client: Client
    mode: Mode = "verbalized"
    samples: int = 5
    temperature: float = 0.7
    vary: tuple[Literal["wording", "order"], ...] = ()
    descriptions: dict[str, str] = field(default_factory=dict, hash=False)
    instructions: str = ""
    questions: tuple[str, ...] = QUESTIONS
    examples: int = 0
    encoder: str | None = None
    template: str | None = None
    per_call: int = 1
    max_tokens: int = 256
    max_characters: int = 8000
    length_normalized: bool = False
    calibrate: bool = False

    unknown = True
    advice = "A start without labels, or the doubt of a large model. Test first whether its confidence says anything."

    def __post_init__(self) -> None:
        options = Options(self)
        least = {"samples": 2, "per_call": 1, "max_tokens": 1, "max_characters": 1, "examples": 0}
        for name, bound in least.items():
            options.whole(name, least=bound, said=f"at least {bound}")
        options.number("temperature", least=0)
        options.flag("length_normalized", "calibrate")
        if self.mode == "consistency" and not self.temperature > 0 and not self.vary:
            raise ConfigError("at temperature 0 all answers are alike: raise it, or set vary")
        if self.mode == "likelihood" and not isinstance(self.client, LocalClient):
            raise ConfigError(f"the mode likelihood needs a LocalClient, not {type(self.client).__name__}")

    @property
    def provides(self) -> frozenset[str]:  # type: ignore[override]
        """What the mode computes."""
        return PROVIDES[self.mode]

    @property
    def label_free(self) -> frozenset[str]:  # type: ignore[override]
        """All of it, unless labeled rows are shown as examples."""
        return frozenset() if self.examples else self.provides

    def questioner(self, classes: tuple[str, ...]) -> Questioner:
        """Who is asked, and what about, for these classes."""
        task = Task(classes, self.descriptions, self.instructions, self.questions, self.template)
        return Questioner(self.client, task, self.temperature, self.max_tokens, self.vary, self.per_call)

    def prepare(self, data: Any) -> PlainTexts:
        """The texts, cut to `max_characters`."""
        return PlainTexts(data, self.max_characters)

    def fit(
        self,
        data: Prepared,
        rows: Tensor,
        labels: Tensor,
        *,
        seed: int,
        weights: Tensor | None = None,
        validation: tuple[Prepared, Tensor] | None = None,
        previous: Predictor | None = None,
        monitor: Monitor = SILENT,
    ) -> LLMPredictor:
        """The same model with these rows as examples to choose from; those of weight 0 are left out.

        Raises:
            LearnerError: the labels are no codes of the classes.
        """
        if not isinstance(data, PlainTexts):
            raise LearnerError("these rows were prepared by another learner: use this learner's prepare")
        if len(labels) and not 0 <= int(labels.min()) <= int(labels.max()) < len(data.classes):
            raise LearnerError(f"labels must be codes from 0 to {len(data.classes) - 1}")
        counts = torch.ones(len(rows)) if weights is None else checked_weights(weights, len(rows))
        shown = zip(rows.tolist(), labels.tolist(), counts.tolist(), strict=True)
        held = tuple(Example(data.texts[row], data.classes[code]) for row, code, weight in shown if weight)
        return LLMPredictor(self, data.classes, ExamplePool(held if self.examples else (), self.examples, self.encoder))

    def untrained(self, data: Prepared) -> LLMPredictor:
        """The model without examples."""
        return LLMPredictor(self, data.classes, None)

    def load(self, folder: Path, data: Prepared) -> LLMPredictor:
        """The examples that were saved, with the model that this learner names.

        Raises:
            LearnerError: they are of other classes, or the file is missing or damaged.
        """
        facts = read_facts(folder, "llm.json", {"classes": list, "examples": list})
        check_classes(folder, facts["classes"], data.classes)
        with refusing_damage(folder, "llm.json"):
            held = tuple(Example(text, label) for text, label in facts["examples"])
            if not all(isinstance(each.text, str) and each.label in data.classes for each in held):
                raise ValueError("an example is not a text and one of the classes")
        return LLMPredictor(self, data.classes, ExamplePool(held, self.examples, self.encoder))
