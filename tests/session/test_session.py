import logging
import os
import signal
import subprocess
import sys
import threading
import tracemalloc
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import material
import pytest
import torch
from torch import Tensor

from dal.data import Rows, Splits
from dal.errors import AnswerError, BusyError, ConfigError, LearnerError, NeedError, SessionError
from dal.learner import SILENT, Monitor, Predictor, Prepared
from dal.learners.probe_learner import ProbeLearner
from dal.learners.probe_predictor import ProbePredictor
from dal.outputs import Outputs
from dal.session import Session
from dal.session.seeds import Seeds, Stream
from dal.store.events import SKIP, Answer
from dal.store.label_store import LabelStore
from dal.strategies.composition import Phases
from dal.strategies.diversity import ClusterCenters, CoreSet
from dal.strategies.random import Random
from dal.strategies.uncertainty import Entropy, Margin
from dal.strategy import Query, ScoreStrategy, Strategy

NAMES = ["billing", "access", "shipping", "feedback"]


def splits(n: int = 120, *, labels: bool = True, spread: float = 2.0) -> Splits:
    inputs, truth = material.clusters(n, spread=spread)
    test, answers = material.clusters(50, seed=1, spread=spread)
    pool = Rows.from_inputs(inputs, truth if labels else None, NAMES)
    return Splits(pool, Rows.from_inputs(test, answers, NAMES))


@dataclass(frozen=True)
class Counting(ProbeLearner):
    """The probe, counting what it is asked to do."""

    model: str | None = None

    @property
    def counts(self) -> dict[str, list[Any]]:
        return COUNTS

    def fit(self, data: Prepared, rows: Tensor, labels: Tensor, **options: Any) -> ProbePredictor:
        COUNTS["fits"].append((rows.tolist(), labels.tolist(), options["seed"]))
        fitted = super().fit(data, rows, labels, **options)
        fitted.__class__ = CountingPredictor
        return fitted

    def load(self, folder: Path, data: Prepared) -> ProbePredictor:
        COUNTS["loads"].append(folder)
        return super().load(folder, data)

    def untrained(self, data: Prepared) -> ProbePredictor:
        COUNTS["untrained"].append(1)
        return super().untrained(data)


class CountingPredictor(ProbePredictor):
    def outputs(
        self,
        data: Prepared,
        rows: Tensor | None = None,
        names: Iterable[str] = frozenset({"logits"}),
        *,
        seed: int = 0,
        exact: bool = False,
        monitor: Monitor = SILENT,
    ) -> Outputs:
        COUNTS["passes"].append([] if rows is None else rows.tolist())
        return super().outputs(data, rows, names, seed=seed, exact=exact, monitor=monitor)


COUNTS: dict[str, list[Any]] = {}


@pytest.fixture(autouse=True)
def counts() -> dict[str, list[Any]]:
    COUNTS.clear()
    COUNTS.update({"fits": [], "passes": [], "loads": [], "untrained": []})
    return COUNTS


@pytest.fixture
def data() -> Splits:
    return splits()


@pytest.fixture
def opened() -> Iterator[Callable[..., Session]]:
    sessions = []

    def make(*arguments: Any, **options: Any) -> Session:
        sessions.append(Session(*arguments, **options))
        return sessions[-1]

    yield make
    for session in sessions:
        session.close()


def answered(session: Session, n: int = 20) -> Tensor:
    rows = session.ask(n, strategy=Random())
    session.tell(rows, session.pool.labels[rows])
    return rows


# -- asking --------------------------------------------------------------------------------------------------------


def test_random_causes_no_fit_and_no_pass(data: Splits, counts: dict[str, list[Any]]) -> None:
    session = Session(data, Counting(), Random(), hide_labels=True)
    for _ in range(3):
        answered(session)
    assert counts == {"fits": [], "passes": [], "loads": [], "untrained": []}


def test_reading_label_free_names_causes_no_fit(data: Splits, counts: dict[str, list[Any]]) -> None:
    session = Session(data, Counting(), ClusterCenters(), hide_labels=True)
    assert len(session.ask(10)) == 10
    assert counts["fits"] == []
    assert len(counts["untrained"]) == 1


def test_a_round_is_one_fit_and_one_pass_over_the_candidates(data: Splits, counts: dict[str, list[Any]]) -> None:
    session = Session(data, Counting(), Margin(), hide_labels=True)
    first = answered(session)
    rows = session.ask(10)
    assert len(counts["fits"]) == 1
    (seen,) = counts["passes"]
    assert sorted([*seen, *first.tolist()]) == list(range(120))
    assert set(rows.tolist()) <= set(seen)


def test_labeled_rows_join_the_pass_only_when_declared(data: Splits, counts: dict[str, list[Any]]) -> None:
    session = Session(data, Counting(), CoreSet(), hide_labels=True)
    answered(session)
    session.ask(10)
    (seen,) = counts["passes"]
    assert sorted(seen) == list(range(120))


def test_while_rows_are_pending_those_are_asked_whatever_n_is(data: Splits) -> None:
    session = Session(data, Counting(), Random(), hide_labels=True)
    rows = session.ask(5)
    session.tell(rows[:2], [NAMES[0]] * 2)
    assert torch.equal(session.ask(50), rows[2:])
    assert session.round == 1


def test_more_than_is_left_gives_what_is_left_and_then_an_error() -> None:
    session = Session(splits(12), Counting(), Random(), hide_labels=True)
    rows = session.ask(50)
    assert sorted(rows.tolist()) == list(range(12))
    session.tell(rows, [0] * 11 + [SKIP])
    with pytest.raises(SessionError, match="nothing is left to ask: all 12 rows"):
        session.ask(1)


