"""Passes over the whole pool that are kept for the candidates of later rounds."""

import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from reference import candidates as reference
from torch import Tensor

from dal.data import Rows, Splits
from dal.errors import ConfigError, LearnerError, NeedError, SessionError
from dal.experiments.experiment import Experiment
from dal.learners.probe_learner import ProbeLearner
from dal.learners.tfidf_learner import TfidfLearner
from dal.outputs import Outputs
from dal.session import Session, last_pass
from dal.session.last_pass import LastPass, keep_pass, load_pass
from dal.session.queried_batch import QueriedBatch
from dal.store.events import SKIP
from dal.store.run_folder import LAST_PASS
from dal.strategies import CoreSet, Entropy, Margin, Random
from dal.strategies.candidates import CandidateQuery, Candidates, check_candidates
from dal.strategies.proxy_candidates import RefreshedProxy

PROBE = ProbeLearner(model=None)
N = 150


def splits() -> Splits:
    generator = torch.Generator().manual_seed(0)
    labels = torch.arange(N) % 3
    vectors = torch.randn(N, 5, generator=generator) + torch.eye(3, 5)[labels]
    return Splits(Rows.from_inputs(vectors, labels, ["a", "b", "c"]))


def session(folder: Path | None = None, candidates: Candidates | None = None) -> Session:
    generator = RefreshedProxy(30, 0.5) if candidates is None else candidates
    return Session(splits(), PROBE, Entropy(), hide_labels=True, candidates=generator, folder=folder)


def next_batch(opened: Session) -> QueriedBatch:
    rows = opened.ask(6, strategy=None if opened.round else Random())
    batch = opened.last_selection
    assert batch is not None
    opened.tell(rows, [*opened.pool.labels[rows[:-1]].tolist(), SKIP])
    return batch


def facts(batch: QueriedBatch) -> tuple[Any, ...]:
    """What must not depend on how often a session was opened."""
    return batch.rows.tolist(), batch.candidates, batch.candidate_recall, batch.measured_candidates


@dataclass(frozen=True)
class Scripted(Candidates):
    """The rows of the next batch in the rounds where the script says so, else others; by the features of a pass."""

    hits: str
    every: int = 3
    keeps = frozenset({"features"})

    def choose(self, query: CandidateQuery) -> Tensor:
        assert query.read_kept is not None
        assert query.read_kept(query.unlabeled).features.shape == (len(query.unlabeled), 5)
        round = (N - len(query.unlabeled)) // 6
        return query.unlabeled if self.hits[round] == "+" else query.unlabeled[:1]


@pytest.mark.parametrize(
    ("hits", "whole"),
    [
        ("?----------", [1, 2, 3, 4, 5, 6, 7, 8, 9, 10]),
        ("?++++++++++", [1, 2, 4, 7, 10]),  # each time one round later, up to three
        ("?++++++-+-+", [1, 2, 4, 7, 9, 10]),  # 7 finds the three rounds too long, 9 and 10 shorten them
        ("?++--++++++", [1, 2, 4, 5, 7, 10]),
    ],
)
def test_passes_become_rarer_where_the_candidates_that_they_replace_are_good(hits: str, whole: list[int]) -> None:
    seen = []
    with session(candidates=Scripted(hits)) as opened:
        for number in range(11):
            batch = next_batch(opened)
            if number and batch.candidates == batch.unasked and (batch.measured_candidates or number == 1):
                seen.append(number)
                if number > 1:
                    assert (batch.candidate_recall == 1) == (hits[number] == "+")
    assert seen == whole


def test_least_recall_decides_how_good_candidates_must_be() -> None:
    scored = {}
    for least in (0.01, 1.0):
        with session(candidates=RefreshedProxy(30, least)) as opened:
            scored[least] = [next_batch(opened).candidates for _ in range(8)]
    unasked = [N - 6 * number for number in range(8)]
    assert scored[0.01] == [*unasked[:3], 30, unasked[4], 30, 30, unasked[7]]
    assert sum(scored[0.01]) < sum(scored[1.0]) <= sum(unasked)


