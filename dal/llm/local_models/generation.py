"""Answers of a causal model to many prompts at once, each drawn by its own seed."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from hashlib import blake2b
from typing import Any

import torch
from torch import Tensor

from dal.llm.clients.client import Request
from dal.llm.local_models.causal_model import CausalModel, Prefix, PromptState

#: A token without any of these leaves a structured answer as open as it was.
_ENDING = frozenset('"}],')


@dataclass(eq=False)
class GeneratedAnswer:
    """An answer as it grows.

    Attributes:
        request: what was asked.
        generator: of its draws.
        opening: what the model was made to begin with.
        tokens: those that followed so far.
        ended: by the model itself, or once a structured answer is whole.
        closing: what it lacked then.
    """

    request: Request
    generator: torch.Generator
    opening: str
    tokens: list[int] = field(default_factory=list)
    ended: bool = False
    closing: str = ""

    @property
    def done(self) -> bool:
        """Whether nothing more is to come."""
        return self.ended or len(self.tokens) >= self.request.max_tokens

    def text(self, model: CausalModel) -> str:
        """The whole answer, with its opening and closing."""
        return self.opening + model.text(self.tokens) + self.closing


def asked(model: CausalModel, request: Request) -> list[int]:
    """The request as the model's tokens, up to where the model goes on by itself: with the opening of its answer."""
    begun = opening(request.schema)
    return [*model.tokens(request), *(model.label_tokens(begun) if begun else ())]


def generate(
    model: CausalModel, requests: Sequence[Request], prompts: Sequence[Sequence[int]], prefix: Prefix
) -> list[GeneratedAnswer]:
    """One answer per request, in order. Equal prompts are read once.

    At temperature 0 the most probable token is taken. Else every token is drawn by a generator that the request and its
    `sample` number seed, so that neither the other requests nor their order matter, up to rounding: a batch of another
    shape may round the probabilities otherwise in their last digits, which decides where two tokens come that close.

    A request with a schema is answered from its `opening` on, which the model does not choose, until it has all that
    the schema names.

    Args:
        model: the causal model.
        requests: B of them.
        prompts: theirs, as `asked` gives them.
        prefix: what all prompts begin with.
    """
    answers = [
        GeneratedAnswer(request, torch.Generator().manual_seed(seed_of(request)), opening(request.schema))
        for request in requests
    ]
    distinct = list(dict.fromkeys(tuple(prompt) for prompt in prompts))
    where = torch.tensor([distinct.index(tuple(prompt)) for prompt in prompts], device=model.device)
    read, going = model.read(distinct, prefix).take(where), list(answers)
    while going:
        chosen = _chosen(read.log_probs, going)
        for answer, token in zip(going, chosen.tolist(), strict=True):
            _take(model, answer, token)
        left = [row for row, answer in enumerate(going) if not answer.done]
        if len(left) < len(going):
            rows = torch.tensor(left, dtype=torch.int64, device=model.device)
            going, chosen = [going[row] for row in left], chosen[left]
            read = read.take(rows) if left else read
        if going:
            read = _next(model, read, chosen)
    return answers


def seed_of(request: Request) -> int:
    """A number that all of a request decides, its sample number too."""
    facts = [request.system, request.prompt, request.schema, request.temperature, request.max_tokens, request.sample]
    written = json.dumps(facts, sort_keys=True, default=list).encode()
    return int.from_bytes(blake2b(written, digest_size=8).digest()) >> 1


def _chosen(log_probs: Tensor, going: Sequence[GeneratedAnswer]) -> Tensor:
    """The next token of each row, (B,) int64 on the CPU."""
    chosen = log_probs.argmax(-1).cpu()
    for row, answer in enumerate(going):
        if answer.request.temperature > 0:
            chosen[row] = _drawn(log_probs[row], answer)
    return chosen


def _drawn(log_probs: Tensor, answer: GeneratedAnswer) -> Tensor:
    """A token at the request's temperature: the highest of the log-probabilities, a Gumbel number added to each.

    Two roundings of one distribution then almost never draw another token, as they would along a sum over the tokens.
    """
    uniform = torch.rand(len(log_probs), dtype=torch.float64, generator=answer.generator)
    gumbel = -(-uniform.clamp_min(torch.finfo(torch.float64).tiny).log()).log()
    return (log_probs.double().cpu() / answer.request.temperature + gumbel).argmax()


def _take(model: CausalModel, answer: GeneratedAnswer, token: int) -> None:
    if token in model.ends:
        answer.ended = True
        return
    answer.tokens.append(token)
    if answer.request.schema is not None and _ENDING.intersection(model.text([token])):
        end = closing(answer.text(model), answer.request.schema)
        answer.ended, answer.closing = end is not None, end or ""


def _next(model: CausalModel, read: PromptState, tokens: Tensor) -> PromptState:
    column = tokens.to(model.device)[:, None]
    return model.go_on(read, column, torch.ones_like(column))[1]


def opening(schema: Mapping[str, Any] | None) -> str:
    """What every answer to the schema begins with, in JSON, up to where the model has a choice; nothing without one.

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
    """What makes the text a whole answer to the schema: nothing, or a last bracket; None while something is missing.

    An object is whole with its last bracket, or as soon as it has all its properties. Text around it does not matter.

    >>> schema = {"type": "object", "properties": {"label": {"type": "string"}}}
    >>> closing('Sure: {"label": "a}', schema), closing('{"label": "a"', schema), closing('{"label": "a"}', schema)
    (None, '}', '')
    """
    starts = [place for place in (text.find("{"), text.find("[")) if place >= 0]
    if not starts:
        return None
    if _decoded(text, min(starts)) is not None:
        return ""
    found = _decoded(text.rstrip(" \n,") + "}", min(starts))
    wanted = schema.get("properties", {}).keys()
    return "}" if wanted and isinstance(found, dict) and wanted <= found.keys() else None


def _decoded(text: str, start: int) -> Any:
    """The value in JSON that begins there; None where none does."""
    try:
        return json.JSONDecoder().raw_decode(text, start)[0]
    except (ValueError, RecursionError):
        return None
