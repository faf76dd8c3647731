"""The `--dry-run` of `dal run` and `dal compare`: a cost estimate of all language models, without any request."""

import dataclasses
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from dal.commands.terminal import escape_controls
from dal.data import Rows, Splits
from dal.experiments.comparison import Comparison
from dal.experiments.config_parts import config_parts
from dal.experiments.experiment import Experiment
from dal.experiments.results import Cell
from dal.llm.clients.client import Client, PriceBound
from dal.llm.clients.hosted import HostedClient
from dal.llm.llm_learner import LLMLearner
from dal.llm.local_models.local_client import LocalClient
from dal.llm.prompting.prompts import Example, as_text
from dal.strategy import Strategy, all_needs

_SLICE = 1000  # texts whose prompts are in memory at once


@dataclass(frozen=True)
class LearnerRequests:
    """Requests of one learner in a config to a language model, over the whole experiment.

    Attributes:
        place: dotted place in the config, such as "weak_labels.labeler".
        client: client of the language model.
        texts: largest number of distinct texts in the requests.
        requests: largest number of requests.
        price: estimate and upper bound, in dollars. Answers that are already in the cache cost nothing.
    """

    place: str
    client: Client
    texts: int
    requests: int
    price: PriceBound


@dataclass(frozen=True)
class Call:
    """One prediction of a learner for some texts of a part of the data.

    Attributes:
        rows: the part of the data.
        texts: number of its texts.
        uncached: whether new examples in the prompts make cached answers useless.
    """

    rows: Rows
    texts: int
    uncached: bool = False


def dry_run(grid: Experiment | Comparison) -> int:
    """Print the cost of each client and the total, and return the exit code."""
    print(escape_controls("\n".join(shown(list_requests(grid)))))
    return 0


def list_requests(grid: Experiment | Comparison) -> list[LearnerRequests]:
    """The requests of each place of the config that names a language model. Nothing is asked or written.

    Raises:
        ConfigError: the price of a model is not known, or the parts of the experiment do not fit each other.
    """
    experiment, cells = grid.experiment if isinstance(grid, Comparison) else grid, grid.cells
    splits = experiment.load()
    found = learners_of(experiment)
    asked = [_requests_of(at, each, calls(experiment, cells, splits, at, each)) for at, each in found.items()]
    inside = [learner.client for learner in found.values()]
    for place, part in config_parts(experiment):
        if isinstance(part, Client) and not any(part is client for client in inside):
            asked.append(LearnerRequests(place, part, 0, 0, PriceBound(math.nan, math.nan)))
    return asked


def learners_of(experiment: Experiment) -> dict[str, LLMLearner]:
    """The learners that use a language model, by their dotted place in the config."""
    return {place: part for place, part in config_parts(experiment) if isinstance(part, LLMLearner)}


def calls(experiment: Experiment, cells: Sequence[Cell], splits: Splits, place: str, learner: LLMLearner) -> list[Call]:
    """Upper bound of the calls of the learner at this place of the config in these cells, in order."""
    top, pool = place.partition(".")[0], splits.pool
    given = bool(pool.known.any()) and experiment.oracle is not None and not experiment.oracle.hides_labels
    batches = [*([] if given else [experiment.start]), *[experiment.batch] * experiment.rounds]
    if top == "weak_labels" and experiment.weak_labels is not None:
        return [] if given else [Call(pool, experiment.weak_labels.rows) for _ in experiment.seeds]
    if top == "oracle":
        return [Call(pool, n) for _ in cells for n in batches]
    repeated = bool(learner.examples) or not _has_cache(learner.client)
    fits = len(cells) * (experiment.rounds + 1) if repeated else 1
    scored = [Call(part, len(part)) for part in (splits.test, splits.validation) if part is not None]
    read = []
    if top != "successor":
        strategies = [cell.strategy for cell in cells] + [experiment.cold_start]
        # The learner predicts the whole pool where a strategy or the stopping rule reads its outputs.
        predicted = len(pool)
        if experiment.stop is None and not any(_may_read(strategy) for strategy in strategies):
            predicted = min(predicted, len(cells) * (experiment.pool_sample + sum(batches)))
        read = [Call(pool, predicted)]
    return [dataclasses.replace(call, uncached=bool(learner.examples)) for call in [*read, *scored] * fits]


