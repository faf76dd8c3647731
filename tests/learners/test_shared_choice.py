"""Wide outputs stay on the ranks that computed them, and the ranks choose the rows that one process chooses."""

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import material
import pytest
import torch
from thread_jobs import ThreadRanks

from dal.data import Rows
from dal.errors import SelectionError
from dal.learners import rank_outputs, shared_choice
from dal.learners.rank_outputs import RankRows, keeping_wide_outputs
from dal.learners.ranks import sharing_with
from dal.learners.transformer_learner import TransformerLearner
from dal.session.acquisition import select_rows
from dal.session.seeds import Seeds
from dal.strategies.covering import ProbCover
from dal.strategies.diversity import CoreSet
from dal.strategies.gradient import BADGE, ExpectedGradientLength
from dal.strategies.joint import BatchBALD
from dal.strategies.typicality import TypiClust
from dal.strategies.uncertainty import Margin
from dal.strategy import Query, RoundState, Strategy

N, LABELED = 150, 20


def rows() -> Rows:
    texts, labels = material.tickets(N + LABELED)
    names = sorted(material.TOPICS)
    return Rows.from_inputs(texts, torch.tensor([names.index(label) for label in labels]), names)


@pytest.fixture(scope="module")
def model(tiny_bert: Path) -> tuple[Any, Any]:
    """A fitted model, and the prepared rows."""
    learner = TransformerLearner(
        str(tiny_bert), max_length=24, min_steps=3, max_steps=3, samples=6, token_budget=200,
        device="cpu", precision="float32", learning_rate=1e-3, trainer=material.silent_trainer(),
    )  # fmt: skip
    data = learner.prepare(rows())
    return learner.fit(data, torch.arange(N, N + LABELED), rows().labels[N:], seed=1), data


@pytest.fixture
def wide(monkeypatch: pytest.MonkeyPatch) -> None:
    """Features and joint samples of this pool are wide, logits are not."""
    monkeypatch.setattr(rank_outputs, "WIDE", 6 * 4 * (N + 1))


def selected(model: tuple[Any, Any], strategy: Strategy, n: int = 12) -> Any:
    predictor, data = model
    candidates = torch.randperm(N, generator=torch.Generator().manual_seed(1))[: N - 10]
    selection, _, _ = select_rows(
        strategy, candidates, n, predictor=predictor, prepared=data, labeled=torch.arange(N, N + LABELED),
        labels=rows().labels[N:], seeds=Seeds(4, 1), state=RoundState(),
    )  # fmt: skip
    return selection


STRATEGIES = {
    "badge": BADGE(),
    "badge, k-center": BADGE(seeding="k-center"),
    "core-set": CoreSet("features"),
    "coverage": ProbCover(delta=0.3, space="features"),
    "batch-bald": BatchBALD(),
    "gradient length": ExpectedGradientLength(),
}


@pytest.mark.parametrize("size", [2, 3, 4])
@pytest.mark.parametrize("name", STRATEGIES)
def test_ranks_choose_as_one_process(wide, model, name, size):
    strategy, ranks = STRATEGIES[name], ThreadRanks(size)
    expected = selected(model, strategy)
    with sharing_with(ranks):
        found = selected(model, strategy)
    assert ranks.commands[0] == "pass"
    assert ranks.commands[-1] == "choice"
    assert set(ranks.commands[1:-1]) <= {"reading of outputs"}
    assert ranks.returned[1:] == [None] * (size - 1)
    assert found.positions.tolist() == expected.positions.tolist()
    torch.testing.assert_close(found.scores.float(), expected.scores.float(), rtol=1e-4, atol=1e-6)
    assert found.notes.keys() == expected.notes.keys()
    assert all(found.notes[key] == pytest.approx(expected.notes[key], rel=1e-6) for key in expected.notes)


@pytest.mark.parametrize("strategy", [Margin(), BADGE()], ids=["margin", "badge"])
def test_logits_may_be_wide_too(model, strategy, monkeypatch):
    monkeypatch.setattr(rank_outputs, "WIDE", 0)
    expected, ranks = selected(model, strategy), ThreadRanks(3)
    with sharing_with(ranks):
        found = selected(model, strategy)
        assert ranks.commands[-1] == "choice"
        assert found.positions.tolist() == expected.positions.tolist()
        with keeping_wide_outputs(True):
            outputs = model[0].outputs(model[1], None, {"logits", "features", "mc_logits"})
    for name in ("probs", "log_probs", "decisions", "mutual_information"):
        torch.testing.assert_close(getattr(outputs, name), getattr(shared_choice.fetched(outputs), name))
    assert isinstance(outputs.collected["logits"], RankRows)


