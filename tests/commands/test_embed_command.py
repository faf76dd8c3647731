"""`dal embed` fills the cache ahead of a run, loses nothing at Ctrl-C, and computes only what is missing."""

import os
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import material
import pytest
import torch
from command import Command, probe, running

from dal.data import Rows
from dal.errors import LearnerError
from dal.experiments.interrupts import Interrupted
from dal.learner import Monitor
from dal.learners.committee_learner import CommitteeLearner
from dal.learners.probe_learner import ProbeLearner
from dal.learners.sklearn_committee import SklearnCommittee
from dal.learners.text import embeddings, token_states, tokens
from dal.learners.tfidf_learner import TfidfLearner
from dal.learners.transformer_learner import TransformerLearner
from dal.store.cache_contents import cache_entries


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("DAL_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


@pytest.fixture
def computed(monkeypatch: pytest.MonkeyPatch) -> dict[str, int]:
    """Number of texts that were tokenized, embedded, or run through the lower layers, by kind."""
    counts = dict.fromkeys(("tokens", "embeddings", "states"), 0)

    def counted(kind: str, compute: Any) -> Any:
        def count(*arguments: Any, **options: Any) -> Iterator[Any]:
            for chunk in compute(*arguments, **options):
                counts[kind] += len(chunk.lengths)
                yield chunk

        return count

    monkeypatch.setattr(tokens, "_tokenized", counted("tokens", tokens._tokenized))
    monkeypatch.setattr(embeddings.Embedder, "_computed", counted("embeddings", embeddings.Embedder._computed))
    monkeypatch.setattr(token_states.TokenStates, "_computed", counted("states", token_states.TokenStates._computed))
    return counts


def stored(cache: Path) -> dict[str, int]:
    return {entry.kind: entry.rows or 0 for entry in cache_entries(cache)}


def reset(computed: dict[str, int]) -> None:
    computed.update(dict.fromkeys(computed, 0))


class Stopping(Monitor):
    """A monitor that ends the work after a number of rows."""

    def __init__(self, after: int) -> None:
        self.left = after

    def advanced(self, count: int) -> None:
        self.left -= count
        if self.left < 0:
            raise Interrupted("stopped")


RUN = {"start": 6, "batch": 4, "rounds": 1, "pool_sample": 20, "report": False}


def test_run_of_the_same_config_computes_no_embedding(
    cache: Path, with_tickets: Command, tiny_bert: Path, computed: dict[str, int]
) -> None:
    dal = with_tickets.configured(run=running(probe(tiny_bert), "CoreSet", **RUN))
    first = dal("embed", "run.yaml")
    assert first.code == 0, first.err
    assert "embeddings computed" in first.out
    assert "a run of this config reads these from the cache" in first.out
    assert computed["embeddings"] == stored(cache)["embeddings"] > 0
    reset(computed)
    again = dal("embed", "run.yaml")
    assert again.out.count(", 0 embeddings computed") == 2  # pool and test
    ended = dal("run", "run.yaml")
    assert ended.code == 0, ended.err
    assert computed == {"tokens": 0, "embeddings": 0, "states": 0}


def test_run_on_a_cached_trunk_computes_no_states(
    cache: Path, with_tickets: Command, tiny_bert: Path, computed: dict[str, int]
) -> None:
    learner = f"{{TransformerLearner: {{model: {tiny_bert}, max_length: 16, trunk: cached, layers: 1, min_steps: 2}}}}"
    dal = with_tickets.configured(run=running(learner, "Margin", **RUN))
    first = dal("embed", "run.yaml")
    assert first.code == 0, first.err
    assert "token states of texts computed" in first.out
    reset(computed)
    assert dal("run", "run.yaml").code == 0
    assert computed == {"tokens": 0, "embeddings": 0, "states": 0}


def test_states_of_candidates_are_left_to_the_run(
    cache: Path, with_tickets: Command, tiny_bert: Path, computed: dict[str, int]
) -> None:
    learner = f"{{TransformerLearner: {{model: {tiny_bert}, max_length: 16, trunk: cached, layers: 1, head: null}}}}"
    dal = with_tickets.configured(run=running(learner, "Margin", candidates=10, **RUN))
    assert dal("embed", "run.yaml", "--data.test", "0.2").code == 0
    texts = stored(cache)
    assert 0 < texts["states"] < texts["embeddings"]  # those of the test, which is scored


def test_nothing_to_embed_is_said_before_the_data_is_read(cache: Path, with_tickets: Command) -> None:
    ended = with_tickets.configured(run=running())("embed", "run.yaml", "--data.path", "missing.csv")
    assert ended.code == 0
    assert "nothing to do: TfidfLearner reads neither embeddings nor token states" in ended.out


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((), "needs a config file"),
        (("missing.yaml",), "missing.yaml"),
        (("run.yaml", "--devices", "0"), "--devices"),
        (("run.yaml", "--learner.model", "no/such-model"), "no/such-model"),
        (("run.yaml", "--data.text", "body"), "body"),
        (("run.yaml", "--start", "5000"), "5004 labels"),
    ],
)
def test_errors_are_one_line(
    cache: Path, with_tickets: Command, tiny_bert: Path, arguments: tuple[str, ...], message: str
) -> None:
    ended = with_tickets.configured(run=running(probe(tiny_bert), **RUN))("embed", *arguments)
    assert ended.code == 2
    (line,) = ended.messages
    assert line.startswith("dal: error: ")
    assert message in line