def test_candidates_are_those_of_a_classifier_on_features_of_the_kept_pass() -> None:
    with session(candidates=RefreshedProxy(30, 0.01)) as opened:
        for _ in range(2):
            next_batch(opened)
        features = opened.read(torch.arange(N), {"features"}).features.half().double().tolist()
        next_batch(opened)
        whole = opened.choose(None, 6)
        labeled, labels = opened.labeled_rows.tolist(), [[code] for code in opened.labels.tolist()]
        expected = reference.linear_proxy(features, labeled, labels, opened.unasked_rows.tolist(), 30, penalty=0.1)
        batch = next_batch(opened)
    found = [row for row in whole.rows.tolist() if row in expected]
    assert batch.candidates == 30
    assert set(found) <= set(batch.rows.tolist()) <= set(expected)
    assert 0 < len(found) < 6


def test_recall_of_the_candidates_that_a_pass_replaces_is_measured_by_it() -> None:
    with session() as opened:
        next_batch(opened)
        features = opened.read(torch.arange(N), {"features"}).features.half().double().tolist()
        next_batch(opened)
        labeled, labels = opened.labeled_rows.tolist(), [[code] for code in opened.labels.tolist()]
        replaced = reference.linear_proxy(features, labeled, labels, opened.unasked_rows.tolist(), 30, penalty=0.1)
        batch = next_batch(opened)
    assert batch.measured_candidates == 30
    assert batch.candidate_recall == len(set(replaced) & set(batch.rows.tolist())) / 6


