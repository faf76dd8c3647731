import logging
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import material
import pytest
import torch
from torch import Tensor

from dal.choice import Seeds, Stream
from dal.data import Rows, Splits
from dal.errors import AnswerError, BusyError, ConfigError, LearnerError, NeedError, SessionError
from dal.events import SKIP
from dal.learner import SILENT, Monitor, Predictor, Prepared
from dal.learners.probe import ProbeLearner, ProbePredictor
from dal.outputs import Outputs
from dal.session import Session
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
from dal.runfolder import Lock
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
