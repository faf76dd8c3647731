from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest
import torch
from reference import candidates as reference
from torch import Tensor

from dal.config import build as building
from dal.config import settings_tree as tree
from dal.config.stored import describe
from dal.data import Rows, Splits
from dal.errors import ConfigError, NeedError, SelectionError
from dal.experiments.experiment import Experiment
from dal.learners.probe_learner import ProbeLearner
from dal.outputs import Outputs
from dal.session import Session
from dal.session.seeds import Seeds, Stream
from dal.store.events import SKIP
from dal.strategies import candidates as generators
from dal.strategies.candidates import (
    SEALS,
    AnchorAL,
    CandidateQuery,
    Candidates,
    RandomSubset,
    as_candidates,
    candidate_rows,
)
from dal.strategies.diversity import ClusterCenters
from dal.strategies.proxy_candidates import LinearProxy
from dal.strategies.random import Random
from dal.strategies.uncertainty import Margin

PROBE = ProbeLearner(model=None)
ALL = [RandomSubset(30), SEALS(4), AnchorAL(3, 30), LinearProxy(30)]


def query(
    vectors: Tensor, labeled: list[int], labels: Any = None, *, n: int = 2, seed: int = 0, asked: tuple[int, ...] = ()
) -> CandidateQuery:
    gone = {*labeled, *asked}
    codes = [0] * len(labeled) if labels is None else labels
    return CandidateQuery(
        unlabeled=torch.tensor([row for row in range(len(vectors)) if row not in gone]),
        labeled=torch.tensor(labeled, dtype=torch.int64),
        labels=codes if isinstance(codes, Tensor) else torch.tensor(codes, dtype=torch.int64),
        n=n,
        generator=torch.Generator().manual_seed(seed),
        size=len(vectors),
        read=lambda rows: Outputs({"embeddings": vectors[rows]}).declare({"embeddings"}),
    )


