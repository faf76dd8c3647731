"""Ask a language model to classify texts: verbalized answers, repeated answers, or label probabilities."""

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

#: Content-free texts, whose label probabilities measure the bias of the model (Zhao et al. 2021).
CONTENT_FREE = ("N/A", "", "[MASK]")

Examples = Sequence[Sequence[Example]]


@dataclass(frozen=True)
class Questioner:
    """A language model together with a classification task.

    Args:
        client: language model.
        task: labels, descriptions, instructions and template.
        temperature: sampling temperature of repeated answers; verbalized answers use 0.
        max_tokens: maximum number of tokens of an answer.
        vary: further variation between repeated answers: "wording" of the question, "order" of the labels.
        per_call: number of texts per request, for verbalized answers.
    """

    client: Client
    task: Task
    temperature: float = 0.7
    max_tokens: int = 256
    vary: tuple[str, ...] = ()
    per_call: int = 1

    def verbalized(self, texts: Sequence[str], examples: Examples, *, monitor: Monitor = SILENT) -> list[Parsed]:
        """Return one parsed answer per text: label, confidence, alternatives, reason and ambiguity."""
        replies = self.ask(self.verbalized_requests(texts, examples), monitor)
        if self.per_call == 1:
            answers = [replace(parse(each.text, self.task.labels), dollars=each.dollars) for each in replies]
            return self._warn_unparsed(answers)
        sizes = [len(texts[start : start + self.per_call]) for start in range(0, len(texts), self.per_call)]
        parts = [
            [replace(answer, dollars=each.dollars / n) for answer in parse_many(each.text, self.task.labels, n)]
            for each, n in zip(replies, sizes, strict=True)
        ]
        return self._warn_unparsed([answer for part in parts for answer in part])

    def verbalized_requests(self, texts: Sequence[str], examples: Examples) -> list[Request]:
        """Return the requests of `verbalized`: one per text, or one per `per_call` texts with all of their examples."""
        size = self.per_call
        if size == 1:
            pairs = zip(texts, examples, strict=True)
            return [self.task.request("verbalized", [text], near, max_tokens=self.max_tokens) for text, near in pairs]
        requests = []
        for start in range(0, len(texts), size):
            near = dict.fromkeys(each for some in examples[start : start + size] for each in some)
            some, budget = texts[start : start + size], self.max_tokens * size
            # An example must not give away the label of another text in the same request.
            near = dict.fromkeys(each for each in near if each.text not in some)
            requests.append(self.task.request("verbalized_many", some, list(near), max_tokens=budget))
        return requests

    def votes(
        self, texts: Sequence[str], examples: Examples, samples: int, *, monitor: Monitor = SILENT
    ) -> tuple[Tensor, list[list[Parsed]]]:
        """Return K answers per text, as codes (N, K) int64, -1 if not parsed, and as N lists of parsed answers."""
        replies = self.ask(self.consistency_requests(texts, examples, samples), monitor)
        parsed = [replace(parse(each.text, self.task.labels), dollars=each.dollars) for each in replies]
        answers = self._warn_unparsed(parsed)
        codes = [-1 if each.label is None else each.label for each in answers]
        rows = [answers[start : start + samples] for start in range(0, len(answers), samples)]
        return torch.tensor(codes, dtype=torch.int64).view(len(texts), samples), rows

    def consistency_requests(self, texts: Sequence[str], examples: Examples, samples: int) -> list[Request]:
        """Return the requests of `votes`: K consecutive requests per text."""
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
        """Return normalised log-probabilities (nats) of the labels for each text, (N, C).

        Args:
            texts: N texts.
            examples: examples for each text.
            length_normalized: use the mean over the tokens of a label instead of the sum.
            calibrate: divide by the probabilities for content-free texts with the same examples.
            monitor: receives the progress.

        Raises:
            ConfigError: the client does not provide probabilities.
        """
        if not isinstance(self.client, LocalClient):
            raise ConfigError(
                f"{type(self.client).__name__} does not provide label probabilities: use LocalClient, or the mode "
                "verbalized or consistency"
            )
        # The bias of the model depends on the examples in the prompt, so it is measured for each list of them.
        free = list(dict.fromkeys(tuple(near) for near in examples)) if calibrate else []
        asked = [*zip(texts, examples, strict=True), *((text, near) for near in free for text in CONTENT_FREE)]
        requests = [self.task.request("likelihood", [text], near) for text, near in asked]
        distinct, where = _distinct(requests)
        scores = self.client.label_log_probs(
            distinct, self.task.labels, length_normalized=length_normalized, monitor=monitor
        )[where]
        log_probs = scores[: len(texts)].log_softmax(-1)
        if not calibrate:
            return log_probs
        content_free = scores[len(texts) :].view(len(free), len(CONTENT_FREE), scores.shape[1])
        prior = content_free.log_softmax(-1).exp().mean(1).log()  # one per distinct list of examples
        index: Mapping[tuple[Example, ...], int] = {near: i for i, near in enumerate(free)}
        return calibrated(log_probs, prior[[index[tuple(near)] for near in examples]])

    def ask(self, requests: Sequence[Request], monitor: Monitor = SILENT) -> list[Reply]:
        """Return one reply per request. Equal requests are sent once."""
        distinct, where = _distinct(requests)  # duplicates would be billed twice, or wait for one another
        replies = self.client.complete(distinct, monitor=monitor) if distinct else []
        return [replies[i] for i in where]

    def _warn_unparsed(self, answers: list[Parsed]) -> list[Parsed]:
        unparsed = sum(each.label is None for each in answers)
        if unparsed:
            share = 100 * unparsed / len(answers)
            _log.warning(
                "%d of %d answers (%.0f %%) could not be parsed: an oracle declines such rows, a strategy reads them "
                "as uncertain",
                unparsed,
                len(answers),
                share,
            )
        return answers


def _distinct(requests: Sequence[Request]) -> tuple[list[Request], list[int]]:
    """The distinct requests, and the index of each request among them."""
    index: dict[tuple[object, ...], int] = {}
    distinct: list[Request] = []
    where = []
    for request in requests:
        key = (request.system, request.prompt, request.temperature, request.max_tokens, request.sample)
        if key not in index:
            index[key] = len(distinct)
            distinct.append(request)
        where.append(index[key])
    return distinct, where