def shown(found: Sequence[LearnerRequests]) -> list[str]:
    """The lines to print: each place under its client, and the total."""
    if not found:
        return ["nothing in this config asks a language model"]
    clients = [each.client for i, each in enumerate(found) if each.client not in [e.client for e in found[:i]]]
    cached = "; answers that are in the cache cost nothing and are left out" if any(map(_has_cache, clients)) else ""
    lines = [f"nothing was asked{cached}"]
    for client in clients:
        mine = [each for each in found if each.client == client]
        lines += [f"\n{type(client).__name__} {client.model}", *(f"  {_line(each)}" for each in mine)]
        lines += [f"  {text}" for text in _of_cap(client, _sum(mine))]
    return [*lines, f"\nin all {_dollars(_sum(found))}"]


# -- where language models are ------------------------------------------------------------------------------------


def _may_read(strategy: Any) -> bool:
    """Whether a strategy, or one nested in it, may read the learner's outputs."""
    return any(bool(all_needs(part)) for _, part in config_parts(strategy) if isinstance(part, Strategy)) or (
        type(strategy).resolve is not Strategy.resolve
    )


# -- what it costs -------------------------------------------------------------------------------------------------


def _requests_of(place: str, learner: LLMLearner, made: Sequence[Call]) -> LearnerRequests:
    texts, requests, low, high = 0, 0, 0.0, 0.0
    for part in {id(call.rows): call.rows for call in made}.values():
        mine = [call for call in made if call.rows is part]
        likely, expensive = _units(learner, part, longest=False), _units(learner, part, longest=True)
        expensive.sort(key=lambda price: -price.high)
        used = 0  # units whose answers are in the cache by now
        for call in mine:
            start = used if _has_cache(learner.client) and not call.uncached else 0
            n = min(math.ceil(call.texts / learner.per_call), len(expensive) - start)
            used = start + n
            requests += n * _repeats(learner)
            low += learner.client.together(likely).low * n / max(1, len(likely))
            high += learner.client.together(expensive[start:used]).high
        texts += min(len(part), sum(call.texts for call in mine))
    return LearnerRequests(place, learner.client, texts, requests, PriceBound(low, high))


def _has_cache(client: Client) -> bool:
    """Whether a repeated request is answered from the cache, free of charge."""
    return isinstance(client, HostedClient)


def _repeats(learner: LLMLearner) -> int:
    return learner.samples if learner.mode == "consistency" else 1


def _units(learner: LLMLearner, rows: Rows, *, longest: bool) -> list[PriceBound]:
    """Price of all requests about each text, or about each `per_call` texts, the longest texts first.

    The examples in the prompts are not known yet: the longest texts stand in for them, or those of median length.
    """
    prepared = learner.prepare(rows)
    texts = sorted(prepared.texts, key=lambda text: -len(text.encode("utf-8", "replace")))
    label = max(rows.classes, key=len)
    middle = 0 if longest else max(0, (len(texts) - learner.examples) // 2)
    near = [Example(as_text(text), label) for text in texts[middle : middle + learner.examples]]
    predictor, prices = learner.untrained(prepared), list[PriceBound]()
    step = _SLICE * learner.per_call
    for start in range(0, len(texts), step):
        some = texts[start : start + step]
        prices += learner.client.price_each(predictor.requests(some, [near] * len(some)))
    k = _repeats(learner)
    return [_added(prices[i : i + k]) for i in range(0, len(prices), k)]


def _added(prices: Sequence[PriceBound]) -> PriceBound:
    return PriceBound(math.fsum(each.low for each in prices), math.fsum(each.high for each in prices))


# -- in words ------------------------------------------------------------------------------------------------------


def _sum(found: Sequence[LearnerRequests]) -> PriceBound:
    return _added([each.price for each in found if not math.isnan(each.price.high)])


def _line(each: LearnerRequests) -> str:
    if math.isnan(each.price.high):
        return f"{each.place}: its requests are not known in advance and are not counted"
    cost = "on this machine" if isinstance(each.client, LocalClient) else _dollars(each.price)
    return f"{each.place}: at most {each.requests:,} requests about {each.texts:,} texts; {cost}"


def _dollars(price: PriceBound) -> str:
    return f"about ${price.low:.4f}, at most ${price.high:.4f}"


def _of_cap(client: Client, price: PriceBound) -> list[str]:
    """A line on the remaining cap of the client; empty without a cap."""
    if not isinstance(client, HostedClient) or client.cap is None:
        return []
    left = max(0.0, client.cap - client.bill().spent)
    ends = "; it may end the run" if price.high > left else ""
    return [f"the cap of ${client.cap:.2f} leaves ${left:.4f} to the ledger {client.ledger!r}{ends}"]