def test_asking_for_no_rows_is_refused(data: Splits) -> None:
    with pytest.raises(SessionError, match="at least 1"):
        Session(data, Counting(), Random(), hide_labels=True).ask(0)


def test_candidates_are_drawn_before_the_pass(data: Splits, counts: dict[str, list[Any]]) -> None:
    session = Session(data, Counting(), Margin(), hide_labels=True, candidates=30)
    answered(session)
    session.ask(10)
    assert len(counts["passes"][0]) == 30
    assert session.last_selection is not None
    assert session.last_selection.candidates == 30


def test_uncertainty_with_nothing_labeled_is_refused_with_advice(data: Splits) -> None:
    session = Session(data, Counting(), Margin(), hide_labels=True)
    with pytest.raises(SessionError, match=r"Margin reads probs of a trained model.*Phases\(first=ClusterCenters"):
        session.ask(5)
    assert session.round == 0


def test_phases_start_cold_and_then_hand_over(data: Splits) -> None:
    session = Session(data, Counting(), Phases(ClusterCenters(), Margin(), until=20), hide_labels=True)
    acted = []
    for n in (20, 10):
        rows = session.ask(n)
        session.tell(rows, data.pool.labels[rows])
        assert session.last_selection is not None
        acted.append(session.last_selection.strategy)
    assert acted == ["ClusterCenters", "Margin"]


def test_labels_in_the_data_are_the_starting_set(data: Splits) -> None:
    labels = data.pool.labels.clone()
    labels[30:] = -1
    known = Splits(Rows.from_inputs(data.pool.inputs, labels, NAMES), data.test)
    session = Session(known, Counting(), Margin())
    assert session.labeled_rows.tolist() == list(range(30))
    assert session.given == 30
    assert int(session.ask(10).min()) >= 30
    hidden = Session(known, Counting(), Random(), hide_labels=True)
    assert len(hidden.labeled_rows) == 0


def test_same_seed_same_choices_and_other_seed_others(data: Splits) -> None:
    def choices(seed: int) -> list[list[int]]:
        session = Session(data, Counting(), Margin(), hide_labels=True, seed=seed, candidates=50)
        return [answered(session).tolist(), session.ask(10).tolist()]

    assert choices(1) == choices(1)
    assert choices(1) != choices(2)


def test_seeds_differ_for_every_seed_round_and_stream() -> None:
    numbers = {Seeds(s, r).number(stream) for s in range(5) for r in range(5) for stream in Stream}
    assert len(numbers) == 5 * 5 * len(Stream)


def test_scores_and_notes_are_kept_with_the_questions(data: Splits, tmp_path: Path) -> None:
    with Session(data, Counting(), CoreSet(), hide_labels=True, folder=tmp_path) as session:
        answered(session)
        session.ask(6)
        before = session.last_selection
    with Session(data, Counting(), CoreSet(), hide_labels=True, folder=tmp_path) as session:
        after = session.last_selection
    assert before is not None
    assert after is not None
    assert torch.equal(before.rows, after.rows)
    assert before.notes == after.notes
    assert before.notes
    assert (before.strategy, before.candidates, before.round) == (after.strategy, after.candidates, after.round)
    assert before.scores is not None
    assert after.scores is not None
    assert torch.equal(before.scores, after.scores)


@dataclass(frozen=True)
class Greedy(Strategy):
    """Reads what nobody provides."""

    needs = frozenset({"surprisal", "logits"})

    def select(self, query: Query) -> Tensor:
        return torch.arange(query.n)


