"""Texts to a language model and its answers back: verbalized, repeated, or as probabilities of the labels."""

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from dal.errors import ConfigError
from dal.llm.clients.client import Client, Reply, Request
from dal.llm.confidence.likelihood import calibrated
from dal.llm.local_models.local_client import LocalClient
from dal.llm.prompting.prompts import Example, Task
from dal.llm.prompting.reply_parsing import Parsed, parse, parse_many
from dal.monitor import SILENT, Monitor

_log = logging.getLogger("dal")

#: Texts that say nothing: what the model answers to them is what it prefers anyway (Zhao et al. 2021).
CONTENT_FREE = ("N/A", "", "[MASK]")

Examples = Sequence[Sequence[Example]]


@dataclass(frozen=True)
class Questioner:
    """Who is asked, and what about.

    Args:
        client: the language model.
        task: labels, descriptions, instructions, template.
        temperature: of repeated answers; a verbalized one is the most probable.
        max_tokens: of an answer.
        vary: what else differs between repeated answers: "wording", "order" of the labels.
        per_call: texts in one call, for verbalized answers.
    """

    client: Client
    task: Task
    temperature: float = 0.7
    max_tokens: int = 256
    vary: tuple[str, ...] = ()
    per_call: int = 1

    def verbalized(self, texts: Sequence[str], examples: Examples, *, monitor: Monitor = SILENT) -> list[Parsed]:
        """One answer per text: label, confidence, alternatives, reason, ambiguity."""
        if self.per_call == 1:
            replies = self.ask(self.verbalized_requests(texts, examples), monitor)
            return self._told([replace(parse(each.text, self.task.labels), dollars=each.dollars) for each in replies])
        starts = range(0, len(texts), self.per_call)
        replies = self.ask(self.verbalized_requests(texts, examples), monitor)
        sizes = [len(texts[start : start + self.per_call]) for start in starts]
        parts = [
            [replace(answer, dollars=each.dollars / n) for answer in parse_many(each.text, self.task.labels, n)]
            for each, n in zip(replies, sizes, strict=True)
        ]
        return self._told([answer for part in parts for answer in part])

    def verbalized_requests(self, texts: Sequence[str], examples: Examples) -> list[Request]:
        """What `verbalized` asks: one request per text, or per `per_call` texts, with the examples of all of them."""
        size = self.per_call
        if size == 1:
            pairs = zip(texts, examples, strict=True)
            return [self.task.request("verbalized", [text], near, max_tokens=self.max_tokens) for text, near in pairs]
        requests = []
        for start in range(0, len(texts), size):
            near = dict.fromkeys(each for some in examples[start : start + size] for each in some)
            some, budget = texts[start : start + size], self.max_tokens * size
            near = dict.fromkeys(each for each in near if each.text not in some)
            requests.append(self.task.request("verbalized_many", some, list(near), max_tokens=budget))
        return requests

    def votes(
        self, texts: Sequence[str], examples: Examples, samples: int, *, monitor: Monitor = SILENT
    ) -> tuple[Tensor, list[list[Parsed]]]:
        """What K answers to each text say, (N, K) int64 codes, -1 where none can be read, and the answers."""
        replies = self.ask(self.consistency_requests(texts, examples, samples), monitor)
        answers = self._told([replace(parse(each.text, self.task.labels), dollars=each.dollars) for each in replies])
        codes = [-1 if each.label is None else each.label for each in answers]
        rows = [answers[start : start + samples] for start in range(0, len(answers), samples)]
        return torch.tensor(codes, dtype=torch.int64).view(len(texts), samples), rows

    def consistency_requests(self, texts: Sequence[str], examples: Examples, samples: int) -> list[Request]:
        """What `votes` asks: K requests per text, one after the other."""
        return [
            self.task.request(
                "consistency",
                [text],
                near,
                sample=sample,
                temperature=self.temperature,
                max_tokens=self.max_tokens,
                vary=self.vary,
            )
            for text, near in zip(texts, examples, strict=True)
            for sample in range(samples)
        ]

    def log_probs(
        self,
        texts: Sequence[str],
        examples: Examples,
        *,
        length_normalized: bool = False,
        calibrate: bool = False,
        monitor: Monitor = SILENT,
    ) -> Tensor:
        """The model's own log-probabilities (nats) of the labels for each text, (N, C), scaled to 1.

        Args:
            texts, examples: N of each.
            length_normalized: the mean over a label's tokens in place of their sum.
            calibrate: divide by what the labels get for texts without content, with the same examples.
            monitor: watches the texts.

        Raises:
            ConfigError: the client cannot tell probabilities.
        """
        if not isinstance(self.client, LocalClient):
            raise ConfigError(
                f"{type(self.client).__name__} does not tell the probability of a label: use LocalClient, or the mode "
                "verbalized or consistency"
            )
        free = list(dict.fromkeys(tuple(near) for near in examples)) if calibrate else []
        asked = [*zip(texts, examples, strict=True), *((text, near) for near in free for text in CONTENT_FREE)]
        requests = [self.task.request("likelihood", [text], near) for text, near in asked]
        distinct, where = _distinct(requests)
        found = self.client.label_log_probs(
            distinct, self.task.labels, length_normalized=length_normalized, monitor=monitor
        )[where]
        log_probs = found[: len(texts)].log_softmax(-1)
        if not calibrate:
            return log_probs
        prior = (
            found[len(texts) :].view(len(free), len(CONTENT_FREE), found.shape[1]).log_softmax(-1).exp().mean(1).log()
        )
        places: Mapping[tuple[Example, ...], int] = {near: place for place, near in enumerate(free)}
        return calibrated(log_probs, prior[[places[tuple(near)] for near in examples]])

    def ask(self, requests: Sequence[Request], monitor: Monitor = SILENT) -> list[Reply]:
        """One reply per request; equal ones are asked once."""
        distinct, where = _distinct(requests)
        replies = self.client.complete(distinct, monitor=monitor) if distinct else []
        return [replies[place] for place in where]

    def _told(self, answers: list[Parsed]) -> list[Parsed]:
        lost = sum(each.label is None for each in answers)
        if lost:
            share = 100 * lost / len(answers)
            _log.warning("%d of %d answers (%.0f %%) could not be read and count as unsure", lost, len(answers), share)
        return answers


def _distinct(requests: Sequence[Request]) -> tuple[list[Request], list[int]]:
    """The different requests, and where each of all stands among them."""
    places: dict[tuple[object, ...], int] = {}
    distinct: list[Request] = []
    where = []
    for request in requests:
        key = (request.system, request.prompt, request.temperature, request.max_tokens, request.sample)
        if key not in places:
            places[key] = len(distinct)
            distinct.append(request)
        where.append(places[key])
    return distinct, where
