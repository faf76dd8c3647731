"""`dal run --dry-run`: what it would cost is said, nothing is asked, and no run exceeds the bound."""

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml
from command import Command, write_tickets
from llm_server import Hit, Server

from dal.commands.dry_run import list_requests
from dal.data import Splits, TextData
from dal.experiments.experiment import Experiment
from dal.learners.probe_learner import ProbeLearner
from dal.llm import AnthropicClient
from dal.llm.clients.client import Request
from dal.llm.clients.hosted import HostedClient
from dal.llm.llm_learner import LLMLearner
from dal.llm.local_models.local_client import LocalClient
from dal.oracles.llm_oracle import LLMOracle
from dal.oracles.router import Router
from dal.oracles.simulated import Simulated
from dal.oracles.weak_labels import LLMWeakLabels
from dal.strategies import ClusterCenters, Margin, Phases, Random

CLASSES = ("access", "billing", "feedback", "shipping")
RATES = {"input": 1.0, "output": 5.0}


@pytest.fixture
def tickets(tmp_path: Path) -> Path:
    return write_tickets(tmp_path / "tickets.csv", 80)


@pytest.fixture
def client(tmp_path: Path) -> AnthropicClient:
    return AnthropicClient(cache=str(tmp_path / "replies.db"))


def experiment(tickets: Path, **changes: Any) -> Experiment:
    data = TextData(str(tickets), id="id", test=0.25)
    options = {"baseline": None, "start": 8, "batch": 4, "rounds": 2, "seeds": [0, 1]} | changes
    return Experiment(data, options.pop("learner", ProbeLearner(None)), options.pop("strategy", Random()), **options)


def asked(learner: LLMLearner, data: Any) -> list[Request]:
    return learner.untrained(learner.prepare(data)).requests(learner.prepare(data).texts)


# -- how much is asked where ---------------------------------------------------------------------------------------


def test_weak_labels_ask_about_their_rows_for_every_seed(tickets: Path, client: AnthropicClient) -> None:
    labeler = LLMLearner(client)
    [found] = list_requests(experiment(tickets, weak_labels=LLMWeakLabels(labeler, rows=10)))
    assert (found.place, found.texts, found.requests) == ("weak_labels.labeler", 20, 20)
    requests = asked(labeler, experiment(tickets).load().pool)
    dearest = sorted((client.price([request]).high for request in requests), reverse=True)[:20]
    assert found.price.high == pytest.approx(sum(dearest))
    assert found.price.low == pytest.approx(client.price(requests).low * 20 / 60)


def test_no_more_than_the_pool_is_paid_for(tickets: Path, client: AnthropicClient) -> None:
    labeler = LLMLearner(client)
    [found] = list_requests(experiment(tickets, weak_labels=LLMWeakLabels(labeler, rows=200)))
    assert (found.texts, found.requests) == (60, 60)
    assert found.price == pytest.approx(client.price(asked(labeler, experiment(tickets).load().pool)))


def test_an_oracle_answers_the_start_and_every_batch_of_every_cell(tickets: Path, client: AnthropicClient) -> None:
    oracle = LLMOracle(LLMLearner(client), hide_labels=True)
    [found] = list_requests(experiment(tickets, oracle=oracle))
    assert (found.place, found.texts) == ("oracle.labeler", 2 * (8 + 4 + 4))
    [found] = list_requests(experiment(tickets, oracle=oracle, baseline=Margin(), seeds=[0]))
    assert found.texts == 2 * (8 + 4 + 4)


def test_labels_that_stand_in_the_data_are_the_start(tmp_path: Path, client: AnthropicClient) -> None:
    file = write_tickets(tmp_path / "part.csv", 80)
    head, *lines = file.read_text().splitlines()
    bare = [line if i < 20 else line.rsplit(",", 1)[0] + "," for i, line in enumerate(lines)]
    file.write_text("\n".join([head, *bare]) + "\n")
    data = TextData(str(file), id="id")
    oracle, weak = LLMOracle(LLMLearner(client)), LLMWeakLabels(LLMLearner(client, instructions="x"), rows=10)
    run = Experiment(data, ProbeLearner(None), Random(), oracle, None, weak_labels=weak, start=8, batch=4, rounds=2)
    assert {each.place: each.texts for each in list_requests(run)} == {"oracle.labeler": 8, "weak_labels.labeler": 0}


def test_every_machine_of_a_router_is_named_by_its_place(tickets: Path, client: AnthropicClient) -> None:
    other = AnthropicClient("claude-opus-4-1", cache=client.cache, prices={"claude-opus-4-1": RATES})
    machines = [LLMOracle(LLMLearner(client), "a"), LLMOracle(LLMLearner(other, mode="consistency", samples=3), "b")]
    found = list_requests(experiment(tickets, oracle=Router(machines, Simulated()), seeds=[0]))
    assert {each.place: (each.texts, each.requests) for each in found} == {
        "oracle.models.0.labeler": (16, 16),
        "oracle.models.1.labeler": (16, 48),
    }


