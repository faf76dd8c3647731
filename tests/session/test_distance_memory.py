from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import Tensor

from dal.data import Rows, Splits
from dal.functional.k_center import Bounds
from dal.learners.probe_learner import ProbeLearner
from dal.outputs import Outputs
from dal.session import Session
from dal.session.distance_memory import SessionMemory
from dal.store.events import SKIP
from dal.strategies.diversity import CoreSet
from dal.strategies.random import Random
from dal.strategy import Memory, Query, choose

PROBE = ProbeLearner(model=None)
CORE_SET = CoreSet(space="embeddings")


def splits(rows: int = 300, *, repeat: int = 1) -> Splits:
    generator = torch.Generator().manual_seed(3)
    inputs = torch.randn(-(-rows // repeat), 6, generator=generator).repeat(repeat, 1)[:rows]
    return Splits(Rows.from_inputs(inputs, torch.arange(rows) % 3, ["a", "b", "c"]))


def answer(session: Session, rows: Tensor) -> None:
    session.tell(rows, session.pool.labels[rows])


def forgetful(session: Session) -> Session:
    session._acquisition.memory.kept.clear()
    return session


def points_of(session: Session) -> Tensor:
    return session.prepared.inputs


class Spy(Memory):
    """Passes on what a session's memory says, and keeps it to look at."""

    def __init__(self, inner: Memory) -> None:
        self.inner = inner
        self.seen: list[Bounds | None] = []

    def bounds(self, name, pool, labeled):
        self.seen.append(self.inner.bounds(name, pool, labeled))
        return self.seen[-1]

    def keep(self, name, pool, labeled, squared, chosen):
        self.inner.keep(name, pool, labeled, squared, chosen)


@pytest.fixture
def seen(monkeypatch: pytest.MonkeyPatch) -> list[Bounds | None]:
    """What the memory of every query said."""
    found: list[Bounds | None] = []
    of = SessionMemory.of

    def spied(self, *arguments):
        spy = Spy(of(self, *arguments))
        spy.seen = found
        return spy

    monkeypatch.setattr(SessionMemory, "of", spied)
    return found


@pytest.mark.parametrize("candidates", [None, 100])
@pytest.mark.parametrize("repeat", [1, 30])
def test_a_session_that_remembers_chooses_as_one_that_does_not(candidates, repeat):
    data = splits(repeat=repeat)
    ours = Session(data, PROBE, CORE_SET, hide_labels=True, candidates=candidates)
    other = Session(data, PROBE, CORE_SET, hide_labels=True, candidates=candidates)
    for n in (5, 7, 1, 20, 12):
        rows = ours.ask(n)
        assert torch.equal(rows, forgetful(other).ask(n))
        answer(ours, rows)
        answer(other, rows)


def test_a_round_measures_the_new_labels_only(seen):
    session = Session(splits(), PROBE, CORE_SET, hide_labels=True)
    answer(session, session.ask(10))  # with nothing labeled nothing is kept
    answer(session, session.ask(4))
    answer(session, session.ask(5, strategy=Random()))
    session.ask(3)
    assert seen[:2] == [None, None]
    last = seen[-1]
    assert last is not None
    assert (len(last.new), int(last.new.sum())) == (19, 5)  # those that Random chose
    assert bool(last.squared.isfinite().all())


def test_kept_bounds_are_never_less_than_the_distances(seen):
    session = Session(splits(), PROBE, CORE_SET, hide_labels=True, candidates=80)
    answer(session, session.ask(6))
    for _ in range(5):
        answer(session, session.ask(6))
        kept = session._acquisition.memory.kept["embeddings"]
        points = points_of(session).double()
        distances = torch.cdist(points, points[kept.rows], compute_mode="donot_use_mm_for_euclid_dist")
        assert bool((kept.squared >= distances.amin(1).square() * (1 - 1e-9) - 1e-9).all())
    assert any(bounds is not None and bool(bounds.squared.isfinite().any()) for bounds in seen)


@pytest.mark.parametrize("change", ["undo", "decline"])
def test_bounds_to_a_row_that_has_no_label_any_more_are_dropped(seen, change):
    data = splits()
    ours = Session(data, PROBE, CORE_SET, hide_labels=True)
    other = Session(data, PROBE, CORE_SET, hide_labels=True)
    for session in (ours, other):
        for _ in range(2):
            answer(session, session.ask(8))
        rows = session.ask(8)
        answer(session, rows[:-1])
        session.tell(rows[-1:], [SKIP])
        if change == "undo":
            session.undo()  # the row is pending again ...
            session.tell(rows[-1:], ["a"])  # ... and this label stands
    seen.clear()
    rows = ours.ask(10)
    assert (seen[-1] is None) == (change == "decline")
    assert torch.equal(rows, forgetful(other).ask(10))


def test_a_label_that_is_corrected_leaves_the_bounds_as_they_are(seen):
    session = Session(splits(), PROBE, CORE_SET, hide_labels=True)
    for _ in range(2):
        answer(session, session.ask(8))
    row = session.labeled_rows[:1]
    session.tell(row, [(int(session.pool.labels[row]) + 1) % 3], correct=True)
    session.ask(3)
    assert seen[-1] is not None
    assert not bool(seen[-1].new.any())


def test_a_session_made_again_starts_with_an_empty_memory_and_chooses_the_same(tmp_path: Path):
    data, chosen = splits(), []
    for resumed in (False, True):
        folder = tmp_path / str(resumed)
        session = Session(data, PROBE, CORE_SET, hide_labels=True, folder=folder)
        picks = []
        for _ in range(4):
            picks += session.ask(6).tolist()
            answer(session, session.pending)
            if resumed:
                session.close()
                session = Session(data, PROBE, CORE_SET, hide_labels=True, folder=folder)
                assert not session._acquisition.memory.kept
        session.close()
        chosen.append(picks)
    assert chosen[0] == chosen[1]


def test_a_space_that_training_changes_is_not_kept():
    session = Session(splits(), PROBE, CoreSet(space="features"), hide_labels=True)
    answer(session, session.ask(8, strategy=Random()))
    answer(session, session.ask(8))
    assert not session._acquisition.memory.kept


def queries(points: Tensor, labeled: list[int], memory: SessionMemory) -> Query:
    rows = torch.tensor([row for row in range(len(points)) if row not in labeled])
    centers = torch.tensor(labeled)
    pool, near = Outputs({"embeddings": points[rows]}), Outputs({"embeddings": points[centers]})
    memory_of_query = memory.of(rows, centers, pool, near)
    labels = torch.zeros(len(labeled), dtype=torch.int64)
    return Query(pool, 3, torch.Generator(), near, labels=labels, memory=memory_of_query)


def test_a_space_whose_points_moved_is_not_trusted():
    points = torch.randn(50, 3, generator=torch.Generator().manual_seed(0))
    memory = SessionMemory(50, frozenset({"embeddings"}))
    choose(CORE_SET, queries(points, [1, 2], memory))
    later = queries(points + 1, [1, 2, *memory.kept["embeddings"].rows[2:].tolist()], memory)
    assert later.memory.bounds("embeddings", later.pool, later.labeled) is None
    assert not memory.kept


def test_a_part_of_the_pool_is_unknown():
    points = torch.randn(50, 3, generator=torch.Generator().manual_seed(0))
    memory = SessionMemory(50, frozenset({"embeddings"}))
    choose(CORE_SET, queries(points, [1, 2], memory))
    asked = queries(points, [1, 2, *memory.kept["embeddings"].rows[2:].tolist()], memory)
    assert asked.memory.bounds("embeddings", asked.pool, asked.labeled) is not None
    part = replace(asked, pool=asked.pool.take(torch.arange(20).flip(0)))
    assert part.memory.bounds("embeddings", part.pool, part.labeled) is None
    before = memory.kept["embeddings"].squared.clone()
    choose(CORE_SET, part)
    assert torch.equal(memory.kept["embeddings"].squared, before)
