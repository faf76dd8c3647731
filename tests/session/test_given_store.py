"""A session on a label store of its caller selects rows without storing anything."""

from pathlib import Path

import material
import pytest
import torch
from test_session import splits

from dal.data import Rows, Splits
from dal.errors import AnswerError, ConfigError, SessionError
from dal.learner import Learner, Prepared
from dal.learners.probe_learner import ProbeLearner
from dal.learners.transformer_learner import TransformerLearner
from dal.session import Session
from dal.store.events import Answer
from dal.store.label_store import LabelStore
from dal.strategies.auto import Auto
from dal.strategies.diversity import ClusterCenters, CoreSet
from dal.strategies.random import Random
from dal.strategies.uncertainty import Margin


def told(store: LabelStore, data: Splits, rows: list[int]) -> None:
    names = data.pool.names_of(data.pool.labels[rows])
    store.tell([Answer(data.pool.ids[row], name) for row, name in zip(rows, names, strict=True)])


def test_session_reads_the_store_and_leaves_it_open() -> None:
    data, store = splits(), LabelStore()
    store.ask([data.pool.ids[row] for row in range(10)])
    told(store, data, list(range(6)))
    with Session(data, ProbeLearner(model=None), Margin(), hide_labels=True, store=store) as session:
        assert session.labeled_rows.tolist() == list(range(6))
        assert session.pending.tolist() == [6, 7, 8, 9]
    assert store.answered == 6
    store.close()


def test_folder_and_store_exclude_each_other(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="not both"):
        Session(splits(), ProbeLearner(model=None), Margin(), folder=tmp_path / "run", store=LabelStore())
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("strategy", [Margin(), Random(), CoreSet(), ClusterCenters()])
@pytest.mark.parametrize("candidates", [None, 30])
def test_choose_selects_what_ask_would(strategy, candidates: int | None) -> None:
    options = {"hide_labels": True, "candidates": candidates, "seed": 5}
    session = Session(splits(), ProbeLearner(model=None), strategy, **options)
    rows = session.ask(12, strategy=Random())
    session.tell(rows, session.pool.labels[rows])
    before = session.store.written
    batch = session.choose(None, 7, everywhere=False)
    again = session.choose(None, 7, everywhere=False, keep=[])
    assert session.store.written == before
    asked = session.ask(7)
    assert batch.rows.tolist() == again.rows.tolist() == asked.tolist()
    assert session.last_selection is not None
    assert batch.reason == session.last_selection.reason


def test_choose_states_the_reason_of_the_strategy() -> None:
    session = Session(splits(labels=False), ProbeLearner(model=None), Auto())
    assert session.choose(None, 3).reason == "MaxHerding: 0 labels in 0 classes, which train no model"


def test_pending_rows_that_are_not_kept_may_be_chosen_again() -> None:
    session = Session(splits(), ProbeLearner(model=None), Random(), hide_labels=True)
    rows = session.ask(20)
    session.tell(rows[:5], session.pool.labels[rows[:5]])
    free = session.choose(None, 120, keep=rows[5:8]).rows
    assert sorted(free.tolist()) == sorted(set(range(120)) - set(rows[:8].tolist()))
    assert session.pending.tolist() == rows[5:].tolist()
    asked = session.choose(None, 120).rows  # by default nothing that is pending
    assert not set(asked.tolist()) & set(rows.tolist())
    with pytest.raises(SessionError, match="nothing is left to ask"):
        session.choose(None, 5, keep=list(range(120)))
    with pytest.raises(AnswerError, match="outside the pool"):
        session.choose(None, 5, keep=[120])


def test_session_on_a_store_may_lack_classes() -> None:
    data = Splits(pool=Rows.from_inputs(torch.randn(40, 4)))
    with pytest.raises(ConfigError, match="names no classes"):
        Session(data, ProbeLearner(model=None), ClusterCenters())
    session = Session(data, ProbeLearner(model=None), ClusterCenters(), store=LabelStore())
    assert len(session.choose(None, 5).rows) == 5
    assert session.state.per_class == ()


class CountingLearner(ProbeLearner):
    """A probe that counts its fits."""

    fits = 0

    def fit(self, *arguments, **options):  # type: ignore[no-untyped-def]
        type(self).fits += 1
        return super().fit(*arguments, **options)


def test_model_of_the_same_labels_is_taken_over() -> None:
    data, stores = splits(), [LabelStore() for _ in range(3)]
    for store, count in zip(stores, (8, 8, 12), strict=True):
        store.ask([data.pool.ids[row] for row in range(count)])
        told(store, data, list(range(count)))
    learner, prepared = CountingLearner(model=None), dict[str, Prepared]()
    first, same, other = (
        Session(data, learner, Margin(), hide_labels=True, store=store, prepared=prepared) for store in stores
    )
    CountingLearner.fits = 0
    first.record({"round": 1})
    chosen = first.choose(None, 5).rows
    same.continue_from(first)
    assert same.choose(None, 5).rows.tolist() == chosen.tolist()
    assert CountingLearner.fits == 1
    assert [line["round"] for line in same.metrics] == [1]
    other.continue_from(same)
    other.choose(None, 5)
    assert CountingLearner.fits == 2


def test_warm_start_continues_from_the_model_of_the_session_before(tiny_bert: Path) -> None:
    """The same model as in one session, which trains in both rounds."""
    texts, topics = material.tickets(40)
    data = Splits(pool=Rows.from_inputs(texts, topics, sorted(material.TOPICS)))
    learner: Learner = TransformerLearner(
        model=str(tiny_bert), max_length=12, epochs=1, warm_start=True, device="cpu", precision="float32"
    )
    whole = Session(data, learner, Margin(), hide_labels=True)
    parts = [LabelStore() for _ in range(2)]
    before: Session | None = None
    for store, count in zip(parts, (8, 16), strict=True):
        new = list(range(count - 8, count))
        whole.ask_these(torch.tensor(new), strategy="x")
        whole.tell(new, data.pool.labels[new])
        for start in range(0, count, 8):
            store.ask([data.pool.ids[row] for row in range(start, start + 8)])
            told(store, data, list(range(start, start + 8)))
        session = Session(data, learner, Margin(), hide_labels=True, store=store)
        if before is not None:
            session.continue_from(before)
        rows = torch.arange(20, 40)
        expected = whole.predictor.outputs(whole.prepared, rows, exact=True).logits
        got = session.predictor.outputs(session.prepared, rows, exact=True).logits
        torch.testing.assert_close(got, expected)
        before = session


def test_batches_with_details_of_others_are_read() -> None:
    """The annotation page stores hints with a batch."""
    data, store = splits(), LabelStore()
    details = {"why": "Margin: enough labels", "candidates": 90, "top_up": True, "rows": {"0": {"guesses": []}}}
    store.ask([data.pool.ids[row] for row in range(4)], strategy="Margin", details=details)
    told(store, data, [0, 1, 2, 3])
    session = Session(data, ProbeLearner(model=None), Margin(), hide_labels=True, store=store)
    batch = session.last_selection
    assert batch is not None
    assert (batch.strategy, batch.reason, batch.candidates) == ("Margin", "Margin: enough labels", 90)
    assert len(session.ask(3)) == 3