@pytest.mark.parametrize("kind", ["embeddings", "states"])
def test_interrupted_work_is_kept_and_only_the_rest_is_computed(
    cache: Path, tiny_bert: Path, computed: dict[str, int], kind: str
) -> None:
    learner: Any = ProbeLearner(str(tiny_bert), max_length=16, token_budget=64, head=None, precision="float32")
    if kind == "states":
        learner = TransformerLearner(
            str(tiny_bert), max_length=16, token_budget=64, trunk="cached", layers=1, head=None, precision="float32"
        )
    data = learner.prepare(Rows.from_inputs(*material.tickets(60)))
    with pytest.raises(Interrupted):
        learner.fill_cache(data, {"logits"}, monitor=Stopping(after=25))
    kept = stored(cache)[kind]
    assert 15 < kept <= 30  # all batches before the interruption
    reset(computed)
    distinct = len(set(material.tickets(60)[0]))
    assert learner.fill_cache(data, {"logits"}) == {kind: distinct - kept}
    assert computed[kind] == distinct - kept
    assert learner.fill_cache(data, {"logits"}) == {kind: 0}


def test_values_are_those_of_a_run_that_was_not_prepared(cache: Path, tiny_bert: Path) -> None:
    learner = ProbeLearner(str(tiny_bert), max_length=16, token_budget=64, head=None, precision="float32")
    rows = Rows.from_inputs(*material.tickets(60))
    vectors = []
    for filled in (False, True):
        os.environ["DAL_CACHE"] = str(cache / str(filled))
        data = learner.prepare(rows)
        if filled:
            learner.fill_cache(data)
        vectors.append(learner.untrained(data).outputs(data, None, {"embeddings"}).embeddings)
    assert torch.equal(*vectors)


def test_embeddings_that_cannot_be_stored_are_an_error(
    tiny_bert: Path, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    learner = ProbeLearner(str(tiny_bert), max_length=16, head=None)
    data = learner.prepare(Rows.from_inputs(*material.tickets(5)))
    (cache / "rows" / "embeddings").write_text("no folder")
    with pytest.raises(LearnerError, match="embeddings cannot be stored in"):
        learner.fill_cache(data)


def test_learners_say_what_they_cache(tiny_bert: Path) -> None:
    model = str(tiny_bert)
    assert ProbeLearner(model).caches == SklearnCommittee(model).caches == {"embeddings"}
    assert TransformerLearner(model).caches == {"embeddings"}
    assert CommitteeLearner(TransformerLearner(model, trunk="cached")).caches == {"embeddings", "states"}
    assert not ProbeLearner(None).caches
    assert not SklearnCommittee(None).caches
    assert not CommitteeLearner(TfidfLearner()).caches


def test_committee_fills_the_cache_of_its_members(cache: Path, tiny_bert: Path) -> None:
    member = TransformerLearner(str(tiny_bert), max_length=16, trunk="cached", layers=1, head=None)
    for learner in (CommitteeLearner(member), SklearnCommittee(str(tiny_bert), max_length=16)):
        data = learner.prepare(Rows.from_inputs(*material.tickets(8)))
        counts = learner.fill_cache(data, {"probs", "embeddings"})
        assert set(counts) == learner.caches
        assert set(learner.fill_cache(data, {"probs", "embeddings"}).values()) == {0}


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 75)])
def test_command_that_a_signal_ends_goes_on_with_the_rest(
    cache: Path, with_tickets: Command, tiny_bert: Path, monkeypatch: pytest.MonkeyPatch, number: int, code: int
) -> None:
    learner = f"{{ProbeLearner: {{model: {tiny_bert}, max_length: 16, token_budget: 64, head: null}}}}"
    dal = with_tickets.configured(run=running(learner, **RUN))
    batches = []

    def interrupted(*arguments: Any, **options: Any) -> Any:
        batches.append(1)
        if len(batches) == 3:
            signal.raise_signal(number)
        return compute(*arguments, **options)

    compute = embeddings._Encoder.compute
    monkeypatch.setattr(embeddings._Encoder, "compute", interrupted)
    ended = dal("embed", "run.yaml", "--baseline", "null")
    assert ended.code == code
    assert ended.messages == ["dal: stopped; go on with: dal embed run.yaml --baseline null"]
    kept = stored(cache)["embeddings"]
    assert kept == 3 * (64 // 16)  # the third batch was finished
    after = dal("embed", "run.yaml", "--baseline", "null")
    assert after.code == 0
    assert f"pool: 42 texts, {len(set(material.tickets(60)[0])) - 18 - kept} embeddings computed" in after.out