@pytest.mark.parametrize("stopped", [1, 2, 3, 4, 5, 6])
def test_session_that_is_opened_again_or_stopped_after_its_pass_asks_the_same(
    stopped: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with session() as opened:
        expected = [facts(next_batch(opened)) for _ in range(8)]
    found = []
    for number in range(8):
        if number == stopped:  # after the selection, before the batch is stored
            with session(tmp_path) as opened, monkeypatch.context() as patch:
                patch.setattr(opened._annotations, "ask", lambda batch: (_ for _ in ()).throw(KeyboardInterrupt))
                with pytest.raises(KeyboardInterrupt):
                    opened.ask(6)
        with session(tmp_path) as opened:
            found.append(facts(next_batch(opened)))
    assert found == expected
    assert 30 in [candidates for _, candidates, _, _ in expected]


def test_look_at_the_next_batch_changes_no_later_choice() -> None:
    with session() as opened, session() as plain:
        for _ in range(7):
            opened.choose(None if opened.round else Random(), 6, everywhere=False)
            assert facts(next_batch(opened)) == facts(next_batch(plain))


@pytest.mark.parametrize("strategy", [Random(), CoreSet(space="embeddings")], ids=repr)
def test_all_rows_are_scored_where_no_trained_model_is_read(strategy: Any, tmp_path: Path) -> None:
    with session(tmp_path) as opened:
        for _ in range(3):
            rows = opened.ask(5, strategy=strategy)
            assert opened.last_selection is not None
            assert opened.last_selection.candidates == opened.last_selection.unasked
            opened.tell(rows, opened.pool.labels[rows])
    assert not (tmp_path / LAST_PASS).exists()


def test_choice_from_everything_keeps_nothing(tmp_path: Path) -> None:
    with session(tmp_path) as opened:
        next_batch(opened)
        opened.choose(None, 6, everywhere=True)
        assert not (tmp_path / LAST_PASS).exists()
        opened.choose(None, 6, everywhere=False)
        assert (tmp_path / LAST_PASS).exists()


def truncated(folder: Path) -> None:
    path = folder / "features.f16"
    path.write_bytes(path.read_bytes()[:-2])


def linked(folder: Path) -> None:
    (folder / "features.f16").rename(folder / "elsewhere.f16")
    (folder / "features.f16").symlink_to(folder / "elsewhere.f16")


def written(content: str) -> Any:
    return lambda folder: (folder / "pass.json").write_text(content, encoding="utf-8")


def shuffled(folder: Path) -> None:
    path = folder / "features.f16"
    path.write_bytes(np.fromfile(path, np.float16).reshape(N, -1)[::-1].tobytes())


def not_finite(folder: Path) -> None:
    path = folder / "features.f16"
    path.write_bytes(np.full(path.stat().st_size // 2, np.nan, np.float16).tobytes())


def of_another_run(folder: Path) -> None:
    other = folder.parent / "another run"
    with Session(
        splits(), PROBE, Entropy(), hide_labels=True, candidates=RefreshedProxy(30), folder=other, seed=1
    ) as opened:
        for _ in range(2):
            next_batch(opened)
    shutil.rmtree(folder)
    (other / LAST_PASS).rename(folder)


@pytest.mark.parametrize(
    "damage",
    [
        truncated,
        linked,
        shuffled,
        not_finite,
        of_another_run,
        written("{"),
        written("[]"),
        written('{"version": 9}'),
        written('{"version": 2, "widths": {"features": "many"}}'),
        lambda folder: (folder / "features.f16").unlink(),
        lambda folder: (folder / "pass.json").unlink(),
    ],
    ids=[
        "truncated",
        "link",
        "shuffled",
        "not finite",
        "another run",
        "no JSON",
        "list",
        "version",
        "type",
        "no numbers",
        "no facts",
    ],
)
def test_damaged_pass_is_made_again_with_a_warning(
    damage: Any, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with session(tmp_path) as opened:
        for _ in range(2):
            next_batch(opened)
    damage(tmp_path / LAST_PASS)
    with session(tmp_path) as opened:
        batch = next_batch(opened)
    assert (batch.candidates, batch.measured_candidates) == (N - 12, 0)
    (warning,) = caplog.messages
    assert "last_pass is damaged, or of another run, learner or pool: the whole pool is scored again" in warning


def test_file_in_the_place_of_the_pass_is_named_with_a_way_out(tmp_path: Path) -> None:
    (tmp_path / LAST_PASS).touch()
    with session(tmp_path) as opened:
        next_batch(opened)
        with pytest.raises(ConfigError, match="last_pass is a file, where a folder is to be written: move it, or"):
            opened.ask(6)


def test_full_disk_ends_a_round_in_one_line_and_leaves_the_earlier_pass(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with session(tmp_path) as opened:
        for _ in range(2):
            next_batch(opened)
        before = (tmp_path / LAST_PASS / "features.f16").read_bytes()
        with monkeypatch.context() as patch:

            def full(*_: Any) -> None:
                raise OSError(28, "No space left on device")

            patch.setattr(last_pass, "write_whole", full)
            with pytest.raises(SessionError, match=r"last_pass could not be written: No space left on device"):
                opened.ask(6)
        assert (tmp_path / LAST_PASS / "features.f16").read_bytes() == before
        assert next_batch(opened).candidates == N - 12
    assert sorted(path.name for path in tmp_path.iterdir() if "last" in path.name) == [LAST_PASS]


@pytest.mark.parametrize("folder", [False, True])
@pytest.mark.parametrize("block", [7, 32_768])
def test_kept_numbers_are_those_of_the_passes_in_half_precision(
    folder: bool, block: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(last_pass, "_BLOCK", block)
    pool = splits().pool
    values = torch.randn(N, 4, generator=torch.Generator().manual_seed(1))
    values[3, 2] = -1e6  # beyond the range of half precision
    order = torch.randperm(N, generator=torch.Generator().manual_seed(2))
    passes = [(rows, Outputs({"features": values[rows]})) for rows in (order[:90], order[90:], order[:0])]
    kept = keep_pass(
        tmp_path if folder else None,
        passes,
        ["features"],
        pool=pool,
        run="r",
        round=4,
        distance=2,
        model="m",
        measured=None,
    )
    rows = torch.tensor([149, 3, 0, 3])
    expected = values[rows].clamp(-65504, 65504).half().float()
    assert torch.equal(kept.read(rows).features, expected)
    if folder:
        again = load_pass(tmp_path, ["features"], rows=N, run="r")
        assert isinstance(again, LastPass)
        assert torch.equal(again.read(rows).features, expected)
        assert (again.round, again.distance, again.model, again.measured) == (4, 2, "m", None)
        assert load_pass(tmp_path, ["logits"], rows=N, run="r") is None
    assert all(value.dtype == np.float16 for value in kept.values.values())


def test_outputs_that_are_not_finite_are_not_kept(tmp_path: Path) -> None:
    values = torch.zeros(N, 4)
    values[9, 1] = torch.nan
    with pytest.raises(LearnerError, match="features of the trained model has numbers that are not finite"):
        keep_pass(
            tmp_path,
            [(torch.arange(N), Outputs({"features": values}))],
            ["features"],
            pool=splits().pool,
            run="r",
            round=1,
            distance=1,
            model="m",
            measured=None,
        )
    assert not list(tmp_path.iterdir())


@dataclass(frozen=True)
class Keeps(Candidates):
    names: tuple[str, ...]
    every: int = 2

    @property
    def keeps(self) -> frozenset[str]:  # type: ignore[override]
        return frozenset(self.names)

    def choose(self, query: CandidateQuery) -> Tensor:
        return query.unlabeled


def test_what_cannot_be_kept_is_refused() -> None:
    with pytest.raises(NeedError, match="Keeps keeps surprise of the trained model, which ProbeLearner does not offer"):
        session(candidates=Keeps(("surprise",)))
    with pytest.raises(ConfigError, match="every of Keeps must be a whole number of at least 2, got 1"):
        session(candidates=Keeps(("features",), 1))
    with pytest.raises(ConfigError, match="every of RefreshedProxy must be a whole number of at least 2, got 1"):
        RefreshedProxy(every=1)
    with pytest.raises(ConfigError, match=r"size of RefreshedProxy must be a whole number of at least 1, got 2\.5"):
        RefreshedProxy(size=2.5)  # type: ignore[arg-type]
    with pytest.raises(NeedError, match="does not offer: set candidates to a number for a random subset, or use"):
        check_candidates(RefreshedProxy(), TfidfLearner())  # LinearProxy reads embeddings, which it has not either
    with pytest.raises(NeedError, match="does not offer: set candidates to LinearProxy or a number"):
        check_candidates(Keeps(("surprise",)), PROBE)
    for wrong in (0, 1.1, float("nan"), "much"):
        with pytest.raises(ConfigError, match="min_recall of RefreshedProxy must be"):
            RefreshedProxy(min_recall=wrong)  # type: ignore[arg-type]
    samples = ProbeLearner(model=None, samples=3)
    with Session(splits(), samples, Margin(), hide_labels=True, candidates=Keeps(("mc_logits",))) as opened:
        next_batch(opened)
        with pytest.raises(NeedError, match="mc_logits has no vector for each row"):
            opened.ask(6)


def test_run_says_and_reports_what_its_candidates_would_have_left_out(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    data: Any = Splits(splits().pool, splits().pool)
    run = Experiment(
        data,
        PROBE,
        Margin(),
        start=8,
        batch=10,
        rounds=5,
        candidates=RefreshedProxy(40, 0.01),
        folder=str(tmp_path / "r"),
    )
    lines = run.run().cells
    counts = [line.get("candidates") for line in lines["Margin-seed0"]]
    assert counts[:2] == [None, {"of": 142, "scored": 142}]
    assert counts[3] == {"count": 40, "of": 122, "scored": 40}
    for line, of in ((counts[2], 132), (counts[4], 112)):
        assert line is not None
        assert {key: line[key] for key in ("count", "of", "scored", "recall_seconds")} == {
            "count": 40, "of": of, "scored": of, "recall_seconds": 0
        }  # fmt: skip
    said = " ".join(capsys.readouterr().out.split())
    recall = counts[4]["recall"]
    assert (
        "candidates: all 112 rows were scored; 40 candidates from the pass before would have contained "
        f"{round(10 * recall)} of the 10 that were chosen (recall {recall:.2f}, by chance 0.36)"
    ) in said
    assert "candidates: all rows were scored (142)" in said
    assert "candidates: 40 of 122 rows were scored" in said
    assert said.count("candidates:") == 5
    assert not any("candidates" in line for line in lines["Random-seed0"])
    page = (tmp_path / "r" / "report.html").read_text(encoding="utf-8")
    assert "Margin: 2 of 5 passes over the whole pool were saved, 24\N{NO-BREAK SPACE}% of the rows." in page
