"""A Hugging Face causal model on this machine as a client."""

import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, get_args

from dal.errors import ConfigError, shown
from dal.llm.clients.client import Client, Reply, Request
from dal.monitor import SILENT, Monitor

if TYPE_CHECKING:
    from torch import Tensor

    from dal.llm.local_models.causal_model import CausalModel

Precision = Literal["float32", "bfloat16"]


@dataclass(frozen=True)
class LocalClient(Client):
    """A causal language model that runs here: costs nothing, and tells the exact probability of every label.

    Requests are answered in batches, by the tokenizer's chat template where it has one. The answer to a request with a
    schema is begun for the model, such as `{"label": "`, and ends once it has all properties; in between the model is
    not held to it. The same request gives the same answer, whatever is asked with it, up to rounding (see
    `dal.llm.local_models.generation.generate`).

    Args:
        model: hub name, folder, or `package:NAME/FOLDER` of a causal model with its tokenizer; with `/FILE.gguf` at the
            end, that file of it, which is read into the full precision.
        gguf: name of a GGUF file in that folder, where it does not stand at the end.
        batch: requests at once.
        precision: of weights and passes.
        device: "auto" takes a GPU when there is one.
    """

    model: str
    gguf: str | None = None
    batch: int = 16
    precision: Precision = "float32"
    device: str = "auto"

    def __post_init__(self) -> None:
        if type(self.batch) is not int or self.batch < 1:
            raise ConfigError(f"batch must be at least 1 and whole, got {shown(self.batch)}")
        if self.precision not in get_args(Precision):
            raise ConfigError(f"precision must be float32 or bfloat16, got {shown(self.precision)}")

    def complete(self, requests: Sequence[Request], *, monitor: Monitor = SILENT) -> list[Reply]:
        """One reply per request, in order.

        Raises:
            LLMError: the model cannot be loaded, or a request is longer than what it reads.
        """
        from dal.llm.local_models.generation import asked, generate

        if not requests:
            return []
        model = self.loaded()
        prompts = [asked(model, request) for request in requests]
        prefix, replies = model.prefix(prompts), {}
        monitor.started("answer", len(requests))
        order = sorted(range(len(requests)), key=lambda row: len(prompts[row]))
        for start in range(0, len(order), self.batch):
            rows, began = order[start : start + self.batch], time.perf_counter()
            answers = generate(model, [requests[row] for row in rows], [prompts[row] for row in rows], prefix)
            seconds = (time.perf_counter() - began) / len(rows)
            for row, answer in zip(rows, answers, strict=True):
                replies[row] = Reply(
                    answer.text(model),
                    input_tokens=len(prompts[row]),
                    output_tokens=len(answer.tokens),
                    truncated=not answer.ended,
                    seconds=seconds,
                )
            monitor.advanced(len(rows))
        monitor.finished()
        return [replies[row] for row in range(len(requests))]

    def label_log_probs(
        self,
        requests: Sequence[Request],
        labels: Sequence[str],
        *,
        length_normalized: bool = False,
        monitor: Monitor = SILENT,
    ) -> "Tensor":
        """Log-probability (nats) of each label as the answer to each request, (N, C) float32.

        Raises:
            LLMError: the model cannot be loaded, a request is too long, or the labels are alike for the model.
        """
        from dal.llm.confidence.likelihood import label_ids, label_log_probs

        model = self.loaded()
        return label_log_probs(
            model,
            [model.tokens(request) for request in requests],
            label_ids(model, labels),
            length_normalized=length_normalized,
            batch=self.batch,
            monitor=monitor,
        )

    def loaded(self) -> "CausalModel":
        """The model in memory, loaded when first needed."""
        from dal.llm.local_models.causal_model import load

        return load(self.model, self.gguf, self.device, self.precision)
