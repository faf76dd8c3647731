"""Batched text generation with a causal model, with one random generator per request."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from hashlib import blake2b
from typing import Any

import torch
from torch import Tensor

from dal.llm.clients.client import Request
from dal.llm.local_models.causal_model import CausalModel, Prefix

#: Only a token with one of these characters can complete a structured answer.
_ENDING = frozenset('"}],')


@dataclass(eq=False)
class GeneratedAnswer:
    """An answer during its generation.

    Attributes:
        request: the request.
        generator: random generator of its tokens.
        opening: prescribed beginning of the answer.
        tokens: generated tokens so far.
        ended: whether the model ended the answer, or a structured answer is complete.
        closing: text appended to complete a structured answer.
    """

    request: Request
    generator: torch.Generator
    opening: str
    tokens: list[int] = field(default_factory=list)
    ended: bool = False
    closing: str = ""

    @property
    def done(self) -> bool:
        """Whether generation is finished: the answer ended, or has `max_tokens` tokens."""
        return self.ended or len(self.tokens) >= self.request.max_tokens

    def text(self, model: CausalModel) -> str:
        """Return the answer, including its opening and closing."""
        return self.opening + model.text(self.tokens) + self.closing


def asked(model: CausalModel, request: Request) -> list[int]:
    """Return the tokens of a request, including the opening of its answer."""
    prescribed = opening(request.schema)
    return [*model.tokens(request), *(model.label_tokens(prescribed) if prescribed else ())]


def generate(
    model: CausalModel, requests: Sequence[Request], prompts: Sequence[Sequence[int]], prefix: Prefix
) -> list[GeneratedAnswer]:
    """Generate one answer per request, in order. Equal prompts are processed once.

    At temperature 0 the most probable token is chosen. Otherwise each token is sampled with a generator seeded by the
    request and its `sample` number, so that the answer does not depend on the other requests or their order. The only
    exception are rounding errors, which differ between batch shapes and matter if two tokens are almost tied.

    The answer to a request with a schema starts with the prescribed `opening` and ends once it has all properties of
    the schema.

    Args:
        model: causal model.
        requests: B requests.
        prompts: tokens of the requests, from `asked`.
        prefix: common prefix of the prompts.
    """
    answers = [
        GeneratedAnswer(request, torch.Generator().manual_seed(seed_of(request)), opening(request.schema))
        for request in requests
    ]
    distinct = list(dict.fromkeys(tuple(prompt) for prompt in prompts))
    where = torch.tensor([distinct.index(tuple(prompt)) for prompt in prompts], device=model.device)
    state, active = model.read(distinct, prefix).take(where), list(answers)
    while active:
        chosen = _choose(state.log_probs, active)
        for answer, token in zip(active, chosen.tolist(), strict=True):
            _append(model, answer, token)
        left = [row for row, answer in enumerate(active) if not answer.done]
        if len(left) < len(active):
            rows = torch.tensor(left, dtype=torch.int64, device=model.device)
            active, chosen = [active[row] for row in left], chosen[left]
            state = state.take(rows) if left else state
        if active:
            column = chosen.to(model.device)[:, None]
            state = model.go_on(state, column, torch.ones_like(column))[1]
    return answers


def seed_of(request: Request) -> int:
    """Return a seed derived from the whole request, including its sample number."""
    facts = [request.system, request.prompt, request.schema, request.temperature, request.max_tokens, request.sample]
    written = json.dumps(facts, sort_keys=True, default=list).encode()
    return int.from_bytes(blake2b(written, digest_size=8).digest()) >> 1


def _choose(log_probs: Tensor, active: Sequence[GeneratedAnswer]) -> Tensor:
    """The next token of each row, (B,) int64 on the CPU."""
    chosen = log_probs.argmax(-1).cpu()
    for row, answer in enumerate(active):
        if answer.request.temperature > 0:
            # Gumbel-max trick: unlike inverse transform sampling, which sums over the tokens, it almost never turns
            # rounding errors into a different token.
            uniform = torch.rand(log_probs.shape[1], dtype=torch.float64, generator=answer.generator)
            gumbel = -(-uniform.clamp_min(torch.finfo(torch.float64).tiny).log()).log()
            chosen[row] = (log_probs[row].double().cpu() / answer.request.temperature + gumbel).argmax()
    return chosen


def _append(model: CausalModel, answer: GeneratedAnswer, token: int) -> None:
    if token in model.ends:
        answer.ended = True
        return
    answer.tokens.append(token)
    if answer.request.schema is not None and _ENDING.intersection(model.text([token])):
        end = closing(answer.text(model), answer.request.schema)
        answer.ended, answer.closing = end is not None, end or ""


def opening(schema: Mapping[str, Any] | None) -> str:
    """Return the JSON text with which every answer to a schema begins; empty without a schema.

    >>> opening({"type": "object", "properties": {"label": {"type": "string"}, "reason": {"type": "string"}}})
    '{"label": "'
    """
    match schema or {}:
        case {"type": "object", "properties": properties} if properties:
            name, value = next(iter(properties.items()))
            return f"{{{json.dumps(name)}: {opening(value)}".rstrip()
        case {"type": "array", "items": items}:
            return "[" + opening(items)
        case {"type": "string"}:
            return '"'
    return ""


def closing(text: str, schema: Mapping[str, Any]) -> str | None:
    """Return the text that completes an answer to a schema: nothing, or a bracket. None if the answer is incomplete.

    An object is complete with its closing bracket, or once it has all properties. Text around it is ignored.

    >>> schema = {"type": "object", "properties": {"label": {"type": "string"}}}
    >>> closing('Sure: {"label": "a}', schema), closing('{"label": "a"', schema), closing('{"label": "a"}', schema)
    (None, '}', '')
    """
    starts = [start for start in (text.find("{"), text.find("[")) if start >= 0]
    if not starts:
        return None
    if _decoded(text, min(starts)) is not None:
        return ""
    closed = _decoded(text.rstrip(" \n,") + "}", min(starts))
    required = schema.get("properties", {}).keys()
    return "}" if required and isinstance(closed, dict) and required <= closed.keys() else None


def _decoded(text: str, start: int) -> Any:
    """The JSON value that begins at `start`; None if there is none."""
    try:
        return json.JSONDecoder().raw_decode(text, start)[0]
    except (ValueError, RecursionError):
        return None