def vectors(rows: int = 80, width: int = 5, seed: int = 0, repeat: int = 1) -> Tensor:
    drawn = torch.randn(-(-rows // repeat), width, generator=torch.Generator().manual_seed(seed))
    return drawn.repeat(repeat, 1)[:rows]


# -- each generator ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("candidates", ALL, ids=repr)
@pytest.mark.parametrize("repeat", [1, 20, 80])
@pytest.mark.parametrize("labeled", [[], [5], [1, 2, 40, 60]])
@pytest.mark.parametrize("n", [1, 10, 70])
def test_draws_unasked_rows_and_never_fewer_than_n(candidates, repeat, labeled, n):
    asked = query(vectors(repeat=repeat), labeled, [row % 2 for row in labeled], n=n, asked=(7, 8))
    rows = candidate_rows(candidates, asked)
    assert len(rows) >= n
    assert rows.tolist() == sorted(set(rows.tolist()))
    assert set(rows.tolist()) <= set(asked.unlabeled.tolist())


@pytest.mark.parametrize("candidates", ALL, ids=repr)
def test_the_generator_alone_decides_what_is_random(candidates):
    same = [candidate_rows(candidates, query(vectors(), [1, 5], [0, 1], n=20, seed=seed)).tolist() for seed in (1, 1)]
    assert same[0] == same[1]
    before = torch.get_rng_state()
    candidate_rows(candidates, query(vectors(), [], n=20))
    assert torch.equal(torch.get_rng_state(), before)


@pytest.mark.parametrize("candidates", ALL, ids=repr)
def test_a_last_row_is_drawn_without_a_look(candidates):
    assert candidate_rows(candidates, query(vectors(3), [0, 2], [0, 1], n=1)).tolist() == [1]


def test_seals_takes_the_neighbours_of_the_labeled_rows():
    x = torch.tensor([[1.0, 0.0], [2.0, 0.1], [0.0, 1.0], [0.1, 3.0], [-1.0, 0.0], [0.9, 0.9]])
    assert candidate_rows(SEALS(1), query(x, [0], n=1)).tolist() == [1]  # by angle: twice as long is as near
    assert candidate_rows(SEALS(1), query(x, [0, 2], n=1)).tolist() == [1, 3]
    assert candidate_rows(SEALS(1), query(x, [0], n=1, asked=(1,))).tolist() != [1]  # asked before


@pytest.mark.parametrize("block", [7, 32_768])
@pytest.mark.parametrize("k", [1, 6, 500])
def test_seals_agrees_with_the_reference_whatever_the_blocks(k, block, monkeypatch):
    monkeypatch.setattr(generators, "BLOCK", block)
    x = vectors(60)
    asked = query(x, [3, 10, 59], asked=(4, 5), n=1)
    expected = reference.seals(x.double().tolist(), [3, 10, 59], asked.unlabeled.tolist(), k)
    assert SEALS(k).choose(asked).tolist() == expected


def test_seals_finds_the_neighbours_of_a_row_once():
    x, read = vectors(), []
    asked = query(x, [1, 2], n=1)
    watched = replace(asked, read=lambda rows: (read.append(rows.tolist()), asked.read(rows))[1])
    first = candidate_rows(SEALS(5), watched)
    assert read[0] == [1, 2]
    read.clear()
    assert torch.equal(candidate_rows(SEALS(5), watched), first)
    assert not read
    later = query(x, [1, 2, 30], n=1)
    remembering = replace(later, read=watched.read, memory=watched.memory)
    assert torch.equal(candidate_rows(SEALS(5), remembering), candidate_rows(SEALS(5), later))
    assert read[0] == [30]


def test_seals_does_not_find_a_row_near_itself_among_its_duplicates():
    x = torch.ones(6, 2)
    found = generators._nearest_rows(query(x, [5], n=1), torch.tensor([5, 0]), 3)
    assert found.tolist() == [[0, 1, 2], [1, 2, 3]]


def test_with_nothing_labeled_seals_draws_as_many_rows_as_n_labels_would_bring():
    assert len(candidate_rows(SEALS(5), query(vectors(), [], n=3))) == 15


@pytest.mark.parametrize("block", [7, 32_768])
@pytest.mark.parametrize("size", [5, 12, 40])
def test_anchors_agree_with_the_reference_where_all_labeled_rows_are_anchors(size, block, monkeypatch):
    monkeypatch.setattr(generators, "BLOCK", block)
    x = vectors(60)
    labeled, labels = [3, 10, 11, 50, 59], [2, 0, 2, 2, 0]
    asked = query(x, labeled, labels, asked=(4, 5), n=1)
    classes = [[row for row, label in zip(labeled, labels, strict=True) if label == code] for code in (0, 2)]
    expected = reference.anchors(x.double().tolist(), classes, asked.unlabeled.tolist(), size)
    assert candidate_rows(AnchorAL(10, size), asked).tolist() == expected


def test_a_class_with_several_labels_per_row_has_anchors_too():
    x = vectors(60)
    labels = torch.tensor([[True, True, False], [False, True, False], [False, False, False]])
    asked = query(x, [3, 10, 20], labels, n=1)
    expected = reference.anchors(x.double().tolist(), [[3], [3, 10]], asked.unlabeled.tolist(), 9)
    assert candidate_rows(AnchorAL(10, 9), asked).tolist() == expected
    none = query(x, [3], torch.zeros(1, 3, dtype=torch.bool), n=1)
    assert len(candidate_rows(AnchorAL(10, 9), none)) == 9  # at random


def test_a_rare_class_gets_as_many_candidates_as_a_common_one():
    generator = torch.Generator().manual_seed(0)
    common = torch.tensor([10.0, 0.0]) + torch.randn(400, 2, generator=generator)
    rare = torch.tensor([0.0, 10.0]) + torch.randn(20, 2, generator=generator)
    asked = query(torch.cat([common, rare]), [*range(30), 400], [0] * 30 + [1], n=1)
    rows = candidate_rows(AnchorAL(5, 30), asked)
    assert int((rows >= 400).sum()) == 15
    by_chance = candidate_rows(RandomSubset(30), asked)
    assert int((by_chance >= 400).sum()) < 5


def test_anchors_are_drawn_from_all_over_a_class():
    x = torch.zeros(40, 3)
    x[:19, 0], x[19, 1], x[20:, 2] = 1, 1, 1  # row 19 is the only one of its direction
    x[20:22] = torch.tensor([[0.0, 1.0, 0.0], [1.0, 0.0, 0.0]])
    for seed in range(5):
        rows = candidate_rows(AnchorAL(2, 2), query(x, list(range(20)), n=1, seed=seed))
        assert rows.tolist() == [20, 21]  # with 2 of 20 rows at random, row 20 would mostly be left out


@pytest.mark.parametrize("block", [7, 32_768])
@pytest.mark.parametrize("size", [5, 12, 40])
def test_linear_proxy_agrees_with_the_reference(size, block, monkeypatch):
    monkeypatch.setattr(generators, "BLOCK", block)
    x = vectors(60)
    labeled, labels = [3, 10, 11, 20, 50, 59], [2, 0, 4, 2, 2, 0]  # classes 1 and 3 have no label yet
    asked = query(x, labeled, labels, asked=(4, 5), n=1)
    codes = [[label] for label in labels]
    expected = reference.linear_proxy(x.double().tolist(), labeled, codes, asked.unlabeled.tolist(), size, penalty=0.1)
    assert candidate_rows(LinearProxy(size), asked).tolist() == expected


def test_linear_proxy_agrees_with_the_reference_where_a_row_has_several_classes():
    x = vectors(60)
    codes: list[list[int]] = [[0, 1], [1], [], [0], [1, 0], []]
    labels = torch.tensor([[code in row for code in range(4)] for row in codes])  # classes 2 and 3 have no label yet
    labeled = [3, 10, 11, 20, 50, 59]
    asked = query(x, labeled, labels, n=1)
    expected = reference.linear_proxy(x.double().tolist(), labeled, codes, asked.unlabeled.tolist(), 12, penalty=0.1)
    assert candidate_rows(LinearProxy(12), asked).tolist() == expected


@pytest.mark.parametrize(
    "labels", [[], [1, 1, 1], torch.tensor([[True, False]] * 3), torch.zeros(3, 2, dtype=torch.bool)], ids=str
)
def test_labels_that_tell_no_classes_apart_leave_the_proxy_random_rows(labels):
    labeled = [3, 10, 11][: len(labels)]
    rows = candidate_rows(LinearProxy(9), query(vectors(60), labeled, labels, n=1))
    by_chance = candidate_rows(RandomSubset(9), query(vectors(60), labeled, labels, n=1))
    assert rows.tolist() == by_chance.tolist()


@pytest.mark.parametrize(
    "made",
    [
        lambda: RandomSubset(0),
        lambda: SEALS(0),
        lambda: AnchorAL(0),
        lambda: AnchorAL(1, 0),
        lambda: LinearProxy(0),
    ],
)
def test_sizes_below_one_are_refused(made):
    with pytest.raises(ConfigError, match="must be a whole number of at least 1, got 0"):
        made()


@dataclass(frozen=True)
class Wrong(Candidates):
    rows: tuple[int, ...]

    def choose(self, query: CandidateQuery) -> Tensor:
        return torch.tensor(self.rows)


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        ((1, 1, 2), "a row twice"),
        ((0, 1), "not among the unasked"),
        ((1, 99), "not among the unasked"),
        ((-1, 1), "not among the unasked"),
        ((0.5,), "int64 rows"),
    ],
)
def test_a_generator_of_ones_own_is_checked(rows, message):
    with pytest.raises(SelectionError, match=message):
        candidate_rows(Wrong(rows), query(vectors(20), [0], n=1))