def test_need_that_the_learner_does_not_provide_is_refused_at_once(data: Splits, tmp_path: Path) -> None:
    with pytest.raises(
        NeedError, match=r"Greedy needs surprisal, which Counting does not provide; it provides .*logits"
    ):
        Session(data, Counting(), Greedy(), folder=tmp_path / "run")
    with pytest.raises(NeedError, match=r"Random\+Greedy needs surprisal"):
        Session(data, Counting(), Phases(Random(), Greedy()), folder=tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_strategy_that_is_not_for_multilabel_is_refused_at_once() -> None:
    pool = Rows.from_inputs(torch.randn(10, 3), classes=NAMES, multilabel=True)
    with pytest.raises(NeedError, match="Greedy is not defined for multi-label"):
        Session(Splits(pool), Counting(), Greedy())


def test_data_without_class_names_is_refused() -> None:
    with pytest.raises(ConfigError, match="names no classes"):
        Session(Splits(Rows.from_inputs(["a", "b"])), Counting(), Random())


def test_batch_of_near_duplicates_is_reported(caplog: pytest.LogCaptureFixture) -> None:
    texts = ["my parcel is late again today"] * 8 + ["the invoice is wrong", "a lovely menu", "login refused", "hi"]
    pool = Rows.from_inputs(texts, classes=NAMES)
    session = Session(Splits(pool), Counting(), Random())
    with caplog.at_level(logging.WARNING, "dal"):
        session.ask(12)
    assert session.last_selection is not None
    assert session.last_selection.near_duplicates == pytest.approx(8 / 12)
    assert "67% of the 12 rows that Random chose have a near-duplicate" in caplog.text


# -- reduced precision ---------------------------------------------------------------------------------------------


class Rounded(CountingPredictor):
    """Logits rounded to a twentieth, unless exact ones are wanted: a pass in reduced precision."""

    approximate = True

    def outputs(self, *arguments: Any, **options: Any) -> Outputs:
        COUNTS.setdefault("exact", []).append(options.get("exact", False))
        outputs = super().outputs(*arguments, **options)
        return outputs if options.get("exact") else Outputs({"logits": (outputs.logits * 20).round() / 20})


@dataclass(frozen=True)
class Approximate(Counting):
    def fit(self, data: Prepared, rows: Tensor, labels: Tensor, **options: Any) -> ProbePredictor:
        fitted = super().fit(data, rows, labels, **options)
        fitted.__class__ = Rounded
        return fitted


def test_reduced_precision_is_rechecked_so_that_picks_are_the_exact_ones(counts: dict[str, list[Any]]) -> None:
    data = splits(400, spread=4.0)
    exact = Session(data, Counting(), Margin(), hide_labels=True)
    reduced = Session(data, Approximate(), Margin(), hide_labels=True)
    answered(exact)
    answered(reduced)
    expected = exact.ask(5)
    counts["passes"].clear()
    assert torch.equal(reduced.ask(5), expected)
    assert [len(rows) for rows in counts["passes"]] == [380, 20]
    assert counts["exact"] == [False, True]


def test_few_candidates_are_scored_exactly_in_the_first_place(counts: dict[str, list[Any]]) -> None:
    session = Session(splits(60), Approximate(), Entropy(), hide_labels=True)
    answered(session)
    session.ask(15)
    assert counts["exact"] == [True]


@dataclass(frozen=True)
class Starved(Counting):
    """A pass that runs out of memory once, at its start, unless it begins with a small budget."""

    def fit(self, data: Prepared, rows: Tensor, labels: Tensor, **options: Any) -> ProbePredictor:
        fitted = super().fit(data, rows, labels, **options)
        fitted.__class__ = StarvedPredictor
        return fitted


class StarvedPredictor(CountingPredictor):
    def outputs(self, *arguments: Any, **options: Any) -> Outputs:
        monitor = options["monitor"]
        COUNTS.setdefault("budgets", []).append(monitor.token_budget)
        if monitor.token_budget is None:
            monitor.halved(512)
        return super().outputs(*arguments, **options)


def test_batch_plan_is_recorded_and_later_passes_start_from_it(
    data: Splits, tmp_path: Path, counts: dict[str, list[Any]]
) -> None:
    with Session(data, Starved(), Margin(), hide_labels=True, folder=tmp_path, save_model=False) as session:
        answered(session)
        session.ask(5)
        assert session.store.token_budget == 512
    with Session(data, Starved(), Margin(), hide_labels=True, folder=tmp_path, save_model=False) as session:
        session.evaluate()
    assert counts["budgets"] == [None, 512]


# -- telling -------------------------------------------------------------------------------------------------------


def test_answers_are_class_names_or_indices(data: Splits) -> None:
    session = Session(data, Counting(), Random(), hide_labels=True)
    rows = session.ask(3)
    assert session.tell(rows, ["access", 3, torch.tensor(2)]) == 3
    labels = dict(zip(session.labeled_rows.tolist(), session.labels.tolist(), strict=True))
    assert [labels[row] for row in rows.tolist()] == [1, 3, 2]
    assert session.store.answers[data.pool.ids[int(rows[0])]] == "access"


def test_half_answered_batch_is_asked_again(data: Splits, tmp_path: Path) -> None:
    with Session(data, Counting(), Random(), hide_labels=True, folder=tmp_path) as session:
        rows = session.ask(6)
        session.tell(rows[[4, 1]], [0, 1])
    with Session(data, Counting(), Random(), hide_labels=True, folder=tmp_path) as session:
        assert torch.equal(session.ask(1), rows[[0, 2, 3, 5]])


def test_declined_row_is_neither_labeled_nor_asked_again() -> None:
    session = Session(splits(10), Counting(), Random(), hide_labels=True)
    rows = session.ask(5)
    session.tell(rows, [SKIP, 0, 1, 2, 3])
    assert int(rows[0]) not in session.labeled_rows.tolist()
    assert int(rows[0]) not in session.ask(10).tolist()


def test_wrong_answers_are_listed_together_and_none_is_stored(data: Splits) -> None:
    session = Session(data, Counting(), Random(), hide_labels=True)
    rows = session.ask(4)
    outside = next(row for row in range(120) if row not in rows.tolist())
    with pytest.raises(AnswerError) as caught:
        session.tell([*rows.tolist(), outside], ["biling", 9, "access", True, "access"])
    message = str(caught.value)
    ids = [data.pool.ids[row] for row in rows.tolist()]
    assert f"row {ids[0]!r}: 'biling' is not a class; did you mean 'billing'?" in message
    assert f"row {ids[1]!r}: 9 is not a class index: there are 4 classes" in message
    assert f"row {ids[3]!r}: True is not a class name or index" in message
    assert f"row {data.pool.ids[outside]!r} is not pending: it was never asked" in message
    assert torch.equal(session.pending, rows)
    assert session.store.answers == {}


def test_conflicting_answers_are_refused_and_equal_ones_are_stored_once(data: Splits) -> None:
    session = Session(data, Counting(), Random(), hide_labels=True)
    row = int(session.ask(1))
    with pytest.raises(AnswerError, match="two answers, 'billing' and 'access'"):
        session.tell([row, row], ["billing", "access"])
    assert session.tell([row, row], ["billing", 0]) == 1
    assert session.tell([row], ["billing"]) == 0
    with pytest.raises(AnswerError, match="answered 'billing' before; correct=True"):
        session.tell([row], ["access"])
    assert session.tell([row], ["access"], correct=True) == 1
    assert session.labels.tolist() == [1]


def test_labels_made_elsewhere_are_taken_when_told_so(data: Splits) -> None:
    session = Session(data, Counting(), Random(), hide_labels=True)
    assert session.tell([3, 4], ["access", SKIP], correct=True) == 2
    assert session.labeled_rows.tolist() == [3]
    assert session.undo() == 4
    assert session.undo() == 3
    assert len(session.labeled_rows) == len(session.pending) == 0


def test_number_of_values_must_be_that_of_rows(data: Splits) -> None:
    session = Session(data, Counting(), Random(), hide_labels=True)
    rows = session.ask(3)
    with pytest.raises(AnswerError, match="3 rows but 2 values"):
        session.tell(rows, [0, 1])
    with pytest.raises(AnswerError, match="3 rows but 1 seconds"):
        session.tell(rows, [0, 1, 2], seconds=[1.0])


def test_no_label_is_an_answer_when_multilabel(tmp_path: Path) -> None:
    pool = Rows.from_inputs(torch.randn(20, 3), classes=NAMES, multilabel=True)
    with Session(Splits(pool), Counting(), Random(), folder=tmp_path) as session:
        rows = session.ask(4)
        session.tell(rows, [[], ["shipping", 0], torch.tensor([False, True, False, False]), [3]])
        with pytest.raises(AnswerError, match="'access' is not a list of classes"):
            session.tell(rows[:1], "access", correct=True)
    with Session(Splits(pool), Counting(), Random(), folder=tmp_path) as session:
        labels = dict(zip(session.labeled_rows.tolist(), session.labels.tolist(), strict=True))
    wanted = [[0, 0, 0, 0], [1, 0, 1, 0], [0, 1, 0, 0], [0, 0, 0, 1]]
    assert [labels[row] for row in rows.tolist()] == [[bool(x) for x in each] for each in wanted]


def test_undone_row_is_asked_first_again(data: Splits) -> None:
    session = Session(data, Counting(), Random(), hide_labels=True)
    rows = session.ask(3)
    session.tell(rows, [0, 1, 2])
    assert session.undo() == int(rows[2])
    assert session.undo() == int(rows[1])
    assert session.ask(50).tolist() == [int(rows[1]), int(rows[2])]
    assert session.labeled_rows.tolist() == [int(rows[0])]


# -- the model -----------------------------------------------------------------------------------------------------


def test_model_is_fitted_when_wanted_and_dropped_when_labels_change(data: Splits, counts: dict[str, list[Any]]) -> None:
    session = Session(data, Counting(), Random(), hide_labels=True)
    rows = answered(session)
    assert counts["fits"] == []
    first = session.predictor
    assert session.predictor is first
    session.undo()
    second = session.predictor
    assert second is not first
    assert [len(fit[0]) for fit in counts["fits"]] == [20, 19]
    session.tell(rows[-1:], [SKIP])
    assert session.predictor is not second


def test_asking_does_not_make_the_model_stale(data: Splits, counts: dict[str, list[Any]], tmp_path: Path) -> None:
    with Session(data, Counting(), Margin(), hide_labels=True, folder=tmp_path) as session:
        answered(session)
        session.ask(5)
        model, seconds = session.predictor, session.fit_seconds
        assert len(counts["fits"]) == 1
    with Session(data, Counting(), Margin(), hide_labels=True, folder=tmp_path) as session:
        again = session.predictor
        assert len(counts["fits"]) == 1
        assert len(counts["loads"]) == 1
        assert session.fit_seconds == seconds > 0
        rows = torch.arange(20)
        expected = model.outputs(session.prepared, rows).logits
        assert torch.equal(again.outputs(session.prepared, rows).logits, expected)


def test_saved_model_of_other_labels_is_not_used(data: Splits, counts: dict[str, list[Any]], tmp_path: Path) -> None:
    with Session(data, Counting(), Margin(), hide_labels=True, folder=tmp_path) as session:
        rows = answered(session)
        _ = session.predictor
        session.tell(rows[:1], [(int(session.pool.labels[rows[0]]) + 1) % 4], correct=True)
    with Session(data, Counting(), Margin(), hide_labels=True, folder=tmp_path) as session:
        _ = session.predictor
    assert (len(counts["fits"]), counts["loads"]) == (2, [])
    with Session(data, Counting(l2=3.0), Margin(), hide_labels=True, folder=tmp_path) as session:
        _ = session.predictor
    assert (len(counts["fits"]), counts["loads"]) == (3, [])


def test_refit_after_resuming_has_the_same_seed_and_labels(
    data: Splits, counts: dict[str, list[Any]], tmp_path: Path
) -> None:
    for _ in range(2):
        with Session(data, Counting(), Random(), hide_labels=True, folder=tmp_path, save_model=False) as session:
            if not session.round:
                answered(session)
            else:
                session.ask(5)
            _ = session.predictor
    assert len(counts["fits"]) == 2
    assert counts["fits"][0] == counts["fits"][1]
    assert not (tmp_path / "model").exists()


@dataclass(frozen=True)
class Continuing(Counting):
    warm_start: bool = True

    def fit(self, data: Prepared, rows: Tensor, labels: Tensor, **options: Any) -> ProbePredictor:
        COUNTS.setdefault("previous", []).append(options["previous"])
        return super().fit(data, rows, labels, **options)


def test_training_that_continues_is_given_the_last_model_even_after_resuming(
    data: Splits, counts: dict[str, list[Any]], tmp_path: Path
) -> None:
    with Session(data, Continuing(), Random(), hide_labels=True, folder=tmp_path, save_model=False) as session:
        answered(session)
        first = session.predictor
        answered(session)
        second = session.predictor
    with Session(data, Continuing(), Random(), hide_labels=True, folder=tmp_path, save_model=False) as session:
        answered(session)
        _ = session.predictor
        none, previous, loaded = counts["previous"]
        rows = torch.arange(10)
        assert none is None
        assert previous is first
        assert torch.equal(loaded.outputs(session.prepared, rows).logits, second.outputs(session.prepared, rows).logits)


def test_learners_own_refusal_is_passed_on(data: Splits) -> None:
    session = Session(data, Counting(), Margin(), hide_labels=True)
    session.tell(session.ask(3, strategy=Random()), [0, 0, 0])
    with pytest.raises(LearnerError, match="at least two classes"):
        session.ask(3)
    assert session.round == 1


def test_evaluation_needs_labels_and_a_test(data: Splits) -> None:
    session = Session(data, Counting(), Random(), hide_labels=True)
    with pytest.raises(SessionError, match="nothing is labeled yet"):
        session.evaluate()
    answered(session)
    assert 0.5 < session.evaluate()["accuracy"] <= 1.0
    with pytest.raises(SessionError, match="no labeled test set"):
        Session(Splits(data.pool), Counting(), Random()).evaluate()


def test_validation_rows_reach_the_fit_and_are_no_candidates(data: Splits) -> None:
    seen = []

    @dataclass(frozen=True)
    class Watching(Counting):
        def fit(self, data: Prepared, rows: Tensor, labels: Tensor, **options: Any) -> ProbePredictor:
            seen.append(options["validation"])
            return super().fit(data, rows, labels, **options)

    assert data.test is not None
    session = Session(Splits(data.pool, None, data.test), Watching(), Margin(), hide_labels=True)
    answered(session)
    session.ask(3)
    prepared, labels = seen[0]
    assert len(prepared) == 50
    assert torch.equal(labels, data.test.labels)


def test_state_counts_labels_per_class_and_the_budget(data: Splits) -> None:
    session = Session(data, Counting(), Random(), hide_labels=True, budget=50)
    rows = session.ask(4)
    session.tell(rows[:3], [0, 0, 3])
    session.record({"accuracy": 0.5, "strategy": "Random"})
    state = session.state
    assert (state.round, state.labels, state.per_class, state.budget) == (1, 3, (2, 0, 0, 1), 46)
    assert state.metrics == ({"accuracy": 0.5},)


# -- folders -------------------------------------------------------------------------------------------------------


def test_second_session_on_a_folder_is_refused_and_the_first_is_named(
    data: Splits, tmp_path: Path, opened: Callable[..., Session]
) -> None:
    opened(data, Counting(), Random(), folder=tmp_path)
    with pytest.raises(BusyError, match="this very process"):
        opened(data, Counting(), Random(), folder=tmp_path)


def test_another_process_on_the_folder_is_named_until_it_is_killed(data: Splits, tmp_path: Path) -> None:
    program = f"""
import time
from pathlib import Path
from dal.store.folder_lock import Lock
lock = Lock(Path({str(tmp_path)!r}))
print("held", flush=True)
time.sleep(600)
"""
    holder = subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE, text=True)
    assert holder.stdout is not None
    assert holder.stdout.readline() == "held\n"
    with pytest.raises(BusyError, match=rf"another process \(pid {holder.pid}\)"):
        Session(data, Counting(), Random(), folder=tmp_path)
    os.kill(holder.pid, signal.SIGKILL)
    holder.wait()
    holder.stdout.close()
    Session(data, Counting(), Random(), folder=tmp_path).close()


