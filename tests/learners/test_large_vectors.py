"""Selection from a pool whose vectors are read block by block: the same rows as from tensors."""

import pytest
import torch

from dal.data import Rows, Splits
from dal.errors import LearnerError, SelectionError
from dal.functional.points import OuterPoints
from dal.functional.row_source import PointSource, RowSource
from dal.learners.probe_learner import ProbeLearner
from dal.outputs import Outputs
from dal.session import Session
from dal.strategies import BADGE, CAL, ClusterCenters, CoreSet, Margin, MaxHerding, ProbCover, Random
from dal.strategy import Query, choose

N, D = 300, 12
X = torch.randn(N, D, generator=torch.Generator().manual_seed(0))
LABELS = X[:, :4].argmax(1)

#: Strategies that read large vectors block by block.
BLOCKWISE = (
    Margin(),
    CoreSet("embeddings"),
    CoreSet("features"),
    BADGE(),
    BADGE(seeding="k-center"),
    CAL(),
    ProbCover(delta=0.6, targets=50),
)


@pytest.fixture
def as_sources(monkeypatch):
    """All vectors count as large, and block sizes are small."""
    monkeypatch.setattr("dal.functional.row_source.AT_ONCE", 0)
    monkeypatch.setattr("dal.functional.blocks.ELEMENTS", 40 * D)


def session(strategy, x=X):
    pool = Rows.from_inputs(x, LABELS, classes=list("abcd"))
    opened = Session(Splits(pool), ProbeLearner(model=None, device="cpu"), Random(), hide_labels=True)
    rows = opened.ask(20)
    opened.tell(rows, pool.labels[rows])
    opened.strategy = strategy
    return opened


def rounds(strategy, x=X):
    """The rows, scores and notes of three rounds."""
    opened, found = session(strategy, x), []
    for _ in range(3):
        rows = opened.ask(15)
        opened.tell(rows, opened.pool.labels[rows])
        last = opened.last_selection
        found.append((rows.tolist(), None if last.scores is None else last.scores.tolist(), dict(last.notes)))
        found.append(last.near_duplicates)
    return found


@pytest.mark.parametrize("strategy", [*BLOCKWISE, ClusterCenters(), MaxHerding(), ProbCover(targets=50)], ids=repr)
def test_the_batches_are_the_same(strategy, monkeypatch):
    in_memory = rounds(strategy)
    monkeypatch.setattr("dal.functional.row_source.AT_ONCE", 0)
    assert rounds(strategy) == in_memory


@pytest.mark.parametrize("strategy", BLOCKWISE, ids=repr)
def test_strategies_that_go_by_blocks_never_read_the_pool_at_once(strategy, as_sources, monkeypatch):
    whole, most = RowSource.tensor, []

    def tensor(source):
        most.append(len(source))
        return whole(source)

    monkeypatch.setattr(RowSource, "tensor", tensor)
    opened = session(strategy)
    opened.ask(15)
    assert max(most, default=0) <= 20  # the labeled rows


def outputs(names):
    opened = session(Margin())
    return opened.predictor.outputs(opened._model.prepare("pool"), None, names)


def test_large_vectors_are_sources_and_are_read_as_tensors_by_name(as_sources):
    made = outputs({"embeddings", "features", "logits", "grads"})
    assert isinstance(made.blockwise("features"), RowSource)
    assert isinstance(made.blockwise("grads"), PointSource)
    assert torch.equal(made.embeddings, X)
    assert isinstance(made["grads"], OuterPoints)
    assert torch.equal(made.logits, outputs({"logits"}).logits)
    assert made.features is made.features
    assert made.declare({"features"}).features is made.features
    assert made.to("cpu").blockwise("features") is made.blockwise("features")


def test_features_of_a_source_have_the_bits_of_a_pass(monkeypatch):
    in_memory = outputs({"features", "logits", "grads"})
    monkeypatch.setattr("dal.functional.row_source.AT_ONCE", 0)
    read = outputs({"features", "logits", "grads"})
    assert torch.equal(read.features, in_memory.features)
    assert torch.equal(read["grads"].a, in_memory["grads"].a)
    some = torch.tensor([7, 3, 250])
    assert torch.equal(read.blockwise("features")[some], in_memory.features[some])
    assert torch.equal(read.take(some).features, in_memory.features[some])
    assert torch.equal(read.take(slice(4, 9))["grads"].b, in_memory.features[4:9])


def test_few_rows_of_a_source_are_a_tensor(as_sources, monkeypatch):
    made = outputs({"features", "logits", "grads"})
    monkeypatch.setattr("dal.functional.row_source.AT_ONCE", 100 * D * 4)
    assert isinstance(made.take(slice(0, 100)).blockwise("features"), torch.Tensor)
    assert isinstance(made.take(slice(0, 101)).blockwise("features"), RowSource)


def test_vectors_that_would_take_more_than_half_of_the_memory_are_refused_in_one_line(as_sources, monkeypatch):
    monkeypatch.setattr("dal.outputs.memory_limit", lambda: 2**30)
    monkeypatch.setattr(RowSource, "nbytes", property(lambda source: len(source) * 2**21))
    with pytest.raises(LearnerError, match=r"embeddings of 280 rows, 0\.5 GiB, .* set `candidates`") as caught:
        session(ClusterCenters()).ask(5)
    assert "\n" not in str(caught.value)


def test_infinite_values_of_a_source_are_named_as_those_of_a_tensor(as_sources):
    x = X.clone()
    x[41, 3] = torch.nan
    source = RowSource(lambda rows: x[rows], torch.arange(N), D)
    messages = []
    for values in (x, source):
        query = Query(Outputs({"embeddings": values}), 3, torch.Generator())
        with pytest.raises(SelectionError) as caught:
            choose(CoreSet("embeddings"), query)
        messages.append(str(caught.value))
    assert messages[0] == messages[1]
    assert "1 positions of the pool: 41" in messages[0]


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_vectors_stored_as_halves_give_what_they_give_in_float32(dtype):
    halves = X.to(dtype)
    for strategy in (CoreSet("embeddings"), BADGE()):
        assert rounds(strategy, halves) == rounds(strategy, halves.float())


def test_vectors_stored_as_halves_are_not_converted_at_once():
    learner = ProbeLearner(model=None, device="cpu")
    prepared = learner.prepare(Rows.from_inputs(X.half(), LABELS, classes=list("abcd")))
    assert prepared._inputs.dtype == torch.float16
    assert prepared.take(slice(0, 3)).dtype == torch.float32
    assert torch.equal(prepared.inputs, X.half().float())
