"""A language model as a learner, whose uncertainty is available before any labels."""

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType
from typing import Any, Literal

import torch
from torch import Tensor

from dal.errors import ConfigError, LearnerError, NeedError
from dal.functional.checking import Options
from dal.learner import SILENT, Learner, Monitor, Predictor, Prepared
from dal.learners.collector import Collector
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
    """Rows as plain texts. A batch is `{"texts": [...]}`; the length of a row is its number of words.

    Args:
        data: a `dal.data.Rows`.
        most: maximum number of characters per text; longer texts are truncated.

    Attributes:
        descriptions: class name -> description that the data gives; several texts of a class are joined.

    Raises:
        LearnerError: the rows are multi-label.
        DataError: the rows are not texts.
    """

    def __init__(self, data: Any, most: int) -> None:
        if data.multilabel:
            raise LearnerError(
                "LLMLearner supports one label per text, but these rows are multi-label: use a learner for multi-label "
                "data and let people answer, or define one task per label"
            )
        self.classes, self.multilabel = tuple(data.classes), False
        given = zip(data.classes, data.described, strict=True)
        self.descriptions = {name: "; ".join(texts) for name, texts in given if texts}
        self.texts = [as_text(item)[:most] for item in data.texts()]
        self.lengths = torch.tensor([max(1, len(text.split())) for text in self.texts], dtype=torch.int64)

    def __len__(self) -> int:
        return len(self.texts)

    def batch(self, rows: Sequence[int]) -> dict[str, Any]:
        """Return the texts of some rows."""
        return {"texts": [self.texts[row] for row in rows]}