def test_answers_outlive_a_pool_that_grows_and_is_reordered(data: Splits, tmp_path: Path) -> None:
    ids = [f"row {i}" for i in range(120)]
    small = Rows.from_inputs(data.pool.inputs[:60], classes=NAMES, ids=ids[:60])
    with Session(Splits(small), Counting(), Random(), folder=tmp_path) as session:
        rows = session.ask(6)
        session.tell(rows[:5], data.pool.labels[rows[:5]])
        asked = [ids[row] for row in rows.tolist()]
    order = torch.randperm(120, generator=torch.Generator().manual_seed(0))
    large = Rows.from_inputs(data.pool.inputs[order], classes=NAMES, ids=[ids[i] for i in order.tolist()])
    with Session(Splits(large), Counting(), Random(), folder=tmp_path) as session:
        assert [large.ids[row] for row in session.pending.tolist()] == asked[5:]
        assert sorted(large.ids[row] for row in session.labeled_rows.tolist()) == sorted(asked[:5])
        assert torch.equal(session.labels, data.pool.labels[order][session.labeled_rows])


def test_answers_to_rows_that_left_the_pool_stay_stored(data: Splits, tmp_path: Path) -> None:
    ids = [f"row {i}" for i in range(120)]
    pool = Rows.from_inputs(data.pool.inputs, classes=NAMES, ids=ids)
    with Session(Splits(pool), Counting(), Random(), folder=tmp_path) as session:
        session.tell(range(10), [0] * 10, correct=True)
    with Session(Splits(pool.take(range(5, 60))), Counting(), Random(), folder=tmp_path) as session:
        assert session.labeled_rows.tolist() == [0, 1, 2, 3, 4]
        assert len(session.store.answers) == 10


