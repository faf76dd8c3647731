"""Two and three ranks compute what one process does, to the last bit; they are started once for all tests here."""

import importlib
import json
import logging
import os
import sqlite3
from collections.abc import Iterator
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import material
import pytest
import rank_jobs
import torch

from dal.config.allowed_code import admit, restricted_imports
from dal.data import Rows, Splits
from dal.distributed import ranks
from dal.distributed.leader import Leader
from dal.errors import ConfigError, LearnerError, RankError
from dal.experiments.console import Quiet
from dal.experiments.experiment import Experiment
from dal.learner import Monitor
from dal.learners import rank_outputs, sharded_pass
from dal.learners.committee_learner import CommitteeLearner
from dal.learners.inference import BatchComputation, run_pass
from dal.learners.probe_learner import ProbeLearner
from dal.learners.ranks import Job, current_ranks, sharing_with
from dal.learners.transformer_learner import TransformerLearner
from dal.strategies.disagreement import BALD
from dal.strategies.gradient import BADGE
from dal.strategies.proxy_candidates import RefreshedProxy
from dal.strategy import Strategy

TRAINER = material.silent_trainer()


@pytest.fixture(scope="module")
def started() -> Iterator[Leader]:
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    with ranks(3, timeout=120) as leader:
        assert isinstance(leader, Leader)
        with sharing_with(None):
            yield leader
    torch.set_num_threads(before)


TWO_AND_THREE = pytest.mark.parametrize("leader", [2, 3], indirect=True)


@pytest.fixture
def leader(request: pytest.FixtureRequest, started: Leader, monkeypatch: pytest.MonkeyPatch) -> Leader:
    """All 3 ranks, or the first ones."""
    monkeypatch.setattr(started, "size", getattr(request, "param", 3))
    return started


def ticket_rows(count: int, seed: int = 0) -> Rows:
    texts, labels = material.tickets(count, seed=seed)
    names = sorted(material.TOPICS)
    return Rows.from_inputs(texts, torch.tensor([names.index(label) for label in labels]), names)


@pytest.fixture(scope="module")
def learner(tiny_bert: Path) -> TransformerLearner:
    return TransformerLearner(
        str(tiny_bert), max_length=24, min_steps=3, max_steps=3, samples=4, token_budget=200, trainer=TRAINER,
        device="cpu", precision="float32", learning_rate=1e-3,
    )  # fmt: skip