def test_only_what_rank_0_needs_is_sent_to_it(wide, model):
    predictor, data = model
    ranks = ThreadRanks(3)
    with sharing_with(ranks), keeping_wide_outputs(True):
        outputs = predictor.outputs(data, None, {"features", "logits"})
    expected = predictor.outputs(data, None, {"features", "logits"})
    assert isinstance(outputs.collected["features"], RankRows)
    for part, shapes in ranks.returned:
        assert part._tensors.keys() == {"logits"}
        assert shapes == {"features": tuple(expected.features.shape[1:])}
    assert torch.equal(outputs.logits, expected.logits)
    some = torch.tensor([70, 3, 3, 0])
    assert torch.equal(outputs.take(some).features, expected.features[some])
    assert torch.equal(outputs.grads.b, expected.features)
    with sharing_with(ranks):
        assert not any(
            isinstance(value, RankRows) for value in predictor.outputs(data, None, {"features"}).collected.values()
        )


def test_outputs_are_dropped_with_the_next_pass(wide, model):
    predictor, data = model
    rank_outputs._KEPT.clear()
    with sharing_with(ThreadRanks(2)):
        with keeping_wide_outputs(True):
            outputs = predictor.outputs(data, None, {"features"})
        predictor.outputs(data, None, {"logits"})
        assert len(rank_outputs._KEPT) == 2  # one on each rank, while something may read them
        del outputs
        predictor.outputs(data, None, {"logits"})
    assert not rank_outputs._KEPT


@pytest.mark.parametrize("strategy", [TypiClust(space="features"), Margin()], ids=["needs all rows", "narrow outputs"])
def test_strategies_that_do_not_choose_on_ranks_choose_here(wide, model, strategy):
    ranks = ThreadRanks(2)
    expected = selected(model, strategy)
    with sharing_with(ranks):
        assert selected(model, strategy).positions.tolist() == expected.positions.tolist()
    assert ranks.commands == ["pass"]


@dataclass(frozen=True)
class Reading(CoreSet):
    """Reads the metrics of earlier rounds, which the ranks do not get."""

    def select(self, query: Query) -> Any:
        assert len(query.state.metrics) == 0
        return super().select(query)


def test_strategy_that_reads_metrics_chooses_here(wide, model, caplog):
    expected = selected(model, Reading("features"))
    with sharing_with(ThreadRanks(2)):
        assert selected(model, Reading("features")).positions.tolist() == expected.positions.tolist()
    assert "Reading chooses on rank 0 alone: its strategy reads the metrics of earlier rounds" in caplog.text


def test_error_names_the_positions_in_the_whole_pool(wide, model, monkeypatch):
    predictor, data = model
    compute = type(predictor.module).compute

    def broken(self: Any, batch: Any, *arguments: Any, **options: Any) -> Any:
        values = compute(self, batch, *arguments, **options)
        values["features"][batch["input_ids"].sum(1) == broken_sum] = torch.nan
        return values

    broken_sum = int(data.batch([7])["input_ids"].sum())
    monkeypatch.setattr(type(predictor.module), "compute", broken)
    messages = []
    for sharing in (None, ThreadRanks(3)):
        with sharing_with(sharing), pytest.raises(SelectionError) as caught:
            selected(model, CoreSet("features"))
        messages.append(str(caught.value))
    assert messages[0] == messages[1]


def test_replaced_values_are_not_those_of_the_ranks(wide, model):
    """What a predictor computes from the outputs of its pass is read here."""
    predictor, data = model
    with sharing_with(ThreadRanks(2)), keeping_wide_outputs(True):
        outputs = predictor.outputs(data, torch.arange(N), {"features"})
    doubled = outputs.extended({"features": outputs.blockwise("features").mapped(lambda values: 2 * values)})
    query = Query(doubled, 5, torch.Generator())
    found = shared_choice.choose_where_outputs_lie(CoreSet("features"), query)
    expected = shared_choice.choose_where_outputs_lie(CoreSet("features"), replace(query, pool=outputs))
    torch.testing.assert_close(found.scores, 2 * expected.scores)
