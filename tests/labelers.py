"""A labeler without a network: knows the tickets' words, is wrong and unsure on stated shares of the rows."""

import hashlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from material import TOPICS
from torch import Tensor

from dal.learner import SILENT, Learner, Monitor, Predictor, Prepared
from dal.outputs import Outputs


class Texts(Prepared):
    """The texts themselves."""

    def __init__(self, texts: Sequence[str], classes: tuple[str, ...], multilabel: bool) -> None:
        self.texts, self.classes, self.multilabel = list(texts), classes, multilabel
        self.lengths = torch.ones(len(self.texts), dtype=torch.int64)

    def __len__(self) -> int:
        return len(self.texts)

    def batch(self, rows: Sequence[int]) -> dict[str, Any]:
        return {"texts": [self.texts[row] for row in rows]}


@dataclass(frozen=True)
class WordLabeler(Learner):
    """Finds the topic by its nouns. Wrong on a share of the texts, and unsure of another; both by the text's hash.

    Args:
        wrong: share of the texts that get the next class.
        unsure: share of the texts that it is 60 % sure of; 95 % of the others.
        mute: share of the texts that it gives no readable answer for.
        price: in dollars, of each row.
        salt: other shares.
    """

    wrong: float = 0.0
    unsure: float = 0.0
    mute: float = 0.0
    price: float = 0.001
    salt: str = ""

    provides = frozenset({"logits", "confidence", "dollars", "unread"})
    label_free = provides

    def prepare(self, data: Any) -> Texts:
        return Texts(data.texts(), data.classes, data.multilabel)

    def fit(self, data: Prepared, rows: Tensor, labels: Tensor, **options: Any) -> Predictor:
        return WordPredictor(self)

    def untrained(self, data: Prepared) -> Predictor:
        return WordPredictor(self)

    def load(self, folder: Path, data: Prepared) -> Predictor:
        return WordPredictor(self)

    def draw(self, text: str, what: str) -> float:
        digest = hashlib.sha256(f"{self.salt} {what} {text}".encode()).digest()
        return int.from_bytes(digest[:8], "big") / 2**64


@dataclass(frozen=True)
class WordPredictor(Predictor):
    labeler: WordLabeler
    unparsed_responses: Mapping[int, str] = field(default_factory=dict, compare=False)

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
        assert isinstance(data, Texts)
        texts = data.texts if rows is None else [data.texts[row] for row in rows.tolist()]
        codes = torch.tensor([self._code(text, data.classes) for text in texts], dtype=torch.int64)
        sure = torch.tensor(
            [0.6 if self.labeler.draw(text, "unsure") < self.labeler.unsure else 0.95 for text in texts]
        )
        probs = ((1 - sure) / (len(data.classes) - 1))[:, None].repeat(1, len(data.classes))
        probs.scatter_(1, codes[:, None], sure[:, None])
        mute = torch.tensor([self.labeler.draw(text, "mute") < self.labeler.mute for text in texts], dtype=torch.bool)
        dollars = torch.full((len(texts),), self.labeler.price)
        found = {
            "logits": probs.log(),
            "confidence": sure.masked_fill(mute, 0.0),
            "dollars": dollars,
            "unread": mute.float(),
        }
        lost = {row: f"<b>I cannot say</b> {texts[row]}" for row in mute.nonzero().flatten().tolist()}
        object.__setattr__(self, "unparsed_responses", lost)
        return Outputs({name: value for name, value in found.items() if name in set(names) | {"logits"}})

    def save(self, folder: Path) -> None:
        folder.mkdir(exist_ok=True)

    def _code(self, text: str, classes: tuple[str, ...]) -> int:
        found = next((topic for topic, (nouns, _) in TOPICS.items() if any(noun in text for noun in nouns)), classes[0])
        wrong = self.labeler.draw(text, "wrong") < self.labeler.wrong
        return (classes.index(found) + wrong) % len(classes)