@pytest.fixture
def computed_here(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Gets the first row of each batch that this process computes."""
    starts: list[int] = []
    compute = BatchComputation.compute

    def watched(self: BatchComputation, rows: Any, index: Any, start: int) -> bool:
        starts.append(start)
        return compute(self, rows, index, start)

    monkeypatch.setattr(BatchComputation, "compute", watched)
    return starts


@TWO_AND_THREE
def test_each_rank_runs_its_job(leader: Leader):
    results = leader.run("test", [Job(rank_jobs.rank_of, (number,)) for number in range(leader.size)])
    assert [value for _, value in results] == list(range(leader.size))
    assert results[0][0] == os.getpid()
    assert len({process for process, _ in results}) == leader.size


@TWO_AND_THREE
def test_pass_is_equal_to_the_last_bit(leader: Leader, learner: TransformerLearner, computed_here: list[int]):
    data = learner.prepare(ticket_rows(150))
    predictor = learner.fit(data, torch.arange(20), ticket_rows(150).labels[:20], seed=1)
    rows = torch.randperm(150, generator=torch.Generator().manual_seed(0))[:140]
    for names in ({"logits", "features", "mutual_information"}, {"mc_logits"}, {"joint_mc_logits", "probs"}):
        computed_here.clear()
        expected = predictor.outputs(data, rows, names, seed=5)
        alone = len(computed_here)
        with sharing_with(leader):
            computed_here.clear()
            shared = predictor.outputs(data, rows, names, seed=5)
        assert len(computed_here) == -(-alone // leader.size) < alone
        assert all(torch.equal(expected[name], shared[name]) for name in names)


def test_label_free_outputs_are_equal_too(leader: Leader, learner: TransformerLearner, tmp_path, monkeypatch):
    found = []
    for number, sharing in enumerate((None, leader)):
        monkeypatch.setenv("DAL_CACHE", str(tmp_path / str(number)))  # each computes all of it
        cached = replace(learner, trunk="cached", layers=1, learning_rate=None)
        data = cached.prepare(ticket_rows(90))
        with sharing_with(sharing):
            fitted = cached.fit(data, torch.arange(30), ticket_rows(90).labels[:30], seed=2)
            found.append(fitted.outputs(data, None, {"embeddings", "logits"}, seed=1))
    assert torch.equal(found[0].embeddings, found[1].embeddings)
    assert torch.equal(found[0].logits, found[1].logits)


class Budgets(Monitor):
    def __init__(self) -> None:
        self.found: list[int] = []

    def halved(self, token_budget: int) -> None:
        self.found.append(token_budget)


def test_rank_out_of_memory_splits_that_batch_only(leader: Leader, learner: TransformerLearner):
    data = learner.prepare(ticket_rows(150))
    network, monitor = rank_jobs.Embeddings(), Budgets()
    options: dict[str, Any] = {"samples": 2, "token_budget": 200, "precision": "float32"}
    expected = run_pass(network, data, None, {"features", "mc_logits"}, **options)  # type: ignore[arg-type]
    network.largest = int(data.lengths.max()) * 10
    with sharing_with(leader):
        got = run_pass(network, data, None, {"features", "mc_logits"}, monitor=monitor, **options)  # type: ignore[arg-type]
    torch.testing.assert_close(got.features, expected.features)
    same = (got.mc_logits == expected.mc_logits).all(-1).all(-1)
    assert 0.2 < same.float().mean() < 1  # the first half of a batch, and all of each batch that had room
    assert monitor.found
    assert monitor.found == sorted(set(monitor.found), reverse=True)


def test_changed_weights_are_sent_again_and_equal_ones_are_not(leader: Leader, learner: TransformerLearner):
    data, network = learner.prepare(ticket_rows(80)), rank_jobs.Embeddings()
    options: dict[str, Any] = {"samples": 2, "token_budget": 100, "precision": "float32"}
    held: list[set[int]] = []
    with sharing_with(leader), torch.no_grad():
        for step in range(3):
            got = run_pass(network, data, None, {"features"}, **options)  # type: ignore[arg-type]
            held.append(set(leader.workers[0].held))
            with sharing_with(None):
                assert torch.equal(got.features, run_pass(network, data, None, {"features"}, **options).features)  # type: ignore[arg-type]
            if step == 1:
                network.table.weight[:, 0] += 1
    assert held[0] == held[1]
    assert len(held[1] - held[2]) == len(held[2] - held[1]) == 1  # the new network instead of the old one


def test_network_that_cannot_be_sent_is_used_here(
    leader: Leader, learner: TransformerLearner, computed_here: list[int], caplog: pytest.LogCaptureFixture
):
    data, network = learner.prepare(ticket_rows(80)), rank_jobs.Embeddings()
    network.extra = lambda: None  # type: ignore[assignment]
    with sharing_with(leader), caplog.at_level(logging.WARNING, "dal"):
        outputs = run_pass(network, data, None, {"features"}, samples=2, token_budget=100)  # type: ignore[arg-type]
    assert len(outputs) == 80
    assert computed_here[:2] == [0, computed_here[1]]
    assert len(computed_here) > 4


def test_network_whose_class_another_rank_lacks_is_used_here(
    leader: Leader, learner: TransformerLearner, computed_here: list[int], tmp_path: Path, monkeypatch
):
    (tmp_path / "known_here.py").write_text("from rank_jobs import Embeddings\nclass Own(Embeddings): pass\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    network, data = importlib.import_module("known_here").Own(), learner.prepare(ticket_rows(80))
    monkeypatch.setattr(leader._objects, "_unreadable", set())
    options: dict[str, Any] = {"samples": 2, "token_budget": 100, "precision": "float32"}
    expected = run_pass(network, data, None, {"features"}, **options)
    for _ in range(2):
        batches = len(computed_here)
        with sharing_with(leader):
            assert torch.equal(run_pass(network, data, None, {"features"}, **options).features, expected.features)
        assert len(computed_here) - batches >= len(set(computed_here))
    assert leader._objects._unreadable == {type(network)}


def test_code_that_the_user_has_allowed_is_imported_by_the_ranks(
    leader: Leader, learner: TransformerLearner, computed_here: list[int], tmp_path: Path
):
    (tmp_path / "allowed_here.py").write_text("from rank_jobs import Embeddings\nclass Own(Embeddings): pass\n")
    data = learner.prepare(ticket_rows(80))
    with restricted_imports(tmp_path):
        admit("allowed_here.Own")
        network = importlib.import_module("allowed_here").Own()
        with sharing_with(leader):
            run_pass(network, data, None, {"features"}, samples=2, token_budget=100)
    assert len(computed_here) < max(computed_here)
    assert network in [sent.alive() for sent in leader._objects._sent.values()]


def test_samples_of_the_last_layer_send_the_network_once(leader: Leader, learner: TransformerLearner):
    drawing, rows = replace(learner, mc_mode="laplace"), ticket_rows(80)
    data = drawing.prepare(rows)
    predictor = drawing.fit(data, torch.arange(20), rows.labels[:20], seed=1)
    expected = [predictor.outputs(data, None, {"mc_logits"}, seed=seed).mc_logits for seed in (1, 2)]
    with sharing_with(leader):
        for seed in (1, 2):
            assert torch.equal(predictor.outputs(data, None, {"mc_logits"}, seed=seed).mc_logits, expected[seed - 1])
    assert len([sent for sent in leader._objects._sent.values() if sent.alive() is predictor.module]) == 1


def test_error_in_a_job_is_raised_here_and_the_ranks_go_on(leader: Leader):
    with pytest.raises(LearnerError, match="this cannot be learnt"):
        leader.run("test", [Job(rank_jobs.rank_of, (1,)), Job(rank_jobs.refuse)])
    with pytest.raises(RankError, match=r"rank 1 \(process \d+ on .*\) failed in the fit: RuntimeError: a fault of"):
        leader.run("fit", [Job(rank_jobs.rank_of, (1,)), Job(rank_jobs.break_down)])
    assert leader.run("test", [Job(rank_jobs.rank_of, (1,)), Job(rank_jobs.rank_of, (2,))])[1][1] == 2


def test_job_that_was_given_up_does_not_disturb_the_next(leader: Leader):
    with pytest.raises(KeyboardInterrupt):
        leader.run("test", [Job(rank_jobs.stop), Job(rank_jobs.rank_of, ("old",))])
    assert leader.run("test", [Job(rank_jobs.rank_of, (1,)), Job(rank_jobs.rank_of, ("new",))])[1][1] == "new"


@TWO_AND_THREE
def test_jobs_of_a_command_gather_tensors(leader: Leader):
    results = leader.run("test", [Job(rank_jobs.gathered, (1.0,)) for _ in range(leader.size)])
    assert results == [[leader.size + sum(10.0 * rank for rank in range(leader.size))] * leader.size] * leader.size


@pytest.mark.parametrize("refusing", [0, 1, 2])
def test_error_of_one_rank_ends_the_job_of_all(leader: Leader, refusing: int):
    with pytest.raises(LearnerError, match=f"rank {refusing} refuses"):
        leader.run("choice", [Job(rank_jobs.gather_or_refuse, (refusing,))] * 3)
    assert leader.run("test", [Job(rank_jobs.gathered, (1.0,))] * 3)[0] == [33.0] * 3


def test_members_of_a_committee_are_fitted_on_all_ranks(leader: Leader, learner: TransformerLearner):
    committee, data = CommitteeLearner(learner, members=3), learner.prepare(ticket_rows(60))
    arguments: tuple[Any, ...] = (data, torch.arange(20), ticket_rows(60).labels[:20])
    expected = committee.fit(*arguments, seed=4).outputs(data, None, {"mc_logits"})
    with sharing_with(leader):
        fitted = committee.fit(*arguments, seed=4)
        assert torch.equal(fitted.outputs(data, None, {"mc_logits"}).mc_logits, expected.mc_logits)


@pytest.mark.parametrize(("leader", "patience"), [(2, None), (3, 1)], indirect=["leader"])
def test_ranks_train_one_network_as_one_process_does(leader: Leader, learner: TransformerLearner, patience: int | None):
    """With dropout, weights of rows and classes, and batches of unequal parts."""
    parallel = replace(
        learner, trainer=partial(TRAINER, strategy="ddp"), shards=6, min_steps=8, max_steps=8, class_weights="balanced",
        patience=patience, dropout=0.1, mc_mode="laplace",
    )  # fmt: skip
    rows = ticket_rows(70)
    data = parallel.prepare(rows)
    arguments: tuple[Any, ...] = (data, torch.arange(37), rows.labels[:37])
    options: dict[str, Any] = {"seed": 4, "weights": torch.linspace(0.5, 2, 37), "validation": (data, rows.labels)}
    alone = parallel.fit(*arguments, **options)
    with sharing_with(leader):
        number = next(leader._numbers)
        together = parallel.fit(*arguments, **options)
        assert leader.workers[0].owes == 0
        assert next(leader._numbers) > number + 1  # jobs were sent
    expected, found = (each.outputs(data, None, {"logits", "mc_logits"}) for each in (alone, together))
    torch.testing.assert_close(found.logits, expected.logits, rtol=0, atol=1e-6)
    torch.testing.assert_close(found.mc_logits, expected.mc_logits, rtol=0, atol=2e-3)  # whose posterior amplifies
    plain = replace(parallel, shards=None, trainer=TRAINER).fit(*arguments, **options).outputs(data)
    assert (plain.logits - expected.logits).abs().max() > 1e-4


def test_run_with_ddp_asks_the_same_questions(started, learner, tmp_path, monkeypatch):
    parallel = replace(learner, trainer=partial(TRAINER, strategy="ddp"), shards=2)
    asked = []
    for size in (1, 2):
        monkeypatch.setattr(started, "size", size)
        with sharing_with(started if size > 1 else None):
            experiment(tmp_path / str(size), parallel, rounds=1).run()
        lines, events = outcome(tmp_path / str(size))
        asked.append([(event["kind"], event["row"], event["value"]) for event in events])
        assert len(lines) == 2
    assert asked[0] == asked[1]


def experiment(
    folder: Path, learner: Any, rounds: int = 2, strategy: Strategy | None = None, candidates: Any = None
) -> Experiment:
    return Experiment(
        Splits(ticket_rows(120), ticket_rows(40, seed=1)), learner, strategy or BALD(), start=12, batch=8,  # type: ignore[arg-type]
        rounds=rounds, seeds=[3],
        baseline=None, folder=str(folder), pool_sample=30, report=False, quiet=True, candidates=candidates,
    )  # fmt: skip


def outcome(folder: Path) -> tuple[list[Any], list[Any]]:
    """The lines of metrics without times, and the events of the log without times, of the one cell."""
    cell = next(folder.glob("*/labels.db")).parent
    lines = [json.loads(line) for line in (cell / "metrics.jsonl").read_text(encoding="utf-8").splitlines()]
    with sqlite3.connect(cell / "labels.db") as database:
        database.row_factory = sqlite3.Row
        events = [dict(row) for row in database.execute("SELECT * FROM events ORDER BY event")]
    return [timeless(line) for line in lines], [timeless(event) for event in events]


def timeless(value: Any) -> Any:
    if isinstance(value, dict):
        return {
            key: timeless(item) for key, item in value.items() if "seconds" not in key and key not in ("at", "time")
        }
    if isinstance(value, list):
        return [timeless(item) for item in value]
    return value


@pytest.fixture(scope="module")
def whole(learner: TransformerLearner, tmp_path_factory: pytest.TempPathFactory) -> tuple[list[Any], list[Any]]:
    """What a run in one process has asked and measured."""
    folder = tmp_path_factory.mktemp("whole")
    experiment(folder, learner).run()
    return outcome(folder)


@TWO_AND_THREE
def test_run_has_the_events_and_figures_of_one_process(leader: Leader, learner, whole, tmp_path):
    with sharing_with(leader):
        experiment(tmp_path, learner).run()
    assert [len(each) for each in whole] == [3, 56]
    assert outcome(tmp_path) == whole


class Halt(Exception):
    pass


def test_stopped_run_goes_on_with_another_number_of_ranks(started, learner, whole, tmp_path, monkeypatch):
    class HaltAfterOne(Quiet):
        def round(self, line: Any) -> None:
            raise Halt

    with sharing_with(started), pytest.raises(Halt):
        experiment(tmp_path, learner).run(reporter=HaltAfterOne())
    monkeypatch.setattr(started, "size", 2)
    with sharing_with(started):
        experiment(tmp_path, learner).run()
    assert outcome(tmp_path) == whole


def test_ranks_choose_what_one_process_chooses(leader: Leader, learner: TransformerLearner, tmp_path, monkeypatch):
    """Features stay on the ranks, which choose together."""
    monkeypatch.setattr(rank_outputs, "WIDE", 4 * 4 * 132)
    commands: list[str] = []
    run = leader.run
    monkeypatch.setattr(leader, "run", lambda command, *jobs: commands.append(command) or run(command, *jobs))
    found = []
    for sharing in (None, leader):
        with sharing_with(sharing):
            experiment(tmp_path / str(len(found)), learner, strategy=BADGE()).run()
        found.append(outcome(tmp_path / str(len(found))))
    assert found[0] == found[1]
    assert commands.count("choice") == 2  # the first batch is random


def test_features_on_the_ranks_are_kept_for_candidates(leader: Leader, learner, tmp_path, monkeypatch):
    monkeypatch.setattr(rank_outputs, "WIDE", 4 * 4 * 90)
    commands: list[str] = []
    run = leader.run
    monkeypatch.setattr(leader, "run", lambda command, *jobs: commands.append(command) or run(command, *jobs))
    found = []
    for sharing in (None, leader):
        with sharing_with(sharing):
            experiment(tmp_path / str(len(found)), learner, 3, BADGE(), RefreshedProxy(30, 0.01)).run()
        found.append(outcome(tmp_path / str(len(found))))
    assert found[0] == found[1]
    assert [line.get("candidates", {}).get("count") for line in found[0][0]] == [None, None, 30, 30]
    assert commands.count("reading of outputs") >= 2


def test_probe_runs_on_several_ranks_too(leader: Leader, tiny_bert, tmp_path, monkeypatch):
    found = []
    for number, sharing in enumerate((None, leader)):
        monkeypatch.setenv("DAL_CACHE", str(tmp_path / f"cache{number}"))
        with sharing_with(sharing):
            probe = ProbeLearner(str(tiny_bert), max_length=24, token_budget=200, device="cpu", precision="float32")
            experiment(tmp_path / str(number), probe).run()
        found.append(outcome(tmp_path / str(number)))
    assert found[0] == found[1]


def test_ranks_are_not_started_twice_and_are_unknown_to_other_code(started: Leader):
    assert current_ranks() is None
    with sharing_with(started), pytest.raises(ConfigError, match="started already"), ranks(2):
        pass


def test_pass_is_not_reported_as_done_before_all_ranks_are():
    """A rank that starts may need seconds longer than rank 0."""

    class Counting(Monitor):
        done = 0

        def advanced(self, count: int) -> None:
            self.done += count

    counting = Counting()
    progress = sharded_pass._Scaled(counting, share=3, total=10)
    for _ in range(3):
        progress.advanced(1)
    assert counting.done == 9
    progress.close()
    assert counting.done == 10