def test_stored_answers_of_unknown_classes_are_refused(data: Splits, tmp_path: Path) -> None:
    with Session(data, Counting(), Random(), hide_labels=True, folder=tmp_path) as session:
        answered(session)
    other = Splits(Rows.from_inputs(data.pool.inputs, classes=["yes", "no"]))
    with pytest.raises(SessionError, match="answers of the classes access, billing"):
        Session(other, Counting(), Random(), folder=tmp_path)
    many = Splits(Rows.from_inputs(data.pool.inputs, classes=NAMES, multilabel=True))
    with pytest.raises(SessionError, match="single-label answers, but the data is multi-label"):
        Session(many, Counting(), Random(), folder=tmp_path)


def test_failed_opening_leaves_the_folder_free(data: Splits, tmp_path: Path) -> None:
    (tmp_path / "labels.db").write_bytes(b"no database at all" * 100)
    with pytest.raises(SessionError, match="not a database"):
        Session(data, Counting(), Random(), folder=tmp_path)
    (tmp_path / "labels.db").unlink()
    Session(data, Counting(), Random(), folder=tmp_path).close()


# -- targets -------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class NearTarget(ScoreStrategy):
    """Rows nearest to the mean of the target."""

    needs = frozenset({"embeddings"})
    target_needs = frozenset({"embeddings"})

    def score(self, query: Query) -> Tensor:
        COUNTS.setdefault("targets", []).append(len(query.target))
        return -(query.pool.embeddings - query.target.embeddings.mean(0)).norm(dim=1)


