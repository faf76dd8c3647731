"""The recall of candidates, measured in a session by choosing from the whole pool as well."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from dal.data import Rows, Splits
from dal.errors import ConfigError
from dal.experiments.candidate_text import candidates_text
from dal.experiments.experiment import Experiment
from dal.experiments.experiment_checks import check_settings
from dal.experiments.round_record import recall_of
from dal.learners.probe_learner import ProbeLearner
from dal.session import Session
from dal.session.queried_batch import QueriedBatch
from dal.strategies import Margin, Random
from dal.strategies.candidates import SEALS, AnchorAL, CandidateQuery, Candidates, RandomSubset
from dal.strategies.proxy_candidates import LinearProxy, RefreshedProxy

PROBE = ProbeLearner(model=None)


@dataclass(frozen=True)
class FirstUnasked(Candidates):
    """The rows that come first."""

    size: int

    def choose(self, query: CandidateQuery) -> Tensor:
        return query.unlabeled[: self.size]


def splits(rows: int = 150) -> Splits:
    generator = torch.Generator().manual_seed(0)
    labels = torch.arange(rows) % 3
    vectors = torch.randn(rows, 5, generator=generator) + torch.eye(3, 5)[labels]
    return Splits(Rows.from_inputs(vectors, labels, ["a", "b", "c"]))


def session(candidates: int | Candidates | None, recall_every: int, folder: Path | None = None) -> Session:
    return Session(
        splits(), PROBE, Margin(), hide_labels=True, candidates=candidates, recall_every=recall_every, folder=folder
    )


def next_batch(opened: Session) -> QueriedBatch:
    rows = opened.ask(6, strategy=None if opened.round else Random())
    batch = opened.last_selection
    assert batch is not None
    opened.tell(rows, opened.pool.labels[rows])
    return batch


def test_recall_is_the_share_of_the_whole_pools_batch_among_the_candidates() -> None:
    recalls = []
    with session(FirstUnasked(60), recall_every=1) as opened:
        next_batch(opened)
        for _ in range(3):
            whole, candidates = opened.choose(None, 6), opened.unasked_rows[:60]
            batch = next_batch(opened)
            assert batch.candidate_recall == int(torch.isin(whole.rows, candidates).sum()) / 6
            assert (batch.candidates, batch.unasked) == (60, 150 - 6 * (batch.round - 1))
            assert batch.seconds["recall"] > 0
            recalls.append(batch.candidate_recall)
    assert 0 < sum(recalls) < 3


@pytest.mark.parametrize(("every", "measured"), [(0, []), (1, [1, 2, 3, 4]), (2, [1, 3]), (3, [1, 4]), (9, [1])])
def test_recall_is_measured_in_every_kth_round_and_changes_no_choice(every: int, measured: list[int]) -> None:
    with session(30, recall_every=every) as opened, session(30, recall_every=0) as plain:
        batches, unmeasured = ([next_batch(each) for _ in range(5)] for each in (opened, plain))
    assert [batch.rows.tolist() for batch in batches] == [batch.rows.tolist() for batch in unmeasured]
    assert [batch.round - 1 for batch in batches if batch.candidate_recall is not None] == measured


@pytest.mark.parametrize("candidates", [None, 1000])
def test_there_is_no_second_pass_where_everything_is_scored(candidates: int | None) -> None:
    with session(candidates, recall_every=1) as opened:
        batches = [next_batch(opened) for _ in range(2)]
    assert [batch.candidate_recall for batch in batches] == [None, None]
    assert all("recall" not in batch.seconds for batch in batches)


def test_recall_is_stored_with_the_batch(tmp_path: Path) -> None:
    with session(RandomSubset(30), recall_every=1, folder=tmp_path) as opened:
        next_batch(opened)
        asked = next_batch(opened)
    with session(RandomSubset(30), recall_every=1, folder=tmp_path) as again:
        stored = again.last_selection
    assert stored is not None
    assert asked.candidate_recall is not None
    assert (stored.candidate_recall, stored.unasked) == (asked.candidate_recall, asked.unasked)


def test_run_records_and_says_the_recall_of_its_candidates(capsys: pytest.CaptureFixture[str]) -> None:
    data: Any = Splits(splits().pool, splits().pool)
    run = Experiment(data, PROBE, Margin(), start=8, batch=10, rounds=2, candidates=40, recall_every=2)
    lines = run.run().cells
    first, measured, last = lines["Margin-seed0"]
    assert first["candidates"] == {"count": 40, "of": 150, "scored": 0}  # random rows: no model scored any
    assert {key: measured["candidates"][key] for key in ("count", "of", "scored")} == {
        "count": 40, "of": 142, "scored": 40
    }  # fmt: skip
    assert 0 <= measured["candidates"]["recall"] <= 1
    assert "recall" not in last["candidates"]
    assert all(line["candidates"]["scored"] == 0 for line in lines["Random-seed0"])  # it reads no model
    assert not any("recall" in line["candidates"] for line in lines["Random-seed0"])
    said = " ".join(capsys.readouterr().out.split())
    found = round(10 * measured["candidates"]["recall"])
    assert f"candidates: 40 of 142 rows contain {found} of the 10 that the whole pool would have given" in said
    assert "candidates: 40 of 132 rows were scored" in said
    assert said.count("candidates:") == 2


@pytest.mark.parametrize("size", [143, 142, 141])
@pytest.mark.parametrize("generator", [RandomSubset, FirstUnasked, LinearProxy, AnchorAL, RefreshedProxy])
def test_a_number_of_candidates_that_leaves_out_nothing_is_said_at_the_start(
    generator: type[Candidates], size: int, capsys: pytest.CaptureFixture[str]
) -> None:
    data: Any = Splits(splits().pool, splits().pool)
    candidates = generator(size=size)  # type: ignore[call-arg]
    Experiment(data, PROBE, Margin(), start=8, batch=1, rounds=1, candidates=candidates, baseline=None).run()
    said = capsys.readouterr().out
    note = f"candidates: size {size} is not below the 142 rows that are left to ask, so none is left out"
    assert said.splitlines().count(note) == (size >= 142)
    assert said.count("candidates: all rows were scored (142)") == (size >= 142 or generator is RefreshedProxy)
    assert said.count("candidates: 141 of 142 rows were scored") == (size < 142 and generator is not RefreshedProxy)


def test_rounds_that_score_everything_are_said_once(capsys: pytest.CaptureFixture[str]) -> None:
    data: Any = Splits(splits().pool, splits().pool)
    run = Experiment(data, PROBE, Margin(), start=8, batch=5, rounds=3, candidates=SEALS(149), baseline=None)
    lines = run.run().cells["Margin-seed0"]
    assert [line.get("candidates") for line in lines[1:]] == [{"of": of, "scored": of} for of in (142, 137, 132)]
    assert capsys.readouterr().out.count("candidates:") == 1


def test_batches_that_an_earlier_version_stored_say_what_they_did() -> None:
    stored = {"unasked": 90, "candidate_recall": 0.5, "measured_candidates": 30}
    rows = torch.arange(4)
    every, some = (QueriedBatch.restored(3, rows, None, "Margin", stored | {"candidates": n}) for n in (90, 30))
    assert recall_of(every).startswith("candidates: all 90 rows were scored; 30 candidates from the pass before would")
    assert recall_of(some).startswith("candidates: 30 of 90 rows contain 2 of the 4 that the whole pool would have")


@pytest.mark.parametrize("value", [None, "?", {}, {"of": 9}, {"scored": "9", "of": 9}, {"scored": 0, "of": 9}])
def test_candidates_of_another_shape_say_nothing(value: object) -> None:
    assert candidates_text({"candidates": value}) == ""


@pytest.mark.parametrize("wrong", [-1, 1.5, "often", True])
def test_number_of_rounds_between_measurements_is_checked(wrong: int) -> None:
    data: Any = splits()
    with pytest.raises(ConfigError, match="recall_every"):
        check_settings(Experiment(data, PROBE, recall_every=wrong))
    if wrong is not True:
        with pytest.raises(ConfigError, match="recall_every"):
            session(30, recall_every=wrong)