class LLMPredictor(Predictor):
    """Predictor of a language model with its task and, after fitting, labeled examples.

    Args:
        learner: the learner.
        classes: class names.
        shots: labeled examples to choose from; None before fitting.
        descriptions: class name -> description that the data gives, for classes that the learner does not describe.
    """

    def __init__(
        self,
        learner: "LLMLearner",
        classes: tuple[str, ...],
        shots: ExamplePool | None,
        descriptions: Mapping[str, str] = MappingProxyType({}),
    ) -> None:
        self.learner, self.classes, self.shots, self.descriptions = learner, classes, shots, descriptions

    @property
    def provides(self) -> frozenset[str]:
        """Raw outputs that it computes."""
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
        """Compute the named outputs of `rows`, asking each distinct text once. `seed` and `exact` have no effect.

        Samples are numbered rather than seeded, so that a later round finds the replies for the same text in the cache.
        """
        texts = self._texts(data, rows)
        self.unparsed_responses = {}
        if not self.provides:
            raise NeedError("nothing can be computed before anything is fitted: examples come from labeled rows")
        collector = Collector(frozenset(names), len(texts), provides=self.provides, multilabel=False)
        if collector.raw and texts:
            collector.put(torch.arange(len(texts)), self._computed(texts, monitor))
        elif collector.raw:
            collector.put(torch.zeros(0, dtype=torch.int64), self._empty())
        return collector.outputs()

    def answers(
        self, data: Prepared, rows: Tensor | None = None, *, monitor: Monitor = SILENT
    ) -> list[Parsed] | list[list[Parsed]]:
        """Return the verbatim and parsed reply for each row, or a list of K replies per row (consistency).

        Raises:
            LearnerError: the mode is likelihood, which generates no replies.
        """
        texts = self._texts(data, rows)
        if self.learner.mode == "likelihood":
            raise LearnerError("in the mode likelihood the model computes probabilities and generates no answers")
        if self.learner.mode == "verbalized":
            return self._questioner.verbalized(texts, self.nearest(texts), monitor=monitor)
        return self._questioner.votes(texts, self.nearest(texts), self.learner.samples, monitor=monitor)[1]

    def requests(self, texts: Sequence[str], near: Sequence[Sequence[Example]] | None = None) -> list[Request]:
        """Return the requests for these texts.

        Args:
            texts: N texts.
            near: examples for each text; None for the nearest labeled examples.
        """
        near, asks = self.nearest(texts) if near is None else near, self._questioner
        if self.learner.mode == "verbalized":
            return asks.verbalized_requests(texts, near)
        if self.learner.mode == "consistency":
            return asks.consistency_requests(texts, near, self.learner.samples)
        return [asks.task.request("likelihood", [text], some) for text, some in zip(texts, near, strict=True)]

    def nearest(self, texts: Sequence[str]) -> list[list[Example]]:
        """Return the examples shown in the prompt of each text."""
        return [[] for _ in texts] if self.shots is None else self.shots.nearest(texts)

    def save(self, folder: Path) -> None:
        """Write the classes, their descriptions in the data and the labeled examples to `llm.json`.

        The language model itself is not saved.
        """
        if self.shots is None:
            raise LearnerError("nothing was fitted yet, so there is nothing to save")
        facts: dict[str, Any] = {"classes": list(self.classes)}
        facts["examples"] = [[each.text, each.label] for each in self.shots.examples]
        if self.descriptions:
            facts["descriptions"] = dict(self.descriptions)
        with replacing(Path(folder)) as target:
            (target / "llm.json").write_text(json.dumps(facts, ensure_ascii=False, indent=1), encoding="utf-8")

    def _texts(self, data: Prepared, rows: Tensor | None) -> list[str]:
        if not isinstance(data, PlainTexts):
            raise LearnerError("these rows were prepared by another learner: use this learner's prepare")
        return data.texts if rows is None else [data.texts[row] for row in rows.tolist()]

    @property
    def _questioner(self) -> Questioner:
        return self.learner.questioner(self.classes, self.descriptions)

    def _computed(self, texts: list[str], monitor: Monitor) -> dict[str, Tensor]:
        near, asks, C = self.nearest(texts), self._questioner, len(self.classes)
        if self.learner.mode == "verbalized":
            answers = asks.verbalized(texts, near, monitor=monitor)
            self.unparsed_responses = {row: each.verbatim for row, each in enumerate(answers) if not each.confidence}
            return {
                "logits": logits_of(answers, C),
                "confidence": confidences_of(answers),
                "dollars": torch.tensor([each.dollars for each in answers]),
                "unread": torch.tensor([float(each.label is None) for each in answers]),
            }
        if self.learner.mode == "consistency":
            votes, replies = asks.votes(texts, near, self.learner.samples, monitor=monitor)
            # One readable vote is enough for a prediction, so a row counts as unparsed only if none is.
            unparsed = {row: replies[row] for row in (votes < 0).all(1).nonzero().flatten().tolist()}
            self.unparsed_responses = {
                row: "\n\n".join(each.verbatim for each in some) for row, some in unparsed.items()
            }
            return {
                "logits": class_logits(votes, C),
                "mc_logits": vote_logits(votes, C),
                "dollars": torch.tensor([sum(each.dollars for each in some) for some in replies]),
                "unread": (votes < 0).float().mean(1),
            }
        options = {"length_normalized": self.learner.length_normalized, "calibrate": self.learner.calibrate}
        return {"logits": asks.log_probs(texts, near, **options, monitor=monitor)}

    def _empty(self) -> dict[str, Tensor]:
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
    """Language model that is prompted, not trained, so that its predictions need no labels.

    - `verbalized`: one reply with label, confidence and alternatives, converted to `logits`; the stated confidence is
      in `confidence` (Tian et al. 2023, "Just Ask for Calibration").
    - `consistency`: `samples` replies at a temperature above 0, as votes in `mc_logits`, with an additional column if a
      reply could not be parsed, and as vote shares in `logits` (Wang et al. 2023, "Self-Consistency").
    - `likelihood`: log-probabilities of the labels under a local model, in `logits`; no replies are generated.

    `dollars` is the cost of the replies for each text when they were bought, also if they come from the cache or were
    bought for a copy of the text; the client's `bill()` reports actual spending. `unread` is the share of the replies
    for each text that could not be parsed. Such replies count as maximum uncertainty.

    All outputs are label-free unless `examples` is set. With examples, labeled rows are shown in the prompt, so that
    outputs require a fitted model. Fitting only stores the examples.

    Args:
        client: language model.
        mode: "verbalized", "consistency" or "likelihood".
        samples: number K of replies per text (consistency).
        temperature: sampling temperature of these replies, at least 0.
        vary: further variation between these replies: "wording" of the question, "order" of the labels.
        descriptions: class name -> explanation; classes may be omitted. For these the descriptions of the data are used
            (`data.descriptions`), if it has any.
        instructions: additional instructions in the prompt.
        questions: wordings of the question; the first one is used unless the wording varies.
        examples: number of labeled rows shown in the prompt, those nearest to the text; 0 for none.
        encoder: encoder for the nearest examples; None for TF-IDF similarity.
        template: path of a Jinja file that replaces the mode's template; see `dal.llm.prompting.prompts.Task`.
        per_call: number of texts per request (verbalized). Larger values are cheaper, but answers then depend on the
            other texts of the request.
        max_tokens: maximum number of tokens of a reply, per text of a request.
        max_characters: maximum number of characters per text; longer texts are truncated.
        length_normalized: use the mean over the tokens of a label instead of the sum (likelihood).
        calibrate: divide by the probabilities of the labels for content-free texts (likelihood).
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

    has_unknown_class = True
    reads_descriptions = True
    advice = "Cold start without labels, or the uncertainty of a large model. Test first whether it is informative."

    def __post_init__(self) -> None:
        options = Options(self)
        least = {"samples": 2, "per_call": 1, "max_tokens": 1, "max_characters": 1, "examples": 0}
        for name, bound in least.items():
            options.whole(name, least=bound, description=f"at least {bound}")
        options.number("temperature", least=0)
        options.flag("length_normalized", "calibrate")
        if self.mode == "consistency" and not self.temperature > 0 and not self.vary:
            raise ConfigError("at temperature 0 all answers are identical: raise it, or set vary")
        if self.mode == "likelihood" and not isinstance(self.client, LocalClient):
            raise ConfigError(f"the mode likelihood needs a LocalClient, not {type(self.client).__name__}")

    @property
    def provides(self) -> frozenset[str]:  # type: ignore[override]
        """Raw outputs of the mode."""
        return PROVIDES[self.mode]

    @property
    def label_free(self) -> frozenset[str]:  # type: ignore[override]
        """All raw outputs, or none if labeled rows are shown as examples."""
        return frozenset() if self.examples else self.provides

    def questioner(
        self, classes: tuple[str, ...], descriptions: Mapping[str, str] = MappingProxyType({})
    ) -> Questioner:
        """Build the questioner for these classes.

        Args:
            classes: class names.
            descriptions: class name -> description that the data gives; the learner's own take precedence.
        """
        task = Task(classes, {**descriptions, **self.descriptions}, self.instructions, self.questions, self.template)
        return Questioner(self.client, task, self.temperature, self.max_tokens, self.vary, self.per_call)

    def prepare(self, data: Any) -> PlainTexts:
        """Return the texts, truncated to `max_characters`."""
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
        """Return a predictor with the labeled rows as examples, except rows with weight 0.

        Raises:
            LearnerError: a label is out of range.
        """
        if not isinstance(data, PlainTexts):
            raise LearnerError("these rows were prepared by another learner: use this learner's prepare")
        if len(labels) and not 0 <= int(labels.min()) <= int(labels.max()) < len(data.classes):
            raise LearnerError(f"labels must be codes from 0 to {len(data.classes) - 1}")
        counts = torch.ones(len(rows)) if weights is None else checked_weights(weights, len(rows))
        labeled = zip(rows.tolist(), labels.tolist(), counts.tolist(), strict=True)
        shots = tuple(Example(data.texts[row], data.classes[code]) for row, code, weight in labeled if weight)
        # An empty pool rather than None, which would stand for a predictor that was not fitted.
        pool = ExamplePool(shots if self.examples else (), self.examples, self.encoder)
        return LLMPredictor(self, data.classes, pool, data.descriptions)

    def untrained(self, data: Prepared) -> LLMPredictor:
        """Return a predictor without examples."""
        if not isinstance(data, PlainTexts):
            raise LearnerError("these rows were prepared by another learner: use this learner's prepare")
        return LLMPredictor(self, data.classes, None, data.descriptions)

    def load(self, folder: Path, data: Prepared) -> LLMPredictor:
        """Load the saved examples and descriptions of the data, for use with this learner's language model.

        Raises:
            LearnerError: the classes differ, or the file is missing or damaged.
        """
        facts = read_facts(folder, "llm.json", {"classes": list, "examples": list})
        check_classes(folder, facts["classes"], data.classes)
        with refusing_damage(folder, "llm.json"):
            shots = tuple(Example(text, label) for text, label in facts["examples"])
            if not all(isinstance(each.text, str) and each.label in data.classes for each in shots):
                raise ValueError("an example is not a text with one of the classes")
            descriptions = dict(facts.get("descriptions", {}))
            if not all(name in data.classes and isinstance(text, str) for name, text in descriptions.items()):
                raise ValueError("a description is not a text of one of the classes")
        return LLMPredictor(self, data.classes, ExamplePool(shots, self.examples, self.encoder), descriptions)