def test_target_is_a_sample_of_the_candidates_without_another_pass(counts: dict[str, list[Any]]) -> None:
    session = Session(splits(1200), Counting(), NearTarget(), hide_labels=True)
    session.ask(3)
    assert counts["targets"] == [1000]
    assert isinstance(session.learner.untrained(session.prepared), Predictor)


# -- undo ----------------------------------------------------------------------------------------------------------


def named(n: int = 20, classes: list[str] = NAMES) -> Rows:
    return Rows.from_inputs(material.clusters(n)[0], classes=classes, ids=[f"row {i}" for i in range(n)])


def test_undo_of_a_row_that_left_the_pool_retracts_nothing_however_often_it_is_called(tmp_path: Path) -> None:
    with Session(Splits(named()), Counting(), Random(), folder=tmp_path) as session:
        session.tell([3], ["billing"], correct=True)
        session.tell([7], ["access"], correct=True)
    with Session(Splits(named().take(range(7))), Counting(), Random(), folder=tmp_path) as session:
        for _ in range(2):
            with pytest.raises(SessionError, match="row 'row 7', which is no longer in the data: nothing was undone"):
                session.undo()
        assert session.store.answers == {"row 3": "billing", "row 7": "access"}
        assert session.labeled_rows.tolist() == [3]
    with Session(Splits(named()), Counting(), Random(), folder=tmp_path) as session:
        assert [session.undo(), session.undo()] == [7, 3]


def test_undo_that_would_bring_back_an_answer_of_no_class_retracts_nothing(tmp_path: Path) -> None:
    with Session(Splits(named(classes=[*NAMES, "other"])), Counting(), Random(), folder=tmp_path) as session:
        session.tell([3], ["other"], correct=True)
        session.tell([3], ["billing"], correct=True)
    with Session(Splits(named()), Counting(), Random(), folder=tmp_path) as session:
        with pytest.raises(SessionError, match="answers of the classes other"):
            session.undo()
        assert session.store.answers == {"row 3": "billing"}


def test_undo_drops_the_model_and_a_restart_says_the_same(data: Splits, tmp_path: Path) -> None:
    with Session(data, Counting(), Random(), hide_labels=True, folder=tmp_path) as session:
        rows = answered(session)
        before = session.predictor
        assert session.undo() == int(rows[-1])
        assert session.predictor is not before
        live = (session.pending.tolist(), session.labeled_rows.tolist(), session.labels.tolist())
    with Session(data, Counting(), Random(), hide_labels=True, folder=tmp_path) as session:
        assert (session.pending.tolist(), session.labeled_rows.tolist(), session.labels.tolist()) == live


# -- several at once -----------------------------------------------------------------------------------------------