def test_a_learner_is_asked_about_the_whole_pool_where_a_strategy_reads_it(
    tickets: Path, client: AnthropicClient
) -> None:
    learner = LLMLearner(client)
    [found] = list_requests(experiment(tickets, learner=learner, strategy=Margin()))
    assert found.texts == found.requests == 80  # with the test
    splits = experiment(tickets).load()
    both = [client.price(asked(learner, part)) for part in (splits.pool, splits.test)]
    assert found.price == pytest.approx((both[0].low + both[1].low, both[0].high + both[1].high))
    later = Phases(Random(), Margin(), until=12)
    [found] = list_requests(experiment(tickets, learner=learner, strategy=later, pool_sample=0))
    assert found.texts == 80


def test_where_nothing_is_read_it_is_asked_about_what_is_scored(tickets: Path, client: AnthropicClient) -> None:
    [found] = list_requests(experiment(tickets, learner=LLMLearner(client), pool_sample=5, seeds=[0]))
    assert found.texts == 20 + 5 + 16


def test_with_examples_every_round_asks_anew(tickets: Path, client: AnthropicClient) -> None:
    start = Phases(Random(), Margin(), until=8)
    [found] = list_requests(experiment(tickets, learner=LLMLearner(client, examples=2), strategy=start, seeds=[0]))
    assert (found.texts, found.requests) == (80, 3 * 80)


def test_several_texts_to_a_call_are_fewer_requests(tickets: Path, client: AnthropicClient) -> None:
    labeler = LLMLearner(client, per_call=4)
    [found] = list_requests(experiment(tickets, weak_labels=LLMWeakLabels(labeler, rows=10), seeds=[0]))
    assert (found.texts, found.requests) == (10, 3)


def test_a_batch_costs_half(tickets: Path, client: AnthropicClient, tmp_path: Path) -> None:
    cheap = AnthropicClient(cache=client.cache, batch=True)
    [one], [half] = (
        list_requests(experiment(tickets, weak_labels=LLMWeakLabels(LLMLearner(each), rows=60), seeds=[0]))
        for each in (client, cheap)
    )
    assert 0.5 * one.price.high < half.price.high < 0.55 * one.price.high


def test_a_model_of_ones_own_costs_nothing(tickets: Path) -> None:
    labeler = LLMLearner(LocalClient("nowhere"), mode="likelihood")
    [found] = list_requests(experiment(tickets, weak_labels=LLMWeakLabels(labeler, rows=10)))
    assert found.price == (0.0, 0.0)


# -- next to real runs ---------------------------------------------------------------------------------------------


def saying(form: Callable[[Server, Hit], dict[str, Any]]) -> Callable[[Server, Hit], dict[str, Any]]:
    """The form of an answer with a label in it."""

    def made(server: Server, hit: Hit) -> dict[str, Any]:
        body, said = form(server, hit), {"label": CLASSES[hit.number % 4], "confidence": 80}
        if "content" in body:
            body["content"] = [{"type": "text", "text": json.dumps(said)}]
        else:
            body["choices"][0]["message"]["content"] = json.dumps(said)
        return body

    return made


@pytest.mark.parametrize("place", ["weak", "oracle", "router", "learner"])
@pytest.mark.parametrize("mode", ["verbalized", "consistency"])
def test_a_run_asks_and_costs_no_more_than_was_said(
    tickets: Path, asking: Callable[..., HostedClient], server: Server, place: str, mode: Any, tiny_bert: Path
) -> None:
    server.tokens = lambda hit: (len(json.dumps(hit.body)), 40)
    server.forms = {path: saying(form) for path, form in server.forms.items()}
    labeler = LLMLearner(asking(), mode=mode, samples=2, max_tokens=40)
    changes: dict[str, Any] = {
        "weak": {"weak_labels": LLMWeakLabels(labeler, rows=10, choose=ClusterCenters()), "strategy": Margin()},
        "oracle": {"oracle": LLMOracle(labeler, hide_labels=True)},
        "router": {"oracle": Router([LLMOracle(labeler)], Simulated())},
        "learner": {"learner": labeler, "strategy": Margin(), "cold_start": Margin()},
    }[place]
    run = experiment(tickets, **{"learner": ProbeLearner(str(tiny_bert), max_length=16)} | changes, quiet=True)
    [found] = list_requests(run)
    assert not server.hits
    run.run()
    assert 0 < len(server.hits) <= found.requests
    assert 0 < server.dollars(1.0, 5.0) <= found.price.high
    if place == "learner":
        assert len(server.hits) == found.requests
        assert list_requests(run)[0].price == (0.0, 0.0)  # all of it is in the cache


