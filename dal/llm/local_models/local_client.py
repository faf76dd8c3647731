"""Client for a local Hugging Face causal model."""

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
    """Local causal language model, which is free of charge and provides exact label probabilities.

    Requests are answered in batches, with the tokenizer's chat template if it has one. The answer to a request with a
    schema starts with a prescribed opening, such as `{"label": "`, and ends once it has all properties; generation is
    not constrained in between. The answer to a request does not depend on the other requests, up to rounding errors
    (see `dal.llm.local_models.generation.generate`).

    Args:
        model: hub name, folder, or `package:NAME/FOLDER` of a causal model with its tokenizer. With `/FILE.gguf` at the
            end, that GGUF file, which is dequantized to `precision`.
        gguf: name of a GGUF file in the folder, as an alternative to `/FILE.gguf`.
        batch: requests per batch.
        precision: precision of weights and computation.
        device: device of the model; "auto" uses a GPU if one is available.
    """

    model: str
    gguf: str | None = None
    batch: int = 16
    precision: Precision = "float32"
    device: str = "auto"

    def __post_init__(self) -> None:
        if type(self.batch) is not int or self.batch < 1:
            raise ConfigError(f"batch must be an integer of at least 1, got {shown(self.batch)}")
        if self.precision not in get_args(Precision):
            raise ConfigError(f"precision must be float32 or bfloat16, got {shown(self.precision)}")

    def complete(self, requests: Sequence[Request], *, monitor: Monitor = SILENT) -> list[Reply]:
        """Return one reply per request, in order.

        Raises:
            LLMError: the model cannot be loaded, or a request exceeds its context length.
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
            rows, started = order[start : start + self.batch], time.perf_counter()
            answers = generate(model, [requests[row] for row in rows], [prompts[row] for row in rows], prefix)
            seconds = (time.perf_counter() - started) / len(rows)
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
        """Return the log-probability (nats) of each label as the answer to each request, (N, C) float32.

        Raises:
            LLMError: the model cannot be loaded, a request exceeds its context length, or two labels have the same
                tokens.
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
        """Return the model, loading it on first use."""
        from dal.llm.local_models.causal_model import load

        return load(self.model, self.gguf, self.device, self.precision)