def test_threads_that_answer_the_same_rows_differently_never_overwrite_each_other(data: Splits) -> None:
    session = Session(data, Counting(), Random(), hide_labels=True)
    rows = session.ask(100)
    refused, told = [], []

    def tell(answer: int) -> None:
        for row in rows.tolist():
            try:
                told.append(session.tell(row, answer))
            except AnswerError as error:
                refused.append(str(error))

    threads = [threading.Thread(target=tell, args=(answer,)) for answer in (0, 1, 2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert (sum(told), len(refused)) == (100, 200)
    assert all("is not pending: it was answered" in each for each in refused)
    assert sum(event.kind == "answered" for event in session.store.events()) == 100
    values = [session.store.answers[data.pool.ids[row]] for row in session.labeled_rows.tolist()]
    assert [NAMES[code] for code in session.labels.tolist()] == values


def unlocked(folder: Path) -> None:
    """As where the file system has no locks: another session may open the folder."""
    (folder / ".lock").unlink()


def test_sessions_on_one_file_never_overwrite_each_other(data: Splits, tmp_path: Path) -> None:
    with Session(data, Counting(), Random(), hide_labels=True, folder=tmp_path) as one:
        rows = one.ask(6)
        unlocked(tmp_path)
        with Session(data, Counting(), Random(), hide_labels=True, folder=tmp_path) as other:
            one.tell(rows[:3], [0, 0, 0])
            with pytest.raises(AnswerError, match="answered 'billing' before"):
                other.tell(rows[:3], [1, 1, 1])
            assert other.tell(rows[:3], [0, 0, 0]) == 0
            assert other.tell(rows[3:], [1, 1, 1]) == 3
            assert other.undo() == int(rows[5])
            assert one.tell(rows[5], "access") == 1
            assert one.labeled_rows.tolist() == sorted(rows.tolist())
            assert len(one.pending) == 0
            taken = one.ask(4)
            assert torch.equal(other.ask(2), taken)


def test_model_is_made_again_when_another_session_has_answered(data: Splits, tmp_path: Path) -> None:
    with Session(data, Counting(), Random(), hide_labels=True, folder=tmp_path) as one:
        answered(one)
        before = one.predictor
        unlocked(tmp_path)
        with Session(data, Counting(), Random(), hide_labels=True, folder=tmp_path) as other:
            answered(other)
        one.ask(5)
        assert one.predictor is not before
        assert len(one.labels) == 40


def test_answers_that_were_stored_beside_the_session_are_seen(data: Splits) -> None:
    session = Session(data, Counting(), Random(), hide_labels=True)
    rows = session.ask(3)
    session.store.tell([Answer(data.pool.ids[int(rows[0])], "access"), Answer("a row that has left", "access")])
    assert torch.equal(session.ask(1), rows[1:])
    assert session.labels.tolist() == [1]


# -- what is read and how much -------------------------------------------------------------------------------------


def test_rounds_replay_no_event(data: Splits, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from dal.evaluation import Prices
    from dal.experiments.round_measures import Measures
    from dal.stopping import Labels
    from dal.store import events

    read, seen = events.read, []
    monkeypatch.setattr(events, "read", lambda line: (seen.append(line[0]), read(line))[1])
    with Session(data, Counting(), Margin(), hide_labels=True, folder=tmp_path) as session:
        measures = Measures(session, pool_sample=0, distances=False, prices=Prices(per_label=1.0))
        answered(session)
        for _ in range(3):
            rows = session.ask(5)
            session.tell(rows, session.pool.labels[rows])
            measures.of_round(session.last_selection)
            session.should_stop(Labels(max_labels=100))
        # Once for each change of the row's line in the table of states.
        times = [2] * 20 + [1] * 20 + 3 * ([2] * 5 + [1] * 5)
        assert Counter(seen) == dict(enumerate(times, 1))


def test_resuming_makes_no_object_for_an_answer(tmp_path: Path) -> None:
    pool = named(20_000)
    with Session(Splits(pool), Counting(), Random(), folder=tmp_path) as session:
        rows = session.ask_these(torch.arange(20_000), strategy="all")
        session.tell(rows, torch.arange(20_000) % 2)
        session.undo()
        before = session.pool_state
    Session(Splits(pool), Counting(), Random(), folder=tmp_path).close()  # what is kept once for all sessions
    tracemalloc.start()
    try:
        with Session(Splits(pool), Counting(), Random(), folder=tmp_path) as again:
            kept = tracemalloc.get_traced_memory()[0]
    finally:
        tracemalloc.stop()
    assert kept < 200_000  # tensors are not traced
    for name in ("status", "codes", "weights", "proposed", "given"):
        assert torch.equal(getattr(again.pool_state, name).all(), getattr(before, name).all())
    assert again.pool_state.counts == before.counts
    assert torch.equal(again.pool_state.pending, before.pending)


def test_telling_many_rows_looks_at_each_a_few_times(monkeypatch: pytest.MonkeyPatch) -> None:
    """Calls of Python functions grow as the rows do, not as their square."""

    def calls(rows: int) -> int:
        session = Session(Splits(named(rows)), Counting(), Random())
        asked, made = session.ask(rows), 0

        def count(frame: Any, event: str, argument: Any) -> None:
            nonlocal made
            made += event == "call"

        sys.setprofile(count)
        session.tell(asked, ["billing"] * rows)
        sys.setprofile(None)
        return made

    assert calls(2000) < 12 * calls(200)


# -- arguments -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ((torch.randn(5, 3), Counting(), Random()), "data must be a TextData or a Splits.*, got Tensor"),
        ((["text"], Counting(), Random()), "data must be a TextData or a Splits.*, got list"),
        (("mails.csv", Counting(), Random()), "data must be a TextData or a Splits.*, got str"),
        ((None, Counting(), Random()), "data must be a TextData or a Splits.*, got NoneType"),
        ((named(), Counting(), Random()), r"got Rows; wrap it: Splits\(pool=rows\)"),
        ((Splits, Counting(), Random()), "got the class Splits"),
        ((Splits(named(), ["x"]), Counting(), Random()), "the test part of the data must be Rows, got list"),  # type: ignore[arg-type]
        ((Splits(named()), Counting, Random()), r"learner must be Learner.*the class Counting: give Counting\(\)"),
        ((Splits(named()), torch.nn.Linear(2, 2), Random()), "learner must be Learner.*got Linear"),
        ((Splits(named()), Counting(), Margin), r"strategy must be Strategy.*the class Margin: give Margin\(\)"),
        ((Splits(named()), Counting(), "Margin"), "strategy must be Strategy.*got str"),
        ((Splits(named()), Random(), Counting()), "learner must be Learner.*got Random"),
    ],
)
def test_wrong_parts_are_named_with_what_to_give(wrong: tuple[Any, ...], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        Session(*wrong)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"seed": "1"}, "seed must be a whole number, got '1'"),
        ({"seed": True}, "seed must be a whole number"),
        ({"seed": 0.5}, "seed must be a whole number"),
        ({"budget": "all"}, "budget must be a whole number"),
        ({"budget": -1}, "budget must not be negative"),
        ({"folder": ""}, "a folder is named by its path, got ''"),
        ({"folder": 7}, "a folder is named by its path, got 7"),
        ({"folder": "a\0b"}, "has no NUL"),
        ({"folder": "x" * 300}, "cannot be a folder: File name too long"),
        ({"folder": "file"}, "is a file, where a folder is wanted"),
        ({"folder": "file/below"}, "is a file, where a folder is wanted"),
        ({"folder": "loop"}, "cannot be a folder|cannot be worked in"),
        ({"monitor": print}, "monitor must be Monitor"),
    ],
)
def test_wrong_options_are_refused_in_one_line_with_nothing_written(
    options: dict[str, Any], message: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("file").touch()
    Path("loop").symlink_to("loop")
    with pytest.raises(ConfigError, match=message) as error:
        Session(Splits(named()), Counting(), Random(), **options)
    assert "\n" not in str(error.value)
    assert sorted(os.listdir()) == ["file", "loop"]


@pytest.mark.parametrize("n", [2.0, "2", True, None])
def test_a_number_of_rows_is_whole(n: Any, data: Splits) -> None:
    session = Session(data, Counting(), Random(), hide_labels=True)
    with pytest.raises(SessionError, match="whole number of rows"):
        session.ask(n)
    with pytest.raises(SessionError, match="whole number of rows"):
        session.choose(Random(), n)


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        (torch.zeros(120, dtype=torch.bool), r"not torch.bool: give mask.nonzero\(\).flatten\(\)"),
        ([0.5], "rows are whole numbers"),
        ([float("nan")], "rows are whole numbers"),
        ("row", "rows are whole numbers"),
        ([[1], [2, 3]], "rows are whole numbers"),
        ([-1], "outside the pool"),
        ([120], "outside the pool"),
        ([2**70], "rows are whole numbers"),
    ],
)
def test_what_names_no_rows_is_refused_wherever_rows_are_given(rows: Any, message: str, data: Splits) -> None:
    session = Session(data, Counting(), Random(), hide_labels=True)
    values = ["billing"] * (len(rows) if isinstance(rows, list | Tensor) else 1)
    with pytest.raises(AnswerError, match=message):
        session.tell(rows, values, correct=True)
    with pytest.raises(AnswerError, match=message):
        session.propose(rows, values, weight=0.5)
    with pytest.raises(AnswerError, match=message):
        session.ask_these(rows, strategy="mine")
    assert list(session.store.events()) == []


