"""What a round records for stopping rules."""

import math

import pytest
import torch

from dal.data import Rows
from dal.errors import ConfigError
from dal.outputs import Outputs
from dal.stopping.recorded_figures import StoppingWarning, StopSet, spent
from dal.store.events import SKIP, Answer
from dal.store.label_store import LabelStore


def ids(n: int) -> list[str]:
    return [f"row {i}" for i in range(n)]


def draw(names: list[str], size: int, seed: int = 0, eligible: torch.Tensor | None = None) -> StopSet:
    rows = Rows.from_inputs(torch.zeros(len(names), 1), ids=names)
    known = torch.ones(len(names), dtype=torch.bool) if eligible is None else eligible
    return StopSet.draw(rows.ids, known, size, seed)


def test_stop_set_does_not_depend_on_the_order_of_the_rows() -> None:
    names = ids(900)
    first, second = draw(names, 600), draw(names[::-1], 600)
    assert first.digest != draw(names, 600, seed=1).digest
    assert {names[i] for i in first.rows} == {names[::-1][i] for i in second.rows}
    assert [names[i] for i in first.rows] == [names[::-1][i] for i in second.rows]
    assert first.digest == second.digest


def test_smaller_stop_set_begins_a_larger_one_and_another_seed_draws_another() -> None:
    names = ids(2000)
    assert torch.equal(draw(names, 1000).rows[:500], draw(names, 500).rows)
    assert set(draw(names, 500).rows.tolist()) != set(draw(names, 500, seed=1).rows.tolist())


def test_stop_set_is_drawn_from_the_eligible_rows() -> None:
    eligible = torch.arange(1500) % 2 == 0
    rows = draw(ids(1500), 2000, eligible=eligible).rows
    assert sorted(rows.tolist()) == eligible.nonzero().flatten().tolist()


def test_grown_pool_is_another_pool() -> None:
    assert draw(ids(1000), 500).digest != draw(ids(1001), 500).digest


def test_stop_set_without_a_row_is_refused() -> None:
    with pytest.raises(ConfigError, match="rows that came without a label, and the pool has none"):
        draw(ids(40), 2000, eligible=torch.zeros(40, dtype=torch.bool))


def test_small_stop_set_warns() -> None:
    with pytest.warns(StoppingWarning, match=r"only 40 rows, and one changed prediction counts for 2\.50%"):
        draw(ids(40), 2000)


@pytest.mark.filterwarnings("ignore::dal.stopping.recorded_figures.StoppingWarning")
def test_predictions_and_doubt_are_recorded() -> None:
    stop = draw(ids(4), 100)
    logits = torch.tensor([[9.0, 0, 0], [0, 0, 0], [0, 3.0, 0], [0, 0, 0]])
    labeled = torch.zeros(4, dtype=torch.bool)
    labeled[stop.rows[2]] = True
    found = stop.record(Outputs({"logits": logits}), labeled[stop.rows])
    assert found["predictions"][:1] + found["predictions"][2:3] == [0, 1]
    assert (found["labeled"], found["classes"], found["multilabel"]) == ([2], 3, False)
    p = torch.softmax(logits[0].double(), 0)
    expected = (float(-(p * p.log()).sum()) / math.log(3) + 1 + 1) / 3  # rows 0, 1 and 3
    assert found["uncertainty"] == pytest.approx(expected, rel=1e-5)


@pytest.mark.filterwarnings("ignore::dal.stopping.recorded_figures.StoppingWarning")
def test_several_classes_are_recorded_as_bits() -> None:
    logits = torch.full((3, 70), -4.0)
    logits[0, [0, 69]] = 4.0
    logits[2, 8] = 4.0
    found = draw(ids(3), 100).record(Outputs({"logits": logits}, multilabel=True), torch.ones(3, dtype=torch.bool))
    assert found["predictions"] == [1 + (1 << 69), 0, 1 << 8]
    assert found["uncertainty"] is None


def test_everything_that_was_paid_for_counts() -> None:
    store = LabelStore()
    store.ask(["a", "b", "c"])
    store.tell([Answer("a", "x", cost=0.5, seconds=30), Answer("b", SKIP, seconds=60)])
    store.tell([Answer("c", "x", cost=0.25)])
    store.undo()
    store.tell([Answer("c", "y", cost=0.25)])
    assert spent(store.events(), len(store.answers)) == {
        "answers": 2,
        "dollars": 1.0,
        "unpriced": 1,
        "hours": 90 / 3600,
        "untimed": 2,
    }