def test_random_rows_make_up_for_what_a_generator_lacks():
    rows = candidate_rows(Wrong((7, 3)), query(vectors(20), [0], n=5))
    assert len(rows) == 5
    assert {3, 7} <= set(rows.tolist())


# -- in a session --------------------------------------------------------------------------------------------------


def splits(rows: int = 200) -> Splits:
    labels = torch.arange(rows) % 3
    return Splits(Rows.from_inputs(vectors(rows) + 2 * torch.eye(3, 5)[labels], labels, ["a", "b", "c"]))


def run(session: Session, rounds: int) -> list[int]:
    seen: list[int] = []
    for _ in range(rounds):
        rows = session.ask(6)
        assert session.last_selection is not None
        seen += [session.last_selection.candidates, *rows.tolist()]
        session.tell(rows[:-1], session.pool.labels[rows[:-1]])
        session.tell(rows[-1:], [SKIP])
    return seen


def test_a_number_is_a_random_subset():
    assert as_candidates(20) == RandomSubset(20)
    assert as_candidates(None) is None
    with pytest.raises(ConfigError, match="candidates must be at least 1, got 0"):
        as_candidates(0)
    numbers = [
        run(Session(splits(), PROBE, Random(), hide_labels=True, candidates=c), 3) for c in (20, RandomSubset(20))
    ]
    assert numbers[0] == numbers[1]


