"""The state of a pool is a value: a change makes another one, which shares what did not change."""

import pickle
from typing import Any

import pytest
import torch
from test_session import NAMES, splits

from dal.data import Rows, Splits
from dal.learners.probe_learner import ProbeLearner
from dal.session import Session
from dal.session.pool_state import PoolState
from dal.session.row_values import RowValues
from dal.store.events import SKIP
from dal.strategies.random import Random


@pytest.fixture
def session() -> Session:
    return Session(splits(), ProbeLearner(model=None), Random(), hide_labels=True)


def facts(state: PoolState) -> dict[str, Any]:
    """Everything that a state tells."""
    masks = {name: getattr(state, name).tolist() for name in ("labeled", "declined", "asked", "pending", "labels")}
    values = {name: getattr(state, name).all().tolist() for name in ("status", "codes", "weights", "proposed", "given")}
    return masks | values | {"counts": state.counts, "weak": state.weak_rows.tolist()}


def test_old_state_does_not_change_when_the_session_goes_on(session: Session) -> None:
    rows = session.ask(6)
    before = session.pool_state
    known = facts(before)
    session.tell(rows[:4], [0, 1, SKIP, 2])
    session.propose(rows[4:], ["billing", "access"], weight=0.5)
    after = session.pool_state
    assert facts(before) == known
    assert (before.n_pending, before.n_labeled, after.n_pending, after.n_labeled) == (6, 0, 2, 3)
    assert before.pending.tolist() == rows.tolist()
    assert after.pending.tolist() == rows[4:].tolist()
    before.labeled.fill_(True)  # a copy
    assert facts(before) == known


def test_undo_restores_the_state_before_the_answer(session: Session) -> None:
    rows = session.ask(4)
    session.tell(rows[0], "billing")
    before = facts(session.pool_state)
    session.tell(rows[1], "access")
    session.undo()
    assert facts(session.pool_state) == before
    session.tell(rows[0], SKIP, correct=True)
    session.undo()
    assert facts(session.pool_state) == before
    session.undo()
    assert session.pool_state.pending.tolist() == rows.tolist()
    assert session.pool_state.counts == (len(session.pool) - 4, 0, 4, 0, 0)


def test_state_is_pickled_without_its_session(session: Session) -> None:
    rows = session.ask(6)
    session.tell(rows[:4], [0, 1, SKIP, 2])
    session.propose(rows[4:], ["billing", "access"], weight=0.5)
    sent = pickle.dumps(session.pool_state)
    received = pickle.loads(sent)
    assert facts(received) == facts(session.pool_state)
    assert len(sent) < 100 * len(session.pool)
    answered = received.with_answers(rows[4:5], torch.tensor([3]), torch.tensor([False]))
    assert (answered.n_labeled, received.n_labeled, session.pool_state.n_labeled) == (4, 3, 3)


def test_multilabel_state_holds_a_row_of_bools() -> None:
    pool = Rows.from_inputs(torch.randn(20, 4), classes=NAMES, multilabel=True)
    session = Session(Splits(pool), ProbeLearner(model=None), Random(), hide_labels=True)
    rows = session.ask(3)
    session.tell(rows, [["billing", "access"], [], SKIP])
    state = session.pool_state
    assert state.labels.sum(1).sort().values.tolist() == [0, 2]
    assert facts(pickle.loads(pickle.dumps(state))) == facts(state)


@pytest.mark.parametrize("size", [0, 1, 7, 8, 9, 20])
@pytest.mark.parametrize("shape", [(), (3,)])
def test_row_values_in_chunks_are_one_tensor(
    size: int, shape: tuple[int, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("dal.session.row_values._CHUNK_BYTES", 4 * 8 * (3 if shape else 1))
    generator = torch.Generator().manual_seed(size)
    expected = torch.randn(size, *shape, generator=generator)
    values = RowValues.of(expected.clone())
    assert torch.equal(RowValues.full(size, torch.ones(shape)).all(), torch.ones(size, *shape))
    for count in (0, 1, size // 2, size):
        rows = torch.randperm(size, generator=generator)[:count]
        assert torch.equal(values.at(rows), expected[rows])
        new = torch.randn(len(rows), *shape, generator=generator)
        before, kept = values, values.all()
        values = values.changed(rows, new)
        expected[rows] = new
        assert torch.equal(values.all(), expected)
        assert torch.equal(before.all(), kept)
        assert torch.equal(pickle.loads(pickle.dumps(values)).all(), expected)
        assert len(values) == size


def test_change_of_a_row_copies_one_chunk_of_a_large_pool() -> None:
    values = RowValues.of(torch.zeros(1_000_000, dtype=torch.int64))
    changed = values.changed(torch.tensor([500_000]), torch.tensor([1]))
    other = [a is not b for a, b in zip(values._chunks, changed._chunks, strict=True)]
    assert sum(other) == 1
    assert changed._chunks[other.index(True)].nbytes <= 1 << 18
    assert int(changed.all().sum()) == 1


def test_only_kept_rows_are_pending(session: Session) -> None:
    rows = session.ask(10)
    session.tell(rows[:4], session.pool.labels[rows[:4]])
    before = facts(session.pool_state)
    keep = torch.tensor([int(rows[5]), int(rows[0]), int(session.unasked_rows[0])])
    state = session.pool_state.with_only_pending(keep)
    assert state.pending.tolist() == [int(rows[5]), int(session.unasked_rows[0])]  # a label stays
    assert set(state.unasked_rows.tolist()) == set(range(len(session.pool))) - {*rows[:4].tolist(), *keep.tolist()}
    assert state.counts == tuple(torch.bincount(state.status.all(), minlength=5).tolist())
    assert facts(session.pool_state) == before
    none = session.pool_state.with_only_pending(keep[:0])
    assert none.n_pending == 0
    assert len(none.unasked_rows) == len(session.pool) - 4


@pytest.mark.parametrize("count", [0, 1, 40, 200_000, 300_000])  # below and above an eighth of the rows
@pytest.mark.parametrize("single", [False, True])
def test_values_of_few_and_of_many_rows_are_changed_alike(count: int, single: bool) -> None:
    generator = torch.Generator().manual_seed(count)
    before = torch.randint(100, (300_000,), generator=generator)
    rows = torch.randperm(len(before), generator=generator)[:count]
    new = torch.tensor(-1) if single else torch.arange(count)
    expected = before.clone()
    expected[rows] = new
    values = RowValues.of(before.clone())
    changed = values.changed(rows, new)
    assert torch.equal(changed.all(), expected)
    assert torch.equal(values.all(), before)  # is not modified
    again = changed.changed(torch.tensor([7]), torch.tensor([5]))
    assert again.at(torch.tensor([7])).tolist() == [5]
    assert torch.equal(changed.all(), expected)