# -- as a command --------------------------------------------------------------------------------------------------


def config(tmp_path: Path, **changes: Any) -> Path:
    asks = {"AnthropicClient": {"cap": 0.001, "cache": str(tmp_path / "replies.db"), "ledger": "mine"}}
    machine = {"LLMOracle": {"labeler": {"LLMLearner": {"client": asks}}}}
    settings = {
        "data": {"path": str(tmp_path / "tickets.csv"), "id": "id", "test": 0.25},
        "learner": {"ProbeLearner": {"model": None}},
        "strategy": "Random",
        "baseline": None,
        "oracle": {"Router": {"models": [machine], "person": "Simulated"}},
        "start": 8,
        "batch": 4,
        "rounds": 2,
        "folder": str(tmp_path / "run"),
    } | changes
    path = tmp_path / "run.yaml"
    path.write_text(yaml.safe_dump(settings))
    return path


def test_the_command_says_it_by_client_and_in_all_and_leaves_nothing_behind(
    tickets: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("ANTHROPIC_API_KEY", raising=False)
    local = {"LLMLearner": {"client": {"LocalClient": {"model": "nowhere"}}, "mode": "likelihood"}}
    path = config(tmp_path, weak_labels={"labeler": local, "rows": 10})
    ended = Command(capsys)("run", path, "--dry-run")
    assert (ended.code, ended.err) == (0, "")
    text = ended.out
    assert text.startswith("nothing was asked; answers that are in the cache cost nothing and are left out\n")
    assert (
        "\n\nLocalClient nowhere\n  weak_labels.labeler: at most 10 requests about 10 texts; on this machine\n" in text
    )
    assert "AnthropicClient claude-haiku-4-5-20251001\n  oracle.models.0.labeler: at most 16 requests" in text
    assert "the cap of $0.00 leaves $0.0010 to the ledger 'mine'; it may end the run" in text
    low, high = map(float, re.search(r"in all about \$([\d.]+), at most \$([\d.]+)", text).groups())  # type: ignore[union-attr]
    assert 0 < low < high
    assert not (tmp_path / "run").exists()
    assert not (tmp_path / "replies.db").exists()


def test_a_client_without_a_cache_is_promised_none(
    tickets: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    local = {"LLMLearner": {"client": {"LocalClient": {"model": "nowhere"}}, "mode": "likelihood"}}
    path = config(tmp_path, weak_labels={"labeler": local, "rows": 10}, oracle=None)
    ended = Command(capsys)("run", path, "--dry-run")
    assert (ended.code, ended.err) == (0, "")
    assert ended.out.startswith("nothing was asked\n")


def test_a_comparison_is_priced_over_all_its_cells(
    tickets: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    options = ("--strategies", "Random,Margin,CoreSet", "--seeds", "1", "--dry-run")
    ended = Command(capsys)("compare", config(tmp_path, baseline="Random"), *options)
    assert (ended.code, ended.err) == (0, "")
    assert "  oracle.models.0.labeler: at most 48 requests" in ended.out  # 3 cells of 8 + 4 + 4 answers
    assert not (tmp_path / "run").exists()
    assert not (tmp_path / "run-compare").exists()


def test_without_a_language_model_the_command_says_so(
    tickets: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    ended = Command(capsys)("run", config(tmp_path, oracle=None), "--dry-run")
    assert (ended.code, ended.out) == (0, "nothing in this config asks a language model\n")


def test_a_price_that_is_not_known_ends_in_one_line(
    tickets: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    labeler = {"LLMLearner": {"client": {"AnthropicClient": {"model": "claude-unheard-of"}}}}
    ended = Command(capsys)(
        "run", config(tmp_path, oracle={"LLMOracle": {"labeler": labeler, "hide_labels": True}}), "--dry-run"
    )
    assert ended.code == 2
    assert ended.err == (
        "dal: error: the price of claude-unheard-of is not known; give prices={claude-unheard-of: {input: dollars per "
        "million tokens, output: ...}}\n"
    )


def test_what_cannot_be_run_is_refused(tickets: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    ended = Command(capsys)("run", config(tmp_path, rounds=100), "--dry-run")
    assert ended.code == 2
    assert ended.err.count("\n") == 1


def test_splits_made_in_python_are_taken(tickets: Path, client: AnthropicClient) -> None:
    splits = TextData(str(tickets), id="id", test=0.25).load()
    assert isinstance(splits, Splits)
    run = Experiment(splits, ProbeLearner(None), Random(), LLMOracle(LLMLearner(client), hide_labels=True), None)  # type: ignore[arg-type]
    assert len(list_requests(Experiment(**{**vars(run), "start": 8, "batch": 4, "rounds": 2}))) == 1