@pytest.mark.parametrize("candidates", [SEALS(5), AnchorAL(3, 40), LinearProxy(40)], ids=repr)
def test_a_strategy_chooses_among_the_candidates(candidates):
    session = Session(splits(), PROBE, Margin(), hide_labels=True, candidates=candidates)
    rows = session.ask(6, strategy=ClusterCenters())
    session.tell(rows, session.pool.labels[rows])
    expected = candidate_rows(
        candidates,
        CandidateQuery(
            session.unasked_rows,
            session.labeled_rows,
            session.labels,
            4,
            Seeds(session.seed, session.round).generator(Stream.CANDIDATES),
            200,
            lambda rows: Outputs({"embeddings": session.prepared.inputs[rows]}),
        ),
    )
    assert len(expected) < 100
    assert set(session.ask(4).tolist()) <= set(expected.tolist())
    assert session.last_selection is not None
    assert session.last_selection.candidates == len(expected)


@pytest.mark.parametrize("candidates", ALL, ids=repr)
def test_a_session_made_again_draws_the_same_candidates(candidates, tmp_path: Path):
    whole = run(Session(splits(), PROBE, Random(), hide_labels=True, candidates=candidates), 4)
    parts = []
    for _ in range(4):
        with Session(splits(), PROBE, Random(), hide_labels=True, candidates=candidates, folder=tmp_path) as session:
            parts += run(session, 1)
    assert parts == whole


@dataclass(frozen=True)
class Blind(ProbeLearner):
    label_free = frozenset()


@pytest.mark.parametrize("candidates", [SEALS(), AnchorAL(), LinearProxy()], ids=repr)
def test_a_learner_without_embeddings_is_refused_before_anything_is_done(candidates):
    learner = Blind(model=None)
    with pytest.raises(NeedError, match=f"{type(candidates).__name__} reads embeddings before anything is trained"):
        Session(splits(), learner, Random(), candidates=candidates)


def test_a_run_with_candidates_can_be_repeated_from_its_folder(tmp_path: Path):
    data = splits(120)
    data = Splits(data.pool, data.pool)
    experiment = Experiment(
        data, PROBE, Margin(), start=8, batch=5, rounds=2, candidates=SEALS(6), quiet=True, report=False
    )
    there = replace(experiment, folder=str(tmp_path / "run"))
    assert there.run().curve("Margin-seed0") == experiment.run().curve("Margin-seed0")
    assert there.run().curve("Margin-seed0") == experiment.run().curve("Margin-seed0")


# -- in a config ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("written", "made"),
    [
        ("500", 500),
        ("null", None),
        ("SEALS", SEALS()),
        ("{SEALS: {neighbors: 20}}", SEALS(20)),
        ("{LinearProxy: {size: 300}}", LinearProxy(300)),
        ("{class_path: AnchorAL, init_args: {size: 300}}", AnchorAL(size=300)),
        ("dal.strategies.candidates.RandomSubset", RandomSubset()),
    ],
)
def test_candidates_are_written_in_a_config_and_on_the_command_line(written, made, tmp_path: Path):
    path = tmp_path / "run.yaml"
    base = "data: {path: tickets.csv}\nlearner: ProbeLearner\nstrategy: Margin\n"
    path.write_text(base + f"candidates: {written}\n")
    assert building.build(Experiment, tree.read(path), tree.options([]))[0].candidates == made
    path.write_text(base)
    given = building.build(Experiment, tree.read(path), tree.options([("candidates", written)]))[0]
    assert given.candidates == made
    path.write_text(base + f"candidates: {describe(made) if made else 'null'}\n")
    assert building.build(Experiment, tree.read(path), tree.options([]))[0].candidates == made


def test_an_option_of_the_candidates_is_given_on_the_command_line(tmp_path: Path):
    path = tmp_path / "run.yaml"
    path.write_text("data: {path: tickets.csv}\nlearner: ProbeLearner\nstrategy: Margin\n")
    options = tree.options([("candidates.size", "70"), ("candidates", "AnchorAL")])
    assert building.build(Experiment, tree.read(path), options)[0].candidates == AnchorAL(size=70)


def test_a_name_that_is_no_generator_is_explained(tmp_path: Path):
    path = tmp_path / "run.yaml"
    path.write_text("data: {path: tickets.csv}\nlearner: ProbeLearner\nstrategy: Margin\ncandidates: SEAL\n")
    with pytest.raises(ConfigError, match="unknown candidate generator 'SEAL', did you mean SEALS"):
        building.build(Experiment, tree.read(path), tree.options([]))