@pytest.mark.parametrize("figure", ["seconds", "cost", "confidence"])
@pytest.mark.parametrize("value", [float("nan"), float("inf"), "much"])
def test_figures_of_an_answer_are_finite(figure: str, value: Any, data: Splits) -> None:
    session = Session(data, Counting(), Random(), hide_labels=True)
    rows = session.ask(2)
    with pytest.raises(AnswerError, match=r"are finite numbers|2 rows but"):
        session.tell(rows, [0, 1], **{figure: value if isinstance(value, str) else [1.0, value]})
    assert len(session.pending) == 2


def test_metrics_without_their_answers_are_not_continued(data: Splits, tmp_path: Path) -> None:
    with Session(data, Counting(), Random(), hide_labels=True, folder=tmp_path) as session:
        answered(session)
        session.record({"labels": 20})
    (tmp_path / "labels.db").unlink()
    with pytest.raises(SessionError, match=r"labels\.db is missing, and metrics\.jsonl next to it has 1 lines"):
        Session(data, Counting(), Random(), hide_labels=True, folder=tmp_path)
    assert not (tmp_path / "labels.db").exists()


def test_damaged_details_of_the_last_batch_are_told_by_their_round(data: Splits, tmp_path: Path) -> None:
    with LabelStore(tmp_path / "labels.db") as store:
        store.ask([data.pool.ids[0]], details={"notes": {"radius": []}})
    with (
        Session(data, Counting(), Random(), hide_labels=True, folder=tmp_path) as session,
        pytest.raises(SessionError, match=r"is damaged \(round 1: its detail 'notes'"),
    ):
        session.last_selection  # noqa: B018


@pytest.mark.parametrize("multilabel", [False, True])
def test_answers_stored_with_decomposed_accents_name_the_composed_class(tmp_path: Path, multilabel: bool) -> None:
    composed, decomposed = "caf\u00e9", "cafe\u0301"
    made = Rows.from_inputs(torch.randn(4, 3), None, ["x", "tea"], multilabel=multilabel, ids=list("abcd"))
    pool = replace(made, classes=(decomposed, "tea"))
    with LabelStore(tmp_path / "labels.db") as store:
        store.ask(["a"])
        store.tell([Answer("a", (decomposed,) if multilabel else decomposed)])
    with Session(Splits(pool), ProbeLearner(model=None), Random(), folder=tmp_path) as session:
        assert session.labels.tolist() == ([[True, False]] if multilabel else [0])
        assert session.tell(0, [[composed]] if multilabel else composed) == 0  # it stands already
